//! Snapshot files.

use std::path::Path;

use bytes::Bytes;
use env::{Disk, Fault, MemDisk};
use proptest::prelude::{any, prop, prop_assert, proptest};
use raft::{ConfState, Snapshot, SnapshotMetadata};
use wal::snap::{Snapshotter, db_name, encode, read, snap_name};
use wal::{Error, SnapshotRecord};

use crate::support::{read_file, write_file};

const DIR: &str = "/data/member/snap";

fn setup() -> (MemDisk, Snapshotter<MemDisk>) {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new(DIR), 0o700).expect("no fault");
    disk.sync_dir(Path::new(DIR)).expect("no fault");
    let snapshotter = Snapshotter::new(disk.clone(), Path::new(DIR));
    (disk, snapshotter)
}

fn snapshot(term: u64, index: u64) -> Snapshot {
    let conf_state = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let metadata = SnapshotMetadata { conf_state, index, term };
    Snapshot { data: Bytes::from_static(b"some snapshot"), metadata }
}

fn record(term: u64, index: u64) -> SnapshotRecord {
    SnapshotRecord { index, term, conf_state: None }
}

fn names(disk: &MemDisk) -> Vec<String> {
    disk.list(Path::new(DIR)).expect("no fault")
}

#[test]
fn names_of_files() {
    assert_eq!(snap_name(0xffff, 0xffff), "000000000000ffff-000000000000ffff.snap");
    assert_eq!(db_name(1), "0000000000000001.snap.db");
}

#[test]
fn bytes_of_a_file() {
    let data = snapshot(1, 1).encode_to_vec();
    let bytes = encode(&snapshot(1, 1));
    let mut expected = vec![0x08];
    let mut crc = crc32c::crc32c(&data);
    while crc >= 0x80 {
        expected.push(crc as u8 | 0x80);
        crc >>= 7;
    }
    expected.extend_from_slice(&[crc as u8, 0x12, data.len() as u8]);
    expected.extend_from_slice(&data);
    assert_eq!(bytes, expected);
}

#[test]
fn the_newest_that_the_log_knows() {
    let (disk, snapshotter) = setup();
    assert!(matches!(snapshotter.load(), Err(Error::NoSnapshot)));
    snapshotter.save(&Snapshot::default()).expect("left out");
    assert!(names(&disk).is_empty());
    for (term, index) in [(1, 10), (1, 20), (2, 15)] {
        snapshotter.save(&snapshot(term, index)).expect("saved");
    }
    assert_eq!(snapshotter.load().expect("loaded"), snapshot(2, 15), "by term first");
    let known = [record(1, 10), record(1, 20), record(1, 15)];
    assert_eq!(snapshotter.load_newest_available(&known).expect("loaded"), snapshot(1, 20));
    assert!(matches!(snapshotter.load_newest_available(&[]), Err(Error::NoSnapshot)));

    // What a crash leaves is what was reported as saved.
    let after = Snapshotter::new(disk.crashed(), Path::new(DIR));
    assert_eq!(after.load().expect("loaded"), snapshot(2, 15));
}

#[test]
fn broken_files_are_put_aside() {
    let (disk, snapshotter) = setup();
    snapshotter.save(&snapshot(1, 1)).expect("saved");
    let good = encode(&snapshot(1, 2));
    let mut flipped = good.clone();
    *flipped.last_mut().expect("not empty") ^= 1;
    let cases: [(&[u8], &str); 5] = [
        (b"", "snap: empty snapshot"),
        (&good[..good.len() - 1], "proto: cannot parse snappb.Snapshot"),
        (&flipped, "walpb: crc mismatch"),
        (&[0x08, 0x01], "snap: empty snapshot"),
        (&[0x12, 0x01, 0x01], "snap: empty snapshot"),
    ];
    for (bytes, expected) in cases {
        let name = snap_name(1, 2);
        let path = Path::new(DIR).join(&name);
        write_file(&disk, &path, bytes);
        let err = read(&disk, &path).expect_err("broken").to_string();
        assert!(err.starts_with(expected) && err.contains(&name), "{err}");
        assert_eq!(snapshotter.load().expect("the older one"), snapshot(1, 1));
        assert!(names(&disk).contains(&format!("{name}.broken")));
        assert!(!names(&disk).contains(&name));
    }
}

#[test]
fn a_failed_save_leaves_nothing_to_load() {
    for after in 0..4 {
        let (disk, snapshotter) = setup();
        disk.set_fault(Some(Fault { after, error: std::io::ErrorKind::StorageFull }));
        snapshotter.save(&snapshot(1, 1)).expect_err("disk full");
        disk.set_fault(None);
        // The remove failed too; then the file is whole, or found broken.
        let loaded = snapshotter.load();
        match loaded {
            Ok(loaded) => assert_eq!(loaded, snapshot(1, 1)),
            Err(err) => assert!(matches!(err, Error::NoSnapshot), "{err}"),
        }
    }
}

#[test]
fn purge_and_orphans() {
    let (disk, snapshotter) = setup();
    for index in 1..=7 {
        snapshotter.save(&snapshot(1, index)).expect("saved");
        write_file(&disk, &Path::new(DIR).join(db_name(index)), b"db");
    }
    for name in ["db", "db.tmp.123", "tmp456", "0000000000000001-0000000000000001.snap.broken"] {
        write_file(&disk, &Path::new(DIR).join(name), b"");
    }
    assert_eq!(snapshotter.remove_orphans().expect("no fault"), ["db.tmp.123", "tmp456"]);
    // The log knows nothing of the last one: a crash came in between.
    assert_eq!(snapshotter.purge(4, 6).expect("no fault"), [snap_name(1, 1), snap_name(1, 2)]);
    assert_eq!(
        snapshotter.purge(1, 6).expect("no fault"),
        [snap_name(1, 3), snap_name(1, 4), snap_name(1, 5)],
        "the newest that is recorded stays"
    );
    // Databases may wait to be installed, however many they are.
    assert_eq!(snapshotter.release_dbs(6).expect("no fault").len(), 5);
    let left = names(&disk);
    assert_eq!(left.iter().filter(|name| name.ends_with(".snap")).count(), 2);
    assert!(left.contains(&"db".to_owned()));
    assert!(snapshotter.db_path(6).expect("there").ends_with(db_name(6)));
    assert!(matches!(snapshotter.db_path(5), Err(Error::NoDbSnapshot)));
}

#[test]
fn a_database_arrives_whole_or_not() {
    let (disk, snapshotter) = setup();
    let mut file = snapshotter.receive_db(9, 1).expect("begun");
    file.write(b"some ").expect("written");
    file.write(b"database").expect("written");
    assert!(matches!(snapshotter.db_path(9), Err(Error::NoDbSnapshot)));
    let (path, len) = file.finish().expect("finished");
    assert_eq!((path.as_path(), len), (snapshotter.db_path(9).expect("there").as_path(), 13));
    assert_eq!(read_file(&disk.crashed(), &path), b"some database");

    // A second one for the same snapshot changes nothing.
    let mut file = snapshotter.receive_db(9, 2).expect("begun");
    file.write(b"other").expect("written");
    file.finish().expect("finished");
    assert_eq!(read_file(&disk, &path), b"some database");

    let mut file = snapshotter.receive_db(10, 3).expect("begun");
    file.write(b"half").expect("written");
    file.abort();
    assert_eq!(names(&disk), [db_name(9)]);
}

proptest! {
    #[test]
    fn damaged_files_never_panic(at in any::<prop::sample::Index>(), bit in 0_u32..8, cut in any::<bool>()) {
        let mut bytes = encode(&snapshot(3, 300));
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1_u8 << bit;
        }
        let disk = MemDisk::new();
        write_file(&disk, Path::new("/x.snap"), &bytes);
        // The checksum's last byte has bits that are not part of its 32.
        let result = read(&disk, Path::new("/x.snap"));
        prop_assert!(result.is_err() || result.is_ok_and(|found| found == snapshot(3, 300)));
    }
}
