//! Random histories, compactions and crashes: the store says what the model says.

use std::ops::ControlFlow;

use api::key_value::KeyValueRef;
use api::wire::Encode;
use backend::Bucket;
use env::MemDisk;
use mvcc::{CompactionProgress, Error, KvHash, RangeArgs, Rev, SortOrder, SortTarget};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::harness::{Member, show_row};
use crate::model::Model;

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u8>, Vec<u8>, i64),
    Delete(Vec<u8>, Vec<u8>),
}

#[derive(Clone, Debug)]
enum Step {
    Txn(Vec<Op>),
    /// To how far below the current revision.
    Compact(i64),
    CompactionSteps(usize, usize),
    Commit,
    Crash,
    Range(Query),
    Hash(i64),
}

#[derive(Clone, Debug)]
struct Query {
    key: Vec<u8>,
    range_end: Vec<u8>,
    limit: i64,
    /// How far below the current revision, or 0.
    back: Option<i64>,
    order: SortOrder,
    target: SortTarget,
    flags: (bool, bool),
    bounds: [i64; 4],
}

pub(crate) fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(select(&b"ab\0"[..]), 1..4)
}

pub(crate) fn range_end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => Just(Vec::new()), 2 => Just(vec![0]), 2 => key()]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (key(), vec(any::<u8>(), 0..3), select(&[0i64, 0, 1, 2][..]))
            .prop_map(|(key, value, lease)| Op::Put(key, value, lease)),
        1 => (key(), range_end()).prop_map(|(key, end)| Op::Delete(key, end)),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let orders = select(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend][..]);
    let targets = select(
        &[
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ][..],
    );
    let bound = || prop_oneof![6 => Just(0i64), 1 => 1i64..40];
    (
        (key(), range_end(), -1i64..5, proptest::option::of(-2i64..20)),
        (orders, targets, (any::<bool>(), proptest::bool::weighted(0.1))),
        [bound(), bound(), bound(), bound()],
    )
        .prop_map(|((key, range_end, limit, back), (order, target, flags), bounds)| Query {
            key,
            range_end,
            limit,
            back,
            order,
            target,
            flags,
            bounds,
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec(op(), 1..4).prop_map(Step::Txn),
        1 => (-1i64..12).prop_map(Step::Compact),
        2 => (1usize..5, 0usize..8).prop_map(|(limit, steps)| Step::CompactionSteps(limit, steps)),
        1 => Just(Step::Commit),
        1 => Just(Step::Crash),
        5 => query().prop_map(Step::Range),
        1 => (-2i64..12).prop_map(Step::Hash),
    ]
}

/// The store and the model, side by side.
struct Pair {
    member: Member,
    model: Model,
    /// The model as of the last commit.
    durable: Model,
    /// The compactions under way.
    compactions: Vec<i64>,
    /// The last of them as of the last commit: it goes on after a crash.
    durable_compaction: Option<i64>,
    hashes: Vec<KvHash>,
}

impl Pair {
    fn new() -> Self {
        Self {
            member: Member::open(MemDisk::new()),
            model: Model::new(),
            durable: Model::new(),
            compactions: Vec::new(),
            durable_compaction: None,
            hashes: Vec::new(),
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Txn(ops) => self.txn(ops),
            Step::Compact(back) => self.compact(self.model.current - back),
            Step::CompactionSteps(limit, steps) => self.compaction_steps(*limit, *steps),
            Step::Commit => {
                self.member.commit();
                self.durable = self.model.clone();
                self.durable_compaction = self.compactions.last().copied();
            }
            Step::Crash => {
                self.member = self.member.restart();
                self.model = self.durable.clone();
                self.hashes.clear();
                self.compactions = self.durable_compaction.into_iter().collect();
                self.check_leases();
            }
            Step::Range(query) => self.range(query),
            Step::Hash(back) => self.hash(self.model.current - back),
        }
        assert_eq!(self.member.store.revision(), self.model.current);
        assert_eq!(self.member.store.compact_revision(), self.model.compact);
    }

    fn txn(&mut self, ops: &[Op]) {
        let (store, model) = (&mut self.member.store, &mut self.model);
        let mut txn = store.begin(&mut self.member.backend, true);
        let main = model.current + 1;
        let before = model.rows.len();
        for op in ops {
            let rev = Rev { main, sub: (model.rows.len() - before) as i64 };
            match op {
                Op::Put(key, value, lease) => {
                    let put = txn.put(key, value, *lease, true).expect("well");
                    let living = model.living(i64::MAX);
                    let prev = living.get(key.as_slice()).copied().cloned();
                    let expected = prev.as_ref().map(|row| row.kv().encode_to_vec());
                    assert_eq!(put.prev_kv.map(|row| row.to_vec()), expected);
                    assert_eq!(put.prev_lease, prev.map_or(0, |row| row.lease));
                    model.put(rev, key, value, *lease);
                }
                Op::Delete(key, end) => {
                    let deleted = txn.delete_range(key, end, true).expect("well");
                    let gone = model.delete(rev, key, end);
                    let keys: Vec<_> =
                        gone.iter().map(|row| (row.key.clone().into(), row.lease)).collect();
                    assert_eq!(deleted.keys, keys);
                    let rows: Vec<_> = gone.iter().map(|row| row.kv().encode_to_vec()).collect();
                    assert_eq!(deleted.prev_kvs, rows);
                }
            }
        }
        let events = txn.finish().map_or(Vec::new(), |batch| {
            assert_eq!(batch.revision, main);
            batch.events.to_vec()
        });
        let changes = &model.rows[before..];
        assert_eq!(events.len(), changes.len());
        for (event, row) in events.iter().zip(changes) {
            let kv = match row.tombstone {
                true => KeyValueRef::deleted(&row.key, main),
                false => row.kv(),
            };
            assert_eq!(event.kv, kv.encode_to_vec());
            assert_eq!(event.key(), row.key);
        }
        if !changes.is_empty() {
            model.current = main;
        }
    }

    fn compact(&mut self, revision: i64) {
        let compacted = self.member.store.compact(&mut self.member.backend, revision);
        match compacted {
            Err(Error::Compacted) => assert!(revision <= self.model.compact),
            Err(Error::Future) => assert!(revision > self.model.current),
            Err(error) => panic!("{error}"),
            Ok(()) => {
                self.compactions.push(revision);
                self.model.compact = revision;
            }
        }
    }

    fn compaction_steps(&mut self, limit: usize, steps: usize) {
        for _ in 0..steps {
            let step = self.member.store.compaction_step(&mut self.member.backend, limit);
            if let CompactionProgress::Finished { revision, hash, .. } = step.expect("well") {
                self.finished(revision, hash);
            }
        }
    }

    fn finished(&mut self, revision: i64, hash: Option<KvHash>) {
        assert_eq!(self.compactions.remove(0), revision);
        let kept = self.model.kept(revision);
        if let Some(hash) = hash {
            let expected = self.model.hash(revision, hash.compact_revision, &kept);
            assert_eq!(hash.hash, expected);
            self.hashes.push(hash);
            let surplus = self.hashes.len().saturating_sub(10);
            self.hashes.drain(..surplus);
        }
        if self.compactions.is_empty() {
            self.check_rows(revision, &kept);
        }
    }

    /// What the backend holds after a compaction.
    fn check_rows(&self, revision: i64, kept: &std::collections::BTreeSet<Rev>) {
        let mut rows = Vec::new();
        let reader = self.member.backend.reader();
        let scanned = reader.scan(Bucket::Key, b"", b"", 0, |key, value| {
            rows.push((key.to_vec(), show_row(value)));
            ControlFlow::Continue(())
        });
        scanned.expect("well");
        let stays = |rev: &Rev| rev.main > revision || kept.contains(rev);
        let expected = self.model.rows.iter().filter(|row| stays(&row.rev));
        let expected: Vec<_> =
            expected.map(|row| (row.row_key(), show_row(&row.kv().encode_to_vec()))).collect();
        assert_eq!(rows, expected);
    }

    fn check_leases(&self) {
        let living = self.model.living(self.model.current);
        let leased = living.values().filter(|row| row.lease != 0);
        let expected: Vec<_> = leased.map(|row| (row.key.clone().into(), row.lease)).collect();
        assert_eq!(self.member.leases, expected);
    }

    fn range(&self, query: &Query) {
        let args = RangeArgs {
            key: &query.key,
            range_end: &query.range_end,
            limit: query.limit,
            revision: query.back.map_or(0, |back| self.model.current - back),
            sort_order: query.order,
            sort_target: query.target,
            keys_only: query.flags.0,
            count_only: query.flags.1,
            min_mod_revision: query.bounds[0],
            max_mod_revision: query.bounds[1],
            min_create_revision: query.bounds[2],
            max_create_revision: query.bounds[3],
        };
        let expected = self.model.range(&args);
        match self.member.range(&args) {
            Ok((result, rows)) => {
                assert_eq!(result.revision, self.model.current);
                assert_eq!(Some((result.count, result.more, rows)), expected, "{args:?}");
            }
            Err(error) => {
                assert!(expected.is_none(), "{args:?}: {error}");
                assert_eq!(matches!(error, Error::Future), args.revision > self.model.current);
            }
        }
        self.chunks(&args);
    }

    /// A stream of chunks comes to what one range does.
    fn chunks(&self, args: &RangeArgs<'_>) {
        let whole = RangeArgs {
            key: args.key,
            range_end: args.range_end,
            revision: args.revision,
            keys_only: args.keys_only,
            ..RangeArgs::default()
        };
        let Some((_, _, expected)) = self.model.range(&whole) else {
            return;
        };
        let limit = args.limit.max(1);
        let mut rows = Vec::new();
        let mut next = Some(args.key.to_vec());
        while let Some(key) = next {
            let part = RangeArgs { key: &key, limit, ..whole };
            let before = rows.len();
            let chunk =
                self.member.store.reader().range_chunk(&part, |row| rows.push(row.to_vec()));
            let chunk = chunk.expect("the whole can be read");
            assert_eq!(chunk.rows, rows.len() - before);
            assert!(chunk.next.is_none() || chunk.rows as i64 == limit);
            next = chunk.next;
        }
        assert_eq!(rows, expected);
    }

    fn hash(&self, revision: i64) {
        let said = self.member.store.reader().hash_kv(revision);
        let cached = self.hashes.iter().find(|hash| hash.revision == revision);
        if let Some(cached) = cached {
            assert_eq!(said.expect("it is cached").0, *cached);
            return;
        }
        match said {
            Err(Error::Compacted) => assert!(revision > 0 && revision < self.model.compact),
            Err(Error::Future) => assert!(revision > self.model.current),
            Err(error) => panic!("{error}"),
            Ok((hash, current)) => {
                assert_eq!(current, self.model.current);
                let at = if revision == 0 { current } else { revision };
                let living = self.model.living(at);
                let keep = living.values().map(|row| row.rev).collect();
                if !living.is_empty() || self.compactions.is_empty() {
                    assert_eq!(hash.hash, self.model.hash(at, self.model.compact, &keep));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn says_what_the_model_says(steps in vec(step(), 1..120)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.run(step);
        }
        pair.compaction_steps(3, 100_000.min(200 + pair.model.rows.len() * 10));
        pair.run(&Step::Commit);
        pair.run(&Step::Crash);
    }
}
