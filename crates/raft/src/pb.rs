//! The messages of package `raftpb`, as they travel between members and lie on disk.
//!
//! They are plain structs rather than generated ones: an [`Entry`] passes through here several times for each
//! proposal, and proto2 *presence* is visible on the wire and on disk. raft v3.7 writes a field that its code
//! has set even when it is zero and leaves out a field that it has not; releases up to 3.6 wrote every scalar.
//! So each `encode` documents which zeros it writes, and each decoder takes both forms, skips unknown fields,
//! and refuses malformed bytes without panicking.

mod codec;

pub use codec::DecodeError;

use std::fmt;

use bytes::Bytes;

/// What an [`Entry`] carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum EntryType {
    /// Data of the application; empty for the entry that a new leader appends.
    #[default]
    Normal = 0,
    /// An encoded [`ConfChange`].
    ConfChange = 1,
    /// An encoded [`ConfChangeV2`].
    ConfChangeV2 = 2,
}

impl EntryType {
    const fn from_wire(value: u64) -> Option<Self> {
        Some(match value {
            0 => Self::Normal,
            1 => Self::ConfChange,
            2 => Self::ConfChangeV2,
            _ => return None,
        })
    }

    /// Whether the entry changes the configuration, in either format.
    pub const fn is_conf_change(self) -> bool {
        matches!(self, Self::ConfChange | Self::ConfChangeV2)
    }
}

impl fmt::Display for EntryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "EntryNormal",
            Self::ConfChange => "EntryConfChange",
            Self::ConfChangeV2 => "EntryConfChangeV2",
        })
    }
}

/// One entry of the log.
///
/// On the wire `Type` is left out when normal, `Term` and `Index` when zero (a proposal that no leader has seen
/// yet), `Data` when empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Term of the leader that appended it.
    pub term: u64,
    /// Position in the log, from 1.
    pub index: u64,
    /// What `data` is.
    pub entry_type: EntryType,
    /// The payload. Decoding from [`Bytes`] shares the buffer decoded from.
    pub data: Bytes,
}

/// The part of a member's state that must survive a crash, beside the log: thesis figure 3.1.
///
/// All three fields are always written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term this member has seen.
    pub term: u64,
    /// Whom it voted for in that term, 0 for nobody.
    pub vote: u64,
    /// Highest index known to be committed.
    pub commit: u64,
}

impl HardState {
    /// Whether nothing is set, which in a `Ready` means "unchanged".
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A configuration of the cluster, joint when `voters_outgoing` is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// Voters of the (incoming) configuration.
    pub voters: Vec<u64>,
    /// Members that get the log but have no vote.
    pub learners: Vec<u64>,
    /// Voters of the outgoing configuration while joint.
    pub voters_outgoing: Vec<u64>,
    /// Voters of the outgoing configuration that become learners when the joint configuration is left.
    pub learners_next: Vec<u64>,
    /// Whether the joint configuration is left automatically. `None` reads as false and is not written; the
    /// library itself always sets it.
    pub auto_leave: Option<bool>,
}

impl fmt::Display for ConfState {
    /// As protobuf's text format has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("voters", &self.voters),
            ("learners", &self.learners),
            ("voters_outgoing", &self.voters_outgoing),
            ("learners_next", &self.learners_next),
        ];
        for (name, ids) in lists {
            ids.iter().try_for_each(|id| write!(f, "{name}:{id} "))?;
        }
        write!(f, "auto_leave:{}", self.is_auto_leave())
    }
}

impl ConfState {
    /// A configuration of voters only, `auto_leave` unset.
    pub fn from_voters(voters: Vec<u64>) -> Self {
        Self { voters, ..Self::default() }
    }

    /// `auto_leave`, absent read as false.
    pub fn is_auto_leave(&self) -> bool {
        self.auto_leave == Some(true)
    }

    /// Whether both describe the same configuration, whatever the order of their ids.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        fn sorted(ids: &[u64]) -> Vec<u64> {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        }
        sorted(&self.voters) == sorted(&other.voters)
            && sorted(&self.learners) == sorted(&other.learners)
            && sorted(&self.voters_outgoing) == sorted(&other.voters_outgoing)
            && sorted(&self.learners_next) == sorted(&other.learners_next)
            && self.is_auto_leave() == other.is_auto_leave()
    }
}

/// Where in the log a [`Snapshot`] stands, and the configuration there. All fields are always written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMetadata {
    /// Configuration as of `index`.
    pub conf_state: ConfState,
    /// Last entry that the snapshot contains.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
}

/// The state machine as of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The application's state, opaque to raft; left out when empty.
    pub data: Bytes,
    /// Where it stands.
    pub metadata: SnapshotMetadata,
}

impl Snapshot {
    /// Whether this stands for "no snapshot".
    pub fn is_empty(&self) -> bool {
        self.metadata.index == 0
    }
}

/// The kinds of [`Message`]. See the crate's documentation of each in `doc.go` of etcd-io/raft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MessageType {
    /// Local: start an election.
    #[default]
    Hup = 0,
    /// Local: the leader sends heartbeats.
    Beat = 1,
    /// Append these entries to the leader's log.
    Prop = 2,
    /// Entries to replicate, and the commit index.
    App = 3,
    /// Answer to `App` and `Snap`.
    AppResp = 4,
    /// Request for a vote.
    Vote = 5,
    /// Answer to `Vote`.
    VoteResp = 6,
    /// A snapshot to install.
    Snap = 7,
    /// The leader is alive; carries the commit index and a read context.
    Heartbeat = 8,
    /// Answer to `Heartbeat`.
    HeartbeatResp = 9,
    /// Local: the last message to a peer was not delivered.
    Unreachable = 10,
    /// Local: how sending a snapshot ended.
    SnapStatus = 11,
    /// Local: the leader checks that a quorum is active.
    CheckQuorum = 12,
    /// Hand leadership to `from`.
    TransferLeader = 13,
    /// Start an election at once: thesis §3.10.
    TimeoutNow = 14,
    /// Ask for an index that is safe to read at: thesis §6.4.
    ReadIndex = 15,
    /// Answer to `ReadIndex`.
    ReadIndexResp = 16,
    /// Would you vote for me: thesis §9.6.
    PreVote = 17,
    /// Answer to `PreVote`.
    PreVoteResp = 18,
    /// To the append thread: write this, then deliver `responses`.
    StorageAppend = 19,
    /// From the append thread.
    StorageAppendResp = 20,
    /// To the apply thread: apply these entries, then deliver `responses`.
    StorageApply = 21,
    /// From the apply thread.
    StorageApplyResp = 22,
    /// Local: forget the leader, so that votes are possible before the timeout.
    ForgetLeader = 23,
}

impl MessageType {
    const ALL: [Self; 24] = [
        Self::Hup,
        Self::Beat,
        Self::Prop,
        Self::App,
        Self::AppResp,
        Self::Vote,
        Self::VoteResp,
        Self::Snap,
        Self::Heartbeat,
        Self::HeartbeatResp,
        Self::Unreachable,
        Self::SnapStatus,
        Self::CheckQuorum,
        Self::TransferLeader,
        Self::TimeoutNow,
        Self::ReadIndex,
        Self::ReadIndexResp,
        Self::PreVote,
        Self::PreVoteResp,
        Self::StorageAppend,
        Self::StorageAppendResp,
        Self::StorageApply,
        Self::StorageApplyResp,
        Self::ForgetLeader,
    ];

    fn from_wire(value: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(value).ok()?).copied()
    }

    /// The type that [`name`](Self::name) calls so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|msg_type| msg_type.name() == name)
    }

    /// Whether only this member may send it to itself; such a message from a peer is refused.
    pub const fn is_local(self) -> bool {
        matches!(
            self,
            Self::Hup
                | Self::Beat
                | Self::Unreachable
                | Self::SnapStatus
                | Self::CheckQuorum
                | Self::StorageAppend
                | Self::StorageAppendResp
                | Self::StorageApply
                | Self::StorageApplyResp
        )
    }

    /// Whether it answers another message, and so makes sense from a known peer only.
    pub const fn is_response(self) -> bool {
        matches!(
            self,
            Self::AppResp
                | Self::VoteResp
                | Self::HeartbeatResp
                | Self::Unreachable
                | Self::ReadIndexResp
                | Self::PreVoteResp
                | Self::StorageAppendResp
                | Self::StorageApplyResp
        )
    }

    /// etcd's name, like `MsgApp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hup => "MsgHup",
            Self::Beat => "MsgBeat",
            Self::Prop => "MsgProp",
            Self::App => "MsgApp",
            Self::AppResp => "MsgAppResp",
            Self::Vote => "MsgVote",
            Self::VoteResp => "MsgVoteResp",
            Self::Snap => "MsgSnap",
            Self::Heartbeat => "MsgHeartbeat",
            Self::HeartbeatResp => "MsgHeartbeatResp",
            Self::Unreachable => "MsgUnreachable",
            Self::SnapStatus => "MsgSnapStatus",
            Self::CheckQuorum => "MsgCheckQuorum",
            Self::TransferLeader => "MsgTransferLeader",
            Self::TimeoutNow => "MsgTimeoutNow",
            Self::ReadIndex => "MsgReadIndex",
            Self::ReadIndexResp => "MsgReadIndexResp",
            Self::PreVote => "MsgPreVote",
            Self::PreVoteResp => "MsgPreVoteResp",
            Self::StorageAppend => "MsgStorageAppend",
            Self::StorageAppendResp => "MsgStorageAppendResp",
            Self::StorageApply => "MsgStorageApply",
            Self::StorageApplyResp => "MsgStorageApplyResp",
            Self::ForgetLeader => "MsgForgetLeader",
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A message between members, or between a member and its own storage threads.
///
/// On the wire `Type` is always written. Another zero is written where v3.7 sets that field for the message's
/// type: `index`, `log_term` and `commit` of `App`, `commit` of `Heartbeat`, `index` and `log_term` of `Vote`,
/// `PreVote` and a rejecting `AppResp` (with its `reject_hint`), `index` of `ReadIndexResp`. A message with no
/// address, like the heartbeat that keeps a stream alive, writes none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it asks or answers.
    pub msg_type: MessageType,
    /// Receiver.
    pub to: u64,
    /// Sender, 0 for this member itself.
    pub from: u64,
    /// Sender's term, 0 for a local message, `Prop` and `ReadIndex`.
    pub term: u64,
    /// Term of the entry at `index`.
    pub log_term: u64,
    /// `App`: index before the first entry; answers: index answered for.
    pub index: u64,
    /// Entries to append, propose or apply, or the context of a read.
    pub entries: Vec<Entry>,
    /// Sender's commit index.
    pub commit: u64,
    /// `StorageAppend` only: the vote to persist.
    pub vote: u64,
    /// `Snap`, `StorageAppend` and its answer.
    pub snapshot: Option<Box<Snapshot>>,
    /// Whether an answer says no.
    pub reject: bool,
    /// Rejecting `AppResp`: where the follower's log may match.
    pub reject_hint: u64,
    /// `Heartbeat` and its answer: count of reads; `Vote`: `CampaignTransfer` when forced.
    pub context: Bytes,
    /// `StorageAppend` and `StorageApply`: deliver these when done.
    pub responses: Vec<Self>,
}

/// What one change does to a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConfChangeType {
    /// Make it a voter.
    #[default]
    AddNode = 0,
    /// Remove it.
    RemoveNode = 1,
    /// Nothing for raft; the application changes its address.
    UpdateNode = 2,
    /// Make it a learner.
    AddLearnerNode = 3,
}

impl ConfChangeType {
    const fn from_wire(value: u64) -> Option<Self> {
        Some(match value {
            0 => Self::AddNode,
            1 => Self::RemoveNode,
            2 => Self::UpdateNode,
            3 => Self::AddLearnerNode,
            _ => return None,
        })
    }
}

impl fmt::Display for ConfChangeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddNode => "ConfChangeAddNode",
            Self::RemoveNode => "ConfChangeRemoveNode",
            Self::UpdateNode => "ConfChangeUpdateNode",
            Self::AddLearnerNode => "ConfChangeAddLearnerNode",
        })
    }
}

/// How a [`ConfChangeV2`] moves between configurations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConfChangeTransition {
    /// Simple when it is one change, else joint with automatic leave.
    #[default]
    Auto = 0,
    /// Joint, left automatically.
    JointImplicit = 1,
    /// Joint, left by an explicit empty change.
    JointExplicit = 2,
}

impl ConfChangeTransition {
    const fn from_wire(value: u64) -> Option<Self> {
        Some(match value {
            0 => Self::Auto,
            1 => Self::JointImplicit,
            2 => Self::JointExplicit,
            _ => return None,
        })
    }
}

impl fmt::Display for ConfChangeTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "ConfChangeTransitionAuto",
            Self::JointImplicit => "ConfChangeTransitionJointImplicit",
            Self::JointExplicit => "ConfChangeTransitionJointExplicit",
        })
    }
}

/// A change of one member, the first format. `type` and `node_id` are always written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfChange {
    /// What happens to `node_id`.
    pub change_type: ConfChangeType,
    /// The member changed. 0 makes the change a no-op.
    pub node_id: u64,
    /// The application's own data.
    pub context: Bytes,
    /// The application's request id; left out when 0.
    pub id: u64,
}

impl ConfChange {
    /// The same operation in the second format.
    pub fn to_v2(&self) -> ConfChangeV2 {
        ConfChangeV2 {
            transition: ConfChangeTransition::Auto,
            changes: vec![ConfChangeSingle {
                change_type: self.change_type,
                node_id: self.node_id,
            }],
            context: self.context.clone(),
        }
    }
}

/// One change of a [`ConfChangeV2`]. Both fields are always written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfChangeSingle {
    /// What happens to `node_id`.
    pub change_type: ConfChangeType,
    /// The member changed. 0 makes the change a no-op.
    pub node_id: u64,
}

/// A change of any number of members, through a joint configuration where needed: thesis §4.3.
/// `transition` is left out when `Auto`, so the change that leaves a joint configuration is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfChangeV2 {
    /// Whether a joint configuration is used, and how it ends.
    pub transition: ConfChangeTransition,
    /// The changes, applied in order.
    pub changes: Vec<ConfChangeSingle>,
    /// The application's own data.
    pub context: Bytes,
}

impl ConfChangeV2 {
    /// `Some(auto_leave)` when the change goes through a joint configuration: asked for, or more than one change.
    pub fn enter_joint(&self) -> Option<bool> {
        match self.transition {
            ConfChangeTransition::Auto if self.changes.len() <= 1 => None,
            ConfChangeTransition::Auto | ConfChangeTransition::JointImplicit => Some(true),
            ConfChangeTransition::JointExplicit => Some(false),
        }
    }

    /// Whether the change leaves a joint configuration: it is empty but for its context.
    pub fn is_leave_joint(&self) -> bool {
        self.transition == ConfChangeTransition::Auto && self.changes.is_empty()
    }
}
