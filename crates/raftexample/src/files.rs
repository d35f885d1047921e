//! What a member keeps on disk: its log and its snapshots, in two folders of the working directory.

use std::path::PathBuf;

use env::{Disk, OsDisk};
use raft::{MemoryStorage, Snapshot};
use wal::snap::Snapshotter;
use wal::{Error, Metadata, Options, SnapshotRecord, Wal};

use crate::log;

const DIR_MODE: u32 = 0o750;

/// The files of a member.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) wal: Wal<OsDisk>,
    pub(crate) snapshotter: Snapshotter<OsDisk>,
}

/// A member's files, and what they hold.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) files: Files,
    pub(crate) storage: MemoryStorage,
    /// Whether there was a log.
    pub(crate) is_old: bool,
}

/// Where `raftexample-<id>` and `raftexample-<id>-snap` are.
fn folders(id: u64) -> Result<(PathBuf, PathBuf), Error> {
    let here = std::env::current_dir().map_err(|source| Error::Io {
        action: "find",
        path: PathBuf::from("."),
        source,
    })?;
    let name = format!("raftexample-{id}");
    Ok((here.join(&name), here.join(format!("{name}-snap"))))
}

/// Opens the files of member `id`, or makes them.
pub(crate) fn open(id: u64) -> Result<Opened, Error> {
    let disk = OsDisk;
    let (wal_dir, snap_dir) = folders(id)?;
    disk.create_dir_all(&snap_dir, DIR_MODE).map_err(|source| Error::Io {
        action: "create",
        path: snap_dir.clone(),
        source,
    })?;
    let snapshotter = Snapshotter::new(disk, &snap_dir);
    let is_old = wal::exists(&disk, &wal_dir)?;
    log(&format!("replaying WAL of member {id}"));
    let mut snapshot = None;
    if is_old {
        let records = wal::valid_snapshots(&disk, &wal_dir)?;
        snapshot = match snapshotter.load_newest_available(&records) {
            Ok(snapshot) => Some(snapshot),
            Err(Error::NoSnapshot) => None,
            Err(err) => return Err(err),
        };
    } else {
        Wal::create(disk, &wal_dir, &Metadata::default(), Options::default())?.close()?;
    }
    let from = snapshot.as_ref().map(record).unwrap_or_default();
    log(&format!("loading WAL at term {} and index {}", from.term, from.index));
    let (wal, replay) = Wal::open(disk, &wal_dir, &from, Options::default())?;

    let mut storage = MemoryStorage::new();
    if let Some(snapshot) = snapshot {
        storage.apply_snapshot(snapshot).expect("the storage is empty");
    }
    storage.set_hard_state(replay.hard_state);
    storage.append(&replay.entries);
    Ok(Opened { files: Files { wal, snapshotter }, storage, is_old })
}

impl Files {
    /// Saves a snapshot: the file first, so that the log never has a record of one that is not there.
    pub(crate) fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        self.snapshotter.save(snapshot)?;
        self.wal.save_snapshot(&record(snapshot))?;
        self.wal.release(snapshot.metadata.index);
        Ok(())
    }
}

fn record(snapshot: &Snapshot) -> SnapshotRecord {
    let metadata = &snapshot.metadata;
    SnapshotRecord {
        index: metadata.index,
        term: metadata.term,
        conf_state: Some(metadata.conf_state.clone()),
    }
}
