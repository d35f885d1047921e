//! Messages in their gRPC frames: reading them from pieces of a body, writing them.

use api::etcdserverpb::ResponseHeader;
use api::frame::{MESSAGE_BYTES_MAX, PREFIX_BYTES, TooLarge};
use api::wire::Encode;
use api::{Status, error::transport};

/// Capacity that a buffer keeps between messages.
const SPARE_MAX: usize = 64 << 10;

/// Cuts a request's body into messages. A message that lies whole in one piece is not copied.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// The frame that has not arrived in full, prefix included.
    partial: Vec<u8>,
    /// The frame in `partial` was handed out.
    used: bool,
}

impl Input {
    /// The next message; `data` loses what was taken. `None`: it is used up.
    pub(crate) fn next<'a, 'd: 'a>(
        &'a mut self,
        data: &mut &'d [u8],
        max: usize,
    ) -> Result<Option<&'a [u8]>, Status> {
        if std::mem::take(&mut self.used) {
            self.partial.clear();
            self.partial.shrink_to(SPARE_MAX);
        }
        if self.partial.is_empty()
            && let Some((prefix, rest)) = data.split_first_chunk()
        {
            let len = message_len(prefix, max)?;
            if let Some((message, rest)) = rest.split_at_checked(len) {
                *data = rest;
                return Ok(Some(message));
            }
        }
        self.fill(data, PREFIX_BYTES);
        let Some(prefix) = self.partial.first_chunk() else { return Ok(None) };
        let len = PREFIX_BYTES + message_len(prefix, max)?;
        self.fill(data, len);
        if self.partial.len() < len {
            return Ok(None);
        }
        self.used = true;
        Ok(self.partial.get(PREFIX_BYTES..))
    }

    /// Bytes that wait for the rest of their message.
    pub(crate) fn pending(&self) -> usize {
        if self.used { 0 } else { self.partial.len() }
    }

    /// Takes from `data` until the frame has `len` bytes.
    fn fill(&mut self, data: &mut &[u8], len: usize) {
        let missing = len.saturating_sub(self.partial.len()).min(data.len());
        let (taken, rest) = data.split_at(missing);
        self.partial.extend_from_slice(taken);
        *data = rest;
    }
}

fn message_len(prefix: &[u8; PREFIX_BYTES], max: usize) -> Result<usize, Status> {
    let [format, len @ ..] = *prefix;
    let len = u32::from_be_bytes(len);
    match format {
        0 => {}
        1 => return Err(transport::compressed_without_encoding()),
        other => return Err(transport::unexpected_payload_format(other)),
    }
    match usize::try_from(len) {
        Ok(len) if len <= max => Ok(len),
        _ => Err(transport::received_message_larger_than_max(u64::from(len), max as u64)),
    }
}

/// A message that is being written: its frame, reused from answer to answer.
///
/// The header of a response holds a revision that is known only when the rest was read. So the rest
/// is written first, behind room for the frame's prefix and the header, which are put in front.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    start: usize,
}

/// Room for the prefix, the header's tag and length, and the longest header.
const FRONT_BYTES: usize = PREFIX_BYTES + 2 + 4 * 11;

impl Frame {
    /// Starts over with an empty message, to whose end fields may be appended.
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        self.clear();
        self.bytes.resize(FRONT_BYTES, 0);
        self.start = FRONT_BYTES;
        &mut self.bytes
    }

    /// Puts the header and the prefix in front of what was appended; returns the message's length.
    pub(crate) fn finish(&mut self, header: &ResponseHeader) -> Result<usize, TooLarge> {
        let end = self.bytes.len();
        // At the end first, since its length is not known, and moved to the front from there.
        self.bytes.push(1 << 3 | 2);
        self.bytes.push(u8::try_from(header.encoded_len()).unwrap_or(u8::MAX));
        header.encode(&mut self.bytes);
        let head_len = self.bytes.len() - end;
        assert!(head_len + PREFIX_BYTES <= FRONT_BYTES, "four varints fit into the front");
        self.bytes.copy_within(end.., FRONT_BYTES - head_len);
        self.bytes.truncate(end);
        let len = head_len + end - FRONT_BYTES;
        if len > MESSAGE_BYTES_MAX {
            return Err(TooLarge { len });
        }
        let announced = u32::try_from(len).map_err(|_| TooLarge { len })?;
        self.start = FRONT_BYTES - head_len - PREFIX_BYTES;
        let prefix = &mut self.bytes[self.start..self.start + PREFIX_BYTES];
        prefix[0] = 0;
        prefix[1..].copy_from_slice(&announced.to_be_bytes());
        Ok(len)
    }

    /// Replaces all by this message; returns its length.
    pub(crate) fn set(&mut self, message: &impl Encode) -> Result<usize, TooLarge> {
        self.clear();
        api::frame::encode(&mut self.bytes, message)
    }

    /// As [`Frame::set`], for a generated message.
    pub(crate) fn set_message(&mut self, message: &impl prost::Message) -> Result<usize, TooLarge> {
        self.clear();
        api::frame::encode_message(&mut self.bytes, message)
    }

    /// The frame.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The length of the message in the frame.
    pub(crate) fn message_len(&self) -> usize {
        self.bytes.len().saturating_sub(self.start + PREFIX_BYTES)
    }

    /// The frame, if it is so large that it should not be copied.
    pub(crate) fn take_large(&mut self) -> Option<bytes::Bytes> {
        const LARGE: usize = 32 << 10;
        (self.bytes.len() - self.start >= LARGE)
            .then(|| bytes::Bytes::from(std::mem::take(&mut self.bytes)).slice(self.start..))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(SPARE_MAX);
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::etcdserverpb::RangeResponse;
    use prost::Message as _;

    fn feed(pieces: &[&[u8]], max: usize) -> Result<Vec<Vec<u8>>, Status> {
        let mut input = Input::default();
        let mut messages = Vec::new();
        for piece in pieces {
            let mut data = *piece;
            while let Some(message) = input.next(&mut data, max)? {
                messages.push(message.to_vec());
            }
            assert!(data.is_empty());
        }
        Ok(messages)
    }

    #[test]
    fn messages_come_out_however_the_body_is_cut() {
        let body = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01z";
        let whole = feed(&[body], 3).expect("valid");
        assert_eq!(whole, [b"abc".to_vec(), b"".to_vec(), b"z".to_vec()]);
        for cut in 0..=body.len() {
            let (left, right) = body.split_at(cut);
            assert_eq!(feed(&[left, right], 3).as_ref(), Ok(&whole));
        }
        let bytes: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(feed(&bytes, 3), Ok(whole));
    }

    #[test]
    fn bad_frames_are_refused_by_their_prefix() {
        let text = |body: &[u8]| feed(&[body], 3).map_err(|status| status.message.into_owned());
        assert_eq!(
            text(b"\0\0\0\0\x04"),
            Err("grpc: received message larger than max (4 vs. 3)".to_owned())
        );
        assert_eq!(
            text(b"\0\xff\xff\xff\xff"),
            Err("grpc: received message larger than max (4294967295 vs. 3)".to_owned())
        );
        assert_eq!(
            text(b"\x01\0\0\0\0"),
            Err("grpc: compressed flag set with identity or empty encoding".to_owned())
        );
        assert_eq!(
            text(b"\x07\0\0\0\0"),
            Err("grpc: received unexpected payload format 7".to_owned())
        );
    }

    #[test]
    fn the_header_is_put_in_front_of_the_rest() {
        for number in [0, 1, i64::MAX, -1] {
            let header = ResponseHeader {
                cluster_id: number.cast_unsigned(),
                member_id: number.cast_unsigned(),
                revision: number,
                raft_term: number.cast_unsigned(),
            };
            let mut frame = Frame::default();
            frame.begin().extend_from_slice(&[4 << 3, 7]);
            let len = frame.finish(&header).expect("small");
            let expected =
                RangeResponse { header: Some(header), count: 7, ..RangeResponse::default() };
            assert_eq!(frame.bytes()[PREFIX_BYTES..], expected.encode_to_vec());
            assert_eq!(frame.bytes()[..PREFIX_BYTES], [0, 0, 0, 0, len as u8]);
        }
    }
}
