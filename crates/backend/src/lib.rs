//! What it is: etcd's named buckets over bolt: a batch of rows in memory, and the file below it.
//! What it never does: know what a row means, wait for the disk on the way of a write, read a clock.
//! Entry types: [`Backend`] (writes), [`Reader`] (reads), [`Committer`] (the file).
//! Owner: apply owns [`Backend`], the commit thread owns [`Committer`], anyone may hold a [`Reader`].
//! How to test it: `cargo test -p backend`.
//!
//! ```text
//! put, delete -> open batch --freeze--> frozen batch --commit--> file
//!                     \__________________ | _______________________/
//!                                     a read sees all three
//! ```
//!
//! A write never waits for the disk: it goes into the *open* batch, which is a sorted overlay in
//! memory. When the batch is full or old, [`Backend::freeze`] turns it into a [`Batch`] for the
//! commit thread while the next one fills; its rows stay visible. [`Backend::committed`] drops them
//! at the same instant at which the new state of the file becomes visible.
//!
//! The consistent index is written into the batch whose entries it covers, so that a batch is
//! durable with its index or not at all.

mod backend;
mod bucket;
mod committer;
mod hash;
mod overlay;
mod reader;

pub use backend::{Backend, CONSISTENT_INDEX_KEY, Options, TERM_KEY, Writer};
pub use bucket::Bucket;
pub use committer::{Batch, Committed, Committer};
pub use hash::{hash, skip_local};
pub use reader::{Reader, Row};

/// Why an operation failed. Every one of them means that the file or the disk is broken: the
/// caller stops the process, but for a failed defragmentation (see [`Committer::defrag`]).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is damaged, held by another process, or the disk failed.
    #[error(transparent)]
    Bolt(#[from] bolt::Error),
    /// A disk operation outside the database file failed.
    #[error("{operation} {}: {source}", path.display())]
    Disk {
        /// What was attempted.
        operation: &'static str,
        /// On which file or folder.
        path: std::path::PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn disk(
        operation: &'static str,
        path: &std::path::Path,
        source: std::io::Error,
    ) -> Self {
        Self::Disk { operation, path: path.to_owned(), source }
    }
}
