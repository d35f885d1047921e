//! What goes wrong, and when it is good again.

use std::io::ErrorKind;

use env::Operation;
use replica::Event;

use crate::membership::Change;
use crate::plan::{MS, SECOND};
use crate::process::{STAGES, Stage};
use crate::world::{Action, World};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power fails.
    Crash,
    /// The process is killed.
    Kill,
    /// The power fails between two operations of the disk.
    CrashWithin,
    /// The process is killed between two operations of the disk, and power does not fail.
    KillWithin,
    /// The power fails everywhere at once.
    CrashAll,
    /// The process is killed again soon after each start, some times.
    CrashLoop,
    /// The process stands still for a while.
    Pause,
    /// One of the process's threads stands still for a while.
    Stall,
    /// The members fall into two parts.
    Split,
    /// One member is cut off.
    Isolate,
    /// The leader is cut off.
    IsolateLeader,
    /// Nothing gets through from one member to another.
    OneWay,
    /// The members fall into two parts, and one member hears both.
    Bridge,
    /// What members send to each other waits, for minutes perhaps, and then arrives all at once.
    Clog,
    /// The ways to a member, or from it, are slow.
    SlowWay,
    /// What was sent long ago arrives once more.
    Replay,
    /// The network gets worse.
    Weather,
    /// Writes fail.
    FailWrite,
    /// Writes fail halfway.
    ShortWrite,
    /// Reads fail.
    FailRead,
    /// Syncs fail.
    FailSync,
    /// Making and renaming files fails.
    FailName,
    /// The disk is full.
    Full,
    /// The disk is slow.
    Slow,
    /// Leadership is handed over.
    Transfer,
    /// The member is stopped by its operator.
    Stop,
    /// The database is rewritten.
    Defragment,
    /// A bit on the disk turns.
    Rot,
    /// Everything on a disk is lost.
    Wipe,
    /// A clock runs faster or slower from now on.
    Drift,
    /// A clock leaps forward.
    Leap,
    /// An operator clears alarms.
    Disarm,
    /// The clients do nothing for a while.
    Lull,
    /// The members change.
    Members(Change),
}

/// All faults with their names.
pub const KINDS: &[(Fault, &str)] = &[
    (Fault::Crash, "power failure"),
    (Fault::Kill, "killed process"),
    (Fault::CrashWithin, "power failure within an operation"),
    (Fault::KillWithin, "killed process within an operation"),
    (Fault::CrashAll, "power failure everywhere"),
    (Fault::CrashLoop, "crash loop"),
    (Fault::Pause, "paused process"),
    (Fault::Stall, "stalled thread"),
    (Fault::Split, "partition"),
    (Fault::Isolate, "isolated member"),
    (Fault::IsolateLeader, "isolated leader"),
    (Fault::OneWay, "one-way partition"),
    (Fault::Bridge, "partition with a bridge"),
    (Fault::Clog, "clogged way"),
    (Fault::SlowWay, "slow way"),
    (Fault::Replay, "old message again"),
    (Fault::Weather, "bad network"),
    (Fault::FailWrite, "failing write"),
    (Fault::ShortWrite, "short write"),
    (Fault::FailRead, "failing read"),
    (Fault::FailSync, "failing sync"),
    (Fault::FailName, "failing rename"),
    (Fault::Full, "full disk"),
    (Fault::Slow, "slow disk"),
    (Fault::Transfer, "leader transfer"),
    (Fault::Stop, "graceful stop"),
    (Fault::Defragment, "defragmentation"),
    (Fault::Rot, "flipped bit"),
    (Fault::Wipe, "wiped disk"),
    (Fault::Drift, "clock drift"),
    (Fault::Leap, "clock leap"),
    (Fault::Disarm, "alarm cleared"),
    (Fault::Lull, "lull"),
    (Fault::Members(Change::AddLearner), "learner added"),
    (Fault::Members(Change::AddVoter), "voter added"),
    (Fault::Members(Change::Promote), "learner promoted"),
    (Fault::Members(Change::Remove), "member removed"),
    (Fault::Members(Change::Update), "member updated"),
];

/// The end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relief {
    /// Everything gets through again.
    Network,
    /// What one member sends to another arrives again.
    Clog(usize, usize),
    /// A disk is as it was.
    Disk(usize),
    /// The power fails of a member that has just come back.
    Crash(usize),
    /// A member that has just come back ends once more, and then so many times more.
    Fall(usize, u64),
    /// A stopping member has had time enough.
    Stopped(usize, u64),
}

/// How far a clock that goes wrong may be fast or slow, in a million.
pub const CLOCK_DRIFT: u64 = 50_000;

impl World {
    /// The next fault strikes.
    pub fn next_fault(&mut self) {
        if !self.is_hostile {
            return;
        }
        let interval = self.plan.weights.interval;
        // Trouble comes in series, too.
        let pause = match self.fault_rng.chance(200_000) {
            true => self.fault_rng.between(MS, 300 * MS),
            false => self.fault_rng.between(interval / 10, interval * 2),
        };
        self.after(pause, Action::Fault);
        let number = self.faults_drawn;
        self.faults_drawn += 1;
        // A generator for each fault, so that the others stay as they are when one is left out.
        let rng = self.fault_rng.fork();
        if self.mask.has_fault(number) {
            let before = std::mem::replace(&mut self.rng, rng);
            if self.draw_fault() {
                self.faults_struck.push(number);
            }
            self.rng = before;
        }
    }

    /// Whether it struck.
    fn draw_fault(&mut self) -> bool {
        let weights = &self.plan.weights.kinds;
        let total: u64 = weights.iter().sum();
        if total == 0 {
            return false;
        }
        let mut at = self.rng.below(total);
        let hit = weights.iter().position(|weight| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        let (fault, name) = KINDS[hit.unwrap_or(0)];
        let site = self.rng.below(self.sites.len() as u64) as usize;
        let site = match self.rng.below(10) {
            0..3 => self.leader().unwrap_or(site),
            3..6 => self.last_struck,
            _ => site,
        };
        self.last_struck = site;
        let strikes = self.strike(fault, site);
        if strikes {
            self.count_fault(name);
            let number = self.faults_drawn - 1;
            self.trace.say(self.now, || format!("fault {number}: {name} (m{site})"));
            self.trace.add(self.now, &[6, hit.unwrap_or(0) as u64, site as u64]);
        }
        strikes
    }

    /// Whether there was anything to strike.
    fn strike(&mut self, fault: Fault, site: usize) -> bool {
        let runs = self.sites[site].process.is_some();
        match fault {
            Fault::Crash | Fault::Kill if runs => self.end_and_restart(site, fault == Fault::Crash),
            Fault::CrashWithin | Fault::KillWithin => {
                let most = *self.rng.pick(&[2, 2, 8, 40]);
                self.end_within(site, most, fault == Fault::CrashWithin);
            }
            Fault::CrashAll => {
                for site in self.running() {
                    self.end_and_restart(site, true);
                }
            }
            Fault::CrashLoop if runs => {
                // A machine in trouble is often hard to reach, too.
                if self.rng.chance(500_000) {
                    self.slow_ways(site);
                }
                let times = self.rng.between(1, 6);
                self.fall(site, times);
            }
            Fault::Pause if runs => {
                let time =
                    *self.rng.pick(&[50 * MS, 500 * MS, 3 * SECOND, 6 * SECOND, 10 * SECOND]);
                let is_any = self.rng.chance(500_000);
                let site = if is_any { site } else { self.leader().unwrap_or(site) };
                self.sites[site].paused_until = self.now + self.rng.between(time / 2, time);
            }
            Fault::Stall if runs => {
                let stage = *self.rng.pick(&STAGES);
                let time = *self.rng.pick(&[20 * MS, 500 * MS, 3 * SECOND, 10 * SECOND]);
                let until = self.now + self.rng.between(time / 2, time);
                self.sites[site].stalled = Some((stage, until));
            }
            Fault::Split | Fault::Isolate | Fault::OneWay | Fault::Bridge
                if self.sites.len() > 1 =>
            {
                self.cut(fault, site);
            }
            Fault::IsolateLeader if self.sites.len() > 1 => {
                let Some(leader) = self.leader() else { return false };
                self.cut(Fault::Isolate, leader);
            }
            Fault::Clog if self.sites.len() > 1 => self.clog(site),
            Fault::SlowWay if self.sites.len() > 1 => self.slow_ways(site),
            Fault::Replay => {
                let age = *self.rng.pick(&[100 * MS, SECOND, 10 * SECOND, 60 * SECOND]);
                let old = self.net.recall(self.now.saturating_sub(age));
                let is_any = !old.is_empty();
                old.into_iter().for_each(|(from, to, message)| self.post(from, to, message));
                return is_any;
            }
            Fault::Weather if self.sites.len() > 1 => {
                self.net.quality.loss = *self.rng.pick(&[0, 50_000, 300_000]);
                self.net.quality.duplication = *self.rng.pick(&[0, 50_000, 300_000]);
                self.net.quality.delay.1 = *self.rng.pick(&[MS, 50 * MS, 300 * MS, SECOND]);
                self.net.quality.ordered = self.rng.chance(500_000);
                self.until_relief(Relief::Network);
            }
            Fault::FailWrite
            | Fault::ShortWrite
            | Fault::FailRead
            | Fault::FailSync
            | Fault::FailName => {
                let operation = match fault {
                    Fault::FailWrite => Operation::Write,
                    Fault::ShortWrite => {
                        self.sites[site].disk.set_short(self.rng.between(1, 99));
                        Operation::Write
                    }
                    Fault::FailRead => Operation::Read,
                    Fault::FailSync => Operation::Sync,
                    _ => Operation::Name,
                };
                let failing = Some((operation, ErrorKind::Other));
                self.sites[site].disk.set_failing(failing);
                if fault == Fault::FailRead && runs {
                    // Only a start reads.
                    self.end_and_restart(site, false);
                }
                self.until_relief(Relief::Disk(site));
            }
            Fault::Full => {
                let disk = &self.sites[site].disk;
                disk.set_capacity(Some(disk.used() + self.rng.below(8 << 10)));
                self.until_relief(Relief::Disk(site));
            }
            Fault::Slow => {
                self.sites[site].slow = self.rng.between(10, 1000);
                self.until_relief(Relief::Disk(site));
            }
            Fault::Transfer => {
                let Some(leader) = self.leader() else { return false };
                let target = self.sites[site].identity.metadata.node_id;
                if let Some(process) = &mut self.sites[leader].process {
                    process.send(Event::TransferLeader(target));
                }
                self.schedule(leader);
            }
            Fault::Stop if runs => {
                let life = self.sites[site].life;
                if let Some(process) = &mut self.sites[site].process {
                    process.send(Event::Stop);
                }
                self.schedule(site);
                self.after(500 * MS, Action::Relief(Relief::Stopped(site, life)));
            }
            Fault::Defragment if runs => {
                if let Some(process) = &mut self.sites[site].process {
                    process.command(0, apply::Command::Defragment);
                }
                self.schedule(site);
            }
            Fault::Rot => return self.rot(site),
            Fault::Wipe => return self.wipe(site),
            Fault::Drift => {
                let drift = *self.rng.pick(&[self.plan.drift, CLOCK_DRIFT]);
                self.set_clock(site, drift, 0);
            }
            Fault::Leap => {
                let longest = *self.rng.pick(&[200 * MS, 2 * SECOND, 60 * SECOND]);
                let leap = self.rng.below(longest);
                self.set_clock(site, self.plan.drift, leap);
                self.leaps.push((self.now, leap));
            }
            Fault::Disarm => return self.disarm(),
            Fault::Lull => {
                let longest = *self.rng.pick(&[500 * MS, 3 * SECOND, 8 * SECOND]);
                self.clients.idle_until = self.now + self.rng.below(longest);
            }
            Fault::Members(change) => return self.change_members(change, site),
            _ => return false,
        }
        true
    }

    /// Ends a process at one of its next operations of the disk, and the power with it or not.
    fn end_within(&mut self, site: usize, operations: u64, with_power: bool) {
        let fault = env::Fault { after: self.rng.below(operations), error: ErrorKind::Other };
        let place = &mut self.sites[site];
        place.disk.set_fault(Some(fault));
        (place.is_doomed, place.is_condemned) = (with_power, !with_power);
        self.until_relief(Relief::Disk(site));
    }

    /// Ends a process that whoever watches over it starts again at once, and then so many times more.
    fn fall(&mut self, site: usize, more: u64) {
        if self.sites[site].process.is_some() {
            match self.rng.chance(200_000) {
                true => self.crash(site),
                false => self.kill(site),
            }
            self.draw_clock(site);
        }
        let delay = self.rng.between(5 * MS, 100 * MS);
        self.after(delay, Action::Boot(site));
        if more > 0 {
            let longest = *self.rng.pick(&[300 * MS, 1500 * MS]);
            let lives = self.rng.between(50 * MS, longest);
            self.after(delay + lives, Action::Relief(Relief::Fall(site, more - 1)));
        }
    }

    /// The ways to a member, or from it, are slow for a while.
    fn slow_ways(&mut self, site: usize) {
        let slowness = (*self.rng.pick(&[0, 1_000, 20_000, 200_000]), self.rng.below(500 * MS));
        let (inward, outward) = (self.rng.chance(600_000), self.rng.chance(600_000));
        for other in (0..self.sites.len()).filter(|other| *other != site) {
            if inward {
                self.net.slow_down(other, site, slowness);
            }
            if outward || !inward {
                self.net.slow_down(site, other, slowness);
            }
        }
        self.until_relief(Relief::Network);
    }

    /// What a member is about to install may take long, or never be finished.
    pub fn trouble_installation(&mut self, site: usize) {
        let kinds = [Fault::Stall, Fault::CrashWithin, Fault::KillWithin];
        let fault = *self.rng.pick(&kinds);
        if !self.plan.has(fault) || !self.rng.chance(500_000) {
            return;
        }
        match fault {
            Fault::Stall => {
                // Meanwhile the others go on, so that another snapshot may be due.
                let until = self.now + self.rng.below(30 * SECOND);
                self.sites[site].stalled = Some((Stage::Commit, until));
                if self.rng.chance(500_000) {
                    self.meddle();
                }
                if self.plan.has(Fault::Isolate) {
                    // Some of what comes after the snapshot it still hears, or nothing.
                    let longest = *self.rng.pick(&[1, 3 * SECOND]);
                    let delay = self.rng.below(longest);
                    self.after(delay, Action::Cut(site));
                }
            }
            _ => self.end_within(site, 16, fault == Fault::CrashWithin),
        }
        self.trace.say(self.now, || format!("m{site} installs under {fault:?}"));
    }

    /// Ends a process, and the power with it or not, and lets the member start again some time.
    pub fn end_and_restart(&mut self, site: usize, with_power: bool) {
        if with_power {
            self.crash(site)
        } else {
            self.kill(site)
        }
        self.draw_clock(site);
        let longest = *self.rng.pick(&[100 * MS, SECOND, 5 * SECOND, 15 * SECOND]);
        let delay = self.rng.between(10 * MS, longest);
        self.after(delay, Action::Boot(site));
    }

    /// Some ways, each for a time of its own.
    fn clog(&mut self, site: usize) {
        let is_wide = self.rng.chance(500_000);
        let longest = *self.rng.pick(&[SECOND, 5 * SECOND, 30 * SECOND, 180 * SECOND]);
        let count = self.sites.len();
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            let touches = from == site || to == site || is_wide;
            if from != to && touches && self.rng.chance(700_000) {
                self.net.clog(from, to);
                let time = self.rng.between(100 * MS, longest);
                self.after(time, Action::Relief(Relief::Clog(from, to)));
            }
        }
    }

    /// Cuts a member off, if faults go on.
    pub fn isolate(&mut self, site: usize) {
        if self.is_hostile {
            self.cut(Fault::Isolate, site);
        }
    }

    fn cut(&mut self, fault: Fault, site: usize) {
        let count = self.sites.len();
        let mut part: Vec<bool> = vec![false; count];
        match fault {
            Fault::Split | Fault::Bridge => part.fill_with(|| self.rng.chance(500_000)),
            _ => part[site] = true,
        }
        let other = self.rng.below(count as u64) as usize;
        let both = fault != Fault::OneWay;
        let inward = self.rng.chance(500_000);
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            if from == to || part[from] == part[to] {
                continue;
            }
            if fault == Fault::Bridge && (from == site || to == site) {
                continue;
            }
            // One way: to or from all others, or just one of them.
            let hit =
                both || (part[from] != inward && (other == site || other == from || other == to));
            if hit {
                self.net.block(from, to);
            }
        }
        self.until_relief(Relief::Network);
    }

    fn until_relief(&mut self, relief: Relief) {
        let longest = *self.rng.pick(&[500 * MS, 3 * SECOND, 10 * SECOND]);
        let delay = self.rng.between(100 * MS, longest);
        self.after(delay, Action::Relief(relief));
    }

    /// A fault is over.
    pub fn relieve(&mut self, relief: Relief) {
        match relief {
            Relief::Network => {
                self.net.unblock();
                if self.is_hostile {
                    self.net.quality = self.plan.net.clone();
                }
            }
            Relief::Clog(from, to) => self.release(from, to),
            Relief::Disk(site) => self.mend_disk(site),
            Relief::Crash(site) => {
                if self.is_hostile && self.sites[site].process.is_some() {
                    self.end_and_restart(site, true);
                }
            }
            Relief::Fall(site, more) => {
                if self.is_hostile {
                    self.fall(site, more);
                }
            }
            Relief::Stopped(site, life) => {
                let place = &self.sites[site];
                if place.life == life && place.process.is_some() {
                    self.end_and_restart(site, false);
                }
            }
        }
    }

    /// A disk works again.
    pub fn mend_disk(&mut self, site: usize) {
        let place = &mut self.sites[site];
        place.disk.set_fault(None);
        place.disk.set_failing(None);
        place.disk.set_capacity(None);
        place.disk.set_short(0);
        (place.is_doomed, place.is_condemned) = (false, false);
        place.slow = 1;
    }

    /// All faults end: every disk and every way is good, and everybody runs.
    pub fn heal(&mut self) {
        self.is_hostile = false;
        self.clients.healed = Some(self.now);
        self.net.unblock();
        self.net.quality.loss = 0;
        self.net.quality.duplication = 0;
        self.net.quality.straggle = 0;
        self.net.quality.delay.1 = self.net.quality.delay.1.min(20 * MS);
        self.net.quality.stream_byte = 0;
        self.net.quality.queue = usize::MAX;
        for (from, to) in self.net.clogged() {
            self.release(from, to);
        }
        self.break_streams(None);
        if self.plan.settings.quota.take().is_some() {
            // With room for more the alarms can go.
            for site in self.running() {
                self.kill(site);
            }
            self.after(SECOND, Action::Disarm);
        }
        for site in 0..self.sites.len() {
            self.mend_disk(site);
            self.sites[site].paused_until = self.now;
            self.sites[site].stalled = None;
            let delay = self.rng.below(500 * MS);
            self.after(delay, Action::Boot(site));
        }
    }
}
