//! Defragmentation: what it gains, what it leaves when it fails, and who reads meanwhile.

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use backend::{Backend, Bucket, Committer, Options, Row};
use bytes::Bytes;
use env::{Call, Disk, Layer, Layered, MemDisk};

const PATH: &str = "/d/db";

/// One operation fails, and only that one.
#[derive(Clone, Debug)]
struct Hiccup {
    /// How many operations come before the one that fails; negative once it is over.
    left: Arc<AtomicI64>,
}

impl Hiccup {
    fn new() -> Self {
        Self { left: Arc::new(AtomicI64::new(-1)) }
    }

    fn fail_after(&self, operations: i64) {
        self.left.store(operations, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.left.load(Ordering::Relaxed) < 0
    }
}

impl Layer for Hiccup {
    fn around<T>(
        &self,
        _: &Path,
        call: Call<'_>,
        go: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let is_safe = matches!(
            call,
            Call::RemoveDirAll
                | Call::CreateDirAll
                | Call::List
                | Call::Exists
                | Call::ReadAt
                | Call::Len
                | Call::TryLock
        );
        if !is_safe && self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        go()
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
        let disk = Layered::new(MemDisk::new(), Hiccup::new());
        let (mut backend, mut committer) = open(disk.clone());
        fill(&mut backend, &mut committer, 400);
        disk.layer().fail_after(after);
        let result = committer.defrag();
        let struck = disk.layer().is_over();
        disk.layer().fail_after(-1);
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
        let (backend, _committer) = open(disk.disk().crashed());
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
                    let visit = |_, row: Option<Row<'_>>| {
                        let number = row.and_then(|row| (*row).try_into().ok());
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
