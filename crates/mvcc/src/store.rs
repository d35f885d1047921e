//! The writing half, owned by apply.

use std::sync::Arc;

use backend::{Backend, Bucket};
use bytes::Bytes;

use crate::compact::Compactor;
use crate::shared::Shared;
use crate::{CompactionProgress, Error, Reader, Rev, WriteTxn, restore};

/// Key in bucket `meta`: the revision of the last compaction asked for.
pub const SCHEDULED_COMPACT_KEY: &[u8] = b"scheduledCompactRev";
/// Key in bucket `meta`: the revision of the last compaction that removed its last row.
pub const FINISHED_COMPACT_KEY: &[u8] = b"finishedCompactRev";

/// Far more than will ever be written, and far from where counting on fails.
const REVISION_MAX: i64 = i64::MAX / 2;

/// How the store behaves. There is nothing to choose yet.
#[derive(Clone, Debug, Default)]
pub struct Options {}

/// The key space. Rows go into the backend that is lent with every call, always the same one.
#[derive(Debug)]
pub struct Store {
    pub(crate) reader: Reader,
    compactor: Compactor,
}

impl Store {
    /// Builds the store from the backend, and lists the living keys that have a lease, ascending.
    /// A compaction that was interrupted goes on with [`Store::compaction_step`].
    ///
    /// # Errors
    /// If the backend fails or is damaged.
    pub fn restore(
        backend: &mut Backend,
        options: Options,
    ) -> Result<(Self, Vec<(Bytes, i64)>), Error> {
        let Options {} = options;
        let rows = backend.reader();
        let scheduled = compact_mark(&rows, SCHEDULED_COMPACT_KEY)?;
        let finished = compact_mark(&rows, FINISHED_COMPACT_KEY)?;
        let restored = restore::restore(&rows)?;
        // All rows up to a compaction may be gone, those of the newest revision included.
        let marks = finished.into_iter().chain(scheduled).max();
        let current = marks.map_or(restored.revision, |mark| mark.max(restored.revision));
        if current > REVISION_MAX {
            return Err(Error::Damaged { bucket: "key", what: "a revision beyond all reason" });
        }
        let compact = finished.unwrap_or(-1);
        let shared = Arc::new(Shared::new(restored.index, current, compact));
        let mut compactor = Compactor::new(scheduled, finished);
        if let Some(scheduled) = scheduled.filter(|scheduled| *scheduled > compact) {
            shared.set_compact(scheduled);
            compactor.schedule(scheduled, compact);
        }
        Ok((Self { reader: Reader { shared, backend: rows }, compactor }, restored.leases))
    }

    /// A view for reading from any thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The revision of the last finished transaction, 1 for an empty store.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.reader.current_revision()
    }

    /// The compact revision, -1 if the store was never compacted.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.reader.compact_revision()
    }

    /// Begins a transaction. `want_prev`: events shall carry the row before (see
    /// [`crate::watch::WantPrev`]).
    pub fn begin<'a>(&'a mut self, backend: &'a mut Backend, want_prev: bool) -> WriteTxn<'a> {
        WriteTxn::new(&self.reader, backend, want_prev)
    }

    /// Makes `revision` the compact revision: reads below it fail from now on. The rows are removed
    /// by [`Store::compaction_step`], after those of earlier compactions.
    ///
    /// # Errors
    /// [`Error::Compacted`] if it is not above the compact revision, else [`Error::Future`] if it
    /// is above the current one.
    pub fn compact(&mut self, backend: &mut Backend, revision: i64) -> Result<(), Error> {
        let compact = self.compact_revision();
        if revision <= compact {
            return Err(Error::Compacted);
        }
        if revision > self.revision() {
            return Err(Error::Future);
        }
        // The mark is in the same batch as the first deletions or in an earlier one.
        put_compact_mark(backend, SCHEDULED_COMPACT_KEY, revision);
        self.reader.shared.set_compact(revision);
        self.compactor.schedule(revision, compact);
        Ok(())
    }

    /// Goes on with the compactions asked for, oldest first: looks at `batch_limit` rows at most,
    /// or at some thousand keys of the index. Call it between batches, some 10 ms apart, until it
    /// says [`CompactionProgress::Idle`].
    ///
    /// # Errors
    /// If the backend fails or is damaged.
    pub fn compaction_step(
        &mut self,
        backend: &mut Backend,
        batch_limit: usize,
    ) -> Result<CompactionProgress, Error> {
        self.compactor.step(&self.reader, backend, batch_limit)
    }
}

pub(crate) fn put_compact_mark(backend: &mut Backend, name: &[u8], revision: i64) {
    let mark = Rev::first_of(revision).to_key();
    backend.put(Bucket::Meta, name, Bytes::copy_from_slice(&mark));
}

fn compact_mark(rows: &backend::Reader, name: &[u8]) -> Result<Option<i64>, Error> {
    let Some(mark) = rows.get(Bucket::Meta, name)? else {
        return Ok(None);
    };
    match Rev::from_key(&mark) {
        Some((rev, false)) => Ok(Some(rev.main)),
        _ => Err(Error::Damaged { bucket: "meta", what: "a compaction mark is no revision" }),
    }
}
