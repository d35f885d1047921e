//! `grpc.health.v1.Health`: whether this server serves.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use api::health as pb;
use api::{Code, Status};
use pb::health_check_response::ServingStatus;

use super::{Result, answer, decode, refuse_learner};
use crate::call::Stream;
use crate::desk::{Desk, Next};

/// `Check`; the only service it knows is the server as a whole, whose name is empty.
pub(crate) fn check(desk: &mut Desk, request: &[u8]) -> Result<Next> {
    let request: pb::HealthCheckRequest = decode(request)?;
    refuse_learner(desk)?;
    if !request.service.is_empty() {
        return Err(Status::fixed(Code::NotFound, "unknown service"));
    }
    let status = serving_status(desk);
    answer(desk, &pb::HealthCheckResponse { status: status.into() })
}

/// `List`.
pub(crate) fn list(desk: &mut Desk, request: &[u8]) -> Result<Next> {
    let _: pb::HealthListRequest = decode(request)?;
    refuse_learner(desk)?;
    let status = pb::HealthCheckResponse { status: serving_status(desk).into() };
    let statuses = HashMap::from([(String::new(), status)]);
    answer(desk, &pb::HealthListResponse { statuses })
}

/// A client that wants to hear of every change.
#[derive(Debug)]
pub(crate) struct Watch {
    is_known: bool,
    told: Option<ServingStatus>,
}

/// `Watch`.
pub(crate) fn watch(desk: &mut Desk, request: &[u8]) -> Result<Next> {
    let request: pb::HealthCheckRequest = decode(request)?;
    refuse_learner(desk)?;
    let watch = Watch { is_known: request.service.is_empty(), told: None };
    Ok(Next::Stream(Stream::HealthWatch(watch)))
}

impl Watch {
    /// Makes a message in the desk's frame if there is something new; whether it did.
    pub(crate) fn advance(&mut self, desk: &mut Desk) -> Result<bool> {
        let status =
            if self.is_known { serving_status(desk) } else { ServingStatus::ServiceUnknown };
        if self.told.replace(status) == Some(status) {
            return Ok(false);
        }
        answer(desk, &pb::HealthCheckResponse { status: status.into() })?;
        Ok(true)
    }
}

fn serving_status(desk: &Desk) -> ServingStatus {
    let is_stopped = desk.link.limits.stop_grpc_service_on_defrag
        && desk.link.state.defragmenting.load(Ordering::Relaxed);
    if is_stopped { ServingStatus::NotServing } else { ServingStatus::Serving }
}
