//! The engine against a model of nested maps, committed, reopened and crashed at random.

use std::collections::BTreeMap;
use std::path::Path;

use bolt::{Bucket, BucketMut, Db, Error, Item, Options, ReadTx, WriteTx};
use env::{Fault, MemDisk};
use proptest::prelude::*;

const PATH: &str = "/d/db";

/// A bucket as it should be.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    buckets: BTreeMap<Vec<u8>, Self>,
    sequence: u64,
}

#[derive(Clone, Debug)]
enum Op {
    Put { bucket: usize, key: u16, len: usize },
    Delete { bucket: usize, key: u16 },
    DeleteRange { bucket: usize, from: u16, count: u16 },
    Ascend { bucket: usize, from: u16, count: u16, len: usize },
    DropBucket { bucket: usize },
    Sequence { bucket: usize, sequence: u64 },
    Commit,
    Rollback,
    Reopen,
    OpenReader,
    CloseReader,
}

/// Buckets, two of them inside others.
const BUCKETS: [&[&[u8]]; 5] =
    [&[b"key"], &[b"meta"], &[b"meta", b"inner"], &[b"lease"], &[b"meta", b"inner", b"deep"]];

fn options() -> Options {
    // Small pages make deep trees of few rows.
    Options { page_size: 1024, map_bytes: 0, alloc_bytes: 8192, ..Options::default() }
}

fn open(disk: &MemDisk) -> Db<MemDisk> {
    Db::open(disk.clone(), Path::new(PATH), options()).expect("open")
}

fn key_bytes(key: u16) -> Vec<u8> {
    let mut bytes = format!("{key:05}").into_bytes();
    bytes.resize(5 + usize::from(key % 40), b'k');
    bytes
}

fn value_bytes(key: u16, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u16 ^ key) as u8).collect()
}

fn op() -> impl Strategy<Value = Op> {
    let bucket = 0..BUCKETS.len();
    let key = 0..600_u16;
    let len = prop_oneof![8 => 0..60_usize, 2 => 200..900_usize, 1 => 2000..9000_usize];
    prop_oneof![
        6 => (bucket.clone(), key.clone(), len.clone())
            .prop_map(|(bucket, key, len)| Op::Put { bucket, key, len }),
        3 => (bucket.clone(), key.clone()).prop_map(|(bucket, key)| Op::Delete { bucket, key }),
        3 => (bucket.clone(), key.clone(), 1..400_u16)
            .prop_map(|(bucket, from, count)| Op::DeleteRange { bucket, from, count }),
        4 => (bucket.clone(), key, 1..300_u16, 0..60_usize)
            .prop_map(|(bucket, from, count, len)| Op::Ascend { bucket, from, count, len }),
        1 => bucket.clone().prop_map(|bucket| Op::DropBucket { bucket }),
        1 => (bucket, any::<u64>())
            .prop_map(|(bucket, sequence)| Op::Sequence { bucket, sequence }),
        4 => Just(Op::Commit),
        1 => Just(Op::Rollback),
        1 => Just(Op::Reopen),
        1 => Just(Op::OpenReader),
        1 => Just(Op::CloseReader),
    ]
}

fn bucket_mut<'tx>(tx: &'tx mut WriteTx<'_, MemDisk>, bucket: usize) -> BucketMut<'tx> {
    // The borrow checker wants the three depths spelled out.
    match BUCKETS[bucket] {
        [a] => tx.create_bucket_if_missing(a).expect("bucket"),
        [a, rest @ ..] => {
            for depth in 1..=rest.len() {
                let mut at = tx.create_bucket_if_missing(a).expect("bucket");
                if depth == 2 {
                    at.bucket(rest[0])
                        .expect("bucket")
                        .expect("made")
                        .create_bucket_if_missing(rest[1])
                        .expect("bucket");
                } else {
                    at.create_bucket_if_missing(rest[0]).expect("bucket");
                }
            }
            let at = tx.bucket(a).expect("bucket").expect("made above");
            descend(at, rest)
        }
        [] => unreachable!("every bucket has a name"),
    }
}

fn descend<'tx>(at: BucketMut<'tx>, rest: &[&[u8]]) -> BucketMut<'tx> {
    rest.iter().fold(at, |at, name| at.into_bucket(name).expect("bucket").expect("made above"))
}

fn model_mut(model: &mut Model, bucket: usize) -> &mut Model {
    BUCKETS[bucket].iter().fold(model, |at, name| at.buckets.entry(name.to_vec()).or_default())
}

fn apply(tx: &mut WriteTx<'_, MemDisk>, model: &mut Model, op: &Op) {
    let put = |tx: &mut BucketMut<'_>, model: &mut Model, key: u16, len: usize| {
        let (key, value) = (key_bytes(key), value_bytes(key, len));
        tx.put(&key, &value).expect("put");
        model.values.insert(key, value);
    };
    let delete = |tx: &mut BucketMut<'_>, model: &mut Model, key: u16| {
        let was = tx.delete(&key_bytes(key)).expect("delete");
        assert_eq!(was, model.values.remove(&key_bytes(key)).is_some());
    };
    match *op {
        Op::Put { bucket, key, len } => {
            put(&mut bucket_mut(tx, bucket), model_mut(model, bucket), key, len);
        }
        Op::Delete { bucket, key } => {
            delete(&mut bucket_mut(tx, bucket), model_mut(model, bucket), key);
        }
        Op::DeleteRange { bucket, from, count } => {
            let (mut tx, model) = (bucket_mut(tx, bucket), model_mut(model, bucket));
            (from..from + count).for_each(|key| delete(&mut tx, model, key));
        }
        Op::Ascend { bucket, from, count, len } => {
            let (mut tx, model) = (bucket_mut(tx, bucket), model_mut(model, bucket));
            tx.set_fill_percent(0.9);
            (from..from + count).for_each(|key| put(&mut tx, model, key, len));
        }
        Op::DropBucket { bucket } => {
            let (name, above) = BUCKETS[bucket].split_last().expect("a name");
            let was = match above {
                [] => tx.delete_bucket(name).expect("delete bucket"),
                [a] => match tx.bucket(a).expect("bucket") {
                    Some(mut a) => a.delete_bucket(name).expect("delete bucket"),
                    None => false,
                },
                [a, b, ..] => match tx.bucket(a).expect("bucket") {
                    Some(mut a) => match a.bucket(b).expect("bucket") {
                        Some(mut b) => b.delete_bucket(name).expect("delete bucket"),
                        None => false,
                    },
                    None => false,
                },
            };
            let mut at = Some(&mut *model);
            for name in above {
                at = at.and_then(|at| at.buckets.get_mut(*name));
            }
            assert_eq!(was, at.is_some_and(|at| at.buckets.remove(*name).is_some()));
        }
        Op::Sequence { bucket, sequence } => {
            bucket_mut(tx, bucket).set_sequence(sequence);
            model_mut(model, bucket).sequence = sequence;
        }
        Op::Commit | Op::Rollback | Op::Reopen | Op::OpenReader | Op::CloseReader => {}
    }
}

/// Everything that can be read is as the model has it, in both directions and by key.
fn compare(bucket: &Bucket<'_>, model: &Model) {
    let mut expected: BTreeMap<&[u8], Option<&[u8]>> =
        model.values.iter().map(|(key, value)| (&key[..], Some(&value[..]))).collect();
    expected.extend(model.buckets.keys().map(|name| (&name[..], None)));
    let item = |(key, value): (&&'_ [u8], &Option<&'_ [u8]>)| {
        (key.to_vec(), value.unwrap_or_default().to_vec(), value.is_none())
    };
    let read = |item: Item<'_>| (item.key.to_vec(), item.value.to_vec(), item.is_bucket);

    let mut cursor = bucket.cursor();
    for row in &expected {
        assert_eq!(cursor.next().expect("next").map(read), Some(item(row)));
        if let Some(inner) = cursor.bucket().expect("bucket") {
            compare(&inner, &model.buckets[*row.0]);
        }
    }
    assert_eq!(cursor.next().expect("next"), None);
    assert_eq!(cursor.next().expect("next again"), None);
    for row in expected.iter().rev() {
        assert_eq!(cursor.prev().expect("prev").map(read), Some(item(row)));
    }
    assert_eq!(cursor.prev().expect("prev"), None);
    assert_eq!(cursor.prev().expect("prev again"), None);
    assert_eq!(cursor.last().expect("last").map(read), expected.iter().next_back().map(item));
    assert_eq!(cursor.first().expect("first").map(read), expected.iter().next().map(item));

    for key in (0..1000).step_by(7).map(key_bytes) {
        let row = expected.range(&key[..]..).next();
        assert_eq!(cursor.seek(&key).expect("seek").map(read), row.map(item));
        let row = expected.range(..&key[..]).next_back();
        assert_eq!(cursor.prev().expect("prev").map(read), row.map(item));
        assert_eq!(bucket.get(&key).expect("get"), model.values.get(&key).map(|v| &v[..]));
    }
    assert_eq!(bucket.sequence(), model.sequence);
}

fn verify(tx: &ReadTx, model: &Model) {
    let problems = bolt::check(tx);
    assert!(problems.is_empty(), "{problems:?}");
    compare(&tx.root().expect("root"), model);
}

/// A copy of a view is a database of its own with the same rows.
fn verify_copy(tx: &ReadTx, model: &Model) {
    use env::{Disk, File, Open};
    let disk = MemDisk::new();
    let file = disk.open(Path::new("copy"), Open::Create(0o600)).expect("create");
    let (mut offset, mut buf) = (0, [0; 1500]);
    loop {
        match tx.read_copy_at(offset, &mut buf).expect("read copy") {
            0 => break,
            len => file.write_all_at(&buf[..len], offset).expect("write"),
        }
        offset = file.len().expect("len");
    }
    assert_eq!(offset, tx.size());
    drop(file);
    let copy = bolt::open_read_only(&disk, Path::new("copy")).expect("open the copy");
    assert_eq!(copy.txid(), tx.txid());
    verify(&copy, model);
}

fn run(ops: &[Op]) {
    let disk = MemDisk::new();
    let mut db = open(&disk);
    let mut committed = Model::default();
    let mut readers: Vec<(ReadTx, Model)> = Vec::new();
    let mut batch = Vec::new();
    for op in ops {
        match op {
            Op::Commit | Op::Rollback => {
                let mut model = committed.clone();
                let mut tx = db.begin_write().expect("begin");
                for op in batch.drain(..) {
                    apply(&mut tx, &mut model, op);
                }
                if matches!(op, Op::Commit) {
                    tx.commit().expect("commit");
                    committed = model;
                }
                verify(&db.begin_read(), &committed);
            }
            Op::Reopen => {
                verify_copy(&db.begin_read(), &committed);
                readers.clear();
                drop(db);
                db = open(&disk);
                verify(&db.begin_read(), &committed);
            }
            Op::OpenReader => readers.push((db.begin_read(), committed.clone())),
            Op::CloseReader => {
                if let Some((reader, model)) = (!readers.is_empty()).then(|| readers.remove(0)) {
                    verify(&reader, &model);
                    verify_copy(&reader, &model);
                }
            }
            other => batch.push(other),
        }
    }
    for (reader, model) in &readers {
        verify(reader, model);
    }
    let mut copy = Db::open(disk.clone(), Path::new("/d/copy"), options()).expect("open");
    bolt::compact(&db.begin_read(), &mut copy, 4096).expect("compact");
    verify(&copy.begin_read(), &committed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(ops in prop::collection::vec(op(), 1..60)) {
        run(&ops);
    }

    /// Whichever operation fails, and if the power goes right then: the file is as before the
    /// commit or as after it, and sound.
    #[test]
    fn a_failed_commit_leaves_the_state_before_or_after(
        first in prop::collection::vec(op(), 1..20),
        second in prop::collection::vec(op(), 1..20),
    ) {
        for after in 0.. {
            let disk = MemDisk::new();
            let mut db = open(&disk);
            let mut before = Model::default();
            let mut tx = db.begin_write().expect("begin");
            first.iter().for_each(|op| apply(&mut tx, &mut before, op));
            tx.commit().expect("commit");
            let mut later = before.clone();
            let mut tx = db.begin_write().expect("begin");
            second.iter().for_each(|op| apply(&mut tx, &mut later, op));
            disk.set_fault(Some(Fault { after, error: std::io::ErrorKind::StorageFull }));
            let result = tx.commit();
            disk.set_fault(None);
            if result.is_err() {
                prop_assert!(matches!(db.begin_write(), Err(Error::Failed(_))));
                verify(&db.begin_read(), &before);
            }
            let txid = db.begin_read().txid();
            drop(db);
            // With the power gone, and with all that was written before the failure there.
            let crashed = bolt::open_read_only(&disk.crashed(), Path::new(PATH)).expect("open");
            verify(&crashed, if result.is_ok() { &later } else { &before });
            let stopped = bolt::open_read_only(&disk, Path::new(PATH)).expect("open");
            let done = result.is_ok() || stopped.txid() > txid;
            verify(&stopped, if done { &later } else { &before });
            if result.is_ok() {
                break;
            }
        }
    }
}
