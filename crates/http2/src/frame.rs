//! The frame layer (RFC 9113 4, 6), for either role: headers, payload layouts, and writers into a buffer.

use crate::{Error, ErrorCode};

/// What a client sends before its first frame (RFC 9113 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const HEADER_LEN: usize = 9;
pub(crate) const FRAME_SIZE_DEFAULT: u32 = 16_384;
pub(crate) const FRAME_SIZE_MAX: u32 = (1 << 24) - 1;

pub(crate) mod kind {
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
}

pub(crate) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// The nine bytes in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl FrameHeader {
    pub(crate) fn parse(bytes: &[u8; HEADER_LEN]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The payload as `N` bytes, or FRAME_SIZE_ERROR.
pub(crate) fn exactly<const N: usize>(payload: &[u8]) -> Result<[u8; N], Error> {
    payload
        .try_into()
        .map_err(|_| Error::new(ErrorCode::FRAME_SIZE_ERROR, "frame of the wrong length"))
}

/// The header block fragment in a HEADERS payload: without padding and priority (RFC 9113 6.2).
pub(crate) fn header_fragment<'a>(
    header: &FrameHeader,
    payload: &'a [u8],
) -> Result<&'a [u8], Error> {
    const SHORT: Error = Error::new(ErrorCode::FRAME_SIZE_ERROR, "HEADERS frame too short");
    let mut rest = payload;
    let mut padding = 0;
    if header.has(flag::PADDED) {
        let (&length, after) = rest.split_first().ok_or(SHORT)?;
        padding = usize::from(length);
        rest = after;
    }
    if header.has(flag::PRIORITY) {
        rest = rest.split_at_checked(5).ok_or(SHORT)?.1;
    }
    let length = rest
        .len()
        .checked_sub(padding)
        .ok_or(Error::new(ErrorCode::PROTOCOL_ERROR, "padding longer than its frame"))?;
    Ok(rest.split_at(length).0)
}

/// The parameters in a SETTINGS payload.
pub(crate) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload.chunks_exact(6).filter_map(|chunk| {
        let [k0, k1, v0, v1, v2, v3] = *<&[u8; 6]>::try_from(chunk).ok()?;
        Some((u16::from_be_bytes([k0, k1]), u32::from_be_bytes([v0, v1, v2, v3])))
    })
}

/// Appends a frame header.
pub(crate) fn put_header(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&header_bytes(length, kind, flags, stream));
}

pub(crate) fn header_bytes(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEADER_LEN] {
    assert!(length <= FRAME_SIZE_MAX as usize, "frames are cut to the peer's size first");
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    [a, b, c, kind, flags, s0, s1, s2, s3]
}

pub(crate) fn put_settings(out: &mut Vec<u8>, parameters: &[(u16, u32)]) {
    put_header(out, parameters.len() * 6, kind::SETTINGS, 0, 0);
    for (key, value) in parameters {
        out.extend_from_slice(&key.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(crate) fn put_settings_ack(out: &mut Vec<u8>) {
    put_header(out, 0, kind::SETTINGS, flag::ACK, 0);
}

pub(crate) fn put_ping(out: &mut Vec<u8>, flags: u8, opaque: [u8; 8]) {
    put_header(out, 8, kind::PING, flags, 0);
    out.extend_from_slice(&opaque);
}

pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    put_header(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&increment.to_be_bytes());
}

pub(crate) fn put_reset(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    put_header(out, 4, kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&code.0.to_be_bytes());
}

pub(crate) fn put_go_away(out: &mut Vec<u8>, last_stream: u32, code: ErrorCode, debug: &[u8]) {
    put_header(out, 8 + debug.len(), kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(debug);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_wire() {
        let bytes = header_bytes(0x01_02_03, kind::HEADERS, flag::END_STREAM, 0x7fff_fffe);
        let want = FrameHeader {
            length: 0x01_02_03,
            kind: kind::HEADERS,
            flags: flag::END_STREAM,
            stream: 0x7fff_fffe,
        };
        assert_eq!(FrameHeader::parse(&bytes), want);
        let reserved = FrameHeader::parse(&[1, 2, 3, 1, 1, 0xff, 0xff, 0xff, 0xfe]);
        assert_eq!(reserved, want, "the reserved bit is ignored");
    }

    #[test]
    fn padding_and_priority_are_stripped() {
        let check = |flags, payload: &[u8]| {
            let header =
                FrameHeader { length: payload.len(), kind: kind::HEADERS, flags, stream: 1 };
            header_fragment(&header, payload).map(<[u8]>::to_vec).map_err(|error| error.code)
        };
        assert_eq!(check(0, b"ab"), Ok(b"ab".to_vec()));
        assert_eq!(check(flag::PADDED, b"\x01ab"), Ok(b"a".to_vec()));
        assert_eq!(check(flag::PADDED, b"\x02ab"), Ok(vec![]));
        assert_eq!(check(flag::PADDED, b"\x03ab"), Err(ErrorCode::PROTOCOL_ERROR));
        assert_eq!(check(flag::PADDED, b""), Err(ErrorCode::FRAME_SIZE_ERROR));
        assert_eq!(check(flag::PRIORITY, b"12345ab"), Ok(b"ab".to_vec()));
        assert_eq!(check(flag::PRIORITY, b"1234"), Err(ErrorCode::FRAME_SIZE_ERROR));
        assert_eq!(check(flag::PADDED | flag::PRIORITY, b"\x0112345ab"), Ok(b"a".to_vec()));
        assert_eq!(
            check(flag::PADDED | flag::PRIORITY, b"\x0212345a"),
            Err(ErrorCode::PROTOCOL_ERROR)
        );
    }
}
