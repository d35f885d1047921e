//! What it is: etcd's multi-version key space over the backend, and the watchers of its changes.
//! What it never does: know of raft or gRPC, decode a stored value to hand it out, read a clock.
//! Entry types: [`Store`] (writes), [`Reader`] (reads), [`watch::Hub`] (watches).
//! Owner: apply owns [`Store`], the watch thread owns [`watch::Hub`], anyone may hold a [`Reader`].
//! How to test it: `cargo test -p mvcc`; scripts in `testdata/`, properties against a naive model.
//!
//! A stored value is a serialized `mvccpb.KeyValue`. What comes out of a range or a watch is those
//! very bytes, to be spliced into an answer behind a tag and a length.

mod compact;
mod event;
mod hash;
mod index;
mod range;
mod reader;
mod restore;
mod rev;
mod shared;
mod store;
mod txn;
pub mod watch;

pub use backend::Row;
pub use compact::CompactionProgress;
pub use event::{Event, EventBatch, EventKind};
pub use hash::KvHash;
pub use range::{RangeArgs, RangeChunk, RangeResult, SortOrder, SortTarget};
pub use reader::Reader;
pub use rev::Rev;
pub use store::{FINISHED_COMPACT_KEY, Options, SCHEDULED_COMPACT_KEY, Store};
pub use txn::{DeleteRange, KeyMeta, Put, WriteTxn};

/// Why a read, a compaction or a hash was refused, or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The revision asked for lies below the compact revision.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// The revision asked for does not exist yet.
    #[error("mvcc: required revision is a future revision")]
    Future,
    /// The backend is damaged or its disk failed; the caller stops the process.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// A row of the backend is not what etcd writes; the caller stops the process.
    #[error("mvcc: damaged row in bucket {bucket}: {what}")]
    Damaged {
        /// The bucket's name.
        bucket: &'static str,
        /// What is wrong with the row.
        what: &'static str,
    },
}
