//! Short forms for the tests.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use env::{Disk, File, MemDisk, Open};
use raft::{ConfState, Entry, EntryType, HardState};
use wal::{Metadata, Options, Replay, SnapshotRecord, Wal};

pub(crate) const DIR: &str = "/data/member/wal";
pub(crate) const METADATA: Metadata =
    Metadata { node_id: 0x8e9e_05c5_2164_694d, cluster_id: 0xcdf8_1819_4e3a_8c32 };

pub(crate) fn dir() -> &'static Path {
    Path::new(DIR)
}

pub(crate) fn disk() -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/data/member"), 0o700).expect("no fault");
    disk.sync_dir(Path::new("/data/member")).expect("no fault");
    disk
}

pub(crate) fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, ..Options::default() }
}

pub(crate) fn create(disk: &MemDisk, segment_bytes: u64) -> Wal<MemDisk> {
    Wal::create(disk.clone(), dir(), &METADATA, options(segment_bytes)).expect("created")
}

pub(crate) fn open(
    disk: &MemDisk,
    segment_bytes: u64,
) -> Result<(Wal<MemDisk>, Replay), wal::Error> {
    Wal::open(disk.clone(), dir(), &SnapshotRecord::default(), options(segment_bytes))
}

pub(crate) fn entry(term: u64, index: u64, data: impl Into<Bytes>) -> Entry {
    Entry { term, index, entry_type: EntryType::Normal, data: data.into() }
}

pub(crate) fn state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit }
}

pub(crate) fn snapshot(term: u64, index: u64) -> SnapshotRecord {
    let conf_state = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    SnapshotRecord { index, term, conf_state: Some(conf_state) }
}

pub(crate) fn read_file(disk: &MemDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, Open::Read).expect("the file is there");
    let mut bytes = vec![0; file.len().expect("no fault") as usize];
    file.read_exact_at(&mut bytes, 0).expect("no fault");
    bytes
}

pub(crate) fn write_file(disk: &MemDisk, path: &Path, bytes: &[u8]) {
    let file = disk.open(path, Open::Truncate(0o600)).expect("no fault");
    file.write_all_at(bytes, 0).expect("no fault");
    file.sync_all().expect("no fault");
    disk.sync_dir(path.parent().expect("a file has a folder")).expect("no fault");
}

/// Segments of the log, oldest first.
pub(crate) fn segments(disk: &MemDisk) -> Vec<PathBuf> {
    let names = disk.list(dir()).expect("no fault");
    names.iter().filter(|name| name.ends_with(".wal")).map(|name| dir().join(name)).collect()
}

/// A disk with a log of these segments.
pub(crate) fn disk_with(files: &[(PathBuf, Vec<u8>)]) -> MemDisk {
    let disk = disk();
    disk.create_dir_all(dir(), 0o700).expect("no fault");
    for (path, bytes) in files {
        write_file(&disk, path, bytes);
    }
    disk
}

/// The segments of a log with their bytes.
pub(crate) fn files(disk: &MemDisk) -> Vec<(PathBuf, Vec<u8>)> {
    segments(disk).into_iter().map(|path| (path.clone(), read_file(disk, &path))).collect()
}

/// What a log holds, as text: `hard state; term/index data-length, ...`.
pub(crate) fn text(replay: &Replay) -> String {
    let HardState { term, vote, commit } = replay.hard_state;
    let entries: Vec<String> = replay
        .entries
        .iter()
        .map(|entry| format!("{}/{}:{}", entry.term, entry.index, entry.data.len()))
        .collect();
    format!("{term} {vote} {commit}; {}", entries.join(" "))
}
