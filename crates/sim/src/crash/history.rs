//! What happens to a member before its power fails.

use std::time::Duration;

use crate::process::Settings;
use crate::rng::Rng;

/// A step of a history. What follows does not wait for what was asked for, but for [`Step::Wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many puts, of which some are on their way at once.
    Puts(u64),
    /// Puts of values that need many sectors.
    LargePuts(u64),
    /// Deletions of keys that were put.
    Deletes(u64),
    /// Transactions that change two keys.
    Txns(u64),
    /// A lease, a key with it, and for every other one its end.
    Leases(u64),
    /// A compaction up to some revision of late.
    Compact,
    /// The database is rewritten.
    Defragment,
    /// All requests are answered.
    Wait,
    /// Milliseconds pass.
    Pass(u64),
    /// Old files are removed.
    Purge,
    /// The process is killed and starts again.
    Kill,
    /// The power fails, with some of what was not synced kept, and the member starts again.
    Power,
    /// A learner is added that never starts.
    AddLearner,
    /// The last learner is removed.
    RemoveLearner,
    /// The member gets another URL.
    Update,
    /// The member is cut off from the leader.
    Detach,
    /// It is not any more.
    Attach,
    /// The leader starts again, and is elected again.
    Elect,
}

/// Who it is whose power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The only member.
    Alone,
    /// One of two voters, which never leads.
    Follower,
    /// A learner that joins.
    Learner,
}

/// A history, by name.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// Its name.
    pub name: &'static str,
    /// Whose disk is looked at.
    pub target: Target,
    /// Entries between snapshots, if it matters.
    pub snapshot_count: Option<u64>,
    /// The size of log segments, if it matters.
    pub segment_bytes: Option<u64>,
    /// What happens, after the first start.
    pub steps: &'static [Step],
}

use Step as S;

const fn alone(name: &'static str, steps: &'static [Step]) -> History {
    History { name, target: Target::Alone, snapshot_count: None, segment_bytes: None, steps }
}

/// All histories.
pub const HISTORIES: &[History] = &[
    alone("first-start", &[S::Puts(2), S::Wait]),
    alone("puts", &[S::Puts(12), S::Pass(200), S::Deletes(4), S::Puts(8), S::Wait]),
    alone(
        "txns-and-leases",
        &[S::Puts(3), S::Txns(6), S::Leases(6), S::Pass(150), S::Txns(3), S::Wait],
    ),
    alone(
        "compactions",
        &[S::Puts(8), S::Compact, S::Deletes(3), S::Puts(5), S::Compact, S::Wait, S::Pass(100)],
    ),
    alone(
        "defragmentations",
        &[
            S::Puts(6),
            S::Defragment,
            S::Deletes(3),
            S::Compact,
            S::Puts(3),
            S::Defragment,
            S::Wait,
            S::Pass(100),
        ],
    ),
    History {
        snapshot_count: Some(4),
        ..alone(
            "snapshots",
            &[
                S::Puts(12),
                S::Wait,
                S::Purge,
                S::Puts(10),
                S::Wait,
                S::Purge,
                S::Puts(5),
                S::Wait,
                S::Purge,
            ],
        )
    },
    History {
        segment_bytes: Some(1 << 10),
        snapshot_count: Some(10),
        ..alone(
            "segments",
            &[S::LargePuts(3), S::Puts(8), S::Purge, S::LargePuts(3), S::Wait, S::Purge],
        )
    },
    alone("kills", &[S::Puts(5), S::Kill, S::Puts(5), S::Kill, S::Puts(3), S::Wait, S::Kill]),
    alone(
        "power-failures",
        &[
            S::Puts(5),
            S::Power,
            S::LargePuts(2),
            S::Power,
            S::Puts(3),
            S::Compact,
            S::Power,
            S::Puts(2),
            S::Wait,
        ],
    ),
    alone(
        "members",
        &[
            S::Puts(2),
            S::AddLearner,
            S::Puts(2),
            S::Update,
            S::Kill,
            S::RemoveLearner,
            S::Puts(2),
            S::Wait,
        ],
    ),
    History {
        target: Target::Follower,
        ..alone(
            "follower",
            &[
                S::Puts(6),
                S::Elect,
                S::Puts(4),
                S::Kill,
                S::Puts(3),
                S::Elect,
                S::Puts(3),
                S::Wait,
                S::Pass(100),
            ],
        )
    },
    History {
        target: Target::Learner,
        snapshot_count: Some(4),
        ..alone(
            "joins-by-snapshot",
            &[S::Puts(12), S::Wait, S::Attach, S::Puts(4), S::Wait, S::Pass(300)],
        )
    },
    History {
        target: Target::Learner,
        snapshot_count: Some(4),
        ..alone(
            "snapshots-of-the-leader",
            &[
                S::Attach,
                S::Puts(4),
                S::Wait,
                S::Detach,
                S::Puts(10),
                S::Compact,
                S::Wait,
                S::Attach,
                S::Puts(2),
                S::Wait,
                S::Pass(200),
                S::Detach,
                S::Puts(10),
                S::Wait,
                S::Attach,
                S::Puts(3),
                S::Wait,
                S::Pass(200),
                S::Purge,
            ],
        )
    },
];

/// What the members of a history are told. `seed` 0 draws nothing.
#[must_use]
pub fn settings(history: &History, rng: &mut Rng) -> Settings {
    Settings {
        election_ticks: 10,
        tick: Duration::from_millis(100),
        pre_vote: true,
        snapshot_count: history.snapshot_count.unwrap_or(*rng.pick(&[7, 10_000])),
        catchup_entries: *rng.pick(&[0, 2]),
        inflight_messages: replica::INFLIGHT_MESSAGES_MAX,
        segment_bytes: history.segment_bytes.unwrap_or(*rng.pick(&[1 << 10, 2 << 10, 8 << 10])),
        batch_interval: Duration::from_millis(*rng.pick(&[5, 100])),
        batch_limit: *rng.pick(&[1, 4, 10_000]),
        compaction_batch_limit: *rng.pick(&[1, 4, 1000]),
        keep_files: rng.between(1, 3) as usize,
        lease_checkpoint: false,
        watch_outstanding: 128,
        quota: None,
    }
}
