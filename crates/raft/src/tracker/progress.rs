//! What the leader knows of one follower.

use std::fmt;

use super::Inflights;

/// How the leader talks to a follower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressState {
    /// Its last index is unknown: one append per heartbeat until one fits.
    #[default]
    Probe,
    /// Its log matches: appends are pipelined ahead of the answers.
    Replicate,
    /// The entries it needs are compacted: nothing is sent until it has the snapshot.
    Snapshot,
}

impl fmt::Display for ProgressState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probe => "StateProbe",
            Self::Replicate => "StateReplicate",
            Self::Snapshot => "StateSnapshot",
        })
    }
}

/// A follower's progress in the eyes of the leader: `nextIndex` and `matchIndex` of the paper, and what flow
/// control needs.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The follower's log equals the leader's up to here.
    pub match_index: u64,
    /// Next entry to send; those between are in flight. Invariant: greater than `match_index`.
    pub next_index: u64,
    /// Highest commit index sent, lowered again when what was sent is likely lost.
    sent_commit: u64,
    /// How to talk to it.
    pub state: ProgressState,
    /// `Snapshot` only: index of the snapshot being sent.
    pub pending_snapshot: u64,
    /// Whether it was heard of since the last check of the quorum.
    pub recent_active: bool,
    /// Whether appends wait for the next answer to a heartbeat.
    pub msg_app_flow_paused: bool,
    /// Appends in flight.
    pub inflights: Inflights,
    /// Whether it has no vote.
    pub is_learner: bool,
}

impl Progress {
    pub(crate) const fn new(next_index: u64, inflights: Inflights, is_learner: bool) -> Self {
        Self {
            match_index: 0,
            next_index,
            sent_commit: 0,
            state: ProgressState::Probe,
            pending_snapshot: 0,
            recent_active: false,
            msg_app_flow_paused: false,
            inflights,
            is_learner,
        }
    }

    /// Back to the state at the start of a term.
    pub(crate) fn reset(&mut self, match_index: u64, next_index: u64) {
        self.reset_state(ProgressState::Probe);
        self.match_index = match_index;
        self.next_index = next_index;
        self.sent_commit = 0;
        self.recent_active = false;
    }

    fn reset_state(&mut self, state: ProgressState) {
        self.msg_app_flow_paused = false;
        self.pending_snapshot = 0;
        self.state = state;
        self.inflights.reset();
    }

    /// Probes from the entry after the last known match or, coming from `Snapshot`, after that snapshot.
    pub(crate) fn become_probe(&mut self) {
        let pending = if self.state == ProgressState::Snapshot { self.pending_snapshot } else { 0 };
        self.reset_state(ProgressState::Probe);
        self.next_index = self.match_index.max(pending) + 1;
        self.sent_commit = self.sent_commit.min(self.next_index - 1);
    }

    /// Pipelines from the entry after the match.
    pub(crate) fn become_replicate(&mut self) {
        self.reset_state(ProgressState::Replicate);
        self.next_index = self.match_index + 1;
    }

    /// Waits for the snapshot at `index`.
    pub(crate) fn become_snapshot(&mut self, index: u64) {
        self.reset_state(ProgressState::Snapshot);
        self.pending_snapshot = index;
        self.next_index = index + 1;
        self.sent_commit = index;
    }

    /// Records an append of `entries` entries from `next_index`, of that payload in bytes.
    pub(crate) fn sent_entries(&mut self, entries: usize, bytes: u64) {
        match self.state {
            ProgressState::Replicate => {
                if entries > 0 {
                    self.next_index += entries as u64;
                    self.inflights.add(self.next_index - 1, bytes);
                }
                // With a full window this append was a probe; the next waits for a heartbeat's answer.
                self.msg_app_flow_paused = self.inflights.is_full();
            }
            ProgressState::Probe => {
                if entries > 0 {
                    self.msg_app_flow_paused = true;
                }
            }
            ProgressState::Snapshot => panic!("sending append in unhandled state StateSnapshot"),
        }
    }

    /// Whether sending `commit` could move the follower's commit index further than what is in flight.
    pub(crate) const fn can_bump_commit(&self, commit: u64) -> bool {
        commit > self.sent_commit && self.sent_commit < self.next_index - 1
    }

    pub(crate) const fn sent_commit(&mut self, commit: u64) {
        self.sent_commit = commit;
    }

    /// Records that the log matches up to `index`; false when that is no news.
    pub(crate) fn maybe_update(&mut self, index: u64) -> bool {
        if index <= self.match_index {
            return false;
        }
        self.match_index = index;
        self.next_index = self.next_index.max(index + 1);
        self.msg_app_flow_paused = false;
        true
    }

    /// Handles the rejection of the append at `rejected`, with a hint where the logs may match. False when the
    /// rejection is stale: reordered, doubled, or about entries acknowledged since.
    pub(crate) fn maybe_decrease_to(&mut self, rejected: u64, match_hint: u64) -> bool {
        if self.state == ProgressState::Replicate {
            if rejected <= self.match_index {
                return false;
            }
            self.next_index = self.match_index + 1;
            self.sent_commit = self.sent_commit.min(self.next_index - 1);
            return true;
        }
        // A probe is one append at a time, so the rejection must be about that one.
        if self.next_index - 1 != rejected {
            return false;
        }
        let hint = rejected.min(match_hint.saturating_add(1));
        let least = if mutant::mutant!("R6") { 1 } else { self.match_index + 1 };
        self.next_index = hint.max(least);
        self.sent_commit = self.sent_commit.min(self.next_index - 1);
        self.msg_app_flow_paused = false;
        true
    }

    /// Whether appends to it are held back.
    pub const fn is_paused(&self) -> bool {
        match self.state {
            ProgressState::Probe | ProgressState::Replicate => self.msg_app_flow_paused,
            ProgressState::Snapshot => true,
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} match={} next={}", self.state, self.match_index, self.next_index)?;
        if self.is_learner {
            f.write_str(" learner")?;
        }
        if self.is_paused() {
            f.write_str(" paused")?;
        }
        if self.pending_snapshot > 0 {
            write!(f, " pendingSnap={}", self.pending_snapshot)?;
        }
        if !self.recent_active {
            f.write_str(" inactive")?;
        }
        if self.inflights.count() > 0 {
            write!(f, " inflight={}", self.inflights.count())?;
            if self.inflights.is_full() {
                f.write_str("[full]")?;
            }
        }
        Ok(())
    }
}

/// The progress of every member, in the order of ids.
#[derive(Clone, Debug, Default)]
pub struct ProgressMap {
    /// Invariant: ids ascend. A cluster has a handful of members, so a vector beats a tree.
    members: Vec<(u64, Progress)>,
}

impl ProgressMap {
    fn position(&self, id: u64) -> Result<usize, usize> {
        self.members.binary_search_by_key(&id, |(id, _)| *id)
    }

    /// The progress of `id`.
    pub fn get(&self, id: u64) -> Option<&Progress> {
        self.position(id).ok().map(|at| &self.members[at].1)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Progress> {
        self.position(id).ok().map(|at| &mut self.members[at].1)
    }

    /// Whether `id` is tracked.
    pub fn contains(&self, id: u64) -> bool {
        self.position(id).is_ok()
    }

    pub(crate) fn insert(&mut self, id: u64, progress: Progress) {
        match self.position(id) {
            Ok(at) => self.members[at].1 = progress,
            Err(at) => self.members.insert(at, (id, progress)),
        }
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Progress> {
        self.position(id).ok().map(|at| self.members.remove(at).1)
    }

    /// Number of members tracked.
    pub const fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is tracked.
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The `at`th id, for loops that change progress on the way.
    pub(crate) fn id_at(&self, at: usize) -> u64 {
        self.members[at].0
    }

    /// Members in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Progress)> {
        self.members.iter().map(|(id, progress)| (*id, progress))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Progress)> {
        self.members.iter_mut().map(|(id, progress)| (*id, progress))
    }
}

impl fmt::Display for ProgressMap {
    /// One member a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(id, progress)| writeln!(f, "{id}: {progress}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// R3, R6: whatever happens to a follower, what is in flight adds up, and the next index is beyond the match.
    #[test]
    fn any_history_keeps_the_invariants() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed, 0);
            let count_max = 1 + rng.below(4) as usize;
            let mut progress = Progress::new(10, Inflights::new(count_max, 100), false);
            for _ in 0..100 {
                let near = u64::from(rng.below(8));
                match rng.below(7) {
                    0 => progress.become_probe(),
                    1 => progress.become_replicate(),
                    2 => progress.become_snapshot(progress.match_index + near),
                    3 if !progress.is_paused() && !progress.inflights.is_full() => {
                        progress.sent_entries(near as usize, u64::from(rng.below(80)));
                    }
                    4 => {
                        let acked = (progress.match_index + near).min(progress.next_index - 1);
                        progress.maybe_update(acked);
                        progress.inflights.free_le(acked);
                    }
                    _ => {
                        let rejected = (progress.next_index + near).saturating_sub(4);
                        progress.maybe_decrease_to(rejected, u64::from(rng.below(20)));
                    }
                }
                assert!(progress.next_index > progress.match_index, "seed {seed}: {progress}");
                let bytes: u64 = progress.inflights.sizes().sum();
                assert_eq!(progress.inflights.bytes(), bytes, "seed {seed}: {progress}");
            }
        }
    }
}
