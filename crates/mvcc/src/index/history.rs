//! The revisions of one key.

use mutant::mutant;

use crate::Rev;

/// What a change did to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Put,
    /// A put with a lease: whoever replaces it must look up which.
    PutLeased,
    Tombstone,
}

/// One revision of a key, in 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    main: i64,
    sub: u32,
    mark: Mark,
}

/// A key as a revision sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Of the row.
    pub(crate) modified: Rev,
    /// The main revision that created the key.
    pub(crate) created: i64,
    /// How many puts since then.
    pub(crate) version: i64,
    /// Whether the row has a lease.
    pub(crate) leased: bool,
}

/// What [`History::compact`] left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compacted {
    /// A revision up to the compaction's is still there.
    pub(crate) kept: bool,
    /// Nothing is left: the key leaves the index.
    pub(crate) empty: bool,
}

/// All revisions of one key, in 16 bytes if there is but one.
#[derive(Debug)]
pub(crate) enum History {
    /// A put that created the key, or a delete whose put was compacted.
    Once(Change),
    Many(Box<Many>),
}

/// A key's life runs in generations, from the put that creates it to its tombstone.
#[derive(Debug)]
pub(crate) struct Many {
    /// Invariant: ascending, not empty.
    changes: Vec<Change>,
    /// What created the first change's generation; its first changes may have been compacted.
    base_created: i64,
    /// The version of the first change.
    base_version: i64,
    /// Where the living generation starts, `changes.len()` if the key is deleted.
    live_start: usize,
}

const _: () = assert!(size_of::<Change>() == 16);
const _: () = assert!(size_of::<History>() == 16);

impl Change {
    pub(crate) fn new(rev: Rev, mark: Mark) -> Self {
        let sub = u32::try_from(rev.sub).expect("a transaction has fewer than 2^32 changes");
        Self { main: rev.main, sub, mark }
    }

    pub(crate) fn rev(self) -> Rev {
        Rev { main: self.main, sub: i64::from(self.sub) }
    }

    fn is_tombstone(self) -> bool {
        self.mark == Mark::Tombstone
    }

    fn found(self, created: i64, version: i64) -> Found {
        let leased = self.mark == Mark::PutLeased;
        Found { modified: self.rev(), created, version, leased }
    }
}

impl History {
    /// A key whose first change creates it (or was left alone by a compaction, if it is a delete).
    pub(crate) fn new(change: Change) -> Self {
        Self::Once(change)
    }

    /// A key whose first row, `change`, is the `version`th since revision `created`.
    pub(crate) fn restored(change: Change, created: i64, version: i64) -> Self {
        if change.is_tombstone() || (created == change.main && version == 1) {
            return Self::Once(change);
        }
        let changes = vec![change];
        let many = Many { changes, base_created: created, base_version: version, live_start: 0 };
        Self::Many(Box::new(many))
    }

    /// Adds the latest change; returns what it replaces.
    pub(crate) fn push(&mut self, change: Change) -> Option<Found> {
        let replaced = self.get(i64::MAX);
        match self {
            Self::Once(first) => {
                let live = !first.is_tombstone();
                let mut many = Many {
                    changes: vec![*first],
                    base_created: if live { first.main } else { 0 },
                    base_version: i64::from(live),
                    live_start: usize::from(!live),
                };
                many.push(change);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => many.push(change),
        }
        replaced
    }

    /// The key as of main revision `at`; `None` if it does not exist then.
    pub(crate) fn get(&self, at: i64) -> Option<Found> {
        match self {
            Self::Once(change) if change.main > at || change.is_tombstone() => None,
            Self::Once(change) => Some(change.found(change.main, 1)),
            Self::Many(many) => many.get(at),
        }
    }

    /// Removes all but the newest revision up to `at`, and that one too if it is a tombstone below
    /// `at`; one at `at` stays, for the watchers that start there.
    pub(crate) fn compact(&mut self, at: i64, removed: &mut impl FnMut(Rev)) -> Compacted {
        match self {
            Self::Once(change) if change.main > at => Compacted { kept: false, empty: false },
            Self::Once(change)
                if change.is_tombstone() && (change.main < at || mutant!("18089")) =>
            {
                removed(change.rev());
                Compacted { kept: false, empty: true }
            }
            Self::Once(_) => Compacted { kept: true, empty: false },
            Self::Many(many) => {
                let compacted = many.compact(at, removed);
                if let Some(once) = many.as_once() {
                    *self = Self::Once(once);
                }
                compacted
            }
        }
    }
}

impl Many {
    fn push(&mut self, change: Change) {
        assert!(
            self.changes.last().is_none_or(|last| last.rev() < change.rev()),
            "the revisions of a key ascend"
        );
        self.changes.push(change);
        if change.is_tombstone() {
            self.live_start = self.changes.len();
        }
    }

    fn get(&self, at: i64) -> Option<Found> {
        let position = match self.changes.last() {
            Some(last) if last.main <= at => self.changes.len() - 1,
            _ => self.changes.partition_point(|change| change.main <= at).checked_sub(1)?,
        };
        let change = self.changes[position];
        if change.is_tombstone() {
            return None;
        }
        let (created, version) = self.created_and_version(position);
        Some(change.found(created, version))
    }

    /// Of the put at `position`.
    fn created_and_version(&self, position: usize) -> (i64, i64) {
        let start = if position >= self.live_start {
            self.live_start
        } else {
            let before = &self.changes[..position];
            before.iter().rposition(|change| change.is_tombstone()).map_or(0, |at| at + 1)
        };
        let puts = i64::try_from(position - start).expect("a vector is shorter than 2^63");
        match start {
            0 => (self.base_created, self.base_version.saturating_add(puts)),
            _ => (self.changes[start].main, puts + 1),
        }
    }

    fn compact(&mut self, at: i64, removed: &mut impl FnMut(Rev)) -> Compacted {
        let after = self.changes.partition_point(|change| change.main <= at);
        let Some(newest) = after.checked_sub(1) else {
            return Compacted { kept: false, empty: false };
        };
        let change = self.changes[newest];
        let kept = !(change.is_tombstone() && (change.main < at || mutant!("18089")));
        let first = if kept { newest } else { after };
        if kept && !change.is_tombstone() {
            (self.base_created, self.base_version) = self.created_and_version(newest);
        } else if let Some(change) = self.changes.get(after) {
            // A generation starts behind the tombstone; its put is a first one.
            (self.base_created, self.base_version) = (change.main, 1);
        }
        for change in self.changes.drain(..first) {
            removed(change.rev());
        }
        self.live_start = self.live_start.saturating_sub(first);
        if self.changes.capacity() / 4 > self.changes.len() {
            self.changes.shrink_to_fit();
        }
        Compacted { kept, empty: self.changes.is_empty() }
    }

    fn as_once(&self) -> Option<Change> {
        let [change] = self.changes[..] else {
            return None;
        };
        let first = self.base_created == change.main && self.base_version == 1;
        (change.is_tombstone() || first).then_some(change)
    }
}
