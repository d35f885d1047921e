//! What one side made of one frame, in a form that can be compared.

use std::fmt::Write as _;

use crate::frame::{self, ACK, Frame};

/// What a record of [`Step::facts`] says.
pub(crate) const HEAD: u8 = b'H';
pub(crate) const HEAD_END: u8 = b'h';
pub(crate) const BODY: u8 = b'D';
pub(crate) const END: u8 = b'E';
pub(crate) const TRAILERS: u8 = b'T';
pub(crate) const RESET: u8 = b'R';

/// What came of one frame.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// What the application was told, as records: what, stream, length, bytes.
    pub(crate) facts: Vec<u8>,
    /// `:scheme`, which h2 tells of only beside an `:authority`.
    pub(crate) scheme: Option<Vec<u8>>,
    /// A stream was given up for the peer's fault: its number and the code.
    pub(crate) failed: Option<(u32, u32)>,
    /// The connection was: with which code, and why.
    pub(crate) dead: Option<(u32, &'static str)>,
    /// The connection came to its end without an error.
    pub(crate) closed: bool,
    /// Acknowledgements of SETTINGS and PING that were written.
    pub(crate) acks: (u32, u32),
    /// Where the last record begins.
    last: usize,
}

impl Step {
    pub(crate) fn clear(&mut self) {
        self.facts.clear();
        self.scheme = None;
        self.failed = None;
        self.dead = None;
        self.closed = false;
        self.acks = (0, 0);
        self.last = 0;
    }

    /// Appends a record, whose bytes `fill` appends.
    pub(crate) fn tell(&mut self, what: u8, stream: u32, fill: impl FnOnce(&mut Vec<u8>)) {
        self.last = self.facts.len();
        self.facts.push(what);
        self.facts.extend_from_slice(&stream.to_be_bytes());
        self.facts.extend_from_slice(&[0; 4]);
        fill(&mut self.facts);
        self.fix_length();
    }

    /// A piece of a body: those of one frame are one record.
    pub(crate) fn tell_body(&mut self, stream: u32, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let [a, b, c, d] = stream.to_be_bytes();
        if self.facts.get(self.last..self.last + 5) == Some(&[BODY, a, b, c, d]) {
            self.facts.extend_from_slice(data);
            self.fix_length();
        } else {
            self.tell(BODY, stream, |out| out.extend_from_slice(data));
        }
    }

    fn fix_length(&mut self) {
        let length = (self.facts.len() - self.last - 9) as u32;
        self.facts[self.last + 5..self.last + 9].copy_from_slice(&length.to_be_bytes());
    }

    /// The records.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u8, u32, &[u8])> {
        let mut rest = &self.facts[..];
        std::iter::from_fn(move || {
            let (&[what, a, b, c, d, e, f, g, h], after) = rest.split_first_chunk()?;
            let (bytes, after) = after.split_at(u32::from_be_bytes([e, f, g, h]) as usize);
            rest = after;
            Some((what, u32::from_be_bytes([a, b, c, d]), bytes))
        })
    }

    /// Takes in what the side wrote. `gone` are the streams that a reset says nothing new of.
    pub(crate) fn read_output(&mut self, written: &[u8], gone: &[u32]) {
        let mut rest = written;
        while let Some(frame) = frame::next(&mut rest) {
            match frame.kind {
                // Without an error: the stream is done, and more of it is not wanted.
                frame::RST_STREAM if frame.number(0) != 0 && !gone.contains(&frame.stream) => {
                    self.failed.get_or_insert((frame.stream, frame.number(0)));
                }
                frame::GOAWAY if frame.number(4) != 0 => {
                    self.dead.get_or_insert((frame.number(4), "told"));
                }
                frame::SETTINGS if frame.has(ACK) => self.acks.0 += 1,
                frame::PING if frame.has(ACK) => self.acks.1 += 1,
                _ => {}
            }
        }
    }

    /// An error outweighs what came before it, out of the same frame.
    pub(crate) fn settle(&mut self) {
        if self.dead.is_some() || self.failed.is_some() {
            self.facts.clear();
            self.scheme = None;
        }
        if self.dead.is_some() {
            self.failed = None;
            self.closed = false;
            self.acks = (0, 0);
        }
    }

    pub(crate) fn is_error(&self) -> bool {
        self.dead.is_some() || self.failed.is_some()
    }

    /// Whether two sides made the same of a frame. Codes of errors may differ.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same_scheme = match (&self.scheme, &other.scheme) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.dead.is_some() == other.dead.is_some()
            && self.failed.map(|(stream, _)| stream) == other.failed.map(|(stream, _)| stream)
            && self.closed == other.closed
            && self.acks == other.acks
            && self.facts == other.facts
            && same_scheme
    }

    /// For people.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for (what, stream, bytes) in self.records() {
            let _ = write!(
                text,
                "{} {stream} {:?}; ",
                char::from(what),
                String::from_utf8_lossy(bytes)
            );
        }
        if let Some(scheme) = &self.scheme {
            let _ = write!(text, "scheme {:?}; ", String::from_utf8_lossy(scheme));
        }
        if let Some((stream, code)) = self.failed {
            let _ = write!(text, "stream {stream} failed with {code}; ");
        }
        if let Some((code, why)) = self.dead {
            let _ = write!(text, "connection failed with {code} ({why}); ");
        }
        if self.closed {
            text.push_str("closed; ");
        }
        if self.acks != (0, 0) {
            let _ = write!(text, "acknowledged {:?}; ", self.acks);
        }
        text
    }
}

/// Appends a text and its end.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

/// The texts of a record.
pub(crate) fn texts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.strip_suffix(&[0]).into_iter().flat_map(|bytes| bytes.split(|byte| *byte == 0))
}

/// The frame in words, for people.
pub(crate) fn render_frame(frame: &Frame<'_>) -> String {
    let hex: String = frame.payload.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("kind {} flags {:#x} stream {} payload {hex}", frame.kind, frame.flags, frame.stream)
}
