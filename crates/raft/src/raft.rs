//! The state machine: roles, terms and the dispatch of messages. What each role does lies in the modules below.

mod election;
mod follower;
mod leader;
mod membership;
mod validate;

use std::fmt;

use crate::config::{Config, ConfigError, NONE};
use crate::error::Error;
use crate::log::{EntryId, RaftLog};
use crate::logger::{Logger, log_line};
use crate::pb::{ConfChangeV2, Entry, HardState, Message, MessageType, Snapshot};
use crate::read_only::{ReadOnly, ReadState};
use crate::rng::Rng;
use crate::storage::Storage;
use crate::trace::{TraceEvent, TraceEventType, TraceMessage, TraceProperties, Tracer};
use crate::tracker::ProgressTracker;

pub(crate) use validate::validate_proposal;

/// The role of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateType {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks for votes.
    Candidate,
    /// Replicates its log to the others.
    Leader,
    /// Asks whether it would get votes.
    PreCandidate,
}

impl fmt::Display for StateType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Follower => "StateFollower",
            Self::Candidate => "StateCandidate",
            Self::Leader => "StateLeader",
            Self::PreCandidate => "StatePreCandidate",
        })
    }
}

/// State that need not survive a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftState {
    /// Who leads, 0 when unknown.
    pub lead: u64,
    /// The role of this member.
    pub raft_state: StateType,
}

/// Messages to send.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    id: u64,
    /// To others, at once.
    pub(crate) msgs: Vec<Message>,
    /// To anyone, also to this member, once the unstable state up to now is on stable storage.
    pub(crate) msgs_after_append: Vec<Message>,
}

impl Outbox {
    /// Addresses and queues a message. Answers that vote, for a leader or for entries, promise something about
    /// the state and so wait until it is durable (thesis §3.8), rejections among them: those may depend on state
    /// that is not durable either, and are too rare to be worth a proof that they need not wait.
    ///
    /// Returns whether it waits.
    pub(crate) fn send(&mut self, term: u64, mut m: Message) -> bool {
        if m.from == NONE {
            m.from = self.id;
        }
        match m.msg_type {
            MessageType::Vote
            | MessageType::VoteResp
            | MessageType::PreVote
            | MessageType::PreVoteResp => {
                // A member that starts from a snapshot alone is in no term, and may know better than a candidate.
                assert!(m.term != 0 || m.reject, "term should be set when sending {}", m.msg_type);
            }
            // Requests on a client's behalf, for whichever term the leader is in.
            MessageType::Prop | MessageType::ReadIndex => {}
            _ => {
                assert!(
                    m.term == 0,
                    "term should not be set when sending {} (was {})",
                    m.msg_type,
                    m.term
                );
                m.term = term;
            }
        }
        match m.msg_type {
            MessageType::AppResp | MessageType::VoteResp | MessageType::PreVoteResp => {
                self.msgs_after_append.push(m);
                true
            }
            _ => {
                assert!(
                    m.to != self.id,
                    "message should not be self-addressed when sending {}",
                    m.msg_type
                );
                self.msgs.push(m);
                false
            }
        }
    }
}

/// Counters of ticks.
#[derive(Debug)]
struct Timers {
    election_timeout: u32,
    heartbeat_timeout: u32,
    /// Drawn anew from `election_timeout..2 * election_timeout` with each role.
    randomized_election_timeout: u32,
    /// Since the last election timeout (leader, candidate) or sign of the leader (follower).
    election_elapsed: u32,
    /// Since the last heartbeat; leader only.
    heartbeat_elapsed: u32,
    rng: Rng,
}

impl Timers {
    fn reset(&mut self) {
        self.election_elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.randomized_election_timeout =
            self.election_timeout + self.rng.below(self.election_timeout);
    }
}

/// What a leader remembers beside the progress of its followers.
#[derive(Debug, Default)]
struct Leadership {
    /// To whom leadership is being transferred, 0 for nobody: thesis §3.10.
    transferee: u64,
    /// No configuration change is appended while this index is not applied: one at a time.
    pending_conf_index: u64,
    /// Payload of the uncommitted tail of the log; never more than that, possibly less.
    uncommitted_size: u64,
}

/// One member's raft.
#[derive(Debug)]
pub(crate) struct Raft<S> {
    config: Config,
    term: u64,
    vote: u64,
    lead: u64,
    state: StateType,
    is_learner: bool,
    pub(crate) log: RaftLog<S>,
    pub(crate) trk: ProgressTracker,
    pub(crate) outbox: Outbox,
    pub(crate) read_states: Vec<ReadState>,
    read_only: ReadOnly,
    /// Requests that came before this leader had committed anything in its term.
    pending_read_index: Vec<Message>,
    leadership: Leadership,
    timers: Timers,
    /// Whether a quorum elects this member only with its own vote.
    pub(crate) needs_own_vote: bool,
    pub(crate) logger: Logger,
    tracer: Option<Box<dyn Tracer>>,
}

impl<S: Storage> Raft<S> {
    pub(crate) fn new(
        mut config: Config,
        storage: S,
        tracer: Option<Box<dyn Tracer>>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        if config.max_uncommitted_entries_size == 0 {
            config.max_uncommitted_entries_size = u64::MAX;
        }
        if config.max_committed_size_per_ready == 0 {
            config.max_committed_size_per_ready = config.max_size_per_msg;
        }
        let (hard_state, conf_state) = storage.initial_state()?;
        let mut raft = Self {
            term: 0,
            vote: NONE,
            lead: NONE,
            state: StateType::Follower,
            is_learner: false,
            log: RaftLog::new(storage, config.max_committed_size_per_ready),
            trk: ProgressTracker::new(config.max_inflight_msgs, config.max_inflight_bytes),
            outbox: Outbox { id: config.id, ..Outbox::default() },
            read_states: Vec::new(),
            read_only: ReadOnly::new(config.read_only_option),
            pending_read_index: Vec::new(),
            leadership: Leadership::default(),
            timers: Timers {
                election_timeout: config.election_tick,
                heartbeat_timeout: config.heartbeat_tick,
                randomized_election_timeout: 0,
                election_elapsed: 0,
                heartbeat_elapsed: 0,
                rng: Rng::new(config.seed, config.id),
            },
            needs_own_vote: true,
            logger: Logger::new(config.log_level),
            config,
            tracer,
        };
        raft.trace(TraceEventType::InitState);
        raft.load(hard_state, &conf_state)?;
        Ok(raft)
    }

    fn load(
        &mut self,
        hard_state: HardState,
        conf_state: &crate::ConfState,
    ) -> Result<(), ConfigError> {
        let last = self.log.last_entry_id();
        let restored = crate::confchange::restore(&self.trk, last.index, conf_state)?;
        if !restored.conf_state().is_equivalent(conf_state) {
            return Err(ConfigError::ConfStateNotEquivalent(format!("{conf_state:?}")));
        }
        self.switch_to_config(restored.config, restored.progress);

        let id = self.config.id;
        let check = |name, index, low, high| {
            if (low..=high).contains(&index) {
                return Ok(());
            }
            Err(ConfigError::OutOfRange { id, name, index, low, high })
        };
        if !hard_state.is_empty() {
            // A crash between the installation of a snapshot and the saving of the hard state leaves an older one.
            // What the snapshot holds is committed, and this member has not voted in its term.
            //
            // DIFF(etcd): there the member panics.
            let HardState { mut term, mut vote, mut commit } = hard_state;
            let snapshot_term = self.log.term_or_zero(self.log.committed);
            if commit < self.log.committed && term < snapshot_term {
                (term, vote) = (snapshot_term, NONE);
            }
            if !mutant::mutant!("R27") {
                commit = commit.max(self.log.committed);
            }
            check("state.commit", commit, self.log.committed, last.index)?;
            self.log.committed = commit;
            self.term = term;
            self.vote = vote;
        }
        if self.config.applied > 0 {
            check("applied", self.config.applied, self.log.applied, self.log.committed)?;
            self.log.applied_to(self.config.applied, 0);
        }
        self.become_follower(self.term, NONE);
        if self.logger.wants(crate::Level::Info) {
            let voters = self.trk.config.voters.ids();
            let peers: Vec<_> = voters.ids().iter().map(|id| format!("{id:x}")).collect();
            log_line!(
                self.logger,
                Info,
                "newRaft {id:x} [peers: [{}], term: {}, commit: {}, applied: {}, lastindex: {}, lastterm: {}]",
                peers.join(","),
                self.term,
                self.log.committed,
                self.log.applied,
                last.index,
                last.term
            );
        }
        Ok(())
    }

    pub(crate) const fn id(&self) -> u64 {
        self.config.id
    }

    pub(crate) const fn term(&self) -> u64 {
        self.term
    }

    pub(crate) const fn lead_transferee(&self) -> u64 {
        self.leadership.transferee
    }

    pub(crate) const fn soft_state(&self) -> SoftState {
        SoftState { lead: self.lead, raft_state: self.state }
    }

    pub(crate) const fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.committed }
    }

    /// Queues a message of this term.
    fn send(&mut self, m: Message) {
        let event = TraceEventType::of_sent(m.msg_type).filter(|_| self.tracer.is_some());
        let is_late = self.outbox.send(self.term, m);
        let Some(event) = event else { return };
        let queue = if is_late { &self.outbox.msgs_after_append } else { &self.outbox.msgs };
        let Some(m) = queue.last() else { return };
        let progress = self.trk.progress.get(m.from);
        let properties = match progress.filter(|_| m.msg_type == MessageType::App) {
            None => TraceProperties::None,
            Some(progress) => TraceProperties::Progress {
                match_index: progress.match_index,
                next_index: progress.next_index,
            },
        };
        self.trace_with(event, Some(TraceMessage::of(m)), properties);
    }

    // ---- the trace ----

    pub(crate) fn tracer_mut(&mut self) -> Option<&mut (dyn Tracer + 'static)> {
        self.tracer.as_deref_mut()
    }

    pub(crate) fn trace(&mut self, name: TraceEventType) {
        if self.tracer.is_some() {
            self.trace_with(name, None, TraceProperties::None);
        }
    }

    fn trace_received(&mut self, m: &Message) {
        if self.tracer.is_some()
            && let Some(name) = TraceEventType::of_received(m.msg_type)
        {
            self.trace_with(name, Some(TraceMessage::of(m)), TraceProperties::None);
        }
    }

    fn trace_change(&mut self, change: &ConfChangeV2) {
        if self.tracer.is_some()
            && let Some(properties) = TraceProperties::of_change(change)
        {
            self.trace_with(TraceEventType::ChangeConf, None, properties);
        }
    }

    fn trace_new_conf(&mut self, config: &crate::tracker::Config) {
        if self.tracer.is_some() {
            let voters = if mutant::mutant!("R18") { &self.trk.config } else { config };
            let properties = TraceProperties::NewConf(voters.voters.incoming.clone());
            self.trace_with(TraceEventType::ApplyConfChange, None, properties);
        }
    }

    #[cold]
    fn trace_with(
        &mut self,
        name: TraceEventType,
        message: Option<TraceMessage>,
        properties: TraceProperties,
    ) {
        let event = TraceEvent {
            name,
            node_id: self.config.id,
            state: self.hard_state(),
            role: self.state,
            log_size: self.log.last_index(),
            conf: self.trk.config.voters.clone(),
            message,
            properties,
        };
        if let Some(tracer) = &mut self.tracer {
            tracer.trace(&event);
        }
    }

    // ---- roles ----

    fn reset(&mut self, term: u64) {
        if self.term != term {
            self.term = term;
            self.vote = NONE;
        }
        self.lead = NONE;
        self.timers.reset();
        self.trk.reset_votes();
        let last = self.log.last_index();
        for (id, progress) in self.trk.progress.iter_mut() {
            let match_index = if id == self.config.id { last } else { 0 };
            progress.reset(match_index, last + 1);
        }
        self.leadership = Leadership::default();
        self.read_only.reset();
    }

    pub(crate) fn become_follower(&mut self, term: u64, lead: u64) {
        self.reset(term);
        self.lead = lead;
        self.state = StateType::Follower;
        log_line!(self.logger, Info, "{:x} became follower at term {}", self.config.id, self.term);
        self.trace(TraceEventType::BecomeFollower);
    }

    fn become_candidate(&mut self) {
        assert!(self.state != StateType::Leader, "invalid transition [leader -> candidate]");
        self.reset(self.term + 1);
        self.vote = self.config.id;
        self.state = StateType::Candidate;
        log_line!(self.logger, Info, "{:x} became candidate at term {}", self.config.id, self.term);
        self.trace(TraceEventType::BecomeCandidate);
    }

    /// Changes nothing that a peer could see: neither the term nor the vote.
    fn become_pre_candidate(&mut self) {
        assert!(self.state != StateType::Leader, "invalid transition [leader -> pre-candidate]");
        self.trk.reset_votes();
        self.lead = NONE;
        self.state = StateType::PreCandidate;
        log_line!(
            self.logger,
            Info,
            "{:x} became pre-candidate at term {}",
            self.config.id,
            self.term
        );
    }

    fn become_leader(&mut self) {
        assert!(self.state != StateType::Follower, "invalid transition [follower -> leader]");
        let id = self.config.id;
        self.reset(self.term);
        self.lead = id;
        self.state = StateType::Leader;
        let Some(progress) = self.trk.progress.get_mut(id) else {
            panic!("{id:x} became leader outside of the configuration");
        };
        progress.become_replicate();
        progress.recent_active = true;
        // There may be a configuration change in the tail of the log. Rather than scan it, wait for all of it.
        self.leadership.pending_conf_index = self.log.last_index();
        self.trace(TraceEventType::BecomeLeader);
        // Entries of earlier terms commit only along with one of this term: thesis §3.6.2.
        let accepted = self.append_entries(vec![Entry::default()]);
        assert!(accepted, "empty entry was dropped");
        log_line!(self.logger, Info, "{id:x} became leader at term {}", self.term);
    }

    // ---- time ----

    pub(crate) fn tick(&mut self) {
        if self.state == StateType::Leader {
            self.tick_heartbeat();
        } else {
            self.tick_election();
        }
    }

    pub(crate) const fn tick_quiesced(&mut self) {
        self.timers.election_elapsed = self.timers.election_elapsed.saturating_add(1);
    }

    fn tick_election(&mut self) {
        self.tick_quiesced();
        let timeout = self.timers.randomized_election_timeout;
        if self.timers.election_elapsed >= timeout && self.is_promotable() {
            self.timers.election_elapsed = 0;
            self.hup(self.campaign_on_timeout());
        }
    }

    fn tick_heartbeat(&mut self) {
        self.timers.heartbeat_elapsed += 1;
        self.tick_quiesced();
        if self.timers.election_elapsed >= self.timers.election_timeout {
            self.timers.election_elapsed = 0;
            if self.config.check_quorum {
                self.handle_check_quorum();
            }
            // A transfer that takes this long has failed; serve proposals again.
            if self.state == StateType::Leader {
                self.leadership.transferee = NONE;
            }
        }
        if self.state == StateType::Leader
            && self.timers.heartbeat_elapsed >= self.timers.heartbeat_timeout
        {
            self.timers.heartbeat_elapsed = 0;
            self.broadcast_heartbeat();
        }
    }

    pub(crate) const fn set_randomized_election_timeout(&mut self, ticks: u32) {
        self.timers.randomized_election_timeout = ticks;
    }

    // ---- messages ----

    /// Handles a message that is well-formed, see `validate`.
    pub(crate) fn step(&mut self, m: Message) -> Result<(), Error> {
        self.trace_received(&m);
        if m.term > self.term {
            if self.is_in_lease_against(&m) {
                return Ok(());
            }
            self.follow_higher_term(&m);
        } else if m.term != 0 && m.term < self.term {
            self.handle_lower_term(m);
            return Ok(());
        }
        match m.msg_type {
            MessageType::Hup => {
                self.hup(self.campaign_on_timeout());
                Ok(())
            }
            MessageType::StorageAppendResp => {
                if m.index != 0 {
                    let id = EntryId { term: m.log_term, index: m.index };
                    self.log.stable_to(id, &mut self.logger);
                }
                self.applied_snapshot(m.snapshot.as_deref());
                Ok(())
            }
            MessageType::StorageApplyResp => {
                if let Some(last) = m.entries.last() {
                    let sizes = EntrySizes::of(&m.entries);
                    self.applied_entries(last.index, sizes);
                }
                Ok(())
            }
            MessageType::Vote | MessageType::PreVote => {
                self.handle_vote_request(&m);
                Ok(())
            }
            _ => match self.state {
                StateType::Leader => self.step_leader(m),
                StateType::Candidate | StateType::PreCandidate => self.step_candidate(m),
                StateType::Follower => self.step_follower(m),
            },
        }
    }

    fn follow_higher_term(&mut self, m: &Message) {
        match m.msg_type {
            // A pre-vote is for a term that nobody is in yet.
            MessageType::PreVote => {}
            // So is its grant. A rejection has the term of the rejecting member.
            MessageType::PreVoteResp if !m.reject => {}
            _ => {
                log_line!(
                    self.logger,
                    Info,
                    "{:x} [term: {}] received a {} message with higher term from {:x} [term: {}]",
                    self.config.id,
                    self.term,
                    m.msg_type,
                    m.from,
                    m.term
                );
                let is_from_leader = matches!(
                    m.msg_type,
                    MessageType::App | MessageType::Heartbeat | MessageType::Snap
                );
                self.become_follower(m.term, if is_from_leader { m.from } else { NONE });
            }
        }
    }

    fn handle_lower_term(&mut self, m: Message) {
        let id = self.config.id;
        match m.msg_type {
            // A leader of an old term. Where elections can be ignored (lease, pre-vote), this member may have
            // raised its term without being heard; the answer tells the leader, which would otherwise stay in
            // its term, with this member stuck beside it.
            MessageType::Heartbeat | MessageType::App
                if self.config.check_quorum || self.config.pre_vote =>
            {
                self.send(Message {
                    msg_type: MessageType::AppResp,
                    to: m.from,
                    ..Message::default()
                });
            }
            // Members that turned pre-vote on at different times could wait for each other for ever if the one
            // with the lower term got no answer.
            MessageType::PreVote if !mutant::mutant!("R12") => self.reject_vote(&m),
            MessageType::StorageAppendResp => {
                if m.index != 0 && mutant::mutant!("R16") {
                    let id = EntryId { term: m.log_term, index: m.index };
                    self.log.stable_to(id, &mut self.logger);
                } else if m.index != 0 {
                    self.ignore_stable_entries(m.term);
                }
                // A snapshot is of committed state, whatever the term.
                self.applied_snapshot(m.snapshot.as_deref());
            }
            _ => log_line!(
                self.logger,
                Info,
                "{id:x} [term: {}] ignored a {} message with lower term from {:x} [term: {}]",
                self.term,
                m.msg_type,
                m.from,
                m.term
            ),
        }
    }

    // ---- acknowledgements of storage ----

    /// The entries up to `id` are stable and nothing under way overwrites them.
    pub(crate) fn stable_entries(&mut self, term: u64, id: EntryId) {
        if term == self.term {
            self.log.stable_to(id, &mut self.logger);
        } else {
            self.ignore_stable_entries(term);
        }
    }

    /// Since then the entries may have been replaced, with the replacement on its way to the disk; see
    /// `RawNode::storage_append_resp`.
    fn ignore_stable_entries(&mut self, term: u64) {
        log_line!(
            self.logger,
            Info,
            "{:x} [term: {}] ignored entry appends from a {} message with lower term [term: {term}]",
            self.config.id,
            self.term,
            MessageType::StorageAppendResp
        );
    }

    fn applied_snapshot(&mut self, snapshot: Option<&Snapshot>) {
        if let Some(snapshot) = snapshot {
            self.applied_snapshot_at(snapshot.metadata.index);
        }
    }

    pub(crate) fn applied_snapshot_at(&mut self, index: u64) {
        self.log.stable_snapshot_to(index);
        self.applied_to(index, 0);
    }

    pub(crate) fn applied_entries(&mut self, index: u64, sizes: EntrySizes) {
        self.applied_to(index, sizes.encoded);
        let uncommitted = &mut self.leadership.uncommitted_size;
        *uncommitted = uncommitted.saturating_sub(sizes.payload);
    }

    fn applied_to(&mut self, index: u64, size: u64) {
        let applied = index.max(self.log.applied);
        self.log.applied_to(applied, size);
        if self.state == StateType::Leader
            && self.trk.config.auto_leave
            && applied >= self.leadership.pending_conf_index + u64::from(mutant::mutant!("R7"))
            && !(mutant::mutant!("R8") && applied > self.leadership.pending_conf_index)
        {
            self.leave_joint_automatically();
        }
    }
}

/// Sizes of entries in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EntrySizes {
    /// As encoded.
    pub(crate) encoded: u64,
    /// Their data only: what a proposer counts.
    pub(crate) payload: u64,
}

impl EntrySizes {
    pub(crate) fn of(entries: &[Entry]) -> Self {
        entries.iter().fold(Self::default(), |sizes, entry| Self {
            encoded: sizes.encoded + entry.encoded_len() as u64,
            payload: sizes.payload + entry.data.len() as u64,
        })
    }
}
