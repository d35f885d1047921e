//! The writing half, owned by apply.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::Disk;
use parking_lot::{RwLock, RwLockWriteGuard};

use crate::overlay::Overlay;
use crate::reader::Layers;
use crate::{Batch, Bucket, Committed, Committer, Error, Reader};

/// How the backend batches, and how it treats its file. [`Options::default`] is etcd's.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long rows may wait in memory before they are committed.
    pub batch_interval: Duration,
    /// How many puts and deletes make a batch full.
    pub batch_limit: usize,
    /// Never sync the file (etcd's `--unsafe-no-fsync`).
    pub no_sync: bool,
    /// How many bytes of address space the first map of the file takes.
    pub map_bytes: u64,
    /// How many bytes beyond the pages used the file grows by.
    pub alloc_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch_interval: Duration::from_millis(100),
            batch_limit: 10_000,
            no_sync: false,
            map_bytes: 10 << 30,
            alloc_bytes: 16 << 20,
        }
    }
}

/// The batch that is being filled, and the view of what lies below it.
#[derive(Debug)]
pub struct Backend {
    layers: Arc<RwLock<Layers>>,
    options: Options,
    pending: usize,
    consistent_index: (u64, u64),
}

/// Several writes under one lock: readers see all of them or none, as far as one call of theirs
/// goes. Keep it short; a reader waits meanwhile.
#[derive(Debug)]
pub struct Writer<'a> {
    layers: RwLockWriteGuard<'a, Layers>,
    pending: &'a mut usize,
}

impl Backend {
    /// Opens or makes the database at `path`. Buckets that are missing are made by the first batch.
    pub fn open<D: Disk>(
        disk: D,
        path: &Path,
        options: Options,
    ) -> Result<(Self, Committer<D>), Error> {
        let db = bolt::Db::open(disk, path)?;
        let file = Arc::new(db.begin_read());
        let layers = Layers { open: Overlay::default(), frozen: None, file };
        let backend = Self {
            layers: Arc::new(RwLock::new(layers)),
            options,
            pending: 0,
            consistent_index: (0, 0),
        };
        Ok((backend, Committer::new(db)))
    }

    /// Sets a row.
    pub fn put(&mut self, bucket: Bucket, key: &[u8], value: Bytes) {
        self.write().put(bucket, key, value);
    }

    /// Removes a row; no error if there is none.
    pub fn delete(&mut self, bucket: Bucket, key: &[u8]) {
        self.write().delete(bucket, key);
    }

    /// Takes the lock once for many writes.
    pub fn write(&mut self) -> Writer<'_> {
        Writer { layers: self.layers.write(), pending: &mut self.pending }
    }

    /// The value of one row: of the open batch, the frozen one, or the file.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.reader().get(bucket, key)
    }

    /// Notes the index and term of the last applied entry. They are written into bucket `meta`,
    /// 8 bytes big-endian each, when the batch is frozen: so they travel in the batch they cover.
    pub fn set_consistent_index(&mut self, index: u64, term: u64) {
        self.consistent_index = (index, term);
    }

    /// Index and term of the last applied entry: as set last, at first as found in the file.
    #[must_use]
    pub fn consistent_index(&self) -> (u64, u64) {
        self.consistent_index
    }

    /// A view for reading from any thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.layers))
    }

    /// How many writes wait in the open batch.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Whether it is time to [`Backend::freeze`]: the open batch is full, or has waited for the
    /// batch interval since it was first seen here, and no frozen batch is on its way.
    pub fn wants_commit(&mut self, now: Duration) -> bool {
        let _ = now;
        self.pending >= self.options.batch_limit
    }

    /// Closes the open batch and hands it out for [`Committer::commit`]; its rows stay visible.
    /// `None` if there is nothing to write, or if a frozen batch is on its way.
    pub fn freeze(&mut self) -> Option<Batch> {
        None
    }

    /// Takes the result of a commit or of a defragmentation: readers see the new state of the file
    /// and, for a commit, no frozen batch, from one instant on.
    pub fn committed(&mut self, done: Committed) {
        let _ = done;
    }

    /// The size of the database as etcd reports it: high-water mark times page size, in bytes, as
    /// of the last commit. Not the length of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.read().file.size()
    }

    /// [`Backend::size`] without the free pages.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        self.size()
    }
}

impl Writer<'_> {
    /// Sets a row.
    pub fn put(&mut self, bucket: Bucket, key: &[u8], value: Bytes) {
        *self.pending += 1;
        self.layers.open.rows_mut(bucket).set(key, Some(value));
    }

    /// Removes a row; no error if there is none.
    pub fn delete(&mut self, bucket: Bucket, key: &[u8]) {
        *self.pending += 1;
        self.layers.open.rows_mut(bucket).set(key, None);
    }
}
