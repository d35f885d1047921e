//! The configuration taking effect.

use super::Raft;
use crate::confchange::{Changer, ConfChangeError};
use crate::config::NONE;
use crate::logger::log_line;
use crate::pb::{ConfChangeV2, ConfState};
use crate::storage::Storage;
use crate::tracker::{Config, ProgressMap};

impl<S: Storage> Raft<S> {
    pub(crate) fn apply_conf_change(
        &mut self,
        change: &ConfChangeV2,
    ) -> Result<ConfState, ConfChangeError> {
        // No entry is handed out while a snapshot waits, so this one was handed out before and the snapshot has it.
        //
        // DIFF(etcd): there the change is made once more, on top of the snapshot's configuration.
        if self.log.has_next_or_in_progress_snapshot() {
            return Err(ConfChangeError::Superseded);
        }
        let changer = Changer { tracker: &self.trk, last_index: self.log.last_index() };
        let (config, progress) = changer.change(change)?;
        Ok(self.switch_to_config(config, progress))
    }

    /// Puts a configuration into force: after a change, a snapshot, or at start.
    pub(super) fn switch_to_config(&mut self, config: Config, progress: ProgressMap) -> ConfState {
        let id = self.config.id;
        self.trace_new_conf(&config);
        self.trk.config = config;
        self.trk.progress = progress;
        log_line!(self.logger, Info, "{id:x} switched to configuration {}", self.trk.config);
        let conf_state = self.trk.conf_state();
        let own = self.trk.progress.get(id);
        let is_member = own.is_some();
        self.is_learner = own.is_some_and(|progress| progress.is_learner);

        if !self.is_leader() {
            return conf_state;
        }
        if !is_member || self.is_learner {
            // It goes on leading until the change is known to be committed everywhere, unless asked otherwise.
            if self.config.step_down_on_removal {
                self.become_follower(self.term, NONE);
            }
            return conf_state;
        }
        if conf_state.voters.is_empty() {
            return conf_state;
        }
        if self.maybe_commit() {
            // A smaller quorum may have committed more.
            self.release_pending_reads();
            self.broadcast_append();
        } else {
            // New members need not wait for a heartbeat or a proposal.
            self.for_each_follower(|raft, to| {
                raft.maybe_send_append(to, false);
            });
        }
        self.abort_transfer_unless_voter();
        conf_state
    }
}
