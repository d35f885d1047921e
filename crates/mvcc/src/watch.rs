//! Watchers: who hears of which change.
//!
//! [`Hub`] is a state machine: commands of the front door and events of apply go in, responses for
//! the streams come out. It runs on a thread of its own, reads the store only for watchers that
//! are behind, and never waits.
//!
//! A watcher is *synced*, in a group that is looked up by key for each event, or *behind*, to be
//! brought forward from the store some at a time, or *stalled*, behind on a stream that has too
//! many responses on their way. No event is kept in memory for a watcher that is not synced.
//!
//! The hub's own revision is that of the last batch from apply. Watchers catch up to it and not to
//! the store's, which may be ahead: so a stream's responses never go back.

mod catch_up;
mod group;
mod hub;
mod interval;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

pub use hub::Hub;

use crate::Event;

/// A stream of watch requests and responses; chosen by the front door, which keeps the number of
/// its core in the high bits.
pub type StreamId = u64;

/// How the hub behaves. [`Options::default`] is etcd's, but for what may be on its way.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often a watcher that asked for it hears that nothing happened; at least 100 ms.
    pub progress_notify_interval: Duration,
    /// From which each stream's deviation of up to 10 % from the interval is drawn.
    pub seed: u64,
    /// How many responses to a stream may be on their way before its watchers fall behind ...
    pub outstanding_max: usize,
    /// ... or so many for each of its watchers, if that is more, since one change may concern them all ...
    pub outstanding_per_watcher: usize,
    /// ... and how many bytes of events.
    pub outstanding_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            progress_notify_interval: Duration::from_secs(600),
            seed: 0,
            outstanding_max: 1024,
            outstanding_per_watcher: 4,
            outstanding_bytes_max: 1 << 20,
        }
    }
}

/// A request to watch, in the terms of etcd's `WatchCreateRequest`; the permission was checked.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// On which stream.
    pub stream: StreamId,
    /// 0: the hub chooses.
    pub watch_id: i64,
    /// The key, or the first key of the range; empty stands for `"\0"`.
    pub key: Bytes,
    /// Empty: `key` alone. `"\0"`: all keys from `key` on. Else the first key not in the range.
    pub range_end: Bytes,
    /// The first revision to hear of; 0: the next one.
    pub start_revision: i64,
    /// Whether to hear that nothing happened.
    pub progress_notify: bool,
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletes.
    pub no_delete: bool,
    /// Whether events shall carry the row before.
    pub prev_kv: bool,
    /// Whether the front door may split big responses; handed back with each of them.
    pub fragment: bool,
}

/// What the front door tells the hub.
#[derive(Clone, Debug)]
pub enum Command {
    /// Watch.
    Create(Create),
    /// Stop watching; answered by [`Kind::Canceled`] if there is such a watcher.
    Cancel {
        /// On which stream.
        stream: StreamId,
        /// Which watcher.
        watch_id: i64,
    },
    /// Answer with the stream's progress once, if all its watchers have heard of everything.
    Progress {
        /// Of which stream.
        stream: StreamId,
    },
    /// The stream is gone, and all its watchers with it. No response follows.
    Close {
        /// Which stream.
        stream: StreamId,
    },
    /// `responses` more of the responses to the stream, of any kind, have been written out.
    Ack {
        /// Which stream.
        stream: StreamId,
        /// How many.
        responses: u32,
    },
}

/// A message for a stream. Those of one stream are written in order.
#[derive(Clone, Debug)]
pub struct Response {
    /// For which stream.
    pub stream: StreamId,
    /// The watcher; -1 for the stream as a whole, and for a watcher that was not created.
    pub watch_id: i64,
    /// The header's revision; 0 for a watcher that was canceled by a compaction.
    pub revision: i64,
    /// What it says.
    pub kind: Kind,
}

impl Response {
    /// Bytes of its events, as far as they are to be sent.
    fn bytes(&self) -> usize {
        let Kind::Events { events, prev_kv, .. } = &self.kind else { return 0 };
        let prev =
            |event: &Event| event.prev_kv.as_ref().filter(|_| *prev_kv).map_or(0, Bytes::len);
        events.iter().map(|event| event.kv.len() + prev(event)).sum()
    }
}

/// What a [`Response`] says.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `created`.
    Created,
    /// `created` and `canceled`: the request was refused, and this is why.
    Refused(Refusal),
    /// `canceled`: on request.
    Canceled,
    /// `canceled`: what the watcher has not heard of yet was compacted.
    Compacted {
        /// `compact_revision` of the message.
        compact_revision: i64,
    },
    /// No events; everything up to the header's revision has been sent.
    Progress,
    /// Events, never none.
    Events {
        /// All events of one or several revisions that the watcher is to hear of, in order. The
        /// same slice serves all watchers that hear of the same.
        events: Arc<[Event]>,
        /// Whether to send [`Event::prev_kv`], which may be there for somebody else.
        prev_kv: bool,
        /// Whether a message that is too big may be split.
        fragment: bool,
    },
}

/// Why a watcher was not created. The texts are etcd's, for `cancel_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The start revision is negative.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The id is in use on this stream.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
    /// `key` is not below `range_end`.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
}

/// Tells apply whether some watcher wants the row before a change.
#[derive(Clone, Debug, Default)]
pub struct WantPrev(Arc<AtomicUsize>);

impl WantPrev {
    /// Whether events shall carry the row before. It may be outdated by a moment: the hub reads
    /// what an event lacks.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many there are of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Streams.
    pub streams: usize,
    /// Watchers that have not been canceled.
    pub watchers: usize,
    /// Those among them that are behind the store.
    pub slow_watchers: usize,
}
