//! What goes into the consensus thread and what comes out of it.

use bytes::Bytes;

/// A request that is to be committed.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The request id in the entry's header; answers carry it back.
    pub id: u64,
    /// The encoded `InternalRaftRequest`.
    pub data: Bytes,
}

/// Everything that a [`crate::Replica`] receives, in one queue.
#[derive(Debug)]
pub enum Event {
    /// One heartbeat interval has passed.
    Tick,
    /// Requests of one wake-up of a front-door core.
    Propose(Vec<Proposal>),
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
        /// Configuration changes among them, in order.
        conf_changes: Vec<raft::ConfChangeV2>,
        /// A snapshot of the state machine, to be saved and to let the log be cut.
        snapshot: Option<raft::Snapshot>,
    },
    /// A message of another member.
    Peer(raft::Message),
    /// Hand leadership over if there is someone to take it, and stop taking proposals.
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
    /// Send to another member.
    Send(raft::Message),
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
    /// The hard state, if it changed.
    pub hard_state: Option<raft::HardState>,
    /// Entries to append.
    pub entries: Vec<raft::Entry>,
    /// Whether the write must be synced before `responses` go out.
    pub must_sync: bool,
    /// To be given back when done.
    pub responses: Vec<raft::Message>,
}
