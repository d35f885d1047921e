//! `etcdserverpb.Cluster`: the list of members.

use api::etcdserverpb as pb;

use super::{Result, answer, decode, refuse_learner};
use crate::desk::{CallInfo, Desk, Next, ReadOp};

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
    let header = Some(desk.header(0));
    let members = desk.link.state.members.read().as_ref().clone();
    answer(desk, &pb::MemberListResponse { header, members })
}
