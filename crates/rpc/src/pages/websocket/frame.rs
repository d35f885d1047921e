//! RFC 6455's frames, as a server reads and writes them.

use std::io::{Error, ErrorKind};

pub(super) const TEXT: u8 = 1;
pub(super) const CLOSE: u8 = 8;
pub(super) const PONG: u8 = 10;
/// The longest payload of a frame that is no data.
const CONTROL_MAX: usize = 125;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    /// Text or binary, whole.
    Data,
    Ping,
    Pong,
    Close,
}

/// Makes messages of a client's bytes.
#[derive(Debug)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    /// The fragments of the message that is under way.
    message: Option<Vec<u8>>,
    max: usize,
}

/// A frame's first bytes.
struct Head {
    is_last: bool,
    opcode: u8,
    len: usize,
    mask: [u8; 4],
    /// Bytes of the head itself.
    size: usize,
}

impl Frames {
    /// Messages of at most `max` bytes; `read` was read before.
    pub(super) fn new(max: usize, read: &[u8]) -> Self {
        Self { buffer: read.to_vec(), message: None, max }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message that is there in full.
    pub(super) fn next_message(&mut self) -> Result<Option<(Opcode, Vec<u8>)>, Error> {
        while let Some(head) = self.head()? {
            let end = head.size + head.len;
            if self.buffer.len() < end {
                return Ok(None);
            }
            let rest = self.buffer.split_off(end);
            let mut payload = std::mem::replace(&mut self.buffer, rest).split_off(head.size);
            for (byte, mask) in payload.iter_mut().zip(head.mask.iter().cycle()) {
                *byte ^= mask;
            }
            match head.opcode {
                CLOSE => return Ok(Some((Opcode::Close, payload))),
                PONG => return Ok(Some((Opcode::Pong, payload))),
                9 => return Ok(Some((Opcode::Ping, payload))),
                _ => {}
            }
            let message = self.message.get_or_insert_default();
            message.extend_from_slice(&payload);
            if head.is_last {
                return Ok(Some((Opcode::Data, self.message.take().unwrap_or_default())));
            }
        }
        Ok(None)
    }

    fn head(&self) -> Result<Option<Head>, Error> {
        let Some([first, second, ..]) = self.buffer.first_chunk::<2>() else { return Ok(None) };
        let (is_last, opcode) = (first & 0x80 != 0, first & 0xf);
        if first & 0x70 != 0 {
            return Err(wrong("reserved bits are set"));
        }
        if second & 0x80 == 0 {
            return Err(wrong("a client's frame has no mask"));
        }
        let is_control = matches!(opcode, 8..=10);
        match opcode {
            0 if self.message.is_none() => return Err(wrong("a continuation of nothing")),
            1 | 2 if self.message.is_some() => return Err(wrong("a message inside a message")),
            0..=2 => {}
            8..=10 if !is_last => return Err(wrong("a control frame in pieces")),
            8..=10 => {}
            _ => return Err(wrong("an unknown opcode")),
        }
        let bytes = |at: usize, count: usize| self.buffer.get(at..at + count);
        let big_endian =
            |bytes: &[u8]| bytes.iter().fold(0_u64, |len, byte| len << 8 | u64::from(*byte));
        let extra = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(extended) = bytes(2, extra) else { return Ok(None) };
        let len = if extra == 0 { u64::from(second & 0x7f) } else { big_endian(extended) };
        let held = self.message.as_ref().map_or(0, Vec::len);
        let max = if is_control { CONTROL_MAX } else { self.max.saturating_sub(held) };
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > max {
            return Err(wrong("a frame is too long"));
        }
        let Some(mask) = bytes(2 + extra, 4).and_then(|mask| mask.try_into().ok()) else {
            return Ok(None);
        };
        Ok(Some(Head { is_last, opcode, len, mask, size: 2 + extra + 4 }))
    }
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

/// A whole message, or what is none, in one frame.
pub(super) fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ 0..126), _) => frame.push(len),
        (_, Ok(len)) => {
            frame.push(126);
            frame.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A client's frame.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = encode(0, payload);
        frame[0] = first;
        frame[1] |= 0x80;
        let at = frame.len() - payload.len();
        frame.splice(at..at, [1, 2, 3, 4]);
        for (index, byte) in frame[at + 4..].iter_mut().enumerate() {
            *byte ^= [1, 2, 3, 4][index % 4];
        }
        frame
    }

    fn read(bytes: &[u8], max: usize) -> String {
        let mut frames = Frames::new(max, b"");
        let mut out = String::new();
        for byte in bytes {
            frames.push(&[*byte]);
            loop {
                match frames.next_message() {
                    Ok(Some((opcode, payload))) => {
                        out.push_str(&format!("{opcode:?} {} ", payload.escape_ascii()));
                    }
                    Ok(None) => break,
                    Err(error) => return out + &error.to_string(),
                }
            }
        }
        out
    }

    #[test]
    fn messages_are_put_together() {
        let bytes = [
            masked(0x81, b"hello"),
            masked(0x01, b"a"),
            masked(0x89, b"ping"),
            masked(0x80, b"b"),
            masked(0x8a, b""),
            masked(0x88, b"\x03\xe8"),
        ]
        .concat();
        let expected = "Data hello Ping ping Data ab Pong  Close \\x03\\xe8 ";
        assert_eq!(read(&bytes, 10), expected);
    }

    #[test]
    fn frames_that_break_the_rules_are_refused() {
        assert_eq!(read(&encode(TEXT, b"x"), 10), "a client's frame has no mask");
        assert_eq!(read(&masked(0xc1, b"x"), 10), "reserved bits are set");
        assert_eq!(read(&masked(0x83, b"x"), 10), "an unknown opcode");
        assert_eq!(read(&masked(0x80, b"x"), 10), "a continuation of nothing");
        assert_eq!(read(&masked(0x09, b"x"), 10), "a control frame in pieces");
        assert_eq!(read(&masked(0x89, &[0; 126]), 1000), "a frame is too long");
        assert_eq!(read(&masked(0x81, &[b'x'; 11]), 10), "a frame is too long");
        let pieces = [masked(0x01, b"123456"), masked(0x80, b"12345")].concat();
        assert_eq!(read(&pieces, 10), "a frame is too long");
        let nested = [masked(0x01, b"1"), masked(0x81, b"2")].concat();
        assert_eq!(read(&nested, 10), "a message inside a message");
        let endless = [0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(read(&endless, 10), "a frame is too long");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(payload in prop::collection::vec(any::<u8>(), 0..70_000)) {
            let mut frames = Frames::new(payload.len(), &masked(0x82, &payload));
            prop_assert_eq!(frames.next_message().expect("a frame"), Some((Opcode::Data, payload)));
        }

        #[test]
        fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes, 100);
        }
    }
}
