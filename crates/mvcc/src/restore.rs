//! The index out of the rows of the backend.
//!
//! Rows come in the order of revisions, the index wants the order of keys. Sorting all keys by
//! comparison is the greater part of a start, so they are sorted eight bytes at a time.

use std::ops::ControlFlow;

use backend::Bucket;
use bytes::Bytes;

use crate::hash::parse;
use crate::index::{Change, History, Index, Mark};
use crate::range::decode;
use crate::{Error, Rev};

/// What the rows of bucket `key` say.
pub(crate) struct Restored {
    pub(crate) index: Index,
    /// The revision of the newest row, 1 if there is none.
    pub(crate) revision: i64,
    /// The living keys that have a lease, ascending.
    pub(crate) leases: Vec<(Bytes, i64)>,
}

/// The rows of the scan, in the order of revisions.
#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    /// Their keys, one behind the other.
    keys: Vec<u8>,
    /// The leases of those that have one, by row.
    leases: Vec<(usize, i64)>,
}

struct Row {
    key_start: usize,
    key_end: usize,
    change: Change,
    created: i64,
    version: i64,
}

pub(crate) fn restore(backend: &backend::Reader) -> Result<Restored, Error> {
    let mut rows = Rows::default();
    let mut read = Ok(());
    let first = Rev::first_of(1).to_key();
    backend.scan(Bucket::Key, &first, b"", 0, |key, value| {
        read = rows.add(key, value);
        if read.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    read?;
    let revision = rows.rows.last().map_or(1, |row| row.change.rev().main);
    let order = rows.order();
    let mut leases = Vec::new();
    let histories = order.chunk_by(|a, b| rows.key(*a) == rows.key(*b)).map(|same| {
        let (key, history) = rows.history(same);
        if history.get(i64::MAX).is_some_and(|found| found.leased)
            && let Some(newest) = same.last()
        {
            leases.push((Bytes::copy_from_slice(&key), rows.lease(*newest)));
        }
        (key, history)
    });
    let index = Index::from_sorted(histories);
    Ok(Restored { index, revision, leases })
}

impl Rows {
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let (rev, tombstone) = parse(key)?;
        let kv = decode(value)?;
        let mark = match (tombstone, kv.lease) {
            (true, _) => Mark::Tombstone,
            (false, 0) => Mark::Put,
            (false, lease) => {
                self.leases.push((self.rows.len(), lease));
                Mark::PutLeased
            }
        };
        let key_start = self.keys.len();
        self.keys.extend_from_slice(kv.key);
        self.rows.push(Row {
            key_start,
            key_end: self.keys.len(),
            change: Change::new(rev, mark),
            created: kv.create_revision,
            version: kv.version,
        });
        Ok(())
    }

    fn key(&self, row: usize) -> &[u8] {
        let row = &self.rows[row];
        &self.keys[row.key_start..row.key_end]
    }

    fn lease(&self, row: usize) -> i64 {
        let found = self.leases.binary_search_by_key(&row, |(row, _)| *row);
        self.leases[found.expect("a leased row notes its lease")].1
    }

    /// The key of rows that share it, and its history: what the first row says of those before it,
    /// and then one change a row.
    fn history(&self, same: &[usize]) -> (Box<[u8]>, History) {
        let mut rows = same.iter().map(|row| &self.rows[*row]);
        let first = rows.next().expect("a chunk is not empty");
        let mut history = History::restored(first.change, first.created, first.version);
        for row in rows {
            history.push(row.change);
        }
        (self.key(same[0]).into(), history)
    }

    /// The rows in the order of keys, those of one key in the order of revisions.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<(u64, usize)> = (0..self.rows.len()).map(|row| (0, row)).collect();
        // Ranges of rows whose keys agree up to some byte. A list instead of recursion: keys are
        // long, and they are not ours.
        let mut pending = vec![(0, order.len(), 0)];
        while let Some((start, end, from)) = pending.pop() {
            let range = &mut order[start..end];
            let Some(agreed) = self.agreed(range, from) else {
                range.sort_unstable_by_key(|(_, row)| *row);
                continue;
            };
            for (prefix, row) in range.iter_mut() {
                *prefix = eight_bytes(self.key(*row), agreed);
            }
            range.sort_unstable();
            let mut at = start;
            for same in range.chunk_by(|a, b| a.0 == b.0) {
                if same.len() > 1 {
                    pending.push((at, at + same.len(), agreed));
                }
                at += same.len();
            }
        }
        order.into_iter().map(|(_, row)| row).collect()
    }

    /// Up to which byte all keys of `range` agree, which is known up to `from`. `None` if they are
    /// all the same.
    fn agreed(&self, range: &[(u64, usize)], from: usize) -> Option<usize> {
        let (_, first) = range.first()?;
        let first = &self.key(*first)[from..];
        let mut agreed = first.len();
        let mut same = true;
        for (_, row) in range {
            let key = &self.key(*row)[from..];
            let common = first.iter().zip(key).take(agreed).take_while(|(a, b)| a == b).count();
            same &= common == first.len() && common == key.len();
            agreed = agreed.min(common);
        }
        (!same).then_some(from + agreed)
    }
}

/// The bytes of `key` from `from` on, up to seven of them, and how many there are at most eight:
/// a number that orders as the keys do as far as it goes.
fn eight_bytes(key: &[u8], from: usize) -> u64 {
    let rest = key.get(from..).unwrap_or_default();
    let mut bytes = [0; 8];
    let len = rest.len().min(7);
    bytes[..len].copy_from_slice(&rest[..len]);
    // A key that ends comes before one that goes on with a zero byte.
    bytes[7] = u8::try_from(rest.len().min(8)).unwrap_or(8);
    u64::from_be_bytes(bytes)
}
