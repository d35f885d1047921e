//! Part `bad`: hostile and broken clients; after each case an ordinary client must still be served.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Outcome, process, tools::Tools};

pub(super) fn run(
    tools: &Tools,
    ours: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let mut command = Command::new(tools.bin("badinput"));
    command.arg("-server").arg(ours).arg("-work").arg(work);
    let output = process::run(&mut command, b"", Duration::from_secs(400))?;
    outcome.lines("bad", &output);
    Ok(())
}
