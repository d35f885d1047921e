//! The log as raft sees it: the stable part in a [`Storage`], the rest in memory.

mod unstable;

use unstable::Unstable;

use std::fmt;

use crate::logger::{Logger, log_line};
use crate::pb::{Entry, Snapshot};
use crate::storage::{Storage, StorageError, limit_size};

/// What makes an entry unique: a leader never appends two entries at one index in its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// An index outside the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOfLog {
    Compacted,
    Unavailable,
}

/// Invariant: `applied <= applying <= committed <= last_index`.
#[derive(Debug)]
pub(crate) struct RaftLog<S> {
    pub(crate) storage: S,
    unstable: Unstable,
    /// Highest index known to be on a quorum's stable storage.
    pub(crate) committed: u64,
    /// Highest index handed out for applying.
    applying: u64,
    /// Highest index applied.
    pub(crate) applied: u64,
    /// Encoded bytes of entries that may be out for applying at a time.
    applying_size_max: u64,
    applying_size: u64,
    /// Whether nothing more is handed out until something was applied.
    applying_paused: bool,
}

impl<S: Storage> RaftLog<S> {
    pub(crate) fn new(storage: S, applying_size_max: u64) -> Self {
        let (first, last) = (storage.first_index(), storage.last_index());
        assert!(
            first > 0 && first <= last + 1,
            "storage holds an impossible log [first: {first}, last: {last}]"
        );
        Self {
            storage,
            unstable: Unstable::new(last + 1),
            committed: first - 1,
            applying: first - 1,
            applied: first - 1,
            // 0 means one entry at a time, as it does for messages
            applying_size_max: applying_size_max.max(1),
            applying_size: 0,
            applying_paused: false,
        }
    }

    // ---- what is there ----

    pub(crate) fn first_index(&self) -> u64 {
        self.unstable.first_index().unwrap_or_else(|| self.storage.first_index())
    }

    pub(crate) fn last_index(&self) -> u64 {
        self.unstable.last_index().unwrap_or_else(|| self.storage.last_index())
    }

    /// Term of the entry at `index`; also known for the entry before the first.
    pub(crate) fn term(&self, index: u64) -> Result<u64, OutOfLog> {
        if let Some(term) = self.unstable.term(index) {
            return Ok(term);
        }
        if index < self.first_index() - 1 {
            return Err(OutOfLog::Compacted);
        }
        if index > self.last_index() {
            return Err(OutOfLog::Unavailable);
        }
        match self.storage.term(index) {
            Ok(term) => Ok(term),
            Err(StorageError::Compacted) => Err(OutOfLog::Compacted),
            Err(StorageError::Unavailable) => Err(OutOfLog::Unavailable),
            Err(error) => panic!("storage failed to return the term at {index}: {error}"),
        }
    }

    /// Term at `index`, 0 outside the log: no entry has term 0.
    pub(crate) fn term_or_zero(&self, index: u64) -> u64 {
        self.term(index).unwrap_or(0)
    }

    pub(crate) fn last_entry_id(&self) -> EntryId {
        let index = self.last_index();
        match self.term(index) {
            Ok(term) => EntryId { term, index },
            Err(error) => {
                panic!("unexpected error when getting the last term at {index}: {error:?}")
            }
        }
    }

    pub(crate) fn matches(&self, id: EntryId) -> bool {
        let term = self.term(id.index);
        term == Ok(id.term) || (term.is_err() && id.term == 0 && mutant::mutant!("R1"))
    }

    /// Whether a log that ends in `theirs` has all that this one has committed: thesis §3.6.1.
    pub(crate) fn is_up_to_date(&self, theirs: EntryId) -> bool {
        let ours = self.last_entry_id();
        theirs.term > ours.term || (theirs.term == ours.term && theirs.index >= ours.index)
    }

    /// The highest index not above `index` whose term may be `term` or lower, with its term (0 when unknown).
    ///
    /// Logs agree up to some point, and terms never fall within a log; so where this log's term is higher than
    /// `term` the other log, whose term at `index` is `term`, must differ. Both ends use this to skip a whole
    /// term for each rejected append rather than one entry.
    pub(crate) fn find_conflict_by_term(&self, index: u64, term: u64) -> (u64, u64) {
        for index in (1..=index).rev() {
            match self.term(index) {
                Err(error) if mutant::mutant!("R2") => panic!("no term at {index}: {error:?}"),
                Err(_) => return (index, 0),
                Ok(ours) if ours <= term => return (index, ours),
                Ok(_) => {}
            }
        }
        (0, 0)
    }

    // ---- appending ----

    /// Appends what a leader sent after `prev`; `None` when the log does not have `prev`, else the index of
    /// the last entry sent. Entries must follow each other from `prev`.
    pub(crate) fn maybe_append(
        &mut self,
        prev: EntryId,
        entries: Vec<Entry>,
        committed: u64,
        logger: &mut Logger,
    ) -> Option<u64> {
        if !self.matches(prev) {
            return None;
        }
        let last_new = prev.index + entries.len() as u64;
        if let Some(at) = self.find_conflict(&entries, logger) {
            let conflict = entries[at].index;
            assert!(
                conflict > self.committed,
                "entry {conflict} conflict with committed entry [committed({})]",
                self.committed
            );
            self.append(entries.into_iter().skip(at), conflict, logger);
        }
        self.commit_to(committed.min(last_new));
        Some(last_new)
    }

    /// Position of the first entry that the log does not have.
    fn find_conflict(&self, entries: &[Entry], logger: &mut Logger) -> Option<usize> {
        let has = |entry: &Entry| self.matches(EntryId { term: entry.term, index: entry.index });
        let at = entries.iter().position(|entry| !has(entry))?;
        let Entry { term, index, .. } = entries[at];
        if index <= self.last_index() {
            log_line!(
                logger,
                Info,
                "found conflict at index {index} [existing term: {}, conflicting term: {term}]",
                self.term_or_zero(index)
            );
        }
        Some(at)
    }

    /// Appends entries from index `from` on, in place of those there.
    pub(crate) fn append(
        &mut self,
        entries: impl IntoIterator<Item = Entry>,
        from: u64,
        logger: &mut Logger,
    ) {
        assert!(
            from > self.committed,
            "after({}) is out of range [committed({})]",
            from.saturating_sub(1),
            self.committed
        );
        self.unstable.truncate_and_append(entries, from, logger);
    }

    /// Starts over from a snapshot, which is newer than what is committed.
    pub(crate) fn restore(&mut self, snapshot: Snapshot, logger: &mut Logger) {
        log_line!(
            logger,
            Info,
            "log [{self}] starts to restore snapshot [index: {}, term: {}]",
            snapshot.metadata.index,
            snapshot.metadata.term
        );
        self.committed = snapshot.metadata.index;
        self.unstable.restore(snapshot);
    }

    // ---- committing and applying ----

    pub(crate) fn commit_to(&mut self, index: u64) {
        if index > self.committed {
            let last = self.last_index();
            assert!(
                index <= last,
                "tocommit({index}) is out of range [lastIndex({last})]. Was the raft log corrupted, truncated, or lost?"
            );
            self.committed = index;
        }
    }

    /// Commits up to `at` if the log has that very entry: a leader commits only entries of its own term by
    /// counting (thesis §3.6.2).
    pub(crate) fn maybe_commit(&mut self, at: EntryId) -> bool {
        // term 0 is no leader's, but the entry before the first may have it
        if at.term != 0 && at.index > self.committed && self.matches(at) {
            self.commit_to(at.index);
            return true;
        }
        false
    }

    /// Entries up to `index` are applied, of `size` encoded bytes.
    pub(crate) fn applied_to(&mut self, index: u64, size: u64) {
        assert!(
            index <= self.committed && index >= self.applied,
            "applied({index}) is out of range [prevApplied({}), committed({})]",
            self.applied,
            self.committed
        );
        self.applied = index;
        self.applying = self.applying.max(index);
        self.applying_size = self.applying_size.saturating_sub(size);
        self.applying_paused = self.applying_size >= self.applying_size_max;
    }

    /// Entries up to `index` are handed out, of `size` encoded bytes.
    pub(crate) fn accept_applying(&mut self, index: u64, size: u64, allow_unstable: bool) {
        assert!(
            index <= self.committed,
            "applying({index}) is out of range [prevApplying({}), committed({})]",
            self.applying,
            self.committed
        );
        self.applying = index;
        self.applying_size = self.applying_size.saturating_add(size);
        // When entries were left behind for their size, wait even if the limit is not quite reached; else the
        // next hand-out would be one small entry.
        self.applying_paused = !mutant::mutant!("R4")
            && (self.applying_size >= self.applying_size_max
                || index < self.appliable_index(allow_unstable));
    }

    fn appliable_index(&self, allow_unstable: bool) -> u64 {
        if allow_unstable || mutant::mutant!("R23") {
            self.committed
        } else {
            self.committed.min(self.unstable.offset - 1)
        }
    }

    pub(crate) fn has_next_committed_entries(&self, allow_unstable: bool) -> bool {
        !self.applying_paused
            && !self.has_next_or_in_progress_snapshot()
            && self.applying < self.appliable_index(allow_unstable)
    }

    /// Committed entries to hand out next. With `allow_unstable` they may still be on their way to the disk.
    pub(crate) fn next_committed_entries(&self, allow_unstable: bool) -> Vec<Entry> {
        if !self.has_next_committed_entries(allow_unstable) {
            return Vec::new();
        }
        let size = self.applying_size_max - self.applying_size;
        let (lo, hi) = (self.applying + 1, self.appliable_index(allow_unstable) + 1);
        match self.slice(lo, hi, size) {
            Ok(entries) => entries,
            Err(error) => panic!("unexpected error when getting unapplied entries ({error:?})"),
        }
    }

    /// Whether any committed entry that is not applied yet changes the configuration.
    pub(crate) fn has_unapplied_conf_changes(&self) -> bool {
        let (mut lo, hi) = (self.applied + 1, self.committed + 1);
        // in pages, or a long backlog would be in memory at once
        while lo < hi {
            let entries = match self.slice(lo, hi, self.applying_size_max) {
                Ok(entries) => entries,
                Err(error) => {
                    panic!("error scanning unapplied entries [{lo}, {hi}): {error:?}")
                }
            };
            assert!(!entries.is_empty(), "got 0 entries in [{lo}, {hi})");
            if entries.iter().any(|entry| entry.entry_type.is_conf_change()) {
                return true;
            }
            lo += entries.len() as u64;
        }
        false
    }

    // ---- handing out for persistence ----

    pub(crate) fn has_next_unstable_entries(&self) -> bool {
        self.unstable.has_next_entries()
    }

    pub(crate) fn next_unstable_entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.unstable.next_entries()
    }

    pub(crate) fn has_next_or_in_progress_unstable_entries(&self) -> bool {
        self.unstable.has_entries()
    }

    pub(crate) const fn next_unstable_snapshot(&self) -> Option<&Snapshot> {
        self.unstable.next_snapshot()
    }

    pub(crate) const fn has_next_or_in_progress_snapshot(&self) -> bool {
        self.unstable.snapshot.is_some()
    }

    pub(crate) fn accept_unstable(&mut self) {
        self.unstable.accept_in_progress();
    }

    pub(crate) fn stable_to(&mut self, id: EntryId, logger: &mut Logger) {
        self.unstable.stable_to(id, logger);
    }

    pub(crate) fn stable_snapshot_to(&mut self, index: u64) {
        self.unstable.stable_snapshot_to(index);
    }

    // ---- reading ----

    /// The snapshot to send to a follower that is too far behind.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, StorageError> {
        match &self.unstable.snapshot {
            Some(snapshot) => Ok(snapshot.clone()),
            None => self.storage.snapshot(),
        }
    }

    /// Entries from `index` on, within `max_size` encoded bytes but at least one if there is any.
    pub(crate) fn entries(&self, index: u64, max_size: u64) -> Result<Vec<Entry>, OutOfLog> {
        let last = self.last_index();
        if index > last {
            return Ok(Vec::new());
        }
        self.slice(index, last + 1, max_size)
    }

    /// Entries of `[lo, hi)`, within `max_size` encoded bytes but at least one.
    fn slice(&self, lo: u64, hi: u64, max_size: u64) -> Result<Vec<Entry>, OutOfLog> {
        assert!(lo <= hi, "invalid slice {lo} > {hi}");
        let (first, last) = (self.first_index(), self.last_index());
        if lo < first {
            return Err(OutOfLog::Compacted);
        }
        assert!(hi <= last + 1, "slice[{lo},{hi}) out of bound [{first},{last}]");
        if lo == hi {
            return Ok(Vec::new());
        }
        let offset = self.unstable.offset;
        if lo >= offset {
            return Ok(limit_size(self.unstable.slice(lo, hi), max_size).cloned().collect());
        }

        let cut = hi.min(offset);
        let mut entries = match self.storage.entries(lo, cut, max_size) {
            Ok(entries) => entries,
            Err(StorageError::Compacted) => return Err(OutOfLog::Compacted),
            Err(error) => panic!("entries[{lo}:{cut}) is unavailable from storage: {error}"),
        };
        assert!(
            entries.first().is_some_and(|entry| entry.index == lo)
                && entries.len() as u64 <= cut - lo,
            "storage returned the wrong entries for [{lo}, {cut})"
        );
        if hi <= offset || (entries.len() as u64) < cut - lo {
            return Ok(entries);
        }
        let mut size: u64 = entries.iter().map(|entry| entry.encoded_len() as u64).sum();
        for entry in self.unstable.slice(offset, hi) {
            size = size.saturating_add(entry.encoded_len() as u64);
            if size > max_size {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }
}

impl<S> fmt::Display for RaftLog<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "committed={}, applied={}, applying={}, unstable.offset={}, unstable.offsetInProgress={}, len(unstable.Entries)={}",
            self.committed,
            self.applied,
            self.applying,
            self.unstable.offset,
            self.unstable.offset_in_progress(),
            self.unstable.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::storage::MemoryStorage;

    /// R2: the search for a term agrees with its definition, also where the log is compacted.
    #[test]
    fn the_search_for_a_term_is_what_it_says() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed, 0);
            let mut term = 1;
            let last = 1 + u64::from(rng.below(12));
            let entries: Vec<_> = (1..=last)
                .map(|index| {
                    term += u64::from(rng.below(2));
                    Entry { term, index, ..Entry::default() }
                })
                .collect();
            let stable = rng.below(last as u32 + 1) as usize;
            let mut storage = MemoryStorage::new();
            storage.append(&entries[..stable]);
            let mut log = RaftLog::new(storage, 0);
            log.append(entries[stable..].to_vec(), stable as u64 + 1, &mut Logger::new(None));
            if stable > 0 {
                // compacted already when it is 0
                let _ = log.storage.compact(u64::from(rng.below(stable as u32 + 1)));
            }
            let before_first = log.first_index() - 1;
            for index in 0..last + 3 {
                for term in 0..term + 2 {
                    let term_at = |index: u64| match index {
                        _ if index < before_first || index > last => None,
                        0 => Some(0),
                        _ => Some(entries[index as usize - 1].term),
                    };
                    let fits = |&at: &u64| at == 0 || term_at(at).is_none_or(|ours| ours <= term);
                    let at = (0..=index).rev().find(fits).unwrap_or(0);
                    let expected = (at, term_at(at).unwrap_or(0));
                    let found = log.find_conflict_by_term(index, term);
                    assert_eq!(found, expected, "seed {seed}, ({index}, {term})");
                }
            }
        }
    }
}
