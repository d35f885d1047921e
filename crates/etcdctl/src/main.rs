//! What it is: the command line of a cluster, etcd's `etcdctl` word for word.
//! What it never does: speak to a server by itself; that is `client`'s.
//! Entry types: [`table::PROGRAM`], the commands as data; [`session::Session`], what a command runs with.
//! Owner: one thread, which runs a command to its end; waiting for the server happens in [`session::Session::wait`].
//! How to test it: `cargo test -p etcdctl`; `cargo xtask conformance ctl` compares it with the real tool.
//!
//! A command is a function from a session to nothing or an [`exit::Exit`]. It reads its flags and arguments, makes of them
//! what `client` takes, and hands the answer to one of five printers as an [`answer::Answer`].
//!
//! What is beyond etcd's tool shows on a terminal only, so that what a script reads is the same.

mod answer;
mod command;
mod exit;
mod gojson;
mod hint;
mod log;
mod metrics;
mod output;
mod printer;
mod session;
mod table;
mod terminal;
mod words;

use std::env;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use cobra::{Outcome, Text};

use crate::exit::Exit;
use crate::session::Session;
use crate::terminal::{Paint, Style};

fn main() -> ExitCode {
    let words: Vec<Vec<u8>> = env::args_os().map(OsStringExt::into_vec).collect();
    match table::PROGRAM.interpret(words.get(1..).unwrap_or_default()) {
        Outcome::Print(Text { stdout, stderr, code }) => {
            output::stderr(&stderr);
            output::stdout(stdout.as_bytes());
            code.into()
        }
        Outcome::Run(action, input) => {
            let mut session = Session::new(input, words);
            match action(&mut session) {
                Ok(()) => ExitCode::SUCCESS,
                Err(Exit { code, message }) => {
                    if let Some(message) = message {
                        let error = Paint::stderr().on(Style::Bad, &format!("Error: {message}"));
                        output::stderr(&format!("{error}\n"));
                        hint::write(&message, session.endpoints());
                    }
                    code.into()
                }
            }
        }
    }
}
