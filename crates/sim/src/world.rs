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
use crate::net::Network;
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
    /// A message arrives: from whom, to whom, and the database that comes with it.
    Deliver(usize, usize, Box<Message>, Option<Bytes>),
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
    Relief(crate::nemesis::Relief),
    /// A member starts.
    Boot(usize),
    /// A life of a removed member ends.
    Leave(usize, u64),
    /// An operator puts another in the place of a member whose disk is damaged.
    Replace(usize),
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
    /// How fast its clock runs, in a million.
    pub rate: u64,
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
            mask: Mask::default(),
            has_rest: true,
            is_resting: false,
            is_hostile: true,
            fault_rng: rng.fork(),
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
            Action::Deliver(from, to, message, body) => self.deliver(from, to, *message, body),
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
        let rate = u128::from(self.sites[site].rate);
        Duration::from_nanos((u128::from(self.now) * rate / 1_000_000) as u64)
    }

    /// A new speed for a member's clock. Only for one that does not run: a clock never goes back.
    pub fn draw_clock(&mut self, site: usize) {
        let drift = self.plan.drift;
        self.sites[site].rate = 1_000_000 - drift + self.rng.below(2 * drift + 1);
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
                Outside::Send(message) => self.send(site, message, None),
                Outside::SendSnapshot(message, database) => {
                    self.send(site, message, Some(database));
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

    fn send(&mut self, from: usize, message: Message, body: Option<Bytes>) {
        let kind = message.msg_type as u64;
        self.trace.add(self.now, &[2, from as u64, message.to, kind, message.index, message.term]);
        let to = self.site_of(message.to);
        let arrivals = to.map(|to| (to, self.net.send(from, to, self.now)));
        match arrivals {
            Some((to, [Some(first), second])) => {
                // A proposal that comes twice is two: the transport must not double it.
                let is_once = body.is_some() || message.msg_type == raft::MessageType::Prop;
                let copies = [Some(first), second.filter(|_| !is_once)];
                for at in copies.into_iter().flatten() {
                    let message = Box::new(message.clone());
                    let delay = at - self.now;
                    self.after(delay, Action::Deliver(from, to, message, body.clone()));
                }
            }
            _ => self.not_sent(from, message.to, body.is_some()),
        }
    }

    /// The transport notices some of what it could not send.
    fn not_sent(&mut self, from: usize, to: u64, is_snapshot: bool) {
        let told = is_snapshot || self.rng.chance(300_000);
        if let Some(process) = &mut self.sites[from].process
            && told
        {
            if is_snapshot {
                process.send(Event::SnapshotSent { to, status: SnapshotStatus::Failure });
            } else {
                process.send(Event::Unreachable(to));
            }
            self.schedule(from);
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message, body: Option<Bytes>) {
        let life = self.sites[to].life;
        let receiver = message.to;
        let wait = self.wait_of(to, life).filter(|_| self.net.is_open(from, to));
        match wait {
            None => return self.not_sent(from, receiver, body.is_some()),
            Some(0) => {}
            Some(wait) => {
                return self.after(wait, Action::Deliver(from, to, Box::new(message), body));
            }
        }
        self.trace.add(self.now, &[3, from as u64, to as u64, message.msg_type as u64]);
        if self.knows_as_removed(to, from) && self.sites[from].process.is_some() {
            return self.died(from, &Death::Removed);
        }
        if self.is_resting && body.is_none() {
            return self.deliver_at_rest(to, message);
        }
        let Some(body) = body else {
            // As bytes, as on the wire.
            let decoded = Message::decode(message.encode_to_vec().into());
            if let Some(process) = &mut self.sites[to].process {
                process.send(Event::Peer(decoded.expect("what was encoded can be decoded")));
            }
            return self.schedule(to);
        };
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
        let result = process.receive_snapshot(message, &body, unique, cut);
        let status = match (&result, cut) {
            (Ok(()), false) => SnapshotStatus::Finish,
            _ => SnapshotStatus::Failure,
        };
        self.after_step(to, Vec::new(), result);
        if let Some(sender) = &mut self.sites[from].process {
            sender.send(Event::SnapshotSent { to: receiver, status });
            self.schedule(from);
        }
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
        let is_crash = matches!(death, Death::Disk(_))
            && (self.sites[site].is_doomed || self.rng.chance(500_000));
        match is_crash {
            true => self.crash(site),
            false => self.kill(site),
        }
        match death {
            Death::Disk(_) => {
                let delay = self.rng.between(50 * MS, 2 * SECOND);
                self.after(delay, Action::Boot(site));
            }
            Death::Removed => self.sites[site].is_gone = true,
            Death::Fatal(why) => self.observer.violation(format!("m{site} can't go on: {why}")),
        }
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
            place.disk.set_fault(None);
            place.is_doomed = false;
            place.disk.set_failing(None);
            place.disk.set_capacity(None);
        }
        place.life += 1;
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
                self.trace.say(self.now, || format!("m{site} can't start: {death:?}"));
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
            rate: 1_000_000,
            slow: 1,
            is_gone: false,
            is_rotten: false,
            scheduled: [false; STAGES.len()],
            front_until: 0,
            failed_boots: 0,
        }
    }
}
