//! Why something that was asked of the cluster did not come about.

use std::io;
use std::sync::Arc;

use api::{Code, Status};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. The texts are etcd's.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused, with one of etcd's own errors.
    #[error("{}", in_go(*.0))]
    Etcd(api::Error),
    /// The call ended with another status: of the transport, or of a server that isn't etcd.
    #[error("{0}")]
    Status(Status),
    /// The time for the call was up. A write may have happened.
    #[error("context deadline exceeded")]
    DeadlineExceeded {
        /// Why the last try to connect to an endpoint failed, if none is connected.
        connection: Option<String>,
    },
    /// The configuration names no endpoint.
    #[error("etcdclient: no available endpoints")]
    NoEndpoints,
    /// An endpoint cannot be used, and never will.
    #[error("endpoint {endpoint}: {reason}")]
    Endpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
    /// The cluster is older than the client accepts.
    #[error("etcdclient: old cluster version")]
    OldCluster,
    /// What a watch was to start from is forgotten.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted {
        /// The oldest revision that can be watched.
        revision: i64,
    },
    /// The server ended the watch, for this reason.
    #[error("etcdserver: watch canceled: {0}")]
    WatchCanceled(String),
    /// The lease was not renewed in time; it may have ended.
    #[error("etcdclient: leases keep alive halted")]
    KeepAliveHalted,
    /// All members are behind what was read before.
    #[error(
        "etcdclient: no cluster members have a revision higher than the previously received revision"
    )]
    NoGreaterRevision,
    /// Reading or writing a file failed.
    #[error("{action}: {error}")]
    Io {
        /// What was tried, with the path.
        action: String,
        /// What the system said.
        error: Arc<io::Error>,
    },
    /// What came is not a whole snapshot.
    #[error("{0}")]
    Snapshot(String),
    /// Another session holds the lock.
    #[error("mutex: Locked by another session")]
    Locked,
    /// The session ended while it waited for the lock.
    #[error("mutex: session is expired")]
    SessionExpired,
    /// The lock is not held.
    #[error("mutex: lock has already been released")]
    LockReleased,
    /// This candidate does not lead.
    #[error("election: not leader")]
    ElectionNotLeader,
    /// Nobody leads.
    #[error("election: no leader")]
    ElectionNoLeader,
    /// The key is there already.
    #[error("key already exists")]
    KeyExists,
    /// The double barrier has as many as it waits for.
    #[error("too many clients")]
    TooManyClients,
    /// An answer that breaks the protocol.
    #[error("unexpected answer: {0}")]
    Unexpected(&'static str),
}

impl Error {
    /// The gRPC code: the server's, or the one that fits.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Etcd(error) => error.declared_code(),
            Self::Status(status) => status.code,
            Self::DeadlineExceeded { .. } => Code::DeadlineExceeded,
            Self::Compacted { .. } => Code::OutOfRange,
            Self::Endpoint { .. } | Self::Config(_) | Self::NoEndpoints => Code::InvalidArgument,
            Self::WatchCanceled(_)
            | Self::OldCluster
            | Self::Locked
            | Self::LockReleased
            | Self::KeyExists
            | Self::ElectionNotLeader
            | Self::TooManyClients => Code::FailedPrecondition,
            Self::SessionExpired | Self::ElectionNoLeader => Code::NotFound,
            Self::NoGreaterRevision => Code::Unavailable,
            Self::KeepAliveHalted | Self::Io { .. } => Code::Unknown,
            Self::Snapshot(_) => Code::DataLoss,
            Self::Unexpected(_) => Code::Internal,
        }
    }

    /// Whether it is this error of etcd's.
    #[must_use]
    pub fn is(&self, error: api::Error) -> bool {
        match self {
            Self::Etcd(own) => *own == error,
            Self::Compacted { .. } => error == api::Error::Compacted,
            _ => false,
        }
    }

    /// Whether the same may go well in a moment: nothing was said about the request itself.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self.code(), Code::Unavailable | Code::Internal)
    }

    pub(crate) fn io(action: impl Into<String>, error: io::Error) -> Self {
        Self::Io { action: action.into(), error: Arc::new(error) }
    }
}

/// The text that clientv3 gives an error. Some of the server's errors it does not know, and shows as gRPC's.
fn in_go(error: api::Error) -> String {
    use api::Error as E;
    match error {
        E::InvalidClientApiVersion
        | E::NoPasswordUser
        | E::NotPrimary
        | E::PermissionNotGiven
        | E::RangeStreamFilter
        | E::RangeStreamSort
        | E::TimeoutLeaderTransfer
        | E::TimeoutWaitAppliedIndex
        | E::UnknownMethod
        | E::VerifyOnly => Status::fixed(error.code(), error.message()).to_string(),
        error => error.to_string(),
    }
}

impl From<api::Error> for Error {
    fn from(error: api::Error) -> Self {
        Self::Etcd(error)
    }
}

/// Etcd's errors are found again by their text, whatever the code was.
impl From<Status> for Error {
    fn from(status: Status) -> Self {
        match api::Error::from_message(&status.message) {
            Some(api::Error::ContextDeadlineExceeded) => {
                Self::DeadlineExceeded { connection: None }
            }
            Some(error) => Self::Etcd(error),
            None => Self::Status(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Error;
    use api::{Code, Status};

    #[test]
    fn errors_are_found_by_text() {
        let status = Status::fixed(Code::Unknown, "etcdserver: too many requests");
        let error = Error::from(status);
        assert!(error.is(api::Error::TooManyRequests));
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert_eq!(error.to_string(), "etcdserver: too many requests");
    }

    #[test]
    fn other_statuses_read_as_in_go() {
        let error = Error::from(Status::fixed(Code::Unavailable, "gone"));
        assert_eq!(error.to_string(), "rpc error: code = Unavailable desc = gone");
        let error = Error::from(api::Error::RangeStreamSort);
        let expected = "rpc error: code = Unimplemented desc = RangeStream does not support custom sort orders";
        assert_eq!(error.to_string(), expected);
    }
}
