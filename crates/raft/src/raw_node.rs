//! The interface: events go in by method, work comes out in a [`Ready`].

use bytes::Bytes;

use crate::confchange::ConfChangeError;
use crate::config::{
    Config, ConfigError, LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, NONE, is_local_target,
};
use crate::error::{BootstrapError, Error};
use crate::log::EntryId;
use crate::logger::LogLine;
use crate::pb::{
    ConfChange, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, HardState, Message,
    MessageType, Snapshot,
};
use crate::raft::{EntrySizes, Raft, SoftState, StateType};
use crate::read_only::ReadState;
use crate::status::{BasicStatus, Status};
use crate::storage::Storage;
use crate::trace::{TraceEventType, Tracer};
use crate::tracker::Progress;

/// Work for the user of a [`RawNode`].
///
/// Without `async_storage_writes` the order is: make `snapshot`, `entries` and `hard_state` durable (with one
/// sync if `must_sync`, else whenever it suits) and let the [`Storage`] show them; send `messages`; apply
/// `snapshot` and `committed_entries`; call [`RawNode::advance`]. A leader may send its `messages` while it
/// writes (thesis §10.2.1), a follower must not.
///
/// With `async_storage_writes` the fields other than `messages`, `read_states` and `soft_state` are only for
/// information: `messages` says it all. A snapshot then may be installed while older entries still wait to be
/// applied; whoever applies must skip those up to its index.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// Leader and role, when either has changed.
    pub soft_state: Option<SoftState>,
    /// Term, vote and commit index to persist, when any has changed.
    pub hard_state: Option<HardState>,
    /// Reads that may be served once their index is applied.
    pub read_states: Vec<ReadState>,
    /// Entries to persist, in place of stored ones with the same or a higher index.
    pub entries: Vec<Entry>,
    /// A snapshot to persist and apply; comes without `entries` and `committed_entries`.
    pub snapshot: Option<Snapshot>,
    /// Entries to apply. They may be among `entries`: persist first.
    pub committed_entries: Vec<Entry>,
    /// Messages to send.
    pub messages: Vec<Message>,
    /// Whether what is to be persisted must be durable before `messages` are sent. False when just the commit
    /// index has changed, which is safe to lose, but not to overtake: entries that are made durable later must
    /// take the commit index with them. (A member that has a second configuration change in its log but has
    /// forgotten that the first is committed could win an election in a configuration long gone.)
    pub must_sync: bool,
}

/// A member to start a cluster with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: u64,
    /// The context of the configuration change that adds it.
    pub context: Bytes,
}

/// How sending a snapshot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotStatus {
    /// The follower has it.
    Finish,
    /// It did not get there, or could not be applied.
    Failure,
}

/// What is acknowledged by `advance`.
#[derive(Debug, Default)]
struct Handed {
    /// Answers of this member to itself.
    to_self: Vec<Message>,
    /// Entries up to here become stable, if the term is the same then.
    stable: Option<(u64, EntryId)>,
    snapshot: Option<u64>,
    applied: Option<(u64, EntrySizes)>,
}

/// One member of a raft cluster, without clock, disk or network of its own.
///
/// Call [`tick`](Self::tick) at a regular interval and [`step`](Self::step) with each message from a peer; after
/// any call see whether [`has_ready`](Self::has_ready), and handle the [`Ready`].
#[derive(Debug)]
pub struct RawNode<S> {
    pub(crate) raft: Raft<S>,
    async_storage_writes: bool,
    prev_soft_state: SoftState,
    prev_hard_state: HardState,
    /// Whether a `Ready` is out that `advance` must acknowledge.
    is_ready_out: bool,
    handed: Handed,
    /// Vectors of the last `Ready`, to be filled again.
    spare: Ready,
}

impl<S: Storage> RawNode<S> {
    /// Starts a member from what `storage` holds; a new one has an empty storage, or one with a snapshot that
    /// holds just the configuration.
    pub fn new(config: Config, storage: S) -> Result<Self, ConfigError> {
        Self::start(config, storage, None)
    }

    /// The same with a [trace](crate::trace) of all that the member does, from its start on.
    pub fn with_tracer(
        config: Config,
        storage: S,
        tracer: Box<dyn Tracer>,
    ) -> Result<Self, ConfigError> {
        Self::start(config, storage, Some(tracer))
    }

    fn start(
        config: Config,
        storage: S,
        tracer: Option<Box<dyn Tracer>>,
    ) -> Result<Self, ConfigError> {
        let async_storage_writes = config.async_storage_writes;
        let raft = Raft::new(config, storage, tracer)?;
        Ok(Self {
            prev_soft_state: raft.soft_state(),
            prev_hard_state: raft.hard_state(),
            raft,
            async_storage_writes,
            is_ready_out: false,
            handed: Handed::default(),
            spare: Ready::default(),
        })
    }

    /// Writes the first configuration of a new cluster into the log, one change for each peer, all committed in
    /// term 1. Each founding member must do this with the same peers in the same order. The application gets
    /// the changes as committed entries and applies them.
    pub fn bootstrap(&mut self, peers: &[Peer]) -> Result<(), BootstrapError> {
        if peers.is_empty() {
            return Err(BootstrapError::NoPeers);
        }
        let is_no_id = |id: &u64| *id == NONE || is_local_target(*id);
        if let Some(id) = peers.iter().map(|peer| peer.id).find(is_no_id) {
            return Err(BootstrapError::PeerId(id));
        }
        if self.raft.log.storage.last_index() != 0 {
            return Err(BootstrapError::NonemptyStorage);
        }
        // Nothing is stored, so the first `Ready` has to have the hard state.
        self.prev_hard_state = HardState::default();
        self.raft.become_follower(1, NONE);
        let change_of = |peer: &Peer| ConfChange {
            change_type: ConfChangeType::AddNode,
            node_id: peer.id,
            context: peer.context.clone(),
            id: 0,
        };
        let entries = peers.iter().zip(1..).map(|(peer, index)| Entry {
            term: 1,
            index,
            entry_type: EntryType::ConfChange,
            data: change_of(peer).encode_to_vec().into(),
        });
        let raft = &mut self.raft;
        raft.log.append(entries, 1, &mut raft.logger);
        raft.log.commit_to(peers.len() as u64);
        // In force at once, so that the member can campaign; applying the entries later changes nothing.
        for peer in peers {
            let added = raft.apply_conf_change(&change_of(peer).to_v2());
            assert!(added.is_ok(), "one more voter is always possible: {added:?}");
        }
        Ok(())
    }

    // ---- events ----

    /// One tick of the clock has passed: a follower may start an election (thesis §3.4), a leader send heartbeats and,
    /// with `check_quorum`, step down.
    pub fn tick(&mut self) {
        self.raft.tick();
    }

    /// One tick has passed in a group known to be idle: no heartbeat, no election, just the count, so that an election
    /// is not late when ticks are resumed. For programs with very many groups, as in etcd's rawnode.go.
    pub const fn tick_quiesced(&mut self) {
        self.raft.tick_quiesced();
    }

    /// Starts an election now, without waiting for the timeout; with `pre_vote` it is asked first whether it could be
    /// won. Ignored by a leader, by who has no vote, and while a committed change of the configuration is not applied:
    /// then the log says so. (etcd's `MsgHup`.)
    pub fn campaign(&mut self) -> Result<(), Error> {
        self.step_own(Message::default())
    }

    /// Proposes an entry. A leader appends it; a follower sends it to its leader, and success there is not known here. It
    /// is done when it comes in [`Ready::committed_entries`], and may be lost before, so put an id into it and try again
    /// after a while. Thesis §3.5.
    ///
    /// # Errors
    /// [`Error::ProposalDropped`] without a leader, while leadership is transferred, from who is not in the
    /// configuration, where a follower must not forward, and when too much is uncommitted.
    pub fn propose(&mut self, data: Bytes) -> Result<(), Error> {
        let entries = vec![Entry { data, ..Entry::default() }];
        // no detour through a message, which is ten times as large, in the usual case
        if self.raft.is_leader() {
            return self.raft.handle_proposal(entries);
        }
        self.propose_entries(entries)
    }

    /// Proposes entries, of which the type and data count, to be appended together or dropped together.
    ///
    /// # Errors
    /// As [`propose`](Self::propose), and [`Error::InvalidMessage`] for none at all or for a malformed change.
    pub fn propose_entries(&mut self, entries: Vec<Entry>) -> Result<(), Error> {
        let m = Message {
            msg_type: MessageType::Prop,
            from: self.raft.id(),
            entries,
            ..Message::default()
        };
        crate::raft::validate_proposal(&m).map_err(|reason| Error::InvalidMessage {
            msg_type: m.msg_type,
            from: m.from,
            reason,
        })?;
        self.step_own(m)
    }

    /// Proposes a change of one member. It has no effect, and is appended as an empty entry, while another
    /// change is not applied: one at a time is what keeps two majorities from deciding apart (thesis §4.1).
    ///
    /// # Errors
    /// As [`propose`](Self::propose).
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<(), Error> {
        self.propose_change(EntryType::ConfChange, change.encode_to_vec())
    }

    /// Proposes a change of any number of members, through a joint configuration where it is more than one (thesis §4.3);
    /// an empty one leaves a joint configuration. The same rules as for [`propose_conf_change`](Self::propose_conf_change).
    ///
    /// # Errors
    /// As [`propose`](Self::propose).
    pub fn propose_conf_change_v2(&mut self, change: &ConfChangeV2) -> Result<(), Error> {
        self.propose_change(EntryType::ConfChangeV2, change.encode_to_vec())
    }

    fn propose_change(&mut self, entry_type: EntryType, data: Vec<u8>) -> Result<(), Error> {
        let entry = Entry { entry_type, data: data.into(), ..Entry::default() };
        self.step_own(Message {
            msg_type: MessageType::Prop,
            entries: vec![entry],
            ..Message::default()
        })
    }

    /// Puts a committed change into force. Must be called for each committed change that the application does
    /// not refuse, when it applies the entry. Returns the configuration to store with the next snapshot.
    ///
    /// `Superseded` can happen with `async_storage_writes` and may be ignored. Any other error means that the change
    /// is impossible, which the leader prevents unless told not to.
    pub fn apply_conf_change(
        &mut self,
        change: &ConfChangeV2,
    ) -> Result<ConfState, ConfChangeError> {
        self.raft.apply_conf_change(change)
    }

    /// Handles a message from a peer. Any message that decodes is either handled or refused; what is late or doubled is
    /// handled without effect.
    ///
    /// # Errors
    /// See [`Error`]: a refused message has changed nothing. After [`Error::LogLost`] the member must not go on.
    pub fn step(&mut self, m: Message) -> Result<(), Error> {
        self.raft.validate(&m)?;
        self.raft.step(m)
    }

    /// Handles a message to this member out of the `responses` of its own storage threads, once what they
    /// answer is done. Not for messages of peers: it trusts them.
    ///
    /// # Errors
    /// [`Error::StepPeerNotFound`] when this member was removed in the meantime.
    ///
    /// # Panics
    /// If the message is no answer.
    pub fn step_local(&mut self, m: Message) -> Result<(), Error> {
        assert!(m.msg_type.is_response(), "{} is no response of a storage thread", m.msg_type);
        // A vote or an acknowledgement of this member, which was removed in the meantime.
        if !is_local_target(m.from) && !self.raft.trk.progress.contains(m.from) {
            return Err(Error::StepPeerNotFound);
        }
        self.raft.step(m)
    }

    fn step_own(&mut self, m: Message) -> Result<(), Error> {
        self.raft.step(m)
    }

    /// A message to `id` could not be sent: the leader then sends it one append at a time until it answers. Calls for
    /// members that are unknown, or on a follower, have no effect.
    pub fn report_unreachable(&mut self, id: u64) {
        self.report(MessageType::Unreachable, id, false);
    }

    /// Sending a snapshot to `id` has ended. A failure must be reported, or that member gets nothing more; success shows
    /// in its own answer as well.
    pub fn report_snapshot(&mut self, id: u64, status: SnapshotStatus) {
        self.report(MessageType::SnapStatus, id, status == SnapshotStatus::Failure);
    }

    /// Asks the leader to hand over to `transferee`, which starts an election as soon as it has the whole log (thesis
    /// §3.10). Proposals are dropped meanwhile; after an election timeout the attempt is given up. On a follower the request
    /// goes to the leader.
    pub fn transfer_leader(&mut self, transferee: u64) {
        self.report(MessageType::TransferLeader, transferee, false);
    }

    /// Forgets the leader, so that this follower may vote for another at once, although it has heard the leader lately:
    /// for those who know by other means that it is gone. Ignored by a leader and with lease-based reads.
    pub fn forget_leader(&mut self) -> Result<(), Error> {
        self.step_own(Message { msg_type: MessageType::ForgetLeader, ..Message::default() })
    }

    /// Asks for an index at which a read is linearizable. It comes as a [`ReadState`] with `request_ctx`, or
    /// never: when there is no leader, or a message is lost. Ask again then. Thesis §6.4; how the leader confirms it is
    /// [`Config::read_only_option`].
    pub fn read_index(&mut self, request_ctx: Bytes) {
        let entry = Entry { data: request_ctx, ..Entry::default() };
        // without a leader it is dropped, which is not an error
        let _ = self.step_own(Message {
            msg_type: MessageType::ReadIndex,
            entries: vec![entry],
            ..Message::default()
        });
    }

    fn report(&mut self, msg_type: MessageType, from: u64, reject: bool) {
        // these have no way to fail
        let _ = self.step_own(Message { msg_type, from, reject, ..Message::default() });
    }

    // ---- work ----

    /// Whether [`ready`](Self::ready) would return anything. Cheap.
    pub fn has_ready(&self) -> bool {
        let raft = &self.raft;
        let hard_state = raft.hard_state();
        !raft.outbox.msgs.is_empty()
            || !raft.outbox.msgs_after_append.is_empty()
            || raft.log.has_next_unstable_entries()
            || raft.log.has_next_committed_entries(self.may_apply_unstable())
            || raft.soft_state() != self.prev_soft_state
            || (!hard_state.is_empty() && hard_state != self.prev_hard_state)
            || raft.log.next_unstable_snapshot().is_some()
            || !raft.read_states.is_empty()
    }

    /// Takes the work that has come up. Without `async_storage_writes` it must be given back to
    /// [`advance`](Self::advance) when done, before the next call.
    ///
    /// # Panics
    /// If one is out already, or the storage returns what it must not: see [`Storage`].
    pub fn ready(&mut self) -> Ready {
        assert!(!self.is_ready_out, "two accepted Ready structs without call to Advance");
        let mut ready = std::mem::take(&mut self.spare);
        let raft = &mut self.raft;
        ready.entries.extend(raft.log.next_unstable_entries().cloned());
        ready.committed_entries = raft.log.next_committed_entries(!self.async_storage_writes);
        ready.messages = std::mem::replace(&mut raft.outbox.msgs, ready.messages);
        ready.read_states = std::mem::replace(&mut raft.read_states, ready.read_states);
        let soft_state = raft.soft_state();
        if soft_state != self.prev_soft_state {
            self.prev_soft_state = soft_state;
            ready.soft_state = Some(soft_state);
        }
        let hard_state = raft.hard_state();
        let prev = self.prev_hard_state;
        if hard_state != prev {
            self.prev_hard_state = hard_state;
            ready.hard_state = Some(hard_state);
        }
        ready.snapshot = raft.log.next_unstable_snapshot().cloned();
        ready.must_sync = !ready.entries.is_empty()
            || hard_state.vote != prev.vote
            || (hard_state.term != prev.term && !mutant::mutant!("R19"));

        let sizes = EntrySizes::of(&ready.committed_entries);
        if self.async_storage_writes {
            self.push_storage_messages(&mut ready);
        } else {
            self.hand_out(&mut ready, sizes);
        }
        let raft = &mut self.raft;
        raft.log.accept_unstable();
        if let Some(last) = ready.committed_entries.last() {
            raft.log.accept_applying(last.index, sizes.encoded, !self.async_storage_writes);
        }
        raft.trace(TraceEventType::Ready);
        ready
    }

    /// Acknowledges that everything in `ready` is done. `ready` is taken for its memory; what was moved out of it does
    /// not matter.
    ///
    /// # Panics
    /// If none is out, or with `async_storage_writes`.
    pub fn advance(&mut self, ready: Ready) {
        assert!(
            !self.async_storage_writes,
            "Advance must not be called when using AsyncStorageWrites"
        );
        assert!(self.is_ready_out, "Advance without a Ready");
        self.is_ready_out = false;
        // Stability comes after the acknowledgements, so that these find the terms of the entries in memory.
        let mut to_self = std::mem::take(&mut self.handed.to_self);
        for m in to_self.drain(..) {
            // An answer to itself that is out of date by now is no error of anybody.
            let _ = self.raft.step(m);
        }
        self.handed.to_self = to_self;
        if let Some((term, id)) = self.handed.stable.take() {
            self.raft.stable_entries(term, id);
        }
        if let Some(index) = self.handed.snapshot.take() {
            self.raft.applied_snapshot_at(index);
        }
        if let Some((index, sizes)) = self.handed.applied.take() {
            self.raft.applied_entries(index, sizes);
        }
        self.recycle(ready);
    }

    /// Keeps the memory of vectors that are done with.
    fn recycle(&mut self, mut ready: Ready) {
        const KEPT: usize = 1024;
        ready.entries.clear();
        ready.messages.clear();
        ready.read_states.clear();
        if ready.entries.capacity() <= KEPT {
            self.spare.entries = ready.entries;
        }
        if ready.messages.capacity() <= KEPT {
            self.spare.messages = ready.messages;
        }
        if ready.read_states.capacity() <= KEPT {
            self.spare.read_states = ready.read_states;
        }
    }

    /// Committed entries may be applied before they are stable here only where "here" means the same `Ready`.
    const fn may_apply_unstable(&self) -> bool {
        !self.async_storage_writes
    }

    /// Remembers what `advance` acknowledges, and adds the messages that were waiting for this `Ready`'s writes.
    fn hand_out(&mut self, ready: &mut Ready, sizes: EntrySizes) {
        let raft = &mut self.raft;
        let id = raft.id();
        for m in raft.outbox.msgs_after_append.drain(..) {
            let target = if m.to == id { &mut self.handed.to_self } else { &mut ready.messages };
            target.push(m);
        }
        self.handed.stable = raft
            .log
            .has_next_or_in_progress_unstable_entries()
            .then(|| (raft.term(), raft.log.last_entry_id()));
        self.handed.snapshot = ready.snapshot.as_ref().map(|snapshot| snapshot.metadata.index);
        self.handed.applied = ready.committed_entries.last().map(|last| (last.index, sizes));
        self.is_ready_out = true;
    }

    // ---- asynchronous storage writes ----

    fn push_storage_messages(&mut self, ready: &mut Ready) {
        let needs_append = !ready.entries.is_empty()
            || ready.hard_state.is_some()
            || ready.snapshot.is_some()
            || !self.raft.outbox.msgs_after_append.is_empty();
        if needs_append {
            let m = self.storage_append(ready);
            ready.messages.push(m);
        }
        if !ready.committed_entries.is_empty() {
            let to_apply = Message {
                to: LOCAL_APPLY_THREAD,
                from: self.raft.id(),
                msg_type: MessageType::StorageApply,
                entries: ready.committed_entries.clone(),
                responses: vec![Message {
                    msg_type: MessageType::StorageApplyResp,
                    to: self.raft.id(),
                    from: LOCAL_APPLY_THREAD,
                    entries: ready.committed_entries.clone(),
                    ..Message::default()
                }],
                ..Message::default()
            };
            ready.messages.push(to_apply);
        }
    }

    fn storage_append(&mut self, ready: &Ready) -> Message {
        let mut responses = std::mem::take(&mut self.raft.outbox.msgs_after_append);
        // After the answers to itself, as in `advance`.
        responses.extend(self.storage_append_resp(ready));
        // A hard state of zeros stands for "unchanged".
        let HardState { term, vote, commit } = ready.hard_state.unwrap_or_default();
        Message {
            msg_type: MessageType::StorageAppend,
            to: LOCAL_APPEND_THREAD,
            from: self.raft.id(),
            term,
            vote,
            commit,
            entries: ready.entries.clone(),
            snapshot: ready.snapshot.clone().map(Box::new),
            responses,
            ..Message::default()
        }
    }

    /// The acknowledgement of an append.
    ///
    /// It names the last entry of the log and the term in which the append was asked for. Entry (term, index)
    /// alone is not enough: leaders can replace entries and later restore the very same ones (A, B, then A
    /// again), with the writes still queued; then the first acknowledgement of A must not let anybody read
    /// from storage, where B is about to appear. A member takes entries of another leader only in a later
    /// term, so an acknowledgement whose term is the current one has no such write queued behind it, and
    /// others are ignored.
    ///
    /// Lest entries stay in memory for ever after an ignored one, each append names the last entry of the log,
    /// not of the append; a new term always makes one, to persist the term.
    fn storage_append_resp(&self, ready: &Ready) -> Option<Message> {
        let has_entries = self.raft.log.has_next_or_in_progress_unstable_entries();
        if !has_entries && ready.snapshot.is_none() {
            return None;
        }
        let last = if has_entries { self.raft.log.last_entry_id() } else { EntryId::default() };
        Some(Message {
            msg_type: MessageType::StorageAppendResp,
            to: self.raft.id(),
            from: LOCAL_APPEND_THREAD,
            term: self.raft.term(),
            index: last.index,
            log_term: last.term,
            snapshot: ready.snapshot.clone().map(Box::new),
            ..Message::default()
        })
    }

    // ---- looking inside ----

    /// The storage, for reading.
    pub const fn storage(&self) -> &S {
        &self.raft.log.storage
    }

    /// The storage, to write what a [`Ready`] says.
    pub const fn storage_mut(&mut self) -> &mut S {
        &mut self.raft.log.storage
    }

    /// This member's state, without allocating.
    pub const fn basic_status(&self) -> BasicStatus {
        BasicStatus {
            id: self.raft.id(),
            hard_state: self.raft.hard_state(),
            soft_state: self.raft.soft_state(),
            applied: self.raft.log.applied,
            lead_transferee: self.raft.lead_transferee(),
        }
    }

    /// This member's state with its view of the others, without allocating.
    pub fn status(&self) -> Status<'_> {
        let basic = self.basic_status();
        let leads = basic.soft_state.raft_state == StateType::Leader;
        let progress = leads.then_some(&self.raft.trk.progress);
        Status { basic, config: &self.raft.trk.config, progress }
    }

    /// Visits the progress of each member in the order of ids, without allocating.
    pub fn with_progress(&self, mut visit: impl FnMut(u64, &Progress)) {
        self.raft.trk.progress.iter().for_each(|(id, progress)| visit(id, progress));
    }

    /// The tracer that this member was started with.
    pub fn tracer_mut(&mut self) -> Option<&mut (dyn Tracer + 'static)> {
        self.raft.tracer_mut()
    }

    /// The log lines since the last call; see [`Config::log_level`].
    pub fn take_log_lines(&mut self) -> Vec<LogLine> {
        self.raft.logger.take()
    }

    /// Lets a quorum of others elect this member, as etcd does: scripts show the moment. Not safe with
    /// `async_storage_writes`.
    pub(crate) const fn win_by_any_quorum(&mut self) {
        self.raft.needs_own_vote = false;
    }

    /// Sets the election timeout of the current role, for tests that need a certain member to win.
    pub const fn set_randomized_election_timeout(&mut self, ticks: u32) {
        self.raft.set_randomized_election_timeout(ticks);
    }
}
