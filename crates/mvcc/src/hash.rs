//! Hashes over the key space.

/// The hash of the key space at a revision, as HashKV and the check of compactions compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C.
    pub hash: u32,
    /// The compact revision that it was computed with, -1 if none.
    pub compact_revision: i64,
    /// The revision hashed.
    pub revision: i64,
}
