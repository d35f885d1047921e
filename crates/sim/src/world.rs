//! Time, and everything that happens in it, one thing after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cluster::{Cluster, InitialCluster};
use env::{MemDisk, Survival};
use raft::{Message, Peer, SnapshotStatus};
use replica::Event;

use crate::clients::Clients;
use crate::mask::Mask;
use crate::nemesis::{Fault, Relief};
use crate::net::{Network, Sent};
use crate::observer::Observer;
use crate::plan::{MS, Plan, SECOND};
use crate::process::{Death, Identity, Outside, Process, STAGES, Stage};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::watchers::Watchers;

/// The longest that a slow disk takes for one turn: longer than an election.
const STALL_MAX: u64 = 4 * SECOND;

/// Something that will happen.
#[derive(Debug)]
pub enum Action {
    /// A stage of a life of a member takes its turn.
    Run(usize, u64, Stage),
    /// A timer of a life of a member.
    Timer(usize, u64, Timer),
    /// A message arrives: from whom, and to whom.
    Deliver(usize, usize, Box<Message>),
    /// A snapshot has come to the end of its way, if it still is on it.
    Streamed(u64),
    /// The front door of a life of a member has something.
    Front(usize, u64, Box<Outside>),
    /// A client takes its turn.
    Client(usize),
    /// A call has waited long enough.
    Timeout(u64),
    /// A watcher takes its turn.
    Watcher(usize),
    /// The next fault.
    Fault,
    /// The end of a fault.
    Relief(Relief),
    /// A member starts.
    Boot(usize),
    /// A life of a removed member ends.
    Leave(usize, u64),
    /// An operator puts another in the place of a member whose disk is damaged.
    Replace(usize),
    /// An operator looks whether an alarm is left.
    Disarm,
    /// An operator looks how the learner of this id is doing, who has so much patience left.
    Mentor(u64, u64),
    /// A member is cut off.
    Cut(usize),
}

/// A snapshot on its way.
#[derive(Debug)]
struct Stream {
    from: usize,
    to: usize,
    message: Message,
    database: Bytes,
}

/// What members do at regular times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Raft's tick.
    Tick,
    /// Apply's.
    Apply,
    /// The hub's.
    Watch,
    /// The removal of old files.
    Purge,
}

/// A place where a member runs.
#[derive(Debug)]
pub struct Site {
    /// Who runs here.
    pub identity: Identity,
    /// Its disk.
    pub disk: MemDisk,
    /// The running process.
    pub process: Option<Box<Process>>,
    /// How many starts there were: what was meant for an earlier life is void.
    pub life: u64,
    /// Nothing happens here before this time.
    pub paused_until: u64,
    /// One of the process's stages does nothing before a time.
    pub stalled: Option<(Stage, u64)>,
    /// When its disk fails, its power does.
    pub is_doomed: bool,
    /// When its disk fails, its process is killed.
    pub is_condemned: bool,
    /// How fast its clock runs, in a million.
    pub rate: u64,
    /// When that was last changed, and what the clock said then.
    clock_set: (u64, u64),
    /// Stages are this many times slower.
    pub slow: u64,
    /// It was removed, and does not start again.
    pub is_gone: bool,
    /// A bit of what it has on disk was turned, and it has not started since.
    pub is_rotten: bool,
    /// Whether each stage has a time for its next turn.
    scheduled: [bool; STAGES.len()],
    /// When the front door will have had everything that is on its way to it.
    front_until: u64,
    /// How often it has failed to start in a row.
    failed_boots: u64,
    /// How many operations of the disk had failed when the process began: one that failed since may be why it ends,
    /// however late (an error of a defragmentation is the client's to hear, and the next commit's to end at).
    failures_before: u64,
}

/// A run in progress.
#[derive(Debug)]
pub struct World {
    /// Nanoseconds since the begin.
    pub now: u64,
    /// What the run is like.
    pub plan: Plan,
    /// Chance.
    pub rng: Rng,
    /// All places, those of removed members included.
    pub sites: Vec<Site>,
    /// The network.
    pub net: Network,
    /// Who complains.
    pub observer: Observer,
    /// The clients.
    pub clients: Clients,
    /// The watchers.
    pub watchers: Watchers,
    /// What happened, as a checksum.
    pub trace: Trace,
    /// How often which fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// The numbers of the faults that struck.
    pub faults_struck: Vec<u64>,
    /// How many faults were drawn.
    pub faults_drawn: u64,
    /// Where the last one struck.
    pub last_struck: usize,
    /// What of the plan takes place.
    pub mask: Mask,
    /// Whether the members rest in the end.
    pub has_rest: bool,
    /// Whether they do now.
    pub is_resting: bool,
    /// Whether faults go on.
    pub is_hostile: bool,
    /// Chance, for faults: a generator for each.
    pub fault_rng: Rng,
    /// How much the clocks of members have leapt forward, and when.
    pub leaps: Vec<(u64, u64)>,
    /// Snapshots on their way.
    streams: BTreeMap<u64, Stream>,
    streams_begun: u64,
    queue: Queue<Action>,
}

impl World {
    /// A cluster that is about to start for the first time.
    #[must_use]
    pub fn new(plan: Plan, mut rng: Rng, trace: Trace) -> Self {
        let names: Vec<String> = (0..plan.members).map(|number| format!("m{number}")).collect();
        let urls = names.iter().map(|name| format!("{name}=http://{name}:2380"));
        let initial = InitialCluster::parse(&urls.collect::<Vec<_>>().join(","));
        let cluster = Cluster::bootstrap(&initial.expect("these are URLs"), "sim");
        let cluster = cluster.expect("these are members");
        let founders: Vec<Peer> = cluster
            .members()
            .map(|member| Peer { id: member.id, context: Bytes::from(member.to_json()) })
            .collect();
        let sites = names
            .iter()
            .map(|name| {
                let id = cluster.member_by_name(name).expect("a founder").id;
                Site::new(Identity {
                    name: name.clone(),
                    metadata: wal::Metadata { node_id: id, cluster_id: cluster.id() },
                    founders: founders.clone(),
                })
            })
            .collect();
        let mut world = Self {
            now: 0,
            net: Network::new(plan.net.clone(), rng.fork()),
            clients: Clients::new(&plan, rng.fork()),
            watchers: Watchers::new(&plan, rng.fork()),
            observer: Observer::default(),
            sites,
            trace,
            faults: BTreeMap::new(),
            faults_struck: Vec::new(),
            faults_drawn: 0,
            last_struck: 0,
            mask: Mask::default(),
            has_rest: true,
            is_resting: false,
            is_hostile: true,
            fault_rng: rng.fork(),
            leaps: Vec::new(),
            streams: BTreeMap::new(),
            streams_begun: 0,
            queue: Queue::default(),
            rng,
            plan,
        };
        for site in 0..world.sites.len() {
            world.draw_clock(site);
            let delay = world.rng.below(20 * MS);
            world.after(delay, Action::Boot(site));
        }
        for client in 0..world.plan.clients {
            world.after(50 * MS, Action::Client(client));
        }
        for watcher in 0..world.plan.watchers {
            world.after(100 * MS, Action::Watcher(watcher));
        }
        world.after(SECOND, Action::Fault);
        world
    }

    /// Lets something happen later.
    pub fn after(&mut self, delay: u64, action: Action) {
        self.queue.add(self.now + delay, action);
    }

    /// Counts a fault.
    pub fn count_fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    /// Lets things happen until `end`, or until somebody complains.
    pub fn run_until(&mut self, end: u64) {
        while self.observer.violations.is_empty()
            && let Some((at, action)) = self.queue.next_until(end)
        {
            self.now = at;
            self.observer.now = at;
            self.act(action);
        }
        if self.observer.violations.is_empty() {
            self.now = end;
            self.observer.now = end;
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Run(site, life, stage) => self.run_stage(site, life, stage),
            Action::Timer(site, life, timer) => self.timer(site, life, timer),
            Action::Deliver(from, to, message) => self.deliver(from, to, message),
            Action::Streamed(number) => self.streamed(number),
            Action::Disarm => self.disarm_until_quiet(),
            Action::Mentor(learner, patience) => self.mentor(learner, patience),
            Action::Cut(site) => self.isolate(site),
            Action::Front(site, life, outside) => {
                if let Some(wait) = self.wait_of(site, life) {
                    if wait > 0 {
                        self.after(wait, Action::Front(site, life, outside));
                    } else {
                        self.front(site, *outside);
                    }
                }
            }
            Action::Client(client) => self.client_turn(client),
            Action::Timeout(call) => self.call_timed_out(call),
            Action::Watcher(watcher) => self.watcher_turn(watcher),
            Action::Fault => self.next_fault(),
            Action::Relief(relief) => self.relieve(relief),
            Action::Boot(site) => self.boot(site),
            Action::Replace(site) => self.replace(site),
            Action::Leave(site, life) => {
                if self.sites[site].life == life {
                    self.died(site, &Death::Removed);
                }
            }
        }
    }

    /// How long a life of a member has yet to wait; `None` if it is over.
    fn wait_of(&self, site: usize, life: u64) -> Option<u64> {
        let site = &self.sites[site];
        (site.life == life && site.process.is_some())
            .then(|| site.paused_until.saturating_sub(self.now))
    }

    /// As [`World::wait_of`], for one of its stages.
    fn wait_of_stage(&self, site: usize, life: u64, stage: Stage) -> Option<u64> {
        let wait = self.wait_of(site, life)?;
        let stalled = self.sites[site].stalled.filter(|(other, _)| *other == stage);
        Some(stalled.map_or(wait, |(_, until)| wait.max(until.saturating_sub(self.now))))
    }

    /// The member's own clock.
    fn clock(&self, site: usize) -> Duration {
        let Site { rate, clock_set: (since, then), .. } = self.sites[site];
        let passed = u128::from(self.now - since) * u128::from(rate) / 1_000_000;
        Duration::from_nanos(then + passed as u64)
    }

    /// A new speed for a member's clock, which is right but for the drift of the plan.
    pub fn draw_clock(&mut self, site: usize) {
        self.set_clock(site, self.plan.drift, 0);
    }

    /// A member's clock leaps, and then is right but for `drift` in a million. It never goes back: what
    /// a member calls `now` is the system's monotonic clock.
    pub fn set_clock(&mut self, site: usize, drift: u64, leap: u64) {
        let now = self.clock(site).as_nanos() as u64 + leap;
        let place = &mut self.sites[site];
        place.clock_set = (self.now, now);
        place.rate = 1_000_000 - drift + self.rng.below(2 * drift + 1);
    }

    fn run_stage(&mut self, site: usize, life: u64, stage: Stage) {
        let Some(wait) = self.wait_of_stage(site, life, stage) else { return };
        if wait > 0 {
            return self.after(wait, Action::Run(site, life, stage));
        }
        self.sites[site].scheduled[stage as usize] = false;
        let batch = *self.rng.pick(&[1, 4, 64]);
        let now = self.clock(site);
        self.trace.add(self.now, &[1, site as u64, stage as u64, batch as u64]);
        let mut out = Vec::new();
        let Some(process) = &mut self.sites[site].process else { return };
        let result = process.run(stage, batch, now, &mut out, &mut self.observer);
        self.after_step(site, out, result);
    }

    fn timer(&mut self, site: usize, life: u64, timer: Timer) {
        let stage = match timer {
            Timer::Tick => Stage::Consensus,
            Timer::Apply => Stage::Apply,
            Timer::Watch => Stage::Watch,
            Timer::Purge => Stage::Disk,
        };
        let Some(wait) = self.wait_of_stage(site, life, stage) else { return };
        if wait > 0 {
            return self.after(wait, Action::Timer(site, life, timer));
        }
        let now = self.clock(site);
        let mut out = Vec::new();
        let Some(process) = &mut self.sites[site].process else { return };
        let result = match timer {
            Timer::Tick => {
                if process.is_settled() {
                    self.observer.violations.extend(process.misconfigured());
                }
                process.tick();
                let result = match self.is_resting {
                    true => process.run(stage, 1, now, &mut out, &mut self.observer),
                    false => Ok(()),
                };
                result.map(|()| self.plan.settings.tick)
            }
            Timer::Apply => {
                let result = process.apply_tick(now, &mut out, &mut self.observer);
                let least = Duration::from_millis(if self.is_resting { 500 } else { 0 });
                result.map(|interval| interval.max(least))
            }
            Timer::Watch => {
                process.watch_tick(now, &mut out);
                Ok(Duration::from_millis(if self.is_resting { 1000 } else { 100 }))
            }
            Timer::Purge => {
                let result = process.purge();
                result.map(|()| Duration::from_secs(if self.is_resting { 30 } else { 3 }))
            }
        };
        let result = result.map(|interval| {
            let rate = u128::from(self.sites[site].rate);
            let interval = (interval.as_nanos() * 1_000_000 / rate) as u64;
            self.after(interval, Action::Timer(site, life, timer));
        });
        self.after_step(site, out, result);
    }

    /// Hands on what a step of a member has brought about, and sees to its next ones.
    pub fn after_step(&mut self, site: usize, out: Vec<Outside>, result: Result<(), Death>) {
        let life = self.sites[site].life;
        for outside in out {
            match outside {
                Outside::Send(message) => self.send(site, message),
                Outside::SendSnapshot(message, database) => {
                    self.send_snapshot(site, message, database);
                }
                // Not at once, as in etcd: the others are to hear that it is committed.
                Outside::Removed => self.after(SECOND, Action::Leave(site, life)),
                other => {
                    // One queue: what is said first is heard first.
                    let at = self.now + self.rng.between(1_000, 100_000);
                    let at = at.max(self.sites[site].front_until + 1);
                    self.sites[site].front_until = at;
                    self.after(at - self.now, Action::Front(site, life, Box::new(other)));
                }
            }
        }
        if let Err(death) = result {
            return self.died(site, &death);
        }
        self.schedule(site);
    }

    /// Gives each stage that has something to do a time to do it.
    pub fn schedule(&mut self, site: usize) {
        for stage in STAGES {
            let place = &mut self.sites[site];
            let has_work = place.process.as_ref().is_some_and(|process| process.has_work(stage));
            if !has_work || std::mem::replace(&mut place.scheduled[stage as usize], true) {
                continue;
            }
            let (life, slow) = (place.life, place.slow);
            let (low, high) = match stage {
                Stage::Consensus | Stage::Apply | Stage::Watch => (5_000, 50_000),
                Stage::Disk => (50_000, MS),
                Stage::Commit => (MS, 5 * MS),
            };
            let lag = if self.rng.chance(50_000) { self.plan.lag } else { 1 };
            let slow = if matches!(stage, Stage::Disk | Stage::Commit) { slow } else { 1 };
            let longest = if slow > 1 { STALL_MAX } else { SECOND };
            let delay = (self.rng.between(low, high) * lag * slow).min(longest);
            self.after(delay, Action::Run(site, life, stage));
        }
    }

    fn site_of(&self, id: u64) -> Option<usize> {
        self.sites.iter().position(|site| site.identity.metadata.node_id == id)
    }

    fn send(&mut self, from: usize, message: Message) {
        let kind = message.msg_type as u64;
        self.trace.add(self.now, &[2, from as u64, message.to, kind, message.index, message.term]);
        let Some(to) = self.site_of(message.to) else { return self.not_sent(from, message.to) };
        // A proposal that comes twice is two: the transport must not double it.
        let is_once = message.msg_type == raft::MessageType::Prop;
        if !is_once {
            self.net.keep(from, to, self.now, &message);
        }
        let (first, second) = match self.net.send((from, to), self.now, &message, is_once) {
            Sent::Arrives(first, second) => (first, second),
            Sent::Waits => return,
            Sent::Lost => return self.not_sent(from, message.to),
            Sent::Full => return self.is_unreachable(from, message.to),
        };
        if let Some(at) = second {
            self.after(at - self.now, Action::Deliver(from, to, Box::new(message.clone())));
        }
        self.after(first - self.now, Action::Deliver(from, to, Box::new(message)));
    }

    /// Sends a message that is on no way yet.
    pub fn post(&mut self, from: usize, to: usize, message: Box<Message>) {
        let at = self.net.arrival(from, to, self.now, &message);
        self.after(at - self.now, Action::Deliver(from, to, message));
    }

    /// Lets everything through that waits on a way.
    pub fn release(&mut self, from: usize, to: usize) {
        for message in self.net.release(from, to) {
            self.net.arrived(from, to);
            self.post(from, to, Box::new(message));
        }
    }

    fn send_snapshot(&mut self, from: usize, message: Message, database: Bytes) {
        let kind = message.msg_type as u64;
        self.trace.add(self.now, &[2, from as u64, message.to, kind, message.index, message.term]);
        let receiver = message.to;
        let to = self.site_of(receiver);
        let time = to.and_then(|to| Some((to, self.net.stream(from, to, database.len())?)));
        let Some((to, time)) = time else {
            return self.snapshot_sent(from, receiver, SnapshotStatus::Failure);
        };
        let number = self.streams_begun;
        self.streams_begun += 1;
        self.streams.insert(number, Stream { from, to, message, database });
        self.after(time, Action::Streamed(number));
    }

    /// Breaks off the snapshots on their way to a member and from it, or all of them.
    pub fn break_streams(&mut self, of: Option<usize>) {
        let hit = |stream: &Stream| of.is_none_or(|site| stream.from == site || stream.to == site);
        let broken = self.streams.iter().filter(|(_, stream)| hit(stream));
        let broken: Vec<u64> = broken.map(|(number, _)| *number).collect();
        for number in broken {
            let Some(stream) = self.streams.remove(&number) else { continue };
            self.snapshot_sent(stream.from, stream.message.to, SnapshotStatus::Failure);
        }
    }

    fn snapshot_sent(&mut self, from: usize, to: u64, status: SnapshotStatus) {
        if let Some(sender) = &mut self.sites[from].process {
            sender.send(Event::SnapshotSent { to, status });
            self.schedule(from);
        }
    }

    /// The transport notices some of what it could not send.
    fn not_sent(&mut self, from: usize, to: u64) {
        if self.sites[from].process.is_some() && self.rng.chance(300_000) {
            self.is_unreachable(from, to);
        }
    }

    fn is_unreachable(&mut self, from: usize, to: u64) {
        if let Some(process) = &mut self.sites[from].process {
            process.send(Event::Unreachable(to));
            self.schedule(from);
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: Box<Message>) {
        let life = self.sites[to].life;
        let wait = self.wait_of(to, life).filter(|_| !self.net.is_blocked(from, to));
        if let Some(wait) = wait.filter(|wait| *wait > 0) {
            return self.after(wait, Action::Deliver(from, to, message));
        }
        self.net.arrived(from, to);
        if wait.is_none() {
            return self.not_sent(from, message.to);
        }
        self.trace.add(self.now, &[3, from as u64, to as u64, message.msg_type as u64]);
        if self.tells_of_removal(from, to) {
            return;
        }
        if self.is_resting {
            return self.deliver_at_rest(to, *message);
        }
        // As bytes, as on the wire.
        let decoded = Message::decode(message.encode_to_vec().into());
        if let Some(process) = &mut self.sites[to].process {
            process.send(Event::Peer(decoded.expect("what was encoded can be decoded")));
        }
        self.schedule(to);
    }

    /// Whether the receiver knows the sender to be removed, and tells it so.
    fn tells_of_removal(&mut self, from: usize, to: usize) -> bool {
        let tells = self.knows_as_removed(to, from) && self.sites[from].process.is_some();
        if tells {
            self.died(from, &Death::Removed);
        }
        tells
    }

    /// A snapshot has come to the end of its way.
    fn streamed(&mut self, number: u64) {
        let Some(stream) = self.streams.get(&number) else { return };
        let wait = self.sites[stream.to].paused_until.saturating_sub(self.now);
        if wait > 0 {
            return self.after(wait, Action::Streamed(number));
        }
        let Some(Stream { from, to, message, database }) = self.streams.remove(&number) else {
            return;
        };
        let receiver = message.to;
        if self.net.is_blocked(from, to) || self.sites[to].process.is_none() {
            return self.snapshot_sent(from, receiver, SnapshotStatus::Failure);
        }
        self.trace.add(self.now, &[3, from as u64, to as u64, message.msg_type as u64]);
        if self.tells_of_removal(from, to) {
            return;
        }
        let cut = self.is_hostile && self.rng.chance(100_000);
        self.trace.say(self.now, || {
            let metadata = message.snapshot.as_ref().map(|snapshot| &snapshot.metadata);
            format!("m{to} is sent a snapshot by m{from}: {metadata:?}, cut {cut}")
        });
        let unique = self.rng.draw();
        if cut {
            self.count_fault("snapshot cut off");
        }
        let Some(process) = &mut self.sites[to].process else { return };
        let result = process.receive_snapshot(message, &database, unique, cut);
        let status = match (&result, cut) {
            (Ok(()), false) => SnapshotStatus::Finish,
            _ => SnapshotStatus::Failure,
        };
        if status == SnapshotStatus::Finish && self.is_hostile {
            self.trouble_installation(to);
        }
        self.after_step(to, Vec::new(), result);
        self.snapshot_sent(from, receiver, status);
    }

    /// Without the wire, and without a wait for the stage that takes the message: of a long rest there is
    /// a lot, and nothing in it but heartbeats.
    fn deliver_at_rest(&mut self, to: usize, message: Message) {
        let now = self.clock(to);
        let mut out = Vec::new();
        let Some(process) = &mut self.sites[to].process else { return };
        process.send(Event::Peer(message));
        let result = process.run(Stage::Consensus, 64, now, &mut out, &mut self.observer);
        self.after_step(to, out, result);
    }

    fn died(&mut self, site: usize, death: &Death) {
        self.trace.say(self.now, || format!("m{site} ends: {death:?}"));
        // Whoever ends at a failed sync leaves much that is not on disk.
        if let Death::Disk(why) = death
            && self.sites[site].disk.failures() == self.sites[site].failures_before
        {
            self.observer
                .violation(format!("m{site} ends, with nothing wrong with its disk: {why}"));
        }
        let is_condemned = self.spare(site);
        let is_crash = matches!(death, Death::Disk(_))
            && (self.sites[site].is_doomed || (!is_condemned && self.rng.chance(500_000)));
        match is_crash {
            true => self.crash(site),
            false => self.kill(site),
        }
        match death {
            Death::Disk(_) => {
                let delay = self.rng.between(50 * MS, 2 * SECOND);
                self.after(delay, Action::Boot(site));
                if is_condemned && self.plan.has(Fault::Crash) && self.rng.chance(300_000) {
                    let falls = delay + self.rng.below(300 * MS);
                    self.after(falls, Action::Relief(Relief::Crash(site)));
                }
            }
            Death::Removed => self.sites[site].is_gone = true,
            Death::Fatal(why) => self.observer.violation(format!("m{site} can't go on: {why}")),
        }
    }

    /// The disk works again of a process that was to be killed within an operation; whether it was.
    fn spare(&mut self, site: usize) -> bool {
        let place = &mut self.sites[site];
        let was_condemned = std::mem::take(&mut place.is_condemned);
        if was_condemned {
            place.disk.set_fault(None);
        }
        was_condemned
    }

    /// Ends a process at once; what it wrote is in the system's cache.
    pub fn kill(&mut self, site: usize) {
        let place = &mut self.sites[site];
        place.process = None;
        place.scheduled = Default::default();
        place.life += 1;
        place.paused_until = 0;
        place.stalled = None;
        self.watchers.lost(site);
        self.hang_up(site);
        self.break_streams(Some(site));
    }

    /// Ends a process and the power with it.
    pub fn crash(&mut self, site: usize) {
        self.kill(site);
        // Within an operation there is more that may be lost in part.
        let ways =
            [Survival::Nothing, Survival::All, Survival::Some, Survival::Some, Survival::Some];
        let ways = if self.sites[site].is_doomed { &ways[..] } else { &ways[..3] };
        let survival = *self.rng.pick(ways);
        let mut rng = self.rng.fork();
        let disk = self.sites[site].disk.crashed_with(survival, |bound| rng.below(bound));
        self.count_losses(disk.losses());
        self.sites[site].disk = disk;
        self.sites[site].is_doomed = false;
    }

    fn boot(&mut self, site: usize) {
        let place = &mut self.sites[site];
        if place.process.is_some() || place.is_gone {
            return;
        }
        if !self.is_hostile || place.failed_boots > 3 {
            self.mend_disk(site);
        }
        let place = &mut self.sites[site];
        place.life += 1;
        place.failures_before = place.disk.failures();
        let life = place.life;
        let seed = self.rng.draw();
        let now = self.clock(site);
        let place = &mut self.sites[site];
        let booted = Process::boot(&place.disk, &place.identity, &self.plan.settings, seed, now);
        self.trace.add(self.now, &[4, site as u64, life, u64::from(booted.is_ok())]);
        match booted {
            Ok(mut process) => {
                place.failed_boots = 0;
                place.is_rotten = false;
                let mut out = Vec::new();
                let result = process.begin(&mut out, &mut self.observer);
                self.sites[site].process = Some(Box::new(process));
                for timer in [Timer::Tick, Timer::Apply, Timer::Watch, Timer::Purge] {
                    let delay = self.rng.below(100 * MS);
                    self.after(delay, Action::Timer(site, life, timer));
                }
                self.trace.say(self.now, || format!("m{site} starts"));
                self.after_step(site, out, result);
            }
            Err(death) => {
                place.failed_boots += 1;
                self.spare(site);
                let place = &mut self.sites[site];
                self.trace.say(self.now, || {
                    let disk = place.disk.describe();
                    format!("m{site} can't start: {death:?}, with\n{disk}")
                });
                if place.is_rotten && place.failed_boots > 1 {
                    return self.give_up(site);
                }
                if place.failed_boots > 10 {
                    self.observer.violation(format!("m{site} can't start: {death:?}"));
                }
                if self.sites[site].is_doomed {
                    self.crash(site);
                }
                let delay = self.rng.between(100 * MS, SECOND);
                self.after(delay, Action::Boot(site));
            }
        }
    }

    /// The sites whose process runs.
    #[must_use]
    pub fn running(&self) -> Vec<usize> {
        let runs = |site: &usize| self.sites[*site].process.is_some();
        (0..self.sites.len()).filter(runs).collect()
    }

    /// The site that takes itself for the leader, of the highest term.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let role = |site: &usize| self.sites[*site].process.as_ref().map(|process| process.role);
        let leads = |site: &usize| {
            self.sites[*site].process.as_ref().is_some_and(|process| process.role.1 == process.id)
        };
        (0..self.sites.len()).filter(leads).max_by_key(role)
    }
}

impl Site {
    /// A place with an empty disk.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            disk: MemDisk::new(),
            process: None,
            life: 0,
            paused_until: 0,
            stalled: None,
            is_doomed: false,
            is_condemned: false,
            rate: 1_000_000,
            clock_set: (0, 0),
            slow: 1,
            is_gone: false,
            is_rotten: false,
            scheduled: [false; STAGES.len()],
            front_until: 0,
            failed_boots: 0,
            failures_before: 0,
        }
    }
}
