//! Watchers: each hears of all changes of its keys, once, in order, whole revisions at a time.

use std::collections::BTreeMap;

use api::key_value::KeyValueRef;
use bytes::Bytes;
use mvcc::watch::{Command, Create, Kind, Response};
use mvcc::{Event, EventKind};

use crate::observer::Change;
use crate::plan::{MS, Plan};
use crate::rng::Rng;
use crate::world::{Action, World};

/// A watcher, with one stream at a time.
#[derive(Debug)]
struct Watcher {
    key: Bytes,
    range_end: Bytes,
    /// Its stream: the site, and the stream's id.
    stream: Option<(usize, u64)>,
    /// Everything up to here was heard, and was right; `None` until it watches for the first time.
    heard: Option<i64>,
    /// Responses that it has not acknowledged.
    unread: u32,
    /// It reads nothing until then.
    lazy_until: u64,
    prev_kv: bool,
}

/// All watchers.
#[derive(Debug)]
pub struct Watchers {
    list: Vec<Watcher>,
    streams: BTreeMap<u64, usize>,
    next_stream: u64,
    /// Events heard.
    pub events: u64,
    /// Notices of progress heard.
    pub progress: u64,
    /// How often a watcher went on with another stream.
    pub resumed: u64,
    /// How often one began with what was long ago, or with what was yet to come.
    pub from_the_past: u64,
    /// See `from_the_past`.
    pub of_the_future: u64,
    rng: Rng,
}

impl Watchers {
    /// The watchers of a run.
    #[must_use]
    pub fn new(plan: &Plan, mut rng: Rng) -> Self {
        let list = (0..plan.watchers)
            .map(|_| {
                let (key, range_end) =
                    *rng.pick(&[("k", "l"), ("k000", ""), ("k001", "k003"), ("a", "\0")]);
                Watcher {
                    key: Bytes::from_static(key.as_bytes()),
                    range_end: Bytes::from_static(range_end.as_bytes()),
                    stream: None,
                    heard: None,
                    unread: 0,
                    lazy_until: 0,
                    prev_kv: rng.chance(300_000),
                }
            })
            .collect();
        Self {
            list,
            streams: BTreeMap::new(),
            next_stream: 1,
            events: 0,
            progress: 0,
            resumed: 0,
            from_the_past: 0,
            of_the_future: 0,
            rng,
        }
    }

    /// A site has died, and its streams with it.
    pub fn lost(&mut self, site: usize) {
        for watcher in &mut self.list {
            if watcher.stream.is_some_and(|(at, _)| at == site) {
                watcher.stream = None;
            }
        }
    }

    /// Lets a watcher forget what it has heard, once in a while: it begins with what comes next, with
    /// something of long ago, or with what is yet to come.
    fn begin_anew(&mut self, number: usize, floor: i64) {
        let heard = &mut self.list[number].heard;
        if heard.is_none() || !self.rng.chance(300_000) {
            return;
        }
        match self.rng.below(4) {
            0 => {
                *heard = Some(self.rng.below(floor as u64) as i64);
                self.from_the_past += 1;
            }
            1 => {
                *heard = Some(floor + self.rng.below(50) as i64);
                self.of_the_future += 1;
            }
            _ => *heard = None,
        }
    }

    /// The revision up to which all that watch have heard everything.
    #[must_use]
    pub fn heard(&self) -> i64 {
        self.list.iter().filter_map(|watcher| watcher.heard).min().unwrap_or(i64::MAX)
    }
}

impl Watcher {
    fn wants(&self, key: &[u8]) -> bool {
        match &self.range_end[..] {
            b"" => self.key == key,
            b"\0" => &self.key[..] <= key,
            end => &self.key[..] <= key && key < end,
        }
    }
}

fn key_of(kv: &[u8]) -> &[u8] {
    KeyValueRef::decode(kv).map(|row| row.key).unwrap_or_default()
}

impl World {
    /// A watcher sees to its stream.
    pub fn watcher_turn(&mut self, number: usize) {
        let longest = if self.is_resting { 10_000 * MS } else { 300 * MS };
        let pause = self.watchers.rng.between(10 * MS, longest);
        self.after(pause, Action::Watcher(number));
        match self.watchers.list[number].stream {
            None => self.open_stream(number),
            Some((site, stream)) => self.tend_stream(number, site, stream),
        }
    }

    fn open_stream(&mut self, number: usize) {
        let running = self.running();
        if running.is_empty() {
            return;
        }
        let members: Vec<usize> = self.members();
        let running: Vec<usize> =
            running.into_iter().filter(|site| self.is_hostile || members.contains(site)).collect();
        if running.is_empty() {
            return;
        }
        if self.is_hostile {
            let floor = self.clients.floor;
            self.watchers.begin_anew(number, floor);
        }
        let watchers = &mut self.watchers;
        let site = *watchers.rng.pick(&running);
        let stream = watchers.next_stream;
        watchers.next_stream += 1;
        watchers.streams.insert(stream, number);
        let watcher = &mut watchers.list[number];
        watcher.stream = Some((site, stream));
        watcher.unread = 0;
        watchers.resumed += u64::from(watcher.heard.is_some());
        let create = Create {
            stream,
            key: watcher.key.clone(),
            range_end: watcher.range_end.clone(),
            start_revision: watcher.heard.map_or(0, |heard| heard + 1),
            prev_kv: watcher.prev_kv,
            progress_notify: true,
            ..Create::default()
        };
        self.trace.say(self.now, || {
            format!("w{number} watches on m{site} from {}", create.start_revision)
        });
        if let Some(process) = &mut self.sites[site].process {
            process.watch(Command::Create(create));
        }
        self.schedule(site);
    }

    fn tend_stream(&mut self, number: usize, site: usize, stream: u64) {
        let now = self.now;
        let hostile = self.is_hostile;
        let is_member = hostile || self.members().contains(&site);
        let watchers = &mut self.watchers;
        let watcher = &mut watchers.list[number];
        if hostile && watchers.rng.chance(5_000) {
            watcher.lazy_until = now + watchers.rng.between(500 * MS, 5_000 * MS);
        }
        let Some(process) = &mut self.sites[site].process else { return };
        if !hostile || watcher.lazy_until <= now {
            let responses = std::mem::take(&mut watcher.unread);
            process.watch(Command::Ack { stream, responses });
        }
        if watchers.rng.chance(100_000) || !hostile {
            process.watch(Command::Progress { stream });
        }
        let is_lonely = !hostile && !is_member;
        if is_lonely || (hostile && watchers.rng.chance(10_000)) {
            process.watch(Command::Close { stream });
            watcher.stream = None;
        }
        self.schedule(site);
    }

    /// A stream has something to say.
    pub fn watched(&mut self, site: usize, response: Response) {
        let Some(number) = self.watchers.streams.get(&response.stream).copied() else { return };
        let watcher = &mut self.watchers.list[number];
        if watcher.stream != Some((site, response.stream)) {
            return;
        }
        watcher.unread += 1;
        match response.kind {
            Kind::Created => {
                watcher.heard.get_or_insert(response.revision);
            }
            Kind::Progress => {
                self.watchers.progress += 1;
                self.heard(number, &[], response.revision);
            }
            Kind::Events { events, .. } => {
                self.watchers.events += events.len() as u64;
                let last = events.last().map(|event| KeyValueRef::decode(&event.kv));
                let Some(Ok(last)) = last else {
                    return self.observer.violation(format!("w{number} hears of nothing"));
                };
                let last = last.mod_revision;
                self.heard(number, &events, last);
                if last > response.revision {
                    self.observer.violation(format!(
                        "w{number} hears of {last} under a header of {}",
                        response.revision
                    ));
                }
            }
            Kind::Compacted { compact_revision } => {
                let heard = watcher.heard.unwrap_or_default();
                if heard + 1 >= compact_revision {
                    self.observer.violation(format!(
                        "w{number} is canceled for the compaction to {compact_revision}, but has heard {heard}"
                    ));
                }
                let watcher = &mut self.watchers.list[number];
                watcher.heard = Some(heard.max(compact_revision - 1));
                watcher.stream = None;
            }
            Kind::Canceled | Kind::Refused(_) => {
                self.observer.violation(format!("w{number} is canceled for no reason"));
            }
        }
    }

    /// A watcher hears of these events, and so of everything up to `revision`.
    fn heard(&mut self, number: usize, events: &[Event], revision: i64) {
        let watcher = &self.watchers.list[number];
        let Some(heard) = watcher.heard else {
            return self.observer.violation(format!("w{number} hears of events before its begin"));
        };
        if events.is_empty() && revision <= heard {
            return;
        }
        let expected: Vec<&Change> = self
            .observer
            .changes(heard + 1, revision)
            .filter(|(at, _)| *at > heard && *at <= revision)
            .flat_map(|(_, changes)| changes)
            .filter(|(_, kv)| watcher.wants(key_of(kv)))
            .collect();
        let same = expected.len() == events.len()
            && expected.iter().zip(events).all(|(a, b)| (a.0, &a.1) == (b.kind, &b.kv));
        if !same {
            let name = |kind: EventKind, kv: &[u8]| {
                let row = KeyValueRef::decode(kv).unwrap_or_default();
                let key = String::from_utf8_lossy(row.key).into_owned();
                format!("{kind:?} {key}@{}", row.mod_revision)
            };
            let wanted: Vec<String> = expected.iter().map(|(kind, kv)| name(*kind, kv)).collect();
            let found: Vec<String> =
                events.iter().map(|event| name(event.kind, &event.kv)).collect();
            return self.observer.violation(format!(
                "w{number}, which has heard {heard}, hears {found:?} up to {revision}, not {wanted:?}"
            ));
        }
        self.expect_previous(number, events);
        self.watchers.list[number].heard = Some(revision);
    }

    /// Rows before a change are what the key held; they may be missing once they are compacted.
    fn expect_previous(&mut self, number: usize, events: &[Event]) {
        if !self.watchers.list[number].prev_kv {
            return;
        }
        for event in events {
            let Ok(row) = KeyValueRef::decode(&event.kv) else { continue };
            let Some(previous) = &event.prev_kv else { continue };
            let previous = KeyValueRef::decode(previous).unwrap_or_default();
            let before = self.observer.value_at(row.key, row.mod_revision - 1);
            if before.map(|(value, at)| (&value[..], at))
                != Some((previous.value, previous.mod_revision))
            {
                let revision = row.mod_revision;
                self.observer.violation(format!(
                    "w{number} hears at {revision} of another row before than there was"
                ));
            }
        }
    }
}
