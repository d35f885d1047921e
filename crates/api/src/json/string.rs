//! JSON's strings.

use std::fmt::Write as _;

/// Why a string is none, in the words of Go's `protojson`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// The text ends inside it.
    Ends,
    /// Something else.
    Syntax(String),
}

/// Reads the string at the start of `text`, quotes included; also returns how many bytes it takes.
pub(super) fn read(text: &[u8]) -> Result<(String, usize), Bad> {
    let mut out = String::new();
    let mut at = 1;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        let (chunk, rest) = rest.split_at(plain.unwrap_or(rest.len()));
        let chunk = std::str::from_utf8(chunk)
            .map_err(|_| Bad::Syntax("invalid UTF-8 in string".to_owned()))?;
        out.push_str(chunk);
        at += chunk.len();
        match rest.first() {
            None => return Err(Bad::Ends),
            Some(b'"') => return Ok((out, at + 1)),
            Some(b'\\') => at += escape(rest, &mut out)?,
            Some(byte) => {
                let what = format!("invalid character {:?} in string", char::from(*byte));
                return Err(Bad::Syntax(what));
            }
        }
    }
}

/// Undoes the escape at the start of `text`; returns how many bytes it takes.
fn escape(text: &[u8], out: &mut String) -> Result<usize, Bad> {
    let char = match text.get(1).ok_or(Bad::Ends)? {
        byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(text, out),
        _ => return Err(bad_code(text.get(..2))),
    };
    out.push(char);
    Ok(2)
}

fn unicode(text: &[u8], out: &mut String) -> Result<usize, Bad> {
    let first = text.get(..6).ok_or(Bad::Ends)?;
    let unit = hex(first).ok_or_else(|| bad_code(Some(first)))?;
    if !(0xd800..0xe000).contains(&unit) {
        out.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
        return Ok(6);
    }
    let second = text.get(6..12).ok_or(Bad::Ends)?;
    let low = second.starts_with(b"\\u").then(|| hex(second)).flatten();
    let (high, low) = match low {
        Some(low) if unit < 0xdc00 && (0xdc00..0xe000).contains(&low) => (unit, low),
        _ => return Err(bad_code(Some(second))),
    };
    let point = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    out.push(char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER));
    Ok(12)
}

/// The digits of `\uXXXX`.
fn hex(text: &[u8]) -> Option<u32> {
    let digits = text.get(2..)?;
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

fn bad_code(code: Option<&[u8]>) -> Bad {
    let code = crate::error::transport::quote(code.unwrap_or_default());
    Bad::Syntax(format!("invalid escape code {code} in string"))
}

/// Appends a string in quotes; with `for_html` as Go's `encoding/json` writes it, safe inside HTML.
pub(super) fn write(text: &str, for_html: bool, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..' ' => escaped(char, out),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if for_html => escaped(char, out),
            char => out.push(char),
        }
    }
    out.push('"');
}

fn escaped(char: char, out: &mut String) {
    let _ = write!(out, "\\u{:04x}", u32::from(char));
}
