//! Reads from any thread.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use backend::Row;
use bytes::Bytes;

use crate::range::View;
use crate::shared::Shared;
use crate::{Error, KvHash, RangeArgs, RangeChunk, RangeResult, hash};

/// A view of the store that may be cloned and used from any thread, beside the writes.
///
/// Every call sees one revision. A compaction that is asked for meanwhile waits with removing rows
/// until the call is over, so an answer is complete or [`Error::Compacted`].
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) backend: backend::Reader,
}

impl Reader {
    /// The revision of the last finished transaction.
    #[must_use]
    pub fn current_revision(&self) -> i64 {
        self.shared.current()
    }

    /// The compact revision, -1 if the store was never compacted.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.shared.compact()
    }

    /// How many keys exist now.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.shared.index.read().live()
    }

    /// Reads a range and hands each row to `sink`: a serialized `mvccpb.KeyValue`.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`], before `sink` has seen a row; others end the
    /// process.
    pub fn range(
        &self,
        args: &RangeArgs<'_>,
        mut sink: impl FnMut(Row<'_>),
    ) -> Result<RangeResult, Error> {
        let _guard = self.shared.enter();
        self.view().range(args, &mut sink)
    }

    /// As [`Reader::range`], and stops soon after `is_over` was set: then there is no answer, and what `sink` has seen may
    /// be any part of one. It must not be unset.
    ///
    /// # Errors
    /// As [`Reader::range`].
    pub fn range_until(
        &self,
        args: &RangeArgs<'_>,
        is_over: &AtomicBool,
        mut sink: impl FnMut(Row<'_>),
    ) -> Result<Option<RangeResult>, Error> {
        let _guard = self.shared.enter();
        let view = View { is_over: Some(is_over), ..self.view() };
        let result = view.range(args, &mut sink)?;
        Ok((!view.is_over()).then_some(result))
    }

    /// Reads one chunk of a range stream: the next `args.limit` rows in key order, with `args.key`
    /// where the chunk starts, and `args.revision` pinned by the caller after the first chunk.
    /// A sort orders the rows within the chunk. Filters and `count_only` are not looked at.
    /// Nothing behind the chunk is counted.
    ///
    /// # Errors
    /// As [`Reader::range`].
    pub fn range_chunk(
        &self,
        args: &RangeArgs<'_>,
        mut sink: impl FnMut(Row<'_>),
    ) -> Result<RangeChunk, Error> {
        let _guard = self.shared.enter();
        self.view().range_chunk(args, &mut sink)
    }

    /// One row at the current revision.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let _guard = self.shared.enter();
        let view = self.view();
        view.row_at(key, view.current)
    }

    /// The hash of the key space at `revision`, 0 for the current one, and the current revision.
    /// It reads every row: not for a thread that has others waiting. At the revision of one of the
    /// last compactions, it is the hash that the compaction computed.
    ///
    /// # Errors
    /// As [`Reader::range`].
    pub fn hash_kv(&self, revision: i64) -> Result<(KvHash, i64), Error> {
        let cached =
            self.shared.hashes.read().iter().find(|hash| hash.revision == revision).copied();
        if let Some(cached) = cached {
            return Ok((cached, self.shared.current()));
        }
        let _guard = self.shared.enter();
        hash::hash_kv(&self.view(), revision)
    }

    /// The hashes of the last compactions, oldest first; at most 10.
    #[must_use]
    pub fn compaction_hashes(&self) -> Vec<KvHash> {
        self.shared.hashes.read().clone()
    }

    /// What a read that has entered sees.
    pub(crate) fn view(&self) -> View<'_> {
        let mut current = self.shared.current();
        // A compaction to a revision younger than the one just read must not refuse a read of the
        // current one.
        while self.shared.compact() > current {
            current = self.shared.current();
        }
        View { shared: &self.shared, backend: &self.backend, current, is_over: None }
    }
}
