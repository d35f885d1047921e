//! The format of a script: `command arg key=value key=(value, value)`, input lines, `----`, expected output up to
//! a blank line. Output that has blank lines itself stands between two doubled `----`.

use super::{Failure, Mismatch};

/// A command with what it is given and what it must print.
#[derive(Debug, Default)]
pub(super) struct Directive {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) command: String,
    pub(super) args: Vec<Arg>,
    pub(super) input: String,
    pub(super) expected: String,
}

/// An argument; a lone word has no values.
#[derive(Debug)]
pub(super) struct Arg {
    pub(super) key: String,
    pub(super) values: Vec<String>,
}

impl Directive {
    pub(super) fn mismatch(&self, actual: String) -> Box<Mismatch> {
        Box::new(Mismatch {
            line: self.line,
            command: self.text.clone(),
            expected: self.expected.clone(),
            actual,
        })
    }

    /// The `at`th argument, a lone word.
    pub(super) fn word(&self, at: usize) -> Result<&str, Failure> {
        let arg = self.args.get(at).ok_or_else(|| Failure::fatal("missing argument"))?;
        Ok(&arg.key)
    }

    /// All lone words as member ids.
    pub(super) fn ids(&self) -> Result<Vec<u64>, Failure> {
        self.args
            .iter()
            .filter(|arg| arg.values.is_empty())
            .map(|arg| parse_number(&arg.key))
            .collect()
    }

    /// The single value of the argument `key`.
    pub(super) fn value(&self, key: &str) -> Result<&str, Failure> {
        let arg = self.args.iter().find(|arg| arg.key == key);
        match arg.map(|arg| &arg.values[..]) {
            Some([value]) => Ok(value),
            _ => Err(Failure::fatal(format!("{key}: not one value"))),
        }
    }

    /// Each value with its key.
    pub(super) fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.args
            .iter()
            .flat_map(|arg| arg.values.iter().map(move |value| (arg.key.as_str(), value.as_str())))
    }
}

/// A number in a script.
pub(super) fn parse_number<T: std::str::FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::fatal(format!("cannot parse {text:?}")))
}

/// A truth value as Go spells it.
pub(super) fn parse_bool(text: &str) -> Result<bool, Failure> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Failure::fatal(format!("cannot parse {text:?}"))),
    }
}

/// Splits a script into its commands.
pub(super) fn parse(text: &str) -> Result<Vec<Directive>, Box<Mismatch>> {
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let mut directives = Vec::new();
    while let Some((number, line)) = lines.next() {
        let mut line = line.trim().to_owned();
        if line.starts_with('#') {
            continue;
        }
        while line.ends_with('\\') {
            line.pop();
            let Some((_, next)) = lines.next() else { break };
            line.push(' ');
            line.push_str(next.trim());
        }
        let mut directive = Directive { line: number, ..Directive::default() };
        if parse_line(&line, &mut directive).is_none() {
            directive.text = line;
            return Err(directive.mismatch("(cannot parse directive)".to_owned()));
        }
        directive.text = line;
        // a subtest has neither input nor output
        if directive.command.is_empty() || directive.command == "subtest" {
            continue;
        }
        let mut lines = lines.by_ref().map(|(_, line)| line);
        let input: Vec<_> = lines.by_ref().take_while(|&line| line != "----").collect();
        directive.input = input.join("\n").trim().to_owned();
        directive.expected = read_expected(&mut lines);
        directives.push(directive);
    }
    Ok(directives)
}

fn read_expected<'a>(lines: &mut impl Iterator<Item = &'a str>) -> String {
    let mut expected = String::new();
    let mut push = |line: &str| {
        expected.push_str(line);
        expected.push('\n');
    };
    let Some(first) = lines.next() else { return expected };
    if first != "----" {
        let rest = std::iter::once(first).chain(lines);
        rest.take_while(|line| !line.trim().is_empty()).for_each(push);
        return expected;
    }
    while let Some(line) = lines.next() {
        if line != "----" {
            push(line);
            continue;
        }
        match lines.next() {
            Some("----") | None => break,
            Some(next) => {
                push(line);
                push(next);
            }
        }
    }
    expected
}

/// `None` when the line is malformed.
fn parse_line(line: &str, directive: &mut Directive) -> Option<()> {
    let (command, mut rest) = split_before(line, &[' ']);
    directive.command = command.to_owned();
    rest = rest.trim();
    while !rest.is_empty() {
        let (key, after) = split_before(rest, &[' ', '=']);
        if key.is_empty() {
            return None;
        }
        rest = after;
        let mut values = Vec::new();
        if let Some(after) = rest.strip_prefix('=') {
            if let Some(list) = after.strip_prefix('(') {
                rest = parse_list(list, &mut values)?;
            } else {
                let (value, after) = split_before(after, &[' ']);
                values.push(value.to_owned());
                rest = after;
            }
        }
        directive.args.push(Arg { key: key.to_owned(), values });
        rest = rest.trim();
    }
    Some(())
}

fn split_before<'a>(text: &'a str, stops: &[char]) -> (&'a str, &'a str) {
    text.split_at(text.find(stops).unwrap_or(text.len()))
}

/// Values up to the closing parenthesis, split at commas outside of inner ones. Returns what follows.
fn parse_list<'a>(list: &'a str, values: &mut Vec<String>) -> Option<&'a str> {
    let (mut start, mut depth) = (0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            ')' | ',' if depth == 0 => {
                values.push(list[start..at].trim().to_owned());
                start = at + 1;
                if c == ')' {
                    return Some(&list[start..]);
                }
            }
            _ => {}
        }
    }
    None
}
