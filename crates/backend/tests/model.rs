//! Reads over the three layers against a map, with commits, defragmentations and crashes between.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use backend::{Backend, Batch, Bucket, Committed, Committer, Options, Reader, Row};
use bytes::Bytes;
use env::{Fault, MemDisk};
use proptest::prelude::*;

const PATH: &str = "/d/db";
const BUCKETS: [Bucket; 3] = [Bucket::Key, Bucket::Lease, Bucket::AuthUsers];

type Model = BTreeMap<(Bucket, Vec<u8>), Bytes>;

fn options() -> Options {
    Options { map_bytes: 0, alloc_bytes: 8192, ..Options::default() }
}

fn open(disk: &MemDisk) -> (Backend, Committer<MemDisk>) {
    Backend::open(disk.clone(), Path::new(PATH), options()).expect("open")
}

#[derive(Clone, Debug)]
enum Op {
    Put(Bucket, u16),
    /// Keys that ascend from one to the next, as revisions do.
    Append(u16),
    Delete(Bucket, u16),
    /// As compaction deletes: many old rows at a time.
    DeleteRange(u16, u16),
    Freeze,
    Commit,
    Committed,
    Defrag,
    Scan(Bucket, u16, u16, usize),
    Lend(Bucket, u16),
}

fn op() -> impl Strategy<Value = Op> {
    let bucket = prop::sample::select(&BUCKETS[..]);
    let key = 0..400_u16;
    prop_oneof![
        6 => (bucket.clone(), key.clone()).prop_map(|(bucket, key)| Op::Put(bucket, key)),
        4 => (1..60_u16).prop_map(Op::Append),
        3 => (bucket.clone(), key.clone()).prop_map(|(bucket, key)| Op::Delete(bucket, key)),
        1 => (key.clone(), 1..200_u16).prop_map(|(from, count)| Op::DeleteRange(from, count)),
        4 => Just(Op::Freeze),
        4 => Just(Op::Commit),
        4 => Just(Op::Committed),
        1 => Just(Op::Defrag),
        6 => (bucket.clone(), key.clone(), key.clone(), 0..20_usize)
            .prop_map(|(bucket, from, to, limit)| Op::Scan(bucket, from, to, limit)),
        3 => (bucket, key).prop_map(|(bucket, key)| Op::Lend(bucket, key)),
    ]
}

fn key_bytes(key: u16) -> Vec<u8> {
    // Some too long to lie in the row.
    format!("{key:05}{}", "k".repeat(usize::from(key % 25))).into_bytes()
}

/// A backend, its commit thread in between calls, and what is on its way.
struct Run {
    backend: Backend,
    committer: Committer<MemDisk>,
    model: Model,
    frozen: Option<Batch>,
    done: Option<Committed>,
    appended: u16,
    writes: u64,
    /// What was lent, and what it was then.
    lent: Vec<(Bytes, Bytes)>,
}

impl Run {
    fn new(disk: &MemDisk) -> Self {
        let (backend, committer) = open(disk);
        let (model, frozen, done) = (Model::new(), None, None);
        let lent = Vec::new();
        Self { backend, committer, model, frozen, done, appended: 400, writes: 0, lent }
    }

    fn put(&mut self, bucket: Bucket, key: u16) {
        self.writes += 1;
        let value = Bytes::from(format!("value {} of {key}", self.writes));
        self.backend.put(bucket, &key_bytes(key), value.clone());
        self.model.insert((bucket, key_bytes(key)), value);
    }

    fn delete(&mut self, bucket: Bucket, key: u16) {
        self.writes += 1;
        self.backend.delete(bucket, &key_bytes(key));
        self.model.remove(&(bucket, key_bytes(key)));
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Put(bucket, key) => self.put(bucket, key),
            Op::Append(count) => {
                for key in self.appended..self.appended + count {
                    self.put(Bucket::Key, key);
                }
                self.appended += count;
            }
            Op::Delete(bucket, key) => self.delete(bucket, key),
            Op::DeleteRange(from, count) => {
                (from..from + count).for_each(|key| self.delete(Bucket::Key, key));
            }
            Op::Freeze => {
                self.backend.set_consistent_index(self.writes, 1);
                let batch = self.backend.freeze();
                assert!(batch.is_none() || (self.frozen.is_none() && self.done.is_none()));
                self.frozen = self.frozen.take().or(batch);
            }
            Op::Commit => {
                if let Some(batch) = self.frozen.take() {
                    self.done = Some(self.committer.commit(batch).expect("commit"));
                }
            }
            Op::Committed => {
                if let Some(done) = self.done.take() {
                    self.backend.committed(done);
                }
            }
            Op::Defrag => {
                self.step(&Op::Committed);
                self.done = Some(self.committer.defrag().expect("defrag"));
                self.step(&Op::Committed);
            }
            Op::Scan(bucket, from, to, limit) => {
                verify_scan(&self.backend.reader(), &self.model, bucket, from, to, limit);
            }
            Op::Lend(bucket, key) => {
                let visit = |_, row: Option<Row<'_>>| {
                    let row = row.map(|row| (row.lend(), Bytes::copy_from_slice(&row)));
                    self.lent.extend(row);
                    ControlFlow::Continue(())
                };
                let keys = [(bucket, key_bytes(key))];
                self.backend.reader().get_many(&keys, visit).expect("get many");
            }
        }
    }
}

fn scan(
    reader: &Reader,
    bucket: Bucket,
    from: &[u8],
    to: &[u8],
    limit: usize,
) -> Vec<(Vec<u8>, Bytes)> {
    let mut rows = Vec::new();
    let visit = |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    };
    reader.scan(bucket, from, to, limit, visit).expect("scan");
    rows
}

fn verify_scan(reader: &Reader, model: &Model, bucket: Bucket, from: u16, to: u16, limit: usize) {
    let (from, to) = (key_bytes(from), if to == 0 { Vec::new() } else { key_bytes(to) });
    let rows = model
        .iter()
        .filter(|((b, key), _)| *b == bucket && *key >= from && (to.is_empty() || *key < to))
        .map(|((_, key), value)| (key.clone(), value.clone()));
    let limit_or_all = if limit == 0 { usize::MAX } else { limit };
    let expected: Vec<_> = rows.take(limit_or_all).collect();
    assert_eq!(scan(reader, bucket, &from, &to, limit), expected);
}

fn verify(backend: &Backend, model: &Model) {
    let reader = backend.reader();
    for bucket in BUCKETS {
        verify_scan(&reader, model, bucket, 0, 0, 0);
    }
    let keys: Vec<(Bucket, Vec<u8>)> =
        (0..500).step_by(9).map(|key| (BUCKETS[usize::from(key) % 3], key_bytes(key))).collect();
    let mut next = 0;
    let visit = |index: usize, value: Option<Row<'_>>| {
        assert_eq!(index, next, "in order");
        next += 1;
        assert_eq!(value.as_deref(), model.get(&keys[index]).map(|value| &value[..]));
        ControlFlow::Continue(())
    };
    reader.get_many(&keys, visit).expect("get many");
    assert_eq!(next, keys.len());
    for (bucket, key) in &keys {
        let value = backend.get(*bucket, key).expect("get");
        assert_eq!(value.as_ref(), model.get(&(*bucket, key.clone())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_read_sees_what_was_written(ops in prop::collection::vec(op(), 1..80)) {
        let disk = MemDisk::new();
        let mut run = Run::new(&disk);
        for op in &ops {
            run.step(op);
        }
        verify(&run.backend, &run.model);
        for op in [Op::Commit, Op::Committed, Op::Freeze, Op::Commit, Op::Committed] {
            run.step(&op);
            verify(&run.backend, &run.model);
        }
        prop_assert!(bolt::check(&run.backend.reader().snapshot()).is_empty());
        for (lent, was) in &run.lent {
            prop_assert_eq!(lent, was, "what is lent stays as it is");
        }
        let (model, writes) = (run.model, run.writes);
        drop((run.backend, run.committer));
        let (backend, _committer) = open(&disk);
        verify(&backend, &model);
        prop_assert_eq!(backend.consistent_index(), (writes, 1));
    }

    /// After a crash at any operation the file holds whole batches, with the index of the last.
    #[test]
    fn a_batch_is_durable_with_its_index_or_not_at_all(
        batches in prop::collection::vec(prop::collection::vec(op(), 1..12), 1..4),
        defrag in any::<bool>(),
    ) {
        for after in 0.. {
            let disk = MemDisk::new();
            let mut run = Run::new(&disk);
            // By consistent index, which counts writes.
            let mut states = BTreeMap::from([(0, Model::new())]);
            let mut durable = 0;
            disk.set_fault(Some(Fault { after, error: std::io::ErrorKind::Other }));
            let mut failed = false;
            for batch in &batches {
                for op in batch {
                    if matches!(op, Op::Put(..) | Op::Append(_) | Op::Delete(..)) {
                        run.step(op);
                    }
                }
                states.insert(run.writes, run.model.clone());
                run.backend.set_consistent_index(run.writes, 1);
                let Some(batch) = run.backend.freeze() else { continue };
                let result = run.committer.commit(batch).and_then(|done| {
                    durable = run.writes;
                    run.backend.committed(done);
                    if defrag {
                        let done = run.committer.defrag()?;
                        run.backend.committed(done);
                    }
                    Ok(())
                });
                if result.is_err() {
                    failed = true;
                    break;
                }
            }
            verify(&run.backend, &run.model);
            drop((run.backend, run.committer));
            disk.set_fault(None);
            for disk in [disk.crashed(), disk] {
                let (backend, _committer) = open(&disk);
                let (index, _) = backend.consistent_index();
                prop_assert!(index >= durable);
                verify(&backend, &states[&index]);
                prop_assert!(bolt::check(&backend.reader().snapshot()).is_empty());
            }
            if !failed {
                break;
            }
        }
    }
}

#[test]
fn a_batch_is_due_when_it_is_full_or_old() {
    let disk = MemDisk::new();
    let options = Options { batch_limit: 3, ..options() };
    let (mut backend, mut committer) = Backend::open(disk, Path::new(PATH), options).expect("open");
    let at = Duration::from_millis;
    assert_eq!(backend.pending(), Bucket::COUNT, "the buckets are to be made");
    assert!(backend.wants_commit(at(0)));
    let batch = backend.freeze().expect("buckets");
    assert!(batch.is_empty());
    assert!(backend.freeze().is_none());
    let done = committer.commit(batch).expect("commit");
    assert_eq!(backend.size(), 4 * 4096);
    backend.committed(done);
    assert_eq!(backend.size(), 5 * 4096);
    let names: Vec<_> = Bucket::ALL.iter().map(|bucket| bucket.name()).collect();
    let tx = backend.reader().snapshot();
    let found = tx.buckets().expect("buckets");
    assert!(names.iter().all(|name| found.contains(name)) && found.len() == names.len());

    assert!(!backend.wants_commit(at(1000)), "nothing to write");
    backend.put(Bucket::Key, b"a", Bytes::new());
    assert!(!backend.wants_commit(at(1001)));
    assert!(!backend.wants_commit(at(1100)));
    assert!(backend.wants_commit(at(1101)));
    backend.put(Bucket::Key, b"b", Bytes::new());
    backend.delete(Bucket::Key, b"b");
    assert!(backend.wants_commit(at(1002)), "full");
    let batch = backend.freeze().expect("rows");
    assert_eq!((batch.len(), backend.pending()), (2, 0));
    (0..3).for_each(|_| backend.put(Bucket::Key, b"c", Bytes::new()));
    assert!(!backend.wants_commit(at(2000)), "one batch at a time");
    let done = committer.commit(batch).expect("commit");
    backend.committed(done);
    assert!(backend.wants_commit(at(2000)));
    assert!(backend.size_in_use() <= backend.size());
}

#[test]
fn an_index_alone_is_written_when_asked() {
    let disk = MemDisk::new();
    let (mut backend, mut committer) = open(&disk);
    let batch = backend.freeze().expect("buckets");
    let done = committer.commit(batch).expect("commit");
    backend.committed(done);
    assert!(backend.freeze().is_none());
    backend.set_consistent_index(0x0102, 3);
    assert!(!backend.wants_commit(Duration::from_secs(9)));
    let batch = backend.freeze().expect("index");
    let done = committer.commit(batch).expect("commit");
    backend.committed(done);
    let row = |key: &[u8]| backend.get(Bucket::Meta, key).expect("get");
    assert_eq!(row(b"consistent_index").as_deref(), Some(&[0, 0, 0, 0, 0, 0, 1, 2][..]));
    assert_eq!(row(b"term").as_deref(), Some(&[0, 0, 0, 0, 0, 0, 0, 3][..]));
    assert!(backend.freeze().is_none());
    drop((backend, committer));
    assert_eq!(open(&disk).0.consistent_index(), (0x0102, 3));
}

/// The hash of all rows, with the CRC-32C of bytes put together by hand.
#[test]
fn the_hash_goes_over_names_keys_and_values() {
    let disk = MemDisk::new();
    let (mut backend, mut committer) = open(&disk);
    backend.put(Bucket::Key, b"k1", Bytes::from_static(b"v1"));
    backend.put(Bucket::Key, b"k2", Bytes::from_static(b"v2"));
    backend.put(Bucket::Meta, b"confState", Bytes::from_static(b"{}"));
    backend.put(Bucket::Meta, b"storageVersion", Bytes::from_static(b"3.7.0"));
    backend.set_consistent_index(0, 7);
    let batch = backend.freeze().expect("rows");
    let done = committer.commit(batch).expect("commit");
    backend.committed(done);
    let tx = backend.reader().snapshot();
    let local = b"alarmauthauthRolesauthUsersclusterkeyk1v1k2v2leasemembersmembers_removed\
        metaconfState{}";
    assert_eq!(backend::hash(&tx, backend::skip_local).expect("hash"), crc32c::crc32c(local));
    let mut all = local.to_vec();
    all.extend(b"consistent_index\0\0\0\0\0\0\0\0storageVersion3.7.0term\0\0\0\0\0\0\0\x07");
    assert_eq!(backend::hash(&tx, |_, _| false).expect("hash"), crc32c::crc32c(&all));
}
