//! The key index: which revisions each key has, in memory.
//!
//! Most keys of most stores are written once, so that case takes no allocation beyond the key.

mod history;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

pub(crate) use history::{Change, Found, History, Mark};

use crate::Rev;

/// All keys that have a revision which no compaction has removed.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: BTreeMap<Box<[u8]>, History>,
    /// How many of them exist now.
    live: usize,
}

/// The keys of a request: one, or a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    from: &'a [u8],
    end: End<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End<'a> {
    /// `from` alone.
    Single,
    Before(&'a [u8]),
    Unbounded,
}

impl<'a> Span<'a> {
    /// Reads `key` and `range_end` as etcd's requests mean them. `None`: no key can be in it.
    pub(crate) fn new(key: &'a [u8], range_end: &'a [u8]) -> Option<Self> {
        let end = match range_end {
            b"" => End::Single,
            b"\0" => End::Unbounded,
            end if key < end => End::Before(end),
            _ => return None,
        };
        Some(Self { from: key, end })
    }

    pub(crate) fn single(&self) -> Option<&'a [u8]> {
        (self.end == End::Single).then_some(self.from)
    }

    fn upper(&self) -> Bound<&'a [u8]> {
        match self.end {
            End::Single => Bound::Included(self.from),
            End::Before(end) => Bound::Excluded(end),
            End::Unbounded => Bound::Unbounded,
        }
    }
}

/// A place in a walk over the index that is made in chunks, so that the lock is never held long.
/// What others change meanwhile does not show: a walk looks at one revision.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursor {
    after: Option<Box<[u8]>>,
    done: bool,
}

impl Cursor {
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    fn bounds<'b>(&'b self, span: &Span<'b>) -> (Bound<&'b [u8]>, Bound<&'b [u8]>) {
        let lower = match &self.after {
            Some(key) => Bound::Excluded(&**key),
            None => Bound::Included(span.from),
        };
        // `after` lies in the span; a map refuses the empty range behind a single key.
        match (lower, span.end) {
            (Bound::Excluded(_), End::Single) => (Bound::Included(b""), Bound::Excluded(b"")),
            _ => (lower, span.upper()),
        }
    }
}

impl Index {
    /// The index of keys that come in ascending order, each once.
    pub(crate) fn from_sorted(keys: impl Iterator<Item = (Box<[u8]>, History)>) -> Self {
        let mut live = 0;
        let keys = keys
            .inspect(|(_, history)| live += usize::from(history.get(i64::MAX).is_some()))
            .collect();
        Self { keys, live }
    }

    /// How many keys exist now.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// The key as of revision `at`.
    pub(crate) fn get(&self, key: &[u8], at: i64) -> Option<Found> {
        self.keys.get(key)?.get(at)
    }

    /// Adds a put; returns what it replaces.
    pub(crate) fn put(&mut self, key: &[u8], rev: Rev, leased: bool) -> Option<Found> {
        let change = Change::new(rev, if leased { Mark::PutLeased } else { Mark::Put });
        if let Some(history) = self.keys.get_mut(key) {
            let replaced = history.push(change);
            self.live += usize::from(replaced.is_none());
            return replaced;
        }
        match self.keys.entry(key.into()) {
            Entry::Vacant(entry) => entry.insert(History::new(change)),
            Entry::Occupied(_) => unreachable!("the key was looked up just now"),
        };
        self.live += 1;
        None
    }

    /// Calls `visit` with keys of `span` that exist at revision `at`, ascending, from `cursor` on;
    /// looks at `keys_max` keys at most.
    pub(crate) fn walk(
        &self,
        span: &Span<'_>,
        cursor: &mut Cursor,
        at: i64,
        keys_max: usize,
        mut visit: impl FnMut(&[u8], Found),
    ) {
        let mut last = None;
        let mut seen = 0;
        for (key, history) in self.keys.range::<[u8], _>(cursor.bounds(span)).take(keys_max) {
            if let Some(found) = history.get(at) {
                visit(key, found);
            }
            last = Some(key);
            seen += 1;
        }
        cursor.done = seen < keys_max;
        cursor.after = last.cloned();
    }

    /// Deletes keys of `span` that exist, as [`Index::walk`] goes: `delete` gets the key and what
    /// it was, and gives the delete's revision.
    pub(crate) fn delete(
        &mut self,
        span: &Span<'_>,
        cursor: &mut Cursor,
        keys_max: usize,
        mut delete: impl FnMut(&[u8], Found) -> Rev,
    ) {
        let mut last = None;
        let mut seen = 0;
        for (key, history) in self.keys.range_mut::<[u8], _>(cursor.bounds(span)).take(keys_max) {
            if let Some(found) = history.get(i64::MAX) {
                history.push(Change::new(delete(key, found), Mark::Tombstone));
                self.live -= 1;
            }
            last = Some(key);
            seen += 1;
        }
        cursor.done = seen < keys_max;
        cursor.after = last.cloned();
    }

    /// Removes what a compaction to revision `at` removes, from `keys_max` keys at most, and tells
    /// `removed` of each such revision. Returns how many revisions up to `at` it keeps.
    pub(crate) fn compact(
        &mut self,
        cursor: &mut Cursor,
        at: i64,
        keys_max: usize,
        mut removed: impl FnMut(Rev),
    ) -> usize {
        let all = Span { from: b"", end: End::Unbounded };
        let mut last = None;
        let (mut seen, mut kept) = (0, 0);
        let mut gone = Vec::new();
        for (key, history) in self.keys.range_mut::<[u8], _>(cursor.bounds(&all)).take(keys_max) {
            let compacted = history.compact(at, &mut removed);
            kept += usize::from(compacted.kept);
            if compacted.empty {
                gone.push(key.clone());
            }
            last = Some(key);
            seen += 1;
        }
        cursor.done = seen < keys_max;
        cursor.after = last.cloned();
        for key in gone {
            self.keys.remove(&key);
        }
        kept
    }
}
