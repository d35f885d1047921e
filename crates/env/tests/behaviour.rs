//! Both disks behave alike, and the one in memory forgets what was not synced.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use env::{Disk, Fault, File, Map, MemDisk, Open, OsDisk};

fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    OsDisk.remove_dir_all(&dir).expect("clean scratch folder");
    dir
}

fn check_behaviour<D: Disk>(disk: &D, root: &Path) {
    let dir = root.join("a/b");
    disk.create_dir_all(&dir, 0o700).expect("create folders");
    let path = dir.join("file");
    assert!(!disk.exists(&path).expect("exists"));
    assert_eq!(disk.open(&path, Open::Read).expect_err("missing").kind(), ErrorKind::NotFound);

    let file = disk.open(&path, Open::Create(0o600)).expect("create");
    file.write_all_at(b"hello", 3).expect("write");
    let mut buf = [1; 16];
    assert_eq!(file.read_at(&mut buf, 0).expect("read"), 8);
    assert_eq!(&buf[..8], b"\0\0\0hello");
    assert_eq!(file.read_at(&mut buf, 8).expect("read at end"), 0);

    let map = file.map(4096).expect("map past the end");
    assert_eq!(map.slice(3, 5), b"hello");
    file.preallocate(4096).expect("preallocate");
    file.write_all_at(b"world", 100).expect("write under the map");
    assert_eq!(map.slice(100, 5), b"world");
    assert_eq!(map.slice(105, 4), [0; 4]);
    file.set_len(8).expect("truncate");
    assert_eq!(file.len().expect("len"), 8);

    assert!(file.try_lock().expect("lock"));
    let other = disk.open(&path, Open::ReadWrite).expect("open again");
    assert!(!other.try_lock().expect("second lock"));
    drop((file, map));
    assert!(other.try_lock().expect("lock after the first is closed"));

    let moved = dir.join("moved");
    disk.rename(&path, &moved).expect("rename");
    assert_eq!(disk.list(&dir).expect("list"), ["moved"]);
    disk.sync_dir(&dir).expect("sync folder");
    disk.remove(&moved).expect("remove");
    assert!(disk.list(&dir).expect("list").is_empty());
    disk.remove_dir_all(&root.join("a")).expect("remove folder");
    assert!(!disk.exists(&dir).expect("exists"));
}

#[test]
fn os_disk_behaves() {
    let root = scratch("os_disk");
    check_behaviour(&OsDisk, &root);
}

#[test]
fn mem_disk_behaves() {
    check_behaviour(&MemDisk::new(), Path::new("/mem"));
}

#[test]
fn a_crash_keeps_what_was_synced() {
    let disk = MemDisk::new();
    let dir = Path::new("/d");
    disk.create_dir_all(dir, 0o700).expect("create folder");
    let kept = disk.open(&dir.join("kept"), Open::Create(0o600)).expect("create");
    kept.write_all_at(b"one", 0).expect("write");
    kept.sync_data().expect("sync");
    disk.sync_dir(dir).expect("sync folder");
    kept.write_all_at(b"two", 3).expect("write");
    disk.open(&dir.join("lost"), Open::Create(0o600)).expect("create").sync_data().expect("sync");

    let after = disk.crashed();
    assert_eq!(after.list(dir).expect("list"), ["kept"]);
    let mut buf = [0; 8];
    let file = after.open(&dir.join("kept"), Open::Read).expect("open");
    assert_eq!(file.read_at(&mut buf, 0).expect("read"), 3);
    assert_eq!(&buf[..3], b"one");
}

#[test]
fn a_fault_strikes_at_its_operation_and_stays() {
    let disk = MemDisk::new();
    let file = disk.open(Path::new("f"), Open::Create(0o600)).expect("create");
    disk.set_fault(Some(Fault { after: 1, error: ErrorKind::StorageFull }));
    file.write_all_at(b"x", 0).expect("before the fault");
    for _ in 0..2 {
        let err = file.write_all_at(b"x", 1).expect_err("fault");
        assert_eq!(err.kind(), ErrorKind::StorageFull);
    }
    disk.set_fault(None);
    file.sync_data().expect("healed");
}
