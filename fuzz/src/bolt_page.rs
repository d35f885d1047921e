//! A database file.

use std::path::Path;

pub fn run(data: &[u8]) {
    let path = Path::new("/d/db");
    let disk = crate::wal_record::disk_with(path, data);
    if let Ok(tx) = bolt::open_read_only(&disk, path) {
        let _ = bolt::check(&tx);
    }
}
