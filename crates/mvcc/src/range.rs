//! What a range asks for and what it answers.

pub use api::etcdserverpb::range_request::{SortOrder, SortTarget};

/// A range, in the terms of etcd's `RangeRequest`. The default has no limit, filter or order.
#[derive(Clone, Copy, Debug, Default)]
pub struct RangeArgs<'a> {
    /// The key, or the first key of the range. Never empty.
    pub key: &'a [u8],
    /// Empty: `key` alone. `"\0"`: all keys from `key` on. Else the first key not in the range.
    pub range_end: &'a [u8],
    /// How many rows at most; 0 or less: all.
    pub limit: i64,
    /// At which revision; 0 or less: the current one.
    pub revision: i64,
    /// Direction of the sort.
    pub sort_order: SortOrder,
    /// What is sorted by.
    pub sort_target: SortTarget,
    /// Leave out the values (and, but for a sort by value, the lease).
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Drop rows modified before; 0: none. The other three alike.
    pub min_mod_revision: i64,
    /// Drop rows modified after.
    pub max_mod_revision: i64,
    /// Drop rows created before.
    pub min_create_revision: i64,
    /// Drop rows created after.
    pub max_create_revision: i64,
}

/// The answer to a range, but for the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeResult {
    /// The current revision of the view: the header's revision.
    pub revision: i64,
    /// All keys in the range at that revision, before filters and limit.
    pub count: i64,
    /// Whether the limit cut rows off.
    pub more: bool,
}

/// The answer to a chunk of a range stream, but for the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeChunk {
    /// The revision read at: pass it on with the next chunk.
    pub revision: i64,
    /// All keys from the chunk's start to the end of the range.
    pub count: i64,
    /// Where the next chunk starts; `None` after the last.
    pub next: Option<Vec<u8>>,
}
