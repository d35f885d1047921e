//! What happened in a story: the changes that the store tells of, each call with its answer, and what each watcher heard.
//!
//! It is written as text, a line each, when a story fails, and read again by the tests of the judge:
//!
//! ```text
//! change REVISION KEY VALUE|- CREATED VERSION
//! call BEGIN END|- OPERATION [-> REVISION ANSWER]
//! heard WATCHER HEADER [REVISION KEY VALUE|- CREATED VERSION [PREVIOUS]; ...]
//! ```

use std::fmt::{self, Write as _};

/// A row of the store, or what is left of one: then it has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: i64,
    pub(crate) key: String,
    /// What it holds afterwards; `None`: the key is gone.
    pub(crate) value: Option<u64>,
    /// The revision that created the key, and how many times it was set since; 0 for a deletion.
    pub(crate) created: i64,
    pub(crate) version: i64,
}

/// What a client asks for. Each value is written once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Put {
        key: String,
        value: u64,
    },
    /// Two keys in one transaction.
    Pair {
        keys: [String; 2],
        value: u64,
    },
    /// Sets the key if it holds `expected`, or does not exist; else it is read.
    Swap {
        key: String,
        expected: Option<u64>,
        value: u64,
    },
    Delete {
        key: String,
    },
    /// Deletes the key if it holds `expected`; else it is read.
    Drop {
        key: String,
        expected: u64,
    },
    Read {
        keys: Keys,
        at: Option<i64>,
        is_linearizable: bool,
    },
}

/// One key, or all that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    One(String),
    Prefix(String),
}

impl Keys {
    pub(crate) fn contains(&self, key: &str) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Prefix(prefix) => key.starts_with(prefix),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done, where it was conditional.
    Written,
    /// Deleted, with the value before.
    Deleted(Option<u64>),
    /// What was found: rows of a read, or of a conditional call that found something else.
    Found(Vec<Change>),
}

/// A call. Times are nanoseconds since the story began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) begin: u64,
    /// `u64::MAX`: nobody knows whether it took effect.
    pub(crate) end: u64,
    pub(crate) operation: Operation,
    /// With the revision in the answer's header.
    pub(crate) answer: Option<(i64, Answer)>,
}

/// One message to a watcher of all keys; without events it is a notice of progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The revision in its header.
    pub(crate) header: i64,
    /// What changed, with the value before, if that was asked for.
    pub(crate) events: Vec<(Change, Option<Option<u64>>)>,
}

/// A watcher from the first revision on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) messages: Vec<Heard>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) changes: Vec<Change>,
    pub(crate) calls: Vec<Call>,
    pub(crate) watchers: Vec<Watched>,
}

struct Value(Option<u64>);

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(out, "{value}"),
            None => out.write_str("-"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { revision, key, value, created, version } = self;
        write!(out, "{revision} {key} {} {created} {version}", Value(*value))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value } => write!(out, "put {key} {value}"),
            Self::Pair { keys: [one, other], value } => write!(out, "pair {one} {other} {value}"),
            Self::Swap { key, expected, value } => {
                write!(out, "swap {key} {} {value}", Value(*expected))
            }
            Self::Delete { key } => write!(out, "delete {key}"),
            Self::Drop { key, expected } => write!(out, "drop {key} {expected}"),
            Self::Read { keys, at, is_linearizable } => {
                let word = if *is_linearizable { "read" } else { "peek" };
                match keys {
                    Keys::One(key) => write!(out, "{word} {key}")?,
                    Keys::Prefix(prefix) => write!(out, "{word} {prefix}*")?,
                }
                match at {
                    Some(at) => write!(out, " @{at}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { begin, end, operation, answer } = self;
        write!(out, "{begin} ")?;
        match end {
            &u64::MAX => write!(out, "- {operation}")?,
            end => write!(out, "{end} {operation}")?,
        }
        let Some((revision, answer)) = answer else { return Ok(()) };
        write!(out, " -> {revision} ")?;
        match answer {
            Answer::Written => out.write_str("written"),
            Answer::Deleted(value) => write!(out, "deleted {}", Value(*value)),
            Answer::Found(rows) => {
                let rows: Vec<String> = rows.iter().map(Change::to_string).collect();
                write!(out, "found {}", rows.join("; "))
            }
        }
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.header)?;
        for (number, (change, previous)) in self.events.iter().enumerate() {
            let between = if number == 0 { " " } else { "; " };
            write!(out, "{between}{change}")?;
            if let Some(previous) = previous {
                write!(out, " {}", Value(*previous))?;
            }
        }
        Ok(())
    }
}

impl History {
    /// As text, which [`History::parse`] reads.
    pub(crate) fn write(&self) -> String {
        let mut text = String::new();
        for change in &self.changes {
            let _ = writeln!(text, "change {change}");
        }
        for call in &self.calls {
            let _ = writeln!(text, "call {call}");
        }
        for watcher in &self.watchers {
            for heard in &watcher.messages {
                let _ = writeln!(text, "heard {} {heard}", watcher.name);
            }
        }
        text
    }

    /// Reads what [`History::write`] has written. Empty lines and those that begin with `#` say nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut history = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            history.parse_line(line).ok_or_else(|| format!("line {number}: {line}"))?;
        }
        Ok(history)
    }

    fn parse_line(&mut self, line: &str) -> Option<()> {
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "change" => self.changes.push(parse_change(&words(rest))?),
            "call" => self.calls.push(parse_call(rest)?),
            "heard" => {
                let (name, rest) = rest.split_once(' ')?;
                let heard = parse_heard(rest)?;
                match self.watchers.iter_mut().find(|watcher| watcher.name == name) {
                    Some(watcher) => watcher.messages.push(heard),
                    None => {
                        self.watchers
                            .push(Watched { name: name.to_owned(), messages: vec![heard] });
                    }
                }
            }
            _ => return None,
        }
        Some(())
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn parse_value(word: &str) -> Option<Option<u64>> {
    if word == "-" { Some(None) } else { word.parse().ok().map(Some) }
}

fn parse_change(words: &[&str]) -> Option<Change> {
    let [revision, key, value, created, version] = words else { return None };
    Some(Change {
        revision: revision.parse().ok()?,
        key: (*key).to_owned(),
        value: parse_value(value)?,
        created: created.parse().ok()?,
        version: version.parse().ok()?,
    })
}

fn parse_call(text: &str) -> Option<Call> {
    let (asked, answer) = match text.split_once(" -> ") {
        Some((asked, answer)) => (asked, Some(answer)),
        None => (text, None),
    };
    let words = words(asked);
    let [begin, end, operation @ ..] = words.as_slice() else { return None };
    let answer = match answer {
        Some(answer) => {
            let (revision, rest) = answer.split_once(' ')?;
            Some((revision.parse().ok()?, parse_answer(rest)?))
        }
        None => None,
    };
    Some(Call {
        begin: begin.parse().ok()?,
        end: if *end == "-" { u64::MAX } else { end.parse().ok()? },
        operation: parse_operation(operation)?,
        answer,
    })
}

fn parse_operation(words: &[&str]) -> Option<Operation> {
    let own = |word: &&str| (**word).to_owned();
    Some(match words {
        ["put", key, value] => Operation::Put { key: own(key), value: value.parse().ok()? },
        ["pair", one, other, value] => {
            Operation::Pair { keys: [own(one), own(other)], value: value.parse().ok()? }
        }
        ["swap", key, expected, value] => Operation::Swap {
            key: own(key),
            expected: parse_value(expected)?,
            value: value.parse().ok()?,
        },
        ["delete", key] => Operation::Delete { key: own(key) },
        ["drop", key, expected] => {
            Operation::Drop { key: own(key), expected: expected.parse().ok()? }
        }
        [word @ ("read" | "peek"), keys, rest @ ..] => Operation::Read {
            keys: match keys.strip_suffix('*') {
                Some(prefix) => Keys::Prefix(prefix.to_owned()),
                None => Keys::One(own(keys)),
            },
            at: match rest {
                [] => None,
                [at] => Some(at.strip_prefix('@')?.parse().ok()?),
                _ => return None,
            },
            is_linearizable: *word == "read",
        },
        _ => return None,
    })
}

fn parse_answer(text: &str) -> Option<Answer> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some(match word {
        "written" => Answer::Written,
        "deleted" => Answer::Deleted(parse_value(rest)?),
        "found" => {
            let rows = rest.split("; ").filter(|row| !row.is_empty());
            Answer::Found(rows.map(|row| parse_change(&words(row))).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn parse_heard(text: &str) -> Option<Heard> {
    let (header, rest) = text.split_once(' ').unwrap_or((text, ""));
    let parse_event = |event: &str| {
        let words = words(event);
        let (change, previous) = words.split_at_checked(5)?;
        let previous = match previous {
            [] => None,
            [previous] => Some(parse_value(previous)?),
            _ => return None,
        };
        Some((parse_change(change)?, previous))
    };
    let events = rest.split("; ").filter(|event| !event.is_empty());
    Some(Heard {
        header: header.parse().ok()?,
        events: events.map(parse_event).collect::<Option<_>>()?,
    })
}
