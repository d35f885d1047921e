//! Followers: taking entries and snapshots, passing requests on to the leader.

use super::{Raft, StateType};
use crate::config::{NONE, ReadOnlyOption};
use crate::error::Error;
use crate::log::EntryId;
use crate::logger::log_line;
use crate::pb::{Message, MessageType, Snapshot};
use crate::read_only::ReadState;
use crate::storage::Storage;

use super::election::Campaign;

impl<S: Storage> Raft<S> {
    pub(super) fn step_follower(&mut self, m: Message) -> Result<(), Error> {
        let (id, term) = (self.config.id, self.term);
        match m.msg_type {
            MessageType::Prop => return self.forward_proposal(m),
            MessageType::App => {
                self.heard_from_leader(m.from);
                self.handle_append(m);
            }
            MessageType::Heartbeat => {
                self.heard_from_leader(m.from);
                return self.handle_heartbeat(m);
            }
            MessageType::Snap => {
                self.heard_from_leader(m.from);
                return self.handle_snapshot(m);
            }
            MessageType::TransferLeader => {
                self.forward_to_leader(m, "leader transfer");
            }
            MessageType::ReadIndex => {
                self.forward_to_leader(m, "index reading");
            }
            MessageType::ForgetLeader => {
                if self.config.read_only_option == ReadOnlyOption::LeaseBased {
                    // the leader counts on this member not to vote before its lease ends
                    log_line!(
                        self.logger,
                        Error,
                        "ignoring MsgForgetLeader due to ReadOnlyLeaseBased"
                    );
                } else if self.lead != NONE {
                    log_line!(
                        self.logger,
                        Info,
                        "{id:x} forgetting leader {:x} at term {term}",
                        self.lead
                    );
                    self.lead = NONE;
                }
            }
            MessageType::TimeoutNow => {
                log_line!(
                    self.logger,
                    Info,
                    "{id:x} [term {term}] received MsgTimeoutNow from {:x} and starts an election to get leadership.",
                    m.from
                );
                // Without a pre-vote: this member was in touch with the leader a moment ago.
                self.hup(Campaign::Transfer);
            }
            MessageType::ReadIndexResp => match <[_; 1]>::try_from(m.entries) {
                Ok([entry]) => {
                    self.read_states.push(ReadState { index: m.index, request_ctx: entry.data })
                }
                Err(entries) => log_line!(
                    self.logger,
                    Error,
                    "{id:x} invalid format of MsgReadIndexResp from {:x}, entries count: {}",
                    m.from,
                    entries.len()
                ),
            },
            _ => {}
        }
        Ok(())
    }

    const fn heard_from_leader(&mut self, lead: u64) {
        self.timers.election_elapsed = 0;
        self.lead = lead;
    }

    fn forward_proposal(&mut self, mut m: Message) -> Result<(), Error> {
        let (id, term) = (self.config.id, self.term);
        if self.lead == NONE {
            log_line!(self.logger, Info, "{id:x} no leader at term {term}; dropping proposal");
            return Err(Error::ProposalDropped);
        }
        if self.config.disable_proposal_forwarding {
            log_line!(
                self.logger,
                Info,
                "{id:x} not forwarding to leader {:x} at term {term}; dropping proposal",
                self.lead
            );
            return Err(Error::ProposalDropped);
        }
        m.to = self.lead;
        m.term = 0;
        self.send(m);
        Ok(())
    }

    fn forward_to_leader(&mut self, mut m: Message, what: &str) {
        if self.lead == NONE {
            log_line!(
                self.logger,
                Info,
                "{:x} no leader at term {}; dropping {what} msg",
                self.config.id,
                self.term
            );
            return;
        }
        m.to = self.lead;
        m.term = 0;
        self.send(m);
    }

    fn handle_append(&mut self, m: Message) {
        let Message { from: to, index, log_term, .. } = m;
        let answer = Message { msg_type: MessageType::AppResp, to, ..Message::default() };
        // What is committed here matches; the leader may send what follows.
        if index < self.log.committed {
            return self.send(Message { index: self.log.committed, ..answer });
        }
        let prev = EntryId { term: log_term, index };
        if let Some(last) = self.log.maybe_append(prev, m.entries, m.commit, &mut self.logger) {
            return self.send(Message { index: last, ..answer });
        }
        log_line!(
            self.logger,
            Debug,
            "{:x} [logterm: {}, index: {index}] rejected MsgApp [logterm: {log_term}, index: {index}] from {to:x}",
            self.config.id,
            self.log.term_or_zero(index)
        );
        // Where the logs may match at the earliest, so that the leader need not try every index.
        let hint = index.min(self.log.last_index());
        let (reject_hint, log_term) = self.log.find_conflict_by_term(hint, log_term);
        self.send(Message { index, reject: true, reject_hint, log_term, ..answer });
    }

    fn handle_heartbeat(&mut self, m: Message) -> Result<(), Error> {
        let last_index = self.log.last_index();
        if m.commit > last_index {
            return Err(Error::LogLost { commit: m.commit, last_index });
        }
        self.log.commit_to(m.commit);
        self.send(Message {
            msg_type: MessageType::HeartbeatResp,
            to: m.from,
            context: m.context,
            ..Message::default()
        });
        Ok(())
    }

    fn handle_snapshot(&mut self, m: Message) -> Result<(), Error> {
        let (from, msg_type) = (m.from, m.msg_type);
        let snapshot = m.snapshot.map(|snapshot| *snapshot).unwrap_or_default();
        let (index, term) = (snapshot.metadata.index, snapshot.metadata.term);
        let restored = self.restore(snapshot).map_err(|reason| Error::InvalidMessage {
            msg_type,
            from,
            reason,
        })?;
        let verb = if restored { "restored" } else { "ignored" };
        log_line!(
            self.logger,
            Info,
            "{:x} [commit: {}] {verb} snapshot [index: {index}, term: {term}]",
            self.config.id,
            self.log.committed
        );
        let index = if restored { self.log.last_index() } else { self.log.committed };
        self.send(Message {
            msg_type: MessageType::AppResp,
            to: from,
            index,
            ..Message::default()
        });
        Ok(())
    }

    /// Starts over from a snapshot. False when there is nothing to gain from it, an error when it is impossible.
    fn restore(&mut self, snapshot: Snapshot) -> Result<bool, &'static str> {
        let id = self.config.id;
        let (index, term) = (snapshot.metadata.index, snapshot.metadata.term);
        if index <= self.log.committed {
            return Ok(false);
        }
        assert!(self.state == StateType::Follower, "{id:x} restores a snapshot as {}", self.state);
        let conf_state = &snapshot.metadata.conf_state;
        let lists = [&conf_state.voters, &conf_state.learners, &conf_state.voters_outgoing];
        if !lists.iter().any(|ids| ids.contains(&id)) {
            log_line!(
                self.logger,
                Warning,
                "{id:x} attempted to restore snapshot but it is not in the ConfState {conf_state}; should never happen"
            );
            return Ok(false);
        }
        if self.log.matches(EntryId { term, index }) {
            let last = self.log.last_entry_id();
            log_line!(
                self.logger,
                Info,
                "{id:x} [commit: {}, lastindex: {}, lastterm: {}] fast-forwarded commit to snapshot [index: {index}, term: {term}]",
                self.log.committed,
                last.index,
                last.term
            );
            self.log.commit_to(index);
            return Ok(false);
        }
        let restored = crate::confchange::restore(&self.trk, index, conf_state)
            .map_err(|_| "impossible configuration")?;
        if !restored.conf_state().is_equivalent(conf_state) {
            return Err("configuration contradicts itself");
        }
        self.log.restore(snapshot, &mut self.logger);
        self.trk = self.trk.cleared();
        self.switch_to_config(restored.config, restored.progress);
        let last = self.log.last_entry_id();
        log_line!(
            self.logger,
            Info,
            "{id:x} [commit: {}, lastindex: {}, lastterm: {}] restored snapshot [index: {index}, term: {term}]",
            self.log.committed,
            last.index,
            last.term
        );
        Ok(true)
    }
}
