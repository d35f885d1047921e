//! A server judged by the crate `etcd-client`: `rustclient SERVER FOLDER PORT`. PORT and the one after it must be free.
//!
//! Prints `ok name` or `FAIL name: why` for each case, and the totals.

mod concurrency;
mod kv;
mod lease;
mod maintenance;
mod restarts;
mod server;
mod watch;

use std::fmt::Debug;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error};

use server::Server;

/// Why a case failed.
type Failure = String;

/// No case takes longer.
const CASE_TIMEOUT: Duration = Duration::from_secs(20);
/// But for those that stop the server.
const RESTARTS_TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::main(worker_threads = 3)]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((program, folder, port)) = parse(&args) else {
        eprintln!("usage: rustclient SERVER FOLDER PORT");
        return ExitCode::FAILURE;
    };
    let mut server = match Server::start(program, folder, port) {
        Ok(server) => server,
        Err(err) => {
            println!("FAIL start: {err}\n0 passed, 1 failed");
            return ExitCode::FAILURE;
        }
    };
    let options = ConnectOptions::new().with_timeout(Duration::from_secs(10));
    let client = match Client::connect([server.endpoint()], Some(options)).await {
        Ok(client) => client,
        Err(err) => {
            println!("FAIL connect: {err}\n0 passed, 1 failed");
            return ExitCode::FAILURE;
        }
    };
    let (mut passed, mut failed) = (0, 0);
    macro_rules! case {
        ($name:literal, $case:path) => {
            case!($name, CASE_TIMEOUT, $case(client.clone()));
        };
        ($name:literal, $limit:expr, $case:expr) => {
            let result = tokio::time::timeout($limit, $case).await;
            match result.unwrap_or_else(|_| Err("it takes too long".to_owned())) {
                Ok(()) => {
                    passed += 1;
                    println!("ok {}", $name);
                }
                Err(why) => {
                    failed += 1;
                    println!("FAIL {}: {why}", $name);
                }
            }
        };
    }
    case!("put and get", kv::put_and_get);
    case!("ranges", kv::ranges);
    case!("range stream", kv::range_stream);
    case!("delete", kv::delete);
    case!("transactions", kv::transactions);
    case!("revisions and compaction", kv::compaction);
    case!("errors", kv::errors);
    case!("large values", kv::large_values);
    case!("many clients at once", kv::many_at_once);
    case!("watch", watch::live);
    case!("watch from the past", watch::past);
    case!("watch filters and previous values", watch::filters);
    case!("many watches on one stream", watch::many);
    case!("watch of what is compacted", watch::compacted);
    case!("leases", lease::life);
    case!("lease that runs out", lease::expiry);
    case!("lease errors", lease::errors);
    case!("status and hashes", maintenance::status);
    case!("snapshot", maintenance::snapshot);
    case!("defragmentation and alarms", maintenance::defragment);
    case!("members", maintenance::members);
    case!("locks", concurrency::locks);
    case!("elections", concurrency::elections);
    let restarts = restarts::watch_and_lease(client.clone(), &mut server);
    case!("watch and lease across restarts", RESTARTS_TIMEOUT, restarts);
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the command line says: the server's program, a folder for it, and a port.
fn parse(args: &[String]) -> Option<(PathBuf, PathBuf, u16)> {
    let [program, folder, port] = args else { return None };
    Some((program.into(), folder.into(), port.parse().ok()?))
}

/// An error of the client as a failure.
fn fail(err: Error) -> Failure {
    err.to_string()
}

/// Both must be equal.
fn equal<T: PartialEq + Debug>(what: &str, got: T, want: T) -> Result<(), Failure> {
    if got == want { Ok(()) } else { Err(format!("{what}: {got:?} instead of {want:?}")) }
}

/// The call must have failed with a status of this message.
fn refused<T>(what: &str, result: Result<T, Error>, message: &str) -> Result<(), Failure> {
    match result {
        Ok(_) => Err(format!("{what}: no error")),
        Err(Error::GRpcStatus(status)) => equal(what, status.message(), message),
        Err(err) => Err(format!("{what}: {err}")),
    }
}
