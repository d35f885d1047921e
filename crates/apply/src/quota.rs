//! What a request costs against the backend's quota, as etcd estimates it.

use api::etcdserverpb as pb;
use pb::request_op::Request;

/// What a key costs beside its bytes.
const KEY_OVERHEAD: u64 = 256;

/// What a lease costs.
pub const LEASE_COST: u64 = 64;

/// The cost of a put.
#[must_use]
pub fn put_cost(key: &[u8], value: &[u8]) -> u64 {
    KEY_OVERHEAD + key.len() as u64 + value.len() as u64
}

/// The cost of a transaction: of the dearer branch, nested ones included.
#[must_use]
pub fn txn_cost(request: &pb::TxnRequest) -> u64 {
    branch_cost(&request.success).max(branch_cost(&request.failure))
}

fn branch_cost(ops: &[pb::RequestOp]) -> u64 {
    ops.iter()
        .map(|op| match &op.request {
            Some(Request::RequestPut(put)) => put_cost(&put.key, &put.value),
            Some(Request::RequestTxn(nested)) => txn_cost(nested),
            _ => 0,
        })
        .sum()
}

/// Whether a backend of `size` bytes has room for `cost` more. What costs nothing is never refused.
#[must_use]
pub fn has_room(quota: Option<u64>, size: u64, cost: u64) -> bool {
    match quota {
        Some(quota) if cost > 0 => size.saturating_add(cost) < quota,
        _ => true,
    }
}
