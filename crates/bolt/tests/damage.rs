//! Files with damage of every kind: an error that names file and page, never a panic, never a loop.

use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

use bolt::{Db, Error, Options, ReadTx};
use env::{Disk, Fault, File, MemDisk, Open};
use proptest::prelude::*;

const PATH: &str = "/d/db";

fn options(page_size: u32) -> Options {
    Options { page_size, map_bytes: 0, alloc_bytes: 0, ..Options::default() }
}

fn read_file(disk: &MemDisk) -> Vec<u8> {
    let file = disk.open(Path::new(PATH), Open::Read).expect("open");
    let mut bytes = vec![0; file.len().expect("len") as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

fn disk_with(bytes: &[u8]) -> MemDisk {
    let disk = MemDisk::new();
    let file = disk.open(Path::new(PATH), Open::Create(0o600)).expect("create");
    file.write_all_at(bytes, 0).expect("write");
    disk
}

fn open_bytes(bytes: &[u8]) -> Result<ReadTx, Error> {
    bolt::open_read_only(&disk_with(bytes), Path::new(PATH))
}

fn key(number: u32) -> Vec<u8> {
    format!("key-{number:06}-{}", "k".repeat(number as usize % 20)).into_bytes()
}

/// A file with deep trees, overflow pages, buckets in buckets, and free pages.
fn sample(page_size: u32) -> Vec<u8> {
    let disk = MemDisk::new();
    let mut db = Db::open(disk.clone(), Path::new(PATH), options(page_size)).expect("open");
    for round in 0..3 {
        let mut tx = db.begin_write().expect("begin");
        let mut bucket = tx.create_bucket_if_missing(b"key").expect("bucket");
        for number in 0..1200 {
            let len = if number % 200 == 7 { 3 * page_size as usize } else { 20 + round };
            bucket.put(&key(number), &vec![b'v'; len]).expect("put");
        }
        (300..500).for_each(|number| assert!(bucket.delete(&key(number)).expect("delete")));
        let mut outer = tx.create_bucket_if_missing(b"outer").expect("bucket");
        outer.put(b"value", b"of outer").expect("put");
        let mut inner = outer.create_bucket_if_missing(b"inner").expect("bucket");
        (0..300).for_each(|number| inner.put(&key(number), b"inner value").expect("put"));
        let mut small = inner.create_bucket_if_missing(b"small").expect("bucket");
        small.put(b"lies", b"inline").expect("put");
        tx.create_bucket_if_missing(b"empty").expect("bucket");
        tx.commit().expect("commit");
    }
    assert!(bolt::check(&db.begin_read()).is_empty());
    drop(db);
    read_file(&disk)
}

/// The sample on pages of 1024 bytes.
fn small_sample() -> Vec<u8> {
    static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| sample(1024));
    SAMPLE.clone()
}

/// Reads, checks, changes and copies a file as far as it lets itself.
fn exercise(bytes: &[u8]) -> Result<(), Error> {
    let disk = disk_with(bytes);
    let tx = bolt::open_read_only(&disk, Path::new(PATH))?;
    let problems = bolt::check(&tx).len();
    let _ = walk(&tx);
    let _ = copy(&tx);
    drop(tx);
    let result = change(&disk);
    if problems == 0 {
        // What the writer is sound after, the checker must find sound, too.
        result?;
        let tx = bolt::open_read_only(&disk, Path::new(PATH))?;
        let problems = bolt::check(&tx);
        assert!(problems.is_empty(), "{problems:?}");
    }
    Ok(())
}

fn walk(tx: &ReadTx) -> Result<(), Error> {
    for name in tx.buckets()? {
        let Some(bucket) = tx.bucket(name)? else { continue };
        for number in (0..1300).step_by(50) {
            let _ = bucket.get(&key(number));
            let _ = bucket.cursor().seek(&key(number));
        }
        let mut cursor = bucket.cursor();
        let mut rows = 0;
        while cursor.next()?.is_some() {
            rows += 1;
        }
        let mut cursor = bucket.cursor();
        cursor.last()?;
        while cursor.prev()?.is_some() {
            rows += 1;
        }
        assert!(rows < 1_000_000, "{rows} rows in a small file");
    }
    Ok(())
}

fn copy(tx: &ReadTx) -> Result<(), Error> {
    let mut dst = Db::open(MemDisk::new(), Path::new(PATH), options(1024))?;
    bolt::compact(tx, &mut dst, 10_000)
}

fn change(disk: &MemDisk) -> Result<(), Error> {
    let mut db = Db::open(disk.clone(), Path::new(PATH), options(1024))?;
    for round in 0..2 {
        let mut tx = db.begin_write()?;
        let mut bucket = tx.create_bucket_if_missing(b"key")?;
        for number in (round * 100..1200).step_by(3) {
            bucket.delete(&key(number))?;
        }
        bucket.put(&key(77), &[b'x'; 5000])?;
        bucket.put(&key(2000), b"new")?;
        tx.delete_bucket(b"outer")?;
        tx.commit()?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_are_survived(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..20),
        headers_only in any::<bool>(),
    ) {
        let mut bytes = small_sample();
        let pages = bytes.len() / 1024;
        for (index, flip) in flips {
            // Most damage that does not show at once is in the first bytes of pages.
            let at = if headers_only {
                index.index(pages * 64) / 64 * 1024 + index.index(pages * 64) % 64
            } else {
                index.index(bytes.len())
            };
            bytes[at] ^= flip;
        }
        let _ = exercise(&bytes);
    }

    #[test]
    fn misplaced_pages_are_survived(
        moves in prop::collection::vec((2..100_usize, 2..100_usize, any::<bool>()), 1..6),
    ) {
        let mut bytes = small_sample();
        for (from, to, keeps_id) in moves {
            let mut page = bytes[from * 1024..][..1024].to_vec();
            if keeps_id {
                // As if the pages above led to the wrong place: cycles and shared pages.
                page[..8].copy_from_slice(&(to as u64).to_le_bytes());
            }
            bytes[to * 1024..][..1024].copy_from_slice(&page);
        }
        let _ = exercise(&bytes);
    }

    #[test]
    fn wrong_page_ids_are_survived(
        wrong in prop::collection::vec((any::<prop::sample::Index>(), 0..120_u64), 1..4),
    ) {
        let mut bytes = small_sample();
        let branches: Vec<usize> = (2..bytes.len() / 1024)
            .filter(|page| bytes[page * 1024 + 8] == 1)
            .flat_map(|page| {
                let count = usize::from(bytes[page * 1024 + 10]);
                (0..count).map(move |row| page * 1024 + 16 + row * 16 + 8)
            })
            .collect();
        for (index, id) in wrong {
            bytes[*index.get(&branches)..][..8].copy_from_slice(&id.to_le_bytes());
        }
        let _ = exercise(&bytes);
    }
}

#[test]
fn a_cut_file_is_an_error_that_names_it() {
    for page_size in [1024, 4096] {
        let bytes = sample(page_size);
        let size = open_bytes(&bytes).expect("open").size() as usize;
        for len in (page_size as usize..size).step_by(page_size as usize) {
            let Err(Error::Damaged(damage)) = open_bytes(&bytes[..len]) else {
                panic!("{len} of {size} bytes")
            };
            assert_eq!(damage.path, Path::new(PATH));
            let disk = disk_with(&bytes[..len]);
            Db::open(disk.clone(), Path::new(PATH), options(4096)).expect_err("cut");
            assert_eq!(read_file(&disk), bytes[..len], "opening must not write");
        }
    }
}

#[test]
fn either_meta_page_alone_is_enough() {
    for page_size in [1024, 4096, 16384] {
        let bytes = sample(page_size);
        let txid = open_bytes(&bytes).expect("open").txid();
        let newer = (txid % 2) as usize * page_size as usize;
        let older = (1 - txid % 2) as usize * page_size as usize;
        for at in 16..80 {
            for (broken, found) in [(newer, txid - 1), (older, txid)] {
                let mut bytes = bytes.clone();
                bytes[broken + at] ^= 0x10;
                let tx = open_bytes(&bytes).expect("open by the other meta page");
                assert_eq!(tx.txid(), found);
                assert_eq!(tx.page_size(), page_size);
                bytes[newer + at] ^= 0x20;
                bytes[older + at] ^= 0x20;
                assert!(matches!(open_bytes(&bytes), Err(Error::Damaged(_))));
            }
        }
    }
}

#[test]
fn a_file_that_was_being_made_is_made_anew() {
    for page_size in [1024, 4096] {
        for after in 0..20 {
            let disk = MemDisk::new();
            disk.set_fault(Some(Fault { after, error: std::io::ErrorKind::Other }));
            let result = Db::open(disk.clone(), Path::new(PATH), options(page_size)).map(drop);
            disk.set_fault(None);
            for disk in [disk.crashed(), disk] {
                let db = Db::open(disk, Path::new(PATH), options(page_size)).expect("open");
                assert!(bolt::check(&db.begin_read()).is_empty());
                assert_eq!(db.begin_read().size(), u64::from(4 * page_size));
            }
            if result.is_ok() {
                assert!(after > 3, "making a file takes several operations");
                return;
            }
        }
    }
}

#[test]
fn what_is_no_database_is_refused_and_left_alone() {
    let text = b"this is not a database, but somebody may still want it ".repeat(200);
    for bytes in [&text[..], &text[..20], &[0, 0, 1, 0], &[0xff; 9000]] {
        let disk = disk_with(bytes);
        let opened = Db::open(disk.clone(), Path::new(PATH), options(4096));
        assert!(matches!(opened, Err(Error::Damaged(_))), "{:?}", &bytes[..4]);
        drop(opened);
        assert_eq!(read_file(&disk), bytes);
    }
}

/// A file of pages written by hand, on pages of 1024 bytes.
struct ByHand {
    bytes: Vec<u8>,
}

impl ByHand {
    fn new(pages: u64, freelist: u64) -> Self {
        // The meta pages of an empty database, with other numbers and a new checksum.
        let disk = MemDisk::new();
        drop(Db::open(disk.clone(), Path::new(PATH), options(1024)).expect("open"));
        let mut bytes = read_file(&disk);
        bytes.resize(pages as usize * 1024, 0);
        for meta in [0, 1024] {
            bytes[meta + 48..meta + 56].copy_from_slice(&freelist.to_le_bytes());
            bytes[meta + 56..meta + 64].copy_from_slice(&pages.to_le_bytes());
            let fnv = |hash: u64, byte: &u8| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            };
            let sum = bytes[meta + 16..meta + 72].iter().fold(0xcbf2_9ce4_8422_2325, fnv);
            bytes[meta + 72..meta + 80].copy_from_slice(&sum.to_le_bytes());
        }
        Self { bytes }
    }

    fn put(&mut self, at: Range<usize>, bytes: &[u8]) {
        self.bytes[at].copy_from_slice(bytes);
    }

    fn header(&mut self, page: usize, flags: u16, count: u16) {
        let at = page * 1024;
        self.put(at..at + 8, &(page as u64).to_le_bytes());
        self.put(at + 8..at + 10, &flags.to_le_bytes());
        self.put(at + 10..at + 12, &count.to_le_bytes());
    }

    /// Rows of flags, key and value.
    fn leaf(&mut self, page: usize, rows: &[(u32, &[u8], &[u8])]) {
        self.header(page, 2, rows.len() as u16);
        let (mut row, mut data) = (page * 1024 + 16, page * 1024 + 16 + rows.len() * 16);
        for (flags, key, value) in rows {
            let numbers = [*flags, (data - row) as u32, key.len() as u32, value.len() as u32];
            for (at, number) in numbers.iter().enumerate() {
                self.put(row + at * 4..row + at * 4 + 4, &number.to_le_bytes());
            }
            self.put(data..data + key.len(), key);
            self.put(data + key.len()..data + key.len() + value.len(), value);
            row += 16;
            data += key.len() + value.len();
        }
    }

    fn branch(&mut self, page: usize, rows: &[(&[u8], u64)]) {
        self.header(page, 1, rows.len() as u16);
        let (mut row, mut data) = (page * 1024 + 16, page * 1024 + 16 + rows.len() * 16);
        for (key, id) in rows {
            self.put(row..row + 4, &((data - row) as u32).to_le_bytes());
            self.put(row + 4..row + 8, &(key.len() as u32).to_le_bytes());
            self.put(row + 8..row + 16, &id.to_le_bytes());
            self.put(data..data + key.len(), key);
            row += 16;
            data += key.len();
        }
    }

    /// A top-level bucket `b` with this root page.
    fn bucket(&mut self, root: u64) {
        let mut header = root.to_le_bytes().to_vec();
        header.extend([0; 8]);
        self.leaf(3, &[(1, b"b", &header)]);
    }

    fn problems(&self) -> Vec<String> {
        let tx = open_bytes(&self.bytes).expect("open");
        bolt::check(&tx).into_iter().map(|damage| damage.to_string()).collect()
    }
}

#[test]
fn cursors_pass_over_empty_leaves() {
    for empty in 0..3 {
        let mut file = ByHand::new(8, u64::MAX);
        file.bucket(4);
        file.branch(4, &[(b"a", 5), (b"c", 6), (b"e", 7)]);
        let mut expected = Vec::new();
        for (at, key) in [b"a", b"c", b"e"].into_iter().enumerate() {
            if at == empty {
                file.leaf(5 + at, &[]);
            } else {
                file.leaf(5 + at, &[(0, key, b"1")]);
                expected.push(key);
            }
        }
        assert_eq!(file.problems(), [""; 0]);
        let tx = open_bytes(&file.bytes).expect("open");
        let mut cursor = tx.cursor(b"b").expect("cursor").expect("bucket");
        let mut keys = Vec::new();
        while let Some(item) = cursor.next().expect("next") {
            keys.push(item.key);
        }
        assert_eq!(keys, expected);
        while let Some(item) = cursor.prev().expect("prev") {
            assert_eq!(Some(item.key), keys.pop());
        }
        assert!(keys.is_empty());
        let last = cursor.last().expect("last").map(|item| item.key);
        assert_eq!(last, expected.last().map(|key| &key[..]));
        let first = cursor.first().expect("first").map(|item| item.key);
        assert_eq!(first, expected.first().map(|key| &key[..]));
        let after_b = cursor.seek(b"b").expect("seek").map(|item| item.key);
        assert_eq!(after_b, expected.iter().find(|key| ***key > *b"b").map(|key| &key[..]));
    }
}

#[test]
fn a_tree_that_leads_round_ends() {
    let mut file = ByHand::new(8, u64::MAX);
    file.bucket(4);
    file.branch(4, &[(b"a", 5), (b"c", 4)]);
    file.leaf(5, &[(0, b"a", b"1")]);
    let text = file.problems().join("\n");
    assert_eq!(text, "/d/db: page 4: page is reached twice");
    let tx = open_bytes(&file.bytes).expect("open");
    let bucket = tx.bucket(b"b").expect("bucket").expect("bucket");
    let text = bucket.get(b"d").expect_err("cycle").to_string();
    assert_eq!(text, "/d/db: page 4: tree too deep");
    let mut cursor = bucket.cursor();
    let text = loop {
        match cursor.next() {
            Ok(item) => assert!(item.is_some(), "the end of a cycle"),
            Err(err) => break err.to_string(),
        }
    };
    assert_eq!(text, "/d/db: page 5: keys are not in order across pages");
    cursor.last().expect_err("cycle");
    let mut db = Db::open(disk_with(&file.bytes), Path::new(PATH), options(1024)).expect("open");
    let text = db.begin_write().expect_err("cycle").to_string();
    assert_eq!(text, "/d/db: page 4: page is used twice");
}

#[test]
fn buckets_nested_without_end_do_not_exhaust_the_stack() {
    const PAGES: usize = 20_000;
    let mut file = ByHand::new(PAGES as u64, u64::MAX);
    for page in 3..PAGES {
        let mut header = (page as u64 + 1).to_le_bytes().to_vec();
        header.extend([0; 8]);
        let rows = [(1, &b"b"[..], &header[..])];
        file.leaf(page, if page + 1 < PAGES { &rows } else { &[] });
    }
    assert_eq!(file.problems(), [""; 0]);
    let tx = open_bytes(&file.bytes).expect("open");
    let text = copy(&tx).expect_err("too deep").to_string();
    assert_eq!(text, "/d/db: page 0: buckets are nested too deep");
    let disk = disk_with(&file.bytes);
    let mut db = Db::open(disk, Path::new(PATH), options(1024)).expect("open");
    let mut tx = db.begin_write().expect("begin");
    assert!(tx.delete_bucket(b"b").expect("delete"));
    tx.commit().expect("commit");
    db.begin_write().expect("begin");
    assert!(bolt::check(&db.begin_read()).is_empty());
}

#[test]
fn the_checker_tells_what_is_wrong() {
    let check = |rows: &[(u32, &[u8], &[u8])], expected: &str| {
        let mut file = ByHand::new(6, u64::MAX);
        file.bucket(4);
        file.branch(4, &[(b"b", 5)]);
        file.leaf(5, rows);
        assert_eq!(file.problems().join("\n"), expected);
    };
    check(&[(0, b"b", b""), (0, b"c", b"")], "");
    check(&[(0, b"a", b"")], "/d/db: page 5: first key is below the key of the branch above");
    check(&[(0, b"c", b""), (0, b"b", b"")], "/d/db: page 5: key 1 is not above the one before it");
    check(&[(0, b"c", b""), (0, b"c", b"")], "/d/db: page 5: key 1 is not above the one before it");
    check(&[(1, b"c", b"short")], "/d/db: page 5: bucket is cut short");
    check(&[(1, b"c", &[9; 16])], "/d/db: page 651061555542690057: page out of range");
}

/// bbolt's other way to keep the free pages: in the file, in both forms of the count.
#[test]
fn a_list_of_free_pages_is_checked_and_then_given_up() {
    for long_form in [false, true] {
        let list = |free: &[u64]| {
            let mut file = ByHand::new(9, 2);
            file.bucket(4);
            file.leaf(4, &[(0, b"a", b"1")]);
            let count = if long_form { u16::MAX } else { free.len() as u16 };
            file.header(2, 0x10, count);
            let mut at = 2 * 1024 + 16;
            if long_form {
                file.put(at..at + 8, &(free.len() as u64).to_le_bytes());
                at += 8;
            }
            for id in free {
                file.put(at..at + 8, &id.to_le_bytes());
                at += 8;
            }
            file
        };
        let sound = list(&[5, 6, 7, 8]);
        assert_eq!(sound.problems(), [""; 0]);
        let text = list(&[4, 5, 5, 7, 99]).problems().join("\n");
        let expected = "/d/db: page 5: page is in the list of free pages twice\n\
            /d/db: page 2: free page 99 is out of range\n\
            /d/db: page 4: page is free and reached\n\
            /d/db: page 6: page is neither free nor reached\n\
            /d/db: page 8: page is neither free nor reached";
        assert_eq!(text, expected);

        let disk = disk_with(&sound.bytes);
        let mut db = Db::open(disk.clone(), Path::new(PATH), options(1024)).expect("open");
        for _ in 0..5 {
            let mut tx = db.begin_write().expect("begin");
            let mut bucket = tx.bucket(b"b").expect("bucket").expect("bucket");
            bucket.put(b"a", b"2").expect("put");
            tx.commit().expect("commit");
            assert!(bolt::check(&db.begin_read()).is_empty());
        }
        assert_eq!(db.begin_read().size(), 9 * 1024, "free pages are used");
    }
}
