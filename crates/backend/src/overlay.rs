//! Rows in memory that cover those of the file.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;
use std::slice;

use bytes::Bytes;

use crate::Bucket;
use crate::reader::is_below;

/// The rows of one batch, by bucket.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    buckets: [Rows; Bucket::COUNT],
}

/// The rows of one bucket: `None` says that the key is deleted.
///
/// Revisions ascend, so nearly every put of bucket `key` lands behind all others: `run` takes those
/// at the price of a push. `rest` takes what comes out of order: compaction's deletions, leases.
///
/// Invariant: `run` ascends strictly, and no key is in both.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    run: Vec<(Key, Option<Bytes>)>,
    rest: BTreeMap<Key, Option<Bytes>>,
}

/// The longest key that is kept without an allocation of its own; keys of `key` have 17 or 18 bytes.
const KEY_INLINE_BYTES_MAX: usize = 22;

/// A key that lies in the row itself if it is short.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    Inline { len: u8, bytes: [u8; KEY_INLINE_BYTES_MAX] },
    Heap(Box<[u8]>),
}

/// The rows of a bucket from a key on, ascending.
#[derive(Debug)]
pub(crate) struct Iter<'a> {
    run: slice::Iter<'a, (Key, Option<Bytes>)>,
    rest: btree_map::Range<'a, Key, Option<Bytes>>,
    run_head: Option<(&'a Key, &'a Option<Bytes>)>,
    rest_head: Option<(&'a Key, &'a Option<Bytes>)>,
}

impl Overlay {
    pub(crate) fn rows(&self, bucket: Bucket) -> &Rows {
        &self.buckets[bucket as usize]
    }

    pub(crate) fn rows_mut(&mut self, bucket: Bucket) -> &mut Rows {
        &mut self.buckets[bucket as usize]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buckets.iter().all(Rows::is_empty)
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.buckets.iter().map(Rows::len).sum()
    }

    /// An empty overlay with room for as many rows as `self` got, so that a steady load does not
    /// grow its vectors anew for every batch.
    pub(crate) fn successor(&self) -> Self {
        let rows = |n: usize| Rows {
            run: Vec::with_capacity(self.buckets[n].run.len()),
            rest: BTreeMap::new(),
        };
        Self { buckets: std::array::from_fn(rows) }
    }
}

impl Rows {
    fn is_empty(&self) -> bool {
        self.run.is_empty() && self.rest.is_empty()
    }

    fn len(&self) -> usize {
        self.run.len() + self.rest.len()
    }

    pub(crate) fn set(&mut self, key: &[u8], value: Option<Bytes>) {
        let position = match self.run.last() {
            None => Err(0),
            Some((last, _)) if last.as_slice() < key => Err(self.run.len()),
            Some(_) => self.run.binary_search_by(|(probe, _)| probe.as_slice().cmp(key)),
        };
        match position {
            Ok(at) => self.run[at].1 = value,
            Err(at) if at == self.run.len() && !self.rest_reaches(key) => {
                self.run.push((Key::new(key), value));
            }
            Err(_) => {
                self.rest.insert(Key::new(key), value);
            }
        }
    }

    /// Whether `rest` may hold `key`.
    fn rest_reaches(&self, key: &[u8]) -> bool {
        self.rest.last_key_value().is_some_and(|(last, _)| last.as_slice() >= key)
    }

    /// `None` if this overlay does not speak of `key`, `Some(None)` if it is deleted.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        let found = self.run.binary_search_by(|(probe, _)| probe.as_slice().cmp(key));
        match found {
            Ok(at) => Some(self.run[at].1.as_ref()),
            Err(_) if self.rest.is_empty() => None,
            Err(_) => self.rest.get(key).map(Option::as_ref),
        }
    }

    /// The rows with keys from `from` on and below `to`, until `limit` of them are not deletions:
    /// more cannot be among the first `limit` rows of a read through this overlay.
    pub(crate) fn clone_range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Vec<(Key, Option<Bytes>)> {
        let mut out = Vec::new();
        let mut left = limit;
        for (key, value) in self.iter_from(from) {
            if left == 0 || !is_below(key.as_slice(), to) {
                break;
            }
            left -= usize::from(value.is_some());
            out.push((key.clone(), value.clone()));
        }
        out
    }

    /// The rows with keys from `from` on, ascending.
    pub(crate) fn iter_from(&self, from: &[u8]) -> Iter<'_> {
        let start = self.run.partition_point(|(key, _)| key.as_slice() < from);
        let mut run = self.run[start..].iter();
        let mut rest = self.rest.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        Iter { run_head: run.next().map(|(k, v)| (k, v)), rest_head: rest.next(), run, rest }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Key, &'a Option<Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        let from_run = match (&self.run_head, &self.rest_head) {
            (Some((run, _)), Some((rest, _))) => run < rest,
            (run, _) => run.is_some(),
        };
        if from_run {
            let next = self.run.next().map(|(key, value)| (key, value));
            std::mem::replace(&mut self.run_head, next)
        } else {
            let next = self.rest.next();
            std::mem::replace(&mut self.rest_head, next)
        }
    }
}

impl Key {
    pub(crate) fn new(key: &[u8]) -> Self {
        if key.len() > KEY_INLINE_BYTES_MAX {
            return Self::Heap(key.into());
        }
        let mut bytes = [0; KEY_INLINE_BYTES_MAX];
        bytes[..key.len()].copy_from_slice(key);
        Self::Inline { len: key.len() as u8, bytes }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Heap(bytes) => bytes,
        }
    }
}

impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}
