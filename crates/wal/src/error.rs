//! What can go wrong with a log.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::SnapshotRecord;

/// A failure of the log or of a snapshot file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk failed. After an error of [`Wal`](crate::Wal)'s writing methods the process must stop.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was attempted, like `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer of the disk.
        source: io::Error,
    },
    /// An earlier write or sync failed, so nothing is known about what is on disk.
    #[error("wal: an earlier write failed")]
    Poisoned,
    /// `create` where a log is already.
    #[error("file already exists: {}", .0.display())]
    Exists(PathBuf),
    /// Another process has the segment open.
    #[error("fileutil: file already locked: {}", .0.display())]
    Locked(PathBuf),
    /// There is no segment at all.
    #[error("wal: file not found")]
    FileNotFound,
    /// All segments begin after the snapshot.
    #[error("wal: file not found which matches the snapshot index '{index}'")]
    NoSegment {
        /// Index of the snapshot.
        index: u64,
    },
    /// A segment is missing.
    #[error("wal: file sequence numbers (starting from {start}) do not increase continuously")]
    SequenceGap {
        /// Position of the first segment that was looked at.
        start: usize,
    },
    /// Bytes that are not a log, or no longer.
    #[error("{reason}: in file '{file}' at position: {offset}")]
    Corrupt {
        /// Name of the file.
        file: String,
        /// Offset of the record's frame.
        offset: u64,
        /// What is wrong.
        reason: Reason,
    },
    /// The log has no record of the snapshot that it was opened at.
    #[error("wal: snapshot not found")]
    SnapshotNotFound,
    /// A snapshot record after the initial one must say who the members are.
    #[error("Saved (not-initial) snapshot is missing ConfState: {0:?}")]
    MissingConfState(SnapshotRecord),
    /// There is no `.snap` file that can be used.
    #[error("snap: no available snapshot")]
    NoSnapshot,
    /// There is no database that belongs to the snapshot.
    #[error("snap: snapshot file doesn't exist")]
    NoDbSnapshot,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The record ends beyond the end of the file, or a sector of it was never written.
    Torn,
    /// The declared length is larger than what is left of the file.
    TooLong {
        /// Bytes declared.
        declared: u64,
        /// Bytes left in the file.
        left: u64,
    },
    /// The checksum does not match the data.
    Crc {
        /// The checksum in the record.
        expected: u32,
        /// The checksum of the data.
        computed: u32,
    },
    /// The bytes are not the message that they should be.
    Malformed(&'static str),
    /// A record type that does not exist.
    UnknownType(i64),
    /// Two segments name different members or clusters.
    MetadataConflict,
    /// The record's snapshot has the index of the one asked for, but another term.
    SnapshotMismatch,
    /// An entry that does not follow the one before.
    Gap {
        /// Index of the entry.
        index: u64,
        /// The highest index that could have come here.
        expected: u64,
    },
    /// A segment does not begin as each does. DIFF(etcd): it does not look, and loses what has become another type.
    Head,
    /// A record is none that a member writes, though it can be read: its type may have changed, which its checksum does
    /// not cover. DIFF(etcd): it takes the one for the other.
    Impossible(&'static str),
    /// Records that must have been synced are missing before others that are there.
    Hole {
        /// Where records go on.
        next: u64,
    },
    /// The file is empty, or its message has no data or no checksum.
    Empty,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn => f.write_str("unexpected EOF"),
            Self::TooLong { declared, left } => write!(
                f,
                "unexpected EOF: [wal] max entry size limit exceeded, recBytes: {declared}, entryLimit: {left}"
            ),
            Self::Crc { expected, computed } => {
                write!(f, "walpb: crc mismatch: expected: {expected:x} computed: {computed:x}")
            }
            Self::Malformed(what) => write!(f, "proto: cannot parse {what}"),
            Self::UnknownType(number) => write!(f, "unexpected block type {number}"),
            Self::MetadataConflict => f.write_str("wal: conflicting metadata found"),
            Self::SnapshotMismatch => f.write_str("wal: snapshot mismatch"),
            Self::Gap { index, expected } => write!(
                f,
                "wal: slice bounds out of range, entry index {index}, expected at most {expected}"
            ),
            Self::Head => f.write_str("wal: a segment must begin with a checksum and metadata"),
            Self::Impossible(what) => write!(f, "wal: no member writes such a {what}"),
            Self::Hole { next } => {
                write!(f, "wal: synced records are missing before those at position {next}")
            }
            Self::Empty => f.write_str("snap: empty snapshot"),
        }
    }
}

/// Names the file and the action of a disk's error.
pub(crate) trait IoContext<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.to_owned(), source })
    }
}
