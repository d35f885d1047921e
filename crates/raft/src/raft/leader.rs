//! Leaders: replication, commitment, reads and the transfer of leadership.

use super::{EntrySizes, Raft, StateType};
use crate::config::{NONE, ReadOnlyOption};
use crate::describe::describe_conf_change;
use crate::error::Error;
use crate::log::EntryId;
use crate::logger::log_line;
use crate::pb::{ConfChange, ConfChangeV2, Entry, EntryType, Message, MessageType};
use crate::read_only::ReadState;
use crate::storage::{Storage, StorageError};
use crate::trace::TraceEventType;
use crate::tracker::ProgressState;

impl<S: Storage> Raft<S> {
    pub(super) fn step_leader(&mut self, m: Message) -> Result<(), Error> {
        match m.msg_type {
            MessageType::Beat => self.broadcast_heartbeat(),
            MessageType::CheckQuorum => self.handle_check_quorum(),
            MessageType::Prop => return self.handle_proposal(m.entries),
            MessageType::ReadIndex => self.handle_read_index(m),
            MessageType::ForgetLeader => {}
            _ if mutant::mutant!("R24") && !self.trk.progress.contains(m.from) => {
                panic!("no progress of {:x}", m.from)
            }
            // the rest is about the sender's progress
            _ if !self.trk.progress.contains(m.from) => log_line!(
                self.logger,
                Debug,
                "{:x} no progress available for {:x}",
                self.config.id,
                m.from
            ),
            MessageType::AppResp => return self.handle_append_response(&m),
            MessageType::HeartbeatResp => return self.handle_heartbeat_response(&m),
            MessageType::SnapStatus => self.handle_snapshot_status(m.from, m.reject),
            MessageType::Unreachable => self.handle_unreachable(m.from),
            MessageType::TransferLeader => self.handle_transfer_leader(m.from),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn handle_check_quorum(&mut self) {
        let id = self.config.id;
        if !self.trk.quorum_active() {
            log_line!(
                self.logger,
                Warning,
                "{id:x} stepped down to follower since quorum is not active"
            );
            self.become_follower(self.term, NONE);
        }
        for (member, progress) in self.trk.progress.iter_mut() {
            progress.recent_active &= member == id || mutant::mutant!("R21");
        }
    }

    // ---- proposals ----

    pub(crate) fn handle_proposal(&mut self, mut entries: Vec<Entry>) -> Result<(), Error> {
        let id = self.config.id;
        // Removed while leading.
        if !self.trk.progress.contains(id) {
            return Err(Error::ProposalDropped);
        }
        if self.leadership.transferee != NONE {
            log_line!(
                self.logger,
                Debug,
                "{id:x} [term {}] transfer leadership to {:x} is in progress; dropping proposal",
                self.term,
                self.leadership.transferee
            );
            return Err(Error::ProposalDropped);
        }
        for (entry, index) in entries.iter_mut().zip(self.log.last_index() + 1..) {
            if entry.entry_type.is_conf_change() && !self.admit_conf_change(entry, index) {
                // DIFF(etcd): there this entry's type is encoded, as 0.
                *entry = Entry::default();
            }
        }
        if !self.append_entries(entries) {
            return Err(Error::ProposalDropped);
        }
        self.broadcast_append();
        Ok(())
    }

    /// Whether a configuration change may go into the log at `index`.
    ///
    /// A best effort: the configuration in force is that of the applied entries, which may trail. The one hard
    /// rule, one change at a time, is what `pending_conf_index` is for.
    fn admit_conf_change(&mut self, entry: &Entry, index: u64) -> bool {
        let change = decode_conf_change(entry).expect("validated before it is stepped");
        let pending = self.leadership.pending_conf_index;
        let is_joint = self.trk.config.voters.is_joint();
        let leaves_joint = change.changes.is_empty();
        let failed_check = if pending > self.log.applied {
            format!(
                "possible unapplied conf change at index {pending} (applied to {})",
                self.log.applied
            )
        } else if is_joint && !leaves_joint {
            "must transition out of joint config first".to_owned()
        } else if !is_joint && leaves_joint {
            "not in joint state; refusing empty conf change".to_owned()
        } else {
            String::new()
        };
        if !failed_check.is_empty() && !self.config.disable_conf_change_validation {
            log_line!(
                self.logger,
                Info,
                "{:x} ignoring conf change {} at config {}: {failed_check}",
                self.config.id,
                describe_conf_change(&change),
                self.trk.config
            );
            return false;
        }
        self.leadership.pending_conf_index = index;
        self.trace_change(&change);
        true
    }

    /// Appends to the leader's own log. False when too much is uncommitted already.
    pub(super) fn append_entries(&mut self, mut entries: Vec<Entry>) -> bool {
        let first = self.log.last_index() + 1;
        for (entry, index) in entries.iter_mut().zip(first..) {
            entry.term = self.term;
            entry.index = index;
        }
        if !self.add_uncommitted(EntrySizes::of(&entries).payload) {
            log_line!(
                self.logger,
                Warning,
                "{:x} appending new entries to log would exceed uncommitted entry size limit; dropping proposal",
                self.config.id
            );
            return false;
        }
        for _ in entries.iter().filter(|entry| entry.entry_type == EntryType::Normal) {
            self.trace(TraceEventType::Replicate);
        }
        let last = first + entries.len() as u64 - 1;
        self.log.append(entries, first, &mut self.logger);
        if mutant::mutant!("R13") {
            self.handle_append_ack(self.config.id, last);
        }
        // A leader sends itself no append, but its log counts for the quorum: once it is durable.
        self.send(Message {
            msg_type: MessageType::AppResp,
            to: self.config.id,
            index: last,
            ..Message::default()
        });
        true
    }

    /// Counts payload as uncommitted unless that exceeds the limit. The first proposal may be of any size, and
    /// empty ones always pass: a new leader's first entry and the one that leaves a joint configuration.
    fn add_uncommitted(&mut self, payload: u64) -> bool {
        let uncommitted = self.leadership.uncommitted_size;
        let sum = uncommitted.saturating_add(payload);
        if uncommitted > 0 && payload > 0 && sum > self.config.max_uncommitted_entries_size {
            return false;
        }
        self.leadership.uncommitted_size = sum;
        true
    }

    /// Proposes to leave a joint configuration that asked for it. A transfer of leadership may drop the proposal;
    /// it is tried again with each applied entry.
    pub(super) fn leave_joint_automatically(&mut self) {
        let leave = Entry { entry_type: EntryType::ConfChangeV2, ..Entry::default() };
        match self.handle_proposal(vec![leave]) {
            Ok(()) => log_line!(
                self.logger,
                Info,
                "initiating automatic transition out of joint configuration {}",
                self.trk.config
            ),
            Err(error) => log_line!(
                self.logger,
                Debug,
                "not initiating automatic transition out of joint configuration {}: {error}",
                self.trk.config
            ),
        }
    }

    // ---- replication ----

    pub(super) fn broadcast_append(&mut self) {
        self.for_each_follower(|raft, to| {
            raft.maybe_send_append(to, true);
        });
    }

    pub(super) fn for_each_follower(&mut self, mut f: impl FnMut(&mut Self, u64)) {
        for at in 0..self.trk.progress.len() {
            let to = self.trk.progress.id_at(at);
            if to != self.config.id {
                f(self, to);
            }
        }
    }

    /// Sends what `to` needs next. An append without entries carries just the commit index, and only when
    /// `send_if_empty`. Returns whether anything was sent.
    pub(super) fn maybe_send_append(&mut self, to: u64, send_if_empty: bool) -> bool {
        let Some(progress) = self.trk.progress.get_mut(to) else { return false };
        if progress.is_paused() {
            return false;
        }
        let index = progress.next_index - 1;
        let log_term = match self.log.term(index) {
            Ok(term) => term,
            Err(_) if mutant::mutant!("R1") && progress.state == ProgressState::Replicate => 0,
            Err(_) => return self.maybe_send_snapshot(to),
        };
        // With a full window only empty appends go out. One of them gets through at last and its answer frees
        // the window, even if all that is in it was lost.
        let throttled = progress.state == ProgressState::Replicate && progress.inflights.is_full();
        let entries = if throttled {
            Vec::new()
        } else {
            match self.log.entries(progress.next_index, self.config.max_size_per_msg) {
                Ok(entries) => entries,
                Err(_) => return self.maybe_send_snapshot(to),
            }
        };
        if entries.is_empty() && !send_if_empty {
            return false;
        }
        let commit = self.log.committed;
        progress.sent_entries(entries.len(), EntrySizes::of(&entries).payload);
        progress.sent_commit(commit);
        self.send(Message {
            msg_type: MessageType::App,
            to,
            index,
            log_term,
            entries,
            commit,
            ..Message::default()
        });
        true
    }

    fn maybe_send_snapshot(&mut self, to: u64) -> bool {
        let id = self.config.id;
        let Some(progress) = self.trk.progress.get_mut(to) else { return false };
        if !progress.recent_active {
            log_line!(
                self.logger,
                Debug,
                "ignore sending snapshot to {to:x} since it is not recently active"
            );
            return false;
        }
        let snapshot = match self.log.snapshot() {
            Ok(snapshot) => snapshot,
            Err(StorageError::SnapshotTemporarilyUnavailable) => {
                log_line!(
                    self.logger,
                    Debug,
                    "{id:x} failed to send snapshot to {to:x} because snapshot is temporarily unavailable"
                );
                return false;
            }
            Err(error) => panic!("storage failed to return a snapshot: {error}"),
        };
        assert!(!snapshot.is_empty(), "need non-empty snapshot");
        let (index, term) = (snapshot.metadata.index, snapshot.metadata.term);
        log_line!(
            self.logger,
            Debug,
            "{id:x} [firstindex: {}, commit: {}] sent snapshot[index: {index}, term: {term}] to {to:x} [{progress}]",
            self.log.first_index(),
            self.log.committed
        );
        progress.become_snapshot(index);
        log_line!(
            self.logger,
            Debug,
            "{id:x} paused sending replication messages to {to:x} [{progress}]"
        );
        self.send(Message {
            msg_type: MessageType::Snap,
            to,
            snapshot: Some(Box::new(snapshot)),
            ..Message::default()
        });
        true
    }

    pub(super) fn broadcast_heartbeat(&mut self) {
        let context = self.read_only.heartbeat_context();
        self.for_each_follower(|raft, to| {
            let Some(progress) = raft.trk.progress.get_mut(to) else { return };
            // The follower takes the commit index at its word, so it must not exceed what is known to match.
            let commit = progress.match_index.min(raft.log.committed);
            progress.sent_commit(commit);
            raft.send(Message {
                msg_type: MessageType::Heartbeat,
                to,
                commit,
                context: context.clone(),
                ..Message::default()
            });
        });
    }

    fn handle_append_response(&mut self, m: &Message) -> Result<(), Error> {
        let last = self.log.last_index();
        if !m.reject && m.index > last {
            return Err(Error::InvalidMessage {
                msg_type: m.msg_type,
                from: m.from,
                reason: "acknowledges entries beyond the log",
            });
        }
        if let Some(progress) = self.trk.progress.get_mut(m.from) {
            progress.recent_active = true;
        }
        if m.reject {
            self.handle_append_rejection(m);
        } else {
            self.handle_append_ack(m.from, m.index);
        }
        Ok(())
    }

    fn handle_append_rejection(&mut self, m: &Message) {
        let (id, from) = (self.config.id, m.from);
        log_line!(
            self.logger,
            Debug,
            "{id:x} received MsgAppResp(rejected, hint: (index {}, term {})) from {from:x} for index {}",
            m.reject_hint,
            m.log_term,
            m.index
        );
        // The follower's term at its hint rules out every index where this log has a higher term.
        let probe = if m.log_term > 0 {
            self.log.find_conflict_by_term(m.reject_hint, m.log_term).0
        } else {
            m.reject_hint
        };
        let Some(progress) = self.trk.progress.get_mut(from) else { return };
        if progress.maybe_decrease_to(m.index, probe) {
            log_line!(self.logger, Debug, "{id:x} decreased progress of {from:x} to [{progress}]");
            if progress.state == ProgressState::Replicate {
                progress.become_probe();
            }
            self.maybe_send_append(from, true);
        }
    }

    /// The log of `from` matches this one up to `index`. Also called for the leader itself.
    fn handle_append_ack(&mut self, from: u64, index: u64) {
        let id = self.config.id;
        let Some(progress) = self.trk.progress.get_mut(from) else { return };
        // A repeated acknowledgement is news while probing: it ends the probe.
        let ends_probe = progress.match_index == index && progress.state == ProgressState::Probe;
        if !progress.maybe_update(index) && !ends_probe {
            return;
        }
        match progress.state {
            ProgressState::Probe => progress.become_replicate(),
            // Whichever snapshot it has applied, from whomever: the log here continues it.
            ProgressState::Snapshot
                if progress.match_index + 1 >= self.log.first_index()
                    && !(mutant::mutant!("R17")
                        && progress.match_index < progress.pending_snapshot) =>
            {
                log_line!(
                    self.logger,
                    Debug,
                    "{id:x} recovered from needing snapshot, resumed sending replication messages to {from:x} [{progress}]"
                );
                // by way of a probe, which takes the snapshot into account
                progress.become_probe();
                progress.become_replicate();
            }
            ProgressState::Snapshot => {}
            ProgressState::Replicate => progress.inflights.free_le(index),
        }
        let match_index = progress.match_index;
        let can_bump_commit = progress.can_bump_commit(self.log.committed);

        if self.maybe_commit() {
            self.release_pending_reads();
            self.broadcast_append();
        } else if from != id && can_bump_commit {
            // The next heartbeat would tell it too, but later.
            self.maybe_send_append(from, true);
        }
        if from != id {
            // The window has room again, perhaps for several messages.
            while self.maybe_send_append(from, false) {}
        }
        if from == self.leadership.transferee && match_index == self.log.last_index() {
            log_line!(
                self.logger,
                Info,
                "{id:x} sent MsgTimeoutNow to {from:x} after received MsgAppResp"
            );
            self.send_timeout_now(from);
        }
    }

    /// Commits what a quorum has. Returns whether the commit index moved.
    pub(super) fn maybe_commit(&mut self) -> bool {
        let at = EntryId { term: self.term, index: self.trk.committed() };
        let is_news = self.log.maybe_commit(at);
        self.trace(TraceEventType::Commit);
        is_news
    }

    fn handle_heartbeat_response(&mut self, m: &Message) -> Result<(), Error> {
        let count = self.read_count(m)?;
        let last = self.log.last_index();
        let Some(progress) = self.trk.progress.get_mut(m.from) else { return Ok(()) };
        progress.recent_active = true;
        progress.msg_app_flow_paused = false;
        // It may have missed appends. While probing, even an empty append is needed to end the probe.
        if progress.match_index < last || progress.state == ProgressState::Probe {
            self.maybe_send_append(m.from, true);
        }
        if let Some(count) = count {
            self.read_only.receive_ack(m.from, count);
            for (request, index) in self.read_only.advance(&self.trk.config.voters) {
                self.answer_read(request, index);
            }
        }
        Ok(())
    }

    fn handle_snapshot_status(&mut self, from: u64, failed: bool) {
        let Some(progress) = self.trk.progress.get_mut(from) else { return };
        if progress.state != ProgressState::Snapshot {
            return;
        }
        let outcome = if failed {
            // not applied, so the probe starts from the match
            progress.pending_snapshot = 0;
            "failed"
        } else {
            "succeeded"
        };
        progress.become_probe();
        log_line!(
            self.logger,
            Debug,
            "{:x} snapshot {outcome}, resumed sending replication messages to {from:x} [{progress}]",
            self.config.id
        );
        // After success the follower's own answer is awaited, after failure a heartbeat interval.
        progress.msg_app_flow_paused = true;
    }

    fn handle_unreachable(&mut self, from: u64) {
        let Some(progress) = self.trk.progress.get_mut(from) else { return };
        // Appends sent ahead are likely lost.
        if progress.state == ProgressState::Replicate {
            progress.become_probe();
        }
        log_line!(
            self.logger,
            Debug,
            "{:x} failed to send message to {from:x} because it is unreachable [{progress}]",
            self.config.id
        );
    }

    // ---- transfer of leadership: thesis §3.10 ----

    fn handle_transfer_leader(&mut self, to: u64) {
        let (id, term) = (self.config.id, self.term);
        let Some(progress) = self.trk.progress.get(to) else { return };
        if progress.is_learner && !mutant::mutant!("R26-learner") {
            log_line!(self.logger, Debug, "{id:x} is learner. Ignored transferring leadership");
            return;
        }
        let is_up_to_date = progress.match_index == self.log.last_index();
        let previous = self.leadership.transferee;
        if previous == to {
            log_line!(
                self.logger,
                Info,
                "{id:x} [term {term}] transfer leadership to {to:x} is in progress, ignores request to same node {to:x}"
            );
            return;
        }
        if previous != NONE {
            self.leadership.transferee = NONE;
            log_line!(
                self.logger,
                Info,
                "{id:x} [term {term}] abort previous transferring leadership to {previous:x}"
            );
        }
        if to == id {
            log_line!(
                self.logger,
                Debug,
                "{id:x} is already leader. Ignored transferring leadership to self"
            );
            return;
        }
        log_line!(
            self.logger,
            Info,
            "{id:x} [term {term}] starts to transfer leadership to {to:x}"
        );
        // It has one election timeout to succeed.
        self.timers.election_elapsed = 0;
        self.leadership.transferee = to;
        if is_up_to_date {
            self.send_timeout_now(to);
            log_line!(
                self.logger,
                Info,
                "{id:x} sends MsgTimeoutNow to {to:x} immediately as {to:x} already has up-to-date log"
            );
        } else {
            self.maybe_send_append(to, true);
        }
    }

    fn send_timeout_now(&mut self, to: u64) {
        self.send(Message { msg_type: MessageType::TimeoutNow, to, ..Message::default() });
    }

    // ---- reads: thesis §6.4 ----

    fn handle_read_index(&mut self, m: Message) {
        // Before it has committed in its term, a leader does not know what its predecessors had committed.
        //
        // DIFF(etcd): a single voter waits too. Right after a restart its commit index is the one it had saved,
        // which may be behind what it had acknowledged.
        if !self.has_committed_in_term() {
            if !mutant::mutant!("R20") {
                self.pending_read_index.push(m);
            }
        } else {
            self.confirm_read(m);
        }
    }

    pub(super) fn release_pending_reads(&mut self) {
        if self.pending_read_index.is_empty() || !self.has_committed_in_term() {
            return;
        }
        for m in std::mem::take(&mut self.pending_read_index) {
            self.confirm_read(m);
        }
    }

    fn has_committed_in_term(&self) -> bool {
        mutant::mutant!("7331") || self.log.term_or_zero(self.log.committed) == self.term
    }

    fn confirm_read(&mut self, m: Message) {
        let commit = self.log.committed;
        // DIFF(etcd): there it need not be this member, and a leader that has been removed answers with an index that
        // the one voter has long passed.
        if self.trk.is_singleton() && self.trk.config.voters.contains(self.config.id) {
            return self.answer_read(m, commit);
        }
        match self.read_only.option {
            ReadOnlyOption::Safe => {
                self.read_only.add_request(commit, m);
                let accepted = self.read_only.accepted();
                self.read_only.receive_ack(self.config.id, accepted);
                self.broadcast_heartbeat();
            }
            ReadOnlyOption::LeaseBased => self.answer_read(m, commit),
        }
    }

    fn answer_read(&mut self, m: Message, index: u64) {
        let is_lost = mutant::mutant!("R10") && self.trk.is_singleton();
        if m.from != NONE && m.from != self.config.id && !is_lost {
            return self.send(Message {
                msg_type: MessageType::ReadIndexResp,
                to: m.from,
                index,
                entries: m.entries,
                ..Message::default()
            });
        }
        if let Some(entry) = m.entries.into_iter().next() {
            self.read_states.push(ReadState { index, request_ctx: entry.data });
        }
    }

    /// The count of reads that an answer to a heartbeat echoes.
    fn read_count(&self, m: &Message) -> Result<Option<u64>, Error> {
        if self.read_only.option != ReadOnlyOption::Safe || m.context.is_empty() {
            return Ok(None);
        }
        let count = <[u8; 8]>::try_from(&m.context[..]).map(u64::from_le_bytes);
        match count {
            Ok(count) if count <= self.read_only.accepted() => Ok(Some(count)),
            _ => Err(Error::InvalidMessage {
                msg_type: m.msg_type,
                from: m.from,
                reason: "echoes a read that was not asked for",
            }),
        }
    }

    pub(super) fn abort_transfer_unless_voter(&mut self) {
        if !self.trk.config.voters.contains(self.leadership.transferee)
            && !mutant::mutant!("R26-removed")
        {
            self.leadership.transferee = NONE;
        }
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.state == StateType::Leader
    }
}

/// The change in an entry of either format.
pub(super) fn decode_conf_change(entry: &Entry) -> Option<ConfChangeV2> {
    match entry.entry_type {
        EntryType::Normal => None,
        EntryType::ConfChange => {
            ConfChange::decode(entry.data.clone()).ok().map(|change| change.to_v2())
        }
        EntryType::ConfChangeV2 => ConfChangeV2::decode(entry.data.clone()).ok(),
    }
}
