//! The `etcd` binary: flags, environment and file to a configuration, and a member that runs until
//! a signal comes.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program speaks to its terminal")]

mod commandline;
mod file;
mod help;
mod notify;
mod options;
mod signals;
mod table;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use server::log::List;
use server::{Member, Notice};
use tracing::{error, info, warn};

use crate::options::{Options, Refusal, Request};
use cobra::goflag::UsageError;

/// Go's exit code for a command line that can't be parsed.
const EXIT_USAGE: u8 = 2;

/// The code of a Go program that panicked.
const EXIT_PANIC: i32 = 2;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    if let Err(err) = start_failpoints() {
        println!("{err}");
        return ExitCode::FAILURE;
    }
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_else(|| "etcd".to_owned());
    let arguments: Vec<String> = arguments.collect();
    if let Some(command @ ("gateway" | "grpc-proxy")) = arguments.first().map(String::as_str) {
        eprintln!("etcd {command} is not supported yet by this server");
        return ExitCode::FAILURE;
    }
    let environment: Vec<(String, String)> =
        std::env::vars().filter(|(key, _)| key.starts_with("ETCD_")).collect();
    match options::read(&arguments, &environment) {
        Ok(Request::Version) => {
            print!("{}", help::version());
            ExitCode::SUCCESS
        }
        Ok(Request::Run(options)) => run(&program, &arguments, *options),
        Err(Refusal::Usage(UsageError::Help)) => {
            println!("{}", help::help());
            ExitCode::SUCCESS
        }
        Err(Refusal::Usage(UsageError::Message(message))) => {
            eprintln!("{message}\n{}", help::usage());
            ExitCode::from(EXIT_USAGE)
        }
        Err(Refusal::Fatal(message)) => {
            let _ = server::log::init(&server::log::LogOptions::default());
            let (message, variable) = message.split_once('\0').unwrap_or((&message, ""));
            error!(level = "fatal", "environment-variable" = variable, "{message}");
            ExitCode::FAILURE
        }
    }
}

/// Whoever sets points says where, by gofail's variables.
#[cfg(feature = "failpoints")]
fn start_failpoints() -> Result<(), failpoints::StartError> {
    for complaint in failpoints::start(|name| std::env::var(name).ok())? {
        println!("{complaint}");
    }
    Ok(())
}

fn run(program: &str, arguments: &[String], mut options: Options) -> ExitCode {
    // A variable of Go's, which people set to see what their clients send.
    options.log.http2_debug = std::env::var("GODEBUG")
        .is_ok_and(|value| value.split(',').any(|word| word == "http2debug=2"));
    if let Err(err) = server::log::init(&options.log) {
        eprintln!("cannot open the log: {err}");
        return ExitCode::FAILURE;
    }
    end_on_panic();
    // Before the start, so that who reads that it serves can stop it in order.
    let mut signals = match signals::Signals::new() {
        Ok(signals) => signals,
        Err(err) => {
            error!(level = "fatal", error = %err, "cannot wait for signals");
            return ExitCode::FAILURE;
        }
    };
    for warning in &options.warnings {
        let (message, variable) = warning.split_once('\0').unwrap_or((warning, ""));
        warn!("environment-variable" = variable, "{message}");
    }
    let line = std::iter::once(program).chain(arguments.iter().map(String::as_str));
    info!(args = ?List::new(line), "Running: ");
    if let Some(why) = &options.invalid {
        warn!(error = why.as_str(), "failed to verify flags");
        return ExitCode::FAILURE;
    }
    let config = options.config;
    let (ends, waiting) = mpsc::channel();
    let notices = ends.clone();
    let launched = Member::launch(&config, move |notice| {
        let event = match notice {
            Notice::Ready => Event::Ready,
            Notice::Removed => Event::Removed,
        };
        // The process is about to end otherwise.
        let _ = notices.send(event);
    });
    let member = match launched {
        Ok(member) => member,
        Err(err) => {
            let text = err.to_string();
            if !matches!(err, server::StartError::Corrupt(_)) {
                error!(error = text.as_str(), "bootstrap failed");
            }
            error!(level = "fatal", error = text.as_str(), "discovery failed");
            return ExitCode::FAILURE;
        }
    };
    thread::spawn(move || ends.send(Event::Signal(signals.wait())));
    loop {
        match waiting.recv() {
            Ok(Event::Ready) => notify::ready(),
            Ok(Event::Signal(signal)) => {
                info!(signal = signal.name(), "received signal; shutting down");
                notify::stopping();
                member.stop();
                return signal.raise();
            }
            Ok(Event::Removed) | Err(_) => {
                notify::stopping();
                member.stop();
                return ExitCode::SUCCESS;
            }
        }
    }
}

/// What the main thread waits for.
enum Event {
    /// The member serves.
    Ready,
    /// The member was removed from its cluster.
    Removed,
    /// Somebody wants the process to end.
    Signal(signals::Signal),
}

/// A broken invariant goes into the log with all else, and ends the process whichever thread finds
/// it: with the code that Go's programs have then.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        let thread = thread::current();
        error!(
            level = "panic",
            thread = thread.name().unwrap_or("unnamed"),
            stacktrace = %backtrace,
            "{panic}"
        );
        std::process::exit(EXIT_PANIC);
    }));
}
