//! Transactions.

use std::ops::ControlFlow;

use api::key_value::KeyValueRef;
use api::wire::Encode;
use backend::{Backend, Bucket, Row};
use bytes::Bytes;

use crate::index::{Cursor, Found, Span};
use crate::range::{View, decode};
use crate::shared::WALK_KEYS;
use crate::{Error, Event, EventBatch, EventKind, RangeArgs, RangeResult, Reader, Rev};

/// A transaction: all its changes get one main revision. It must be finished if it has changed
/// something; there is no way back.
#[derive(Debug)]
pub struct WriteTxn<'a> {
    reader: &'a Reader,
    backend: &'a mut Backend,
    want_prev: bool,
    /// The revision before this transaction.
    before: i64,
    events: Vec<Event>,
}

/// What a put replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// The lease the key had, 0 for none or no such key.
    pub prev_lease: i64,
    /// The row before, if asked for.
    pub prev_kv: Option<Bytes>,
}

/// What was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRange {
    /// The keys and their leases, 0 for none, in key order.
    pub keys: Vec<(Bytes, i64)>,
    /// The rows, if asked for, in key order.
    pub prev_kvs: Vec<Bytes>,
}

/// What the index knows of a key, without its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMeta {
    /// The revision that created the key.
    pub create_revision: i64,
    /// The revision that changed it last.
    pub mod_revision: i64,
    /// How many puts since it was created.
    pub version: i64,
}

impl<'a> WriteTxn<'a> {
    pub(crate) fn new(reader: &'a Reader, backend: &'a mut Backend, want_prev: bool) -> Self {
        let before = reader.current_revision();
        Self { reader, backend, want_prev, before, events: Vec::new() }
    }

    /// The revision a read sees: of this transaction if it has changed something, else the current.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.before + i64::from(!self.events.is_empty())
    }

    /// Sets a key. `prev_kv`: whether to return the row before.
    ///
    /// # Errors
    /// If the backend fails while the row before is read; the caller stops the process.
    pub fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        lease: i64,
        prev_kv: bool,
    ) -> Result<Put, Error> {
        let rev = self.next_rev();
        let found = self.reader.shared.index.write().put(key, rev, lease != 0);
        let prev = match &found {
            Some(found) if prev_kv || self.want_prev || found.leased => {
                Some(self.view().row(found.modified)?)
            }
            _ => None,
        };
        let prev_lease = lease_of(found.as_ref(), prev.as_ref())?;
        let kv = KeyValueRef {
            key,
            create_revision: found.map_or(rev.main, |found| found.created),
            mod_revision: rev.main,
            version: found.map_or(1, |found| found.version.saturating_add(1)),
            value,
            lease,
        };
        let kv = Bytes::from(kv.encode_to_vec());
        self.backend.put(Bucket::Key, &rev.to_key(), kv.clone());
        let asked = if prev_kv { prev.clone() } else { None };
        self.events.push(Event { kind: EventKind::Put, kv, prev_kv: prev });
        Ok(Put { prev_lease, prev_kv: asked })
    }

    /// Deletes a key or a range, see [`RangeArgs::range_end`]. `prev_kv`: whether to return the
    /// rows before.
    ///
    /// # Errors
    /// As [`WriteTxn::put`].
    pub fn delete_range(
        &mut self,
        key: &[u8],
        range_end: &[u8],
        prev_kv: bool,
    ) -> Result<DeleteRange, Error> {
        let mut deleted = DeleteRange::default();
        let Some(span) = Span::new(key, range_end) else {
            return Ok(deleted);
        };
        let mut cursor = Cursor::default();
        while !cursor.is_done() {
            let first = self.next_rev();
            let mut changes: Vec<(Rev, Found, Event)> = Vec::new();
            let mut index = self.reader.shared.index.write();
            index.delete(&span, &mut cursor, WALK_KEYS, |key, found| {
                let rev = Rev { sub: first.sub + position(changes.len()), ..first };
                let kv = KeyValueRef::deleted(key, rev.main).encode_to_vec().into();
                let event = Event { kind: EventKind::Delete, kv, prev_kv: None };
                changes.push((rev, found, event));
                rev
            });
            drop(index);
            self.fetch_prev(&mut changes, prev_kv)?;
            self.write_deletes(changes, prev_kv, &mut deleted)?;
        }
        Ok(deleted)
    }

    /// Reads a range, the changes of this transaction included.
    ///
    /// # Errors
    /// As [`Reader::range`].
    pub fn range(
        &self,
        args: &RangeArgs<'_>,
        mut sink: impl FnMut(Row<'_>),
    ) -> Result<RangeResult, Error> {
        self.view().range(args, &mut sink)
    }

    /// One row, the changes of this transaction included.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.view().row_at(key, i64::MAX)
    }

    /// What the index knows of a key, the changes of this transaction included; no row is read.
    #[must_use]
    pub fn meta(&self, key: &[u8]) -> Option<KeyMeta> {
        let found = self.reader.shared.index.read().get(key, i64::MAX)?;
        Some(KeyMeta {
            create_revision: found.created,
            mod_revision: found.modified.main,
            version: found.version,
        })
    }

    /// Makes the changes visible; `None` if there are none, and then the revision stays.
    #[must_use]
    pub fn finish(mut self) -> Option<EventBatch> {
        let events = std::mem::take(&mut self.events);
        if events.is_empty() {
            return None;
        }
        let revision = self.before + 1;
        self.reader.shared.set_current(revision);
        Some(EventBatch { revision, events: events.into(), with_prev: self.want_prev })
    }

    fn next_rev(&self) -> Rev {
        Rev { main: self.before + 1, sub: position(self.events.len()) }
    }

    fn view(&self) -> View<'_> {
        View {
            shared: &self.reader.shared,
            backend: &self.reader.backend,
            current: self.revision(),
            is_over: None,
        }
    }

    /// Reads the rows before, of those that somebody wants or that have a lease.
    fn fetch_prev(&self, changes: &mut [(Rev, Found, Event)], prev_kv: bool) -> Result<(), Error> {
        let all = prev_kv || self.want_prev;
        let mut wanted: Vec<_> =
            changes.iter_mut().filter(|(_, found, _)| all || found.leased).collect();
        let keys: Vec<_> =
            wanted.iter().map(|(_, found, _)| (Bucket::Key, found.modified.to_key())).collect();
        if keys.is_empty() {
            return Ok(());
        }
        self.reader.backend.get_many(&keys, |position, row| {
            wanted[position].2.prev_kv = row.map(|row| row.to_owned());
            ControlFlow::Continue(())
        })?;
        let found = wanted.iter().all(|(_, _, event)| event.prev_kv.is_some());
        assert!(found, "a key of the index has no row in the backend");
        Ok(())
    }

    fn write_deletes(
        &mut self,
        changes: Vec<(Rev, Found, Event)>,
        prev_kv: bool,
        deleted: &mut DeleteRange,
    ) -> Result<(), Error> {
        let mut writer = self.backend.write();
        for (rev, found, event) in changes {
            let key_bytes = KeyValueRef::tombstone(event.key()).encoded_len();
            // Tag and length come before the key, which is the message's first field.
            let key = event.kv.slice(key_bytes - event.key().len()..key_bytes);
            // A tombstone is the event without its revision.
            writer.put(Bucket::Key, &rev.to_tombstone_key(), event.kv.slice(..key_bytes));
            deleted.keys.push((key, lease_of(Some(&found), event.prev_kv.as_ref())?));
            if prev_kv {
                deleted.prev_kvs.extend(event.prev_kv.clone());
            }
            self.events.push(event);
        }
        Ok(())
    }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        let lost = !self.events.is_empty() && !std::thread::panicking();
        assert!(!lost, "a transaction with changes was not finished");
    }
}

fn position(len: usize) -> i64 {
    i64::try_from(len).expect("a vector is shorter than 2^63")
}

/// The lease of a row that is replaced; the row was read if the index knows of a lease.
fn lease_of(found: Option<&Found>, row: Option<&Bytes>) -> Result<i64, Error> {
    match (found, row) {
        (Some(found), Some(row)) if found.leased => Ok(decode(row)?.lease),
        _ => Ok(0),
    }
}
