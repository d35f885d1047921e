//! Every error a client can be sent: its code and its exact text, in one table.
//!
//! The texts and codes are etcd's (`api/v3rpc/rpctypes/error.go` and the errors its servers let
//! through unmapped). Clients match on the text, so a text never changes.

mod code;
mod status;
pub mod transport;

pub use code::Code;
pub use status::Status;

use std::fmt;

/// Declares [`Error`] from rows `Name = "text"`, grouped by the code that goes on the wire.
macro_rules! error_table {
    ($($code:ident { $($name:ident = $text:literal,)+ })+) => {
        /// A user's mistake or a refusal, as the client sees it.
        ///
        /// The variants carry etcd's names. `Display` and [`Error::message`] give the full text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Error {
            $($(
                #[doc = concat!("`", $text, "`, code ", stringify!($code))]
                $name,
            )+)+
        }

        impl Error {
            /// Every error, in the order of the table.
            pub const ALL: &'static [Self] = &[$($(Self::$name,)+)+];

            /// The code the server sends with this error.
            #[must_use]
            pub const fn code(self) -> Code {
                match self {
                    $($(Self::$name)|+ => Code::$code,)+
                }
            }

            /// The text the server sends with this error.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self {
                    $($(Self::$name => $text,)+)+
                }
            }
        }
    };
}

error_table! {
    Canceled {
        WatchCanceled = "etcdserver: watch canceled",
        Canceled = "etcdserver: request canceled",
        ContextCanceled = "context canceled",
    }
    Unknown {
        // Declared with other codes, but sent without a status: see `declared_code`.
        MemberNotEnoughStarted = "etcdserver: re-configuration failed due to not enough started members",
        TooManyRequests = "etcdserver: too many requests",
        // Never declared for clients; the server lets the raw text through.
        NoPasswordUser = "auth: authentication failed, password was given for no password user",
        VerifyOnly = "auth: token signing attempted with verify-only key",
        NotPrimary = "not a primary lessor",
        TimeoutLeaderTransfer = "etcdserver: request timed out, leader transfer took too long",
        UnknownMethod = "etcdserver: unknown method",
        MissingLeaderKey = "\"leader\" field must be provided",
        ElectionNoLeader = "election: no leader",
        ElectionNotLeader = "election: not leader",
    }
    InvalidArgument {
        EmptyKey = "etcdserver: key is not provided",
        KeyNotFound = "etcdserver: key not found",
        ValueProvided = "etcdserver: value is provided",
        LeaseProvided = "etcdserver: lease is provided",
        TooManyOps = "etcdserver: too many operations in txn request",
        DuplicateKey = "etcdserver: duplicate key given in txn request",
        InvalidClientApiVersion = "etcdserver: invalid client api version",
        InvalidSortOption = "etcdserver: invalid sort option",
        MemberBadUrls = "etcdserver: given member URLs are invalid",
        RequestTooLarge = "etcdserver: request is too large",
        UserEmpty = "etcdserver: user name is empty",
        RoleEmpty = "etcdserver: role name is empty",
        AuthFailed = "etcdserver: authentication failed, invalid user ID or password",
        PermissionNotGiven = "etcdserver: permission not given",
        InvalidAuthMgmt = "etcdserver: invalid auth management",
        AuthOldRevision = "etcdserver: revision of auth store is old",
        WrongDowngradeVersionFormat = "etcdserver: wrong downgrade target version format",
        InvalidDowngradeTargetVersion = "etcdserver: invalid downgrade target version",
    }
    DeadlineExceeded {
        DeadlineExceeded = "etcdserver: context deadline exceeded",
        ContextDeadlineExceeded = "context deadline exceeded",
    }
    NotFound {
        LeaseNotFound = "etcdserver: requested lease not found",
        MemberNotFound = "etcdserver: member not found",
    }
    PermissionDenied {
        PermissionDenied = "etcdserver: permission denied",
    }
    ResourceExhausted {
        NoSpace = "etcdserver: mvcc: database space exceeded",
    }
    FailedPrecondition {
        LeaseExist = "etcdserver: lease already exists",
        MemberExist = "etcdserver: member ID already exist",
        PeerUrlExist = "etcdserver: Peer URLs already exists",
        MemberNotLearner = "etcdserver: can only promote a learner member",
        LearnerNotReady = "etcdserver: can only promote a learner member which is in sync with leader",
        TooManyLearners = "etcdserver: too many learner members in cluster",
        ClusterIdMismatch = "etcdserver: cluster ID mismatch",
        RootUserNotExist = "etcdserver: root user does not exist",
        RootRoleNotExist = "etcdserver: root user does not have root role",
        UserAlreadyExist = "etcdserver: user name already exists",
        UserNotFound = "etcdserver: user name not found",
        RoleAlreadyExist = "etcdserver: role name already exists",
        RoleNotFound = "etcdserver: role name not found",
        RoleNotGranted = "etcdserver: role is not granted to the user",
        PermissionNotGranted = "etcdserver: permission is not granted to the role",
        AuthNotEnabled = "etcdserver: authentication is not enabled",
        NotLeader = "etcdserver: not leader",
        NotCapable = "etcdserver: not capable",
        NotSupportedForLearner = "etcdserver: rpc not supported for learner",
        BadLeaderTransferee = "etcdserver: bad leader transferee",
        ClusterVersionUnavailable = "etcdserver: cluster version not found during downgrade",
        DowngradeInProcess = "etcdserver: cluster has a downgrade job in progress",
        NoInflightDowngrade = "etcdserver: no inflight downgrade job",
    }
    OutOfRange {
        Compacted = "etcdserver: mvcc: required revision has been compacted",
        FutureRev = "etcdserver: mvcc: required revision is a future revision",
        LeaseTtlTooLarge = "etcdserver: too large lease TTL",
    }
    Unimplemented {
        RangeStreamSort = "RangeStream does not support custom sort orders",
        RangeStreamFilter = "RangeStream does not support revision filters",
    }
    Unavailable {
        NoLeader = "etcdserver: no leader",
        LeaderChanged = "etcdserver: leader changed",
        Stopped = "etcdserver: server stopped",
        Timeout = "etcdserver: request timed out",
        TimeoutDueToLeaderFail = "etcdserver: request timed out, possibly due to previous leader failure",
        TimeoutDueToConnectionLost = "etcdserver: request timed out, possibly due to connection lost",
        TimeoutWaitAppliedIndex = "etcdserver: request timed out, waiting for the applied index took too long",
        Unhealthy = "etcdserver: unhealthy cluster",
    }
    DataLoss {
        Corrupt = "etcdserver: corrupt cluster",
    }
    Unauthenticated {
        InvalidAuthToken = "etcdserver: invalid auth token",
    }
}

/// The `cancel_reason` of a watch whose id is taken on its stream.
pub const WATCH_DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// The `cancel_reason` of a watch of an empty or reversed range.
pub const WATCH_EMPTY_RANGE: &str = "mvcc: watcher range is empty";

impl Error {
    /// The code etcd declares for this error, which its Go client restores from the text.
    ///
    /// It differs from [`Error::code`] for two errors only: the real server sends them without a
    /// status, so that gRPC makes `Unknown` of it.
    #[must_use]
    pub const fn declared_code(self) -> Code {
        match self {
            Self::MemberNotEnoughStarted => Code::FailedPrecondition,
            Self::TooManyRequests => Code::ResourceExhausted,
            _ => self.code(),
        }
    }

    /// The text of this error inside the server: in logs, on peers' HTTP paths, in
    /// `WatchResponse.cancel_reason` and where another error wraps it.
    #[must_use]
    pub const fn internal_message(self) -> &'static str {
        match self {
            Self::Compacted => "mvcc: required revision has been compacted",
            Self::FutureRev => "mvcc: required revision is a future revision",
            Self::NoSpace => "etcdserver: no space",
            Self::Canceled => "etcdserver: request cancelled",
            Self::LeaseNotFound => "lease not found",
            Self::LeaseExist => "lease already exists",
            Self::LeaseTtlTooLarge => "too large lease TTL",
            Self::MemberNotFound => "membership: ID not found",
            Self::MemberExist => "membership: ID exists",
            Self::PeerUrlExist => "membership: peerURL exists",
            Self::MemberNotLearner => "membership: can only promote a learner member",
            Self::TooManyLearners => "membership: too many learner members in cluster",
            Self::RootUserNotExist => "auth: root user does not exist",
            Self::RootRoleNotExist => "auth: root user does not have root role",
            Self::UserAlreadyExist => "auth: user already exists",
            Self::UserEmpty => "auth: user name is empty",
            Self::UserNotFound => "auth: user not found",
            Self::RoleAlreadyExist => "auth: role already exists",
            Self::RoleNotFound => "auth: role not found",
            Self::RoleEmpty => "auth: role name is empty",
            Self::PermissionNotGiven => "auth: permission not given",
            Self::AuthFailed => "auth: authentication failed, invalid user ID or password",
            Self::PermissionDenied => "auth: permission denied",
            Self::RoleNotGranted => "auth: role is not granted to the user",
            Self::PermissionNotGranted => "auth: permission is not granted to the role",
            Self::AuthNotEnabled => "auth: authentication is not enabled",
            Self::AuthOldRevision => "auth: revision in header is old",
            Self::InvalidAuthToken => "auth: invalid auth token",
            Self::InvalidAuthMgmt => "auth: invalid auth management",
            _ => self.message(),
        }
    }

    /// The error with exactly this text, as a client finds it again whatever the code was.
    #[must_use]
    pub fn from_message(message: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|error| error.message() == message)
    }

    /// The status of this error when it came from the client inside Lock and Election: the text
    /// stays, the code becomes `Unknown`.
    #[must_use]
    pub const fn inner_status(self) -> Status {
        Status::fixed(Code::Unknown, self.message())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
