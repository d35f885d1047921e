//! Why a member does not start.

use std::io;
use std::path::{Path, PathBuf};

/// Why [`crate::Member::start`] failed. The texts go into the log line `discovery failed`.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory can't be used.
    #[error("cannot access data directory: {0}")]
    DataDir(String),
    /// A disk operation failed.
    #[error("{0}")]
    Disk(String),
    /// The log or a snapshot file can't be used.
    #[error(transparent)]
    Wal(#[from] wal::Error),
    /// The log holds what no member writes.
    #[error("{0}")]
    Log(String),
    /// The database can't be used.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// The database's contents can't be used.
    #[error("{0}")]
    Database(String),
    /// The flags about the initial cluster contradict each other.
    #[error(transparent)]
    Initial(#[from] cluster::InitialError),
    /// Log and database don't belong together.
    #[error("log {} and database {}: {source}", wal_dir.display(), db.display())]
    Boot {
        /// Where the log is.
        wal_dir: PathBuf,
        /// The database.
        db: PathBuf,
        /// What does not fit.
        source: replica::BootError,
    },
    /// What the members of a running cluster say of it, or that they say nothing.
    #[error("{0}")]
    Join(String),
    /// Its data is not that of the other members.
    #[error("{0}")]
    Corrupt(String),
    /// An address can't be listened on.
    #[error("{0}")]
    Listen(String),
    /// Something that a later release brings.
    #[error("{0}")]
    Unsupported(String),
}

impl StartError {
    /// The engine's errors name the file, those of what it holds do not.
    pub(crate) fn database(path: &Path, err: &dyn std::fmt::Display) -> Self {
        let (path, text) = (path.display().to_string(), err.to_string());
        Self::Database(if text.contains(&path) { text } else { format!("{path}: {text}") })
    }

    pub(crate) fn disk(operation: &str, path: &Path, err: io::Error) -> Self {
        Self::Disk(format!("{operation} {}: {err}", path.display()))
    }

    pub(crate) fn data_dir(path: &Path, err: &io::Error) -> Self {
        let reason = match err.kind() {
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            io::ErrorKind::NotADirectory => "not a directory".to_owned(),
            _ => err.to_string(),
        };
        Self::DataDir(format!("mkdir {}: {reason}", path.display()))
    }
}
