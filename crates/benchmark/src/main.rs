//! What it is: a load generator for etcd: etcd's `benchmark`, its commands, flags and report.
//! What it never does: check what it is answered; that is for tests.
//! Entry types: `PROGRAM` in `table.rs`, the commands as data; `drive` in `load.rs`, clients at work; `Report`.
//! Owner: the runtime's threads; each task is a client that makes one request at a time.
//! How to test it: `cargo test -p benchmark`, against a member in the same process.
//!
//! Beyond etcd's tool: latencies are kept in a histogram and not one by one, `--json` prints them for machines, the
//! report tells what this tool itself has cost, and with `--rate` a request is measured from when it was due.

mod command;
mod keys;
mod load;
mod report;
mod session;
mod table;

use std::env;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use cobra::{Outcome, Text};
use tokio::runtime::Builder;

use crate::session::{Failure, Session, print};

/// Tells the operator.
#[expect(clippy::print_stderr, reason = "a command-line tool")]
fn complain(text: &str) {
    eprint!("{text}");
}

fn main() -> ExitCode {
    let words: Vec<Vec<u8>> = env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    match table::PROGRAM.interpret(&words) {
        Outcome::Print(Text { stdout, stderr, code }) => {
            complain(&stderr);
            print(&stdout);
            code.into()
        }
        Outcome::Run(action, input) => match run(action, Session { input }) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                complain(&format!("{why}\n"));
                ExitCode::FAILURE
            }
        },
    }
}

/// No more threads than there are connections, since more would only wait for each other; and half of the machine at
/// most, since the other half is the server's.
fn run(action: command::Action, session: Session) -> Result<(), Failure> {
    let half = std::thread::available_parallelism().map_or(1, usize::from) / 2;
    let conns = usize::try_from(session.input.uint("conns")).unwrap_or(usize::MAX);
    let threads = half.min(conns);
    let runtime = if threads <= 1 {
        Builder::new_current_thread().enable_all().build()
    } else {
        Builder::new_multi_thread().worker_threads(threads).enable_all().build()
    };
    runtime.map_err(Failure::new)?.block_on(action(session))
}
