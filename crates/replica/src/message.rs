//! What goes into the consensus thread and what comes out of it.

use bytes::Bytes;
use mutant::mutant;

/// A request that is to be committed.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The request id in the entry's header; answers carry it back.
    pub id: u64,
    /// The encoded `InternalRaftRequest`.
    pub data: Bytes,
}

/// A change of the members that is to be committed.
#[derive(Clone, Debug)]
pub struct ConfProposal {
    /// The change; its id is a request id, by which the answer finds the asker.
    pub change: raft::ConfChange,
    /// Refuse unless this member leads and the learner has nearly all of the log: for a promotion.
    pub needs_ready_learner: bool,
}

/// Everything that a [`crate::Replica`] receives, in one queue.
#[derive(Debug)]
pub enum Event {
    /// One heartbeat interval has passed.
    Tick,
    /// Requests of one wake-up of a front-door core.
    Propose(Vec<Proposal>),
    /// Requests that only the leader of `term` may make. They enter the log in that term or not at
    /// all: a leader that was deposed without knowing it must not, say, revoke a lease that its
    /// successor has renewed. Nobody is told of those that are dropped.
    ProposeAsLeader {
        /// The term in which the proposer leads.
        term: u64,
        /// Encoded `InternalRaftRequest`s.
        data: Vec<Bytes>,
    },
    /// A change of the members.
    ProposeConfChange(ConfProposal),
    /// A linearizable read; one stands for all reads of a wake-up. `id` comes back when the state
    /// that must be read is applied.
    Read {
        /// Chosen by the asker; its high 16 bits name the front-door core.
        id: u64,
    },
    /// The disk thread has done a [`Persist`]; its responses come back as they were given.
    Persisted(Vec<raft::Message>),
    /// Entries up to `index` are applied.
    Applied {
        /// The last applied index.
        index: u64,
        /// Configuration changes among them with their index, in order.
        conf_changes: Vec<(u64, raft::ConfChangeV2)>,
        /// A snapshot of the state machine, to be saved and to let the log be cut.
        snapshot: Option<raft::Snapshot>,
    },
    /// A message of another member.
    Peer(raft::Message),
    /// A message to this member could not be sent.
    Unreachable(u64),
    /// This member's process has ended: nothing that it has begun goes on. If it led, the others elect
    /// another at once, by pre-votes, which harm nobody should it be alive after all.
    Gone(u64),
    /// Sending the snapshot of an [`Effect::SendSnapshot`] has ended.
    SnapshotSent {
        /// To whom it went.
        to: u64,
        /// Whether it got there.
        status: raft::SnapshotStatus,
    },
    /// Let this member lead, if it can.
    TransferLeader(u64),
    /// Hand leadership over if there is someone to take it, and stop taking proposals. The member
    /// goes on as long as [`crate::Replica::is_handing_over`], or as the owner has patience.
    Stop,
}

/// What the owner of a [`crate::Replica`] must do. The order of effects is the ordering rule: an
/// effect may be begun as soon as those before it have been handed over.
#[derive(Debug)]
pub enum Effect {
    /// Write to the log and sync; afterwards give `responses` back as [`Event::Persisted`].
    Persist(Persist),
    /// Apply these committed entries.
    Apply(Vec<raft::Entry>),
    /// Send to another member. What can't be sent is dropped and reported as
    /// [`Event::Unreachable`].
    Send(raft::Message),
    /// Send a snapshot to another member: the state as of now or later, with index, term and
    /// configuration to match, in place of the one in the message, which only says that the
    /// receiver needs one. [`Event::SnapshotSent`] must follow.
    SendSnapshot(raft::Message),
    /// Replace the state by that of a snapshot, whose database was received before its message. It
    /// is recorded in the log. Entries behind it follow.
    Install(raft::Snapshot),
    /// The member must not go on, and this is why.
    Fatal(raft::Error),
    /// The reads may be served: everything committed when they arrived is applied.
    ReadReady(Vec<u64>),
    /// These proposals did not enter the log.
    Refused(Vec<u64>, api::Error),
    /// Leader, term or role changed. `leader` 0: none.
    Role {
        /// The current term.
        term: u64,
        /// The leader's member id.
        leader: u64,
        /// Whether that is this member.
        is_leader: bool,
    },
    /// Save this snapshot as `.snap`, then record it in the log, then release older segments.
    SaveSnapshot(raft::Snapshot),
    /// Raft's own lines for the process log.
    Log(Vec<raft::LogLine>),
}

/// A unit of work for the disk thread.
#[derive(Debug, Default)]
pub struct Persist {
    /// A snapshot of the leader's: to be saved as `.snap` and recorded before anything else. Comes
    /// without entries.
    pub snapshot: Option<raft::Snapshot>,
    /// The hard state, if it changed.
    pub hard_state: Option<raft::HardState>,
    /// Entries to append.
    pub entries: Vec<raft::Entry>,
    /// Whether the write must be synced before `responses` go out.
    pub must_sync: bool,
    /// To be given back when done.
    pub responses: Vec<raft::Message>,
}

/// What a [`Persist`] is done in.
#[derive(Clone, Copy, Debug)]
pub enum LogStep<'a> {
    /// Save a leader's snapshot as `.snap`, then record it in the log.
    RecordSnapshot(&'a raft::Snapshot),
    /// Append to the log, and sync if need be.
    Save {
        /// As it is now; empty if it did not change.
        hard_state: raft::HardState,
        /// To append.
        entries: &'a [raft::Entry],
        /// Whether to sync.
        must_sync: bool,
    },
    /// Let files go that a restart from the snapshot at this index does not need.
    Release(u64),
}

impl Persist {
    /// What is to be done, in this order: a crash between any two must leave a log to restart from.
    pub fn steps(&self) -> impl Iterator<Item = LogStep<'_>> {
        let snapshot = self.snapshot.as_ref();
        let is_written = self.hard_state.is_some() || !self.entries.is_empty();
        let save = LogStep::Save {
            hard_state: self.hard_state.unwrap_or_default(),
            entries: &self.entries,
            must_sync: self.must_sync,
        };
        let record = snapshot.map(LogStep::RecordSnapshot);
        let release = snapshot.map(|snapshot| LogStep::Release(snapshot.metadata.index));
        let save = is_written.then_some(save);
        let (first, second) = if mutant!("10219") { (save, record) } else { (record, save) };
        first.into_iter().chain(second).chain(release)
    }

    /// Takes over what `other`, the next one, is to write, so that one sync serves both. Gives it
    /// back where it must be written on its own: a snapshot, and whatever comes before or after it,
    /// since a crash between the two must find a log without a gap.
    pub fn merge(&mut self, mut other: Self) -> Option<Self> {
        if self.snapshot.is_some() || other.snapshot.is_some() {
            return Some(other);
        }
        self.must_sync |= other.must_sync;
        self.hard_state = other.hard_state.or(self.hard_state);
        self.entries.append(&mut other.entries);
        self.responses.append(&mut other.responses);
        None
    }

    /// Whether there is nothing to write and nobody to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.snapshot.is_none()
            && self.hard_state.is_none()
            && self.entries.is_empty()
            && self.responses.is_empty()
    }
}
