//! The writing half, owned by apply.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::Disk;
use parking_lot::RwLockWriteGuard;

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

/// The row of bucket `meta` that says up to which index entries are applied, 8 bytes big-endian.
pub const CONSISTENT_INDEX_KEY: &[u8] = b"consistent_index";
/// The row of bucket `meta` with the term of that entry, 8 bytes big-endian.
pub const TERM_KEY: &[u8] = b"term";

/// The batch that is being filled, and the view of what lies below it.
#[derive(Debug)]
pub struct Backend {
    reader: Reader,
    options: Options,
    /// Writes in the open batch.
    pending: usize,
    /// When the open batch was first seen to have writes.
    pending_since: Option<Duration>,
    /// The batch on its way to the file.
    in_flight: Option<u64>,
    batches: u64,
    consistent_index: (u64, u64),
    /// As in the batch frozen last, or in the file.
    consistent_index_frozen: (u64, u64),
}

/// Several writes under one lock: one call of a reader sees all of them or none. Keep it short:
/// readers wait meanwhile, and a [`Reader`] used on the same thread waits for ever.
#[derive(Debug)]
pub struct Writer<'a> {
    layers: RwLockWriteGuard<'a, Layers>,
    pending: &'a mut usize,
}

impl Backend {
    /// Opens or makes the database at `path`; what is read from it is durable. Buckets that are missing are made by the first batch.
    pub fn open<D: Disk>(
        disk: D,
        path: &Path,
        options: Options,
    ) -> Result<(Self, Committer<D>), Error> {
        let bolt_options = bolt::Options {
            no_sync: options.no_sync,
            map_bytes: options.map_bytes,
            alloc_bytes: options.alloc_bytes,
            ..bolt::Options::default()
        };
        let db = bolt::Db::open(disk.clone(), path, bolt_options)?;
        db.sync_inherited()?;
        let file = db.begin_read();
        let mark = |key| -> Result<u64, Error> {
            let value = file.get(Bucket::Meta.name(), key)?;
            let number = value.and_then(|value| value.first_chunk().copied());
            Ok(number.map_or(0, u64::from_be_bytes))
        };
        let consistent_index = (mark(CONSISTENT_INDEX_KEY)?, mark(TERM_KEY)?);
        let mut missing = 0;
        for bucket in Bucket::ALL {
            missing += usize::from(file.bucket(bucket.name())?.is_none());
        }
        let layers = Layers { open: Overlay::default(), frozen: None, file: Arc::new(file) };
        let backend = Self {
            reader: Reader::new(layers),
            options,
            pending: missing,
            pending_since: None,
            in_flight: None,
            batches: 0,
            consistent_index,
            consistent_index_frozen: consistent_index,
        };
        Ok((backend, Committer::new(disk, db)))
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
        Writer { layers: self.reader.layers_mut(), pending: &mut self.pending }
    }

    /// The value of one row: of the open batch, the frozen one, or the file.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.reader.get(bucket, key)
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

    /// How the backend was opened.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// A view for reading from any thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// How many writes wait in the open batch.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Whether it is time to [`Backend::freeze`]: the open batch is full, or has waited for the
    /// batch interval since it was first seen here, and no frozen batch is on its way.
    pub fn wants_commit(&mut self, now: Duration) -> bool {
        if self.pending == 0 || self.in_flight.is_some() {
            return false;
        }
        let since = *self.pending_since.get_or_insert(now);
        self.pending >= self.options.batch_limit
            || now.saturating_sub(since) >= self.options.batch_interval
    }

    /// Closes the open batch and hands it out for [`Committer::commit`]; its rows stay visible.
    /// `None` if there is nothing to write, or if a frozen batch is on its way.
    pub fn freeze(&mut self) -> Option<Batch> {
        if self.in_flight.is_some() {
            return None;
        }
        if self.consistent_index != self.consistent_index_frozen {
            let (index, term) = self.consistent_index;
            let number = |number: u64| Bytes::copy_from_slice(&number.to_be_bytes());
            let mut writer = self.write();
            writer.put(Bucket::Meta, CONSISTENT_INDEX_KEY, number(index));
            writer.put(Bucket::Meta, TERM_KEY, number(term));
            drop(writer);
            self.consistent_index_frozen = self.consistent_index;
        }
        if self.pending == 0 {
            return None;
        }
        let mut layers = self.reader.layers_mut();
        assert!(layers.frozen.is_none(), "one frozen batch at a time");
        let successor = layers.open.successor();
        let rows = Arc::new(std::mem::replace(&mut layers.open, successor));
        layers.frozen = Some(Arc::clone(&rows));
        drop(layers);
        (self.pending, self.pending_since) = (0, None);
        self.batches += 1;
        self.in_flight = Some(self.batches);
        Some(Batch { id: self.batches, rows })
    }

    /// Takes the result of a commit or of a defragmentation: readers see the new state of the file
    /// and, for a commit, no frozen batch, from one instant on.
    pub fn committed(&mut self, done: Committed) {
        let mut layers = self.reader.layers_mut();
        let old_file = std::mem::replace(&mut layers.file, done.file);
        let old_rows = match done.batch_id {
            Some(id) => {
                assert_eq!(self.in_flight, Some(id), "batches are committed as they were frozen");
                self.in_flight = None;
                layers.frozen.take()
            }
            None => None,
        };
        drop(layers);
        // Freeing ten thousand rows takes a while: not under the lock.
        drop((old_file, old_rows));
    }

    /// The size of the database as etcd reports it: high-water mark times page size, in bytes, as
    /// of the last commit. Not the length of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.reader.snapshot().size()
    }

    /// [`Backend::size`] without the free pages. Which pages are free is known from the first
    /// commit on.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        self.reader.snapshot().size_in_use()
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
