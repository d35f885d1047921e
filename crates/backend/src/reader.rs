//! Reads over open batch, frozen batch and file.

use std::ops::{ControlFlow, Deref};
use std::sync::Arc;

use bytes::Bytes;
use mutant::mutant;
use parking_lot::{RwLock, RwLockWriteGuard};

use crate::overlay::Overlay;
use crate::{Bucket, Error};

/// What a read looks at, youngest first.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) open: Overlay,
    pub(crate) frozen: Option<Arc<Overlay>>,
    pub(crate) file: Arc<bolt::ReadTx>,
}

/// A view of the backend that may be cloned and used from any thread, beside the writes.
///
/// The layers lie under one lock, the one exception to "no locks below `server`": a read must see
/// a row exactly once while it moves from the open batch to the frozen one and into the file, and
/// the three must change together. It is held to look up or clone rows in memory, never across
/// reading the file, nor while a caller's code runs.
#[derive(Clone, Debug)]
pub struct Reader {
    layers: Arc<RwLock<Layers>>,
}

impl Reader {
    pub(crate) fn new(layers: Layers) -> Self {
        Self { layers: Arc::new(RwLock::new(layers)) }
    }

    pub(crate) fn layers_mut(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write()
    }

    /// The value of one row.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let layers = self.layers.read();
        if let Some(row) = layers.open.rows(bucket).get(key) {
            return Ok(row.cloned());
        }
        let below = layers.below();
        drop(layers);
        Ok(below.get(bucket, key)?.map(|row| row.to_owned()))
    }

    /// Looks up many rows of one moment and calls `visit` for each, in the order of `keys`, with
    /// its position and its value, `None` if there is no such row.
    ///
    /// No lock is held while `visit` runs. A value is where it lies, without a copy. `visit` ends the walk with
    /// `Break`.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: &[(Bucket, K)],
        mut visit: impl FnMut(usize, Option<Row<'_>>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let layers = self.layers.read();
        let open: Vec<Option<Option<Bytes>>> = if layers.open.is_empty() {
            Vec::new()
        } else {
            let row = |(bucket, key): &(Bucket, K)| {
                let row = layers.open.rows(*bucket).get(key.as_ref());
                row.map(|value| value.cloned())
            };
            keys.iter().map(row).collect()
        };
        let below = layers.below();
        drop(layers);
        for (index, (bucket, key)) in keys.iter().enumerate() {
            let flow = match open.get(index) {
                Some(Some(row)) => visit(index, row.as_ref().map(Row::Memory)),
                _ => visit(index, below.get(*bucket, key.as_ref())?),
            };
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Calls `visit` with the rows of `bucket` whose key is at least `from` and below `to` (an
    /// empty `to` has no end), ascending, as of one moment; at most `limit` of them, 0 for all.
    ///
    /// No lock is held while `visit` runs. `visit` ends the scan with `Break`.
    pub fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: &[u8],
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let layers = self.layers.read();
        let open = layers.open.rows(bucket).clone_range(from, to, limit);
        let below = layers.below();
        drop(layers);

        let mut open =
            open.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).peekable();
        let frozen = below.frozen.as_ref().map(|frozen| frozen.rows(bucket).iter_from(from));
        let mut frozen = frozen
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
            .take_while(|(key, _)| is_below(key, to))
            .peekable();
        let mut file = FileRows::seek(&below.file, bucket, from, to)?;
        let mut left = limit;
        while left > 0 {
            // The least key of the three; where it is in several, the youngest row counts.
            let heads = [open.peek().copied(), frozen.peek().copied(), file.head()];
            let Some(key) = heads.iter().flatten().map(|(key, _)| *key).min() else { break };
            let mut same = heads.iter().flatten().filter(|(head, _)| *head == key);
            let youngest = match mutant!("21986") {
                true => same.next_back(),
                false if mutant!("17230") => same.find(|(_, value)| value.is_some()),
                false => same.next(),
            };
            let value = youngest.and_then(|(_, value)| *value);
            open.next_if(|(head, _)| *head == key);
            frozen.next_if(|(head, _)| *head == key);
            file.next_if(key)?;
            let Some(value) = value else { continue };
            left -= 1;
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The state of the file as of the last commit, without the rows that are still in memory.
    #[must_use]
    pub fn snapshot(&self) -> Arc<bolt::ReadTx> {
        Arc::clone(&self.layers.read().file)
    }
}

/// The layers that never change, once taken: no lock is needed to read them.
#[derive(Debug)]
struct Below {
    frozen: Option<Arc<Overlay>>,
    file: Arc<bolt::ReadTx>,
}

/// A row where it lies.
#[derive(Clone, Copy, Debug)]
pub enum Row<'a> {
    /// In memory of its own.
    Memory(&'a Bytes),
    /// In the file's map, as this transaction sees it.
    File(&'a [u8], &'a bolt::ReadTx),
    /// With the caller: a row that was made and is nowhere stored.
    Made(&'a [u8]),
}

/// The file's rows of a range, the head of them read ahead.
#[derive(Debug)]
struct FileRows<'a> {
    cursor: Option<bolt::Cursor<'a>>,
    head: Option<bolt::Item<'a>>,
    to: &'a [u8],
}

impl Layers {
    fn below(&self) -> Below {
        Below { frozen: self.frozen.clone(), file: Arc::clone(&self.file) }
    }
}

impl Below {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Row<'_>>, Error> {
        if let Some(row) = self.frozen.as_ref().and_then(|frozen| frozen.rows(bucket).get(key)) {
            return Ok(row.map(Row::Memory));
        }
        Ok(self.file.get(bucket.name(), key)?.map(|value| Row::File(value, &self.file)))
    }
}

impl Row<'_> {
    /// The row in memory of its own.
    #[must_use]
    pub fn to_owned(&self) -> Bytes {
        match self {
            Self::Memory(row) => Bytes::clone(row),
            Self::File(row, _) | Self::Made(row) => Bytes::copy_from_slice(row),
        }
    }

    /// The row without a copy, if it is stored. One of the file is to be given back soon, see [`bolt::ReadTx::lend`].
    #[must_use]
    pub fn lend(&self) -> Bytes {
        match self {
            Self::File(row, tx) => tx.lend(row),
            Self::Memory(_) | Self::Made(_) => self.to_owned(),
        }
    }

    /// Whether [`Row::lend`] lends memory that is to be given back.
    #[must_use]
    pub fn is_in_file(&self) -> bool {
        matches!(self, Self::File(..))
    }
}

impl Deref for Row<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(row) => row,
            Self::File(row, _) | Self::Made(row) => row,
        }
    }
}

impl<'a> FileRows<'a> {
    fn seek(
        file: &'a bolt::ReadTx,
        bucket: Bucket,
        from: &[u8],
        to: &'a [u8],
    ) -> Result<Self, Error> {
        let mut cursor = file.cursor(bucket.name())?;
        let head = match &mut cursor {
            Some(cursor) => cursor.seek(from)?,
            None => None,
        };
        let mut rows = Self { cursor, head, to };
        rows.cut();
        Ok(rows)
    }

    fn head(&self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        self.head.map(|item| (item.key, Some(item.value)))
    }

    /// Goes on if the head has this key.
    fn next_if(&mut self, key: &[u8]) -> Result<(), Error> {
        if self.head.is_some_and(|head| head.key == key)
            && let Some(cursor) = &mut self.cursor
        {
            self.head = cursor.next()?;
            self.cut();
        }
        Ok(())
    }

    fn cut(&mut self) {
        self.head = self.head.filter(|item| is_below(item.key, self.to));
    }
}

/// Whether a key lies before the end of a range; an empty end is none.
pub(crate) fn is_below(key: &[u8], to: &[u8]) -> bool {
    to.is_empty() || key < to
}
