//! Messages in their gRPC frames: reading them from pieces of a body, writing them.

use std::io::{self, Read, Write};

use api::etcdserverpb::ResponseHeader;
use api::frame::{PREFIX_BYTES, TooLarge, prefix};
use api::splice::{SPLICE_MIN, Splices};
use api::wire::{Encode, append_varint};
use api::{Status, error::transport};
use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use mvcc::Row;

/// Capacity that a buffer keeps between messages.
const SPARE_MAX: usize = 64 << 10;

/// Cuts a request's body into messages. A message that lies whole in one piece is not copied.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// The frame that has not arrived in full, prefix included.
    partial: Vec<u8>,
    /// The frame in `partial` was handed out.
    used: bool,
    /// The request names gzip, so that its messages may be compressed.
    allows_gzip: bool,
    /// The message that was decompressed last.
    inflated: Vec<u8>,
}

impl Input {
    pub(crate) fn new(allows_gzip: bool) -> Self {
        Self { allows_gzip, ..Self::default() }
    }

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
            let (len, format) = self.prefix(prefix, max)?;
            if let Some((message, rest)) = rest.split_at_checked(len) {
                *data = rest;
                return match format {
                    Format::Plain => Ok(Some(message)),
                    Format::Gzip => {
                        inflate(message, &mut self.inflated, max)?;
                        Ok(Some(&self.inflated))
                    }
                };
            }
        }
        self.fill(data, PREFIX_BYTES);
        let Some(prefix) = self.partial.first_chunk() else { return Ok(None) };
        let (len, format) = self.prefix(prefix, max)?;
        let len = PREFIX_BYTES + len;
        self.fill(data, len);
        if self.partial.len() < len {
            return Ok(None);
        }
        self.used = true;
        let message = self.partial.get(PREFIX_BYTES..).unwrap_or_default();
        match format {
            Format::Plain => Ok(Some(message)),
            Format::Gzip => {
                inflate(message, &mut self.inflated, max)?;
                Ok(Some(&self.inflated))
            }
        }
    }

    fn prefix(&self, prefix: &[u8; PREFIX_BYTES], max: usize) -> Result<(usize, Format), Status> {
        let (len, format) = message_prefix(prefix, max)?;
        if format == Format::Gzip && !self.allows_gzip {
            return Err(transport::compressed_without_encoding());
        }
        Ok((len, format))
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

/// How a message is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Plain,
    Gzip,
}

fn message_prefix(prefix: &[u8; PREFIX_BYTES], max: usize) -> Result<(usize, Format), Status> {
    let [format, len @ ..] = *prefix;
    let len = u32::from_be_bytes(len);
    let format = match format {
        0 => Format::Plain,
        1 => Format::Gzip,
        other => return Err(transport::unexpected_payload_format(other)),
    };
    match usize::try_from(len) {
        Ok(len) if len <= max => Ok((len, format)),
        _ => Err(transport::received_message_larger_than_max(u64::from(len), max as u64)),
    }
}

/// Decompresses a message of at most `max` bytes: one byte more is read to know that there is more,
/// and never another, however much the message would unfold to.
fn inflate(message: &[u8], into: &mut Vec<u8>, max: usize) -> Result<(), Status> {
    into.clear();
    into.shrink_to(SPARE_MAX);
    let limit = max as u64 + 1;
    let read = MultiGzDecoder::new(message).take(limit).read_to_end(into);
    if let Err(err) = read {
        let why = if err.kind() == io::ErrorKind::UnexpectedEof {
            "unexpected EOF".to_owned()
        } else if message.starts_with(&[0x1f, 0x8b]) {
            format!("gzip: {err}")
        } else {
            "gzip: invalid header".to_owned()
        };
        return Err(transport::failed_to_decompress(&why));
    }
    if into.len() > max {
        return Err(transport::decompressed_message_larger_than_max(limit, max as u64));
    }
    Ok(())
}

/// A message that is being written, or some of one stream: frames in one buffer, reused from answer to answer.
///
/// The header of a response holds a revision that is known only when the rest was read. So the rest
/// is written first, behind room for the frame's prefix and the header, which are put in front.
/// Long rows are not in the buffer, but stay where they lie.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    start: usize,
    /// Bytes of the last message.
    message_len: usize,
    splices: Splices,
    /// Some of it is to be given back soon.
    is_lent: bool,
}

/// Room for the prefix, the header's tag and length, and the longest header.
const FRONT_BYTES: usize = PREFIX_BYTES + 2 + 4 * 11;
/// A frame without a long row is copied once more if it is not longer than this.
const LARGE: usize = 32 << 10;

impl Frame {
    /// Starts over with an empty message, to whose end fields may be appended.
    pub(crate) fn begin(&mut self) {
        self.clear();
        self.bytes.resize(FRONT_BYTES, 0);
        self.start = FRONT_BYTES;
    }

    /// Appends a number, but not zero.
    pub(crate) fn number(&mut self, field: u8, value: u64) {
        if value != 0 {
            self.bytes.push(field << 3);
            append_varint(&mut self.bytes, value);
        }
    }

    /// Appends a row, without a copy if it is long.
    pub(crate) fn row(&mut self, field: u8, row: &Row<'_>) {
        self.bytes.push(field << 3 | 2);
        append_varint(&mut self.bytes, row.len() as u64);
        if row.len() < SPLICE_MIN {
            return self.bytes.extend_from_slice(row);
        }
        self.is_lent |= row.is_in_file();
        self.splices.push(&self.bytes, row.lend());
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
        let len = head_len + end - FRONT_BYTES + self.splices.bytes();
        self.start = FRONT_BYTES - head_len - PREFIX_BYTES;
        self.bytes[self.start..self.start + PREFIX_BYTES].copy_from_slice(&prefix(len)?);
        self.message_len = len;
        Ok(len)
    }

    /// Replaces all by this message; returns its length.
    pub(crate) fn set(&mut self, message: &impl Encode) -> Result<usize, TooLarge> {
        self.clear();
        self.add(message)
    }

    /// Appends this message to those of the same stream that are there; returns its length.
    pub(crate) fn add(&mut self, message: &impl Encode) -> Result<usize, TooLarge> {
        self.message_len = api::frame::encode_spliced(&mut self.bytes, &mut self.splices, message)?;
        Ok(self.message_len)
    }

    /// As [`Frame::set`], for rows some of which may be lent.
    pub(crate) fn set_lent(&mut self, message: &impl Encode) -> Result<usize, TooLarge> {
        let len = self.set(message)?;
        self.is_lent = !self.splices.is_empty();
        Ok(len)
    }

    /// As [`Frame::set`], for a generated message.
    pub(crate) fn set_message(&mut self, message: &impl prost::Message) -> Result<usize, TooLarge> {
        self.clear();
        self.message_len = api::frame::encode_message(&mut self.bytes, message)?;
        Ok(self.message_len)
    }

    /// Compresses the one message in the frame, but not one without a byte, as grpc-go does.
    pub(crate) fn compress(&mut self) {
        if self.message_len == 0 {
            return;
        }
        let mut encoder = GzEncoder::new(vec![1, 0, 0, 0, 0], Compression::default());
        for piece in self.splices.pieces(&self.bytes, self.start + PREFIX_BYTES) {
            encoder.write_all(piece).expect("memory takes all");
        }
        let mut packed = encoder.finish().expect("memory takes all");
        // What cannot be announced is sent as it is.
        let Ok(announced) = u32::try_from(packed.len() - PREFIX_BYTES) else { return };
        packed[1..PREFIX_BYTES].copy_from_slice(&announced.to_be_bytes());
        self.clear();
        self.bytes = packed;
    }

    /// The length of the last message in the frame.
    pub(crate) fn message_len(&self) -> usize {
        self.message_len
    }

    /// Bytes of all that is there, prefixes among them.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.splices.bytes() - self.start
    }

    /// All that is there, if it lies in one piece and is short enough to be copied.
    pub(crate) fn small(&self) -> Option<&[u8]> {
        let bytes = self.bytes.get(self.start..).unwrap_or_default();
        (self.splices.is_empty() && bytes.len() < LARGE).then_some(bytes)
    }

    /// All that is there, without a copy.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Bytes> + use<> {
        let pieces = self.splices.take(std::mem::take(&mut self.bytes).into(), self.start);
        self.clear();
        pieces
    }

    /// The one message, without its prefix.
    pub(crate) fn take_message(&mut self) -> Bytes {
        let message = self.start + PREFIX_BYTES;
        let whole = if self.splices.is_empty() && self.len() >= LARGE {
            Bytes::from(std::mem::take(&mut self.bytes)).slice(message..)
        } else {
            let pieces: Vec<&[u8]> = self.splices.pieces(&self.bytes, message).collect();
            pieces.concat().into()
        };
        self.clear();
        whole
    }

    /// Whether some of it is to be given back soon: it was lent by [`Row::lend`].
    pub(crate) fn is_lent(&self) -> bool {
        self.is_lent
    }

    /// Forgets what was lent and nobody took: an answer whose call is gone, or that was too large.
    pub(crate) fn give_back(&mut self) {
        if self.is_lent {
            self.clear();
        }
    }

    /// Forgets all that is there.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(SPARE_MAX);
        self.start = 0;
        self.message_len = 0;
        self.splices.clear();
        self.is_lent = false;
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::Path;

    use super::*;
    use api::etcdserverpb::RangeResponse;
    use backend::{Backend, Bucket};
    use env::MemDisk;
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

    fn gzipped(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(message).expect("memory");
        encoder.finish().expect("memory")
    }

    fn inflated(packed: &[u8], max: usize) -> Result<Vec<u8>, String> {
        let mut body = vec![1];
        body.extend_from_slice(&u32::try_from(packed.len()).expect("short").to_be_bytes());
        body.extend_from_slice(packed);
        let mut results = (0..=body.len()).map(|cut| {
            let (mut left, mut right) = body.split_at(cut);
            let mut input = Input::new(true);
            let mut message = input.next(&mut left, max).map(|found| found.map(<[u8]>::to_vec));
            if let Ok(None) = message {
                message = input.next(&mut right, max).map(|found| found.map(<[u8]>::to_vec));
            }
            message.map_err(|status| status.message.into_owned()).map(Option::unwrap_or_default)
        });
        let first = results.next().expect("a cut");
        assert!(results.all(|other| other == first), "cuts make no difference");
        first
    }

    #[test]
    fn gzip_is_undone_up_to_the_limit() {
        let packed = gzipped(&[7; 1000]);
        assert_eq!(inflated(&packed, 1000), Ok(vec![7; 1000]));
        assert_eq!(
            inflated(&packed, 999),
            Err("grpc: message after decompression larger than max (1000 vs. 999)".to_owned())
        );
        let refused =
            |why: &str| Err(format!("grpc: failed to decompress the received message: {why}"));
        assert_eq!(inflated(b"no gzip at all", 99), refused("gzip: invalid header"));
        let cut = packed.get(..packed.len() - 9).expect("longer");
        assert_eq!(inflated(cut, 2000), refused("unexpected EOF"));
    }

    #[test]
    fn answers_are_compressed_but_for_empty_ones() {
        for len in [0, 1, 100_000] {
            let message = RangeResponse { count: 1, ..RangeResponse::default() };
            let message = if len == 0 { RangeResponse::default() } else { message };
            let kvs =
                vec![api::mvccpb::KeyValue { value: vec![b'v'; len].into(), ..Default::default() }];
            let message = if len > 1 { RangeResponse { kvs, ..message } } else { message };
            let mut frame = Frame::default();
            frame.set_message(&message).expect("small");
            frame.compress();
            let packed: Vec<u8> = frame.take().flatten().collect();
            assert_eq!(packed[0], u8::from(len > 0));
            let mut body = &packed[..];
            let mut input = Input::new(true);
            let taken = input.next(&mut body, 1 << 20).expect("valid").expect("whole");
            assert_eq!(taken, message.encode_to_vec());
            assert!(body.is_empty());
            assert!(packed.len() < 1000);
        }
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
            frame.begin();
            frame.number(4, 7);
            let len = frame.finish(&header).expect("small");
            let expected =
                RangeResponse { header: Some(header), count: 7, ..RangeResponse::default() };
            let bytes = frame.small().expect("small");
            assert_eq!(bytes[PREFIX_BYTES..], expected.encode_to_vec());
            assert_eq!(bytes[..PREFIX_BYTES], [0, 0, 0, 0, len as u8]);
        }
    }

    #[test]
    fn what_was_lent_and_not_taken_is_given_back() {
        let (mut backend, mut committer) =
            Backend::open(MemDisk::new(), Path::new("db"), backend::Options::default())
                .expect("memory");
        let row = Bytes::from(vec![b'r'; SPLICE_MIN]);
        backend.put(Bucket::Key, b"k", row.clone());
        let batch = backend.freeze().expect("a row");
        backend.committed(committer.commit(batch).expect("memory"));
        let mut frame = Frame::default();
        frame.begin();
        let visit = |_, row: Option<Row<'_>>| {
            frame.row(2, &row.expect("it is there"));
            ControlFlow::Continue(())
        };
        backend.reader().get_many(&[(Bucket::Key, b"k")], visit).expect("memory");
        frame.finish(&ResponseHeader::default()).expect("small");
        assert!(frame.is_lent() && frame.small().is_none());
        frame.give_back();
        assert_eq!((frame.is_lent(), frame.len()), (false, 0));
        // What nobody lent stays for whoever takes it.
        frame.begin();
        frame.row(2, &Row::Memory(&row));
        frame.finish(&ResponseHeader::default()).expect("small");
        frame.give_back();
        assert!(frame.take().any(|piece| piece.as_ptr() == row.as_ptr()), "without a copy");
    }
}
