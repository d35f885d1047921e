//! The hub: streams, their watchers, and live events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Duration;

use mutant::mutant;

use super::group::{Group, Keys};
use super::interval::End;
use super::{Command, Create, Kind, Options, Refusal, Response, Stats, StreamId, WantPrev};
use crate::{Event, EventBatch, EventKind, Reader};

/// The id of what is not about one watcher.
const NO_WATCHER: i64 = -1;

/// Below it, notices of progress would be a load.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// All watchers of a member.
#[derive(Debug)]
pub struct Hub {
    options: Options,
    pub(super) reader: Reader,
    want_prev: WantPrev,
    /// All events up to it went out, but to watchers that are behind.
    pub(super) revision: i64,
    pub(super) watchers: Slab<Watcher>,
    pub(super) streams: Slab<Stream>,
    by_id: BTreeMap<StreamId, usize>,
    /// The synced watchers.
    pub(super) synced: Group,
    /// The watchers that are behind and not stalled, by the revision they wait for.
    pub(super) behind: BTreeSet<(i64, usize)>,
    /// Up to where the current sweep over `behind` has come.
    pub(super) sweep: Option<(i64, usize)>,
    stalled: usize,
    /// Streams that wait for an answer to a request for progress.
    progress_waiting: BTreeSet<usize>,
    /// When which stream is to be told of progress.
    deadlines: BTreeSet<(Duration, usize)>,
    /// Streams without a deadline yet.
    fresh: Vec<usize>,
    streams_made: u64,
    found: Vec<usize>,
    hits: Vec<(usize, usize)>,
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) stream: usize,
    watch_id: i64,
    pub(super) keys: Keys,
    start_revision: i64,
    /// The first revision it has not heard of.
    pub(super) min_revision: i64,
    no_put: bool,
    no_delete: bool,
    pub(super) prev_kv: bool,
    fragment: bool,
    notify: Notify,
    pub(super) place: Place,
}

/// Whether a watcher hears at the stream's next tick that nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notify {
    Never,
    Due,
    /// It has got events since the last tick.
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the group, at this position.
    Synced(usize),
    Behind,
    Stalled,
    /// Canceled by a compaction; only its id is still in use, as in etcd.
    Compacted,
}

#[derive(Debug)]
pub(super) struct Stream {
    id: StreamId,
    watchers: BTreeMap<i64, usize>,
    next_watch_id: i64,
    outstanding: Outstanding,
    stalled: BTreeSet<usize>,
    progress_requests: u32,
    /// What the requests for progress must at least hear.
    progress_revision: i64,
    period: Duration,
    deadline: Option<Duration>,
}

/// The responses to a stream that are not acknowledged.
#[derive(Debug, Default)]
struct Outstanding {
    /// The bytes of events of each, in order.
    sizes: VecDeque<usize>,
    /// Invariant: their sum.
    bytes: usize,
}

impl Hub {
    /// A hub without watchers, at the reader's current revision.
    #[must_use]
    pub fn new(options: Options, reader: Reader) -> Self {
        let revision = reader.current_revision();
        Self {
            options,
            reader,
            want_prev: WantPrev::default(),
            revision,
            watchers: Slab::default(),
            streams: Slab::default(),
            by_id: BTreeMap::new(),
            synced: Group::default(),
            behind: BTreeSet::new(),
            sweep: None,
            stalled: 0,
            progress_waiting: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            fresh: Vec::new(),
            streams_made: 0,
            found: Vec::new(),
            hits: Vec::new(),
        }
    }

    /// For apply: whether events shall carry the row before.
    #[must_use]
    pub fn want_prev(&self) -> WantPrev {
        self.want_prev.clone()
    }

    /// For metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            streams: self.by_id.len(),
            watchers: self.watchers.len(),
            slow_watchers: self.behind.len() + self.stalled,
        }
    }

    /// Takes a command. One for a stream that is not known does nothing, but for the first
    /// [`Command::Create`], which begins the stream.
    pub fn command(&mut self, command: Command, out: &mut Vec<Response>) {
        match command {
            Command::Create(create) => self.create(create, out),
            Command::Cancel { stream, watch_id } => self.cancel(stream, watch_id, out),
            Command::Progress { stream } => self.request_progress(stream, out),
            Command::Close { stream } => self.close(stream),
            Command::Ack { stream, responses } => self.ack(stream, responses, out),
        }
    }

    /// Takes the changes of the next revision. If revisions were left out, the watchers catch up
    /// from the store; a revision that was seen already is ignored.
    pub fn notify(&mut self, batch: &EventBatch, out: &mut Vec<Response>) {
        if batch.revision <= self.revision {
            return;
        }
        if batch.revision > self.revision + 1 {
            self.missed(batch.revision);
            return;
        }
        self.revision = batch.revision;
        if let [event] = &batch.events[..] {
            let mut found = std::mem::take(&mut self.found);
            self.synced.find(event.key(), &mut found);
            for watcher in found.drain(..) {
                self.send_live(watcher, batch, &batch.events, out);
            }
            self.found = found;
        } else {
            self.notify_many(batch, out);
        }
        self.answer_progress(out);
    }

    /// Events up to `revision` may have been left out (the queue from apply was full, or a snapshot
    /// was installed): the watchers catch up from the store.
    pub fn missed(&mut self, revision: i64) {
        if revision <= self.revision {
            return;
        }
        // Who was synced has heard of everything up to here, be it of nothing: a compaction up to
        // here must not cancel it.
        let heard = std::mem::replace(&mut self.revision, revision);
        let synced = |watcher: &Watcher| matches!(watcher.place, Place::Synced(_));
        let late: Vec<usize> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| synced(watcher) && watcher.min_revision <= revision)
            .map(|(number, _)| number)
            .collect();
        for watcher in late {
            self.leave_synced(watcher);
            let known = &mut self.watchers[watcher];
            known.min_revision = match mutant!("15271") {
                true => known.start_revision.max(1),
                false => known.min_revision.max(heard + 1),
            };
            self.fall_behind(watcher);
        }
    }

    /// The store was replaced by a snapshot: reads go to `reader` from now on, and the watchers
    /// catch up from it.
    pub fn restored(&mut self, reader: Reader) {
        self.reader = reader;
        if mutant!("9281") {
            self.revision = self.revision.max(self.reader.current_revision());
            return;
        }
        self.missed(self.reader.current_revision());
    }

    /// Whether a watcher is behind that could catch up now.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Sends the notices of progress that are due. Call it at [`Hub::next_tick`], or more often.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Response>) {
        for stream in std::mem::take(&mut self.fresh) {
            if let Some(known) = self.streams.get_mut(stream) {
                known.deadline = Some(now + known.period);
                self.deadlines.insert((now + known.period, stream));
            }
        }
        while let Some(&(deadline, stream)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let period = self.streams[stream].period;
            let next = if deadline + period > now { deadline + period } else { now + period };
            self.streams[stream].deadline = Some(next);
            self.deadlines.insert((next, stream));
            self.notify_progress(stream, out);
        }
    }

    /// When [`Hub::tick`] has something to do; zero for at once.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        if self.fresh.is_empty() {
            self.deadlines.first().map(|(deadline, _)| *deadline)
        } else {
            Some(Duration::ZERO)
        }
    }

    fn create(&mut self, create: Create, out: &mut Vec<Response>) {
        let stream = self.stream(create.stream);
        let current = self.reader.current_revision();
        match self.admit(stream, &create) {
            Ok((watch_id, keys)) => {
                self.respond(stream, watch_id, current, Kind::Created, out);
                self.add_watcher(stream, watch_id, keys, current, &create);
            }
            Err(refusal) => self.respond(stream, NO_WATCHER, current, Kind::Refused(refusal), out),
        }
    }

    /// The slot of a stream, which begins if it is not known.
    fn stream(&mut self, id: StreamId) -> usize {
        if let Some(stream) = self.by_id.get(&id) {
            return *stream;
        }
        let interval = self.options.progress_notify_interval.max(PROGRESS_INTERVAL_MIN);
        let draw = mix(self.options.seed.wrapping_add(self.streams_made));
        self.streams_made += 1;
        let tenth = u64::try_from((interval / 10).as_nanos()).unwrap_or(u64::MAX).max(1);
        let stream = self.streams.insert(Stream {
            id,
            watchers: BTreeMap::new(),
            next_watch_id: 0,
            outstanding: Outstanding::default(),
            stalled: BTreeSet::new(),
            progress_requests: 0,
            progress_revision: 0,
            period: interval.saturating_add(Duration::from_nanos(draw % tenth)),
            deadline: None,
        });
        self.by_id.insert(id, stream);
        self.fresh.push(stream);
        stream
    }

    /// The id and keys of a watcher, or why there can be none.
    fn admit(&mut self, stream: usize, create: &Create) -> Result<(i64, Keys), Refusal> {
        if create.start_revision < 0 {
            return Err(Refusal::Compacted);
        }
        let key: &[u8] = if create.key.is_empty() { b"\0" } else { &create.key };
        let keys = match &create.range_end[..] {
            b"" => Keys::Single(key.into()),
            b"\0" => Keys::Range(key.into(), End::Unbounded),
            end if key < end => Keys::Range(key.into(), End::Before(end.into())),
            _ => return Err(Refusal::EmptyRange),
        };
        let stream = &mut self.streams[stream];
        if create.watch_id != 0 {
            let taken = stream.watchers.contains_key(&create.watch_id);
            return if taken { Err(Refusal::DuplicateId) } else { Ok((create.watch_id, keys)) };
        }
        while stream.watchers.contains_key(&stream.next_watch_id) {
            stream.next_watch_id = stream.next_watch_id.wrapping_add(1);
        }
        let watch_id = stream.next_watch_id;
        stream.next_watch_id = watch_id.wrapping_add(1);
        Ok((watch_id, keys))
    }

    fn add_watcher(
        &mut self,
        stream: usize,
        watch_id: i64,
        keys: Keys,
        current: i64,
        create: &Create,
    ) {
        // A watcher without a start must not hear of what its client knows to have happened.
        let start = create.start_revision;
        let watcher = self.watchers.insert(Watcher {
            stream,
            watch_id,
            keys,
            start_revision: start,
            min_revision: match start {
                0 if mutant!("20655") => self.revision + 1,
                0 => current + 1,
                _ => start,
            },
            no_put: create.no_put,
            no_delete: create.no_delete,
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            notify: if create.progress_notify { Notify::Due } else { Notify::Never },
            place: Place::Behind,
        });
        self.streams[stream].watchers.insert(watch_id, watcher);
        if create.prev_kv {
            self.want_prev.add();
        }
        if self.watchers[watcher].min_revision > self.revision {
            self.join_synced(watcher);
        } else {
            self.fall_behind(watcher);
        }
    }

    fn cancel(&mut self, stream: StreamId, watch_id: i64, out: &mut Vec<Response>) {
        let Some(stream) = self.by_id.get(&stream).copied() else {
            return;
        };
        if let Some(watcher) = self.streams[stream].watchers.remove(&watch_id) {
            self.remove_watcher(watcher);
            let current = self.reader.current_revision();
            self.respond(stream, watch_id, current, Kind::Canceled, out);
        }
    }

    fn close(&mut self, stream: StreamId) {
        let Some(stream) = self.by_id.remove(&stream) else {
            return;
        };
        for watcher in std::mem::take(&mut self.streams[stream].watchers).into_values() {
            self.remove_watcher(watcher);
        }
        let stream_was = self.streams.remove(stream);
        self.progress_waiting.remove(&stream);
        match stream_was.deadline {
            Some(deadline) => {
                self.deadlines.remove(&(deadline, stream));
            }
            None => self.fresh.retain(|fresh| *fresh != stream),
        }
    }

    fn remove_watcher(&mut self, watcher: usize) {
        let known = &self.watchers[watcher];
        let (stream, min_revision) = (known.stream, known.min_revision);
        match known.place {
            Place::Synced(_) => self.leave_synced(watcher),
            Place::Behind => drop(self.behind.remove(&(min_revision, watcher))),
            Place::Stalled => {
                self.streams[stream].stalled.remove(&watcher);
                self.stalled -= 1;
            }
            Place::Compacted => {}
        }
        if self.watchers.remove(watcher).prev_kv {
            self.want_prev.remove();
        }
    }

    fn ack(&mut self, stream: StreamId, responses: u32, out: &mut Vec<Response>) {
        let Some(stream) = self.by_id.get(&stream).copied() else {
            return;
        };
        let known = &mut self.streams[stream];
        known.outstanding.acknowledged(responses);
        // Not for each one, lest a slow stream's watchers go to and fro.
        if known.is_drained(&self.options) && !mutant!("17566") {
            for watcher in std::mem::take(&mut known.stalled) {
                self.stalled -= 1;
                self.fall_behind(watcher);
            }
        }
        self.answer_progress(out);
    }

    /// Delivers a batch of several events: each watcher gets its own in one response.
    fn notify_many(&mut self, batch: &EventBatch, out: &mut Vec<Response>) {
        let mut found = std::mem::take(&mut self.found);
        let mut hits = std::mem::take(&mut self.hits);
        for (number, event) in batch.events.iter().enumerate() {
            self.synced.find(event.key(), &mut found);
            hits.extend(found.drain(..).map(|watcher| (watcher, number)));
        }
        hits.sort_unstable();
        // Watchers of the same keys come to the same events: they share one slice.
        let mut slices: BTreeMap<Vec<usize>, Arc<[Event]>> = BTreeMap::new();
        for own in hits.chunk_by(|a, b| a.0 == b.0) {
            if own.len() == batch.events.len() {
                self.send_live(own[0].0, batch, &batch.events, out);
                continue;
            }
            let numbers: Vec<usize> = own.iter().map(|(_, number)| *number).collect();
            let events = slices.entry(numbers).or_insert_with_key(|numbers| {
                numbers.iter().map(|number| batch.events[*number].clone()).collect()
            });
            self.send_live(own[0].0, batch, &Arc::clone(events), out);
        }
        hits.clear();
        self.hits = hits;
        self.found = found;
    }

    /// Sends `events`, which `batch` holds for this watcher, if it is still to hear of them.
    fn send_live(
        &mut self,
        watcher: usize,
        batch: &EventBatch,
        events: &Arc<[Event]>,
        out: &mut Vec<Response>,
    ) {
        let known = &mut self.watchers[watcher];
        if batch.revision < known.min_revision && !mutant!("20221") {
            return;
        }
        let dropped = events.iter().filter(|event| known.drops(event.kind)).count();
        if dropped < events.len() {
            let full = self.streams[known.stream].is_full(&self.options, 0);
            if full || (known.prev_kv && !batch.with_prev) {
                known.min_revision = batch.revision + i64::from(mutant!("17529"));
                self.leave_synced(watcher);
                self.fall_behind(watcher);
                return;
            }
            let events = if dropped == 0 {
                Arc::clone(events)
            } else {
                events.iter().filter(|event| !known.drops(event.kind)).cloned().collect()
            };
            self.respond_events(watcher, batch.revision, events, out);
        }
        self.watchers[watcher].min_revision = batch.revision + 1;
    }

    pub(super) fn respond_events(
        &mut self,
        watcher: usize,
        revision: i64,
        events: Arc<[Event]>,
        out: &mut Vec<Response>,
    ) {
        let watcher = &mut self.watchers[watcher];
        if watcher.notify == Notify::Due {
            watcher.notify = Notify::Skip;
        }
        let (prev_kv, fragment) = (watcher.prev_kv, watcher.fragment);
        let (stream, watch_id) = (watcher.stream, watcher.watch_id);
        let kind = Kind::Events { events, prev_kv, fragment };
        self.respond(stream, watch_id, revision, kind, out);
    }

    fn respond(
        &mut self,
        stream: usize,
        watch_id: i64,
        revision: i64,
        kind: Kind,
        out: &mut Vec<Response>,
    ) {
        let stream = &mut self.streams[stream];
        let response = Response { stream: stream.id, watch_id, revision, kind };
        stream.outstanding.sent(response.bytes());
        out.push(response);
    }

    /// Whether a stream gets no more events if so many responses to it are on their way and `more`.
    pub(super) fn is_full(&self, stream: usize, more: usize) -> bool {
        self.streams[stream].is_full(&self.options, more)
    }

    pub(super) fn join_synced(&mut self, watcher: usize) {
        let known = &mut self.watchers[watcher];
        assert!(known.min_revision > self.revision, "a synced watcher is not behind");
        known.place = Place::Synced(self.synced.add(&known.keys, watcher));
    }

    /// Takes a watcher out of the group; its new place is for the caller to say.
    fn leave_synced(&mut self, watcher: usize) {
        let known = &self.watchers[watcher];
        let Place::Synced(position) = known.place else {
            unreachable!("the watcher is synced");
        };
        if let Some(moved) = self.synced.remove(&known.keys, position) {
            self.watchers[moved].place = Place::Synced(position);
        }
    }

    /// Puts a watcher among those that are to catch up.
    pub(super) fn fall_behind(&mut self, watcher: usize) {
        let known = &mut self.watchers[watcher];
        known.place = Place::Behind;
        self.behind.insert((known.min_revision, watcher));
    }

    /// Takes a watcher from those that are to catch up, until its stream has room.
    pub(super) fn stall(&mut self, watcher: usize) {
        let known = &mut self.watchers[watcher];
        self.behind.remove(&(known.min_revision, watcher));
        known.place = Place::Stalled;
        self.streams[known.stream].stalled.insert(watcher);
        self.stalled += 1;
    }

    /// Cancels a watcher that waits for a revision below the compact revision.
    pub(super) fn cancel_compacted(
        &mut self,
        watcher: usize,
        compact_revision: i64,
        out: &mut Vec<Response>,
    ) {
        let known = &mut self.watchers[watcher];
        self.behind.remove(&(known.min_revision, watcher));
        known.place = Place::Compacted;
        known.notify = Notify::Never;
        let (stream, watch_id) = (known.stream, known.watch_id);
        self.respond(stream, watch_id, 0, Kind::Compacted { compact_revision }, out);
    }

    fn request_progress(&mut self, stream: StreamId, out: &mut Vec<Response>) {
        let Some(stream) = self.by_id.get(&stream).copied() else {
            return;
        };
        // Who is behind now gets no answer, as in etcd. Who is synced, but with a hub behind the
        // store, gets it when the hub has caught up: etcd knows no such state.
        let in_sync = |watcher: &Watcher| matches!(watcher.place, Place::Synced(_));
        if self.living(stream).all(in_sync) || mutant!("15695") {
            let current = self.reader.current_revision();
            let known = &mut self.streams[stream];
            known.progress_requests = known.progress_requests.saturating_add(1);
            known.progress_revision = known.progress_revision.max(current);
            self.progress_waiting.insert(stream);
            self.answer_progress(out);
        }
    }

    /// A stream's watchers that no compaction has canceled.
    // DIFF(etcd): there, a watcher that was canceled so keeps its stream from hearing of progress.
    fn living(&self, stream: usize) -> impl Iterator<Item = &Watcher> {
        let watchers = self.streams[stream].watchers.values();
        let watchers = watchers.map(|watcher| &self.watchers[*watcher]);
        watchers.filter(|watcher| watcher.place != Place::Compacted)
    }

    pub(super) fn answer_progress(&mut self, out: &mut Vec<Response>) {
        if self.progress_waiting.is_empty() {
            return;
        }
        for stream in std::mem::take(&mut self.progress_waiting) {
            if self.answer_stream_progress(stream, out) {
                self.streams[stream].progress_requests = 0;
            } else {
                self.progress_waiting.insert(stream);
            }
        }
    }

    /// Whether nothing is left to be answered.
    fn answer_stream_progress(&mut self, stream: usize, out: &mut Vec<Response>) -> bool {
        let asked_for = self.streams[stream].progress_revision;
        let future = |watcher: &Watcher| watcher.start_revision > asked_for;
        let none = self.living(stream).next().is_none();
        if none || self.living(stream).any(future) {
            return true;
        }
        let told = self.living(stream).all(|watcher| watcher.has_heard(self.revision));
        let told = told || mutant!("15695");
        if !told || self.revision < asked_for {
            return false;
        }
        while self.streams[stream].progress_requests > 0 {
            if self.is_full(stream, 0) {
                return false;
            }
            self.streams[stream].progress_requests -= 1;
            self.respond(stream, NO_WATCHER, self.revision, Kind::Progress, out);
        }
        true
    }

    /// A stream's tick.
    fn notify_progress(&mut self, stream: usize, out: &mut Vec<Response>) {
        let watchers: Vec<usize> = self.streams[stream].watchers.values().copied().collect();
        for watcher in watchers {
            let known = &mut self.watchers[watcher];
            match known.notify {
                Notify::Never => {}
                Notify::Skip => known.notify = Notify::Due,
                Notify::Due => {
                    let watch_id = known.watch_id;
                    let future = known.start_revision > self.revision;
                    if !future && known.has_heard(self.revision) && !self.is_full(stream, 0) {
                        self.respond(stream, watch_id, self.revision, Kind::Progress, out);
                    }
                }
            }
        }
    }
}

impl Outstanding {
    fn sent(&mut self, bytes: usize) {
        self.sizes.push_back(bytes);
        self.bytes += bytes;
    }

    fn acknowledged(&mut self, responses: u32) {
        let count = self.sizes.len().min(responses as usize);
        self.bytes -= self.sizes.drain(..count).sum::<usize>();
    }
}

impl Stream {
    fn outstanding_max(&self, options: &Options) -> usize {
        options.outstanding_max.max(options.outstanding_per_watcher * self.watchers.len())
    }

    fn is_full(&self, options: &Options, more: usize) -> bool {
        self.outstanding.sizes.len() + more >= self.outstanding_max(options)
            || self.outstanding.bytes >= options.outstanding_bytes_max
    }

    /// So much was acknowledged that it is worthwhile to go on.
    fn is_drained(&self, options: &Options) -> bool {
        self.outstanding.sizes.len() <= self.outstanding_max(options) / 2
            && self.outstanding.bytes <= options.outstanding_bytes_max / 2
    }
}

impl Watcher {
    /// Whether its filters drop such an event.
    pub(super) fn drops(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::Put => self.no_put,
            EventKind::Delete => self.no_delete,
        }
    }

    /// Whether it has got all up to `revision`, and was not told of more when it was created.
    fn has_heard(&self, revision: i64) -> bool {
        matches!(self.place, Place::Synced(_)) && self.min_revision <= revision + 1
    }
}

/// A number that looks like chance (splitmix64).
fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Things by number; a number is given again after its thing was removed.
#[derive(Debug)]
pub(super) struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    fn insert(&mut self, item: T) -> usize {
        if let Some(number) = self.free.pop() {
            self.items[number] = Some(item);
            return number;
        }
        self.items.push(Some(item));
        self.items.len() - 1
    }

    fn remove(&mut self, number: usize) -> T {
        self.free.push(number);
        self.items[number].take().expect("what is removed is there")
    }

    fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.items.get_mut(number)?.as_mut()
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.items.iter().enumerate().filter_map(|(number, item)| Some((number, item.as_ref()?)))
    }
}

impl<T> Index<usize> for Slab<T> {
    type Output = T;

    fn index(&self, number: usize) -> &T {
        self.items[number].as_ref().expect("a number is used while its thing is there")
    }
}

impl<T> IndexMut<usize> for Slab<T> {
    fn index_mut(&mut self, number: usize) -> &mut T {
        self.items[number].as_mut().expect("a number is used while its thing is there")
    }
}
