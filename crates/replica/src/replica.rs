//! Raft's owner: what raft asks for becomes effects, what was done comes back as events.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use mutant::mutant;
use raft::{
    ConfState, Config, Entry, HardState, LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, MemoryStorage,
    Message, MessageType, RawNode, Snapshot, Storage,
};

use crate::message::{ConfProposal, Effect, Event, Persist, Proposal};
use crate::reads::Reads;
use crate::writes::Writes;

/// The most proposals that wait for a leader; more are refused.
pub const HELD_PROPOSALS_MAX: usize = 4096;

/// The same for changes of the members, of which one can be under way at a time.
const HELD_CHANGES_MAX: usize = 64;

/// The largest message to a peer, as in etcd.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// The most appends on their way to a follower without an acknowledgement, as in etcd.
pub const INFLIGHT_MESSAGES_MAX: usize = 512;

/// The most bytes of committed entries that apply is given before it has acknowledged any.
const COMMITTED_BYTES_MAX: u64 = 16 << 20;

/// The most bytes of proposals that are not committed yet, as in etcd.
const UNCOMMITTED_BYTES_MAX: u64 = 1 << 30;

/// The part of the leader's log that a learner must have to get its vote, as in etcd.
const READY_LEARNER: f64 = 0.9;

/// How many ticks a voter tries to lead at once when the leader is gone, before the next one may.
const CANDIDACY_TICKS: u32 = 2;

/// How a [`Replica`] behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The member's id.
    pub id: u64,
    /// Ticks in an election timeout.
    pub election_ticks: u32,
    /// Ask before an election whether it can be won.
    pub pre_vote: bool,
    /// Entries kept in memory behind a snapshot for slow followers.
    pub catchup_entries: u64,
    /// Appends that may be on their way to a follower without an acknowledgement.
    pub inflight_messages_max: usize,
    /// Ticks that a change of the members waits for a leader: as long as its proposer waits for it.
    pub change_ticks: u32,
    /// Seed of the randomized election timeouts, and where the contexts of reads begin: no two
    /// starts of a member may have seeds that are closer than the reads that it answers in between.
    /// Nanoseconds since the epoch will do.
    pub seed: u64,
    /// Raft's own lines to hand out as [`Effect::Log`]; `None` for none.
    pub log_level: Option<raft::Level>,
}

/// What a member starts with.
#[derive(Clone, Debug)]
pub enum Boot {
    /// A founding member of a new cluster, with all founding members in ascending order of id.
    New(Vec<raft::Peer>),
    /// A new member of a running cluster, whose leader will send it the log.
    Join,
    /// A member that has a log.
    Restart {
        /// The last hard state in the log.
        hard_state: HardState,
        /// Index and term of the entry before the first of `entries`, which a snapshot stands for.
        before_first: (u64, u64),
        /// The entries behind it, without gaps.
        entries: Vec<Entry>,
        /// The configuration as of `applied`.
        conf_state: ConfState,
        /// The last entry that the backend has on disk.
        applied: u64,
    },
}

/// Why there is no replica.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The parameters contradict each other.
    #[error(transparent)]
    Config(#[from] raft::ConfigError),
    /// The founding members do.
    #[error(transparent)]
    Bootstrap(#[from] raft::BootstrapError),
    /// What was read from disk does.
    #[error(transparent)]
    Storage(#[from] raft::StorageError),
    /// The backend has applied entries that the log does not hold.
    #[error("the backend has applied index {applied}, but the log ends at {last}")]
    LogBehindBackend {
        /// The backend's consistent index.
        applied: u64,
        /// The last index of the log.
        last: u64,
    },
    /// Entries between the newest snapshot and the backend's state are missing.
    #[error("the backend has applied index {applied}, but the log begins after {first}")]
    BackendBehindLog {
        /// The backend's consistent index.
        applied: u64,
        /// The index before the log's first entry.
        first: u64,
    },
}

/// One member of a cluster.
#[derive(Debug)]
pub struct Replica {
    node: RawNode<MemoryStorage>,
    options: Options,
    /// Proposals that raft would not take: there is no leader, or too much is uncommitted.
    held: VecDeque<Proposal>,
    /// The same for changes of the members, with the ticks that they may still wait.
    held_changes: VecDeque<(u32, raft::ConfChange)>,
    reads: Reads,
    writes: Writes,
    /// Acknowledgements to raft, by the index that they wait for. Invariant: ascending.
    applying: VecDeque<(u64, Message)>,
    /// Term of the append, term and index of the entry, of the last acknowledgement of the disk.
    acknowledged: (u64, u64, u64),
    applied: u64,
    /// Index of the last snapshot that apply was told to install.
    installed: u64,
    /// Snapshots on their way to others: the log is not cut meanwhile, lest they be late on arrival.
    snapshots_in_flight: usize,
    role: (u64, u64),
    committed: u64,
    /// The ticks after which to try to lead, since the leader is gone.
    candidacy: Option<Range<u32>>,
    is_stopping: bool,
}

impl Replica {
    /// A replica, and the effects of its start.
    ///
    /// # Errors
    /// If what it starts with contradicts itself.
    pub fn new(options: Options, boot: Boot) -> Result<Self, BootError> {
        let mut storage = MemoryStorage::new();
        let mut applied = 0;
        let mut founders = None;
        match boot {
            Boot::New(peers) => founders = Some(peers),
            Boot::Join => {}
            Boot::Restart { hard_state, before_first, entries, conf_state, applied: index } => {
                applied = index;
                restore(&mut storage, hard_state, before_first, &entries, conf_state, index)?;
            }
        }
        let config = Config {
            election_tick: options.election_ticks,
            applied,
            async_storage_writes: true,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            max_uncommitted_entries_size: UNCOMMITTED_BYTES_MAX,
            max_inflight_msgs: options.inflight_messages_max,
            check_quorum: true,
            pre_vote: options.pre_vote,
            seed: options.seed,
            log_level: options.log_level,
            ..Config::new(options.id)
        };
        let mut node = RawNode::new(config, storage)?;
        if let Some(peers) = founders {
            node.bootstrap(&peers)?;
        }
        let mut replica = Self {
            reads: Reads::new(options.id, options.seed, options.election_ticks / 2),
            writes: Writes::default(),
            options,
            node,
            held: VecDeque::new(),
            held_changes: VecDeque::new(),
            applying: VecDeque::new(),
            acknowledged: (0, 0, 0),
            applied,
            installed: 0,
            snapshots_in_flight: 0,
            role: (0, 0),
            committed: 0,
            candidacy: None,
            is_stopping: false,
        };
        replica.campaign_alone();
        Ok(replica)
    }

    /// The last committed index.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// How many proposals wait for raft to take them.
    #[must_use]
    pub fn held_proposals(&self) -> usize {
        self.held.len()
    }

    /// The ids of voters and of learners, ascending, as raft counts them.
    #[must_use]
    pub fn configuration(&self) -> (Vec<u64>, Vec<u64>) {
        let (mut voters, mut learners) = (Vec::new(), Vec::new());
        self.node.with_progress(|id, progress| {
            if progress.is_learner { &mut learners } else { &mut voters }.push(id);
        });
        voters.sort_unstable();
        learners.sort_unstable();
        (voters, learners)
    }

    /// Role, log and followers in words, for a person who looks for a mistake.
    #[must_use]
    pub fn describe(&self) -> String {
        let status = self.node.basic_status();
        let mut text = format!(
            "{:?} commit {} applied {} log {}..={}",
            status.soft_state.raft_state,
            status.hard_state.commit,
            self.applied,
            self.node.storage().first_index(),
            self.node.storage().last_index()
        );
        self.node.with_progress(|id, progress| {
            text.push_str(&format!(
                " [{id:x} {:?} match {} next {} pending {}]",
                progress.state,
                progress.match_index,
                progress.next_index,
                progress.pending_snapshot
            ));
        });
        text
    }

    /// Handles one event. Effects appear when [`Replica::flush`] is called, so that the events of
    /// one wake-up share an append and a sync.
    pub fn handle(&mut self, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Tick => {
                self.tick(out);
                self.reads.tick();
                self.try_to_lead();
            }
            Event::Propose(proposals) => self.hold(proposals, out),
            Event::Read { id } => self.reads.ask(id),
            Event::ProposeAsLeader { term, data } => self.propose_as_leader(term, data),
            Event::ProposeConfChange(proposal) => self.propose_conf_change(proposal, out),
            Event::Persisted(responses) => self.persisted(responses, out),
            Event::Applied { index, conf_changes, snapshot } => {
                self.applied_to(index, &conf_changes, snapshot, out);
            }
            Event::Peer(message) => {
                // Another message that no honest peer sends is refused by raft and has no effect.
                if let Err(err @ raft::Error::LogLost { .. }) = self.node.step(message) {
                    out.push(Effect::Fatal(err));
                }
            }
            Event::Unreachable(id) => self.node.report_unreachable(id),
            Event::Gone(id) => self.gone(id),
            Event::SnapshotSent { to, status } => {
                self.snapshots_in_flight = self.snapshots_in_flight.saturating_sub(1);
                self.node.report_snapshot(to, status);
            }
            Event::TransferLeader(id) => self.node.transfer_leader(id),
            Event::Stop => {
                self.is_stopping = true;
                let held = self.held.drain(..).map(|proposal| proposal.id);
                let changes = self.held_changes.drain(..).map(|(_, change)| change.id);
                refuse(held.chain(changes).collect(), api::Error::Stopped, out);
                self.hand_over();
            }
        }
    }

    fn tick(&mut self, out: &mut Vec<Effect>) {
        self.writes.tick();
        self.held_changes.retain_mut(|(ticks, _)| {
            *ticks = ticks.saturating_sub(1);
            *ticks > 0
        });
        let status = self.node.basic_status();
        if !self.is_stalled() {
            self.node.tick();
        } else if status.soft_state.lead == status.id {
            self.node.tick();
            self.give_way(out);
        } else {
            // Time goes on, but this member would be late to vote for itself.
            self.node.tick_quiesced();
        }
    }

    /// Who has not stored anything for an election timeout should not lead.
    fn is_stalled(&self) -> bool {
        self.writes.oldest() >= u64::from(self.options.election_ticks)
    }

    /// Hands leadership over if the others have committed without this member's disk, and so could go on without it. A
    /// leader applies, and answers for, only what it has stored itself.
    // DIFF(etcd): there it leads on, and nobody is answered.
    fn give_way(&mut self, out: &mut Vec<Effect>) {
        let status = self.node.basic_status();
        let mut stored = u64::MAX;
        self.node.with_progress(|id, progress| {
            if id == status.id {
                stored = progress.match_index;
            }
        });
        if status.hard_state.commit <= stored || status.lead_transferee != 0 {
            return;
        }
        let Some(successor) = self.successor() else { return };
        let text = format!(
            "{:x} has stored nothing for {} ticks while the others have committed; its disk has stalled, and {successor:x} is to lead",
            status.id,
            self.writes.oldest()
        );
        out.push(Effect::Log(vec![raft::LogLine { level: raft::Level::Warning, text }]));
        self.node.transfer_leader(successor);
    }

    /// The voters that are left try in the order of their ids, each for some ticks: those who try at
    /// once would split the votes, and those who have not noticed yet don't give theirs.
    fn gone(&mut self, id: u64) {
        let status = self.node.basic_status();
        if status.soft_state.lead != id || id == status.id || !self.options.pre_vote {
            return;
        }
        let (mut is_voter, mut before) = (false, 0);
        self.node.with_progress(|other, progress| {
            if progress.is_learner || other == id {
                return;
            }
            is_voter |= other == status.id;
            before += u32::from(other < status.id);
        });
        // It is not the leader, and only the leader can't forget.
        let _ = self.node.forget_leader();
        if is_voter {
            let first = before * CANDIDACY_TICKS;
            self.candidacy = Some(first..first + CANDIDACY_TICKS);
            self.try_to_lead();
        }
    }

    fn try_to_lead(&mut self) {
        let Some(candidacy) = &mut self.candidacy else { return };
        let is_over = candidacy.end == 0 || self.node.basic_status().soft_state.lead != 0;
        if is_over {
            self.candidacy = None;
            return;
        }
        let is_due = candidacy.start == 0;
        *candidacy = candidacy.start.saturating_sub(1)..candidacy.end - 1;
        if is_due && !self.is_stalled() {
            // Who may not lead now is told so by raft.
            let _ = self.node.campaign();
        }
    }

    /// After [`Event::Stop`]: whether this member still leads and another could.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        self.is_stopping && self.successor().is_some()
    }

    /// The voter that could lead soonest: heard of lately, and with the most of the log.
    fn successor(&self) -> Option<u64> {
        let status = self.node.basic_status();
        if status.soft_state.lead != status.id {
            return None;
        }
        let mut best = None;
        self.node.with_progress(|id, progress| {
            let able = id != status.id && !progress.is_learner && progress.recent_active;
            let candidate = (progress.match_index, std::cmp::Reverse(id));
            if able && best.is_none_or(|best| candidate > best) {
                best = Some(candidate);
            }
        });
        best.map(|(_, std::cmp::Reverse(id))| id)
    }

    fn hand_over(&mut self) {
        if let Some(successor) = self.successor() {
            self.node.transfer_leader(successor);
        }
    }

    fn propose_as_leader(&mut self, term: u64, data: Vec<Bytes>) {
        let status = self.node.basic_status();
        let leads = status.soft_state.lead == status.id && status.hard_state.term == term;
        if leads || mutant!("12528") {
            let entries = data.into_iter().map(|data| Entry { data, ..Entry::default() }).collect();
            // Who asked asks again while it matters.
            let _ = self.node.propose_entries(entries);
        }
    }

    /// As other proposals, it waits for a leader. A promotion does not, since only the leader knows who is ready.
    fn propose_conf_change(&mut self, proposal: ConfProposal, out: &mut Vec<Effect>) {
        let id = proposal.change.id;
        let refusal = if self.is_stopping {
            Some(api::Error::Stopped)
        } else if proposal.needs_ready_learner {
            self.promote(&proposal.change)
        } else if self.held_changes.len() >= HELD_CHANGES_MAX {
            Some(api::Error::TooManyRequests)
        } else {
            self.held_changes.push_back((self.options.change_ticks, proposal.change));
            None
        };
        if let Some(refusal) = refusal {
            refuse(vec![id], refusal, out);
        }
    }

    /// Why it was not proposed.
    fn promote(&mut self, change: &raft::ConfChange) -> Option<api::Error> {
        if self.node.basic_status().soft_state.lead == 0 {
            return Some(api::Error::NoLeader);
        }
        self.refuse_promotion(change.node_id).or_else(|| {
            // Too much is uncommitted, or leadership is being handed over.
            self.node.propose_conf_change(change).err().map(|_| api::Error::NoLeader)
        })
    }

    /// A leader turns down changes until it has applied what was in its log when it was elected.
    fn propose_held_changes(&mut self) {
        let is_settled = self.node.storage().term(self.applied).is_ok_and(|it| it == self.role.0);
        while let Some((_, change)) = self.held_changes.front()
            && self.role.1 != 0
            && is_settled
            && self.node.propose_conf_change(change).is_ok()
        {
            self.held_changes.pop_front();
        }
    }

    /// A learner gets its vote when it has nine tenths of the leader's log, as in etcd.
    fn refuse_promotion(&self, learner: u64) -> Option<api::Error> {
        let status = self.node.basic_status();
        if status.soft_state.lead != status.id {
            return Some(api::Error::NotLeader);
        }
        let (mut own, mut found) = (0, None);
        self.node.with_progress(|id, progress| {
            if id == status.id {
                own = progress.match_index;
            }
            if id == learner {
                found = Some((progress.match_index, progress.is_learner));
            }
        });
        match found {
            None => Some(api::Error::MemberNotFound),
            Some((_, false)) => Some(api::Error::MemberNotLearner),
            Some((at, true)) if (at as f64) < own as f64 * READY_LEARNER => {
                Some(api::Error::LearnerNotReady)
            }
            Some(_) => None,
        }
    }

    fn persisted(&mut self, responses: Vec<Message>, out: &mut Vec<Effect>) {
        self.writes.end(responses.len());
        for response in responses {
            if response.to != self.options.id {
                out.push(Effect::Send(response));
                continue;
            }
            if !self.is_news(&response) {
                continue;
            }
            if let Some(snapshot) = &response.snapshot {
                // Only now would a restart find it.
                self.installed = snapshot.metadata.index;
                out.push(Effect::Install((**snapshot).clone()));
            }
            // A response to an append that another leader has replaced is no error.
            let _ = self.node.step_local(response);
        }
    }

    /// Every append names the last entry of the log, so that appends which overlap on their way to
    /// the disk name the same one: once is enough.
    fn is_news(&mut self, response: &Message) -> bool {
        if response.msg_type != MessageType::StorageAppendResp || response.snapshot.is_some() {
            return true;
        }
        let acknowledged = (response.term, response.log_term, response.index);
        let before = std::mem::replace(&mut self.acknowledged, acknowledged);
        before != acknowledged
    }

    /// Turns everything that the events since the last call brought about into effects.
    pub fn flush(&mut self, out: &mut Vec<Effect>) {
        self.propose_held();
        self.propose_held_changes();
        self.issue_reads();
        while self.node.has_ready() {
            let ready = self.node.ready();
            for state in ready.read_states {
                self.reads.confirmed(&state.request_ctx, state.index);
            }
            if let Some(hard_state) = ready.hard_state {
                self.committed = hard_state.commit;
            }
            for message in ready.messages {
                self.route(message, out);
            }
            self.note_role(out);
        }
        let ready = self.reads.take_ready(self.applied);
        if !ready.is_empty() {
            out.push(Effect::ReadReady(ready));
        }
        let lines = self.node.take_log_lines();
        if !lines.is_empty() {
            out.push(Effect::Log(lines));
        }
    }

    fn hold(&mut self, proposals: Vec<Proposal>, out: &mut Vec<Effect>) {
        if self.is_stopping {
            let ids = proposals.into_iter().map(|proposal| proposal.id).collect();
            refuse(ids, api::Error::Stopped, out);
            return;
        }
        let has_leader = self.role.1 != 0;
        if !has_leader && self.held.len() + proposals.len() > HELD_PROPOSALS_MAX {
            let ids = proposals.into_iter().map(|proposal| proposal.id).collect();
            refuse(ids, api::Error::TooManyRequests, out);
            return;
        }
        self.held.extend(proposals);
    }

    /// Hands everything held to raft as one message: appended together, or kept for another try.
    fn propose_held(&mut self) {
        if self.held.is_empty() || self.role.1 == 0 {
            return;
        }
        let entries = self
            .held
            .iter()
            .map(|proposal| Entry { data: proposal.data.clone(), ..Entry::default() })
            .collect();
        if self.node.propose_entries(entries).is_ok() {
            self.held.clear();
        }
    }

    /// One read index stands for all reads that came since the last one.
    fn issue_reads(&mut self) {
        if self.role.1 == 0 {
            return;
        }
        if let Some(context) = self.reads.issue() {
            self.node.read_index(Bytes::copy_from_slice(&context));
        }
    }

    fn route(&mut self, message: Message, out: &mut Vec<Effect>) {
        match message.to {
            LOCAL_APPEND_THREAD => self.persist(message, out),
            LOCAL_APPLY_THREAD => {
                let last = message.entries.last().expect("an apply message has entries").index;
                assert!(
                    self.applying.back().is_none_or(|&(index, _)| index < last),
                    "entries are handed to apply in order"
                );
                for response in message.responses {
                    self.applying.push_back((last, response));
                }
                out.push(Effect::Apply(message.entries));
            }
            _ if message.msg_type == MessageType::Snap => {
                self.snapshots_in_flight += 1;
                out.push(Effect::SendSnapshot(message));
            }
            _ => out.push(Effect::Send(message)),
        }
    }

    fn persist(&mut self, message: Message, out: &mut Vec<Effect>) {
        // The entries may be read from here on; they are durable only when the responses are back,
        // and raft counts them no earlier.
        let snapshot = message.snapshot.map(|snapshot| *snapshot);
        if let Some(snapshot) = snapshot.clone()
            && let Err(err) = self.node.storage_mut().apply_snapshot(snapshot)
        {
            panic!("raft took a snapshot that the log is ahead of: {err}");
        }
        self.node.storage_mut().append(&message.entries);
        let hard_state =
            HardState { term: message.term, vote: message.vote, commit: message.commit };
        let hard_state = Some(hard_state).filter(|state| !state.is_empty());
        let stored = self.node.storage().initial_state().map(|(state, _)| state);
        let before = stored.unwrap_or_default();
        let elects =
            hard_state.is_some_and(|state| state.term != before.term || state.vote != before.vote);
        if let Some(state) = hard_state {
            self.node.storage_mut().set_hard_state(state);
        }
        self.writes.begin(message.responses.len());
        out.push(Effect::Persist(Persist {
            must_sync: (elects && !mutant!("R19"))
                || !message.entries.is_empty()
                || snapshot.is_some(),
            snapshot,
            hard_state,
            entries: message.entries,
            responses: message.responses,
        }));
    }

    fn applied_to(
        &mut self,
        index: u64,
        conf_changes: &[(u64, raft::ConfChangeV2)],
        snapshot: Option<Snapshot>,
        out: &mut Vec<Effect>,
    ) {
        for (at, change) in conf_changes {
            if *at <= self.installed && !mutant!("overtaken-change") {
                // The snapshot's configuration, which is in force, has it.
                continue;
            }
            match self.node.apply_conf_change(change) {
                Ok(_) | Err(raft::ConfChangeError::Superseded) => {}
                Err(err) => panic!("a committed configuration change is impossible: {err}"),
            }
        }
        self.applied = index;
        while self.applying.front().is_some_and(|&(last, _)| last <= index) {
            let (_, response) = self.applying.pop_front().expect("looked at above");
            let _ = self.node.step_local(response);
        }
        if let Some(snapshot) = snapshot
            && self.cut_log(&snapshot)
        {
            out.push(Effect::SaveSnapshot(snapshot));
        }
        self.campaign_alone();
    }

    /// Keeps some entries behind the snapshot, for followers that are not far behind. Whether the
    /// snapshot is news: the leader's may have overtaken it.
    fn cut_log(&mut self, snapshot: &Snapshot) -> bool {
        let metadata = &snapshot.metadata;
        let storage = self.node.storage_mut();
        let conf_state = Some(metadata.conf_state.clone());
        if storage.create_snapshot(metadata.index, conf_state, snapshot.data.clone()).is_err() {
            return false;
        }
        let keep_from = metadata.index.saturating_sub(self.options.catchup_entries);
        if keep_from > 0 && self.snapshots_in_flight == 0 {
            // Compacted already: the log begins later than that.
            let _ = storage.compact(keep_from);
        }
        true
    }

    /// A lone voter need not wait for silence to know that there is no leader.
    fn campaign_alone(&mut self) {
        let status = self.node.basic_status();
        let alone = {
            let mut voters = 0;
            let mut includes_self = false;
            self.node.with_progress(|id, progress| {
                voters += usize::from(!progress.is_learner);
                includes_self |= id == status.id && !progress.is_learner;
            });
            voters == 1 && includes_self
        };
        let is_idle = status.soft_state.lead == 0
            && status.soft_state.raft_state == raft::StateType::Follower;
        if alone && is_idle {
            let _ = self.node.campaign();
        }
    }

    fn note_role(&mut self, out: &mut Vec<Effect>) {
        let status = self.node.basic_status();
        let role = (status.hard_state.term, status.soft_state.lead);
        if role != self.role {
            self.role = role;
            self.reads.reissue();
            if role.1 != self.options.id {
                // Their fate no longer concerns this member.
                self.snapshots_in_flight = 0;
            }
            let (term, leader) = role;
            out.push(Effect::Role { term, leader, is_leader: leader == self.options.id });
        }
    }
}

fn refuse(ids: Vec<u64>, error: api::Error, out: &mut Vec<Effect>) {
    if !ids.is_empty() {
        out.push(Effect::Refused(ids, error));
    }
}

fn restore(
    storage: &mut MemoryStorage,
    mut hard_state: HardState,
    before_first: (u64, u64),
    entries: &[Entry],
    conf_state: ConfState,
    applied: u64,
) -> Result<(), BootError> {
    let last = entries.last().map_or(before_first.0, |entry| entry.index);
    if applied > last {
        return Err(BootError::LogBehindBackend { applied, last });
    }
    if applied < before_first.0 {
        return Err(BootError::BackendBehindLog { applied, first: before_first.0 });
    }
    let metadata =
        raft::SnapshotMetadata { conf_state, index: before_first.0, term: before_first.1 };
    storage.apply_snapshot(Snapshot { metadata, ..Snapshot::default() })?;
    // The commit index need not be synced: what the backend has on disk was committed.
    hard_state.commit = hard_state.commit.max(applied);
    storage.set_hard_state(hard_state);
    storage.append(entries);
    Ok(())
}
