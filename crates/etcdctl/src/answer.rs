//! What commands print: an answer of the server, with what the command knows besides.

use api::etcdserverpb as pb;

/// The state of an endpoint, for `endpoint health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) endpoint: String,
    pub(crate) healthy: bool,
    /// A duration, or nothing where none was measured.
    pub(crate) took: String,
    pub(crate) error: String,
}

/// What a watch delivers, as etcd's client library shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    pub(crate) header: pb::ResponseHeader,
    pub(crate) events: Vec<api::mvccpb::Event>,
    pub(crate) compact_revision: i64,
    pub(crate) canceled: bool,
    pub(crate) created: bool,
    pub(crate) cancel_reason: String,
}

/// All that can be printed in the five formats.
#[derive(Debug)]
pub(crate) enum Answer<'a> {
    Put(&'a pb::PutResponse),
    Get(&'a pb::RangeResponse),
    Delete(&'a pb::DeleteRangeResponse),
    Txn(&'a pb::TxnResponse),
    Watch(&'a Watched),
    Grant(&'a pb::LeaseGrantResponse),
    Revoke(i64, &'a pb::LeaseRevokeResponse),
    KeepAlive(&'a pb::LeaseKeepAliveResponse),
    /// The keys were asked for, too.
    TimeToLive(&'a pb::LeaseTimeToLiveResponse, bool),
    Leases(&'a pb::LeaseLeasesResponse),
    MemberAdd(&'a pb::MemberAddResponse),
    MemberRemove(u64, &'a pb::MemberRemoveResponse),
    MemberUpdate(u64, &'a pb::MemberUpdateResponse),
    MemberPromote(u64, &'a pb::MemberPromoteResponse),
    MemberList(&'a pb::MemberListResponse),
    Health(&'a [Health]),
    Status(&'a [(String, pb::StatusResponse)]),
    HashKv(&'a [(String, pb::HashKvResponse)]),
    /// From whom, and to whom.
    MoveLeader(u64, u64, &'a pb::MoveLeaderResponse),
    /// `validate`, `enable` or `cancel`.
    Downgrade(&'static str, &'a pb::DowngradeResponse),
    Alarm(&'a pb::AlarmResponse),
    RoleAdd(&'a str, &'a pb::AuthRoleAddResponse),
    RoleGet(&'a str, &'a pb::AuthRoleGetResponse),
    RoleDelete(&'a str, &'a pb::AuthRoleDeleteResponse),
    RoleList(&'a pb::AuthRoleListResponse),
    RoleGrant(&'a str, &'a pb::AuthRoleGrantPermissionResponse),
    /// The role, the key and the end of the range.
    RoleRevoke(&'a str, &'a [u8], &'a [u8], &'a pb::AuthRoleRevokePermissionResponse),
    UserAdd(&'a str, &'a pb::AuthUserAddResponse),
    UserGet(&'a str, &'a pb::AuthUserGetResponse),
    UserList(&'a pb::AuthUserListResponse),
    UserPassword(&'a pb::AuthUserChangePasswordResponse),
    /// The user and the role.
    UserGrant(&'a str, &'a str, &'a pb::AuthUserGrantRoleResponse),
    /// The user and the role.
    UserRevoke(&'a str, &'a str, &'a pb::AuthUserRevokeRoleResponse),
    UserDelete(&'a str, &'a pb::AuthUserDeleteResponse),
    AuthStatus(&'a pb::AuthStatusResponse),
}
