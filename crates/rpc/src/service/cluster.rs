//! `etcdserverpb.Cluster`: the members, and changes of them.
//!
//! A change is checked against what this member knows before it is proposed, in etcd's order, and once more by everybody
//! when it is applied.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use api::Error;
use api::etcdserverpb as pb;
use api::service::Rpc;
use bytes::Bytes;
use cluster::{Connected, Member, ReconfigurationError};
use raft::{ConfChange, ConfChangeType};
use tracing::{info, warn};

use super::{Result, answer, decode, refuse_learner};
use crate::desk::{CallInfo, Desk, Next, Proposed, ReadOp};
use crate::{LeaderRequest, State};

/// How long a member must have been connected to count as healthy, as in etcd.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// `MemberList`.
pub(crate) fn member_list(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let request: pb::MemberListRequest = decode(request)?;
    refuse_learner(desk)?;
    if request.linearizable {
        return Ok(desk.read(call, ReadOp::MemberList));
    }
    serve_member_list(desk)
}

/// `MemberList`, when the state is fresh enough. Its header has no revision, as in etcd.
pub(crate) fn serve_member_list(desk: &mut Desk) -> Result<Next> {
    let (header, members) = (Some(desk.header(0)), members(desk));
    answer(desk, &pb::MemberListResponse { header, members })
}

/// `MemberAdd`: the id is made of the URLs and of the time.
pub(crate) fn member_add(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let request: pb::MemberAddRequest = decode(request)?;
    refuse_learner(desk)?;
    let Ok(peer_urls) = cluster::parse_urls(&request.peer_urls) else {
        return Err(Error::MemberBadUrls.into());
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let member = Member {
        id: cluster::member_id(&peer_urls, &now.to_string()),
        peer_urls,
        is_learner: request.is_learner,
        ..Member::default()
    };
    let change_type =
        if member.is_learner { ConfChangeType::AddLearnerNode } else { ConfChangeType::AddNode };
    let change = ConfChange {
        change_type,
        node_id: member.id,
        context: Bytes::from(member.to_json()),
        id: 0,
    };
    if desk.link.limits.strict_reconfig_check {
        check(&desk.link.state, &change).inspect_err(|error| {
            warn!(
                "requested-member-add" = member.to_json(),
                %error,
                "rejecting member add request"
            );
        })?;
    }
    desk.propose_conf_change(call, change, Some(Box::new(member)))
}

/// `MemberRemove`.
pub(crate) fn member_remove(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let pb::MemberRemoveRequest { id } = decode(request)?;
    refuse_learner(desk)?;
    let change = ConfChange { change_type: ConfChangeType::RemoveNode, node_id: id, ..no_change() };
    if desk.link.limits.strict_reconfig_check {
        check(&desk.link.state, &change).inspect_err(|error| {
            let id = format!("{id:x}");
            warn!("requested-member-remove-id" = id, %error, "rejecting member remove request");
        })?;
    }
    desk.propose_conf_change(call, change, None)
}

/// `MemberUpdate`: the URLs are the client's matter, as in etcd.
pub(crate) fn member_update(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let pb::MemberUpdateRequest { id, peer_urls } = decode(request)?;
    refuse_learner(desk)?;
    let member = Member { id, peer_urls, ..Member::default() };
    let change = ConfChange {
        change_type: ConfChangeType::UpdateNode,
        node_id: id,
        context: Bytes::from(member.to_json()),
        id: 0,
    };
    desk.propose_conf_change(call, change, None)
}

/// `MemberPromote`: only the leader knows how much of the log the learner has.
pub(crate) fn member_promote(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let pb::MemberPromoteRequest { id } = decode(request)?;
    refuse_learner(desk)?;
    if !desk.link.state.is_leader() {
        return desk.ask_leader(call, LeaderRequest::Promote(id));
    }
    promote(desk, call, id)
}

fn promote(desk: &mut Desk, call: &CallInfo, id: u64) -> Result<Next> {
    may_promote(&desk.link.state, desk.link.limits.strict_reconfig_check, id)
        .inspect_err(|error| failed(desk, call, *error))?;
    let change = ConfChange {
        change_type: ConfChangeType::AddNode,
        node_id: id,
        context: cluster::promote_context(id),
        id: 0,
    };
    desk.propose_conf_change(call, change, None)
}

/// Counts a change that was refused, if it is a promotion.
pub(crate) fn failed(desk: &Desk, call: &CallInfo, error: Error) {
    if call.rpc == Rpc::ClusterMemberPromote {
        let failed = &desk.link.metrics.server_learner_promote_failures;
        failed.with_label_values(&[error.internal_message()]).inc();
    }
}

/// The leader has promoted a learner for this member.
pub(crate) fn promoted(desk: &mut Desk, members: &[Member]) -> Result<Next> {
    let header = Some(desk.header(0));
    let members = members.iter().map(to_proto).collect();
    answer(desk, &pb::MemberPromoteResponse { header, members })
}

/// Makes the response to a change that was applied, with the members as they are now.
pub(crate) fn changed(desk: &mut Desk, proposed: &Proposed) -> Result<Next> {
    let (header, members) = (Some(desk.header(0)), members(desk));
    info!(
        "raft-conf-change" = proposed.call.rpc.method().name,
        "raft-conf-change-node-id" = proposed.added.as_ref().map(|member| member.id_text()),
        "applied a configuration change through raft"
    );
    match proposed.call.rpc {
        Rpc::ClusterMemberAdd => {
            let member = proposed.added.as_deref().map(to_proto);
            answer(desk, &pb::MemberAddResponse { header, member, members })
        }
        Rpc::ClusterMemberPromote => {
            desk.link.metrics.server_learner_promote_successes.inc();
            answer(desk, &pb::MemberPromoteResponse { header, members })
        }
        Rpc::ClusterMemberUpdate => answer(desk, &pb::MemberUpdateResponse { header, members }),
        _ => answer(desk, &pb::MemberRemoveResponse { header, members }),
    }
}

/// Whether the promotion of a learner may be proposed by the leader.
///
/// # Errors
/// etcd's refusals, but for those that only raft's progress tells.
pub fn may_promote(state: &State, is_strict: bool, id: u64) -> std::result::Result<(), Error> {
    let cluster = state.cluster();
    if cluster.member(id).is_none() {
        return Err(Error::MemberNotFound);
    }
    if is_strict && !cluster.is_ready_to_promote() {
        let error = Error::MemberNotEnoughStarted;
        let id = format!("{id:x}");
        warn!("requested-member-promote-id" = id, %error, "rejecting member promote request");
        return Err(error);
    }
    Ok(())
}

/// No change may cost the quorum.
fn check(state: &State, change: &ConfChange) -> std::result::Result<(), Error> {
    let now = Instant::now();
    let since = state.active_since.read();
    let connected = |id: u64| match since.get(&id) {
        None => Connected::No,
        Some(since) if now.duration_since(*since) > HEALTH_INTERVAL => Connected::Long,
        Some(_) => Connected::Lately,
    };
    let checked = state.cluster().check_reconfiguration(change, connected);
    checked.map_err(|error| match error {
        ReconfigurationError::NotEnoughStarted => Error::MemberNotEnoughStarted,
        ReconfigurationError::Unhealthy => Error::Unhealthy,
    })
}

fn no_change() -> ConfChange {
    ConfChange { change_type: ConfChangeType::AddNode, node_id: 0, context: Bytes::new(), id: 0 }
}

fn members(desk: &Desk) -> Vec<pb::Member> {
    desk.link.state.cluster().members().map(to_proto).collect()
}

fn to_proto(member: &Member) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}
