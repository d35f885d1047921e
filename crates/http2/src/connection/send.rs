//! Sending on streams: heads and trailers at once, bodies under flow control and in turn.

use bytes::{Buf, Bytes};

use super::{Connection, Half, Pending};
use crate::{
    Client, Field, Output, Server, StreamId,
    frame::{self, HEADER_LEN, flag, kind},
    hpack::Encoder,
    streams::{End, OwnedField, Slot},
};

/// Largest DATA frame we send, whatever the peer allows: the grain of fairness between streams.
const DATA_FRAME_MAX: usize = 16_384;
/// What a DATA frame of ours gives back to the allowance for frames that move nothing: a peer may answer it with
/// two WINDOW_UPDATEs and a PING that measures the round trip.
const SENT_DATA_RETURNS: u32 = 4;

#[expect(private_bounds, reason = "sealed: the two halves are in this crate")]
impl<H: Half> Connection<H> {
    /// Queues a piece of the body, copying it. For small pieces.
    pub fn send_data(&mut self, stream: StreamId, data: &[u8], end: bool) {
        let Some(slot) = self.find_open(stream) else { return };
        if self.try_send_now(slot, data, end) {
            return;
        }
        self.streams.push(slot, Bytes::copy_from_slice(data));
        self.after_push(slot, end);
    }

    /// Queues pieces of the body as one run of bytes, without copying large ones.
    pub fn send_bytes(
        &mut self,
        stream: StreamId,
        pieces: impl IntoIterator<Item = Bytes>,
        end: bool,
    ) {
        let Some(slot) = self.find_open(stream) else { return };
        for piece in pieces {
            self.streams.push(slot, piece);
        }
        if self.streams.at(slot).queue.is_empty() {
            if end {
                self.try_send_now(slot, &[], true);
            }
            return;
        }
        self.after_push(slot, end);
    }

    /// Copies what of the streams' bodies is not written yet, so that nothing of it lies any more where its pieces
    /// lay. For pieces of memory that was lent until the next write.
    pub fn own_unwritten(&mut self, streams: impl IntoIterator<Item = StreamId>) {
        self.output.own();
        for stream in streams {
            if let Some(stream) = self.streams.get_mut(stream.0) {
                stream.queue.own();
            }
        }
    }

    /// Queues the trailers behind the body, which is complete. If a server's request is not, it is checked and
    /// dropped until [`crate::Config::linger_ms`] have passed, and then the stream is reset with NO_ERROR.
    pub fn send_trailers(&mut self, stream: StreamId, fields: &[Field<'_>]) {
        let Some(slot) = self.find_open(stream) else { return };
        let stream = self.streams.at(slot);
        assert!(stream.head_sent, "the head comes before trailers");
        if stream.queue.is_empty() {
            self.put_trailers(slot, fields.iter().copied());
        } else {
            stream.queue.end = End::Trailers(fields.iter().map(OwnedField::copy).collect());
        }
    }

    pub(crate) fn find_open(&mut self, stream: StreamId) -> Option<Slot> {
        let slot = self.streams.find(stream.0)?;
        self.streams.at(slot).is_open().then_some(slot)
    }

    /// Frames `data` straight into the output if nothing is in its way. The common case: a small answer.
    fn try_send_now(&mut self, slot: Slot, data: &[u8], end: bool) -> bool {
        let frame_max = self.data_frame_max();
        let clear =
            self.streams.is_none_ready() && self.output.remaining() < self.config.output_mark;
        let stream = self.streams.at(slot);
        assert!(stream.head_sent, "the head comes before the body");
        if !stream.queue.is_empty() {
            return false;
        }
        let length = data.len();
        let fits = clear && length <= frame_max && length <= self.window.available();
        if length > 0 && (!fits || length > stream.window.available()) {
            return false;
        }
        if length == 0 && !end {
            return true;
        }
        let id = stream.id;
        let consumed = stream.window.consume(length).and(self.window.consume(length));
        assert!(consumed.is_ok(), "both windows were looked at");
        let out = self.output.small();
        frame::put_header(out, length, kind::DATA, end_flag(end), id);
        out.extend_from_slice(data);
        self.idle_frames.give_back(SENT_DATA_RETURNS);
        if end {
            self.finish_sending(slot);
        }
        true
    }

    /// After a body's piece was queued: notes its end, sends what can go now, and marks a long queue.
    fn after_push(&mut self, slot: Slot, end: bool) {
        let stream = self.streams.at(slot);
        assert!(stream.head_sent, "the head comes before the body");
        if end {
            stream.queue.end = End::Data;
        }
        let id = stream.id;
        self.fill_output();
        let mark = self.config.writable_mark;
        if let Some(stream) = self.streams.get_mut(id) {
            stream.above_mark = stream.queue.len() > mark;
        }
    }

    /// Frames queued data, a frame a stream in turn, until the mark or the connection's window is reached.
    pub(super) fn fill_output(&mut self) {
        let frame_max = self.data_frame_max();
        while self.window.available() > 0 && self.output.remaining() < self.config.output_mark {
            let Some(slot) = self.streams.next_ready() else { break };
            self.put_queued(slot, frame_max);
        }
    }

    /// Sends one DATA frame of a ready stream, and what follows its last byte.
    fn put_queued(&mut self, slot: Slot, frame_max: usize) {
        let stream = self.streams.at(slot);
        let length = stream
            .queue
            .len()
            .min(frame_max)
            .min(stream.window.available())
            .min(self.window.available());
        let consumed = stream.window.consume(length).and(self.window.consume(length));
        assert!(consumed.is_ok(), "the frame was cut to both windows");
        let id = stream.id;
        let last = length == stream.queue.len();
        let end = last && matches!(stream.queue.end, End::Data);
        frame::put_header(self.output.small(), length, kind::DATA, end_flag(end), id);
        self.streams.pop_to(slot, length, &mut self.output);
        self.idle_frames.give_back(SENT_DATA_RETURNS);
        let stream = self.streams.at(slot);
        if stream.above_mark && stream.queue.len() <= self.config.writable_mark {
            stream.above_mark = false;
            self.pending.push_back(Pending::Writable { stream: id });
        }
        if !last {
            self.streams.wake(slot);
            return;
        }
        match std::mem::take(&mut stream.queue.end) {
            End::Open | End::Sent => {}
            End::Data => self.finish_sending(slot),
            End::Trailers(fields) => self.put_trailers(slot, fields.iter().map(OwnedField::borrow)),
        }
    }

    fn put_trailers<'a>(&mut self, slot: Slot, fields: impl Iterator<Item = Field<'a>>) {
        let id = self.streams.at(slot).id;
        let frame_max = self.peer.max_frame_size;
        put_block(self.output.small(), id, true, frame_max, |out| {
            self.encoder.begin(out);
            encode_all(&mut self.encoder, out, fields);
        });
        self.finish_sending(slot);
    }

    /// END_STREAM is in the output.
    pub(crate) fn finish_sending(&mut self, slot: Slot) {
        self.streams.at(slot).queue.end = End::Sent;
        H::after_sent_end(self, slot);
    }

    fn data_frame_max(&self) -> usize {
        self.peer.max_frame_size.min(DATA_FRAME_MAX)
    }
}

fn end_flag(end: bool) -> u8 {
    if end { flag::END_STREAM } else { 0 }
}

pub(crate) fn encode_all<'a>(
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
    fields: impl Iterator<Item = Field<'a>>,
) {
    for field in fields {
        encoder.encode(out, &field);
    }
}

/// Appends HEADERS with the block that `encode` appends, and CONTINUATION frames if it is longer than `frame_max`.
pub(crate) fn put_block(
    out: &mut Vec<u8>,
    id: u32,
    end: bool,
    frame_max: usize,
    encode: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    frame::put_header(out, 0, kind::HEADERS, 0, id);
    encode(out);
    let length = out.len() - start - HEADER_LEN;
    let first = length.min(frame_max);
    let whole = if first == length { flag::END_HEADERS } else { 0 };
    let header = frame::header_bytes(first, kind::HEADERS, end_flag(end) | whole, id);
    if let Some(place) = out.get_mut(start..start + HEADER_LEN) {
        place.copy_from_slice(&header);
    }
    if first < length {
        let rest = out.split_off(start + HEADER_LEN + first);
        let mut parts = rest.chunks(frame_max).peekable();
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_none() { flag::END_HEADERS } else { 0 };
            frame::put_header(out, part.len(), kind::CONTINUATION, flags, id);
            out.extend_from_slice(part);
        }
    }
}

impl crate::streams::Stream {
    /// The end of what is sent is not sent or queued yet.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.queue.end, End::Open)
    }
}

/// Compile-time witness that a connection can move to the thread that owns it.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Server>();
    is_send::<Client>();
    is_send::<Output>();
};
