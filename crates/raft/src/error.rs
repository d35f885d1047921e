//! Why a proposal or a message had no effect.

use crate::pb::MessageType;

/// What [`RawNode::step`](crate::RawNode::step) and the proposals return.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no leader, leadership is being transferred, the member is not in the configuration, forwarding
    /// is off, or too much is uncommitted. The proposal is gone; it may be tried again.
    #[error("raft proposal dropped")]
    ProposalDropped,
    /// A peer sent what only this member may send to itself.
    #[error("raft: cannot step raft local message")]
    StepLocalMsg,
    /// An answer came from nobody in the configuration.
    #[error("raft: cannot step as peer not found")]
    StepPeerNotFound,
    /// The message cannot come from a correct peer. The member's state is as if it had not come.
    #[error("raft: invalid {msg_type} from {from:x}: {reason}")]
    InvalidMessage {
        /// Its type.
        msg_type: MessageType,
        /// Its sender.
        from: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The leader says that entries are committed on this member that its log does not have. The log was lost or
    /// damaged, and the member must not go on.
    ///
    /// DIFF(etcd): there the process panics with this text.
    #[error(
        "tocommit({commit}) is out of range [lastIndex({last_index})]. Was the raft log corrupted, truncated, or lost?"
    )]
    LogLost {
        /// Commit index of the leader.
        commit: u64,
        /// Last index here.
        last_index: u64,
    },
}

/// Why [`RawNode::bootstrap`](crate::RawNode::bootstrap) did nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// No peer was given.
    #[error("must provide at least one peer to Bootstrap")]
    NoPeers,
    /// The storage has entries or a snapshot.
    #[error("can't bootstrap a nonempty Storage")]
    NonemptyStorage,
    /// A peer's id is 0 or stands for a storage thread.
    #[error("{0:x} is no id of a member")]
    PeerId(u64),
}
