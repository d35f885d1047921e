//! `watch`: what happens to keys, printed, or handed to a command; with `-i`, watches are typed line by line.

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead};
use std::os::unix::ffi::OsStrExt;
use std::process::Command as Process;

use client::{Client, Error, Watch, Watcher};
use cobra::{Flag, Input, Kind, go};
use tokio::sync::mpsc;

use crate::answer::{Answer, Watched};
use crate::exit::{ERROR, Exit, INTERRUPTED, INVALID_INPUT};
use crate::printer::Printer;
use crate::session::Session;
use crate::table::PROGRAM;
use crate::{output, words};

pub(crate) const FLAGS: &[Flag] = &[
    Flag::switch("interactive", "Interactive mode").short('i'),
    Flag::switch("prefix", "Watch on a prefix if prefix is set"),
    Flag::new("rev", Kind::Int, "0", "Revision to start watching"),
    Flag::switch("prev-kv", "get the previous key-value pair before the event happens"),
    Flag::switch("progress-notify", "get periodic watch progress notification from server"),
];

const KEY: &str = "ETCDCTL_WATCH_KEY";
const RANGE_END: &str = "ETCDCTL_WATCH_RANGE_END";

const NUMBER: &str = "bad number of arguments";
const CONFLICT: &str = "bad number of arguments (found conflicting environment key)";
const NO_COMMAND: &str = "bad number of arguments (found separator --, but no commands)";

/// Key and end of the range from the environment; empty where there is none.
#[derive(Clone, Debug, Default)]
struct Environment {
    key: Vec<u8>,
    range_end: Vec<u8>,
}

/// What to watch, and what to run at each event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Arguments {
    watch: Vec<Vec<u8>>,
    run: Vec<Vec<u8>>,
}

pub(crate) fn run(session: &mut Session) -> Result<(), Exit> {
    let variable = |name| env::var_os(name).unwrap_or_default().as_bytes().to_vec();
    let environment = Environment { key: variable(KEY), range_end: variable(RANGE_END) };
    if environment.key.is_empty() && !environment.range_end.is_empty() {
        let quoted = go::quote(&environment.range_end);
        return Err(Exit::arguments(format!("{KEY} is empty but got {RANGE_END}={quoted}")));
    }
    if session.input.bool("interactive") {
        return interactive(session, &environment);
    }
    let arguments = arguments(&session.words, session.args(), &environment);
    let arguments = arguments.map_err(Exit::arguments)?;
    session.configure(&[KEY, RANGE_END])?;
    let client = session.connect(session.endpoints())?;
    let watch = request(&client, &session.input, &arguments.watch).map_err(Exit::arguments)?;
    session.wait(follow(watch, session.printer, &arguments.run))?;
    Err(Exit::new(INTERRUPTED, "watch is canceled by the server"))
}

/// The watch that flags and arguments ask for.
fn request(client: &Client, input: &Input, arguments: &[Vec<u8>]) -> Result<Watch, &'static str> {
    let key = arguments.first().ok_or(NUMBER)?;
    let client = client.with_require_leader();
    let mut watch = client.watch(key.clone()).start_revision(input.int("rev"));
    if let [_, end] = arguments {
        if input.bool("prefix") {
            return Err("`range_end` and `--prefix` are mutually exclusive");
        }
        watch = watch.range(end.clone());
    }
    if input.bool("prefix") {
        watch = watch.prefix();
    }
    if input.bool("prev-kv") {
        watch = watch.prev_kv();
    }
    if input.bool("progress-notify") {
        watch = watch.progress_notify();
    }
    Ok(watch)
}

/// Prints what is heard until the watch ends.
async fn follow(watch: Watch, printer: Printer, run: &[Vec<u8>]) -> Result<(), Exit> {
    let mut watcher: Watcher = match watch.await {
        Ok(watcher) => watcher,
        Err(error) => return ended(&error, printer),
    };
    while let Some(response) = watcher.next().await {
        let response = match response {
            Ok(response) => response,
            Err(error) => return ended(&error, printer),
        };
        if response.is_progress_notify() {
            output::line(&format!("progress notify: {}", response.header.revision));
        }
        let watched = Watched {
            header: response.header,
            events: response.events,
            created: response.created,
            ..Watched::default()
        };
        output::stdout(&printer.print(&Answer::Watch(&watched))?);
        for event in watched.events.iter().filter(|_| !run.is_empty()) {
            execute(run, watched.header.revision, event)?;
        }
    }
    Ok(())
}

/// Tells why the watch is over.
fn ended(error: &Error, printer: Printer) -> Result<(), Exit> {
    let mut watched = Watched { canceled: true, ..Watched::default() };
    if let Error::Compacted { revision } = error {
        watched.compact_revision = *revision;
    }
    output::stderr(&format!("watch was canceled ({error})\n"));
    output::stdout(&printer.print(&Answer::Watch(&watched))?);
    Ok(())
}

/// Runs the user's command for an event.
fn execute(run: &[Vec<u8>], revision: i64, event: &client::Event) -> Result<(), Exit> {
    let Some((program, arguments)) = run.split_first() else { return Ok(()) };
    let kv = event.kv.clone().unwrap_or_default();
    let kind = event.r#type().as_str_name();
    let status = Process::new(OsStr::from_bytes(program))
        .args(arguments.iter().map(|argument| OsStr::from_bytes(argument)))
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", go::quote(kind.as_bytes()))
        .env("ETCD_WATCH_KEY", go::quote(&kv.key))
        .env("ETCD_WATCH_VALUE", go::quote(&kv.value))
        .stdin(std::process::Stdio::null())
        .status();
    match super::concurrency::failure(program, status) {
        None => Ok(()),
        Some((_, why)) => {
            let words: Vec<String> = run.iter().map(|word| go::quote(word)).collect();
            output::stderr(&format!("command [{}] error ({why})\n", words.join(" ")));
            Err(Exit::silent(ERROR))
        }
    }
}

/// Finds out what is to be watched and what is to be run. The words of the whole command line have the `--`, which the
/// arguments have lost.
fn arguments(
    line: &[Vec<u8>],
    args: &[Vec<u8>],
    environment: &Environment,
) -> Result<Arguments, &'static str> {
    let begin = line.iter().position(|word| word == b"watch").map_or(0, |at| at + 1);
    let raw = &line[begin..];
    let separator = raw.iter().position(|word| word == b"--");
    let has_key = !environment.key.is_empty();
    match separator {
        Some(at) if at + 1 == raw.len() => return Err(NO_COMMAND),
        None if raw.is_empty() && !has_key => return Err(NUMBER),
        None if !args.is_empty() && has_key => return Err(CONFLICT),
        Some(at) if has_key && args.len() > raw.len() - at - 1 => return Err(CONFLICT),
        _ => {}
    }
    Ok(combine(raw, args, environment))
}

fn combine(raw: &[Vec<u8>], args: &[Vec<u8>], environment: &Environment) -> Arguments {
    let mut watch: Vec<Vec<u8>> = Vec::new();
    if !environment.key.is_empty() {
        watch.push(environment.key.clone());
        if !environment.range_end.is_empty() {
            watch.push(environment.range_end.clone());
        }
    }
    watch.extend_from_slice(args);
    let Some(at) = raw.iter().position(|word| word == b"--") else {
        return Arguments { watch, run: Vec::new() };
    };
    let run = raw[at + 1..].to_vec();
    // What is watched ends where the command begins, at the last word that equals its first.
    let first = run.first().map(Vec::as_slice).unwrap_or_default();
    watch.truncate(watch.iter().rposition(|word| word == first).unwrap_or_default());
    Arguments { watch, run }
}

/// A typed line, as far as it is a watch.
fn typed(words: &[Vec<u8>], environment: &Environment) -> Result<(Arguments, Input), Exit> {
    let words = &words[1..];
    if words.last().is_some_and(|word| word == b"--")
        && words.iter().position(|w| w == b"--") == Some(words.len() - 1)
    {
        return Err(Exit::arguments(NO_COMMAND));
    }
    let watch = PROGRAM.root.subcommands.iter().find(|command| command.name() == "watch");
    let command = watch.expect("the table has this command");
    let input = PROGRAM.parse(command, words).map_err(Exit::arguments)?;
    let separated = words.iter().any(|word| word == b"--");
    if !separated && environment.key.is_empty() && input.args.is_empty() {
        return Err(Exit::arguments(NUMBER));
    }
    if !separated && !environment.key.is_empty() && !input.args.is_empty() {
        return Err(Exit::arguments(CONFLICT));
    }
    Ok((combine(words, &input.args, environment), input))
}

fn interactive(session: &mut Session, environment: &Environment) -> Result<(), Exit> {
    session.configure(&[KEY, RANGE_END])?;
    let client = session.connect(session.endpoints())?;
    let printer = session.printer;
    session.wait(async {
        let (ends, mut ended) = mpsc::unbounded_channel();
        let mut lines = read_lines();
        loop {
            // The end of standard input, or a command that has failed, ends it all; the end of a watch does not.
            let line = tokio::select! {
                line = lines.recv() => line,
                Some(exit) = ended.recv() => return Err(exit),
            };
            let line = line
                .ok_or_else(|| Exit::new(INVALID_INPUT, "error reading watch request line: EOF"))?;
            let words = words::split(&line)?;
            let shown = String::from_utf8_lossy(&line);
            match words.first().map(Vec::as_slice) {
                None => output::stderr(&format!(
                    "Invalid command: {shown} (watch and progress supported)\n"
                )),
                Some(b"watch") if words.len() < 2 && environment.key.is_empty() => {
                    output::stderr(&format!(
                        "Invalid command {shown} (command type or key is not provided)\n"
                    ));
                }
                Some(b"watch") => {
                    let (arguments, input) = typed(&words, environment)?;
                    match request(&client, &input, &arguments.watch) {
                        Err(why) => {
                            output::stderr(&format!("Invalid command {shown} ({why})\n"));
                        }
                        Ok(watch) => {
                            let ends = ends.clone();
                            tokio::spawn(async move {
                                if let Err(exit) = follow(watch, printer, &arguments.run).await {
                                    // Nobody listens after the end.
                                    let _ = ends.send(exit);
                                }
                            });
                        }
                    }
                }
                Some(b"progress") => client.with_require_leader().request_progress(),
                Some(_) => {
                    output::stderr(&format!("Invalid command {shown} (only support watch)\n"));
                }
            }
        }
    })
}

/// The lines of standard input, as they are typed. The thread ends with the program.
fn read_lines() -> mpsc::UnboundedReceiver<Vec<u8>> {
    let (lines, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = input.read_until(b'\n', &mut line);
            if read.is_err() || line.pop() != Some(b'\n') || lines.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Environment, arguments};

    fn list(text: &str) -> Vec<Vec<u8>> {
        text.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn keys_stand_before_the_command() {
        let key = |key: &str, range_end: &str| Environment {
            key: key.into(),
            range_end: range_end.into(),
        };
        let none = key("", "");
        for (line, args, environment, expected) in [
            ("etcdctl watch foo", "foo", &none, Ok(("foo", ""))),
            ("etcdctl watch foo bar", "foo bar", &none, Ok(("foo bar", ""))),
            ("etcdctl watch foo --rev 1 -- echo hi", "foo echo hi", &none, Ok(("foo", "echo hi"))),
            ("etcdctl watch foo --", "foo", &none, Err(super::NO_COMMAND)),
            ("etcdctl watch", "", &none, Err(super::NUMBER)),
            ("etcdctl watch", "", &key("k", ""), Ok(("k", ""))),
            ("etcdctl watch", "", &key("k", "l"), Ok(("k l", ""))),
            ("etcdctl watch foo", "foo", &key("k", ""), Err(super::CONFLICT)),
            ("etcdctl watch -- echo hi", "echo hi", &key("k", ""), Ok(("k", "echo hi"))),
            ("etcdctl watch foo -- echo hi", "foo echo hi", &key("k", ""), Err(super::CONFLICT)),
            (
                "etcdctl watch echo -- echo echo",
                "echo echo echo",
                &none,
                Ok(("echo echo", "echo echo")),
            ),
        ] {
            let expected =
                expected.map(|(watch, run)| Arguments { watch: list(watch), run: list(run) });
            assert_eq!(arguments(&list(line), &list(args), environment), expected, "{line}");
        }
    }
}
