//! The part of the log that is not known to be on stable storage.

use std::collections::VecDeque;

use super::EntryId;
use crate::logger::{Logger, log_line};
use crate::pb::{Entry, Snapshot};

/// Entries and a snapshot until a `Ready` has handed them out and their write was acknowledged.
///
/// The offset may lie below the end of the storage: then the next write truncates the storage first.
#[derive(Debug)]
pub(crate) struct Unstable {
    /// A snapshot from the leader. Invariant: entries follow it.
    pub(crate) snapshot: Option<Snapshot>,
    snapshot_in_progress: bool,
    /// Invariant: `entries[i].index == offset + i`.
    entries: VecDeque<Entry>,
    pub(crate) offset: u64,
    /// Entries below are being written. Invariant: from `offset` to one after the last entry.
    offset_in_progress: u64,
}

impl Unstable {
    pub(crate) const fn new(offset: u64) -> Self {
        Self {
            snapshot: None,
            snapshot_in_progress: false,
            entries: VecDeque::new(),
            offset,
            offset_in_progress: offset,
        }
    }

    pub(crate) fn first_index(&self) -> Option<u64> {
        self.snapshot.as_ref().map(|snapshot| snapshot.metadata.index + 1)
    }

    pub(crate) fn last_index(&self) -> Option<u64> {
        if self.entries.is_empty() {
            self.snapshot.as_ref().map(|snapshot| snapshot.metadata.index)
        } else {
            Some(self.offset + self.entries.len() as u64 - 1)
        }
    }

    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        if let Some(at) = index.checked_sub(self.offset) {
            return self.entries.get(usize::try_from(at).ok()?).map(|entry| entry.term);
        }
        let metadata = &self.snapshot.as_ref()?.metadata;
        (metadata.index == index).then_some(metadata.term)
    }

    pub(crate) fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) const fn offset_in_progress(&self) -> u64 {
        self.offset_in_progress
    }

    fn in_progress(&self) -> usize {
        (self.offset_in_progress - self.offset) as usize
    }

    pub(crate) fn has_next_entries(&self) -> bool {
        self.entries.len() > self.in_progress()
    }

    /// Entries not handed out yet.
    pub(crate) fn next_entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.range(self.in_progress()..)
    }

    /// The snapshot, if it is not handed out yet.
    pub(crate) const fn next_snapshot(&self) -> Option<&Snapshot> {
        if self.snapshot_in_progress { None } else { self.snapshot.as_ref() }
    }

    /// Everything here is handed out now.
    pub(crate) fn accept_in_progress(&mut self) {
        self.offset_in_progress = self.offset + self.entries.len() as u64;
        self.snapshot_in_progress = self.snapshot.is_some();
    }

    /// The entries up to `id` are stable, and no write under way can overwrite them: the caller vouches for that,
    /// see `RawNode::storage_append_resp`. Ignored when the log has changed since the write began.
    pub(crate) fn stable_to(&mut self, id: EntryId, logger: &mut Logger) {
        let EntryId { term, index } = id;
        let Some(ours) = self.term(index) else {
            log_line!(logger, Info, "entry at index {index} missing from unstable log; ignoring");
            return;
        };
        if index < self.offset {
            log_line!(logger, Info, "entry at index {index} matched unstable snapshot; ignoring");
            return;
        }
        if ours != term {
            log_line!(
                logger,
                Info,
                "entry at (index,term)=({index},{term}) mismatched with entry at ({index},{ours}) in unstable log; ignoring"
            );
            return;
        }
        self.entries.drain(..(index + 1 - self.offset) as usize);
        self.offset = index + 1;
        self.offset_in_progress = self.offset_in_progress.max(self.offset);
        self.release_memory();
    }

    /// A burst must not pin its memory; a steady load must not allocate.
    fn release_memory(&mut self) {
        const KEPT: usize = 1024;
        if self.entries.capacity() > KEPT && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(KEPT.max(self.entries.len() * 2));
        }
    }

    pub(crate) fn stable_snapshot_to(&mut self, index: u64) {
        let is_it =
            |snapshot: &Snapshot| snapshot.metadata.index == index || mutant::mutant!("R22");
        if self.snapshot.as_ref().is_some_and(is_it) {
            self.snapshot = None;
            self.snapshot_in_progress = false;
        }
    }

    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        self.offset = snapshot.metadata.index + 1;
        self.offset_in_progress = self.offset;
        self.entries.clear();
        self.snapshot = Some(snapshot);
        self.snapshot_in_progress = false;
    }

    /// Appends, in place of the entries from the first index on.
    pub(crate) fn truncate_and_append(
        &mut self,
        entries: impl IntoIterator<Item = Entry>,
        from: u64,
        logger: &mut Logger,
    ) {
        if from == self.offset + self.entries.len() as u64 {
            // the usual case: nothing to replace
        } else if from <= self.offset {
            log_line!(logger, Info, "replace the unstable entries from index {from}");
            self.entries.clear();
            self.offset = from;
            self.offset_in_progress = from;
        } else {
            log_line!(logger, Info, "truncate the unstable entries before index {from}");
            self.entries.truncate((from - self.offset) as usize);
            // what replaces entries that are being written must be written after them
            self.offset_in_progress = self.offset_in_progress.min(from);
        }
        self.entries.extend(entries);
    }

    /// Entries of `[lo, hi)`, all of which must be here.
    pub(crate) fn slice(&self, lo: u64, hi: u64) -> impl Iterator<Item = &Entry> {
        let upper = self.offset + self.entries.len() as u64;
        assert!(lo <= hi, "invalid unstable.slice {lo} > {hi}");
        assert!(
            lo >= self.offset && hi <= upper,
            "unstable.slice[{lo},{hi}) out of bound [{},{upper}]",
            self.offset
        );
        self.entries.range((lo - self.offset) as usize..(hi - self.offset) as usize)
    }
}
