//! Frames as the judge cuts them out of its input and out of what the two sides write.

pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const HEADER_LEN: usize = 9;
pub(crate) const PAYLOAD_MAX: usize = 16_384;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITIZED: u8 = 0x20;

/// One frame of some bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
    /// The header and as much of the payload as there is.
    pub(crate) bytes: &'a [u8],
    /// All of it is there. A frame that is too long counts as whole: its header is all that anybody reads.
    pub(crate) whole: bool,
}

impl Frame<'_> {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Four bytes of the payload as a number.
    pub(crate) fn number(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    }
}

/// Takes the frame at the front.
pub(crate) fn next<'a>(rest: &mut &'a [u8]) -> Option<Frame<'a>> {
    let bytes = *rest;
    if bytes.is_empty() {
        return None;
    }
    let mut header = [0; HEADER_LEN];
    let held = bytes.len().min(HEADER_LEN);
    header[..held].copy_from_slice(&bytes[..held]);
    let [a, b, c, kind, flags, s0, s1, s2, s3] = header;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let is_long = length > PAYLOAD_MAX;
    let end = if is_long { HEADER_LEN } else { HEADER_LEN + length };
    let (bytes, after) = bytes.split_at(end.min(bytes.len()));
    *rest = after;
    Some(Frame {
        kind,
        flags,
        stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        payload: bytes.get(HEADER_LEN..).unwrap_or_default(),
        bytes,
        whole: bytes.len() == end,
    })
}

/// Appends a frame.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}
