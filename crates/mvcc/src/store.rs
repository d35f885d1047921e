//! The writing half, owned by apply.

use backend::Backend;
use bytes::Bytes;

use crate::{CompactionProgress, Error, Reader, WriteTxn};

/// How the store behaves.
#[derive(Clone, Debug, Default)]
pub struct Options {}

/// The key space. Rows go into the backend that is lent with every call, always the same one.
#[derive(Debug)]
pub struct Store {
    reader: Reader,
}

impl Store {
    /// Builds the store from the backend, and lists the keys with a lease for the lessor. An
    /// interrupted compaction goes on with [`Store::compaction_step`].
    pub fn restore(
        backend: &mut Backend,
        options: Options,
    ) -> Result<(Self, Vec<(Bytes, i64)>), Error> {
        let _ = options;
        Ok((Self { reader: Reader::new(backend.reader()) }, Vec::new()))
    }

    /// A view for reading from any thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The revision of the last finished transaction, 1 for an empty store.
    #[must_use]
    pub fn revision(&self) -> i64 {
        1
    }

    /// The compact revision, -1 if the store was never compacted.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        -1
    }

    /// Begins a transaction. `want_prev`: events shall carry the row before (see
    /// [`crate::watch::WantPrev`]).
    pub fn begin<'a>(&'a mut self, backend: &'a mut Backend, want_prev: bool) -> WriteTxn<'a> {
        WriteTxn::new(self, backend, want_prev)
    }

    /// Makes `revision` the compact revision: reads below it fail from now on. The rows are removed
    /// by [`Store::compaction_step`].
    pub fn compact(&mut self, backend: &mut Backend, revision: i64) -> Result<(), Error> {
        let _ = (backend, revision);
        Err(Error::Compacted)
    }

    /// Goes on with the compactions asked for, oldest first: looks at `batch_limit` rows at most.
    pub fn compaction_step(
        &mut self,
        backend: &mut Backend,
        batch_limit: usize,
    ) -> Result<CompactionProgress, Error> {
        let _ = (backend, batch_limit);
        Ok(CompactionProgress::Idle)
    }
}
