//! Watchers by the keys they watch.

use std::collections::BTreeMap;

use super::interval::{End, IntervalMap};

/// What a watcher watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// One key.
    Single(Box<[u8]>),
    /// An interval.
    Range(Box<[u8]>, End),
}

/// Watchers, by number, under what they watch.
#[derive(Debug, Default)]
pub(crate) struct Group {
    singles: BTreeMap<Box<[u8]>, Vec<usize>>,
    ranges: IntervalMap<Vec<usize>>,
}

impl Group {
    /// Adds a watcher; returns its position, which [`Group::remove`] needs.
    pub(crate) fn add(&mut self, keys: &Keys, watcher: usize) -> usize {
        let watchers = match keys {
            Keys::Single(key) => match self.singles.get_mut(key) {
                Some(watchers) => watchers,
                None => self.singles.entry(key.clone()).or_default(),
            },
            Keys::Range(start, end) => self.ranges.entry(start, end),
        };
        watchers.push(watcher);
        watchers.len() - 1
    }

    /// Removes the watcher at `position`; returns the one that has this position now, if any.
    pub(crate) fn remove(&mut self, keys: &Keys, position: usize) -> Option<usize> {
        let watchers = match keys {
            Keys::Single(key) => self.singles.get_mut(key),
            Keys::Range(start, end) => self.ranges.get_mut(start, end),
        };
        let watchers = watchers.expect("a watcher is where it was put");
        watchers.swap_remove(position);
        let moved = watchers.get(position).copied();
        if watchers.is_empty() {
            match keys {
                Keys::Single(key) => drop(self.singles.remove(key)),
                Keys::Range(start, end) => self.ranges.remove(start, end),
            }
        }
        moved
    }

    /// Appends the watchers of `key` to `found`.
    pub(crate) fn find(&self, key: &[u8], found: &mut Vec<usize>) {
        if let Some(watchers) = self.singles.get(key) {
            found.extend_from_slice(watchers);
        }
        self.ranges.stab(key, |watchers| found.extend_from_slice(watchers));
    }
}
