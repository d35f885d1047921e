//! What it is: an engine for bbolt's file format (version 2): one writer, readers that never block it.
//! What it never does: know what the rows mean, retry a disk operation, trust a byte of the file.
//! Entry types: [`Db`], [`WriteTx`], [`ReadTx`], [`Cursor`].
//! Owner: the backend's commit thread owns [`Db`]; a [`ReadTx`] may be shared by any thread.
//! How to test it: `cargo test -p bolt`.

use std::io;
use std::path::Path;

use env::Disk;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk failed; the caller stops the process.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A consistent view of the last committed state; cheap to clone.
#[derive(Clone, Debug)]
pub struct ReadTx {
    size: u64,
}

impl ReadTx {
    /// The value of `key` in the top-level bucket `bucket`.
    pub fn get(&self, _bucket: &[u8], _key: &[u8]) -> Result<Option<&[u8]>, Error> {
        Ok(None)
    }

    /// High-water mark times page size, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// An open database.
#[derive(Debug)]
pub struct Db<D: Disk> {
    _disk: D,
}

impl<D: Disk> Db<D> {
    /// Opens or makes the file at `path`.
    pub fn open(disk: D, _path: &Path) -> Result<Self, Error> {
        Ok(Self { _disk: disk })
    }

    /// A view of the last committed state.
    #[must_use]
    pub fn begin_read(&self) -> ReadTx {
        ReadTx { size: 0 }
    }
}
