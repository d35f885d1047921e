//! Writing. A reader that has gone ends the program as it ends others: by the signal.

use std::io::{self, ErrorKind, Write};

use signal_hook::consts::SIGPIPE;
use signal_hook::low_level::emulate_default_handler;

/// Writes all of it to standard output at once.
pub(crate) fn stdout(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    check(out.write_all(bytes).and_then(|()| out.flush()));
}

/// Writes to standard error.
pub(crate) fn stderr(text: &str) {
    check(io::stderr().write_all(text.as_bytes()));
}

/// A line on standard output.
pub(crate) fn line(text: &str) {
    stdout(format!("{text}\n").as_bytes());
}

fn check(result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() == ErrorKind::BrokenPipe
    {
        // It does not come back; should it, the exit code still tells.
        let _ = emulate_default_handler(SIGPIPE);
        std::process::exit(crate::exit::ERROR.into());
    }
}
