//! A JSON value as a message's bytes.

use super::string::{self, Bad};
use super::{Error, MESSAGE_DEPTH_MAX, VALUE_DEPTH_MAX, base64, number};
use crate::schema::{Field, Kind, Message};

/// The bytes of the message that `text`, one whole value, stands for.
///
/// # Errors
/// What Go's `protojson` says, and [`Error::TooDeep`] where it would go deeper.
pub fn decode(message: &Message, text: &[u8]) -> Result<Vec<u8>, Error> {
    let mut decoder = Decoder { text, at: 0, out: Vec::new(), marks: Vec::new(), extra: 0 };
    decoder.message(message, MESSAGE_DEPTH_MAX)?;
    if decoder.peek().is_some() {
        return Err(decoder.unexpected());
    }
    Ok(decoder.assemble())
}

/// Where the length of something belongs, and which.
struct Mark {
    at: usize,
    len: usize,
}

struct Decoder<'a> {
    text: &'a [u8],
    at: usize,
    /// The message without lengths, which are known only at the end of what they stand before.
    out: Vec<u8>,
    /// In the order of their places.
    marks: Vec<Mark>,
    /// Bytes of all lengths that are known.
    extra: usize,
}

impl Decoder<'_> {
    fn message(&mut self, message: &Message, depth: usize) -> Result<(), Error> {
        let depth = depth.checked_sub(1).ok_or(Error::TooDeep)?;
        if self.peek() != Some(b'{') {
            return Err(self.unexpected());
        }
        self.at += 1;
        let mut seen: u64 = 0;
        let mut chosen: Vec<&str> = Vec::new();
        let mut is_first = true;
        while self.has_next(b'}', &mut is_first)? {
            let (start, name) = self.name()?;
            let find = |name_of: fn(&Field) -> &str| {
                message.fields.iter().position(|field| name_of(field) == name)
            };
            let index = find(|field| field.json_name).or_else(|| find(|field| field.name));
            let Some((index, field)) = index.and_then(|at| Some((at, message.fields.get(at)?)))
            else {
                self.skip()?;
                continue;
            };
            let bit = 1_u64.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
            if seen & bit != 0 {
                return Err(self.error(start, &format!("duplicate field {}", self.raw(start))));
            }
            seen |= bit;
            if self.peek() == Some(b'n') {
                self.skip()?;
                continue;
            }
            if let Some(oneof) = field.oneof {
                if chosen.contains(&oneof) {
                    let raw = self.raw(start);
                    let what = format!("error parsing {raw}, oneof {oneof} is already set");
                    return Err(self.error(start, &what));
                }
                chosen.push(oneof);
            }
            if field.is_list { self.list(field, depth)? } else { self.value(field, depth)? }
        }
        Ok(())
    }

    fn list(&mut self, field: &Field, depth: usize) -> Result<(), Error> {
        if self.peek() != Some(b'[') {
            return Err(self.unexpected());
        }
        self.at += 1;
        let mut is_first = true;
        while self.has_next(b']', &mut is_first)? {
            self.value(field, depth)?;
        }
        Ok(())
    }

    fn value(&mut self, field: &Field, depth: usize) -> Result<(), Error> {
        if let Kind::Message(message) = field.kind {
            self.tag(field.number, 2);
            let mark = self.open();
            self.message(message, depth)?;
            self.close(mark);
            return Ok(());
        }
        self.peek();
        let start = self.at;
        // Zero is the default, and not written but in a list or a choice.
        let is_explicit = field.is_list || field.oneof.is_some();
        if self.scalar(field, is_explicit)?.is_none() {
            self.at = start;
            let (kind, name, raw) = (field.kind.name(), field.json_name, self.raw(start));
            let what = format!("invalid value for {kind} field {name}: {raw}");
            return Err(self.error(start, &what));
        }
        Ok(())
    }

    /// Reads a value that is no message; `None` if it does not fit.
    fn scalar(&mut self, field: &Field, is_explicit: bool) -> Result<Option<()>, Error> {
        let int = |value: i128| -> Option<u64> {
            Some(match field.kind {
                Kind::Int32 => i64::from(i32::try_from(value).ok()?).cast_unsigned(),
                Kind::Int64 => i64::try_from(value).ok()?.cast_unsigned(),
                Kind::Uint32 => u64::from(u32::try_from(value).ok()?),
                _ => u64::try_from(value).ok()?,
            })
        };
        let varint = match (field.kind, self.peek()) {
            (Kind::Bool, Some(b't')) => Some(1),
            (Kind::Bool, Some(b'f')) => Some(0),
            (Kind::Bytes, Some(b'"')) => {
                let text = self.string()?;
                if text.is_empty() && !is_explicit {
                    return Ok(Some(()));
                }
                self.tag(field.number, 2);
                let mark = self.open();
                let decoded = base64::decode(&text, &mut self.out);
                self.close(mark);
                return Ok(decoded);
            }
            (Kind::String, Some(b'"')) => {
                let text = self.string()?;
                if !text.is_empty() || is_explicit {
                    self.tag(field.number, 2);
                    let mark = self.open();
                    self.out.extend_from_slice(text.as_bytes());
                    self.close(mark);
                }
                return Ok(Some(()));
            }
            (Kind::Enum(values), Some(b'"')) => {
                let name = self.string()?;
                match values.values.iter().find(|(known, _)| *known == name) {
                    Some((_, number)) => Some(i64::from(*number).cast_unsigned()),
                    // Ignored, as unknown fields are.
                    None => return Ok(Some(())),
                }
            }
            (Kind::Enum(_), Some(b'-' | b'0'..=b'9')) => self
                .number()
                .and_then(|value| i32::try_from(value).ok())
                .map(|value| i64::from(value).cast_unsigned()),
            (Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64, Some(b'"')) => {
                let text = self.string()?;
                let is_trimmed = text.trim().len() == text.len();
                let text = text.as_bytes();
                let number = number::len(text).and_then(|len| text.get(..len));
                number.filter(|_| is_trimmed).and_then(number::integer).and_then(int)
            }
            (Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64, Some(b'-' | b'0'..=b'9')) => {
                self.number().and_then(int)
            }
            _ => None,
        };
        let Some(varint) = varint else { return Ok(None) };
        if matches!(field.kind, Kind::Bool) {
            self.skip()?;
        }
        if varint != 0 || is_explicit {
            self.tag(field.number, 0);
            self.varint(varint);
        }
        Ok(Some(()))
    }

    fn number(&mut self) -> Option<i128> {
        let rest = self.text.get(self.at..)?;
        let len = number::len(rest)?;
        self.at += len;
        number::integer(rest.get(..len)?)
    }

    /// Skips a value of any kind, without recursion.
    fn skip(&mut self) -> Result<(), Error> {
        let mut open = 0_usize;
        loop {
            match self.peek() {
                None => return Err(Error::UnexpectedEnd),
                Some(b'{' | b'[') => {
                    open += 1;
                    self.at += 1;
                    if open > VALUE_DEPTH_MAX {
                        return Err(Error::TooDeep);
                    }
                }
                Some(b'}' | b']') => {
                    open = open.checked_sub(1).ok_or_else(|| self.unexpected())?;
                    self.at += 1;
                }
                Some(b'"') => {
                    self.string()?;
                }
                Some(b',' | b':') if open > 0 => {
                    self.at += 1;
                    continue;
                }
                Some(_) => self.at += self.word_len(),
            }
            if open == 0 {
                return Ok(());
            }
        }
    }

    /// Length of the word or number here, at least 1.
    fn word_len(&self) -> usize {
        let rest = self.text.get(self.at..).unwrap_or_default();
        rest.iter().take_while(|byte| number::is_word(**byte)).count().max(1)
    }

    /// Whether there is another member or element; takes what stands between.
    fn has_next(&mut self, close: u8, is_first: &mut bool) -> Result<bool, Error> {
        let is_first = std::mem::take(is_first);
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !is_first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if is_first => Ok(true),
            None => Err(Error::Invalid(UNEXPECTED_END.to_owned())),
            Some(_) => Err(self.unexpected()),
        }
    }

    /// A member's name and where it stands; takes the colon behind it.
    fn name(&mut self) -> Result<(usize, String), Error> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected());
        }
        let start = self.at;
        let name = self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok((start, name))
    }

    fn string(&mut self) -> Result<String, Error> {
        match string::read(self.text.get(self.at..).unwrap_or_default()) {
            Ok((string, len)) => {
                self.at += len;
                Ok(string)
            }
            Err(Bad::Ends) => Err(Error::Invalid(UNEXPECTED_END.to_owned())),
            Err(Bad::Syntax(what)) => Err(self.syntax(self.at, &what)),
        }
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// The token at a place, as it stands in the text.
    fn raw(&self, at: usize) -> String {
        let rest = self.text.get(at..).unwrap_or_default();
        let len = match rest.first() {
            Some(b'"') => string::read(rest).map_or(1, |(_, len)| len),
            Some(byte) if number::is_word(*byte) => {
                rest.iter().take_while(|byte| number::is_word(**byte)).count()
            }
            _ => 1,
        };
        String::from_utf8_lossy(rest.get(..len).unwrap_or_default()).into_owned()
    }

    fn unexpected(&mut self) -> Error {
        match self.peek() {
            None => Error::Invalid(UNEXPECTED_END.to_owned()),
            Some(_) => self.syntax(self.at, &format!("unexpected token {}", self.raw(self.at))),
        }
    }

    fn syntax(&self, at: usize, what: &str) -> Error {
        let (line, column) = self.position(at);
        Error::Invalid(format!("proto: syntax error (line {line}:{column}): {what}"))
    }

    fn error(&self, at: usize, what: &str) -> Error {
        let (line, column) = self.position(at);
        Error::Invalid(format!("proto: (line {line}:{column}): {what}"))
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let column = String::from_utf8_lossy(before.get(start..).unwrap_or_default());
        (line, column.chars().count() + 1)
    }

    fn tag(&mut self, number: u32, wire_type: u64) {
        self.varint(u64::from(number) << 3 | wire_type);
    }

    fn varint(&mut self, value: u64) {
        push_varint(&mut self.out, value);
    }

    /// Leaves a place for a length.
    fn open(&mut self) -> (usize, usize) {
        self.marks.push(Mark { at: self.out.len(), len: 0 });
        (self.marks.len() - 1, self.extra)
    }

    /// Everything since then is what the length is of.
    fn close(&mut self, (mark, extra): (usize, usize)) {
        let Some(mark) = self.marks.get_mut(mark) else { return };
        mark.len = self.out.len() - mark.at + (self.extra - extra);
        self.extra += varint_len(mark.len);
    }

    fn assemble(self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.out.len() + self.extra);
        let mut from = 0;
        for Mark { at, len } in self.marks {
            whole.extend_from_slice(self.out.get(from..at).unwrap_or_default());
            push_varint(&mut whole, len as u64);
            from = at;
        }
        whole.extend_from_slice(self.out.get(from..).unwrap_or_default());
        whole
    }
}

const UNEXPECTED_END: &str = "proto: unexpected EOF";

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: usize) -> usize {
    let mut len = Vec::new();
    push_varint(&mut len, value as u64);
    len.len()
}
