//! What the disk thread does with the log, in the order that a restart relies on.

use env::Disk;
use raft::{Message, Snapshot};
use wal::snap::Snapshotter;
use wal::{SnapshotRecord, Wal};

use crate::{LogStep, Persist};

/// The log and the snapshot files of a member.
#[derive(Debug)]
pub struct LogWriter<D: Disk> {
    /// The log.
    pub log: Wal<D>,
    /// The directory of `.snap` files.
    pub snapshotter: Snapshotter<D>,
}

impl<D: Disk> LogWriter<D> {
    /// Writes what `persist` says and returns its responses, for
    /// [`Event::Persisted`](crate::Event::Persisted).
    ///
    /// # Errors
    /// If the disk fails: the process must stop.
    pub fn append(&mut self, persist: Persist) -> Result<Vec<Message>, wal::Error> {
        for step in persist.steps() {
            self.perform(step)?;
        }
        Ok(persist.responses)
    }

    /// Does one of the [`Persist::steps`], which come in the order that a restart relies on.
    ///
    /// # Errors
    /// As [`LogWriter::append`].
    pub fn perform(&mut self, step: LogStep<'_>) -> Result<(), wal::Error> {
        match step {
            LogStep::RecordSnapshot(snapshot) => self.record(snapshot),
            LogStep::Save { hard_state, entries, must_sync } => {
                self.log.save(&hard_state, entries, must_sync)
            }
            LogStep::Release(index) => self.release(index),
        }
    }

    /// Saves a snapshot of this member's own.
    ///
    /// # Errors
    /// As [`LogWriter::append`].
    pub fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), wal::Error> {
        self.record(snapshot)?;
        self.release(snapshot.metadata.index)
    }

    /// The file first, then its record: a record without a file could not be opened.
    fn record(&mut self, snapshot: &Snapshot) -> Result<(), wal::Error> {
        self.snapshotter.save(snapshot)?;
        let metadata = &snapshot.metadata;
        self.log.save_snapshot(&SnapshotRecord {
            index: metadata.index,
            term: metadata.term,
            conf_state: Some(metadata.conf_state.clone()),
        })
    }

    /// What a restart from the snapshot does not need may go.
    fn release(&mut self, index: u64) -> Result<(), wal::Error> {
        self.log.release(index);
        self.snapshotter.release_dbs(index).map(drop)
    }
}
