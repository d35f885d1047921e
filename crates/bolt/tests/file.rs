//! What the engine does to its file: order of writes, growth, reuse, locks, limits.

#![expect(clippy::disallowed_types, reason = "a disk's log is shared by its files")]

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bolt::{Db, Error, KEY_BYTES_MAX, Options};
use env::{Call, Layer, Layered, MemDisk};

const PATH: &str = "/d/db";
const PAGE: u64 = 4096;

fn options() -> Options {
    Options { map_bytes: 0, alloc_bytes: 0, ..Options::default() }
}

fn open(disk: &MemDisk) -> Result<Db<MemDisk>, Error> {
    Db::open(disk.clone(), Path::new(PATH), options())
}

/// Writes down what is done to a disk's files.
#[derive(Clone, Debug, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    fn take(&self) -> String {
        std::mem::take(&mut *self.lines.lock().expect("log")).join("\n")
    }
}

impl Layer for Log {
    fn around<T>(
        &self,
        path: &Path,
        call: Call<'_>,
        go: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let line = match call {
            Call::SyncDir => Some(format!("sync folder {}", path.display())),
            Call::WriteAllAt { offset, len } => {
                let (first, count) = (offset / PAGE, len as u64 / PAGE);
                Some(format!("write pages {first}..{}", first + count))
            }
            Call::SetLen(len) => Some(format!("grow to {} pages", len / PAGE)),
            Call::SyncData | Call::SyncAll => Some("sync".to_owned()),
            _ => None,
        };
        self.lines.lock().expect("log").extend(line);
        go()
    }
}

#[test]
fn the_meta_page_is_written_after_its_pages_are_durable() {
    let disk = Layered::new(MemDisk::new(), Log::default());
    let options = Options { alloc_bytes: 16 << 20, map_bytes: 0, ..Options::default() };
    let mut db = Db::open(disk.clone(), Path::new(PATH), options).expect("open");
    let made = "write pages 2..4\nsync\nwrite pages 0..2\nsync\nsync folder /d";
    assert_eq!(disk.layer().take(), made);

    let mut commit = |rows: u32| {
        let mut tx = db.begin_write().expect("begin");
        let mut bucket = tx.create_bucket_if_missing(b"key").expect("bucket");
        (0..rows).for_each(|row| bucket.put(&row.to_be_bytes(), &[7; 100]).expect("put"));
        tx.commit().expect("commit");
        disk.layer().take()
    };
    // etcd's fresh file has 16 MiB and 6 pages, too.
    assert_eq!(commit(0), "grow to 4102 pages\nwrite pages 4..5\nsync\nwrite pages 0..1\nsync");
    // Pages 2 and 3, the list of free pages and the first root, are free now, and so is 4 next.
    assert_eq!(commit(20), "write pages 2..4\nsync\nwrite pages 1..2\nsync");
    assert_eq!(commit(200), "write pages 4..18\nsync\nwrite pages 0..1\nsync");
    // Nothing to write, nothing written.
    let tx = db.begin_write().expect("begin");
    tx.commit().expect("commit");
    assert_eq!(disk.layer().take(), "");
    assert_eq!(db.begin_read().txid(), 4);
}

#[test]
fn without_sync_nothing_is_synced_until_asked() {
    let disk = Layered::new(MemDisk::new(), Log::default());
    let options = Options { no_sync: true, ..options() };
    let mut db = Db::open(disk.clone(), Path::new(PATH), options).expect("open");
    let mut tx = db.begin_write().expect("begin");
    tx.create_bucket_if_missing(b"b").expect("bucket");
    tx.commit().expect("commit");
    assert!(!disk.layer().take().lines().any(|line| line == "sync"));
    db.sync().expect("sync");
    assert_eq!(disk.layer().take(), "sync");
    let mut tx = db.begin_write().expect("begin");
    tx.create_bucket_if_missing(b"c").expect("bucket");
    tx.commit().expect("commit");
    assert_eq!(disk.layer().take().matches("sync").count(), 2);
}

#[test]
fn replaced_pages_are_reused_once_no_reader_sees_them() {
    let disk = MemDisk::new();
    let mut db = open(&disk).expect("open");
    let rewrite = |db: &mut Db<MemDisk>, round: u8| {
        let mut tx = db.begin_write().expect("begin");
        let mut bucket = tx.create_bucket_if_missing(b"key").expect("bucket");
        (0..500_u32).for_each(|row| bucket.put(&row.to_be_bytes(), &[round; 100]).expect("put"));
        tx.commit().expect("commit");
        db.begin_read().size()
    };
    (0..3).for_each(|round| assert!(rewrite(&mut db, round) > 0));
    let size = rewrite(&mut db, 3);
    (4..20).for_each(|round| assert_eq!(rewrite(&mut db, round), size, "in place of the old"));

    // One reader holds up what it sees, but not what came after it.
    let reader = db.begin_read();
    (20..23).for_each(|round| assert!(rewrite(&mut db, round) > 0));
    let size = rewrite(&mut db, 23);
    (24..40).for_each(|round| assert_eq!(rewrite(&mut db, round), size, "beside the reader"));
    for row in 0..500_u32 {
        let value = reader.get(b"key", &row.to_be_bytes()).expect("get");
        assert_eq!(value, Some(&[19; 100][..]));
    }
    // What a reader lent holds as much up as the reader itself.
    let value = reader.get(b"key", &7_u32.to_be_bytes()).expect("get").expect("there");
    let lent = reader.lend(value);
    assert_eq!(lent.as_ptr(), value.as_ptr(), "without a copy");
    drop(reader);
    (40..44).for_each(|round| assert_eq!(rewrite(&mut db, round), size, "beside what is lent"));
    assert_eq!(lent, &[19; 100][..]);
    drop(lent);
    let in_use = db.begin_read().size_in_use();
    rewrite(&mut db, 44);
    rewrite(&mut db, 45);
    assert!(db.begin_read().size_in_use() < in_use, "the reader's pages are free");
    assert_eq!(db.begin_read().size(), size);
}

#[test]
fn a_transaction_that_is_dropped_leaves_no_trace() {
    let disk = MemDisk::new();
    let mut db = open(&disk).expect("open");
    let mut tx = db.begin_write().expect("begin");
    let mut bucket = tx.create_bucket_if_missing(b"b").expect("bucket");
    (0..500_u32).for_each(|row| bucket.put(&row.to_be_bytes(), &[1; 100]).expect("put"));
    tx.commit().expect("commit");
    let operations = disk.operations();
    for _ in 0..10 {
        let mut tx = db.begin_write().expect("begin");
        tx.delete_bucket(b"b").expect("delete");
        let mut bucket = tx.create_bucket_if_missing(b"c").expect("bucket");
        (0..900_u32).for_each(|row| bucket.put(&row.to_be_bytes(), &[2; 100]).expect("put"));
    }
    assert_eq!(disk.operations(), operations);
    let reader = db.begin_read();
    assert_eq!(reader.buckets().expect("buckets"), [b"b"]);
    drop(db);
    let tx = bolt::open_read_only(&disk, Path::new(PATH));
    assert!(matches!(tx, Err(Error::Locked(_))), "a reader keeps the lock");
    drop((reader, tx));
    let tx = bolt::open_read_only(&disk, Path::new(PATH)).expect("open");
    assert!(bolt::check(&tx).is_empty());
}

#[test]
fn a_file_in_use_is_not_opened_twice() {
    let disk = MemDisk::new();
    let db = open(&disk).expect("open");
    assert_eq!(open(&disk).expect_err("locked").to_string(), "/d/db: the database is in use");
    drop(db);
    open(&disk).expect("open again");
}

#[test]
fn keys_and_values_have_limits() {
    let disk = MemDisk::new();
    let mut db = open(&disk).expect("open");
    let mut tx = db.begin_write().expect("begin");
    let mut bucket = tx.create_bucket_if_missing(b"b").expect("bucket");
    let text = |result: Result<(), Error>| result.expect_err("refused").to_string();
    assert_eq!(text(bucket.put(b"", b"value")), "key required");
    assert_eq!(text(bucket.put(&vec![b'k'; KEY_BYTES_MAX + 1], b"")), "key too large");
    bucket.create_bucket_if_missing(b"inner").expect("bucket");
    assert_eq!(text(bucket.put(b"inner", b"value")), "incompatible value");
    assert_eq!(text(bucket.delete(b"inner").map(drop)), "incompatible value");
    bucket.put(b"value", b"").expect("put");
    let inner = bucket.create_bucket_if_missing(b"value").map(drop);
    assert_eq!(text(inner), "incompatible value");
    assert_eq!(text(bucket.delete_bucket(b"value").map(drop)), "incompatible value");
    assert!(bucket.bucket(b"value").expect("bucket").is_none());
    assert_eq!(text(tx.create_bucket_if_missing(b"").map(drop)), "key required");

    let mut bucket = tx.bucket(b"b").expect("bucket").expect("made above");
    let longest = vec![b'k'; KEY_BYTES_MAX];
    let large: Vec<u8> = (0..3_000_000_u32).map(|at| at as u8).collect();
    bucket.put(&longest, &large).expect("put");
    bucket.put(b"after", &large[..1]).expect("put");
    tx.commit().expect("commit");
    drop(db);
    let tx = bolt::open_read_only(&disk, Path::new(PATH)).expect("open");
    assert!(bolt::check(&tx).is_empty());
    assert!(tx.get(b"b", &longest).expect("get") == Some(&large[..]));
    assert_eq!(tx.get(b"b", b"after").expect("get"), Some(&large[..1]));
    // A value of no bytes is a value.
    assert_eq!(tx.get(b"b", b"value").expect("get"), Some(&b""[..]));
    assert_eq!(tx.get(b"b", b"inner").expect("get"), None);
    assert_eq!(tx.get(b"missing", b"inner").expect("get"), None);
}

#[test]
fn a_map_that_is_outgrown_stays_with_its_readers() {
    let disk = MemDisk::new();
    let mut db = open(&disk).expect("open");
    let mut readers = Vec::new();
    for round in 0..20_u32 {
        let mut tx = db.begin_write().expect("begin");
        let mut bucket = tx.create_bucket_if_missing(b"b").expect("bucket");
        bucket.put(&round.to_be_bytes(), &vec![round as u8; 100_000]).expect("put");
        tx.commit().expect("commit");
        readers.push(db.begin_read());
    }
    for (round, reader) in readers.iter().enumerate() {
        for row in 0..20_u32 {
            let value = reader.get(b"b", &row.to_be_bytes()).expect("get");
            let expected = (row as usize <= round).then(|| vec![row as u8; 100_000]);
            assert!(value == expected.as_deref());
        }
    }
}
