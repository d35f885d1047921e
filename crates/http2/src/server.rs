//! The server's half: takes requests, answers them, and ends gracefully.

use std::collections::VecDeque;

use crate::{
    Config, Connection, Error, ErrorCode, Field, StreamId,
    connection::{Half, Notice, Pending, RECEIVED_RETURNS, encode_all, protocol_error, put_block},
    frame::{self, setting},
    header_list::{ListKind, fault_of_head},
    streams::{Ended, Slot, Stream},
};

/// What the PING of a graceful drain carries, to tell its answer from others.
const DRAIN_PING: [u8; 8] = *b"drain\0\0\0";
/// Requests that may go on behind their answers at a time; the oldest is reset for one more.
const LINGERING_MAX: usize = 64;
const LAST_STREAM_ANY: u32 = (1 << 31) - 1;

/// The server's side of one connection.
pub type Server = Connection<ServerHalf>;

/// What only the server's half of a connection has.
#[derive(Debug)]
pub struct ServerHalf {
    drain: Drain,
    /// Streams that may be open, if that is less than was announced.
    streams_max: usize,
    /// Streams that linger, and until when, the oldest first. Some have ended since.
    lingering: VecDeque<(u64, u32)>,
}

/// How far a graceful end is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Drain {
    #[default]
    No,
    /// The first GOAWAY is sent, streams still come.
    Announced,
    /// The final GOAWAY is sent: streams after `last` are ignored.
    Final { last: u32 },
}

impl Connection<ServerHalf> {
    /// A new connection; SETTINGS and the connection's window are queued in the output at once. Limits outside
    /// what the protocol allows are brought into it.
    pub fn new(config: &Config) -> Self {
        let mut server = Self::with_half(
            config,
            ServerHalf { drain: Drain::No, streams_max: usize::MAX, lingering: VecDeque::new() },
        );
        let streams_max = server.config.max_concurrent_streams;
        server.put_settings((setting::MAX_CONCURRENT_STREAMS, streams_max), u32::MAX);
        server
    }

    /// Queues the answer's head: `:status` (three digits) and `fields`. With `end`, there is no body and no
    /// trailer (a gRPC "trailers-only" answer). A second head on a stream is the caller's error and panics.
    pub fn send_headers(&mut self, stream: StreamId, status: u16, fields: &[Field<'_>], end: bool) {
        let Some(slot) = self.find_open(stream) else { return };
        let stream = self.streams.at(slot);
        assert!(!stream.head_sent, "an answer has one head");
        stream.head_sent = true;
        let id = stream.id;
        let frame_max = self.peer.max_frame_size;
        put_block(self.output.small(), id, end, frame_max, |out| {
            self.encoder.begin(out);
            self.encoder.encode_status(out, status);
            encode_all(&mut self.encoder, out, fields.iter().copied());
        });
        if end {
            self.finish_sending(slot);
        }
    }

    /// From now on a stream is refused if it makes more than `max` that are open, whatever was announced; for an owner
    /// who runs short of memory.
    pub fn limit_streams(&mut self, max: usize) {
        self.half.streams_max = max;
    }

    /// Starts a graceful end as grpc-go does: GOAWAY with the largest stream id and a PING; at its answer the final
    /// GOAWAY; [`crate::Event::Drained`] when the streams opened until then are done.
    pub fn drain(&mut self) {
        if self.half.drain == Drain::No && !self.is_closed() {
            let out = self.output.small();
            frame::put_go_away(out, LAST_STREAM_ANY, ErrorCode::NO_ERROR, b"");
            frame::put_ping(out, 0, DRAIN_PING);
            self.half.drain = Drain::Announced;
        }
    }

    /// Sends the final GOAWAY of a drain now, for a peer that does not answer the PING (grpc-go waits a minute).
    pub fn drain_now(&mut self) {
        if matches!(self.half.drain, Drain::No | Drain::Announced) && !self.is_closed() {
            let last = self.last_stream;
            frame::put_go_away(self.output.small(), last, ErrorCode::NO_ERROR, b"");
            self.half.drain = Drain::Final { last };
            self.end_lingering(|_, _| true);
            ServerHalf::after_close(self);
        }
    }

    /// Asks for the end of requests that are answered and go on, from the oldest on, as long as its deadline and their
    /// number say that it `is_due`.
    fn end_lingering(&mut self, is_due: impl Fn(u64, usize) -> bool) {
        while let Some(&(deadline, id)) = self.half.lingering.front()
            && is_due(deadline, self.half.lingering.len())
        {
            self.half.lingering.pop_front();
            if self.lingers(id) {
                self.reset(StreamId(id), ErrorCode::NO_ERROR);
            }
        }
    }

    /// A request's block.
    fn take_request<'i>(
        &mut self,
        id: u32,
        end: bool,
        block: &[u8],
    ) -> Result<Option<Notice<'i>>, Error> {
        let list_max = self.config.max_header_list as usize;
        let verdict = self.inbound.decode(ListKind::Request, block, list_max)?;
        self.last_stream = id;
        if matches!(self.half.drain, Drain::Final { .. }) {
            self.take_reset()?;
            return Ok(None);
        }
        let length = self.inbound.head.content_length();
        match fault_of_head(verdict, end, length) {
            Some(fault) => self.fail_stream(id, fault)?,
            None if self.is_full() => self.fail_stream(id, ErrorCode::REFUSED_STREAM)?,
            None => {
                let mut stream = self.new_stream(id);
                stream.head_received = true;
                stream.receiving = !end;
                stream.length_left = length;
                self.streams.insert(stream);
                self.idle_frames.give_back(RECEIVED_RETURNS);
                return Ok(Some(Notice::Headers { stream: id, end }));
            }
        }
        Ok(None)
    }

    fn is_full(&self) -> bool {
        let open = self.streams.len();
        open >= self.half.streams_max.min(self.config.max_concurrent_streams as usize)
            || open.saturating_mul(size_of::<Stream>()) >= self.config.stream_memory_max
    }
}

impl Half for ServerHalf {
    const PEER_PREFACE: &'static [u8] = frame::PREFACE;

    fn take_block<'i>(
        server: &mut Server,
        id: u32,
        end: bool,
        block: &[u8],
    ) -> Result<Option<Notice<'i>>, Error> {
        if id > server.last_stream {
            return server.take_request(id, end, block);
        }
        let list_max = server.config.max_header_list as usize;
        let verdict = server.inbound.decode(ListKind::Trailers, block, list_max)?;
        server.handle_trailers(id, end, verdict)
    }

    /// The stream is done if the request came to its end. If not (DIFF(etcd)), the client has some time to end it: a reset at once
    /// would make what is on its way a matter of no rules (RFC 9113 5.1), so that nobody would tell it of its mistakes.
    fn after_sent_end(server: &mut Server, slot: Slot) {
        server.resets.give_back(1);
        let stream = server.streams.at(slot);
        let id = stream.id;
        if !stream.receiving {
            return server.close_stream(id, Ended::ByPeer);
        }
        stream.lingers = true;
        let held = std::mem::take(&mut stream.held_bytes);
        server.release_connection(held);
        let (now, linger) = (server.now_ms, server.config.linger_ms);
        server.half.lingering.push_back((now.saturating_add(linger), id));
        let max = match server.half.drain {
            Drain::Final { .. } => 0,
            Drain::No | Drain::Announced => LINGERING_MAX,
        };
        server.end_lingering(|deadline, count| deadline <= now || count > max);
    }

    fn after_received_end(server: &mut Server, id: u32) {
        if server.lingers(id) {
            server.close_stream(id, Ended::ByPeer);
        }
    }

    fn after_time(server: &mut Server) {
        let now = server.now_ms;
        server.end_lingering(|deadline, _| deadline <= now);
    }

    fn after_close(server: &mut Server) {
        if matches!(server.half.drain, Drain::Final { .. }) && server.streams.is_empty() {
            server.pending.push_back(Pending::Drained);
        }
    }

    fn how_ended(server: &Server, id: u32) -> Ended {
        match server.streams.how_ended(id) {
            // It came after the final GOAWAY.
            Ended::Unknown if matches!(server.half.drain, Drain::Final { last } if id > last) => {
                Ended::ByUs
            }
            known => known,
        }
    }

    fn take_ping_ack(server: &mut Server, opaque: [u8; 8]) -> bool {
        let is_own = opaque == DRAIN_PING && server.half.drain == Drain::Announced;
        if is_own {
            server.drain_now();
        }
        is_own
    }

    fn take_go_away(_: &mut Server, _: u32) {}

    fn take_setting(&mut self, key: u16, value: u32) -> Result<(), Error> {
        if key == setting::ENABLE_PUSH && value > 1 {
            return Err(protocol_error("ENABLE_PUSH is neither 0 nor 1"));
        }
        Ok(())
    }

    fn last_stream(server: &Server) -> u32 {
        match server.half.drain {
            Drain::Final { last } => last,
            Drain::No | Drain::Announced => server.last_stream,
        }
    }

    fn is_done(server: &Server) -> bool {
        matches!(server.half.drain, Drain::Final { .. }) && server.streams.is_empty()
    }

    fn memory(&self) -> usize {
        0
    }
}
