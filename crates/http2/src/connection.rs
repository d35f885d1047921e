//! What both halves of a connection share: what it holds, and the calls that do not send on a stream (`send`) or take
//! input (`receive`). Where the halves differ is [`Half`].

mod receive;
mod send;

use std::collections::VecDeque;
use std::fmt::Debug;

use bytes::Buf;

use crate::{
    Config, Error, ErrorCode, Event, Output, StreamId,
    budget::{Budget, Exhausted},
    flow::{Grant, WINDOW_DEFAULT, WINDOW_MAX, Window},
    frame::{self, FRAME_SIZE_DEFAULT, FRAME_SIZE_MAX, setting},
    hpack::{self, Encoder},
    streams::{Ended, Slot, Stream, Streams},
};
pub(crate) use receive::{Inbound, Notice, RECEIVED_RETURNS, protocol_error};
pub(crate) use send::{encode_all, put_block};

/// One side of one connection: a [`crate::Server`] or a [`crate::Client`].
///
/// Every method that names a stream does nothing when that stream is gone (reset, or complete), since a reset can
/// cross what is sent; [`Connection::is_open`] tells.
#[derive(Debug)]
pub struct Connection<H> {
    pub(crate) half: H,
    pub(crate) config: Config,
    /// The input side: what is half-read, the header decoder, the heads.
    pub(crate) inbound: Inbound,
    pub(crate) encoder: Encoder,
    pub(crate) output: Output,
    pub(crate) streams: Streams,
    /// What the peer may send on the whole connection, and what we may.
    grant: Grant,
    window: Window,
    pub(crate) peer: PeerSettings,
    /// Our SETTINGS are acknowledged: the peer keeps to them from here.
    settings_acked: bool,
    /// The largest stream that was opened. All are the client's, so this is odd, or 0.
    pub(crate) last_stream: u32,
    /// The last GOAWAY is sent. Input is dropped; flush the output and close.
    is_closed: bool,
    /// Events that did not come from the frame at hand, to be handed out first.
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) resets: Budget,
    pub(crate) idle_frames: Budget,
    /// Frames the peer made us queue since it last read all.
    control_queued: u32,
    pub(crate) now_ms: u64,
}

#[derive(Debug)]
pub(crate) struct PeerSettings {
    initial_window: u32,
    pub(crate) max_frame_size: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Pending {
    Reset { stream: u32, code: ErrorCode, by_peer: bool },
    Writable { stream: u32 },
    Drained,
}

/// Where the server's and the client's half differ.
pub(crate) trait Half: Debug + Sized {
    /// What the peer sends before its first frame.
    const PEER_PREFACE: &'static [u8];

    /// A whole header block: a head, or trailers.
    fn take_block<'i>(
        connection: &mut Connection<Self>,
        id: u32,
        end: bool,
        block: &[u8],
    ) -> Result<Option<Notice<'i>>, Error>;

    /// END_STREAM of ours is in the output.
    fn after_sent_end(connection: &mut Connection<Self>, slot: Slot);

    /// END_STREAM of the peer has come.
    fn after_received_end(connection: &mut Connection<Self>, id: u32);

    /// Time has passed, as the caller of `receive` says.
    fn after_time(connection: &mut Connection<Self>);

    /// A stream is forgotten.
    fn after_close(connection: &mut Connection<Self>);

    /// How a stream ended that was open once, and is not any more.
    fn how_ended(connection: &Connection<Self>, id: u32) -> Ended;

    /// Whether the answer to a PING was one to a PING of the half's own.
    fn take_ping_ack(connection: &mut Connection<Self>, opaque: [u8; 8]) -> bool;

    /// The peer will not handle streams beyond `last`.
    fn take_go_away(connection: &mut Connection<Self>, last: u32);

    /// A parameter of the peer's SETTINGS that concerns one half alone.
    fn take_setting(&mut self, key: u16, value: u32) -> Result<(), Error>;

    /// The last stream that our GOAWAY names.
    fn last_stream(connection: &Connection<Self>) -> u32;

    /// Nothing new will begin, and nothing is open.
    fn is_done(connection: &Connection<Self>) -> bool;

    /// Bytes held beside the half itself.
    fn memory(&self) -> usize;
}

#[expect(private_bounds, reason = "sealed: the two halves are in this crate")]
impl<H: Half> Connection<H> {
    /// A new connection. What it says first is for the half to queue. Limits outside what the protocol allows are
    /// brought into it.
    pub(crate) fn with_half(config: &Config, half: H) -> Self {
        let mut config = config.clone();
        config.initial_window = config.initial_window.clamp(1, WINDOW_MAX);
        config.connection_window = config.connection_window.clamp(WINDOW_DEFAULT, WINDOW_MAX);
        config.max_frame_size = config.max_frame_size.clamp(FRAME_SIZE_DEFAULT, FRAME_SIZE_MAX);
        config.output_mark = config.output_mark.max(1);
        Self {
            half,
            inbound: Inbound::new(&config, H::PEER_PREFACE.len()),
            encoder: Encoder::new(),
            output: Output::default(),
            streams: Streams::default(),
            grant: Grant::new(config.connection_window),
            window: Window::new(WINDOW_DEFAULT),
            peer: PeerSettings {
                initial_window: WINDOW_DEFAULT,
                max_frame_size: FRAME_SIZE_DEFAULT as usize,
            },
            settings_acked: false,
            last_stream: 0,
            is_closed: false,
            pending: VecDeque::new(),
            resets: Budget::new(config.reset_burst, config.resets_per_second),
            idle_frames: Budget::new(config.idle_frame_burst, config.idle_frames_per_second),
            control_queued: 0,
            now_ms: 0,
            config,
        }
    }

    /// Queues SETTINGS, where they differ from the protocol's defaults, and the connection's window.
    pub(crate) fn put_settings(&mut self, own: (u16, u32), own_default: u32) {
        let config = &self.config;
        let mut parameters = Vec::with_capacity(5);
        let mut put = |key, value, default| {
            if value != default {
                parameters.push((key, value));
            }
        };
        put(setting::HEADER_TABLE_SIZE, config.header_table_size, hpack::TABLE_SIZE_DEFAULT);
        put(own.0, own.1, own_default);
        put(setting::INITIAL_WINDOW_SIZE, config.initial_window, WINDOW_DEFAULT);
        put(setting::MAX_FRAME_SIZE, config.max_frame_size, FRAME_SIZE_DEFAULT);
        put(setting::MAX_HEADER_LIST_SIZE, config.max_header_list, u32::MAX);
        let out = self.output.small();
        frame::put_settings(out, &parameters);
        if config.connection_window > WINDOW_DEFAULT {
            frame::put_window_update(out, 0, config.connection_window - WINDOW_DEFAULT);
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
    /// against the peer's windows until [`Connection::release`]. Without it, all data is released as it is handed out.
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

    /// Bytes that wait to be written, framed or not.
    pub fn unwritten(&self) -> usize {
        self.streams.unsent() + self.output.remaining()
    }

    /// Whether the peer has said all that a connection begins with: its first SETTINGS have come.
    pub fn is_greeted(&self) -> bool {
        self.inbound.has_settings()
    }

    /// Whether more can be sent on the stream.
    pub fn is_open(&self, stream: StreamId) -> bool {
        self.streams.get(stream.0).is_some_and(|stream| stream.is_open())
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

    /// Ends the connection: GOAWAY with `code` and `debug` (cut to 1 KiB), all streams dropped without events,
    /// [`Connection::wants_close`] from now on.
    pub fn go_away(&mut self, code: ErrorCode, debug: &[u8]) {
        if self.is_closed {
            return;
        }
        let debug = debug.get(..1024).unwrap_or(debug);
        let last = H::last_stream(self);
        frame::put_go_away(self.output.small(), last, code, debug);
        self.is_closed = true;
        self.streams = Streams::default();
        self.pending.clear();
    }

    /// The last GOAWAY is sent.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
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
        self.is_closed || H::is_done(self)
    }

    /// Bytes of memory held for this connection, for the owner's accounts.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.inbound.memory()
            + self.half.memory()
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

    pub(crate) fn new_stream(&self, id: u32) -> Stream {
        Stream::new(
            id,
            Grant::new(self.granted_initial_window()),
            Window::new(self.peer.initial_window),
        )
    }

    /// Forgets a stream and returns what it holds of the connection's window.
    pub(crate) fn close_stream(&mut self, id: u32, how: Ended) {
        if let Some(stream) = self.streams.remove(id, how) {
            self.release_connection(stream.held_bytes);
            H::after_close(self);
        }
    }

    /// Resets a stream for the peer's fault, which counts against it.
    pub(crate) fn fail_stream(&mut self, id: u32, code: ErrorCode) -> Result<(), Error> {
        self.take_reset()?;
        self.count_control();
        frame::put_reset(self.output.small(), id, code);
        if self.streams.find(id).is_none() {
            self.streams.note_ended(id, Ended::ByUs);
        } else {
            let is_told = !self.lingers(id);
            self.close_stream(id, Ended::ByUs);
            if is_told {
                self.pending.push_back(Pending::Reset { stream: id, code, by_peer: false });
            }
        }
        Ok(())
    }

    /// Whether the stream is there to check what the peer sends, and for nothing else.
    pub(crate) fn lingers(&self, id: u32) -> bool {
        self.streams.get(id).is_some_and(|stream| stream.lingers)
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

    pub(crate) fn release_connection(&mut self, bytes: u32) {
        if let Some(update) = self.grant.release(bytes, self.config.connection_window) {
            frame::put_window_update(self.output.small(), 0, update);
            self.count_control();
        }
    }

    /// Notes a frame that the peer made us queue.
    fn count_control(&mut self) {
        self.control_queued = self.control_queued.saturating_add(1);
    }

    pub(crate) fn take_reset(&mut self) -> Result<(), Error> {
        self.resets
            .take(1)
            .map_err(|Exhausted| Error::new(ErrorCode::ENHANCE_YOUR_CALM, "too many resets"))
    }

    pub(crate) fn take_idle_frames(&mut self, count: u32) -> Result<(), Error> {
        self.idle_frames.take(count).map_err(|Exhausted| {
            Error::new(ErrorCode::ENHANCE_YOUR_CALM, "too many frames that move nothing")
        })
    }
}

impl Pending {
    fn event<'s, 'i>(self) -> Event<'s, 'i> {
        match self {
            Self::Reset { stream, code, by_peer } => {
                Event::Reset { stream: StreamId(stream), code, by_peer }
            }
            Self::Writable { stream } => Event::Writable { stream: StreamId(stream) },
            Self::Drained => Event::Drained,
        }
    }
}
