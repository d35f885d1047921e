//! `lock` and `elect`.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

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
    session.client()?;
    Err(Exit::new(ERROR, "lock is not supported yet"))
}

pub(crate) fn elect(session: &mut Session) -> Result<(), Exit> {
    if !matches!(session.args().len(), 1 | 2) {
        return Err(Exit::arguments(
            "elect takes one election name argument and an optional proposal argument",
        ));
    }
    session.client()?;
    match (session.args().len(), session.input.bool("listen")) {
        (1, false) => return Err(Exit::arguments("no proposal argument but -l not set")),
        (2, true) => return Err(Exit::arguments("proposal given but -l is set")),
        _ => {}
    }
    Err(Exit::new(ERROR, "elect is not supported yet"))
}
