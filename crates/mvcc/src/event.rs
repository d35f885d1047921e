//! Changes of keys on their way to the watchers.

use std::sync::Arc;

use api::key_value::KeyValueRef;
use bytes::Bytes;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was created or overwritten.
    Put,
    /// It was deleted.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Put or delete.
    pub kind: EventKind,
    /// The serialized `mvccpb.KeyValue` of the event. After a delete it holds only key and
    /// `mod_revision`.
    pub kv: Bytes,
    /// The serialized `KeyValue` before the change; `None` if there was none, or if nobody wanted
    /// it when the change was made (see [`EventBatch::with_prev`]).
    pub prev_kv: Option<Bytes>,
}

impl Event {
    /// The key, a slice of [`Event::kv`].
    #[must_use]
    pub fn key(&self) -> &[u8] {
        key_of(&self.kv)
    }
}

/// All changes of one revision, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    /// The main revision of all of them.
    pub revision: i64,
    /// At least one.
    pub events: Arc<[Event]>,
    /// Whether each event has its `prev_kv`, if there was a row before.
    pub with_prev: bool,
}

/// The key of a row that this crate wrote or has checked.
pub(crate) fn key_of(kv: &[u8]) -> &[u8] {
    KeyValueRef::decode(kv).expect("a row was checked when it came in").key
}
