//! Part `client`: a Go program on etcd's client library judges the real server, then ours.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::{Outcome, process, tools::Tools};

pub(super) fn run(
    tools: &Tools,
    ours: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let real = tools.bin("etcd");
    let check = |server: &Path, name: &str| {
        let mut command = Command::new(tools.bin("clientcheck"));
        command.arg("-server").arg(server).arg("-work").arg(work.join(name));
        process::run(&mut command, b"", Duration::from_secs(400))
    };
    // The program waits most of the time, so the two runs share the machine.
    let (theirs, mine) = thread::scope(|scope| {
        let theirs = scope.spawn(|| check(&real, "real"));
        let mine = check(ours, "ours");
        (theirs.join(), mine)
    });
    outcome.lines("client, real server", &theirs.map_err(|_| "client run panicked")??);
    outcome.lines("client, ours", &mine?);
    Ok(())
}
