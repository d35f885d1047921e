//! The lines that etcd's raft writes to its log, collected for the caller.
//!
//! The library writes nowhere. When [`Config::log_level`](crate::Config::log_level) is set it keeps the lines of
//! that level and above until the caller drains them with
//! [`RawNode::take_log_lines`](crate::RawNode::take_log_lines); otherwise no line is ever formatted. Their texts
//! are etcd's, because operators and tests search for them.

use std::fmt;

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Replication details.
    Debug,
    /// Elections and configurations.
    Info,
    /// Something unexpected that raft handles.
    Warning,
    /// A request that had to be ignored.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARN",
            Self::Error => "ERROR",
        })
    }
}

/// One line, without a line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its importance.
    pub level: Level,
    /// Its text.
    pub text: String,
}

/// Lines not drained yet.
#[derive(Debug, Default)]
pub(crate) struct Logger {
    level: Option<Level>,
    lines: Vec<LogLine>,
}

impl Logger {
    pub(crate) const fn new(level: Option<Level>) -> Self {
        Self { level, lines: Vec::new() }
    }

    #[inline]
    pub(crate) fn wants(&self, level: Level) -> bool {
        self.level.is_some_and(|wanted| level >= wanted)
    }

    #[cold]
    pub(crate) fn push(&mut self, level: Level, text: fmt::Arguments<'_>) {
        self.lines.push(LogLine { level, text: text.to_string() });
    }

    pub(crate) fn take(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.lines)
    }
}

macro_rules! log_line {
    ($logger:expr, $level:ident, $($text:tt)+) => {
        if $logger.wants($crate::logger::Level::$level) {
            $logger.push($crate::logger::Level::$level, format_args!($($text)+));
        }
    };
}
pub(crate) use log_line;
