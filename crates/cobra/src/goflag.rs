//! The command line of Go's own `flag` package, which etcd's server and its example have: one dash or two, `-name=value` or
//! `-name value`, booleans without a value, and the first argument that is no flag ends them.

use crate::go;

/// A flag that a program knows.
pub trait Flag {
    /// Without dashes.
    fn name(&self) -> &'static str;
    /// Whether it may stand alone, and then means `true`.
    fn is_bool(&self) -> bool;
    /// Whether the text is a value of it.
    ///
    /// # Errors
    /// Go's reason, like `parse error`.
    fn check(&self, value: &str) -> Result<(), String>;
}

/// What a command line says, before anything is made of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Flags in the order given, each with its value's text.
    pub values: Vec<(&'static str, String)>,
    /// What follows the flags.
    pub rest: Vec<String>,
}

impl Parsed {
    /// The value of a flag that was given, the last one if it was given again.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.values.iter().rev();
        values.find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }
}

/// Why a command line is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum UsageError {
    /// `-h` or `-help`.
    Help,
    /// The text that goes before the usage.
    Message(String),
}

/// Reads the arguments behind the program's name. `find` gives the flag of a name. Values are checked.
///
/// # Errors
/// In Go's words.
pub fn parse<F: Flag>(
    arguments: &[String],
    find: impl Fn(&str) -> Option<F>,
) -> Result<Parsed, UsageError> {
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
        let Some(flag) = find(name) else {
            if name == "h" || name == "help" {
                return Err(UsageError::Help);
            }
            return Err(UsageError::Message(format!("flag provided but not defined: -{name}")));
        };
        let value = match attached {
            Some(value) => value,
            None if flag.is_bool() => "true".to_owned(),
            None => arguments
                .next()
                .cloned()
                .ok_or_else(|| UsageError::Message(format!("flag needs an argument: -{name}")))?,
        };
        flag.check(&value).map_err(|why| UsageError::Message(refusal(&flag, &value, &why)))?;
        parsed.values.push((flag.name(), value));
    }
    parsed.rest.extend(arguments.cloned());
    Ok(parsed)
}

/// Go's sentence for a value that does not fit its flag.
#[must_use]
pub fn refusal(flag: &impl Flag, value: &str, why: &str) -> String {
    if flag.is_bool() {
        format!("invalid boolean value {value:?} for -{}: {why}", flag.name())
    } else {
        format!("invalid value {value:?} for flag -{}: {why}", flag.name())
    }
}

/// A number as `flag` reads it, with base 0.
///
/// # Errors
/// `parse error`, `value out of range`.
pub fn number<N: TryFrom<i128>>(text: &str) -> Result<N, String> {
    let parsed = match text.strip_prefix('-') {
        Some(digits) => go::parse_uint(digits, 0).map(|magnitude| -i128::from(magnitude)),
        None => go::parse_uint(text.strip_prefix('+').unwrap_or(text), 0).map(i128::from),
    };
    let out_of_range = || "value out of range".to_owned();
    match parsed {
        Ok(number) => N::try_from(number).map_err(|_| out_of_range()),
        Err(why) if why.is_range() => Err(out_of_range()),
        Err(_) => Err("parse error".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `-size N`, `-deep`.
    #[derive(Clone, Copy)]
    enum Known {
        Size,
        Deep,
    }

    impl Flag for Known {
        fn name(&self) -> &'static str {
            match self {
                Self::Size => "size",
                Self::Deep => "deep",
            }
        }

        fn is_bool(&self) -> bool {
            matches!(self, Self::Deep)
        }

        fn check(&self, value: &str) -> Result<(), String> {
            match self {
                Self::Size => number::<u8>(value).map(drop),
                Self::Deep => go::parse_bool(value).map(drop).map_err(|_| "parse error".to_owned()),
            }
        }
    }

    fn parse_line(line: &str) -> String {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let known = |name: &str| [Known::Size, Known::Deep].into_iter().find(|f| f.name() == name);
        match parse(&arguments, known) {
            Ok(parsed) => format!("{:?} {:?}", parsed.values, parsed.rest),
            Err(UsageError::Help) => "help".to_owned(),
            Err(UsageError::Message(text)) => text,
        }
    }

    #[test]
    fn go_syntax() {
        for (line, expected) in [
            ("--size 1 -deep=f", r#"[("size", "1"), ("deep", "f")] []"#),
            ("-deep --size=2", r#"[("deep", "true"), ("size", "2")] []"#),
            ("--size 1 foo --size 2", r#"[("size", "1")] ["foo", "--size", "2"]"#),
            ("--size 1 -- -x", r#"[("size", "1")] ["-x"]"#),
            ("--size 1 -", r#"[("size", "1")] ["-"]"#),
            ("--nope", "flag provided but not defined: -nope"),
            ("--size", "flag needs an argument: -size"),
            ("---size", "bad flag syntax: ---size"),
            ("-=", "bad flag syntax: -="),
            ("-h", "help"),
            ("--deep=maybe", "invalid boolean value \"maybe\" for -deep: parse error"),
            ("--size=-1", "invalid value \"-1\" for flag -size: value out of range"),
            ("--size=many", "invalid value \"many\" for flag -size: parse error"),
        ] {
            assert_eq!(parse_line(line), expected, "{line}");
        }
    }

    #[test]
    fn the_last_value_counts() {
        let line = ["-size=1", "-size=2"].map(str::to_owned);
        let parsed = parse(&line, |_| Some(Known::Size)).expect("two flags");
        assert_eq!(parsed.value("size"), Some("2"));
        assert_eq!(parsed.value("deep"), None);
    }

    #[test]
    fn go_numbers() {
        let (range, parse) = (Err("value out of range".to_owned()), Err("parse error".to_owned()));
        for (text, expected) in [
            ("0", Ok(0)),
            ("12", Ok(12)),
            ("+12", Ok(12)),
            ("017", Ok(15)),
            ("0o17", Ok(15)),
            ("0X1f", Ok(31)),
            ("0b101", Ok(5)),
            ("1_000", Ok(1000)),
            ("0x_1f", Ok(31)),
            ("-1", range.clone()),
            ("18446744073709551616", range.clone()),
            ("99999999999999999999999999999999999999999999", range),
            ("", parse.clone()),
            ("08", parse.clone()),
            ("1__0", parse.clone()),
            ("1_", parse.clone()),
            ("0x", parse.clone()),
            ("+-1", parse.clone()),
            ("é", parse),
        ] {
            assert_eq!(number::<u64>(text), expected, "{text}");
        }
    }
}
