//! The configuration in force, and what the leader knows of each member in it.

mod inflights;
mod progress;

pub use inflights::Inflights;
pub use progress::{Progress, ProgressMap, ProgressState};

use std::collections::BTreeMap;
use std::fmt;

use crate::pb::ConfState;
use crate::quorum::{JointConfig, MajorityConfig, VoteResult};

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Who votes.
    pub voters: JointConfig,
    /// Whether a joint configuration is left automatically. Invariant: false when not joint.
    pub auto_leave: bool,
    /// Who gets the log without a vote. Invariant: disjoint from the voters of both halves.
    pub learners: MajorityConfig,
    /// Outgoing voters that become learners when the joint configuration is left; until then they vote, and a
    /// voter cannot be a learner. Invariant: a subset of the outgoing voters.
    pub learners_next: MajorityConfig,
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "voters={}", self.voters)?;
        if !self.learners.is_empty() {
            write!(f, " learners={}", self.learners)?;
        }
        if !self.learners_next.is_empty() {
            write!(f, " learners_next={}", self.learners_next)?;
        }
        if self.auto_leave {
            f.write_str(" autoleave")?;
        }
        Ok(())
    }
}

/// The configuration with the progress of its members and the votes of an election.
#[derive(Clone, Debug)]
pub struct ProgressTracker {
    /// The configuration in force.
    pub config: Config,
    /// Its members. Invariant: exactly those of `config`.
    pub progress: ProgressMap,
    votes: BTreeMap<u64, bool>,
    max_inflight: usize,
    max_inflight_bytes: u64,
}

impl ProgressTracker {
    /// A tracker of the empty configuration.
    pub fn new(max_inflight: usize, max_inflight_bytes: u64) -> Self {
        Self {
            config: Config::default(),
            progress: ProgressMap::default(),
            votes: BTreeMap::new(),
            max_inflight,
            max_inflight_bytes,
        }
    }

    /// A tracker of the empty configuration with the limits of this one.
    pub(crate) fn cleared(&self) -> Self {
        Self::new(self.max_inflight, self.max_inflight_bytes)
    }

    pub(crate) const fn new_inflights(&self) -> Inflights {
        Inflights::new(self.max_inflight, self.max_inflight_bytes)
    }

    /// The configuration as it is stored in snapshots.
    pub fn conf_state(&self) -> ConfState {
        ConfState {
            voters: self.config.voters.incoming.ids().to_vec(),
            voters_outgoing: self.config.voters.outgoing.ids().to_vec(),
            learners: self.config.learners.ids().to_vec(),
            learners_next: self.config.learners_next.ids().to_vec(),
            auto_leave: Some(self.config.auto_leave),
        }
    }

    /// Whether exactly one member votes.
    pub const fn is_singleton(&self) -> bool {
        self.config.voters.incoming.len() == 1 && !self.config.voters.is_joint()
    }

    /// The highest index on a quorum's logs.
    pub fn committed(&self) -> u64 {
        self.config
            .voters
            .committed_index(|id| self.progress.get(id).map(|progress| progress.match_index))
    }

    /// Whether a quorum was heard of lately.
    pub fn quorum_active(&self) -> bool {
        let vote = |id| {
            let progress = self.progress.get(id)?;
            (!progress.is_learner).then_some(progress.recent_active)
        };
        self.config.voters.vote_result(vote) == VoteResult::Won
    }

    pub(crate) fn reset_votes(&mut self) {
        self.votes.clear();
    }

    /// Records a vote; the first one of a member counts.
    pub(crate) fn record_vote(&mut self, id: u64, granted: bool) {
        self.votes.entry(id).or_insert(granted);
    }

    pub(crate) fn has_vote_of(&self, id: u64) -> bool {
        self.votes.get(&id) == Some(&true)
    }

    /// Votes granted, votes rejected, and the outcome.
    pub(crate) fn tally_votes(&self) -> (usize, usize, VoteResult) {
        let cast = self
            .progress
            .iter()
            .filter(|(_, progress)| !progress.is_learner)
            .filter_map(|(id, _)| self.votes.get(&id));
        let (granted, rejected) =
            cast.fold((0, 0), |(yes, no), &vote| if vote { (yes + 1, no) } else { (yes, no + 1) });
        let result = self.config.voters.vote_result(|id| self.votes.get(&id).copied());
        (granted, rejected, result)
    }
}
