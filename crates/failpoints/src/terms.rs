//! gofail's little language: `term -> term -> ...`, each a chain of counts `3*` and chances `50.0%` before an act with
//! an optional value in parentheses. The first term that is allowed is done.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// What a term does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Off,
    Return,
    Sleep,
    Panic,
    Break,
    Print,
}

const ACTS: [(&str, Act); 6] = [
    ("off", Act::Off),
    ("return", Act::Return),
    ("sleep", Act::Sleep),
    ("panic", Act::Panic),
    ("break", Act::Break),
    ("print", Act::Print),
];

/// What stands in parentheses behind an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Unit,
    /// A number; of a sleep, milliseconds.
    Int(i64),
    /// Text in quotes; of a sleep, a duration like `1m30s`.
    Text(String),
    /// `true` or `false`.
    Bool(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit => f.write_str("{}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::Bool(truth) => write!(f, "{truth}"),
        }
    }
}

impl Value {
    /// How long a sleep with this value lasts.
    pub(crate) fn duration(&self) -> Option<Duration> {
        match self {
            Self::Int(millis) => u64::try_from(*millis).ok().map(Duration::from_millis),
            Self::Text(text) => parse_duration(text),
            Self::Unit | Self::Bool(_) => None,
        }
    }
}

/// What lets a term be done or not.
#[derive(Debug)]
enum Modifier {
    /// So many times.
    Count(u64),
    /// With this chance, of 1.
    Chance(f64),
}

#[derive(Debug)]
struct Term {
    modifiers: Vec<Modifier>,
    act: Act,
    value: Value,
}

/// The terms of a point.
#[derive(Debug)]
pub(crate) struct Terms {
    text: String,
    chain: Mutex<Vec<Term>>,
    count: AtomicU64,
}

impl Terms {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut chain = Vec::new();
        while !rest.is_empty() {
            let (term, behind) = parse_term(rest)?;
            chain.push(term);
            rest = if behind.is_empty() { behind } else { behind.strip_prefix("->")? };
        }
        let is_empty = chain.is_empty();
        let terms =
            Self { text: text.to_owned(), chain: Mutex::new(chain), count: AtomicU64::new(0) };
        (!is_empty).then_some(terms)
    }

    /// As they were given.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// How many terms were done.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Does the first term that is allowed, one thread at a time.
    pub(crate) fn evaluate(
        &self,
        perform: impl FnOnce(Act, &Value) -> Option<Value>,
    ) -> Option<Value> {
        let mut chain = self.chain.lock();
        let term = chain.iter_mut().find_map(|term| {
            let is_allowed = term.modifiers.iter_mut().all(Modifier::allows);
            is_allowed.then_some(&*term)
        })?;
        self.count.fetch_add(1, Ordering::Relaxed);
        perform(term.act, &term.value)
    }
}

impl Modifier {
    fn allows(&mut self) -> bool {
        match self {
            Self::Count(0) => false,
            Self::Count(left) => {
                *left -= 1;
                true
            }
            // Each RandomState is seeded anew.
            Self::Chance(chance) => {
                (RandomState::new().hash_one(0) as f64 / u64::MAX as f64) <= *chance
            }
        }
    }
}

/// A term, and what follows it.
fn parse_term(text: &str) -> Option<(Term, &str)> {
    let (modifiers, rest) = parse_modifiers(text)?;
    let (act, rest) = ACTS.iter().find_map(|(name, act)| Some((*act, rest.strip_prefix(name)?)))?;
    let (value, rest) = parse_value(rest)?;
    Some((Term { modifiers, act, value }, rest))
}

fn parse_modifiers(mut text: &str) -> Option<(Vec<Modifier>, &str)> {
    let mut modifiers = Vec::new();
    loop {
        let len = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, behind) = text.split_at(len);
        if number.is_empty() {
            return Some((modifiers, text));
        }
        if let Some(behind) = behind.strip_prefix('*') {
            modifiers.push(Modifier::Count(number.parse().ok()?));
            text = behind;
        } else {
            // gofail itself wants a point in the number; its own documentation has none.
            text = behind.strip_prefix('%')?;
            modifiers.push(Modifier::Chance(number.parse::<f64>().ok()? / 100.0));
        }
    }
}

fn parse_value(text: &str) -> Option<(Value, &str)> {
    let Some(inner) = text.strip_prefix('(') else { return Some((Value::Unit, text)) };
    if let Some(quoted) = inner.strip_prefix('"') {
        let (text, rest) = quoted.split_once('"')?;
        return Some((Value::Text(text.to_owned()), rest.strip_prefix(')')?));
    }
    let (inside, rest) = inner.split_once(')')?;
    let value = match inside {
        "" => Value::Unit,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        number => Value::Int(number.parse().ok()?),
    };
    Some((value, rest))
}

/// Go's durations: numbers with units, like `1m30s` or `1.5h`.
fn parse_duration(mut text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !text.is_empty() {
        let len = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, behind) = text.split_at(len);
        let (unit, rest) =
            UNITS.iter().find_map(|(name, unit)| Some((*unit, behind.strip_prefix(name)?)))?;
        seconds += number.parse::<f64>().ok()? * unit;
        text = rest;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a point with these terms does, one letter or value each time it is reached.
    fn story(text: &str, times: usize) -> String {
        let Some(terms) = Terms::parse(text) else { return "bad".to_owned() };
        let mut done = Vec::new();
        for _ in 0..times {
            let mut act = "-".to_owned();
            let value = terms.evaluate(|performed, value| {
                act = format!("{performed:?}({value})");
                (performed == Act::Return).then(|| value.clone())
            });
            assert!(value.is_none() || act.starts_with("Return"));
            done.push(act);
        }
        format!("{} count {}", done.join(" "), terms.count())
    }

    #[test]
    fn terms_in_order() {
        let cases = [
            ("panic", 2, "Panic({}) Panic({}) count 2"),
            ("off", 1, "Off({}) count 1"),
            ("sleep(100)", 1, "Sleep(100) count 1"),
            ("sleep(\"1s\")", 1, "Sleep(1s) count 1"),
            ("return(\"a b\")", 1, "Return(a b) count 1"),
            ("return(true)", 1, "Return(true) count 1"),
            ("return()", 1, "Return({}) count 1"),
            ("return(-5)", 1, "Return(-5) count 1"),
            ("2*sleep(10)", 3, "Sleep(10) Sleep(10) - count 2"),
            ("1*print->2*return(1)->panic", 4, "Print({}) Return(1) Return(1) Panic({}) count 4"),
            ("100.0%panic", 1, "Panic({}) count 1"),
            ("100%1*panic", 2, "Panic({}) - count 1"),
            ("0.0%panic", 1, "- count 0"),
            ("1*off->break", 2, "Off({}) Break({}) count 2"),
        ];
        for (text, times, expected) in cases {
            assert_eq!(story(text, times), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_gofails_language_is_refused() {
        let bad = [
            "",
            "panics",
            "nothing",
            "3*",
            "50%",
            "3panic",
            "sleep(",
            "sleep(1",
            "sleep(x)",
            "panic-",
            "panic>panic",
            "panic panic",
            "->",
            "return(\"a)",
            "return(\"a\"",
            "1.2*panic",
            "99999999999999999999*panic",
            "..%panic",
        ];
        for text in bad {
            assert_eq!(story(text, 1), "bad", "{text}");
        }
    }

    #[test]
    fn a_chance_is_taken_as_often_as_it_says() {
        let terms = Terms::parse("25.0%return(1)").expect("terms");
        let hits = (0..4_000).filter(|_| terms.evaluate(|_, value| Some(value.clone())).is_some());
        // Ten standard deviations on either side.
        let hits = hits.count();
        assert!((720..=1_280).contains(&hits), "{hits}");
        assert_eq!(terms.count(), hits as u64);
    }

    #[test]
    fn durations_are_gos() {
        let cases = [
            ("1s", Some(1_000)),
            ("1.5s", Some(1_500)),
            ("100ms", Some(100)),
            ("1m30s", Some(90_000)),
            ("2h", Some(7_200_000)),
            ("0", Some(0)),
            ("", None),
            ("1", None),
            ("s", None),
            ("-1s", None),
            ("1e9s", None),
            ("1.2.3s", None),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }
}
