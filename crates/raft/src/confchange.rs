//! Changes of the configuration: one voter at a time, or through a joint configuration (thesis §4).

use crate::pb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};
use crate::tracker::{Config, Progress, ProgressMap, ProgressTracker};

/// Why a change is refused. The configuration in force stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfChangeError {
    /// A joint configuration must be left before the next is entered.
    #[error("config is already joint")]
    AlreadyJoint,
    /// There is nobody to be joint with.
    #[error("can't make a zero-voter config joint")]
    ZeroVoterJoint,
    /// Only a joint configuration can be left.
    #[error("can't leave a non-joint config")]
    NotJoint,
    /// Within a joint configuration only leaving it is possible.
    #[error("can't apply simple config change in joint config")]
    SimpleInJoint,
    /// Two majorities could decide without overlapping.
    #[error("more than one voter changed without entering joint config")]
    MoreThanOneVoter,
    /// Nobody would be left to decide.
    #[error("removed all voters")]
    RemovedAllVoters,
    /// The change is part of a snapshot that this member has accepted since the entry was handed out, and that is
    /// not installed yet. The configuration in force is the snapshot's; the application's state is about to be.
    #[error("superseded by a snapshot that is being installed")]
    Superseded,
    /// A stored configuration contradicts itself.
    #[error("{0}")]
    Inconsistent(String),
}

type Changed = Result<(Config, ProgressMap), ConfChangeError>;

/// Computes the configuration after a change, without making it.
#[derive(Debug)]
pub struct Changer<'a> {
    /// The configuration to change.
    pub tracker: &'a ProgressTracker,
    /// Last index of the log; new members are probed from here.
    pub last_index: u64,
}

impl Changer<'_> {
    /// Applies a change as its transition asks.
    pub fn change(&self, change: &ConfChangeV2) -> Changed {
        if change.is_leave_joint() {
            self.leave_joint()
        } else if let Some(auto_leave) = change.enter_joint() {
            self.enter_joint(auto_leave, &change.changes)
        } else {
            self.simple(&change.changes)
        }
    }

    /// From `(1 2 3)` to `(changed)&&(1 2 3)`.
    pub fn enter_joint(&self, auto_leave: bool, changes: &[ConfChangeSingle]) -> Changed {
        let mut draft = self.draft()?;
        if draft.config.voters.is_joint() {
            return Err(ConfChangeError::AlreadyJoint);
        }
        if draft.config.voters.incoming.is_empty() {
            return Err(ConfChangeError::ZeroVoterJoint);
        }
        draft.config.voters.outgoing = draft.config.voters.incoming.clone();
        draft.apply(changes)?;
        draft.config.auto_leave = auto_leave;
        draft.finish()
    }

    /// From `(new)&&(old)` to `(new)`; learners held back by their old vote become learners.
    pub fn leave_joint(&self) -> Changed {
        let mut draft = self.draft()?;
        if !draft.config.voters.is_joint() {
            return Err(ConfChangeError::NotJoint);
        }
        for &id in std::mem::take(&mut draft.config.learners_next).ids() {
            draft.config.learners.insert(id);
            if let Some(progress) = draft.progress.get_mut(id) {
                progress.is_learner = true;
            }
        }
        for &id in std::mem::take(&mut draft.config.voters.outgoing).ids() {
            let stays = draft.config.voters.incoming.contains(id);
            if !stays && !draft.config.learners.contains(id) {
                draft.progress.remove(id);
            }
        }
        draft.config.auto_leave = false;
        draft.finish()
    }

    /// Changes that together add or remove at most one voter.
    pub fn simple(&self, changes: &[ConfChangeSingle]) -> Changed {
        let mut draft = self.draft()?;
        if draft.config.voters.is_joint() {
            return Err(ConfChangeError::SimpleInJoint);
        }
        draft.apply(changes)?;
        let before = &self.tracker.config.voters.incoming;
        let after = &draft.config.voters.incoming;
        let removed = before.ids().iter().filter(|&&id| !after.contains(id)).count();
        let added = after.ids().iter().filter(|&&id| !before.contains(id)).count();
        if removed + added > 1 {
            return Err(ConfChangeError::MoreThanOneVoter);
        }
        draft.finish()
    }

    fn draft(&self) -> Result<Draft<'_>, ConfChangeError> {
        check_invariants(&self.tracker.config, &self.tracker.progress)?;
        Ok(Draft {
            changer: self,
            config: self.tracker.config.clone(),
            progress: self.tracker.progress.clone(),
        })
    }
}

/// The configuration that a change leads to, while it is computed.
struct Draft<'a> {
    changer: &'a Changer<'a>,
    config: Config,
    progress: ProgressMap,
}

impl Draft<'_> {
    /// Voters change in the incoming half; the outgoing one keeps what it was.
    fn apply(&mut self, changes: &[ConfChangeSingle]) -> Result<(), ConfChangeError> {
        for change in changes {
            let id = change.node_id;
            // etcd's server zeroes the id of a change that it decides not to make.
            if id == 0 {
                continue;
            }
            match change.change_type {
                ConfChangeType::AddNode => self.make_voter(id),
                ConfChangeType::AddLearnerNode => self.make_learner(id),
                ConfChangeType::RemoveNode => {
                    self.remove(id);
                }
                ConfChangeType::UpdateNode => {}
            }
        }
        if self.config.voters.incoming.is_empty() {
            return Err(ConfChangeError::RemovedAllVoters);
        }
        Ok(())
    }

    fn make_voter(&mut self, id: u64) {
        let Some(progress) = self.progress.get_mut(id) else {
            self.config.voters.incoming.insert(id);
            return self.track(id, false);
        };
        progress.is_learner = false;
        self.config.learners.remove(id);
        self.config.learners_next.remove(id);
        self.config.voters.incoming.insert(id);
    }

    /// A voter of the outgoing half becomes a learner only when the joint configuration is left.
    fn make_learner(&mut self, id: u64) {
        let Some(progress) = self.progress.get(id) else {
            self.config.learners.insert(id);
            return self.track(id, true);
        };
        if progress.is_learner {
            return;
        }
        let removed = self.remove(id);
        if self.config.voters.outgoing.contains(id) {
            self.config.learners_next.insert(id);
        } else {
            self.config.learners.insert(id);
            if let Some(mut progress) = removed {
                progress.is_learner = true;
                self.progress.insert(id, progress);
            }
        }
    }

    /// Removes from the incoming half; returns the progress unless the outgoing half still needs it.
    fn remove(&mut self, id: u64) -> Option<Progress> {
        self.config.voters.incoming.remove(id);
        self.config.learners.remove(id);
        self.config.learners_next.remove(id);
        if self.config.voters.outgoing.contains(id) { None } else { self.progress.remove(id) }
    }

    fn track(&mut self, id: u64, is_learner: bool) {
        let next_index = self.changer.last_index.max(1);
        let inflights = self.changer.tracker.new_inflights();
        let mut progress = Progress::new(next_index, inflights, is_learner);
        // Or the check of the quorum could depose the leader before the new member had a chance to speak.
        progress.recent_active = true;
        self.progress.insert(id, progress);
    }

    fn finish(self) -> Changed {
        check_invariants(&self.config, &self.progress)?;
        Ok((self.config, self.progress))
    }
}

fn check_invariants(config: &Config, progress: &ProgressMap) -> Result<(), ConfChangeError> {
    let inconsistent = |text: String| Err(ConfChangeError::Inconsistent(text));
    let Config { voters, learners, learners_next, auto_leave } = config;
    for ids in [&voters.incoming, &voters.outgoing, learners, learners_next] {
        if let Some(id) = ids.ids().iter().find(|&&id| !progress.contains(id)) {
            return inconsistent(format!("no progress for {id}"));
        }
    }
    let is_learner = |id| progress.get(id).is_some_and(|progress| progress.is_learner);
    for &id in learners_next.ids() {
        if !voters.outgoing.contains(id) {
            return inconsistent(format!("{id} is in LearnersNext, but not Voters[1]"));
        }
        if is_learner(id) {
            return inconsistent(format!(
                "{id} is in LearnersNext, but is already marked as learner"
            ));
        }
    }
    for &id in learners.ids() {
        if voters.outgoing.contains(id) {
            return inconsistent(format!("{id} is in Learners and Voters[1]"));
        }
        if voters.incoming.contains(id) {
            return inconsistent(format!("{id} is in Learners and Voters[0]"));
        }
        if !is_learner(id) {
            return inconsistent(format!("{id} is in Learners, but is not marked as learner"));
        }
    }
    if !voters.is_joint() && *auto_leave {
        return inconsistent("AutoLeave must be false when not joint".to_owned());
    }
    Ok(())
}

/// Builds the configuration that `conf_state` describes, with the limits of `tracker`.
///
/// A joint one is built as it came to be: its outgoing half, then the step into the joint configuration. The
/// result differs from a `conf_state` that contradicts itself, which [`ConfState::is_equivalent`] tells.
pub fn restore(
    tracker: &ProgressTracker,
    last_index: u64,
    conf_state: &ConfState,
) -> Result<ProgressTracker, ConfChangeError> {
    let changes = |change_type, ids: &[u64]| -> Vec<ConfChangeSingle> {
        ids.iter().map(|&node_id| ConfChangeSingle { change_type, node_id }).collect()
    };
    let outgoing = &conf_state.voters_outgoing;
    let mut incoming = changes(ConfChangeType::RemoveNode, outgoing);
    incoming.extend(changes(ConfChangeType::AddNode, &conf_state.voters));
    incoming.extend(changes(ConfChangeType::AddLearnerNode, &conf_state.learners));
    incoming.extend(changes(ConfChangeType::AddLearnerNode, &conf_state.learners_next));

    let mut restored = tracker.cleared();
    let changer = Changer { tracker: &restored, last_index };
    let mut draft = changer.draft()?;
    if !outgoing.is_empty() {
        draft.apply(&changes(ConfChangeType::AddNode, outgoing))?;
        draft.config.voters.outgoing = draft.config.voters.incoming.clone();
        draft.config.auto_leave = conf_state.is_auto_leave();
    }
    if !incoming.is_empty() {
        draft.apply(&incoming)?;
    }
    let (config, progress) = draft.finish()?;
    restored.config = config;
    restored.progress = progress;
    Ok(restored)
}
