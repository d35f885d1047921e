//! The services: from a decoded request to an answer, a proposal, a read, a command or a stream.
//!
//! A handler is a plain function. It checks what needs no state, in etcd's order, and says through
//! [`Next`] what its call waits for.

pub(crate) mod cluster;
pub(crate) mod election;
pub(crate) mod health;
#[cfg(feature = "interop")]
pub(crate) mod interop;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod maintenance;
pub(crate) mod outcome;
pub(crate) mod reflection;
mod steps;
pub(crate) mod txn;
pub(crate) mod watch;

use api::error::transport;
use api::frame::TooLarge;
use api::service::{Rpc, Unknown};
use api::{Code, Error, Status};

use crate::desk::{CallInfo, Desk, Next, ReadOp, ReadWaiter};

/// What goes wrong in a handler.
pub(crate) type Result<T> = std::result::Result<T, Status>;

/// Takes the request of a call that has one.
pub(crate) fn dispatch(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    match call.rpc {
        Rpc::KvRange => kv::range(desk, call, request),
        Rpc::KvRangeStream => kv::range_stream(desk, call, request),
        Rpc::KvPut => kv::put(desk, call, request),
        Rpc::KvDeleteRange => kv::delete_range(desk, call, request),
        Rpc::KvTxn => txn::txn(desk, call, request),
        Rpc::KvCompact => kv::compact(desk, call, request),
        Rpc::LeaseGrant => lease::grant(desk, call, request),
        Rpc::LeaseRevoke => lease::revoke(desk, call, request),
        Rpc::LeaseTimeToLive => lease::time_to_live(desk, call, request),
        Rpc::LeaseLeases => lease::leases(desk, call, request),
        Rpc::ClusterMemberAdd => cluster::member_add(desk, call, request),
        Rpc::ClusterMemberRemove => cluster::member_remove(desk, call, request),
        Rpc::ClusterMemberUpdate => cluster::member_update(desk, call, request),
        Rpc::ClusterMemberPromote => cluster::member_promote(desk, call, request),
        Rpc::ClusterMemberList => cluster::member_list(desk, call, request),
        Rpc::MaintenanceAlarm => maintenance::alarm(desk, call, request),
        Rpc::MaintenanceStatus => maintenance::status(desk, request),
        Rpc::MaintenanceDefragment => maintenance::defragment(desk, call, request),
        Rpc::MaintenanceMoveLeader => maintenance::move_leader(desk, call, request),
        Rpc::MaintenanceHash => maintenance::hash(desk, call, request),
        Rpc::MaintenanceHashKv => maintenance::hash_kv(desk, call, request),
        Rpc::MaintenanceSnapshot => maintenance::snapshot(desk, call, request),
        Rpc::Lock => lock::lock(desk, call, request),
        Rpc::LockUnlock => lock::unlock(desk, call, request),
        Rpc::ElectionCampaign => election::campaign(desk, call, request),
        Rpc::ElectionProclaim => election::proclaim(desk, call, request),
        Rpc::ElectionLeader => election::leader(desk, call, request),
        Rpc::ElectionObserve => election::observe(desk, call, request),
        Rpc::ElectionResign => election::resign(desk, call, request),
        Rpc::HealthCheck => health::check(desk, request),
        Rpc::HealthWatch => health::watch(desk, request),
        Rpc::HealthList => health::list(desk, request),
        #[cfg(feature = "interop")]
        Rpc::TestServiceEmptyCall => interop::empty_call(desk, request),
        #[cfg(feature = "interop")]
        Rpc::TestServiceUnaryCall => interop::unary_call(desk, request),
        #[cfg(feature = "interop")]
        Rpc::TestServiceStreamingOutputCall => interop::streaming_output_call(desk, call, request),
        rpc => Err(unimplemented(rpc)),
    }
}

/// Goes on with a call whose linearizable read may be served.
pub(crate) fn read_ready(desk: &mut Desk, waiter: ReadWaiter, arena: &[u8]) -> Result<Next> {
    let ReadWaiter { call, op } = waiter;
    match op {
        ReadOp::Range(part) => kv::serve_range(desk, &call, arena.get(part).unwrap_or_default()),
        ReadOp::RangeStream(part) => kv::serve_range_stream(arena.get(part).unwrap_or_default()),
        ReadOp::Txn(request) => txn::serve_read_only(desk, &call, &request),
        ReadOp::MemberList => cluster::serve_member_list(desk),
        ReadOp::LeaseTimeToLive { id, keys } => {
            desk.command(&call, apply::Command::LeaseTimeToLive(id, keys), id)
        }
        ReadOp::LeaseRenew(id) => desk.command(&call, apply::Command::LeaseRenew(id), id),
    }
}

/// Whether this server has the method, although not every service of etcd's is here yet.
pub(crate) fn is_implemented(rpc: Rpc) -> bool {
    !matches!(
        rpc,
        Rpc::MaintenanceDowngrade
            | Rpc::AuthEnable
            | Rpc::AuthDisable
            | Rpc::AuthStatus
            | Rpc::Authenticate
            | Rpc::AuthUserAdd
            | Rpc::AuthUserGet
            | Rpc::AuthUserList
            | Rpc::AuthUserDelete
            | Rpc::AuthUserChangePassword
            | Rpc::AuthUserGrantRole
            | Rpc::AuthUserRevokeRole
            | Rpc::AuthRoleAdd
            | Rpc::AuthRoleGet
            | Rpc::AuthRoleList
            | Rpc::AuthRoleDelete
            | Rpc::AuthRoleGrantPermission
            | Rpc::AuthRoleRevokePermission
    )
}

/// What grpc-go says of a method that its service lacks.
pub(crate) fn unimplemented(rpc: Rpc) -> Status {
    let method = rpc.method();
    Unknown::Method { service: method.service, method: method.name.as_bytes() }.into()
}

/// What a learner says to all but a few requests.
pub(crate) fn refuse_learner(desk: &Desk) -> Result<()> {
    if desk.link.state.is_learner.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(Error::NotSupportedForLearner.into());
    }
    Ok(())
}

/// Decodes a request that is not hot.
fn decode<M: prost::Message + Default>(request: &[u8]) -> Result<M> {
    M::decode(request).map_err(|_| transport::error_unmarshalling_request())
}

/// Makes `message` the response.
fn answer(desk: &mut Desk, message: &impl prost::Message) -> Result<Next> {
    desk.frame.set_message(message).map_err(unary_too_large)?;
    Ok(Next::Answer)
}

/// A unary response that gRPC does not carry.
pub(crate) fn unary_too_large(error: TooLarge) -> Status {
    transport::sending_message_larger_than_max(
        error.len as u64,
        api::frame::MESSAGE_BYTES_MAX as u64,
    )
}

/// Tells of a unary call that took long.
pub(crate) fn warn_if_slow(call: &CallInfo, code: Code, desk: &Desk) {
    let took = desk.now.saturating_duration_since(call.begun);
    if took > desk.link.limits.warning_unary_request_duration && crate::call::is_unary(call.rpc) {
        tracing::warn!(
            "response type" = call.rpc.method().path,
            "time spent" = ?took,
            code = code.name(),
            "request stats"
        );
    }
}

/// The status of an error of the store.
fn store_error(error: &mvcc::Error) -> Status {
    match error {
        mvcc::Error::Compacted => Error::Compacted.into(),
        mvcc::Error::Future => Error::FutureRev.into(),
        damaged => {
            tracing::error!(error = %damaged, "failed to read the backend");
            Status::new(Code::Unknown, damaged.to_string())
        }
    }
}
