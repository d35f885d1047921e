//! The process log: lines with zap's keys, as etcd writes them.
//!
//! `{"level":"info","ts":"2026-11-21T11:35:00.123456Z","caller":"server/member.rs:10","msg":"…", …}`

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rpc::FIELDS_TARGET;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

/// Where lines go, how they look, and which are left out.
#[derive(Debug)]
pub struct LogOptions {
    /// The least severe level that is written.
    pub level: Level,
    /// The shape of a line.
    pub format: Format,
    /// Every line goes to all of them.
    pub outputs: Vec<Output>,
    /// Also write the header fields that clients send, to standard error and in the form of Go's own log, as etcd does
    /// under `GODEBUG=http2debug=2`.
    pub http2_debug: bool,
}

/// The shape of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// Columns between tabs.
    Console,
}

/// A place for lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            level: Level::INFO,
            format: Format::Json,
            outputs: vec![Output::Stderr],
            http2_debug: false,
        }
    }
}

/// zap's names of levels; its three worst are one here.
#[must_use]
pub fn parse_level(text: &str) -> Option<Level> {
    match text {
        "debug" => Some(Level::DEBUG),
        "info" => Some(Level::INFO),
        "warn" => Some(Level::WARN),
        "error" | "dpanic" | "panic" | "fatal" => Some(Level::ERROR),
        _ => None,
    }
}

/// Sends all lines of the process to the outputs of `options`.
///
/// # Errors
/// If a file can't be opened, or there is a log already.
pub fn init(options: &LogOptions) -> io::Result<()> {
    let mut sinks = Vec::new();
    for output in &options.outputs {
        sinks.push(match output {
            Output::Stderr => Sink::Stderr,
            Output::Stdout => Sink::Stdout,
            Output::File(path) => {
                Sink::File(fs::OpenOptions::new().create(true).append(true).open(path)?)
            }
        });
    }
    let log = Log {
        level: options.level,
        format: options.format,
        http2_debug: options.http2_debug,
        sinks: Mutex::new(sinks),
    };
    tracing::subscriber::set_global_default(log).map_err(io::Error::other)
}

enum Sink {
    Stderr,
    Stdout,
    File(fs::File),
}

struct Log {
    level: Level,
    format: Format,
    http2_debug: bool,
    /// Under one lock, so that lines come in the same order in all of them.
    sinks: Mutex<Vec<Sink>>,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_wanted = if metadata.target() == FIELDS_TARGET {
            self.http2_debug
        } else {
            *metadata.level() <= self.level
        };
        !metadata.is_span() && is_wanted
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        if metadata.target() == FIELDS_TARGET {
            let ts = timestamp(now.as_secs(), 0).replace('-', "/").replace('T', " ");
            let ts = ts.split('.').next().unwrap_or_default();
            let _ = writeln!(io::stderr().lock(), "{ts} {}", fields.message);
            return;
        }
        let level = fields.level.take().unwrap_or_else(|| level_name(*metadata.level()));
        let caller = caller(metadata);
        let ts = timestamp(now.as_secs(), now.subsec_micros());
        let mut line = match self.format {
            Format::Json => {
                let mut line = format!(
                    "{{\"level\":\"{level}\",\"ts\":\"{ts}\",\"caller\":\"{caller}\",\"msg\":"
                );
                quote(&mut line, &fields.message);
                line.push_str(&fields.rest);
                line.push('}');
                line
            }
            Format::Console => {
                let mut line = format!("{ts}\t{level}\t{caller}\t{}", fields.message);
                if let Some(rest) = fields.rest.strip_prefix(',') {
                    let _ = write!(line, "\t{{{rest}}}");
                }
                line
            }
        };
        line.push('\n');
        for sink in &mut *self.sinks.lock() {
            // A log that can't be written must not stop the member.
            let _ = match sink {
                Sink::Stderr => io::stderr().lock().write_all(line.as_bytes()),
                Sink::Stdout => io::stdout().lock().write_all(line.as_bytes()),
                Sink::File(file) => file.write_all(line.as_bytes()),
            };
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    }
}

/// `crates/server/src/member.rs` becomes `server/member.rs`.
fn caller(metadata: &Metadata<'_>) -> String {
    let path = metadata.file().unwrap_or("unknown");
    let short = path.strip_prefix("crates/").unwrap_or(path).replacen("/src/", "/", 1);
    format!("{short}:{}", metadata.line().unwrap_or(0))
}

/// RFC 3339 with microseconds, in UTC.
fn timestamp(unix_seconds: u64, micros: u32) -> String {
    let days = unix_seconds / 86_400;
    let second = unix_seconds % 86_400;
    // Civil date from days since the epoch, for the proleptic Gregorian calendar: years begin in
    // March here, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micros:06}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60,
    )
}

/// A list of strings as the value of a field, written as a JSON array: `urls = ?List::new(…)`.
pub struct List(String);

thread_local! {
    /// Whether what was formatted last is a [`List`]. Nothing else in a text could tell it apart
    /// from a string of a client that looks like one.
    static IS_LIST: Cell<bool> = const { Cell::new(false) };
}

impl List {
    /// The list of the items' texts.
    pub fn new(items: impl IntoIterator<Item: fmt::Display>) -> Self {
        let mut json = String::from("[");
        for item in items {
            if json.len() > 1 {
                json.push(',');
            }
            quote(&mut json, &item.to_string());
        }
        json.push(']');
        Self(json)
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IS_LIST.set(true);
        f.write_str(&self.0)
    }
}

/// The fields of an event, as JSON members that each begin with a comma.
#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
    level: Option<&'static str>,
}

impl Fields {
    fn key(&mut self, field: &Field) {
        self.rest.push(',');
        quote(&mut self.rest, field.name());
        self.rest.push(':');
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
            return;
        }
        IS_LIST.set(false);
        let text = format!("{value:?}");
        self.key(field);
        if IS_LIST.take() {
            self.rest.push_str(&text);
        } else {
            quote(&mut self.rest, &text);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            // zap's levels above error, which tracing does not have.
            "level" if value == "fatal" => self.level = Some("fatal"),
            "level" if value == "panic" => self.level = Some("panic"),
            _ => {
                self.key(field);
                quote(&mut self.rest, value);
            }
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.key(field);
        let _ = write!(self.rest, "{value}");
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.key(field);
        let _ = write!(self.rest, "{value}");
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.key(field);
        let _ = write!(self.rest, "{value}");
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.key(field);
        let _ = write!(self.rest, "{value}");
    }
}

/// A JSON string.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000007Z"),
            (951_782_399, "2000-02-28T23:59:59.000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000007Z"),
            (1_795_256_073, "2026-11-21T10:14:33.000007Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000007Z"),
        ] {
            assert_eq!(timestamp(seconds, 7), expected);
        }
    }

    #[test]
    fn a_list_is_an_array_and_what_looks_like_one_is_a_string() {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let mut file = fs::File::from(rustix::fs::memfd_create("log", flags).expect("memory"));
        let sink = Sink::File(file.try_clone().expect("a descriptor"));
        let log = Log {
            level: Level::INFO,
            format: Format::Json,
            http2_debug: false,
            sinks: Mutex::new(vec![sink]),
        };
        tracing::subscriber::with_default(log, || {
            tracing::info!(
                list = ?List::new(["a\"b", "c"]),
                text = "[\"d\"]",
                looks_alike = ?format_args!("[1]"),
                none = ?List::new([0_u8; 0]),
                "m"
            );
        });
        let mut line = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut line)).expect("the line");
        let (_, fields) = line.split_once("\"msg\":").expect("a message");
        let expected = r#""m","list":["a\"b","c"],"text":"[\"d\"]","looks_alike":"[1]","none":[]}"#;
        assert_eq!(fields.trim_end(), expected);
    }

    #[test]
    fn strings_are_json() {
        let mut out = String::new();
        quote(&mut out, "a\"b\\c\nd\u{1}é");
        assert_eq!(out, "\"a\\\"b\\\\c\\nd\\u0001é\"");
    }
}
