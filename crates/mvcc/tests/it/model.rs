//! The key space as etcd's documentation describes it, with no thought of speed: the whole history
//! as a list, out of which everything is computed anew.

use std::collections::{BTreeMap, BTreeSet};

use api::key_value::KeyValueRef;
use api::wire::Encode;
use mvcc::{RangeArgs, Rev, SortOrder, SortTarget};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) rev: Rev,
    pub(crate) tombstone: bool,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) created: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Nothing is ever removed from it.
    pub(crate) rows: Vec<Row>,
    pub(crate) current: i64,
    pub(crate) compact: i64,
}

impl Row {
    pub(crate) fn kv(&self) -> KeyValueRef<'_> {
        if self.tombstone {
            return KeyValueRef::tombstone(&self.key);
        }
        KeyValueRef {
            key: &self.key,
            create_revision: self.created,
            mod_revision: self.rev.main,
            version: self.version,
            value: &self.value,
            lease: self.lease,
        }
    }

    pub(crate) fn row_key(&self) -> Vec<u8> {
        if self.tombstone {
            self.rev.to_tombstone_key().to_vec()
        } else {
            self.rev.to_key().to_vec()
        }
    }
}

pub(crate) fn contains(key: &[u8], range_end: &[u8], candidate: &[u8]) -> bool {
    match range_end {
        b"" => candidate == key,
        b"\0" => candidate >= key,
        end => key <= candidate && candidate < end,
    }
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), current: 1, compact: -1 }
    }

    /// The newest row up to `at` of each key, tombstones included.
    pub(crate) fn newest(&self, at: i64) -> BTreeMap<&[u8], &Row> {
        let rows = self.rows.iter().filter(|row| row.rev.main <= at);
        rows.map(|row| (row.key.as_slice(), row)).collect()
    }

    /// The keys that exist at `at`.
    pub(crate) fn living(&self, at: i64) -> BTreeMap<&[u8], &Row> {
        let mut newest = self.newest(at);
        newest.retain(|_, row| !row.tombstone);
        newest
    }

    pub(crate) fn put(&mut self, rev: Rev, key: &[u8], value: &[u8], lease: i64) {
        let living = self.living(i64::MAX);
        let before = living.get(key).copied();
        let row = Row {
            rev,
            tombstone: false,
            key: key.to_vec(),
            value: value.to_vec(),
            created: before.map_or(rev.main, |before| before.created),
            version: before.map_or(1, |before| before.version + 1),
            lease,
        };
        self.rows.push(row);
    }

    /// Returns the rows that were deleted.
    pub(crate) fn delete(&mut self, mut rev: Rev, key: &[u8], range_end: &[u8]) -> Vec<Row> {
        let living = self.living(i64::MAX);
        let living = living.values().filter(|row| contains(key, range_end, &row.key));
        let gone: Vec<Row> = living.copied().cloned().collect();
        for row in &gone {
            let (value, lease) = (Vec::new(), 0);
            self.rows.push(Row { rev, tombstone: true, value, lease, ..row.clone() });
            rev.sub += 1;
        }
        gone
    }

    /// Count, more, and rows; `None` if the revision can't be read.
    pub(crate) fn range(&self, args: &RangeArgs<'_>) -> Option<(i64, bool, Vec<Vec<u8>>)> {
        let at = if args.revision > 0 { args.revision } else { self.current };
        if at > self.current || at < self.compact {
            return None;
        }
        let living = self.living(at);
        let inside = |row: &&Row| contains(args.key, args.range_end, &row.key);
        let mut rows: Vec<&Row> = living.into_values().filter(inside).collect();
        let count = rows.len() as i64;
        if args.count_only {
            return Some((count, false, Vec::new()));
        }
        let limit = if args.limit > 0 { args.limit as usize } else { usize::MAX };
        let bounds = [
            args.min_mod_revision,
            args.max_mod_revision,
            args.min_create_revision,
            args.max_create_revision,
        ];
        let default_order = args.sort_order == SortOrder::None
            || (args.sort_target, args.sort_order) == (SortTarget::Key, SortOrder::Ascend);
        if bounds == [0; 4] && default_order {
            rows.truncate(limit.saturating_add(1));
        }
        let [min_mod, max_mod, min_create, max_create] = bounds;
        rows.retain(|row| max_mod == 0 || row.rev.main <= max_mod);
        rows.retain(|row| min_mod == 0 || row.rev.main >= min_mod);
        rows.retain(|row| max_create == 0 || row.created <= max_create);
        rows.retain(|row| min_create == 0 || row.created >= min_create);
        let compare = |a: &&Row, b: &&Row| match args.sort_target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.created.cmp(&b.created),
            SortTarget::Mod => a.rev.main.cmp(&b.rev.main),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        // Equal rows stay in key order in both directions.
        match args.sort_order {
            SortOrder::Descend => rows.sort_by(|a, b| compare(b, a)),
            SortOrder::None | SortOrder::Ascend => rows.sort_by(compare),
        }
        let more = rows.len() > limit;
        rows.truncate(limit);
        let show = |row: &Row| {
            let mut kv = row.kv();
            if args.keys_only {
                kv.value = b"";
                kv.lease = if args.sort_target == SortTarget::Value { kv.lease } else { 0 };
            }
            kv.encode_to_vec()
        };
        Some((count, more, rows.into_iter().map(show).collect()))
    }

    /// What a compaction to `at` keeps of the revisions up to it.
    pub(crate) fn kept(&self, at: i64) -> BTreeSet<Rev> {
        let newest = self.newest(at).into_values();
        newest.filter(|row| !row.tombstone || row.rev.main == at).map(|row| row.rev).collect()
    }

    /// HashKV at `at`, as one member that compacted to `compact` computes it. If nothing is to be
    /// kept, it is what the rows are that are still there: the compaction must be over.
    pub(crate) fn hash(&self, at: i64, compact: i64, keep: &BTreeSet<Rev>) -> u32 {
        let mut bytes = b"key".to_vec();
        let there = self.kept(compact);
        let keep = if keep.is_empty() { &there } else { keep };
        for row in self.rows.iter().filter(|row| row.rev.main <= at) {
            let main = row.rev.main;
            let compacted = main <= compact && !keep.contains(&row.rev);
            if compacted || (main == compact && row.tombstone) {
                continue;
            }
            bytes.extend(row.row_key());
            bytes.extend(row.kv().encode_to_vec());
        }
        crc32c::crc32c(&bytes)
    }
}
