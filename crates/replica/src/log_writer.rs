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
            LogStep::Release(index) => {
                // The databases of earlier snapshots may yet wait to be installed.
                self.log.release(index);
                Ok(())
            }
        }
    }

    /// Saves a snapshot of this member's own.
    ///
    /// # Errors
    /// As [`LogWriter::append`].
    pub fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), wal::Error> {
        self.record(snapshot)?;
        // What a restart from the snapshot does not need may go.
        let index = snapshot.metadata.index;
        self.log.release(index);
        self.snapshotter.release_dbs(index).map(drop)
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
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use env::{Disk, MemDisk};
    use raft::{ConfState, SnapshotMetadata};

    use super::*;

    fn snapshot(index: u64) -> Snapshot {
        let conf_state = ConfState { voters: vec![1], ..ConfState::default() };
        let metadata = SnapshotMetadata { conf_state, index, term: 1 };
        Snapshot { metadata, ..Snapshot::default() }
    }

    #[test]
    fn a_database_stays_until_nobody_waits_for_it() {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("snap"), 0o700).expect("made");
        let snapshotter = Snapshotter::new(disk.clone(), Path::new("snap"));
        let metadata = wal::Metadata { node_id: 1, cluster_id: 1 };
        let log = Wal::create(disk, Path::new("wal"), &metadata, wal::Options::default());
        let mut writer = LogWriter { log: log.expect("made"), snapshotter };
        for index in [5, 9] {
            let file = writer.snapshotter.receive_db(index, index).expect("begun");
            file.finish().expect("finished");
            let snapshot = snapshot(index);
            writer.perform(LogStep::RecordSnapshot(&snapshot)).expect("recorded");
            writer.perform(LogStep::Release(index)).expect("released");
        }
        // The first may still be on its way to the backend.
        assert!(writer.snapshotter.db_path(5).is_ok());
        // A snapshot of its own a member makes of what it has installed.
        writer.save_snapshot(&snapshot(9)).expect("saved");
        assert!(writer.snapshotter.db_path(5).is_err());
        assert!(writer.snapshotter.db_path(9).is_ok());
    }
}
