//! A run from its seed to its verdict.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use api::key_value::KeyValueRef;
use backend::Bucket;
use mvcc::RangeArgs;

use crate::check::linear;
use crate::mask::Mask;
use crate::nemesis::{CLOCK_DRIFT, Fault};
use crate::plan::{Plan, SECOND};
use crate::rng::Rng;
use crate::trace::Trace;
use crate::world::World;

/// How long the members may take to serve again when all faults have ended.
const PROGRESS_WITHIN: u64 = 40 * SECOND;
/// How long they may take to agree when clients have ended, too.
const QUIET_WITHIN: u64 = 60 * SECOND;

/// What a run was like.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What went wrong; empty if all is well.
    pub violations: Vec<String>,
    /// A checksum over everything that happened.
    pub trace: u64,
    /// How many things happened.
    pub steps: u64,
    /// Simulated nanoseconds.
    pub time: u64,
    /// Calls of clients that were answered and checked.
    pub answered: u64,
    /// Calls whose outcome nobody knows.
    pub unknown: u64,
    /// Calls that had no effect.
    pub failed: u64,
    /// Events that watchers have heard and checked.
    pub events: u64,
    /// States of members that were compared.
    pub states: u64,
    /// Keys whose history was too hard to judge.
    pub too_hard: u64,
    /// How often what happened, faults and other things worth knowing.
    pub counts: BTreeMap<&'static str, u64>,
    /// The numbers of the faults that struck.
    pub faults_struck: Vec<u64>,
    /// The numbers of the turns at which clients called.
    pub calls_made: Vec<u64>,
    /// What happened, in words, if that was asked for.
    pub story: Vec<String>,
}

/// How to run a seed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Keep the story.
    pub tell: bool,
    /// What takes place.
    pub mask: Mask,
    /// Whether the members rest for a long while in the end.
    pub has_rest: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { tell: false, mask: Mask::default(), has_rest: true }
    }
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Report {
    let mut rng = Rng::new(seed);
    let plan = Plan::draw(&mut rng);
    run_plan(seed, plan, rng, options)
}

/// Runs a plan.
#[must_use]
pub fn run_plan(seed: u64, plan: Plan, rng: Rng, options: &Options) -> Report {
    let mut trace = if options.tell { Trace::telling() } else { Trace::default() };
    trace.say(0, || format!("{plan:#?}"));
    let mut world = World::new(plan, rng, trace);
    world.mask = options.mask.clone();
    world.has_rest = options.has_rest;
    let mut too_hard = 0;
    // A broken invariant of the members is a finding like any other.
    let result = catch_unwind(AssertUnwindSafe(|| {
        world.live();
        if world.observer.violations.is_empty() {
            too_hard = world.judge_histories();
        }
    }));
    if let Err(panic) = result {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.observer.violation(format!("panic: {}", text.unwrap_or_default()));
    }
    report(seed, world, too_hard)
}

fn report(seed: u64, mut world: World, too_hard: u64) -> Report {
    let mut counts = std::mem::take(&mut world.faults);
    for (name, count) in [
        ("lost message", world.net.lost),
        ("doubled message", world.net.doubled),
        ("blocked message", world.net.swallowed),
        ("installed snapshot", world.observer.installs),
        ("stalled leader", world.observer.gave_way),
        ("resumed watch", world.watchers.resumed),
        ("revoked lease", world.observer.revoked.len() as u64),
        ("message without room", world.net.refused),
        ("slow snapshot", world.net.slow_streams),
        ("alarm raised", world.observer.alarms),
        ("watch from the past", world.watchers.from_the_past),
        ("watch of the future", world.watchers.of_the_future),
        ("large value", world.clients.large),
    ] {
        counts.insert(name, count);
    }
    Report {
        seed,
        violations: world.observer.violations,
        trace: world.trace.hash(),
        steps: world.trace.steps(),
        time: world.now,
        answered: world.clients.answered,
        unknown: world.clients.unknown,
        failed: world.clients.failed,
        events: world.watchers.events,
        states: world.observer.states_compared,
        too_hard,
        counts,
        faults_struck: world.faults_struck,
        calls_made: world.clients.made,
        story: world.trace.story(),
    }
}

impl World {
    /// Faults first, then progress, then quiet.
    fn live(&mut self) {
        let faults_for = self.plan.faults_for;
        self.run_until(faults_for);
        self.heal();
        let healed = self.now;
        self.step_until(healed + PROGRESS_WITHIN, "serve all clients", |world| {
            let members = world.members();
            !members.is_empty()
                && members.iter().all(|site| {
                    world.sites[*site].process.is_some()
                        && (!world.is_voter(*site)
                            || world.clients.served.get(site).is_some_and(|at| *at > healed))
                })
        });
        self.run_until(self.now + self.plan.work_for);
        self.clients.is_working = false;
        let stopped = self.now;
        self.step_until(stopped + QUIET_WITHIN, "agree", |world| {
            world.now > stopped + SECOND && world.is_quiet()
        });
        self.compare_states();
        if self.has_rest {
            self.rest();
            self.compare_states();
        }
        self.check_leases();
        if self.observer.violations.is_empty() {
            self.check_members();
        }
    }

    /// All members have the same, also at an index at which they are not looked at on the way.
    fn compare_states(&mut self) {
        for site in self.members() {
            if let Some(process) = &self.sites[site].process {
                self.observer.compare(&process.applier);
            }
        }
    }

    /// Every member's raft and its list of members agree, and no key has outlived its lease.
    fn check_members(&mut self) {
        let mut wrong = Vec::new();
        for site in self.members() {
            let Some(process) = &self.sites[site].process else { continue };
            wrong.extend(process.misconfigured());
            let rows = process.applier.backend().reader();
            let args = RangeArgs { key: b"a", range_end: b"\0", ..RangeArgs::default() };
            let read = process.reader.range(&args, |row| {
                let Ok(row) = KeyValueRef::decode(&row) else { return };
                let lease = rows.get(Bucket::Lease, &row.lease.to_be_bytes());
                if row.lease != 0 && lease.is_ok_and(|lease| lease.is_none()) {
                    let key = String::from_utf8_lossy(row.key);
                    wrong.push(format!("m{site} has {key} of lease {}, which is gone", row.lease));
                }
            });
            read.expect("the newest revision can be read");
        }
        self.observer.violations.append(&mut wrong);
    }

    /// Nothing is asked of the members for a long while: they keep their leader and their state.
    fn rest(&mut self) {
        let terms = |world: &Self| -> Vec<(u64, u64)> {
            let processes = world.sites.iter().filter_map(|site| site.process.as_ref());
            processes.map(|process| process.role).collect()
        };
        self.is_resting = true;
        let before = terms(self);
        self.run_until(self.now + self.plan.rest_for);
        if self.observer.violations.is_empty() && (terms(self) != before || !self.is_quiet()) {
            let state = self.describe();
            self.observer.violation(format!("the members do not rest: {before:x?}, then {state}"));
        }
        self.is_resting = false;
    }

    /// Goes on until something is so, which must be before `end`.
    fn step_until(&mut self, end: u64, what: &str, is_so: impl Fn(&Self) -> bool) {
        while self.observer.violations.is_empty() && !is_so(self) {
            if self.now >= end {
                let state = self.describe();
                return self.observer.violation(format!("the members do not {what}: {state}"));
            }
            self.run_until((self.now + SECOND / 10).min(end));
        }
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for (number, site) in self.sites.iter().enumerate() {
            let state = match &site.process {
                None => "down".to_owned(),
                Some(process) => format!(
                    "term {} leader {:x} applied {} revision {} {}",
                    process.role.0,
                    process.role.1,
                    process.applier.applied_index(),
                    process.reader.current_revision(),
                    process.replica.describe()
                ),
            };
            text.push_str(&format!("m{number} ({:x}): {state}; ", site.identity.metadata.node_id));
        }
        text.push_str(&format!(
            "served {:?}, watchers have heard {}, committed {}, leases left {:?}",
            self.clients.served,
            self.watchers.heard(),
            self.observer.committed_index(),
            self.leases_left().collect::<Vec<_>>()
        ));
        text
    }

    /// Whether all members have the same, watchers have heard of it, and no lease has outlived its
    /// time.
    fn is_quiet(&self) -> bool {
        let committed = self.observer.committed_index();
        let revision = self.observer.revision();
        let members = self.members();
        let agree = members.iter().all(|site| {
            self.sites[*site].process.as_ref().is_some_and(|process| {
                process.applier.applied_index() == committed
                    && process.reader.current_revision() == revision
            })
        });
        let left = self.leases_left().next().is_some();
        agree && self.watchers.heard() >= revision && !left
    }

    /// The leases that clients were granted and that have not ended.
    fn leases_left(&self) -> impl Iterator<Item = i64> {
        let ids = self.clients.leases.keys().copied();
        ids.filter(|id| !self.observer.revoked.contains_key(id))
    }

    /// No lease has ended before its time, by itself.
    fn check_leases(&mut self) {
        let drift = if self.plan.has(Fault::Drift) { CLOCK_DRIFT } else { 0 };
        let slack = 1_000_000 - 2 * self.plan.drift.max(drift);
        let mut early = Vec::new();
        for (id, lease) in &self.clients.leases {
            let Some(revoked) = self.observer.revoked.get(id) else { continue };
            let is_expired = (revoked.request >> 44) & 0xf == 15;
            let lasts = lease.ttl as u64 * SECOND / 1_000_000 * slack;
            let leapt = |begin: u64| -> u64 {
                let leaps = self.leaps.iter().filter(|(at, _)| (begin..=revoked.at).contains(at));
                leaps.map(|(_, by)| by).sum()
            };
            let owed = |begin: &&u64| {
                **begin < revoked.at
                    && revoked.at < (**begin + lasts).saturating_sub(leapt(**begin))
            };
            if is_expired && let Some(begin) = lease.renewed.iter().find(owed) {
                let after = (revoked.at - begin) / 1_000_000;
                let ttl = lease.ttl;
                early.push(format!("lease {id} of {ttl} s ended {after} ms after it was renewed"));
            }
        }
        self.observer.violations.append(&mut early);
    }

    fn judge_histories(&mut self) -> u64 {
        let mut too_hard = 0;
        for (key, calls) in self.clients.histories() {
            match linear::is_linearizable(&calls) {
                Ok(true) => {}
                Ok(false) => {
                    let calls = linear::shortest(&calls);
                    let last = &calls[calls.len().saturating_sub(12)..];
                    self.observer.violation(format!(
                        "the history of key {key} is not linearizable; its last calls: {last:?}"
                    ));
                }
                Err(linear::TooHard) => too_hard += 1,
            }
        }
        too_hard
    }
}
