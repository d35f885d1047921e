//! The hot responses, written around stored values.
//!
//! Wherever a response holds a `KeyValue`, these types hold its encoded bytes and splice them in.
//! Each writes the same bytes as the message of the same name in [`crate::etcdserverpb`].

use crate::etcdserverpb::ResponseHeader;
use crate::mvccpb::event::EventType;
use crate::wire::{Encode, Sink};
use bytes::Bytes;

impl Encode for ResponseHeader {
    fn write(&self, sink: &mut impl Sink) {
        sink.uint64(1, self.cluster_id);
        sink.uint64(2, self.member_id);
        sink.int64(3, self.revision);
        sink.uint64(4, self.raft_term);
    }
}

fn write_header(header: Option<&ResponseHeader>, sink: &mut impl Sink) {
    if let Some(header) = header {
        sink.message(1, header);
    }
}

/// A `RangeResponse`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RangeResponseRef<'a> {
    /// The header; left out in all but the last message of a RangeStream.
    pub header: Option<ResponseHeader>,
    /// Encoded `KeyValue`s.
    pub kvs: &'a [Bytes],
    /// Whether the limit cut the answer.
    pub more: bool,
    /// How many keys are in the range.
    pub count: i64,
}

impl Encode for RangeResponseRef<'_> {
    fn write(&self, sink: &mut impl Sink) {
        write_header(self.header.as_ref(), sink);
        for kv in self.kvs {
            sink.stored(2, kv);
        }
        sink.bool(3, self.more);
        sink.int64(4, self.count);
    }
}

/// A `RangeStreamResponse`: one chunk of a range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RangeStreamResponseRef<'a> {
    /// The chunk.
    pub range_response: RangeResponseRef<'a>,
}

impl Encode for RangeStreamResponseRef<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.message(1, &self.range_response);
    }
}

/// A `PutResponse`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PutResponseRef<'a> {
    /// The header.
    pub header: Option<ResponseHeader>,
    /// The encoded `KeyValue` before, if asked for and present.
    pub prev_kv: Option<&'a Bytes>,
}

impl Encode for PutResponseRef<'_> {
    fn write(&self, sink: &mut impl Sink) {
        write_header(self.header.as_ref(), sink);
        if let Some(prev_kv) = self.prev_kv {
            sink.stored(2, prev_kv);
        }
    }
}

/// A `DeleteRangeResponse`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeleteRangeResponseRef<'a> {
    /// The header.
    pub header: Option<ResponseHeader>,
    /// How many keys were deleted.
    pub deleted: i64,
    /// The encoded `KeyValue`s before, if asked for.
    pub prev_kvs: &'a [Bytes],
}

impl Encode for DeleteRangeResponseRef<'_> {
    fn write(&self, sink: &mut impl Sink) {
        write_header(self.header.as_ref(), sink);
        sink.int64(2, self.deleted);
        for kv in self.prev_kvs {
            sink.stored(3, kv);
        }
    }
}

/// A `TxnResponse`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TxnResponseRef<'a> {
    /// The header.
    pub header: Option<ResponseHeader>,
    /// Whether all compares held.
    pub succeeded: bool,
    /// One for each operation of the branch that ran.
    pub responses: Vec<ResponseOpRef<'a>>,
}

impl Encode for TxnResponseRef<'_> {
    fn write(&self, sink: &mut impl Sink) {
        write_header(self.header.as_ref(), sink);
        sink.bool(2, self.succeeded);
        for response in &self.responses {
            sink.message(3, response);
        }
    }
}

/// A `ResponseOp`: the answer to one operation of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum ResponseOpRef<'a> {
    /// Of a range.
    Range(RangeResponseRef<'a>),
    /// Of a put.
    Put(PutResponseRef<'a>),
    /// Of a delete.
    DeleteRange(DeleteRangeResponseRef<'a>),
    /// Of a nested transaction.
    Txn(TxnResponseRef<'a>),
}

impl Encode for ResponseOpRef<'_> {
    fn write(&self, sink: &mut impl Sink) {
        match self {
            Self::Range(response) => sink.message(1, response),
            Self::Put(response) => sink.message(2, response),
            Self::DeleteRange(response) => sink.message(3, response),
            Self::Txn(response) => sink.message(4, response),
        }
    }
}

/// An `Event`: one change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRef<'a> {
    /// Whether the key was put or deleted.
    pub event_type: EventType,
    /// The encoded `KeyValue` after the change.
    pub kv: &'a Bytes,
    /// The encoded `KeyValue` before the change, if asked for and present.
    pub prev_kv: Option<&'a Bytes>,
}

impl Encode for EventRef<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.int64(1, self.event_type as i64);
        sink.stored(2, self.kv);
        if let Some(prev_kv) = self.prev_kv {
            sink.stored(3, prev_kv);
        }
    }
}

/// A `WatchResponse`. The events are iterated once to count and once to write.
#[derive(Clone, Debug, Default)]
pub struct WatchResponseRef<'a, Events> {
    /// The header.
    pub header: Option<ResponseHeader>,
    /// The watcher, or -1 for all of the stream.
    pub watch_id: i64,
    /// Whether this confirms the watcher's creation.
    pub created: bool,
    /// Whether the watcher has ended.
    pub canceled: bool,
    /// The compact revision, if that is why it ended.
    pub compact_revision: i64,
    /// Why it ended.
    pub cancel_reason: &'a str,
    /// Whether more parts of the same revision follow.
    pub fragment: bool,
    /// The events, in order of revision.
    pub events: Events,
}

impl<'a, Events: Iterator<Item = EventRef<'a>> + Clone> Encode for WatchResponseRef<'a, Events> {
    fn write(&self, sink: &mut impl Sink) {
        write_header(self.header.as_ref(), sink);
        sink.int64(2, self.watch_id);
        sink.bool(3, self.created);
        sink.bool(4, self.canceled);
        sink.int64(5, self.compact_revision);
        sink.bytes(6, self.cancel_reason.as_bytes());
        sink.bool(7, self.fragment);
        for event in self.events.clone() {
            sink.message(11, &event);
        }
    }
}

/// A `LeaseKeepAliveResponse`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseKeepAliveResponseRef {
    /// The header.
    pub header: Option<ResponseHeader>,
    /// The lease.
    pub id: i64,
    /// Seconds until it expires; 0 when there is no such lease.
    pub ttl: i64,
}

impl Encode for LeaseKeepAliveResponseRef {
    fn write(&self, sink: &mut impl Sink) {
        write_header(self.header.as_ref(), sink);
        sink.int64(2, self.id);
        sink.int64(3, self.ttl);
    }
}

#[cfg(test)]
mod tests;
