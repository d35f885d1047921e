//! Random watchers beside random histories: whatever is slow, lost or compacted, each watcher hears
//! of each event that is its own, once and in order, or is told that it can't.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use api::key_value::KeyValueRef;
use api::wire::Encode;
use env::MemDisk;
use mvcc::watch::{Command, Create, Hub, Kind, Options, Response};
use mvcc::{Event, EventBatch, EventKind, Rev};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::harness::{Member, show_event};
use crate::model::{Model, Row, contains};
use crate::store::{key, range_end};

const STREAMS: u64 = 3;

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<Vec<u8>>),
    Delete(Vec<u8>, Vec<u8>),
    /// The hub takes some of the batches that wait.
    Notify(usize),
    /// All that wait are lost.
    Lose,
    Create(Watch),
    Cancel(u64, usize),
    Close(u64),
    Progress(u64),
    Ack(u64, u32),
    Sync,
    Tick,
    Compact(i64),
    CompactionSteps(usize),
    Commit,
    /// The hub gets a new reader, as after a snapshot.
    Restored,
}

#[derive(Clone, Debug)]
struct Watch {
    stream: u64,
    key: Vec<u8>,
    range_end: Vec<u8>,
    /// How far below the current revision it starts; `None` for 0.
    back: Option<i64>,
    flags: [bool; 4],
}

fn step() -> impl Strategy<Value = Step> {
    let stream = || 1..=STREAMS;
    let watch = (stream(), key(), range_end(), proptest::option::of(-3i64..25), any::<[bool; 4]>())
        .prop_map(|(stream, key, range_end, back, flags)| Watch {
            stream,
            key,
            range_end,
            back,
            // Filters are rare.
            flags: [flags[0], flags[1] && flags[2], flags[3] && flags[2], flags[1]],
        });
    prop_oneof![
        12 => vec(key(), 1..3).prop_map(Step::Put),
        4 => (key(), range_end()).prop_map(|(key, end)| Step::Delete(key, end)),
        12 => (1usize..4).prop_map(Step::Notify),
        1 => Just(Step::Lose),
        6 => watch.prop_map(Step::Create),
        1 => (stream(), 0usize..4).prop_map(|(stream, nth)| Step::Cancel(stream, nth)),
        1 => stream().prop_map(Step::Close),
        3 => stream().prop_map(Step::Progress),
        8 => (stream(), 1u32..6).prop_map(|(stream, responses)| Step::Ack(stream, responses)),
        4 => Just(Step::Sync),
        2 => Just(Step::Tick),
        1 => (0i64..12).prop_map(Step::Compact),
        3 => (1usize..4).prop_map(Step::CompactionSteps),
        1 => Just(Step::Commit),
        1 => Just(Step::Restored),
    ]
}

/// What a watcher asked for and has heard.
struct Heard {
    watch: Watch,
    start: i64,
    /// The last revision heard of.
    revision: i64,
    events: Vec<String>,
    compacted: bool,
}

struct World {
    member: Member,
    model: Model,
    hub: Hub,
    waiting: VecDeque<EventBatch>,
    watchers: BTreeMap<(u64, i64), Heard>,
    options: Options,
    /// The bytes of events of each response that is not acknowledged, by stream.
    outstanding: BTreeMap<u64, VecDeque<usize>>,
    /// Watchers that were created, by stream.
    created: BTreeMap<u64, usize>,
    out: Vec<Response>,
    now: Duration,
    events_heard: usize,
}

impl World {
    fn new(options: Options) -> Self {
        let member = Member::open(MemDisk::new());
        let hub = Hub::new(options.clone(), member.store.reader());
        Self {
            member,
            model: Model::new(),
            hub,
            waiting: VecDeque::new(),
            watchers: BTreeMap::new(),
            options,
            outstanding: BTreeMap::new(),
            created: BTreeMap::new(),
            out: Vec::new(),
            now: Duration::ZERO,
            events_heard: 0,
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Put(keys) => self.put(keys),
            Step::Delete(key, end) => self.delete(key, end),
            Step::Notify(batches) => {
                for _ in 0..*batches {
                    if let Some(batch) = self.waiting.pop_front() {
                        self.hub.notify(&batch, &mut self.out);
                    }
                }
            }
            Step::Lose => {
                self.waiting.clear();
                self.hub.missed(self.model.current);
            }
            Step::Restored => self.hub.restored(self.member.store.reader()),
            Step::Create(watch) => self.create(watch),
            Step::Cancel(stream, nth) => self.cancel(*stream, *nth),
            Step::Close(stream) => {
                self.hub.command(Command::Close { stream: *stream }, &mut self.out);
                self.watchers.retain(|(of, _), _| of != stream);
                self.outstanding.remove(stream);
                self.created.remove(stream);
            }
            Step::Progress(stream) => {
                self.hub.command(Command::Progress { stream: *stream }, &mut self.out);
            }
            Step::Ack(stream, responses) => self.ack(*stream, *responses),
            Step::Sync => self.hub.sync(self.now, &mut self.out).expect("well"),
            Step::Tick => {
                self.now += Duration::from_millis(70);
                self.hub.tick(self.now, &mut self.out);
            }
            Step::Compact(back) => {
                let revision = self.model.current - back;
                if self.member.store.compact(&mut self.member.backend, revision).is_ok() {
                    self.model.compact = revision;
                }
            }
            Step::CompactionSteps(steps) => {
                for _ in 0..*steps {
                    self.member.store.compaction_step(&mut self.member.backend, 3).expect("well");
                }
            }
            Step::Commit => self.member.commit(),
        }
        self.hear();
    }

    fn put(&mut self, keys: &[Vec<u8>]) {
        let main = self.model.current + 1;
        let want_prev = self.hub.want_prev().get();
        let mut txn = self.member.store.begin(&mut self.member.backend, want_prev);
        let mut sub = 0;
        for (number, key) in keys.iter().enumerate() {
            // A request that puts a key twice is refused before it gets here.
            if keys[..number].contains(key) {
                continue;
            }
            let value = main.to_string().into_bytes();
            txn.put(key, &value, 0, false).expect("well");
            self.model.put(Rev { main, sub }, key, &value, 0);
            sub += 1;
        }
        self.model.current = main;
        self.waiting.extend(txn.finish());
    }

    fn delete(&mut self, key: &[u8], range_end: &[u8]) {
        let main = self.model.current + 1;
        let want_prev = self.hub.want_prev().get();
        let mut txn = self.member.store.begin(&mut self.member.backend, want_prev);
        txn.delete_range(key, range_end, false).expect("well");
        if !self.model.delete(Rev { main, sub: 0 }, key, range_end).is_empty() {
            self.model.current = main;
        }
        self.waiting.extend(txn.finish());
    }

    fn create(&mut self, watch: &Watch) {
        let start = watch.back.map_or(0, |back| (self.model.current - back).max(0));
        let [prev_kv, no_put, no_delete, progress_notify] = watch.flags;
        let create = Create {
            stream: watch.stream,
            watch_id: 0,
            key: watch.key.clone().into(),
            range_end: watch.range_end.clone().into(),
            start_revision: start,
            progress_notify,
            no_put,
            no_delete,
            prev_kv,
            fragment: false,
        };
        let before = self.out.len();
        self.hub.command(Command::Create(create), &mut self.out);
        let [created] = &self.out[before..] else {
            panic!("one answer to a create");
        };
        assert_eq!(created.revision, self.model.current);
        match created.kind {
            Kind::Created => {
                let start = if start == 0 { self.model.current + 1 } else { start };
                let heard = Heard {
                    watch: watch.clone(),
                    start,
                    revision: start - 1,
                    events: Vec::new(),
                    compacted: false,
                };
                let before = self.watchers.insert((watch.stream, created.watch_id), heard);
                assert!(before.is_none());
            }
            Kind::Refused(_) => {
                assert!(!watch.range_end.is_empty() && watch.key >= watch.range_end);
            }
            _ => panic!("{created:?}"),
        }
    }

    fn cancel(&mut self, stream: u64, nth: usize) {
        let ids = self.watchers.keys().filter(|(of, _)| *of == stream);
        let Some((_, watch_id)) = ids.copied().nth(nth) else {
            return;
        };
        let before = self.out.len();
        self.hub.command(Command::Cancel { stream, watch_id }, &mut self.out);
        assert!(matches!(self.out[before].kind, Kind::Canceled));
        self.watchers.remove(&(stream, watch_id));
    }

    fn ack(&mut self, stream: u64, responses: u32) {
        if let Some(outstanding) = self.outstanding.get_mut(&stream) {
            outstanding.drain(..outstanding.len().min(responses as usize));
            self.hub.command(Command::Ack { stream, responses }, &mut self.out);
        }
    }

    /// Takes what the hub has said.
    fn hear(&mut self) {
        for response in std::mem::take(&mut self.out) {
            let outstanding = self.outstanding.entry(response.stream).or_default();
            let (before, bytes_before) = (outstanding.len(), outstanding.iter().sum::<usize>());
            outstanding.push_back(match &response.kind {
                Kind::Events { events, prev_kv, .. } => {
                    let prev = |event: &Event| event.prev_kv.as_ref().map_or(0, |kv| kv.len());
                    let bytes = |event| prev(event) * usize::from(*prev_kv) + event.kv.len();
                    events.iter().map(bytes).sum()
                }
                _ => 0,
            });
            match &response.kind {
                Kind::Created => {
                    *self.created.entry(response.stream).or_default() += 1;
                    assert!(response.revision >= 1);
                    continue;
                }
                Kind::Refused(_) | Kind::Canceled => {
                    assert!(response.revision >= 1);
                    continue;
                }
                Kind::Compacted { .. } => assert_eq!(response.revision, 0),
                Kind::Progress | Kind::Events { .. } => {
                    let created = self.created.get(&response.stream).copied().unwrap_or(0);
                    let share = self.options.outstanding_per_watcher * created;
                    let max = self.options.outstanding_max.max(share);
                    assert!(before < max, "a slow stream gets no more");
                    let bytes_max = self.options.outstanding_bytes_max;
                    assert!(bytes_before < bytes_max, "a slow stream gets no more bytes");
                    assert!(response.revision <= self.model.current);
                }
            }
            self.hear_one(&response);
        }
    }

    fn hear_one(&mut self, response: &Response) {
        let id = (response.stream, response.watch_id);
        match &response.kind {
            Kind::Events { events, prev_kv, .. } => {
                let heard = self.watchers.get_mut(&id).expect("it was created");
                assert!(!events.is_empty() && !heard.compacted);
                assert_eq!(*prev_kv, heard.watch.flags[0]);
                let mut last = heard.revision;
                for event in &events[..] {
                    let revision = KeyValueRef::decode(&event.kv).expect("a row").mod_revision;
                    assert!(revision > heard.revision, "no revision comes in two responses");
                    assert!(revision >= last && revision <= response.revision);
                    last = revision;
                    check_prev(&self.model, event, *prev_kv, revision);
                    heard.events.push(show_event(event, false));
                }
                heard.revision = last;
                self.events_heard += events.len();
            }
            Kind::Progress if response.watch_id == -1 => {
                let all = self.watchers.iter().filter(|((of, _), _)| *of == response.stream);
                for (_, heard) in all.filter(|(_, heard)| !heard.compacted) {
                    assert!(heard.start <= response.revision + 1);
                    check_complete(&self.model, heard, response.revision);
                }
            }
            Kind::Progress => {
                let heard = &self.watchers[&id];
                assert!(heard.watch.flags[3] && !heard.compacted);
                check_complete(&self.model, heard, response.revision);
            }
            Kind::Compacted { compact_revision } => {
                assert_eq!(*compact_revision, self.model.compact);
                let heard = self.watchers.get_mut(&id).expect("it was created");
                assert!(!heard.compacted);
                heard.compacted = true;
                let all = own_events(&self.model, heard, i64::MAX);
                assert!(all.starts_with(&heard.events), "what it heard has no gap");
            }
            _ => unreachable!("others were looked at before"),
        }
    }

    /// Lets everything arrive.
    fn settle(&mut self) {
        self.run(&Step::Notify(self.waiting.len()));
        for _ in 0..10_000 {
            for stream in 1..=STREAMS {
                self.run(&Step::Ack(stream, 100));
            }
            if !self.hub.has_work() {
                break;
            }
            self.run(&Step::Sync);
        }
        assert_eq!(self.hub.stats().slow_watchers, 0);
        for heard in self.watchers.values().filter(|heard| !heard.compacted) {
            check_complete(&self.model, heard, self.model.current);
        }
    }
}

/// The events that a watcher is to hear of up to `until`.
fn own_events(model: &Model, heard: &Heard, until: i64) -> Vec<String> {
    let [_, no_put, no_delete, _] = heard.watch.flags;
    let watch = &heard.watch;
    let own = model.rows.iter().filter(|row| {
        let dropped = if row.tombstone { no_delete } else { no_put };
        let revisions = heard.start..=until;
        revisions.contains(&row.rev.main)
            && !dropped
            && contains(&watch.key, &watch.range_end, &row.key)
    });
    own.map(|row| show_event(&event(row), false)).collect()
}

fn event(row: &Row) -> Event {
    let (kind, kv) = match row.tombstone {
        true => (EventKind::Delete, KeyValueRef::deleted(&row.key, row.rev.main)),
        false => (EventKind::Put, row.kv()),
    };
    Event { kind, kv: kv.encode_to_vec().into(), prev_kv: None }
}

fn check_complete(model: &Model, heard: &Heard, until: i64) {
    let expected = own_events(model, heard, until);
    let below = heard.events.len().min(expected.len());
    assert_eq!(heard.events[..below], expected, "{:?} until {until}", heard.watch);
    // It may have heard of more, from a hub that has gone on.
    let all = own_events(model, heard, i64::MAX);
    assert!(all.starts_with(&heard.events));
}

fn check_prev(model: &Model, event: &Event, wanted: bool, revision: i64) {
    let living = model.living(revision - 1);
    let before = living.get(event.key()).map(|row| row.kv().encode_to_vec());
    match &event.prev_kv {
        Some(prev) => assert_eq!(Some(prev.to_vec()), before),
        None => assert!(!wanted || before.is_none() || revision - 1 < model.compact),
    }
}

/// Runs random steps on hubs whose streams may have so much on its way.
fn each_watcher_hears_of_its_events(
    outstanding_max: usize,
    outstanding_per_watcher: usize,
    outstanding_bytes_max: usize,
) {
    let events_heard = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(200));
    let checked = runner.run(&vec(step(), 1..200), |steps| {
        let mut world = World::new(Options {
            progress_notify_interval: Duration::from_millis(100),
            seed: 3,
            outstanding_max,
            outstanding_per_watcher,
            outstanding_bytes_max,
        });
        for step in &steps {
            world.run(step);
        }
        world.settle();
        events_heard.set(events_heard.get() + world.events_heard);
        Ok(())
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
    let events_heard = events_heard.get();
    assert!(events_heard > 4_000, "too little happened: {events_heard} events");
}

#[test]
fn with_few_responses_on_their_way() {
    each_watcher_hears_of_its_events(6, 0, 1 << 20);
}

#[test]
fn with_few_responses_for_each_watcher_on_their_way() {
    each_watcher_hears_of_its_events(1, 2, 1 << 20);
}

#[test]
fn with_few_bytes_on_their_way() {
    each_watcher_hears_of_its_events(1000, 0, 60);
}
