//! Cuts a text that arrives in pieces into JSON values, and says what Go's `encoding/json` says where it is none.

use super::{Error, VALUE_DEPTH_MAX};

/// Values, one after another.
#[derive(Debug)]
pub struct Values {
    buffer: Vec<u8>,
    /// Bytes of the buffer that the scanner has seen.
    seen: usize,
    scanner: Scanner,
    max: usize,
}

impl Values {
    /// Values of at most `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { buffer: Vec::new(), seen: 0, scanner: Scanner::default(), max }
    }

    /// Takes a piece of the text.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next value that is there in full, without space around it.
    ///
    /// # Errors
    /// What is wrong with the text. There is nothing more to be had from it then.
    pub fn next_value(&mut self) -> Result<Option<Vec<u8>>, Error> {
        while let Some(byte) = self.buffer.get(self.seen) {
            match self.scanner.step(*byte)? {
                Step::More => self.seen += 1,
                Step::Last => {
                    self.seen += 1;
                    return Ok(Some(self.cut()));
                }
                Step::Before => return Ok(Some(self.cut())),
            }
            if self.seen > self.max {
                return Err(Error::TooLarge(self.max));
            }
        }
        if self.scanner.is_outside() {
            // Space before a value need not be kept.
            self.buffer.clear();
            self.seen = 0;
        }
        Ok(None)
    }

    /// The last value, when the text is over; `None`: there was nothing but space.
    ///
    /// # Errors
    /// As [`Values::next_value`], and if the text ends inside a value.
    pub fn finish(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if let Some(value) = self.next_value()? {
            return Ok(Some(value));
        }
        if self.scanner.is_outside() {
            return Ok(None);
        }
        match self.scanner.step(b' ') {
            Ok(Step::Before) => Ok(Some(self.cut())),
            _ => Err(Error::UnexpectedEnd),
        }
    }

    fn cut(&mut self) -> Vec<u8> {
        let rest = self.buffer.split_off(self.seen);
        let value = std::mem::replace(&mut self.buffer, rest);
        self.seen = 0;
        self.scanner = Scanner::default();
        value.trim_ascii_start().to_vec()
    }
}

/// What a byte means for the value.
#[derive(Debug)]
enum Step {
    /// It is part of it.
    More,
    /// It is the last of it.
    Last,
    /// It is not part of it any more.
    Before,
}

/// What a value is inside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Key,
    Member,
    Array,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum State {
    #[default]
    BeginValue,
    BeginValueOrEmpty,
    BeginKey,
    BeginKeyOrEmpty,
    EndValue,
    InString,
    Escape,
    /// So many hex digits are missing.
    Unicode(u8),
    Minus,
    Digits,
    Zero,
    Dot,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// A literal of which so many letters were read.
    Literal(&'static str, usize),
}

#[derive(Debug, Default)]
struct Scanner {
    state: State,
    stack: Vec<Inside>,
}

impl Scanner {
    /// Whether nothing of a value was seen.
    fn is_outside(&self) -> bool {
        self.state == State::BeginValue && self.stack.is_empty()
    }

    fn go(&mut self, state: State) -> Result<Step, Error> {
        self.state = state;
        Ok(Step::More)
    }

    fn step(&mut self, byte: u8) -> Result<Step, Error> {
        use State as S;
        match (self.state, byte) {
            (S::BeginValue | S::BeginValueOrEmpty | S::BeginKey | S::BeginKeyOrEmpty, byte)
                if is_space(byte) =>
            {
                Ok(Step::More)
            }
            (S::BeginValueOrEmpty, b']') => self.end_value(byte),
            (S::BeginValue | S::BeginValueOrEmpty, _) => self.begin_value(byte),
            (S::BeginKeyOrEmpty, b'}') => {
                if let Some(top) = self.stack.last_mut() {
                    *top = Inside::Member;
                }
                self.end_value(byte)
            }
            (S::BeginKey | S::BeginKeyOrEmpty, b'"') => self.go(S::InString),
            (S::BeginKey | S::BeginKeyOrEmpty, _) => {
                Err(invalid(byte, "looking for beginning of object key string"))
            }
            (S::EndValue, _) => self.end_value(byte),
            (S::InString | S::Escape | S::Unicode(_), _) => self.string(byte),
            (S::Literal(word, read), _) => {
                if word.as_bytes().get(read) != Some(&byte) {
                    let expected = word.get(read..=read).unwrap_or_default();
                    let context = format!("in literal {word} (expecting '{expected}')");
                    return Err(invalid(byte, &context));
                }
                let is_whole = read + 1 == word.len();
                self.go(if is_whole { S::EndValue } else { S::Literal(word, read + 1) })
            }
            _ => self.number(byte),
        }
    }

    fn begin_value(&mut self, byte: u8) -> Result<Step, Error> {
        match byte {
            b'{' => self.open(byte, Inside::Key, State::BeginKeyOrEmpty),
            b'[' => self.open(byte, Inside::Array, State::BeginValueOrEmpty),
            b'"' => self.go(State::InString),
            b'-' => self.go(State::Minus),
            b'0' => self.go(State::Zero),
            b'1'..=b'9' => self.go(State::Digits),
            b't' => self.go(State::Literal("true", 1)),
            b'f' => self.go(State::Literal("false", 1)),
            b'n' => self.go(State::Literal("null", 1)),
            _ => Err(invalid(byte, "looking for beginning of value")),
        }
    }

    fn open(&mut self, byte: u8, inside: Inside, state: State) -> Result<Step, Error> {
        self.stack.push(inside);
        if self.stack.len() > VALUE_DEPTH_MAX {
            return Err(invalid(byte, "exceeded max depth"));
        }
        self.go(state)
    }

    fn end_value(&mut self, byte: u8) -> Result<Step, Error> {
        let Some(top) = self.stack.last_mut() else { return Ok(Step::Before) };
        if is_space(byte) {
            return self.go(State::EndValue);
        }
        match (*top, byte) {
            (Inside::Key, b':') => {
                *top = Inside::Member;
                self.go(State::BeginValue)
            }
            (Inside::Member, b',') => {
                *top = Inside::Key;
                self.go(State::BeginKey)
            }
            (Inside::Array, b',') => self.go(State::BeginValue),
            (Inside::Member, b'}') | (Inside::Array, b']') => {
                self.stack.pop();
                self.state = State::EndValue;
                Ok(if self.stack.is_empty() { Step::Last } else { Step::More })
            }
            (Inside::Key, _) => Err(invalid(byte, "after object key")),
            (Inside::Member, _) => Err(invalid(byte, "after object key:value pair")),
            (Inside::Array, _) => Err(invalid(byte, "after array element")),
        }
    }

    fn string(&mut self, byte: u8) -> Result<Step, Error> {
        match (self.state, byte) {
            (State::InString, b'"') => self.go(State::EndValue),
            (State::InString, b'\\') => self.go(State::Escape),
            (State::InString, 0..0x20) => Err(invalid(byte, "in string literal")),
            (State::InString, _) => Ok(Step::More),
            (State::Escape, b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => {
                self.go(State::InString)
            }
            (State::Escape, b'u') => self.go(State::Unicode(4)),
            (State::Unicode(1), _) if byte.is_ascii_hexdigit() => self.go(State::InString),
            (State::Unicode(left), _) if byte.is_ascii_hexdigit() => {
                self.go(State::Unicode(left.saturating_sub(1)))
            }
            (State::Unicode(_), _) => Err(invalid(byte, "in \\u hexadecimal character escape")),
            _ => Err(invalid(byte, "in string escape code")),
        }
    }

    fn number(&mut self, byte: u8) -> Result<Step, Error> {
        use State as S;
        match (self.state, byte) {
            (S::Minus, b'0') => self.go(S::Zero),
            (S::Minus, b'1'..=b'9') => self.go(S::Digits),
            (S::Minus, _) => Err(invalid(byte, "in numeric literal")),
            (S::Digits, b'0'..=b'9') => Ok(Step::More),
            (S::Digits | S::Zero, b'.') => self.go(S::Dot),
            (S::Digits | S::Zero | S::Fraction, b'e' | b'E') => self.go(S::Exponent),
            (S::Dot | S::Fraction, b'0'..=b'9') => self.go(S::Fraction),
            (S::Dot, _) => Err(invalid(byte, "after decimal point in numeric literal")),
            (S::Exponent, b'+' | b'-') => self.go(S::ExponentSign),
            (S::Exponent | S::ExponentSign | S::ExponentDigits, b'0'..=b'9') => {
                self.go(S::ExponentDigits)
            }
            (S::Exponent | S::ExponentSign, _) => {
                Err(invalid(byte, "in exponent of numeric literal"))
            }
            _ => self.end_value(byte),
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A byte at which a text is wrong, as Go quotes it.
fn invalid(byte: u8, context: &str) -> Error {
    let quoted = match byte {
        b'\'' => r"\'".to_owned(),
        b'"' => "\"".to_owned(),
        b'\\' => r"\\".to_owned(),
        0x07 => r"\a".to_owned(),
        0x08 => r"\b".to_owned(),
        0x0c => r"\f".to_owned(),
        b'\n' => r"\n".to_owned(),
        b'\r' => r"\r".to_owned(),
        b'\t' => r"\t".to_owned(),
        0x0b => r"\v".to_owned(),
        0..0x20 | 0x7f => format!("\\x{byte:02x}"),
        0x80..0xa1 | 0xad => format!("\\u{byte:04x}"),
        _ => char::from(byte).to_string(),
    };
    Error::Invalid(format!("invalid character '{quoted}' {context}"))
}
