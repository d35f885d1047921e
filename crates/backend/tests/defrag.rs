//! Defragmentation: what it gains, what it leaves when it fails, and who reads meanwhile.

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use backend::{Backend, Bucket, Committer, Options};
use bytes::Bytes;
use env::{Disk, File, MemDisk, MemFile, MemMap, Open};

const PATH: &str = "/d/db";

/// A disk of which one operation fails, and only that one.
#[derive(Clone, Debug, Default)]
struct Hiccup {
    disk: MemDisk,
    /// How many operations come before the one that fails; negative once it is over.
    left: Arc<AtomicI64>,
}

#[derive(Debug)]
struct HiccupFile {
    file: MemFile,
    disk: Hiccup,
}

impl Hiccup {
    fn new() -> Self {
        let disk = Self::default();
        disk.left.store(-1, Ordering::Relaxed);
        disk
    }

    fn fail_after(&self, operations: i64) {
        self.left.store(operations, Ordering::Relaxed);
    }

    fn step(&self) -> io::Result<()> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            0 => Err(ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn is_over(&self) -> bool {
        self.left.load(Ordering::Relaxed) < 0
    }
}

impl Disk for Hiccup {
    type File = HiccupFile;

    fn open(&self, path: &Path, how: Open) -> io::Result<HiccupFile> {
        self.step()?;
        Ok(HiccupFile { file: self.disk.open(path, how)?, disk: self.clone() })
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.disk.remove(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.disk.create_dir_all(path, mode)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.disk.sync_dir(path)
    }
}

impl File for HiccupFile {
    type Map = MemMap;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.disk.step()?;
        self.file.write_all_at(buf, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.step()?;
        self.file.set_len(len)
    }
    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.disk.step()?;
        self.file.preallocate(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.disk.step()?;
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
    fn map(&self, len: u64) -> io::Result<MemMap> {
        self.disk.step()?;
        self.file.map(len)
    }
}

fn open<D: Disk>(disk: D) -> (Backend, Committer<D>) {
    disk.create_dir_all(Path::new("/d"), 0o700).expect("make the folder");
    let options = Options { map_bytes: 0, alloc_bytes: 8192, ..Options::default() };
    Backend::open(disk, Path::new(PATH), options).expect("open")
}

fn commit<D: Disk>(backend: &mut Backend, committer: &mut Committer<D>) {
    let batch = backend.freeze().expect("something to write");
    let done = committer.commit(batch).expect("commit");
    backend.committed(done);
}

fn fill<D: Disk>(backend: &mut Backend, committer: &mut Committer<D>, rows: u32) {
    for row in 0..rows {
        backend.put(Bucket::Key, &row.to_be_bytes(), Bytes::from(vec![row as u8; 200]));
    }
    commit(backend, committer);
    (0..rows).filter(|row| row % 8 != 0).for_each(|row| {
        backend.delete(Bucket::Key, &row.to_be_bytes());
    });
    commit(backend, committer);
}

fn keys(backend: &Backend) -> Vec<u32> {
    let mut keys = Vec::new();
    let visit = |key: &[u8], value: &[u8]| {
        let row = u32::from_be_bytes(key.try_into().expect("four bytes"));
        assert_eq!(value, [row as u8; 200]);
        keys.push(row);
        ControlFlow::Continue(())
    };
    backend.reader().scan(Bucket::Key, b"", b"", 0, visit).expect("scan");
    keys
}

#[test]
fn free_pages_are_given_back_and_reads_go_on() {
    let disk = MemDisk::new();
    let (mut backend, mut committer) = open(disk.clone());
    fill(&mut backend, &mut committer, 2000);
    let expected: Vec<u32> = (0..2000).step_by(8).collect();
    let (size, hash) = (backend.size(), backend::hash(&backend.reader().snapshot(), |_, _| false));
    let old = backend.reader().snapshot();

    // A batch is frozen while the file is rewritten: it is not in it, but stays visible.
    backend.put(Bucket::Lease, b"open", Bytes::from_static(b"1"));
    let batch = backend.freeze().expect("a row");
    let done = committer.defrag().expect("defrag");
    assert_eq!(keys(&backend), expected);
    assert_eq!(backend.size(), size);
    backend.committed(done);
    assert!(backend.size() < size / 3, "{} of {size}", backend.size());
    assert_eq!(keys(&backend), expected);
    assert_eq!(backend::hash(&old, |_, _| false).expect("hash"), hash.expect("hash"));
    assert_eq!(backend.get(Bucket::Lease, b"open").expect("get").as_deref(), Some(&b"1"[..]));
    let done = committer.commit(batch).expect("commit");
    backend.committed(done);
    assert_eq!(backend.get(Bucket::Lease, b"open").expect("get").as_deref(), Some(&b"1"[..]));
    assert_eq!(disk.list(Path::new("/d")).expect("list"), ["db"]);
    drop((backend, committer, old));
    let (backend, _committer) = open(disk.crashed());
    assert_eq!(keys(&backend), expected);
    assert!(bolt::check(&backend.reader().snapshot()).is_empty());
}

/// Whatever fails: the old file stays in use and nothing is left over, or the new one has taken its
/// place and nothing more is written until the process has stopped.
#[test]
fn a_failed_defragmentation_leaves_the_old_file() {
    let expected: Vec<u32> = (0..400).step_by(8).collect();
    let mut failures = 0;
    for after in 0.. {
        let disk = Hiccup::new();
        let (mut backend, mut committer) = open(disk.clone());
        fill(&mut backend, &mut committer, 400);
        disk.fail_after(after);
        let result = committer.defrag();
        let struck = disk.is_over();
        disk.fail_after(-1);
        assert_eq!(disk.list(Path::new("/d")).expect("list"), ["db"], "operation {after}");
        match result {
            Ok(done) => {
                backend.committed(done);
                assert_eq!(keys(&backend), expected);
                if !struck {
                    assert!(failures > 8, "{failures} operations can fail");
                    return;
                }
            }
            Err(err) => {
                failures += 1;
                let text = err.to_string();
                assert!(text.contains("/d"), "{text}");
                assert_eq!(keys(&backend), expected);
                backend.put(Bucket::Lease, b"later", Bytes::from_static(b"1"));
                let batch = backend.freeze().expect("a row");
                match committer.commit(batch) {
                    Ok(done) => backend.committed(done),
                    Err(failed) => assert!(text.starts_with("sync folder"), "{text}: {failed}"),
                }
            }
        }
        drop((backend, committer));
        let (backend, _committer) = open(disk.disk.crashed());
        assert_eq!(keys(&backend), expected);
    }
}

/// The options come through: what is written after a defragmentation is synced.
#[test]
fn commits_after_a_defragmentation_are_durable() {
    let disk = MemDisk::new();
    let (mut backend, mut committer) = open(disk.clone());
    fill(&mut backend, &mut committer, 100);
    let done = committer.defrag().expect("defrag");
    backend.committed(done);
    backend.set_consistent_index(9, 1);
    commit(&mut backend, &mut committer);
    let (backend, _committer) = open(disk.crashed());
    assert_eq!(backend.consistent_index(), (9, 1));
}

/// Readers on other threads see two rows that are always written together as one, wherever the
/// rows are on their way to the file.
#[test]
fn rows_move_down_the_layers_unseen() {
    const ROUNDS: u64 = 2000;
    let (mut backend, mut committer) = open(MemDisk::new());
    let reader = backend.reader();
    let stop = AtomicBool::new(false);
    let pair = [(Bucket::Key, &b"left"[..]), (Bucket::Lease, &b"right"[..])];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut newest = 0;
                while !stop.load(Ordering::Relaxed) {
                    let mut seen = Vec::new();
                    let visit = |_, value: Option<&[u8]>| {
                        let number = value.and_then(|value| value.try_into().ok());
                        seen.push(number.map_or(0, u64::from_be_bytes));
                        ControlFlow::Continue(())
                    };
                    reader.get_many(&pair, visit).expect("get many");
                    assert_eq!(seen[0], seen[1], "one of two");
                    assert!(seen[0] >= newest, "back in time");
                    newest = seen[0];
                    let visit = |_: &[u8], value: &[u8]| {
                        let number = u64::from_be_bytes(value.try_into().expect("eight bytes"));
                        assert!(number >= newest, "back in time");
                        ControlFlow::Continue(())
                    };
                    reader.scan(Bucket::Key, b"", b"", 0, visit).expect("scan");
                }
            });
        }
        for round in 1..=ROUNDS {
            let mut writer = backend.write();
            for (bucket, key) in pair {
                writer.put(bucket, key, Bytes::copy_from_slice(&round.to_be_bytes()));
            }
            drop(writer);
            match round % 8 {
                3 => commit(&mut backend, &mut committer),
                7 if round % 64 == 63 => {
                    let done = committer.defrag().expect("defrag");
                    backend.committed(done);
                }
                _ => {}
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
