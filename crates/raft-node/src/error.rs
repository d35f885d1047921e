//! Why a call had no effect.

/// What the calls of a [`Node`](crate::Node) return.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The member was stopped, before the call or while it waited: etcd's `ErrStopped`. Also when an assertion failed
    /// inside the member, on any thread: it does not go on with half a step done.
    #[error("raft: stopped")]
    Stopped,
    /// The time given to `wait_for` is over. The call has had no effect.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
    /// Raft refused; see [`raft::Error`], which says for `ProposalDropped` when that is.
    #[error(transparent)]
    Raft(#[from] raft::Error),
    /// The change of the configuration is impossible.
    #[error(transparent)]
    ConfChange(#[from] raft::ConfChangeError),
}

/// Why a member did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration contradicts itself, or the storage.
    #[error(transparent)]
    Config(#[from] raft::ConfigError),
    /// The peers are none, or the storage is not empty: use [`Node::restart`](crate::Node::restart) then.
    #[error(transparent)]
    Bootstrap(#[from] raft::BootstrapError),
}
