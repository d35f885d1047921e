use bytes::Bytes;

use crate::{Config, Error, ErrorCode, Event, Field, Output, StreamId};

/// The server's side of one connection.
///
/// Every method that names a stream does nothing when that stream is gone (reset, or answered in full), since a
/// reset can cross an answer; [`Server::is_open`] tells.
#[derive(Debug)]
pub struct Server {
    output: Output,
}

impl Server {
    /// A new connection; SETTINGS and the connection's window are queued in the output at once.
    pub fn new(_config: &Config) -> Self {
        Self { output: Output::default() }
    }

    /// Takes bytes from the front of `input` (any fragments, the preface included) until they amount to an event.
    /// `Ok(None)`: `input` is used up. With an empty `input` it hands out events that arose elsewhere (`Writable`,
    /// `Drained`). `now_ms`, from any origin, refills the budgets against floods. After an `Err`, or once
    /// [`Server::wants_close`], input is dropped unread.
    pub fn receive<'s, 'i>(
        &'s mut self,
        _now_ms: u64,
        _input: &mut &'i [u8],
    ) -> Result<Option<Event<'s, 'i>>, Error> {
        unimplemented!()
    }

    /// Queues the answer's head: `:status` and `fields`. With `end`, there is no body and no trailer
    /// (a gRPC "trailers-only" answer). A second head on a stream is the caller's error and panics.
    pub fn send_headers(
        &mut self,
        _stream: StreamId,
        _status: u16,
        _fields: &[Field<'_>],
        _end: bool,
    ) {
        unimplemented!()
    }

    /// Queues a piece of the body, copying it. For small pieces.
    pub fn send_data(&mut self, _stream: StreamId, _data: &[u8], _end: bool) {
        unimplemented!()
    }

    /// Queues pieces of the body as one run of bytes, without copying large ones.
    pub fn send_bytes(
        &mut self,
        _stream: StreamId,
        _pieces: impl IntoIterator<Item = Bytes>,
        _end: bool,
    ) {
        unimplemented!()
    }

    /// Queues the trailers behind the body; the answer is complete. If the request is not, the stream is reset
    /// with NO_ERROR after them, as grpc-go does.
    pub fn send_trailers(&mut self, _stream: StreamId, _fields: &[Field<'_>]) {
        unimplemented!()
    }

    /// Gives the stream up: queued data is dropped, RST_STREAM queued. No [`Event::Reset`] follows.
    pub fn reset(&mut self, _stream: StreamId, _code: ErrorCode) {
        unimplemented!()
    }

    /// Stops returning this stream's receive window by itself: what [`Event::Data`] hands out from now on counts
    /// against the peer's windows until [`Server::release`]. Without it, all data is released as it is handed out.
    pub fn hold_window(&mut self, _stream: StreamId) {
        unimplemented!()
    }

    /// Returns `bytes` of held window to the peer. What a closing stream still holds is returned by itself.
    pub fn release(&mut self, _stream: StreamId, _bytes: usize) {
        unimplemented!()
    }

    /// Bytes of this stream's body that wait for the peer's window or for their turn.
    pub fn unsent(&self, _stream: StreamId) -> usize {
        unimplemented!()
    }

    /// Bytes of all streams' bodies that wait, framed output not included.
    pub fn unsent_total(&self) -> usize {
        unimplemented!()
    }

    /// Whether the stream can still be answered.
    pub fn is_open(&self, _stream: StreamId) -> bool {
        unimplemented!()
    }

    /// Streams that are open.
    pub fn open_streams(&self) -> usize {
        unimplemented!()
    }

    /// No stream is open and nothing waits to be written.
    pub fn is_idle(&self) -> bool {
        unimplemented!()
    }

    /// Queues a PING; [`Event::PingAck`] follows when the peer answers.
    pub fn ping(&mut self, _opaque: [u8; 8]) {
        unimplemented!()
    }

    /// Starts a graceful end as grpc-go does: GOAWAY with the largest stream id and a PING; at its answer the final
    /// GOAWAY; [`Event::Drained`] when the streams opened until then are done.
    pub fn drain(&mut self) {
        unimplemented!()
    }

    /// Sends the final GOAWAY of a drain now, for a peer that does not answer the PING (grpc-go waits a minute).
    pub fn drain_now(&mut self) {
        unimplemented!()
    }

    /// Ends the connection: GOAWAY with `code` and `debug`, all streams dropped, [`Server::wants_close`] from now on.
    pub fn go_away(&mut self, _code: ErrorCode, _debug: &[u8]) {
        unimplemented!()
    }

    /// What is to be written; frames queued data into it first, stream by stream in turn, up to
    /// [`Config::output_mark`] bytes. `advance` it by what the socket took.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// So much output waits that the owner should stop reading until it has written.
    pub fn is_congested(&self) -> bool {
        unimplemented!()
    }

    /// Nothing more will come of this connection: write the output, then close.
    pub fn wants_close(&self) -> bool {
        unimplemented!()
    }

    /// Bytes of memory held for this connection, for the owner's accounts.
    pub fn memory(&self) -> usize {
        unimplemented!()
    }
}
