//! The server's flags on a command line, in the syntax of Go's `flag` package.

use cobra::go;
use cobra::goflag::{self, Parsed, UsageError, number};

use crate::table::{self, Flag, Kind};

impl goflag::Flag for &'static Flag {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_bool(&self) -> bool {
        self.kind == Kind::Bool
    }

    fn check(&self, value: &str) -> Result<(), String> {
        check(self, value)
    }
}

/// Reads the arguments behind the program's name. Values are checked for their kind.
pub(crate) fn parse(arguments: &[String]) -> Result<Parsed, UsageError> {
    goflag::parse(arguments, table::find)
}

/// Whether the text is a value of the flag's kind; the error is Go's reason.
pub(crate) fn check(flag: &Flag, value: &str) -> Result<(), String> {
    match flag.kind {
        Kind::Text if flag.name == "feature-gates" => server::FeatureGates::default().set(value),
        Kind::Text if flag.name == "cors" && value != "*" => {
            server::Url::parse_list(value).map(drop)
        }
        Kind::Text => Ok(()),
        Kind::Bool => server::parse_bool(value).map(drop).ok_or_else(|| "parse error".to_owned()),
        Kind::Int => number::<i64>(value).map(drop),
        Kind::Uint => number::<u64>(value).map(drop),
        Kind::Duration => go::parse_duration(value).map(drop).map_err(|_| "parse error".to_owned()),
        Kind::Urls if value.is_empty() => Ok(()),
        Kind::Urls => server::Url::parse_list(value).map(drop),
        Kind::Choice(words) if words.contains(&value) => Ok(()),
        Kind::Choice(_) if flag.name == "v2-deprecation" => Err(format!("invalid value {value:?}")),
        // These two are checked later by etcd, with texts of their own.
        Kind::Choice(_) if flag.name == "log-level" || flag.name == "metrics" => Ok(()),
        Kind::Choice(_) => Err("invalid value".to_owned()),
    }
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
            (
                "--cors=http://a",
                "invalid value \"http://a\" for flag -cors: URL address does not have the form \"host:port\": http://a",
            ),
            ("--cors=*", r#"[("cors", "*")] []"#),
            ("--cluster-active-size 3", r#"[("cluster-active-size", "3")] []"#),
        ] {
            assert_eq!(parse_line(line), expected, "{line}");
        }
    }
}
