//! Where the stable part of the log is read from.

use std::collections::VecDeque;

use crate::pb::{ConfState, Entry, HardState, Snapshot};

/// Why a [`Storage`] cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The index is before the first that is kept.
    #[error("requested index is unavailable due to compaction")]
    Compacted,
    /// The index is after the last.
    #[error("requested entry at index is unavailable")]
    Unavailable,
    /// A newer snapshot is there already.
    #[error("requested index is older than the existing snapshot")]
    SnapOutOfDate,
    /// A snapshot is being made; raft asks again later.
    #[error("snapshot is temporarily unavailable")]
    SnapshotTemporarilyUnavailable,
    /// The medium failed. Raft cannot go on and panics, since what it has promised may be gone.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// The log and state as far as they are stable, read by raft and written by its user as each `Ready` says.
pub trait Storage {
    /// What was saved before the last stop; defaults when nothing was. Asked once, at start.
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError>;

    /// Entries of `[lo, hi)`, from `lo`, as many as fit in `max_size` encoded bytes but at least one.
    ///
    /// `Compacted` when `lo` is before the first index, `Unavailable` when `[lo, hi)` is not all there.
    fn entries(&self, lo: u64, hi: u64, max_size: u64) -> Result<Vec<Entry>, StorageError>;

    /// Term of the entry at `index`, which is from one before the first (its term is kept) to the last.
    fn term(&self, index: u64) -> Result<u64, StorageError>;

    /// First index that `entries` can return, one after the snapshot's when the log is empty.
    fn first_index(&self) -> u64;

    /// Index of the last entry, or of the snapshot when the log is empty.
    fn last_index(&self) -> u64;

    /// The newest snapshot, or `SnapshotTemporarilyUnavailable`.
    fn snapshot(&self) -> Result<Snapshot, StorageError>;
}

/// The longest prefix within `max_size` encoded bytes, but at least one entry.
pub(crate) fn limit_size<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    max_size: u64,
) -> impl Iterator<Item = &'a Entry> {
    let mut size = 0u64;
    let mut first = true;
    entries.take_while(move |entry| {
        size = size.saturating_add(entry.encoded_len() as u64);
        std::mem::take(&mut first) || size <= max_size
    })
}

/// A [`Storage`] in memory. etcd keeps one in front of its write-ahead log.
#[derive(Clone, Debug)]
pub struct MemoryStorage {
    hard_state: HardState,
    snapshot: Snapshot,
    /// Index and term of the entry before the first: compacted, or of the snapshot.
    before_first: (u64, u64),
    /// Invariant: `entries[i].index == before_first.0 + 1 + i`.
    entries: VecDeque<Entry>,
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStorage {
    /// An empty storage: no entry, no configuration.
    pub fn new() -> Self {
        Self {
            hard_state: HardState::default(),
            snapshot: Snapshot::default(),
            before_first: (0, 0),
            entries: VecDeque::new(),
        }
    }

    /// Saves the hard state.
    pub const fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Replaces everything by the snapshot. `SnapOutOfDate` unless it is newer than the one here; before the
    /// first, one at index 0 may set just the configuration.
    pub fn apply_snapshot(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        let index = self.snapshot.metadata.index;
        if index != 0 && index >= snapshot.metadata.index {
            return Err(StorageError::SnapOutOfDate);
        }
        let term = if mutant::mutant!("R25") { 0 } else { snapshot.metadata.term };
        self.before_first = (snapshot.metadata.index, term);
        self.entries.clear();
        self.snapshot = snapshot;
        Ok(())
    }

    /// Makes a snapshot at `index`, which must be in the log. `conf_state` is the last result of
    /// `apply_conf_change`, if there was any since the last snapshot. `SnapOutOfDate` unless it is newer.
    pub fn create_snapshot(
        &mut self,
        index: u64,
        conf_state: Option<ConfState>,
        data: bytes::Bytes,
    ) -> Result<&Snapshot, StorageError> {
        if index <= self.snapshot.metadata.index {
            return Err(StorageError::SnapOutOfDate);
        }
        let last = self.last_index();
        assert!(index <= last, "snapshot {index} is out of bound lastindex({last})");
        self.snapshot.metadata.term = self.term(index)?;
        self.snapshot.metadata.index = index;
        if let Some(conf_state) = conf_state {
            self.snapshot.metadata.conf_state = conf_state;
        }
        self.snapshot.data = data;
        Ok(&self.snapshot)
    }

    /// Drops the entries up to `index`, which must be applied. `Compacted` when that is done already.
    pub fn compact(&mut self, index: u64) -> Result<(), StorageError> {
        if index <= self.before_first.0 {
            return Err(StorageError::Compacted);
        }
        let last = self.last_index();
        assert!(index <= last, "compact {index} is out of bound lastindex({last})");
        let term = self.term(index)?;
        self.entries.drain(..(index - self.before_first.0) as usize);
        self.before_first = (index, term);
        Ok(())
    }

    /// Appends consecutive entries, in place of those with the same or a higher index. Compacted ones are
    /// skipped; a gap after the last entry is a mistake of the caller.
    pub fn append(&mut self, entries: &[Entry]) {
        let first = self.first_index();
        let skip = entries.iter().take_while(|entry| entry.index < first).count();
        let entries = &entries[skip..];
        let Some(head) = entries.first() else { return };
        let last = self.last_index();
        let at = head.index;
        assert!(at <= last + 1, "missing log entry [last: {last}, append at: {at}]");
        self.entries.truncate((at - first) as usize);
        self.entries.extend(entries.iter().cloned());
    }
}

impl Storage for MemoryStorage {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        Ok((self.hard_state, self.snapshot.metadata.conf_state.clone()))
    }

    fn entries(&self, lo: u64, hi: u64, max_size: u64) -> Result<Vec<Entry>, StorageError> {
        let (first, last) = (self.first_index(), self.last_index());
        if lo < first {
            return Err(StorageError::Compacted);
        }
        if hi > last + 1 || lo > hi {
            return Err(StorageError::Unavailable);
        }
        let range = self.entries.range((lo - first) as usize..(hi - first) as usize);
        Ok(limit_size(range, max_size).cloned().collect())
    }

    fn term(&self, index: u64) -> Result<u64, StorageError> {
        let (before, term) = self.before_first;
        if index == before {
            return Ok(term);
        }
        let at = index.checked_sub(before + 1).ok_or(StorageError::Compacted)?;
        self.entries.get(at as usize).map(|entry| entry.term).ok_or(StorageError::Unavailable)
    }

    fn first_index(&self) -> u64 {
        self.before_first.0 + 1
    }

    fn last_index(&self) -> u64 {
        self.before_first.0 + self.entries.len() as u64
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Ok(self.snapshot.clone())
    }
}
