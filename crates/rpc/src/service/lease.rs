//! `etcdserverpb.Lease`.

use api::Error;
use api::etcdserverpb as pb;
use api::internal::OpRef;
use api::request::decode_lease_keep_alive;
use api::response::LeaseKeepAliveResponseRef;
use api::service::Rpc;
use prost::Message as _;

use super::{Result, answer, decode, kv, refuse_learner, unary_too_large};
use crate::LeaderRequest;
use crate::desk::{CallInfo, Desk, Next, ReadOp};

/// `LeaseGrant`: the proposer chooses the id if the client did not. A time to live that is too long is refused when the
/// entry is applied, as etcd does, so that the raft index counts the same.
pub(crate) fn grant(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let mut grant: pb::LeaseGrantRequest = decode(request)?;
    refuse_learner(desk)?;
    kv::check_quota(desk, apply::quota::LEASE_COST)?;
    while grant.id == 0 {
        grant.id = desk.next_lease_id();
    }
    desk.propose(call, OpRef::LeaseGrant(&grant.encode_to_vec()))
}

/// `LeaseRevoke`.
pub(crate) fn revoke(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let _: pb::LeaseRevokeRequest = decode(request)?;
    refuse_learner(desk)?;
    desk.propose(call, OpRef::LeaseRevoke(request))
}

/// `LeaseTimeToLive`: the leader asks its lessor when that holds all that was committed.
pub(crate) fn time_to_live(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let request: pb::LeaseTimeToLiveRequest = decode(request)?;
    refuse_learner(desk)?;
    let pb::LeaseTimeToLiveRequest { id, keys } = request;
    if desk.link.state.is_leader() {
        return Ok(desk.read(call, ReadOp::LeaseTimeToLive { id, keys }));
    }
    desk.ask_leader(call, LeaderRequest::LeaseTimeToLive { id, keys })
}

/// `LeaseLeases`.
pub(crate) fn leases(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let _: pb::LeaseLeasesRequest = decode(request)?;
    refuse_learner(desk)?;
    desk.command(call, apply::Command::LeaseLeases, 0)
}

/// A stream of renewals.
#[derive(Debug, Default)]
pub(crate) struct KeepAlive {
    /// Renewals that are not answered yet.
    pub(crate) open: usize,
    /// The client has sent its last one.
    is_half_closed: bool,
}

impl KeepAlive {
    /// A renewal was answered. Whether the call is over with it.
    pub(crate) fn answered(&mut self) -> bool {
        self.open = self.open.saturating_sub(1);
        self.is_over()
    }

    /// No more renewals come. Whether the call is over with that.
    pub(crate) fn half_closed(&mut self) -> bool {
        self.is_half_closed = true;
        self.is_over()
    }

    fn is_over(&self) -> bool {
        self.is_half_closed && self.open == 0
    }
}

/// A message of a LeaseKeepAlive stream.
pub(crate) fn keep_alive(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let id = decode_lease_keep_alive(request).map_err(kv::undecodable)?;
    if desk.link.state.is_leader() {
        return Ok(desk.read(call, ReadOp::LeaseRenew(id)));
    }
    desk.ask_leader(call, LeaderRequest::LeaseRenew(id))
}

/// A lease was renewed; `ttl` is `None` if there is no such lease.
pub(crate) fn renewed(desk: &mut Desk, id: i64, revision: i64, ttl: Option<i64>) -> Result<Next> {
    let header = Some(desk.header(revision));
    let response = LeaseKeepAliveResponseRef { header, id, ttl: ttl.unwrap_or(0) };
    desk.frame.set(&response).map_err(unary_too_large)?;
    Ok(Next::Answer)
}

/// The lessor has looked a lease up.
pub(crate) fn looked_up(
    desk: &mut Desk,
    id: i64,
    revision: i64,
    lease: Option<apply::LeaseTtl>,
) -> Result<Next> {
    let header = Some(desk.header(revision));
    let response = match lease {
        None => pb::LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
        Some(lease) => pb::LeaseTimeToLiveResponse {
            header,
            id,
            ttl: lease.ttl,
            granted_ttl: lease.granted_ttl,
            keys: lease.keys,
        },
    };
    answer(desk, &response)
}

/// The lessor has listed its leases.
pub(crate) fn listed(desk: &mut Desk, revision: i64, ids: Vec<i64>) -> Result<Next> {
    let header = Some(desk.header(revision));
    let leases = ids.into_iter().map(|id| pb::LeaseStatus { id }).collect();
    answer(desk, &pb::LeaseLeasesResponse { header, leases })
}

/// The lessor of this member is the leader's no longer: a renewal goes to the next one.
pub(crate) fn not_primary(desk: &mut Desk, call: &CallInfo, id: i64) -> Result<Next> {
    match call.rpc {
        Rpc::LeaseKeepAlive => desk.ask_leader(call, LeaderRequest::LeaseRenew(id)),
        _ => Err(Error::LeaderChanged.into()),
    }
}
