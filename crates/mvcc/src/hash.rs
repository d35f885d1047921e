//! Hashes over the key space.

use std::ops::ControlFlow;

use backend::Bucket;

use crate::index::{Cursor, Span};
use crate::range::View;
use crate::shared::WALK_KEYS;
use crate::{Error, Rev};

/// How many hashes of compactions are kept.
pub(crate) const HASHES_MAX: usize = 10;

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

/// A hash in the making: rows of bucket `key` go in, in order.
#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    crc: u32,
    compact: i64,
    revision: i64,
}

impl Hasher {
    /// `compact`: the compact revision the hash is relative to.
    pub(crate) fn new(compact: i64, revision: i64) -> Self {
        Self { crc: crc32c::crc32c(Bucket::Key.name()), compact, revision }
    }

    /// Adds a row. `kept` tells whether the compaction to `compact` keeps it (or may have removed
    /// nothing at all); it is asked only about rows that it covers.
    pub(crate) fn write(
        &mut self,
        key: &[u8],
        value: &[u8],
        kept: impl FnOnce(Rev) -> bool,
    ) -> Result<(), Error> {
        let (rev, tombstone) = parse(key)?;
        let removed = || rev.main <= self.compact && !kept(rev);
        // Members before 3.5.16 removed a tombstone at the compact revision; so nobody hashes it.
        let ambiguous = rev.main == self.compact && tombstone;
        if rev.main > self.revision || ambiguous || removed() {
            return Ok(());
        }
        self.crc = crc32c::crc32c_append(self.crc, key);
        self.crc = crc32c::crc32c_append(self.crc, value);
        Ok(())
    }

    pub(crate) fn finish(&self) -> KvHash {
        KvHash { hash: self.crc, compact_revision: self.compact, revision: self.revision }
    }
}

pub(crate) fn parse(key: &[u8]) -> Result<(Rev, bool), Error> {
    Rev::from_key(key).ok_or(Error::Damaged { bucket: "key", what: "a key is no revision" })
}

/// Hashes all rows up to `revision`. The rows that a compaction to the compact revision removes
/// are left out, whether it has removed them by now or not.
pub(crate) fn hash_kv(view: &View<'_>, revision: i64) -> Result<(KvHash, i64), Error> {
    let compact = view.shared.compact();
    if revision > 0 && revision < compact {
        return Err(Error::Compacted);
    }
    if revision > view.current {
        return Err(Error::Future);
    }
    let revision = if revision == 0 { view.current } else { revision };
    let (any_kept, mut kept) = kept_until(view, revision, compact);
    if !any_kept {
        // Members then hash all rows that they have, which must not depend on how far they are
        // with removing those that the compaction does not keep.
        // DIFF(etcd): there it does.
        kept = kept_until(view, compact, compact).1;
    }
    let mut kept = kept.into_iter().peekable();
    let mut hasher = Hasher::new(compact, revision);
    let mut failed = None;
    view.backend.scan(Bucket::Key, b"", b"", 0, |key, value| {
        // Rows come in the order of revisions, and so does `kept`.
        let is_kept = |rev| {
            while kept.next_if(|next| *next < rev).is_some() {}
            kept.peek() == Some(&rev)
        };
        match hasher.write(key, value, is_kept) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or_else(|| Ok((hasher.finish(), view.current)), Err)
}

/// Whether any key exists at `revision`, and the revisions up to `compact` of those that do.
fn kept_until(view: &View<'_>, revision: i64, compact: i64) -> (bool, Vec<Rev>) {
    let span = Span::new(b"", b"\0").expect("a span without end is never empty");
    let mut cursor = Cursor::default();
    let mut any = false;
    let mut kept = Vec::new();
    while !cursor.is_done() {
        let index = view.shared.index.read();
        index.walk(&span, &mut cursor, revision, WALK_KEYS, |_, found| {
            any = true;
            if found.modified.main <= compact {
                kept.push(found.modified);
            }
        });
    }
    kept.sort_unstable();
    (any, kept)
}
