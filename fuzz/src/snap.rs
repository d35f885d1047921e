//! A snapshot file.

use std::path::Path;

pub fn run(data: &[u8]) {
    let path = Path::new("/d/0000000000000001-0000000000000001.snap");
    let disk = crate::wal_record::disk_with(path, data);
    let _ = wal::snap::read(&disk, path);
}
