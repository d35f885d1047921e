//! `v3lockpb.Lock`: whoever has created the oldest key under a name holds the lock.

use api::etcdserverpb as pb;
use api::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use api::{Code, Status};
use bytes::Bytes;

use super::steps::{self, Steps};
use super::{Result, decode, refuse_learner};
use crate::desk::{CallInfo, Desk, Next};
use crate::task::{self, GivenUp};

/// `Lock`: answered when the lock is held.
pub(crate) fn lock(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let request: LockRequest = decode(request)?;
    refuse_learner(desk)?;
    Ok(task::unary(desk, call, |caller, given_up| acquire(Steps::new(caller), given_up, request)))
}

/// `Unlock`: deletes the key, whatever it is.
pub(crate) fn unlock(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let request: UnlockRequest = decode(request)?;
    refuse_learner(desk)?;
    Ok(task::unary(desk, call, |caller, _| async move {
        let header = Steps::new(caller).delete(&request.key).await?;
        Ok(UnlockResponse { header: Some(header) })
    }))
}

async fn acquire(
    steps: Steps,
    mut given_up: GivenUp,
    request: LockRequest,
) -> Result<LockResponse> {
    let lease = steps.session(request.lease).await?;
    let prefix = steps::prefix_of(&request.name);
    let key = steps::key_of(&prefix, lease);
    let owner = steps::range_op(steps::first_created(&prefix));
    let response = steps
        .txn(&pb::TxnRequest {
            compare: vec![steps::created_at(&key, 0)],
            success: vec![steps::put_op(&key, Bytes::new(), lease), owner.clone()],
            failure: vec![steps::range_op(steps::get(&key)), owner],
        })
        .await?;
    let header = response.header.unwrap_or_default();
    let revision = if response.succeeded {
        header.revision
    } else {
        // This lease waits for the lock, or holds it, already.
        steps::first_row(&response, 0).map_or(0, |kv| kv.create_revision)
    };
    let owner = steps::first_row(&response, 1);
    if owner.is_none_or(|owner| owner.create_revision == revision) {
        return Ok(LockResponse { header: Some(header), key });
    }
    let header = tokio::select! {
        waited = wait(&steps, &prefix, &key, revision) => waited,
        () = given_up.wait() => Err(api::Error::ContextCanceled.into()),
    };
    match header {
        Ok(Some(header)) => Ok(LockResponse { header: Some(header), key }),
        Ok(None) => Err(Status::fixed(Code::Unknown, "mutex: session is expired")),
        Err(status) => {
            // Whoever does not wait any more must not hold up those behind.
            let _ = steps.delete(&key).await;
            Err(status)
        }
    }
}

/// Waits until all older keys are gone; `None`: and so is our own, with its lease.
async fn wait(
    steps: &Steps,
    prefix: &Bytes,
    key: &Bytes,
    revision: i64,
) -> Result<Option<pb::ResponseHeader>> {
    steps.wait_deletes(prefix, revision - 1).await?;
    let found = steps.range(&steps::get(key)).await?;
    Ok(found.kv.map(|_| found.header))
}
