//! The server's role: what a connection holds, and the calls that do not send on a stream (`send`) or take input
//! (`receive`).

mod receive;
mod send;

use std::collections::VecDeque;

use bytes::Buf;

use crate::{
    Config, Error, ErrorCode, Event, Output, StreamId,
    budget::{Budget, Exhausted},
    flow::{Grant, WINDOW_DEFAULT, WINDOW_MAX, Window},
    frame::{self, FRAME_SIZE_DEFAULT, FRAME_SIZE_MAX, setting},
    hpack::{self, Encoder},
    streams::{Ended, Stream, Streams},
};
use receive::Inbound;

/// What a DATA frame of ours gives back to the allowance for frames that move nothing: a client may answer it with
/// two WINDOW_UPDATEs and a PING that measures the round trip.
const SENT_DATA_RETURNS: u32 = 4;
/// What HEADERS and DATA of the peer give back.
const RECEIVED_RETURNS: u32 = 2;
/// What the PING of a graceful drain carries, to tell its answer from others.
const DRAIN_PING: [u8; 8] = *b"drain\0\0\0";
const LAST_STREAM_ANY: u32 = (1 << 31) - 1;

/// The server's side of one connection.
///
/// Every method that names a stream does nothing when that stream is gone (reset, or answered in full), since a
/// reset can cross an answer; [`Server::is_open`] tells.
#[derive(Debug)]
pub struct Server {
    config: Config,
    /// The input side: what is half-read, the header decoder, the heads.
    inbound: Inbound,
    encoder: Encoder,
    output: Output,
    streams: Streams,
    /// What the peer may send on the whole connection, and what we may.
    grant: Grant,
    window: Window,
    peer: PeerSettings,
    /// Our SETTINGS are acknowledged: the peer keeps to them from here.
    settings_acked: bool,
    /// The largest stream the peer has opened.
    last_stream: u32,
    shutdown: Shutdown,
    /// Events that did not come from the frame at hand, to be handed out first.
    pending: VecDeque<Pending>,
    resets: Budget,
    idle_frames: Budget,
    /// Frames the peer made us queue since it last read all.
    control_queued: u32,
    now_ms: u64,
}

#[derive(Debug)]
struct PeerSettings {
    initial_window: u32,
    max_frame_size: usize,
}

/// How far the end of the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    Open,
    /// The first GOAWAY is sent, streams still come.
    Announced,
    /// The final GOAWAY is sent: streams after `last` are ignored.
    Final {
        last: u32,
    },
    /// Input is dropped; flush the output and close.
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum Pending {
    Reset { stream: u32, code: ErrorCode },
    Writable { stream: u32 },
    Drained,
}

impl Server {
    /// A new connection; SETTINGS and the connection's window are queued in the output at once. Limits outside
    /// what the protocol allows are brought into it.
    pub fn new(config: &Config) -> Self {
        let mut config = config.clone();
        config.initial_window = config.initial_window.clamp(1, WINDOW_MAX);
        config.connection_window = config.connection_window.clamp(WINDOW_DEFAULT, WINDOW_MAX);
        config.max_frame_size = config.max_frame_size.clamp(FRAME_SIZE_DEFAULT, FRAME_SIZE_MAX);
        config.output_mark = config.output_mark.max(1);
        let mut output = Output::default();
        put_preface(output.small(), &config);
        Self {
            inbound: Inbound::new(&config),
            encoder: Encoder::new(),
            output,
            streams: Streams::default(),
            grant: Grant::new(config.connection_window),
            window: Window::new(WINDOW_DEFAULT),
            peer: PeerSettings {
                initial_window: WINDOW_DEFAULT,
                max_frame_size: FRAME_SIZE_DEFAULT as usize,
            },
            settings_acked: false,
            last_stream: 0,
            shutdown: Shutdown::Open,
            pending: VecDeque::new(),
            resets: Budget::new(config.reset_burst, config.resets_per_second),
            idle_frames: Budget::new(config.idle_frame_burst, config.idle_frames_per_second),
            control_queued: 0,
            now_ms: 0,
            config,
        }
    }

    /// Gives the stream up: queued data is dropped, RST_STREAM queued. No [`Event::Reset`] follows.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        if self.streams.find(stream.0).is_some() {
            frame::put_reset(self.output.small(), stream.0, code);
            self.close_stream(stream.0, Ended::ByUs);
        }
    }

    /// Stops returning this stream's receive window by itself: what [`Event::Data`] hands out from now on counts
    /// against the peer's windows until [`Server::release`]. Without it, all data is released as it is handed out.
    pub fn hold_window(&mut self, stream: StreamId) {
        if let Some(stream) = self.streams.get_mut(stream.0) {
            stream.held = true;
        }
    }

    /// Returns `bytes` of held window to the peer. What a closing stream still holds is returned by itself.
    pub fn release(&mut self, stream: StreamId, bytes: usize) {
        let Some(held) = self.streams.get_mut(stream.0) else { return };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(held.held_bytes);
        held.held_bytes -= bytes;
        self.release_stream(stream.0, bytes);
        self.release_connection(bytes);
    }

    /// Bytes of this stream's body that wait for the peer's window or for their turn.
    pub fn unsent(&self, stream: StreamId) -> usize {
        self.streams.get(stream.0).map_or(0, |stream| stream.queue.len())
    }

    /// Bytes of all streams' bodies that wait, framed output not included.
    pub fn unsent_total(&self) -> usize {
        self.streams.unsent()
    }

    /// Whether the stream can still be answered.
    pub fn is_open(&self, stream: StreamId) -> bool {
        self.streams.get(stream.0).is_some_and(|stream| stream.can_answer())
    }

    /// Streams that are open.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// No stream is open and nothing waits to be written.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty() && !self.output.has_remaining()
    }

    /// Queues a PING; [`Event::PingAck`] follows when the peer answers.
    pub fn ping(&mut self, opaque: [u8; 8]) {
        frame::put_ping(self.output.small(), 0, opaque);
    }

    /// Starts a graceful end as grpc-go does: GOAWAY with the largest stream id and a PING; at its answer the final
    /// GOAWAY; [`Event::Drained`] when the streams opened until then are done.
    pub fn drain(&mut self) {
        if self.shutdown == Shutdown::Open {
            let out = self.output.small();
            frame::put_go_away(out, LAST_STREAM_ANY, ErrorCode::NO_ERROR, b"");
            frame::put_ping(out, 0, DRAIN_PING);
            self.shutdown = Shutdown::Announced;
        }
    }

    /// Sends the final GOAWAY of a drain now, for a peer that does not answer the PING (grpc-go waits a minute).
    pub fn drain_now(&mut self) {
        if matches!(self.shutdown, Shutdown::Open | Shutdown::Announced) {
            let last = self.last_stream;
            frame::put_go_away(self.output.small(), last, ErrorCode::NO_ERROR, b"");
            self.shutdown = Shutdown::Final { last };
            self.check_drained();
        }
    }

    /// Ends the connection: GOAWAY with `code` and `debug` (cut to 1 KiB), all streams dropped without events,
    /// [`Server::wants_close`] from now on.
    pub fn go_away(&mut self, code: ErrorCode, debug: &[u8]) {
        if self.shutdown == Shutdown::Closed {
            return;
        }
        let debug = debug.get(..1024).unwrap_or(debug);
        let last = match self.shutdown {
            Shutdown::Final { last } => last,
            _ => self.last_stream,
        };
        frame::put_go_away(self.output.small(), last, code, debug);
        self.shutdown = Shutdown::Closed;
        self.streams = Streams::default();
        self.pending.clear();
    }

    /// What is to be written; frames queued data into it first, stream by stream in turn, up to
    /// [`Config::output_mark`] bytes. `advance` it by what the socket took.
    pub fn output(&mut self) -> &mut Output {
        if !self.output.has_remaining() {
            self.control_queued = 0;
        }
        self.fill_output();
        &mut self.output
    }

    /// So much output waits that the owner should stop reading until it has written.
    pub fn is_congested(&self) -> bool {
        self.output.remaining() >= self.config.output_mark
    }

    /// Nothing more will come of this connection: write the output, then close.
    pub fn wants_close(&self) -> bool {
        match self.shutdown {
            Shutdown::Open | Shutdown::Announced => false,
            Shutdown::Final { .. } => self.streams.is_empty(),
            Shutdown::Closed => true,
        }
    }

    /// Bytes of memory held for this connection, for the owner's accounts.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.inbound.memory()
            + self.encoder.memory()
            + self.output.memory()
            + self.streams.memory()
            + self.pending.capacity() * size_of::<Pending>()
    }

    /// The initial window that the peer knows of; before it acknowledges ours, it may go by the default.
    fn granted_initial_window(&self) -> u32 {
        if self.settings_acked {
            self.config.initial_window
        } else {
            self.config.initial_window.max(WINDOW_DEFAULT)
        }
    }

    fn new_stream(&self, id: u32) -> Stream {
        Stream::new(
            id,
            Grant::new(self.granted_initial_window()),
            Window::new(self.peer.initial_window),
        )
    }

    /// Forgets a stream and returns what it holds of the connection's window.
    fn close_stream(&mut self, id: u32, how: Ended) {
        if let Some(stream) = self.streams.remove(id, how) {
            self.release_connection(stream.held_bytes);
            self.check_drained();
        }
    }

    /// Resets a stream for the peer's fault, which counts against it.
    fn fail_stream(&mut self, id: u32, code: ErrorCode) -> Result<(), Error> {
        self.take_reset()?;
        self.count_control();
        frame::put_reset(self.output.small(), id, code);
        if self.streams.find(id).is_none() {
            self.streams.note_ended(id, Ended::ByUs);
        } else {
            self.close_stream(id, Ended::ByUs);
            self.pending.push_back(Pending::Reset { stream: id, code });
        }
        Ok(())
    }

    fn check_drained(&mut self) {
        if matches!(self.shutdown, Shutdown::Final { .. }) && self.streams.is_empty() {
            self.pending.push_back(Pending::Drained);
        }
    }

    /// Returns `bytes` of a stream's window, if it has use for them.
    fn release_stream(&mut self, id: u32, bytes: u32) {
        let size = self.config.initial_window;
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !stream.receiving {
            return;
        }
        if let Some(update) = stream.grant.release(bytes, size) {
            frame::put_window_update(self.output.small(), id, update);
            self.count_control();
        }
    }

    fn release_connection(&mut self, bytes: u32) {
        if let Some(update) = self.grant.release(bytes, self.config.connection_window) {
            frame::put_window_update(self.output.small(), 0, update);
            self.count_control();
        }
    }

    /// Notes a frame that the peer made us queue.
    fn count_control(&mut self) {
        self.control_queued = self.control_queued.saturating_add(1);
    }

    fn take_reset(&mut self) -> Result<(), Error> {
        self.resets
            .take(1)
            .map_err(|Exhausted| Error::new(ErrorCode::ENHANCE_YOUR_CALM, "too many resets"))
    }

    fn take_idle_frames(&mut self, count: u32) -> Result<(), Error> {
        self.idle_frames.take(count).map_err(|Exhausted| {
            Error::new(ErrorCode::ENHANCE_YOUR_CALM, "too many frames that move nothing")
        })
    }
}

/// Our SETTINGS, where they differ from the protocol's defaults, and the connection's window.
fn put_preface(out: &mut Vec<u8>, config: &Config) {
    let mut parameters = Vec::with_capacity(5);
    let mut put = |key, value, default| {
        if value != default {
            parameters.push((key, value));
        }
    };
    put(setting::HEADER_TABLE_SIZE, config.header_table_size, hpack::TABLE_SIZE_DEFAULT);
    put(setting::MAX_CONCURRENT_STREAMS, config.max_concurrent_streams, u32::MAX);
    put(setting::INITIAL_WINDOW_SIZE, config.initial_window, WINDOW_DEFAULT);
    put(setting::MAX_FRAME_SIZE, config.max_frame_size, FRAME_SIZE_DEFAULT);
    put(setting::MAX_HEADER_LIST_SIZE, config.max_header_list, u32::MAX);
    frame::put_settings(out, &parameters);
    if config.connection_window > WINDOW_DEFAULT {
        frame::put_window_update(out, 0, config.connection_window - WINDOW_DEFAULT);
    }
}

impl Pending {
    fn event<'s, 'i>(self) -> Event<'s, 'i> {
        match self {
            Self::Reset { stream, code } => {
                Event::Reset { stream: StreamId(stream), code, by_peer: false }
            }
            Self::Writable { stream } => Event::Writable { stream: StreamId(stream) },
            Self::Drained => Event::Drained,
        }
    }
}
