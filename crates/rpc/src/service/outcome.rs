//! Responses to what was applied.

use api::etcdserverpb as pb;
use api::etcdserverpb::ResponseHeader;
use api::response::{
    DeleteRangeResponseRef, PutResponseRef, RangeResponseRef, ResponseOpRef, TxnResponseRef,
};
use apply::{OpOutcome, Outcome, TxnOutcome};

use super::{Result, answer, unary_too_large};
use crate::desk::{Desk, Next, Proposed};

/// Makes the response to a proposal that was applied.
pub(crate) fn respond(desk: &mut Desk, proposed: &Proposed, outcome: &Outcome) -> Result<Next> {
    match outcome {
        Outcome::Put { revision, prev_kv } => {
            let header = Some(desk.header(*revision));
            let response = PutResponseRef { header, prev_kv: prev_kv.as_ref() };
            desk.frame.set(&response).map_err(unary_too_large)?;
        }
        Outcome::DeleteRange { revision, deleted, prev_kvs } => {
            let header = Some(desk.header(*revision));
            let response = DeleteRangeResponseRef { header, deleted: *deleted, prev_kvs };
            desk.frame.set(&response).map_err(unary_too_large)?;
        }
        Outcome::Txn(outcome) => {
            let header = desk.header(outcome.revision);
            desk.frame.set(&txn_response(outcome, header)).map_err(unary_too_large)?;
        }
        Outcome::Compact { revision } | Outcome::LeaseRevoke { revision } => {
            // Two messages that hold a header and nothing else, and so have the same bytes.
            let header = Some(desk.header(*revision));
            return answer(desk, &pb::CompactionResponse { header });
        }
        Outcome::LeaseGrant { revision, id, ttl } => {
            let header = Some(desk.header(*revision));
            let response =
                pb::LeaseGrantResponse { header, id: *id, ttl: *ttl, error: String::new() };
            return answer(desk, &response);
        }
        Outcome::Alarm { revision, alarms } => {
            let header = Some(desk.header(*revision));
            let alarms = alarms
                .iter()
                .map(|alarm| pb::AlarmMember { member_id: alarm.member_id, alarm: alarm.alarm })
                .collect();
            return answer(desk, &pb::AlarmResponse { header, alarms });
        }
        Outcome::Done { .. } => return super::cluster::changed(desk, proposed),
    }
    Ok(Next::Answer)
}

/// A transaction's response around its outcome.
pub(crate) fn txn_response(outcome: &TxnOutcome, header: ResponseHeader) -> TxnResponseRef<'_> {
    TxnResponseRef {
        header: Some(header),
        succeeded: outcome.succeeded,
        responses: outcome.responses.iter().map(op_response).collect(),
    }
}

/// The response of one operation; its header holds the revision alone, and nothing for a nested
/// transaction, as in etcd.
fn op_response(outcome: &OpOutcome) -> ResponseOpRef<'_> {
    let at = |revision: i64| Some(ResponseHeader { revision, ..ResponseHeader::default() });
    match outcome {
        OpOutcome::Range(range) => ResponseOpRef::Range(RangeResponseRef {
            header: at(range.revision),
            kvs: &range.kvs,
            more: range.more,
            count: range.count,
        }),
        OpOutcome::Put { revision, prev_kv } => {
            ResponseOpRef::Put(PutResponseRef { header: at(*revision), prev_kv: prev_kv.as_ref() })
        }
        OpOutcome::DeleteRange { revision, deleted, prev_kvs } => {
            ResponseOpRef::DeleteRange(DeleteRangeResponseRef {
                header: at(*revision),
                deleted: *deleted,
                prev_kvs,
            })
        }
        OpOutcome::Txn { succeeded, responses } => ResponseOpRef::Txn(TxnResponseRef {
            header: Some(ResponseHeader::default()),
            succeeded: *succeeded,
            responses: responses.iter().map(op_response).collect(),
        }),
    }
}
