//! The command-line syntax of Go's `flag` package: one dash or two, `-name=value` or `-name value`,
//! booleans without a value, and the first argument that is no flag ends them.

use crate::table::{self, Flag, Kind};

/// What a command line says, before anything is made of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Flags in the order given, each with its value's text.
    pub(crate) values: Vec<(&'static str, String)>,
    /// What follows the flags.
    pub(crate) rest: Vec<String>,
}

/// Why a command line is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UsageError {
    /// `-h` or `-help`.
    Help,
    /// The text that goes before the usage.
    Message(String),
}

/// Reads the arguments behind the program's name. Values are checked for their kind.
pub(crate) fn parse(arguments: &[String]) -> Result<Parsed, UsageError> {
    let mut parsed = Parsed::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(body) = argument.strip_prefix('-').filter(|body| !body.is_empty()) else {
            parsed.rest.push(argument.clone());
            break;
        };
        if body == "-" {
            break;
        }
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.is_empty() || body.starts_with('-') || body.starts_with('=') {
            return Err(UsageError::Message(format!("bad flag syntax: {argument}")));
        }
        let (name, attached) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        let Some(flag) = table::find(name) else {
            if name == "h" || name == "help" {
                return Err(UsageError::Help);
            }
            return Err(UsageError::Message(format!("flag provided but not defined: -{name}")));
        };
        let value = match attached {
            Some(value) => value,
            None if flag.kind == Kind::Bool => "true".to_owned(),
            None => arguments
                .next()
                .cloned()
                .ok_or_else(|| UsageError::Message(format!("flag needs an argument: -{name}")))?,
        };
        check(flag, &value).map_err(|why| UsageError::Message(refusal(flag, &value, &why)))?;
        parsed.values.push((flag.name, value));
    }
    parsed.rest.extend(arguments.cloned());
    Ok(parsed)
}

/// Go's sentence for a value that does not fit its flag.
pub(crate) fn refusal(flag: &Flag, value: &str, why: &str) -> String {
    if flag.kind == Kind::Bool {
        format!("invalid boolean value {value:?} for -{}: {why}", flag.name)
    } else {
        format!("invalid value {value:?} for flag -{}: {why}", flag.name)
    }
}

/// Whether the text is a value of the flag's kind; the error is Go's reason.
pub(crate) fn check(flag: &Flag, value: &str) -> Result<(), String> {
    match flag.kind {
        Kind::Text if flag.name == "feature-gates" => server::FeatureGates::default().set(value),
        Kind::Text => Ok(()),
        Kind::Bool => server::parse_bool(value).map(drop).ok_or_else(|| "parse error".to_owned()),
        Kind::Int => number::<i64>(value).map(drop),
        Kind::Uint => number::<u64>(value).map(drop),
        Kind::Duration => duration(value).map(drop).ok_or_else(|| "parse error".to_owned()),
        Kind::Urls if value.is_empty() => Ok(()),
        Kind::Urls => server::Url::parse_list(value).map(drop),
        Kind::Choice(words) if words.contains(&value) => Ok(()),
        Kind::Choice(_) if flag.name == "v2-deprecation" => Err(format!("invalid value {value:?}")),
        // These two are checked later by etcd, with texts of their own.
        Kind::Choice(_) if flag.name == "log-level" || flag.name == "metrics" => Ok(()),
        Kind::Choice(_) => Err("invalid value".to_owned()),
    }
}

/// A number as Go reads it with base 0.
pub(crate) fn number<N: TryFrom<i128>>(text: &str) -> Result<N, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let parsed = if let Some(hex) = lower.strip_prefix("0x") {
        i128::from_str_radix(hex, 16)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        i128::from_str_radix(binary, 2)
    } else {
        lower.parse()
    };
    let magnitude = parsed.map_err(|_| "parse error".to_owned())?;
    let value = if negative { -magnitude } else { magnitude };
    N::try_from(value).map_err(|_| "value out of range".to_owned())
}

/// A duration as Go's `time.ParseDuration` reads it, in nanoseconds.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|&end| end > 0)?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += value * scale;
        rest = &rest[letters..];
    }
    if total >= i64::MAX as f64 {
        return None;
    }
    let nanos = total.round() as i64;
    Some(if negative { -nanos } else { nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> String {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&arguments) {
            Ok(parsed) => format!("{:?} {:?}", parsed.values, parsed.rest),
            Err(UsageError::Help) => "help".to_owned(),
            Err(UsageError::Message(text)) => text,
        }
    }

    #[test]
    fn go_syntax() {
        for (line, expected) in [
            ("--name a -data-dir=b", r#"[("name", "a"), ("data-dir", "b")] []"#),
            (
                "-pre-vote --unsafe-no-fsync=false",
                r#"[("pre-vote", "true"), ("unsafe-no-fsync", "false")] []"#,
            ),
            ("--name a foo --name b", r#"[("name", "a")] ["foo", "--name", "b"]"#),
            ("--name a -- -x", r#"[("name", "a")] ["-x"]"#),
            ("--nope", "flag provided but not defined: -nope"),
            (
                "--experimental-initial-corrupt-check",
                "flag provided but not defined: -experimental-initial-corrupt-check",
            ),
            ("--name", "flag needs an argument: -name"),
            ("---name", "bad flag syntax: ---name"),
            ("-h", "help"),
            ("--pre-vote=maybe", "invalid boolean value \"maybe\" for -pre-vote: parse error"),
            ("--max-txn-ops=-1", "invalid value \"-1\" for flag -max-txn-ops: value out of range"),
            ("--max-txn-ops=many", "invalid value \"many\" for flag -max-txn-ops: parse error"),
            (
                "--initial-cluster-state=zzz",
                "invalid value \"zzz\" for flag -initial-cluster-state: invalid value",
            ),
            (
                "--v2-deprecation=not-yet",
                "invalid value \"not-yet\" for flag -v2-deprecation: invalid value \"not-yet\"",
            ),
            ("--cluster-active-size 3", r#"[("cluster-active-size", "3")] []"#),
        ] {
            assert_eq!(parse_line(line), expected, "{line}");
        }
    }

    #[test]
    fn go_durations() {
        for (text, expected) in [
            ("5s", Some(5_000_000_000)),
            ("1h2m3.5s", Some(3_723_500_000_000)),
            ("100ms", Some(100_000_000)),
            ("-1.5us", Some(-1_500)),
            ("0", Some(0)),
            ("", None),
            ("5", None),
            ("5 s", None),
            ("s", None),
            ("9999999h", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
