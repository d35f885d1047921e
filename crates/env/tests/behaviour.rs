//! Both disks behave alike, and the one in memory forgets what was not synced.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use env::{
    Call, Disk, Fault, File, Layer, Layered, Map, MemDisk, Moment, Open, Operation, OsDisk,
    Survival, Unsynced,
};

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

/// Counts calls, and makes each of them.
#[derive(Clone, Debug, Default)]
struct Counter(Arc<AtomicUsize>);

impl Layer for Counter {
    fn around<T>(
        &self,
        path: &Path,
        _: Call<'_>,
        go: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        assert!(path.starts_with("/layered"), "{}", path.display());
        self.0.fetch_add(1, Ordering::Relaxed);
        go()
    }
}

#[test]
fn a_disk_in_a_layer_behaves() {
    let disk = Layered::new(MemDisk::new(), Counter::default());
    check_behaviour(&disk, Path::new("/layered"));
    // Each comes by once.
    assert_eq!(disk.layer().0.load(Ordering::Relaxed), 23);
    assert!(disk.disk().exists(Path::new("/layered")).expect("exists"));
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
    assert_eq!(disk.failures(), 2);
}

#[test]
fn a_crash_may_keep_some_of_what_was_not_synced() {
    let disk = MemDisk::new();
    let dir = Path::new("/d");
    disk.create_dir_all(dir, 0o700).expect("create folder");
    let file = disk.open(&dir.join("old"), Open::Create(0o600)).expect("create");
    file.write_all_at(&[1; 1024], 0).expect("write");
    file.sync_data().expect("sync");
    disk.sync_dir(dir).expect("sync folder");
    file.write_all_at(&[2; 1024], 0).expect("write");
    disk.rename(&dir.join("old"), &dir.join("new")).expect("rename");

    let read = |disk: &MemDisk, name: &str| {
        let mut buf = [0; 1024];
        let file = disk.open(&dir.join(name), Open::Read).expect("open");
        file.read_exact_at(&mut buf, 0).expect("read");
        [buf[0], buf[511], buf[512], buf[1023]]
    };
    assert_eq!(read(&disk.crashed(), "old"), [1; 4]);
    let all = disk.crashed_with(Survival::All, |_| unreachable!("nothing to choose"));
    assert_eq!(all.list(dir).expect("list"), ["new"]);
    assert_eq!(read(&all, "new"), [2; 4]);
    // How many name changes; then, for the file, to tear the write; then which sectors.
    let mut choices = [2, 1, 1, 0].into_iter();
    let torn = disk.crashed_with(Survival::Some, |_| choices.next().expect("a choice"));
    assert_eq!(read(&torn, "new"), [1, 1, 2, 2]);
    // Half a rename does not survive.
    let mut choices = [1, 0].into_iter();
    let half = disk.crashed_with(Survival::Some, |_| choices.next().expect("a choice"));
    assert_eq!(half.list(dir).expect("list"), ["old"]);
}

#[test]
fn a_disk_fails_by_kind_and_fills_up() {
    let disk = MemDisk::new();
    let file = disk.open(Path::new("f"), Open::Create(0o600)).expect("create");
    disk.set_failing(Some((Operation::Sync, ErrorKind::Other)));
    file.write_all_at(b"12345678", 0).expect("writes work");
    assert_eq!(file.sync_data().expect_err("syncs do not").kind(), ErrorKind::Other);
    disk.set_failing(Some((Operation::Read, ErrorKind::Other)));
    file.sync_data().expect("syncs work");
    assert!(file.read_at(&mut [0], 0).is_err(), "reads do not");
    disk.set_failing(None);
    disk.set_capacity(Some(10));
    assert_eq!(disk.used(), 8);
    file.write_all_at(b"x", 3).expect("no more room is taken");
    file.write_all_at(b"ab", 8).expect("there is just room");
    assert_eq!(file.write_all_at(b"c", 10).expect_err("full").kind(), ErrorKind::StorageFull);
    assert_eq!(file.set_len(11).expect_err("full").kind(), ErrorKind::StorageFull);
    assert_eq!(disk.failures(), 4, "a sync, a read, a write and a length");
}

#[test]
fn a_failing_write_may_be_done_in_part() {
    let disk = MemDisk::new();
    let path = Path::new("file");
    let file = disk.open(path, Open::Create(0o600)).expect("create");
    disk.set_short(50);
    file.write_all_at(&[1; 1000], 0).expect("a good disk writes all");
    disk.set_failing(Some((Operation::Write, ErrorKind::Other)));
    file.write_all_at(&[2; 1000], 1000).expect_err("it fails, and nothing of it is done");
    assert_eq!(file.len().expect("len"), 1000);
    file.write_all_at(&[2; 10_000], 1000).expect_err("it fails");
    assert_eq!(file.len().expect("len"), 4096, "one page");
    disk.set_failing(None);
    disk.set_capacity(Some(8_000));
    let full = file.write_all_at(&[3; 8192], 4096).expect_err("full");
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    let mut bytes = [0; 8192];
    assert_eq!(file.read_at(&mut bytes, 0).expect("read"), 8192);
    assert_eq!([bytes[999], bytes[1000], bytes[4095], bytes[4096]], [1, 2, 2, 3]);
}

#[test]
fn a_recorded_disk_tells_what_any_crash_would_have_left() {
    let disk = MemDisk::new();
    let dir = Path::new("/d");
    disk.create_dir_all(dir, 0o700).expect("create folder");
    disk.record();
    let file = disk.open(&dir.join("file"), Open::Create(0o600)).expect("create");
    disk.sync_dir(dir).expect("sync folder");
    file.write_all_at(&[1; 1024], 256).expect("write");
    file.sync_data().expect("sync");
    disk.rename(&dir.join("file"), &dir.join("moved")).expect("rename");

    let moments = disk.recorded();
    let operations: Vec<u64> = moments.iter().map(Moment::operations).collect();
    assert_eq!(operations, [1, 2, 3, 4, 5, 6]);
    assert!(moments[2].unsynced().is_empty());
    let written = &moments[3];
    let unsynced = [Unsynced { operation: 4, is_name: false, sectors: 3 }];
    assert_eq!(written.unsynced(), unsynced);

    let bytes = |disk: &MemDisk, name: &str| {
        let file = disk.open(&dir.join(name), Open::Read).expect("open");
        let mut bytes = vec![0; file.len().expect("length") as usize];
        file.read_exact_at(&mut bytes, 0).expect("read");
        bytes
    };
    assert_eq!(bytes(&written.crashed(|_, _| false), "file"), []);
    let torn = bytes(&written.crashed(|_, sector| sector == 1), "file");
    assert_eq!((torn.len(), torn[511], torn[512], torn[1023]), (1024, 0, 1, 1));
    let whole = written.crashed(|operation, _| operation == 4);
    assert_eq!(bytes(&whole, "file")[256..], [1; 1024]);
    assert_eq!(moments[4].unsynced(), []);
    assert_eq!(moments[5].crashed(|_, _| false).list(dir).expect("list"), ["file"]);
    let moved = moments[5].crashed(|_, _| true);
    assert_eq!(moved.list(dir).expect("list"), ["moved"]);
    assert_ne!(moved.fingerprint(), whole.fingerprint());
    assert_eq!(bytes(&moved, "moved"), bytes(&disk, "moved"));
}
