//! `lock` and `elect`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command as Process, ExitStatus, Stdio};

use client::concurrency::{Election, Mutex};
use client::{Client, GetResponse, ResponseHeader};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::answer::Answer;
use crate::exit::{ERROR, Exit};
use crate::session::Session;

/// The code and the words for a command that has failed, in Go's form.
pub(crate) fn failure(program: &[u8], status: io::Result<ExitStatus>) -> Option<(u8, String)> {
    let name = cobra::go::quote(program);
    match status {
        Ok(status) if status.success() => None,
        Ok(status) => Some(match (status.code(), status.signal()) {
            (Some(code), _) => (u8::try_from(code).unwrap_or(ERROR), format!("exit status {code}")),
            (None, signal) => {
                (u8::MAX, format!("signal: {}", signal_name(signal.unwrap_or_default())))
            }
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !program.contains(&b'/') => {
            Some((ERROR, format!("exec: {name}: executable file not found in $PATH")))
        }
        Err(error) => {
            let path = String::from_utf8_lossy(program);
            let what = match error.kind() {
                io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
                _ => error.to_string(),
            };
            Some((ERROR, format!("fork/exec {path}: {what}")))
        }
    }
}

fn signal_name(number: i32) -> String {
    match number {
        1 => "hangup".to_owned(),
        2 => "interrupt".to_owned(),
        6 => "aborted".to_owned(),
        9 => "killed".to_owned(),
        11 => "segmentation fault".to_owned(),
        13 => "broken pipe".to_owned(),
        15 => "terminated".to_owned(),
        number => format!("signal {number}"),
    }
}

pub(crate) fn lock(session: &mut Session) -> Result<(), Exit> {
    if session.args().is_empty() {
        return Err(Exit::arguments(
            "lock takes a lock name argument and an optional command to execute",
        ));
    }
    let client = session.client()?;
    let (name, ttl) = (session.arg(0), session.input.int("ttl"));
    let command = session.args()[1..].to_vec();
    session.wait(async {
        let mut stop = Stop::new()?;
        let held = client.session().ttl(ttl).await?;
        let mut mutex = Mutex::new(&held, &name);
        let locked = tokio::select! {
            locked = mutex.lock() => Some(locked),
            () = stop.wait() => None,
        };
        let Some(locked) = locked else { return canceled(held).await };
        locked?;
        if !command.is_empty() {
            let revision = mutex.header().revision;
            let failed = run_holding(command, mutex.key().to_vec(), revision).await;
            let unlocked = mutex.unlock().await;
            return match failed {
                Some((code, why)) => Err(Exit::new(code, why)),
                None => unlocked.map_err(Exit::from),
            };
        }
        show(session, &client, mutex.key().to_vec(), "lock lost on init").await?;
        tokio::select! {
            () = stop.wait() => mutex.unlock().await.map_err(Exit::from),
            () = held.done() => Err(Exit::new(ERROR, "session expired")),
        }
    })
}

/// Prints a key that was just written.
async fn show(session: &Session, client: &Client, key: Vec<u8>, lost: &str) -> Result<(), Exit> {
    let answer = client.get(key).await?;
    if answer.kvs.is_empty() && !lost.is_empty() {
        return Err(Exit::new(ERROR, lost));
    }
    session.print(&Answer::Get(&answer))
}

/// It was interrupted while it waited: its place in the queue goes with the lease.
async fn canceled(held: client::concurrency::Session) -> Result<(), Exit> {
    // The lease ends by itself, should this fail.
    let _ = held.close().await;
    Err(Exit::new(ERROR, "context canceled"))
}

/// Runs the user's command, while the lock is kept. The code and the words if it fails.
async fn run_holding(command: Vec<Vec<u8>>, key: Vec<u8>, revision: i64) -> Option<(u8, String)> {
    let run = move || {
        let (program, arguments) = command.split_first()?;
        let status = Process::new(OsStr::from_bytes(program))
            .args(arguments.iter().map(|argument| OsStr::from_bytes(argument)))
            .env("ETCD_LOCK_KEY", OsStr::from_bytes(&key))
            .env("ETCD_LOCK_REV", revision.to_string())
            .stdin(Stdio::null())
            .status();
        failure(program, status)
    };
    // On another thread, since the lease must be kept alive meanwhile.
    tokio::task::spawn_blocking(run).await.unwrap_or_else(|error| Some((ERROR, error.to_string())))
}

pub(crate) fn elect(session: &mut Session) -> Result<(), Exit> {
    let (name, proposal) = match session.args() {
        [_] => (session.arg(0), None),
        [_, proposal] => (session.arg(0), Some(proposal.clone())),
        _ => {
            return Err(Exit::arguments(
                "elect takes one election name argument and an optional proposal argument",
            ));
        }
    };
    let client = session.client()?;
    match (proposal, session.input.bool("listen")) {
        (None, true) => session.wait(observe(session, &client, &name)),
        (Some(proposal), false) => session.wait(campaign(session, &client, &name, proposal)),
        (None, false) => Err(Exit::arguments("no proposal argument but -l not set")),
        (Some(_), true) => Err(Exit::arguments("proposal given but -l is set")),
    }
}

async fn observe(session: &Session, client: &Client, name: &str) -> Result<(), Exit> {
    let mut stop = Stop::new()?;
    let held = client.session().await?;
    // Who answers, for the formats that tell it.
    let header = client.get(name).count_only().await?.header.unwrap_or_default();
    let mut observer = Election::new(&held, name).observe();
    loop {
        let leader = tokio::select! {
            leader = observer.next() => leader,
            () = stop.wait() => return Ok(()),
        };
        let leader = leader.map_err(|_| Exit::new(ERROR, "elect: observer lost"))?;
        let header = ResponseHeader { revision: leader.mod_revision, ..header };
        let answer =
            GetResponse { header: Some(header), kvs: vec![leader], ..GetResponse::default() };
        session.print(&Answer::Get(&answer))?;
    }
}

async fn campaign(
    session: &Session,
    client: &Client,
    name: &str,
    proposal: Vec<u8>,
) -> Result<(), Exit> {
    let mut stop = Stop::new()?;
    let held = client.session().await?;
    let mut election = Election::new(&held, name);
    let elected = tokio::select! {
        elected = election.campaign(proposal) => Some(elected),
        () = stop.wait() => None,
    };
    let Some(elected) = elected else { return canceled(held).await };
    elected?;
    let key = election.lead().map(|(key, _)| key.to_vec()).unwrap_or_default();
    show(session, client, key, "").await?;
    tokio::select! {
        () = stop.wait() => election.resign().await.map_err(Exit::from),
        () = held.done() => Err(Exit::new(ERROR, "elect: session expired")),
    }
}

/// Ctrl-C, or the signal that asks a program to end.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn new() -> Result<Self, Exit> {
        let listen = |kind| signal(kind).map_err(|error| Exit::new(ERROR, error));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
