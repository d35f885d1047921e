//! The way out of a stream: the peer has asked for it, and its answer's body is what we have to say.
//!
//! No task of its own: hyper asks for the next part when the socket takes more, and gets all messages
//! that have come together meanwhile as one part.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use raft::Message;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tracing::{info, warn};

use crate::codec::{AppendEncoder, MessageEncoder, link_heartbeat};
use crate::event::Event;
use crate::hex;
use crate::peer::Peer;
use crate::status::Failure;

/// Messages that wait for a stream.
pub const STREAM_MESSAGES_MAX: usize = 4096;

/// A part is closed when it has become this large.
const PART_BYTES: usize = 64 << 10;

/// The two streams between two members, in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamType {
    /// `MsgApp` only, in its own format.
    Append,
    /// All but `MsgApp` and `MsgSnap`.
    Message,
}

impl StreamType {
    /// etcd's name in its log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Append => "stream MsgApp v2",
            Self::Message => "stream Message",
        }
    }

    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Append => "/raft/stream/msgapp",
            Self::Message => "/raft/stream/message",
        }
    }
}

/// Where messages for a stream go while a peer listens to it.
#[derive(Debug, Default)]
pub(crate) struct Writer(Mutex<Option<Attached>>);

/// How a stream ends, as this side and its body agree on it.
#[derive(Debug, Default)]
struct Ending(AtomicU8);

impl Ending {
    /// Not by this side; if it does, the connection was lost.
    const NONE: u8 = 0;
    /// After what is in the queue.
    const DRAINED: u8 = 1;
    /// At once.
    const CUT: u8 = 2;

    fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Debug)]
struct Attached {
    messages: mpsc::Sender<Message>,
    ending: Arc<Ending>,
}

impl Attached {
    fn end(self, how: u8) {
        // Before the sender goes: the body must not take its end for the peer's.
        self.ending.0.store(how, Ordering::Release);
    }
}

/// What became of a message.
pub(crate) enum Sent {
    Yes,
    /// The queue is full.
    Full,
    /// Nobody listens.
    NotAttached(Message),
}

impl Writer {
    pub(crate) fn send(&self, message: Message) -> Sent {
        let attached = self.0.lock();
        let Some(Attached { messages, .. }) = &*attached else { return Sent::NotAttached(message) };
        match messages.try_send(message) {
            Ok(()) => Sent::Yes,
            Err(TrySendError::Full(_)) => Sent::Full,
            Err(TrySendError::Closed(message)) => Sent::NotAttached(message),
        }
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.0.lock().is_some()
    }

    /// A new listener takes the place of an old one.
    pub(crate) fn attach(&self, peer: &Arc<Peer>, stream: StreamType) -> StreamBody {
        let (sender, messages) = mpsc::channel(STREAM_MESSAGES_MAX);
        let ending = Arc::new(Ending::default());
        let attached = Attached { messages: sender, ending: Arc::clone(&ending) };
        let before = self.0.lock().replace(attached);
        let (local, remote) = (hex(peer.local_id()), hex(peer.id));
        if let Some(before) = before {
            before.end(Ending::CUT);
            warn!(
                "stream-writer-type" = stream.name(),
                "local-member-id" = local,
                "remote-peer-id" = remote,
                "closed TCP streaming connection with remote peer"
            );
        }
        info!(from = local, to = remote, "stream-type" = stream.name(), "set message encoder");
        info!(
            "stream-writer-type" = stream.name(),
            "local-member-id" = local,
            "remote-peer-id" = remote,
            "established TCP streaming connection with remote peer"
        );
        peer.status.activate();
        let period = peer.config().read_timeout / 3;
        let mut heartbeat = interval_at(Instant::now() + period, period);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let encoder = match stream {
            StreamType::Append => Encoder::Append(AppendEncoder::default()),
            StreamType::Message => Encoder::Message,
        };
        StreamBody { peer: Arc::clone(peer), stream, messages, ending, heartbeat, encoder }
    }

    /// Nothing more will be said; what is in the queue still goes out.
    pub(crate) fn finish(&self) {
        if let Some(attached) = self.0.lock().take() {
            attached.end(Ending::DRAINED);
        }
    }

    /// The body that had `ending` is gone.
    fn detach(&self, ending: &Arc<Ending>) {
        let mut attached = self.0.lock();
        if attached.as_ref().is_some_and(|attached| Arc::ptr_eq(&attached.ending, ending)) {
            *attached = None;
        }
    }
}

#[derive(Debug)]
enum Encoder {
    Append(AppendEncoder),
    Message,
}

impl Encoder {
    fn encode(&mut self, message: &Message, part: &mut Vec<u8>) {
        match self {
            Self::Append(encoder) => encoder.encode(message, part),
            Self::Message => MessageEncoder::encode(message, part),
        }
    }
}

/// The body of the answer to a peer that listens.
#[derive(Debug)]
pub(crate) struct StreamBody {
    peer: Arc<Peer>,
    stream: StreamType,
    messages: mpsc::Receiver<Message>,
    ending: Arc<Ending>,
    heartbeat: Interval,
    encoder: Encoder,
}

impl StreamBody {
    /// The next part; `None` when this side ends the stream.
    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ending.get() == Ending::CUT {
            return Poll::Ready(None);
        }
        let mut part = Vec::new();
        while part.len() < PART_BYTES {
            match self.messages.poll_recv(cx) {
                Poll::Ready(Some(message)) => self.encoder.encode(&message, &mut part),
                Poll::Ready(None) if part.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if part.is_empty() {
            if self.heartbeat.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            self.encoder.encode(&link_heartbeat(), &mut part);
        }
        let to = hex(self.peer.id);
        self.peer
            .metrics()
            .peer_sent_bytes_total
            .with_label_values(&[&to])
            .inc_by(part.len() as u64);
        Poll::Ready(Some(Bytes::from(part)))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        let is_lost = self.ending.get() == Ending::NONE;
        self.peer.writer(self.stream).detach(&self.ending);
        self.messages.close();
        let are_left = self.messages.try_recv().is_ok();
        if are_left || is_lost {
            self.peer.shared().report(Event::Unreachable(self.peer.id));
        }
        if !is_lost {
            return;
        }
        let failure = Failure { source: self.stream.name(), action: "write" };
        self.peer.status.deactivate(failure, &"connection closed");
        let to = hex(self.peer.id);
        self.peer.metrics().peer_sent_failures_total.with_label_values(&[&to]).inc();
        warn!(
            "stream-writer-type" = self.stream.name(),
            "local-member-id" = hex(self.peer.local_id()),
            "remote-peer-id" = to,
            "lost TCP streaming connection with remote peer"
        );
    }
}
