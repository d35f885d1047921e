//! How watchers that are behind come forward: from the store, some of them at a time.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::time::Duration;

use api::key_value::KeyValueRef;
use api::wire::Encode;
use backend::Bucket;
use bytes::Bytes;
use mutant::mutant;

use super::group::Group;
use super::{Hub, Response};
use crate::hash::parse;
use crate::range::{View, decode};
use crate::{Error, Event, EventKind, Rev};

/// How many watchers one pass serves.
const WATCHERS_MAX: usize = 512;
/// How many revisions a response holds.
const REVISIONS_MAX: usize = 1000;
/// How many rows one pass looks at, but for the rest of a revision.
const ROWS_MAX: usize = 16 * 1024;
/// How many bytes of events one pass collects, likewise. etcd has no such limit; this one is far
/// above what a client notices, and far below what a hostile one could use up.
const BYTES_MAX: usize = 16 << 20;

/// One walk over the rows of some revisions.
struct Pass<'a> {
    hub: &'a Hub,
    view: View<'a>,
    compact: i64,
    /// The watchers served, and under which of their keys they are.
    chosen: &'a [usize],
    group: Group,
    found: Vec<usize>,
    /// What they hear of, all together, and each.
    events: Vec<Event>,
    own: Vec<Vec<usize>>,
    /// The revision being looked at.
    main: i64,
    rows: usize,
    revisions: usize,
    bytes: usize,
    /// Whether `main` has an event.
    hit: bool,
}

impl Hub {
    /// Lets some of the watchers that are behind catch up. Call it while [`Hub::has_work`]; in
    /// between, take what has arrived.
    ///
    /// # Errors
    /// If the backend fails or is damaged; the caller stops the process.
    pub fn sync(&mut self, now: Duration, out: &mut Vec<Response>) -> Result<(), Error> {
        self.tick(now, out);
        let reader = self.reader.clone();
        let _guard = reader.shared.enter();
        let compact = reader.compact_revision();
        self.cancel_all_compacted(compact, out);
        let chosen = self.choose();
        let Some(first) = chosen.first() else {
            self.answer_progress(out);
            return Ok(());
        };
        let first = self.watchers[*first].min_revision;
        let mut pass = Pass::new(self, reader.view(), compact, &chosen);
        let end = pass.walk(first)?;
        let (events, own) = (pass.events, pass.own);
        self.deliver(&chosen, &events, own, end, out);
        self.answer_progress(out);
        Ok(())
    }

    /// Cancels those that wait for what is gone, however many they are: nothing else would ever
    /// become of them.
    fn cancel_all_compacted(&mut self, compact: i64, out: &mut Vec<Response>) {
        while let Some(&(min_revision, watcher)) = self.behind.first()
            && min_revision < compact
        {
            if self.is_full(self.watchers[watcher].stream, 0) {
                self.stall(watcher);
            } else {
                self.cancel_compacted(watcher, compact, out);
            }
        }
    }

    /// The next watchers of the sweep, which goes from the one farthest behind to the one closest
    /// to the present and then starts anew; so it comes to everyone, however many join.
    fn choose(&mut self) -> Vec<usize> {
        let after = self.sweep.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut chosen = self.choose_after(after);
        if chosen.is_empty() {
            chosen = self.choose_after(Bound::Unbounded);
        }
        chosen
    }

    fn choose_after(&mut self, after: Bound<(i64, usize)>) -> Vec<usize> {
        let mut chosen = Vec::new();
        let mut stalled = Vec::new();
        // How many responses of this pass may go to which stream.
        let mut reserved: BTreeMap<usize, usize> = BTreeMap::new();
        for &(_, watcher) in self.behind.range((after, Bound::Unbounded)) {
            if chosen.len() == WATCHERS_MAX {
                break;
            }
            let stream = self.watchers[watcher].stream;
            let reserved = reserved.entry(stream).or_default();
            if self.is_full(stream, 0) {
                stalled.push(watcher);
            } else if !self.is_full(stream, *reserved) {
                *reserved += 1;
                chosen.push(watcher);
            }
        }
        for watcher in stalled {
            self.stall(watcher);
        }
        chosen
    }

    /// Hands out what a pass has found. All revisions below `end` were looked at.
    fn deliver(
        &mut self,
        chosen: &[usize],
        events: &[Event],
        own: Vec<Vec<usize>>,
        end: i64,
        out: &mut Vec<Response>,
    ) {
        let mut slices: BTreeMap<Vec<usize>, Arc<[Event]>> = BTreeMap::new();
        for (&watcher, own) in chosen.iter().zip(own) {
            let min_revision = self.watchers[watcher].min_revision;
            if min_revision >= end {
                continue;
            }
            // What those before it have got may have filled its stream.
            if !own.is_empty() && self.is_full(self.watchers[watcher].stream, 0) {
                continue;
            }
            self.behind.remove(&(min_revision, watcher));
            self.sweep = Some((min_revision, watcher));
            self.watchers[watcher].min_revision = end;
            if !own.is_empty() {
                let slice = slices.entry(own).or_insert_with_key(|own| {
                    own.iter().map(|number| events[*number].clone()).collect()
                });
                self.respond_events(watcher, self.revision, Arc::clone(slice), out);
            }
            if end > self.revision {
                self.join_synced(watcher);
            } else {
                self.fall_behind(watcher);
            }
        }
    }
}

impl<'a> Pass<'a> {
    fn new(hub: &'a Hub, view: View<'a>, compact: i64, chosen: &'a [usize]) -> Self {
        let mut group = Group::default();
        for (place, watcher) in chosen.iter().enumerate() {
            group.add(&hub.watchers[*watcher].keys, place);
        }
        Self {
            hub,
            view,
            compact,
            chosen,
            group,
            found: Vec::new(),
            events: Vec::new(),
            own: vec![Vec::new(); chosen.len()],
            main: 0,
            rows: 0,
            revisions: 0,
            bytes: 0,
            hit: false,
        }
    }

    /// Looks at the rows from revision `first` on; returns the first revision not looked at, which
    /// is the one behind the hub's if there were not too many.
    fn walk(&mut self, first: i64) -> Result<i64, Error> {
        let mut end = self.hub.revision + 1;
        let (from, to) = (Rev::first_of(first).to_key(), Rev::first_of(end).to_key());
        let mut looked = Ok(());
        self.view.backend.scan(Bucket::Key, &from, &to, 0, |key, value| {
            match self.look(key, value) {
                Ok(None) => return ControlFlow::Continue(()),
                Ok(Some(enough)) => end = enough,
                Err(error) => looked = Err(error),
            }
            ControlFlow::Break(())
        })?;
        looked.map(|()| end)
    }

    /// Takes a row; `Some` is the row's revision if there is no room for it.
    fn look(&mut self, key: &[u8], value: &[u8]) -> Result<Option<i64>, Error> {
        let (rev, tombstone) = parse(key)?;
        if rev.main != self.main {
            self.revisions += usize::from(self.hit);
            let full =
                self.rows >= ROWS_MAX || self.bytes >= BYTES_MAX || self.revisions >= REVISIONS_MAX;
            if full {
                return Ok(Some(rev.main));
            }
            self.main = rev.main;
            self.hit = false;
        }
        self.rows += 1;
        if tombstone && rev.main == self.compact && mutant!("19179") {
            return Ok(None);
        }
        let kv = decode(value)?;
        let kind = if tombstone { EventKind::Delete } else { EventKind::Put };
        let mut found = std::mem::take(&mut self.found);
        self.group.find(kv.key, &mut found);
        let mut wanted = false;
        let mut wants_prev = false;
        for place in found.drain(..) {
            let watcher = &self.hub.watchers[self.chosen[place]];
            if rev.main >= watcher.min_revision && !watcher.drops(kind) {
                self.own[place].push(self.events.len());
                wanted = true;
                wants_prev |= watcher.prev_kv;
            }
        }
        self.found = found;
        if wanted {
            self.hit = true;
            let event = self.event(rev, kind, &kv, value, wants_prev)?;
            self.bytes += event.kv.len() + event.prev_kv.as_ref().map_or(0, Bytes::len);
            self.events.push(event);
        }
        Ok(None)
    }

    fn event(
        &self,
        rev: Rev,
        kind: EventKind,
        kv: &KeyValueRef<'_>,
        value: &[u8],
        wants_prev: bool,
    ) -> Result<Event, Error> {
        let created = kind == EventKind::Put && kv.create_revision == kv.mod_revision;
        let prev_kv = if wants_prev && !created && rev.main > self.compact {
            self.view.row_at(kv.key, rev.main - 1)?
        } else {
            None
        };
        let kv = match kind {
            EventKind::Put => Bytes::copy_from_slice(value),
            EventKind::Delete => KeyValueRef::deleted(kv.key, rev.main).encode_to_vec().into(),
        };
        Ok(Event { kind, kv, prev_kv })
    }
}
