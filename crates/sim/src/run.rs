//! A run from its seed to its verdict.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::check::linear;
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
    /// What happened, in words, if that was asked for.
    pub story: Vec<String>,
}

/// Runs a seed. `tell`: keep the story.
#[must_use]
pub fn run(seed: u64, tell: bool) -> Report {
    let mut rng = Rng::new(seed);
    let plan = Plan::draw(&mut rng);
    run_plan(seed, plan, rng, tell)
}

/// Runs a plan.
#[must_use]
pub fn run_plan(seed: u64, plan: Plan, rng: Rng, tell: bool) -> Report {
    let mut trace = if tell { Trace::telling() } else { Trace::default() };
    trace.say(0, || format!("{plan:#?}"));
    let mut world = World::new(plan, rng, trace);
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
        self.clients.is_working = false;
        let stopped = self.now;
        self.step_until(stopped + QUIET_WITHIN, "agree", |world| {
            world.now > stopped + SECOND && world.is_quiet()
        });
        self.check_leases();
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
            "served {:?}, watchers have heard {}, committed {}",
            self.clients.served,
            self.watchers.heard(),
            self.observer.committed_index()
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
        let left = self.clients.leases.keys().any(|id| !self.observer.revoked.contains_key(id));
        agree && self.watchers.heard() >= revision && !left
    }

    /// No lease has ended before its time, by itself.
    fn check_leases(&mut self) {
        let slack = 1_000_000 - 2 * self.plan.drift;
        let mut early = Vec::new();
        for (id, lease) in &self.clients.leases {
            let Some(revoked) = self.observer.revoked.get(id) else { continue };
            let is_expired = (revoked.request >> 44) & 0xf == 15;
            let lasts = lease.ttl as u64 * SECOND / 1_000_000 * slack;
            let owed = |begin: &&u64| **begin < revoked.at && revoked.at < **begin + lasts;
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
