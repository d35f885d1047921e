//! Reads from any thread.

use bytes::Bytes;

use crate::{Error, KvHash, RangeArgs, RangeChunk, RangeResult};

/// A view of the store that may be cloned and used from any thread, beside the writes.
#[derive(Clone, Debug)]
pub struct Reader {
    backend: backend::Reader,
}

impl Reader {
    pub(crate) fn new(backend: backend::Reader) -> Self {
        Self { backend }
    }

    /// The revision of the last finished transaction.
    #[must_use]
    pub fn current_revision(&self) -> i64 {
        1
    }

    /// The compact revision, -1 if the store was never compacted.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        -1
    }

    /// Reads a range and hands each row to `sink`: a serialized `mvccpb.KeyValue`.
    ///
    /// `sink` has seen no row when an error is returned, but for a failing disk.
    pub fn range(
        &self,
        args: &RangeArgs<'_>,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<RangeResult, Error> {
        let _ = (&self.backend, args, &mut sink);
        Err(Error::Future)
    }

    /// Reads up to `limit` rows of `key..range_end` in key order at `revision` (0: the current one,
    /// which the answer names, for the following chunks).
    pub fn range_chunk(
        &self,
        key: &[u8],
        range_end: &[u8],
        revision: i64,
        limit: usize,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<RangeChunk, Error> {
        let _ = (key, range_end, revision, limit, &mut sink);
        Err(Error::Future)
    }

    /// One row at the current revision.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let _ = key;
        Ok(None)
    }

    /// The hash of the key space at `revision`, 0 for the current one, and the current revision.
    /// It reads every row: not for a thread that has others waiting.
    pub fn hash_kv(&self, revision: i64) -> Result<(KvHash, i64), Error> {
        let _ = revision;
        Err(Error::Future)
    }

    /// The hashes of the last compactions, oldest first; at most 10.
    #[must_use]
    pub fn compaction_hashes(&self) -> Vec<KvHash> {
        Vec::new()
    }
}
