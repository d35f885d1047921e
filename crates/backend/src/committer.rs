//! The half that writes the file, owned by the commit thread.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use env::Disk;
use mutant::mutant;

use crate::overlay::Overlay;
use crate::{Backend, Bucket, Error, Options};

/// How much a transaction of a defragmentation holds in memory.
const COMPACT_TX_BYTES_MAX: usize = 4 << 20;

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
    /// The batch that was written; a defragmentation writes none.
    pub(crate) batch_id: Option<u64>,
    pub(crate) file: Arc<bolt::ReadTx>,
}

/// Writes batches into the database file.
#[derive(Debug)]
pub struct Committer<D: Disk> {
    disk: D,
    db: bolt::Db<D>,
    /// Whether a commit has seen to it that the file has all buckets.
    has_buckets: bool,
}

impl Batch {
    /// How many rows the batch sets or removes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the batch has no rows: it may yet make missing buckets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether the batch sets the row of `key`.
    #[must_use]
    pub fn sets(&self, bucket: Bucket, key: &[u8]) -> bool {
        matches!(self.rows.rows(bucket).get(key), Some(Some(_)))
    }

    /// Whether the batch removes any row of the bucket.
    #[must_use]
    pub fn removes_from(&self, bucket: Bucket) -> bool {
        self.rows.rows(bucket).iter_from(b"").any(|(_, value)| value.is_none())
    }
}

impl<D: Disk> Committer<D> {
    pub(crate) fn new(disk: D, db: bolt::Db<D>) -> Self {
        Self { disk, db, has_buckets: false }
    }

    /// Writes a batch and makes it durable. After an error the process must stop.
    ///
    /// Buckets of [`Bucket::ALL`] that are missing are made, so that a file that etcd opens has
    /// them all.
    pub fn commit(&mut self, batch: Batch) -> Result<Committed, Error> {
        let mut tx = self.db.begin_write()?;
        for bucket in Bucket::ALL {
            if self.has_buckets && batch.rows.rows(bucket).iter_from(b"").next().is_none() {
                continue;
            }
            let mut rows = tx.create_bucket_if_missing(bucket.name())?;
            rows.set_fill_percent(bucket.fill_percent());
            for (key, value) in batch.rows.rows(bucket).iter_from(b"") {
                match value {
                    Some(value) => rows.put(key.as_slice(), value)?,
                    None => {
                        rows.delete(key.as_slice())?;
                    }
                }
            }
        }
        tx.commit()?;
        self.has_buckets = true;
        Ok(self.committed(Some(batch.id)))
    }

    /// Rewrites the file without its free pages: into `db.tmp.*` beside it, which then takes its
    /// place. Reads go on on the old file until [`Backend::committed`](crate::Backend::committed)
    /// gets the result. A batch that is frozen meanwhile is written to the new file.
    ///
    /// If it fails before the new file has taken the old one's place, the new file is removed and
    /// the old one stays in use; else every later [`Committer::commit`] fails, too.
    pub fn defrag(&mut self) -> Result<Committed, Error> {
        let path = self.db.path().to_owned();
        // One at a time, and a start removes what a crash has left: any name of this form will do.
        let temporary = path.with_file_name(format!("db.tmp.{}", self.db.begin_read().txid()));
        let result = self.rewrite(&temporary).and_then(|mut fresh| {
            let renamed = fresh.rename(&path);
            if fresh.path() == path && !mutant!("11613") {
                self.db = fresh;
            }
            Ok(renamed?)
        });
        match result {
            Ok(()) => Ok(self.committed(None)),
            Err(err) => {
                // What cannot be removed is removed by the next start; the first error says more.
                let _ = self.remove(&temporary);
                Err(err)
            }
        }
    }

    /// Puts the database at `from`, which a leader sent with a snapshot, in the place of this one,
    /// and returns the backend over it; this committer goes on with its file. Readers of the old
    /// backend keep seeing the old file. The old backend must not be written to any more, and a
    /// batch of it that was not committed is lost.
    ///
    /// # Errors
    /// If the disk fails, or `from` is no database: the process must stop. A restart finds either
    /// database under the old name.
    pub fn install(&mut self, from: &Path, options: Options) -> Result<Backend, Error> {
        let path = self.db.path().to_owned();
        let (backend, mut fresh) = Backend::open(self.disk.clone(), from, options)?;
        fresh.db.rename(&path)?;
        *self = fresh;
        Ok(backend)
    }

    /// Copies the database to `path` and makes the copy durable.
    fn rewrite(&self, path: &Path) -> Result<bolt::Db<D>, Error> {
        self.remove(path)?;
        let options = self.db.options().clone();
        let no_sync = options.no_sync;
        let options = bolt::Options { no_sync: true, ..options };
        let mut fresh = bolt::Db::open(self.disk.clone(), path, options)?;
        bolt::compact(&self.db.begin_read(), &mut fresh, COMPACT_TX_BYTES_MAX)?;
        if !no_sync {
            fresh.sync()?;
        }
        Ok(fresh)
    }

    fn remove(&self, path: &Path) -> Result<(), Error> {
        match self.disk.remove(path) {
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(()),
            result => result.map_err(|source| Error::disk("remove", path, source)),
        }
    }

    fn committed(&self, batch_id: Option<u64>) -> Committed {
        Committed { batch_id, file: Arc::new(self.db.begin_read()) }
    }
}
