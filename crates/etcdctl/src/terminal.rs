//! What only a person at a terminal sees.

use std::env;
use std::io::{self, IsTerminal, Read};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

use crate::output;

/// Set to anything, it turns colours off.
const NO_COLOR: &str = "NO_COLOR";

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Bold,
    Faint,
    Good,
    Bad,
}

/// Whether there are colours: at a terminal that knows them, unless `NO_COLOR` is set. Whole lines are coloured and no parts
/// of them, since there are programs that sit at terminals and look for text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint(bool);

impl Paint {
    #[cfg(test)]
    pub(crate) const NONE: Self = Self(false);

    pub(crate) fn stdout() -> Self {
        Self::of(&io::stdout())
    }

    pub(crate) fn stderr() -> Self {
        Self::of(&io::stderr())
    }

    fn of(stream: &impl IsTerminal) -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let knows = env::var_os("TERM").is_some_and(|name| name != "dumb");
        Self(stream.is_terminal() && knows && !is_set(NO_COLOR))
    }

    /// The text in this style.
    pub(crate) fn on(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            Style::Bold => "1",
            Style::Faint => "2",
            Style::Good => "32",
            Style::Bad => "31",
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

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

/// How far something has come, in one line on standard error; elsewhere than at a terminal nothing.
pub(crate) fn bar(title: &'static str, unit: Unit) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let counts = match unit {
        Unit::Bytes => "{bytes} of {total_bytes}, {bytes_per_sec}",
        Unit::Count => "{pos} of {len}",
        Unit::Seconds => "{pos} s of {len} s",
    };
    let template = format!("{title} {{wide_bar}} {{percent}}% {counts}");
    bar.set_style(ProgressStyle::with_template(&template).expect("a template"));
    bar
}

/// What a bar counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Bytes,
    Count,
    Seconds,
}

/// Tells that something is under way of which nobody knows how far it has come.
pub(crate) fn spinner(what: String) -> ProgressBar {
    const TURN: Duration = Duration::from_millis(100);
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}").expect("a template");
    spinner.set_style(style);
    spinner.set_message(what);
    spinner.enable_steady_tick(TURN);
    spinner
}

/// The whole terminal, for what is shown in the same place again and again. It is as before in the end.
#[derive(Debug)]
pub(crate) struct Screen {
    before: Termios,
    keys: mpsc::UnboundedReceiver<u8>,
}

impl Screen {
    /// Nothing unless a person sits at both ends.
    pub(crate) fn open() -> Option<Self> {
        if !io::stdout().is_terminal() {
            return None;
        }
        let before = tcgetattr(io::stdin()).ok()?;
        let mut mode = before.clone();
        // Keys come one by one; those that interrupt go on doing so.
        mode.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
        tcsetattr(io::stdin(), OptionalActions::Drain, &mode).ok()?;
        output::stdout(b"\x1b[?1049h\x1b[?25l");
        Some(Self { before, keys: read_keys() })
    }

    /// What is typed.
    pub(crate) fn keys(&mut self) -> &mut mpsc::UnboundedReceiver<u8> {
        &mut self.keys
    }

    /// Shows this text in the place of what was shown, as much of it as there is room for.
    pub(crate) fn show(&self, text: &str) {
        let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0);
        let (columns, lines) =
            size.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        let cut: Vec<String> = text.lines().take(lines).map(|line| cut(line, columns)).collect();
        output::stdout(format!("\x1b[H{}\x1b[K\x1b[J", cut.join("\x1b[K\r\n")).as_bytes());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        output::stdout(b"\x1b[?25h\x1b[?1049l");
        // A terminal that has gone needs nothing any more.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// The first so many characters; what changes the style takes no room.
fn cut(line: &str, columns: usize) -> String {
    let (mut out, mut room, mut in_escape) = (String::new(), columns, false);
    for c in line.chars() {
        let is_escape = in_escape || c == '\x1b';
        in_escape = is_escape && c != 'm';
        if is_escape {
            out.push(c);
        } else if room > 0 {
            out.push(c);
            room -= 1;
        }
    }
    out
}

/// The bytes of standard input as they are typed. The thread ends with the program.
fn read_keys() -> mpsc::UnboundedReceiver<u8> {
    let (sender, keys) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        while io::stdin().read(&mut byte).is_ok_and(|count| count > 0) {
            if sender.send(byte[0]).is_err() {
                return;
            }
        }
    });
    keys
}

#[cfg(test)]
mod tests {
    use super::{Paint, Style, cut, read_line};

    #[test]
    fn a_line_is_read_and_no_more() {
        let mut input = &b"secret\r\nnext"[..];
        assert_eq!(read_line(&mut input).expect("a slice is read"), "secret");
        assert_eq!(input, b"next");
    }

    #[test]
    fn lines_are_cut_by_what_is_seen_of_them() {
        let bad = Paint(true).on(Style::Bad, "four");
        assert_eq!(bad, "\x1b[31mfour\x1b[0m");
        assert_eq!(cut(&format!("a{bad}b"), 3), "a\x1b[31mfo\x1b[0m");
        assert_eq!(cut(&bad, 9), bad);
        assert_eq!(Paint::NONE.on(Style::Bad, "four"), "four");
    }
}
