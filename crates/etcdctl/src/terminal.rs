//! What only a person at a terminal sees.

use std::io::{self, IsTerminal, Read};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::output;
use crate::session::Session;

/// Asks for a line that is not shown while it is typed. Without a terminal it is read from standard input all the same.
pub(crate) fn ask(prompt: &str) -> io::Result<String> {
    output::stdout(prompt.as_bytes());
    let stdin = io::stdin();
    // DIFF(etcd): its tool runs stty, which complains without a terminal.
    let shown = tcgetattr(&stdin).ok();
    if let Some(shown) = &shown {
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    }
    let line = read_line(&mut stdin.lock());
    if let Some(shown) = &shown {
        tcsetattr(&stdin, OptionalActions::Flush, shown)?;
    }
    output::line("");
    line
}

/// Byte by byte, so that what is behind the line stays for whoever reads next.
fn read_line(input: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while input.read(&mut byte)? > 0 && byte != *b"\n" {
        line.extend(byte);
    }
    let line = String::from_utf8_lossy(&line).into_owned();
    Ok(line.strip_suffix('\r').map(str::to_owned).unwrap_or(line))
}

/// What may help against an error; never where a program reads.
pub(crate) fn hint(message: &str, session: &Session) {
    if !io::stderr().is_terminal() {
        return;
    }
    let endpoints = session.endpoints().join(", ");
    let hint = if message.contains("context deadline exceeded") {
        format!(
            "no member answered in time at {endpoints}: is a server running there? See --endpoints."
        )
    } else if message.contains("TLS") {
        format!("{endpoints}: does the scheme fit what the server speaks, http or https?")
    } else if message.contains("no available endpoints") {
        "name one with --endpoints, such as 127.0.0.1:2379".to_owned()
    } else {
        return;
    };
    output::stderr(&format!("\x1b[2mHint: {hint}\x1b[0m\n"));
}

/// How far something has come, in one line on standard error that is written again and again.
#[derive(Debug)]
pub(crate) struct Bar {
    title: &'static str,
    shows: bool,
    /// What was shown last, in thousandths.
    shown: Option<u64>,
}

const BAR_WIDTH: u64 = 40;

impl Bar {
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, shows: io::stderr().is_terminal(), shown: None }
    }

    /// So much of so much is done.
    pub(crate) fn show(&mut self, done: u64, total: u64) {
        let thousandths = done.saturating_mul(1000).checked_div(total).unwrap_or(1000).min(1000);
        if self.shows && self.shown != Some(thousandths) {
            self.shown = Some(thousandths);
            output::stderr(&format!("\r{}", self.line(thousandths)));
        }
    }

    fn line(&self, thousandths: u64) -> String {
        let full = (thousandths * BAR_WIDTH / 1000) as usize;
        let (full, rest) = ("█".repeat(full), "░".repeat(BAR_WIDTH as usize - full));
        format!("{} {full}{rest} {:3}%", self.title, thousandths / 10)
    }

    /// The line is left, and what is written next has its own.
    pub(crate) fn end(&mut self) {
        if self.shown.take().is_some() {
            output::stderr("\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bar, read_line};

    #[test]
    fn a_line_is_read_and_no_more() {
        let mut input = &b"secret\r\nnext"[..];
        assert_eq!(read_line(&mut input).expect("a slice is read"), "secret");
        assert_eq!(input, b"next");
    }

    #[test]
    fn a_bar_is_as_full_as_the_work() {
        let bar = Bar { title: "snapshot", shows: false, shown: None };
        assert_eq!(bar.line(500), format!("snapshot {}{}  50%", "█".repeat(20), "░".repeat(20)));
    }
}
