//! What a range asks for, and how it is answered.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::sync::atomic::{self, AtomicBool};

use api::key_value::KeyValueRef;
use api::wire::Encode;
use backend::{Bucket, Row};
use bytes::Bytes;

pub use api::etcdserverpb::range_request::{SortOrder, SortTarget};

use crate::index::{Cursor, Found, Span};
use crate::rev::REV_KEY_BYTES;
use crate::shared::{Shared, WALK_KEYS};
use crate::{Error, Rev};

/// A range, in the terms of etcd's `RangeRequest`. The default has no limit, filter or order.
#[derive(Clone, Copy, Debug, Default)]
pub struct RangeArgs<'a> {
    /// The key, or the first key of the range.
    pub key: &'a [u8],
    /// Empty: `key` alone. `"\0"`: all keys from `key` on. Else the first key not in the range.
    pub range_end: &'a [u8],
    /// How many rows at most; 0 or less: all.
    pub limit: i64,
    /// At which revision; 0 or less: the current one.
    pub revision: i64,
    /// Direction of the sort.
    pub sort_order: SortOrder,
    /// What is sorted by.
    pub sort_target: SortTarget,
    /// Leave out the values (and, but for a sort by value, the lease).
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Drop rows modified before; 0: none. The other three alike.
    pub min_mod_revision: i64,
    /// Drop rows modified after.
    pub max_mod_revision: i64,
    /// Drop rows created before.
    pub min_create_revision: i64,
    /// Drop rows created after.
    pub max_create_revision: i64,
}

/// The answer to a range, but for the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeResult {
    /// The current revision of the view: the header's revision.
    pub revision: i64,
    /// All keys in the range at that revision, before filters and limit.
    pub count: i64,
    /// Whether the limit cut rows off.
    pub more: bool,
}

/// The answer to a chunk of a range stream, but for the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeChunk {
    /// The current revision when the chunk was read: the revision to pin if none was asked for.
    pub revision: i64,
    /// How many rows the chunk has.
    pub rows: usize,
    /// The key of the next chunk; `None` if there is no key left in the range.
    pub next: Option<Vec<u8>>,
}

/// The rows that a read sees: the shared index and the backend, at one revision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) backend: &'a backend::Reader,
    /// The current revision.
    pub(crate) current: i64,
    /// When it is set, nobody wants the rest of a range.
    pub(crate) is_over: Option<&'a AtomicBool>,
}

/// A row on its way to being sorted.
struct Item {
    found: Found,
    /// The row, or what is to be sent of it; empty if it is not read yet.
    row: Bytes,
}

impl Item {
    fn new(args: &RangeArgs<'_>, key: &[u8], found: Found) -> Self {
        let row = if args.is_from_index() { index_row(key, &found) } else { Bytes::new() };
        Self { found, row }
    }
}

impl RangeArgs<'_> {
    /// The revision to read at, if the answer can be given.
    fn revision_at(&self, current: i64, compact: i64) -> Result<i64, Error> {
        if self.revision > current {
            return Err(Error::Future);
        }
        let at = if self.revision > 0 { self.revision } else { current };
        if at < compact { Err(Error::Compacted) } else { Ok(at) }
    }

    fn limit(&self) -> usize {
        if self.limit > 0 { usize::try_from(self.limit).unwrap_or(usize::MAX) } else { usize::MAX }
    }

    fn is_filtered(&self) -> bool {
        let bounds = [
            self.min_mod_revision,
            self.max_mod_revision,
            self.min_create_revision,
            self.max_create_revision,
        ];
        bounds != [0; 4]
    }

    fn passes(&self, found: &Found) -> bool {
        let (modified, created) = (found.modified.main, found.created);
        (self.max_mod_revision == 0 || modified <= self.max_mod_revision)
            && (self.min_mod_revision == 0 || modified >= self.min_mod_revision)
            && (self.max_create_revision == 0 || created <= self.max_create_revision)
            && (self.min_create_revision == 0 || created >= self.min_create_revision)
    }

    fn in_key_order(&self) -> bool {
        self.sort_target == SortTarget::Key && self.sort_order != SortOrder::Descend
    }

    /// How many rows are fetched, in key order, before the sort. A sort with order NONE has what
    /// etcd has: it sorts the first rows in key order, not the first rows of the sorted range.
    fn fetch_limit(&self) -> usize {
        if self.sort_order == SortOrder::None && !self.is_filtered() {
            self.limit().saturating_add(1)
        } else {
            usize::MAX
        }
    }

    /// Whether rows come out of the index alone.
    fn is_from_index(&self) -> bool {
        self.keys_only && self.sort_target != SortTarget::Value
    }
}

impl View<'_> {
    pub(crate) fn range(
        &self,
        args: &RangeArgs<'_>,
        sink: &mut dyn FnMut(Row<'_>),
    ) -> Result<RangeResult, Error> {
        let at = args.revision_at(self.current, self.shared.compact())?;
        let mut result = RangeResult { revision: self.current, count: 0, more: false };
        let Some(span) = Span::new(args.key, args.range_end) else {
            return Ok(result);
        };
        if args.count_only {
            self.walk(&span, at, |_, _| result.count += 1);
        } else if let Some(key) = span.single() {
            if let Some(found) = self.shared.index.read().get(key, at) {
                result.count = 1;
                if args.passes(&found) {
                    self.send_one(args, key, &found, sink)?;
                }
            }
        } else if args.in_key_order() {
            self.range_in_key_order(args, &span, at, &mut result, sink)?;
        } else {
            self.range_sorted(args, &span, at, &mut result, sink)?;
        }
        Ok(result)
    }

    /// Reads the next rows of `args`' range, without counting what lies behind the limit.
    pub(crate) fn range_chunk(
        &self,
        args: &RangeArgs<'_>,
        sink: &mut dyn FnMut(Row<'_>),
    ) -> Result<RangeChunk, Error> {
        let at = args.revision_at(self.current, self.shared.compact())?;
        let mut chunk = RangeChunk { revision: self.current, rows: 0, next: None };
        let Some(span) = Span::new(args.key, args.range_end) else {
            return Ok(chunk);
        };
        let mut cursor = Cursor::default();
        let mut rows = Rows::default();
        let mut items = Vec::new();
        let limit = args.limit();
        while !cursor.is_done() && chunk.next.is_none() {
            let keys_max = WALK_KEYS.min((limit - chunk.rows).saturating_add(1));
            let index = self.shared.index.read();
            index.walk(&span, &mut cursor, at, keys_max, |key, found| {
                if chunk.rows < limit {
                    chunk.rows += 1;
                    if args.in_key_order() {
                        rows.push(args, key, &found);
                    } else {
                        items.push(Item::new(args, key, found));
                    }
                } else if chunk.next.is_none() {
                    chunk.next = Some(key.to_vec());
                }
            });
            drop(index);
            rows.send(args, self.backend, sink)?;
        }
        self.sort(args, &mut items)?;
        self.send_items(args, &items, sink)?;
        Ok(chunk)
    }

    /// The row of a key at revision `at`, which the caller has checked.
    pub(crate) fn row_at(&self, key: &[u8], at: i64) -> Result<Option<Bytes>, Error> {
        let Some(found) = self.shared.index.read().get(key, at) else {
            return Ok(None);
        };
        self.row(found.modified).map(Some)
    }

    /// A row that the index knows of.
    pub(crate) fn row(&self, rev: Rev) -> Result<Bytes, Error> {
        let row = self.backend.get(Bucket::Key, &rev.to_key())?;
        Ok(row.unwrap_or_else(|| missing(rev)))
    }

    /// Whether nobody wants the rest.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.is_some_and(|is_over| is_over.load(atomic::Ordering::Relaxed))
    }

    /// Visits all keys of `span` that exist at `at`, ascending.
    fn walk(&self, span: &Span<'_>, at: i64, mut visit: impl FnMut(&[u8], Found)) {
        let mut cursor = Cursor::default();
        while !cursor.is_done() && !self.is_over() {
            self.shared.index.read().walk(span, &mut cursor, at, WALK_KEYS, &mut visit);
        }
    }

    fn range_in_key_order(
        &self,
        args: &RangeArgs<'_>,
        span: &Span<'_>,
        at: i64,
        result: &mut RangeResult,
        sink: &mut dyn FnMut(Row<'_>),
    ) -> Result<(), Error> {
        let mut cursor = Cursor::default();
        let mut rows = Rows::default();
        let mut left = args.limit();
        while !cursor.is_done() && !self.is_over() {
            let index = self.shared.index.read();
            index.walk(span, &mut cursor, at, WALK_KEYS, |key, found| {
                result.count += 1;
                if !args.passes(&found) {
                    return;
                }
                if left == 0 {
                    result.more = true;
                    return;
                }
                left -= 1;
                rows.push(args, key, &found);
            });
            drop(index);
            rows.send(args, self.backend, sink)?;
        }
        Ok(())
    }

    fn range_sorted(
        &self,
        args: &RangeArgs<'_>,
        span: &Span<'_>,
        at: i64,
        result: &mut RangeResult,
        sink: &mut dyn FnMut(Row<'_>),
    ) -> Result<(), Error> {
        let mut items = Vec::new();
        let fetch_limit = args.fetch_limit();
        self.walk(span, at, |key, found| {
            result.count += 1;
            if items.len() < fetch_limit && args.passes(&found) {
                items.push(Item::new(args, key, found));
            }
        });
        self.sort(args, &mut items)?;
        if items.len() > args.limit() {
            items.truncate(args.limit());
            result.more = true;
        }
        self.send_items(args, &items, sink)
    }

    fn sort(&self, args: &RangeArgs<'_>, items: &mut [Item]) -> Result<(), Error> {
        if args.sort_target == SortTarget::Value {
            self.fetch(items)?;
        }
        sort(items, args);
        Ok(())
    }

    fn send_items(
        &self,
        args: &RangeArgs<'_>,
        items: &[Item],
        sink: &mut dyn FnMut(Row<'_>),
    ) -> Result<(), Error> {
        if args.is_from_index() {
            items.iter().for_each(|item| sink(Row::Made(&item.row)));
        } else if args.sort_target == SortTarget::Value {
            for item in items {
                send_row(args, Row::Memory(&item.row), sink)?;
            }
        } else {
            let mut rows = Rows::default();
            for chunk in items.chunks(WALK_KEYS).take_while(|_| !self.is_over()) {
                chunk.iter().for_each(|item| rows.push(args, b"", &item.found));
                rows.send(args, self.backend, sink)?;
            }
        }
        Ok(())
    }

    fn fetch(&self, items: &mut [Item]) -> Result<(), Error> {
        for chunk in items.chunks_mut(WALK_KEYS).take_while(|_| !self.is_over()) {
            let keys: Vec<_> =
                chunk.iter().map(|item| (Bucket::Key, item.found.modified.to_key())).collect();
            self.backend.get_many(&keys, |position, row| {
                let item = &mut chunk[position];
                let row = row.unwrap_or_else(|| missing(item.found.modified));
                item.row = row.to_owned();
                ControlFlow::Continue(())
            })?;
        }
        Ok(())
    }

    fn send_one(
        &self,
        args: &RangeArgs<'_>,
        key: &[u8],
        found: &Found,
        sink: &mut dyn FnMut(Row<'_>),
    ) -> Result<(), Error> {
        if args.is_from_index() {
            sink(Row::Made(&index_row(key, found)));
            return Ok(());
        }
        let mut sent = Ok(());
        let keys = [(Bucket::Key, found.modified.to_key())];
        self.backend.get_many(&keys, |_, row| {
            sent = send_row(args, row.unwrap_or_else(|| missing(found.modified)), sink);
            ControlFlow::Continue(())
        })?;
        sent
    }
}

/// Rows of one walk under the lock, to be read and sent after it.
#[derive(Default)]
struct Rows {
    keys: Vec<(Bucket, [u8; REV_KEY_BYTES])>,
    /// Rows that are made from the index, with their ends.
    made: Vec<u8>,
    ends: Vec<usize>,
}

impl Rows {
    fn push(&mut self, args: &RangeArgs<'_>, key: &[u8], found: &Found) {
        if args.is_from_index() {
            index_kv(key, found).encode(&mut self.made);
            self.ends.push(self.made.len());
        } else {
            self.keys.push((Bucket::Key, found.modified.to_key()));
        }
    }

    fn send(
        &mut self,
        args: &RangeArgs<'_>,
        backend: &backend::Reader,
        sink: &mut dyn FnMut(Row<'_>),
    ) -> Result<(), Error> {
        let mut sent = Ok(());
        let mut start = 0;
        for &end in &self.ends {
            sink(Row::Made(&self.made[start..end]));
            start = end;
        }
        if !self.keys.is_empty() {
            backend.get_many(&self.keys, |position, row| {
                let row = row.unwrap_or_else(|| missing(rev_of(&self.keys[position].1)));
                sent = send_row(args, row, sink);
                if sent.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        self.ends.clear();
        self.made.clear();
        self.keys.clear();
        sent
    }
}

/// Sends a row that was read: without the value if only keys are wanted, as after a sort by value.
fn send_row(
    args: &RangeArgs<'_>,
    row: Row<'_>,
    sink: &mut dyn FnMut(Row<'_>),
) -> Result<(), Error> {
    if args.keys_only {
        let kv = KeyValueRef { value: b"", ..decode(&row)? };
        sink(Row::Made(&kv.encode_to_vec()));
    } else {
        sink(row);
    }
    Ok(())
}

fn index_kv<'a>(key: &'a [u8], found: &Found) -> KeyValueRef<'a> {
    KeyValueRef {
        key,
        create_revision: found.created,
        mod_revision: found.modified.main,
        version: found.version,
        value: b"",
        lease: 0,
    }
}

fn index_row(key: &[u8], found: &Found) -> Bytes {
    index_kv(key, found).encode_to_vec().into()
}

/// Sorts items that are in key order. Equal ones stay in key order in both directions: etcd promises
/// nothing there, and this is what its sort does to short answers.
fn sort(items: &mut [Item], args: &RangeArgs<'_>) {
    let compare: fn(&Item, &Item) -> Ordering = match args.sort_target {
        SortTarget::Key if args.sort_order == SortOrder::Descend => return items.reverse(),
        SortTarget::Key => return,
        SortTarget::Version => |a, b| a.found.version.cmp(&b.found.version),
        SortTarget::Create => |a, b| a.found.created.cmp(&b.found.created),
        SortTarget::Mod => |a, b| a.found.modified.main.cmp(&b.found.modified.main),
        SortTarget::Value => by_value,
    };
    if args.sort_order == SortOrder::Descend {
        items.sort_by(|a, b| compare(b, a));
    } else {
        items.sort_by(compare);
    }
}

fn by_value(a: &Item, b: &Item) -> Ordering {
    // A row that can't be read is refused when the store is restored.
    let value = |row| KeyValueRef::decode(row).map_or(b"".as_slice(), |kv| kv.value);
    value(&a.row).cmp(value(&b.row))
}

pub(crate) fn decode(row: &[u8]) -> Result<KeyValueRef<'_>, Error> {
    KeyValueRef::decode(row)
        .map_err(|_| Error::Damaged { bucket: "key", what: "a value is no KeyValue" })
}

fn rev_of(key: &[u8; REV_KEY_BYTES]) -> Rev {
    Rev::from_key(key).expect("the key was made from a revision").0
}

/// The index and the backend disagree: what follows would be wrong answers.
fn missing<T>(rev: Rev) -> T {
    panic!("range failed to find revision {}/{} in bucket key", rev.main, rev.sub)
}
