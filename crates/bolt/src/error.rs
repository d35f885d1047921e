//! Why an operation failed.

use std::io;
use std::path::{Path, PathBuf};

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk failed. After a failed commit the [`Db`](crate::Db) refuses further writes; the
    /// caller stops the process.
    #[error("{operation} {}: {source}", path.display())]
    Disk {
        /// What was attempted.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The file's bytes make no sense.
    #[error(transparent)]
    Damaged(Box<Damage>),
    /// Another process, or another handle of this one, has the file open.
    #[error("{}: the database is in use", .0.display())]
    Locked(PathBuf),
    /// An earlier commit failed; what is on disk is unknown.
    #[error("{}: an earlier commit failed", .0.display())]
    Failed(PathBuf),
    /// A row of this name is there and is not a bucket, or is one where a value was meant.
    #[error("incompatible value")]
    IncompatibleValue,
    /// A key or the name of a bucket is empty.
    #[error("key required")]
    KeyRequired,
    /// A key is longer than [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX).
    #[error("key too large")]
    KeyTooLarge,
    /// A value is longer than [`VALUE_BYTES_MAX`](crate::VALUE_BYTES_MAX).
    #[error("value too large")]
    ValueTooLarge,
}

/// Where a file is damaged, and how.
#[derive(Debug, thiserror::Error)]
#[error("{}: page {page}: {what}", path.display())]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The page that makes no sense.
    pub page: u64,
    /// What is wrong with it.
    pub what: String,
}

impl Error {
    /// For `map_err` on disk operations.
    pub(crate) fn disk(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { operation, path: path.to_owned(), source }
    }

    #[cold]
    pub(crate) fn damaged(path: &Path, page: u64, what: impl Into<String>) -> Self {
        Self::Damaged(Box::new(Damage { path: path.to_owned(), page, what: what.into() }))
    }
}
