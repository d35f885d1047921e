//! Transactions.

use backend::Backend;
use bytes::Bytes;

use crate::{Error, EventBatch, RangeArgs, RangeResult, Store};

/// A transaction: all its changes get one main revision. It must be finished.
#[derive(Debug)]
pub struct WriteTxn<'a> {
    store: &'a mut Store,
    backend: &'a mut Backend,
    want_prev: bool,
}

/// What a put replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// The lease the key had, 0 for none or no such key.
    pub prev_lease: i64,
    /// The row before, if asked for.
    pub prev_kv: Option<Bytes>,
}

/// What was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRange {
    /// The keys and their leases, 0 for none, in key order.
    pub keys: Vec<(Bytes, i64)>,
    /// The rows, if asked for.
    pub prev_kvs: Vec<Bytes>,
}

/// What the index knows of a key, without its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMeta {
    /// The revision that created the key.
    pub create_revision: i64,
    /// The revision that changed it last.
    pub mod_revision: i64,
    /// How many puts since it was created.
    pub version: i64,
}

impl<'a> WriteTxn<'a> {
    pub(crate) fn new(store: &'a mut Store, backend: &'a mut Backend, want_prev: bool) -> Self {
        Self { store, backend, want_prev }
    }

    /// The revision a read sees: of this transaction if it has changed something, else the current.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.store.revision()
    }

    /// Sets a key.
    pub fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        lease: i64,
        prev_kv: bool,
    ) -> Result<Put, Error> {
        let _ = (key, value, lease, prev_kv, &mut self.backend, self.want_prev);
        Ok(Put::default())
    }

    /// Deletes a key or a range, see [`RangeArgs::range_end`].
    pub fn delete_range(
        &mut self,
        key: &[u8],
        range_end: &[u8],
        prev_kv: bool,
    ) -> Result<DeleteRange, Error> {
        let _ = (key, range_end, prev_kv);
        Ok(DeleteRange::default())
    }

    /// Reads a range, the changes of this transaction included.
    pub fn range(
        &self,
        args: &RangeArgs<'_>,
        sink: impl FnMut(&[u8]),
    ) -> Result<RangeResult, Error> {
        self.store.reader().range(args, sink)
    }

    /// One row, the changes of this transaction included.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let _ = key;
        Ok(None)
    }

    /// What the index knows of a key, the changes of this transaction included; no row is read.
    #[must_use]
    pub fn meta(&self, key: &[u8]) -> Option<KeyMeta> {
        let _ = key;
        None
    }

    /// Makes the changes visible; `None` if there are none, and then the revision stays.
    #[must_use]
    pub fn finish(self) -> Option<EventBatch> {
        None
    }
}
