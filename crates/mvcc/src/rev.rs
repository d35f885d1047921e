//! Revisions and the keys of bucket `key`.

/// A revision: the number of the transaction, and of the change within it, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rev {
    /// The transaction. The empty store is at 1; the first change gets 2.
    pub main: i64,
    /// The change within the transaction, from 0.
    pub sub: i64,
}
