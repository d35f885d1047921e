//! Lines that are typed at a transaction or a watch: words, quoted text, and conditions.

use crate::exit::{Exit, INVALID_INPUT};

/// Splits a line into words. One in quotes may have blanks in it; what is in double quotes is read as Go reads it.
///
/// # Errors
/// Text in double quotes that Go does not take.
pub(crate) fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Exit> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(rest) = line.get(at..).filter(|rest| !rest.is_empty()) {
        let length = match rest {
            [b'"', ..] => double_quoted(rest),
            [b'\'', behind @ ..] => behind.iter().position(|&b| b == b'\'').map(|end| end + 2),
            [first, ..] if is_blank(*first) => None,
            _ => Some(rest.iter().position(|&b| is_blank(b)).unwrap_or(rest.len())),
        };
        let Some(length) = length else {
            at += 1;
            continue;
        };
        let word = &rest[..length];
        words.push(match word {
            [b'\'', text @ .., b'\''] => text.to_vec(),
            [b'"', ..] => {
                unquote(word).ok_or_else(|| Exit::new(INVALID_INPUT, "invalid syntax"))?
            }
            word => word.to_vec(),
        });
        at += length;
    }
    Ok(words)
}

pub(crate) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c')
}

/// The length of the text in double quotes that stands at the beginning, with its quotes.
fn double_quoted(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            // A line's end is no character that may be escaped.
            b'\\' => at += 1 + usize::from(*text.get(at + 1)? != b'\n'),
            _ => at += 1,
        }
    }
}

/// What stands in double quotes, as `strconv.Unquote` reads it.
fn unquote(word: &[u8]) -> Option<Vec<u8>> {
    let mut rest = word.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut out = Vec::with_capacity(rest.len());
    while let [first, behind @ ..] = rest {
        match first {
            b'\n' | b'"' => return None,
            b'\\' => rest = escape(behind, &mut out)?,
            byte => {
                out.push(*byte);
                rest = behind;
            }
        }
    }
    Some(out)
}

/// Reads what follows a backslash; gives what is behind it.
fn escape<'t>(text: &'t [u8], out: &mut Vec<u8>) -> Option<&'t [u8]> {
    let (&kind, behind) = text.split_first()?;
    let simple = match kind {
        b'a' => Some(7),
        b'b' => Some(8),
        b'f' => Some(12),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'v' => Some(11),
        b'\\' | b'"' => Some(kind),
        _ => None,
    };
    if let Some(byte) = simple {
        out.push(byte);
        return Some(behind);
    }
    let number =
        |text: &[u8], base| u32::from_str_radix(std::str::from_utf8(text).ok()?, base).ok();
    match kind {
        b'0'..=b'7' => {
            let value = number(text.get(..3)?, 8)?;
            out.push(u8::try_from(value).ok()?);
            text.get(3..)
        }
        b'x' => {
            let digits =
                behind.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            out.push(u8::try_from(number(digits, 16)?).ok()?);
            behind.get(2..)
        }
        b'u' | b'U' => {
            let count = if kind == b'u' { 4 } else { 8 };
            let digits =
                behind.get(..count).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            let c = char::from_u32(number(digits, 16)?)?;
            out.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
            behind.get(count..)
        }
        _ => None,
    }
}

/// A condition as it is typed: `mod("key") > "0"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) target: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) operator: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Reads a condition. The error is the sentence.
pub(crate) fn condition(line: &[u8]) -> Result<Condition, String> {
    let shown = String::from_utf8_lossy(line);
    let Some(at) = line.iter().position(|&byte| byte == b'(') else {
        return Err(format!("malformed comparison: {shown}"));
    };
    let mut condition = Condition { target: line[..at].to_vec(), ..Condition::default() };
    if scan(&line[at + 1..], &mut condition).is_some() {
        return Ok(condition);
    }
    let quote = cobra::go::quote;
    Err(format!(
        "malformed comparison: {shown}; got {}({}) {} {}",
        String::from_utf8_lossy(&condition.target),
        quote(&condition.key),
        String::from_utf8_lossy(&condition.operator),
        quote(&condition.value)
    ))
}

/// What Go's `Sscanf` does with `%q) %s %q`: blanks may stand before the key, and must before operator and value.
fn scan(text: &[u8], condition: &mut Condition) -> Option<()> {
    let text = quoted(text, &mut condition.key)?;
    let text = text.strip_prefix(b")")?;
    let text = text.first().filter(|&&byte| is_blank(byte)).map(|_| text.trim_ascii_start())?;
    let end = text.iter().position(|&byte| is_blank(byte)).unwrap_or(text.len());
    if end == 0 {
        return None;
    }
    condition.operator = text[..end].to_vec();
    quoted(&text[end..], &mut condition.value).map(drop)
}

/// Reads `"text"` or `` `text` ``; gives what is behind it.
fn quoted<'t>(text: &'t [u8], out: &mut Vec<u8>) -> Option<&'t [u8]> {
    let text = text.trim_ascii_start();
    match text.first()? {
        b'`' => {
            let end = text.iter().skip(1).position(|&byte| byte == b'`')?;
            *out = text[1..=end].to_vec();
            text.get(end + 2..)
        }
        b'"' => {
            let length = double_quoted(text)?;
            *out = unquote(&text[..length])?;
            text.get(length..)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{condition, split};

    #[test]
    fn lines_are_split_as_etcd_does() {
        for (line, expected) in [
            ("put key1 \"overwrote-key1\"", "put|key1|overwrote-key1"),
            ("put 'a b' \"c \\\"d\\\"\"", "put|a b|c \"d\""),
            ("put a\"b c\"d", "put|a\"b|c\"d"),
            ("  get   a  ", "get|a"),
            ("put a \"unfinished b", "put|a|unfinished|b"),
            ("put 'a b", "put|a|b"),
            ("put \"\\x41\\102\\u00e4\" ''", "put|AB\u{e4}|"),
            ("", ""),
        ] {
            let words = split(line.as_bytes()).map(|words| {
                let words: Vec<_> =
                    words.iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect();
                words.join("|")
            });
            assert_eq!(words.as_deref(), Ok(expected), "{line}");
        }
        assert!(split(b"put \"\\q\"").is_err());
        assert!(split(b"put \"\\'\"").is_err());
    }

    #[test]
    fn conditions_have_four_parts() {
        let show = |line: &str| match condition(line.as_bytes()) {
            Ok(found) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                [found.target, found.key, found.operator, found.value]
                    .map(|part| text(&part))
                    .join("|")
            }
            Err(why) => why,
        };
        for (line, expected) in [
            ("mod(\"key1\") > \"0\"", "mod|key1|>|0"),
            ("val( \"a b\")  !=   \"c\" rest", "val|a b|!=|c"),
            ("value(`a`) = \"\"", "value|a|=|"),
            ("mod", "malformed comparison: mod"),
            ("mod(key) > \"0\"", "malformed comparison: mod(key) > \"0\"; got mod(\"\")  \"\""),
            ("mod(\"a\") >", "malformed comparison: mod(\"a\") >; got mod(\"a\") > \"\""),
            ("mod(\"a\")> \"0\"", "malformed comparison: mod(\"a\")> \"0\"; got mod(\"a\")  \"\""),
            ("mod(\"a\") > 0", "malformed comparison: mod(\"a\") > 0; got mod(\"a\") > \"\""),
        ] {
            assert_eq!(show(line), expected, "{line}");
        }
    }
}
