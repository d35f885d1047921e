//! What a run is like: all of it drawn from the seed, so that runs differ as much as they can.

use std::time::Duration;

use crate::membership::Change;
use crate::nemesis::{Fault, KINDS};
use crate::process::Settings;
use crate::rng::Rng;

/// Nanoseconds of a millisecond.
pub const MS: u64 = 1_000_000;
/// Nanoseconds of a second.
pub const SECOND: u64 = 1000 * MS;

/// How often a kind of fault strikes; 0 for never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Weight of each of [`crate::nemesis::KINDS`].
    pub kinds: Vec<u64>,
    /// The mean time between two faults, in nanoseconds.
    pub interval: u64,
}

/// Faults that are often drawn together: of members, of those that fall behind, of what is not yet on disk, of
/// leaders, of short lives; or none.
const THEMES: [&[Fault]; 8] = [
    &[],
    &[],
    &[],
    &[
        Fault::Members(Change::AddLearner),
        Fault::Members(Change::Promote),
        Fault::Members(Change::Update),
        Fault::Members(Change::AddVoter),
        Fault::Members(Change::Remove),
        Fault::Stall,
        Fault::Isolate,
    ],
    &[Fault::Isolate, Fault::Stall, Fault::CrashWithin, Fault::KillWithin, Fault::Defragment],
    &[Fault::Crash, Fault::KillWithin, Fault::FailSync, Fault::Slow, Fault::Transfer],
    &[Fault::Pause, Fault::IsolateLeader, Fault::Clog, Fault::Replay, Fault::Kill],
    &[Fault::CrashLoop, Fault::SlowWay, Fault::Weather, Fault::Stop],
];

/// How messages travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// Messages lost, in a million.
    pub loss: u64,
    /// Messages that arrive twice, in a million.
    pub duplication: u64,
    /// The shortest and the longest time on the way, in nanoseconds.
    pub delay: (u64, u64),
    /// Messages that take a hundred times as long, in a million.
    pub straggle: u64,
    /// Whether messages between two members keep their order.
    pub ordered: bool,
    /// How many messages may be on their way from one member to another.
    pub queue: usize,
    /// Nanoseconds for a byte of a database.
    pub stream_byte: u64,
    /// Messages that may come once more after a while, in a million.
    pub kept: u64,
}

/// What reads a key, in [`Plan::calls`].
const READ: usize = 1;

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many founding members.
    pub members: usize,
    /// How many clients.
    pub clients: usize,
    /// How many watchers.
    pub watchers: usize,
    /// How many keys.
    pub keys: u64,
    /// The mean pause of a client between two calls, in nanoseconds.
    pub think: u64,
    /// How long faults go on, in nanoseconds.
    pub faults_for: u64,
    /// Their kinds.
    pub weights: Weights,
    /// How long clients go on when all serve again, in nanoseconds.
    pub work_for: u64,
    /// How long nothing happens in the end, in nanoseconds.
    pub rest_for: u64,
    /// The network.
    pub net: Net,
    /// How much a stage may lag behind: its usual delay times up to this.
    pub lag: u64,
    /// How far clocks run fast or slow, in a million.
    pub drift: u64,
    /// Sizes of values, up to.
    pub value_bytes: u64,
    /// Values that are a hundred times as large as others may be, in a million.
    pub large_values: u64,
    /// The weights of what clients do, in the order in which clients draw them.
    pub calls: Vec<u64>,
    /// The members' options.
    pub settings: Settings,
}

impl Plan {
    /// The run of a seed.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let members = *rng.pick(&[1, 3, 3, 3, 3, 5]);
        let calm = rng.chance(100_000);
        // Many kinds, or a few that then meet each other often.
        let absent = *rng.pick(&[400_000, 600_000, 850_000]);
        let mut weights: Vec<u64> = (0..KINDS.len())
            .map(|_| if rng.chance(absent) { 0 } else { rng.between(1, 10) })
            .collect();
        // What does most together is drawn together, too.
        let theme = *rng.pick(&THEMES);
        for ((fault, _), weight) in KINDS.iter().zip(&mut weights) {
            if theme.contains(fault) {
                *weight = rng.between(5, 20);
            }
        }
        let room = [None, None, None, None, None, None, Some(200 << 10), Some(1 << 20)];
        let quota = *rng.pick(&room);
        for ((fault, _), weight) in KINDS.iter().zip(&mut weights) {
            if quota.is_some() && *fault == Fault::Disarm {
                *weight = rng.between(5, 20);
            }
        }
        let is_forgetful = theme.contains(&Fault::Isolate) || rng.chance(200_000);
        let mut calls: Vec<u64> = (0..crate::clients::KINDS)
            .map(|kind| if kind > 1 && rng.chance(300_000) { 0 } else { rng.between(1, 10) })
            .collect();
        if rng.chance(250_000) {
            // Many clients do little but read.
            calls[READ] += 50;
        }
        let longest = *rng.pick(&[MS, 5 * MS, 20 * MS, 80 * MS]);
        let often = |rng: &mut Rng| *rng.pick(&[0, 0, 1_000, 20_000, 100_000]);
        let value_bytes = *rng.pick(&[0, 0, 200, 1_000, 4_000]);
        // Minutes of faults, with few calls, so that it takes no longer than other runs.
        let is_long = rng.chance(50_000);
        Self {
            members,
            clients: rng.between(1, 10) as usize,
            watchers: rng.below(5) as usize,
            keys: *rng.pick(&[1, 2, 4, 8, 30]),
            think: if is_long { 200 * MS } else { *rng.pick(&[MS, 5 * MS, 20 * MS]) },
            faults_for: match (calm, is_long) {
                (true, _) => 10 * SECOND,
                (false, true) => rng.between(120, 400) * SECOND,
                (false, false) => rng.between(10, 60) * SECOND,
            },
            weights: Weights {
                kinds: weights,
                interval: *rng.pick(&[200 * MS, 500 * MS, SECOND, 3 * SECOND]),
            },
            work_for: *rng.pick(&[5, 10, 30]) * SECOND,
            rest_for: rng.between(600, 1900) * SECOND,
            net: Net {
                loss: often(rng),
                duplication: often(rng),
                delay: (rng.between(10_000, 500_000), longest),
                straggle: often(rng) / 10,
                ordered: rng.chance(500_000),
                queue: *rng.pick(&[20, 100, 4096, 4096]),
                stream_byte: *rng.pick(&[0, 0, 0, 1_000, 20_000, 100_000]),
                kept: *rng.pick(&[0, 1_000, 20_000]),
            },
            lag: *rng.pick(&[1, 1, 10, 100]),
            drift: *rng.pick(&[0, 0, 1_000, 20_000]),
            value_bytes,
            large_values: *rng.pick(&[0, 0, 0, 2_000]),
            calls,
            settings: Settings {
                election_ticks: *rng.pick(&[10, 10, 5]),
                tick: Duration::from_millis(*rng.pick(&[100, 100, 50])),
                pre_vote: !rng.chance(150_000),
                snapshot_count: if is_forgetful { 10 } else { *rng.pick(&[10, 50, 200, 10_000]) },
                catchup_entries: if is_forgetful { 0 } else { *rng.pick(&[0, 5, 100, 5_000]) },
                inflight_messages: *rng.pick(&[512, 512, 64, 4]),
                // Else there are thousands of segments.
                segment_bytes: (*rng.pick(&[2 << 10, 16 << 10, 256 << 10])).max(16 * value_bytes),
                batch_interval: Duration::from_millis(*rng.pick(&[5, 100, 100, 1000])),
                batch_limit: *rng.pick(&[1, 20, 10_000]),
                compaction_batch_limit: *rng.pick(&[1, 10, 1000]),
                keep_files: rng.between(1, 5) as usize,
                lease_checkpoint: rng.chance(300_000),
                watch_outstanding: *rng.pick(&[2, 10, 1024]),
                quota,
            },
        }
    }

    /// Whether a kind of fault may strike.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        let mut kinds = KINDS.iter().zip(&self.weights.kinds);
        kinds.any(|((kind, _), weight)| *kind == fault && *weight > 0)
    }

    /// Three members to whom nothing happens for an hour.
    #[must_use]
    pub fn quiet(rng: &mut Rng) -> Self {
        let mut plan = Self::draw(rng);
        plan.members = 3;
        plan.weights.kinds.fill(0);
        (plan.clients, plan.watchers) = (1, 1);
        (plan.faults_for, plan.work_for) = (SECOND, SECOND);
        plan.rest_for = 3600 * SECOND;
        plan.net = Net {
            loss: 0,
            duplication: 0,
            delay: (100_000, MS),
            straggle: 0,
            ordered: true,
            queue: 4096,
            stream_byte: 0,
            kept: 0,
        };
        plan.lag = 1;
        plan
    }
}
