//! A segment of the log, whole or torn.

use std::path::Path;

use env::{Disk as _, File as _, MemDisk, Open};

pub fn run(data: &[u8]) {
    let path = Path::new("/d/0000000000000000-0000000000000000.wal");
    let disk = disk_with(path, data);
    let _ = wal::open_for_read(&disk, Path::new("/d"), &wal::SnapshotRecord::default());
    let _ = wal::valid_snapshots(&disk, Path::new("/d"));
}

pub(crate) fn disk_with(path: &Path, data: &[u8]) -> MemDisk {
    let disk = MemDisk::new();
    let file = disk.open(path, Open::Create(0o600)).expect("in memory");
    file.write_all_at(data, 0).expect("in memory");
    disk
}
