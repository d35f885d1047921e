//! The steps of locks and elections: calls as a client would make them.

use api::etcdserverpb as pb;
use api::mvccpb::KeyValue;
use api::mvccpb::event::EventType;
use api::range::prefix_end;
use api::service::Rpc;
use api::{Code, Error, Status};
use bytes::Bytes;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;
use pb::response_op::Response;
use pb::watch_request::RequestUnion;
use prost::Message;

use super::Result;
use crate::inside::{Caller, Origin, Responses};

/// Time to live in seconds of the lease that is made for who has none.
const SESSION_TTL: i64 = 60;

/// Makes the steps. Whatever goes wrong in one has the code `Unknown` for the client, as in etcd, where
/// an error of the inner client is no status any more.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    caller: Caller,
}

/// A range's first rows and the header of the answer.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) header: pb::ResponseHeader,
    pub(super) kv: Option<KeyValue>,
}

impl Steps {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller }
    }

    async fn call<M: Message + Default>(&self, rpc: Rpc, request: &impl Message) -> Result<M> {
        let request = Bytes::from(request.encode_to_vec());
        let response = self.caller.unary(Origin::Step(rpc), request).await.map_err(inner)?;
        decode(&response)
    }

    /// The lease of a session: the client's, or a new one.
    pub(super) async fn session(&self, lease: i64) -> Result<i64> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = pb::LeaseGrantRequest { ttl: SESSION_TTL, id: 0 };
        let granted: pb::LeaseGrantResponse = self.call(Rpc::LeaseGrant, &request).await?;
        Ok(granted.id)
    }

    pub(super) async fn txn(&self, request: &pb::TxnRequest) -> Result<pb::TxnResponse> {
        self.call(Rpc::KvTxn, request).await
    }

    pub(super) async fn range(&self, request: &pb::RangeRequest) -> Result<Found> {
        let response: pb::RangeResponse = self.call(Rpc::KvRange, request).await?;
        let header = response.header.unwrap_or_default();
        Ok(Found { header, kv: response.kvs.into_iter().next() })
    }

    pub(super) async fn delete(&self, key: &Bytes) -> Result<pb::ResponseHeader> {
        let request = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
        let deleted: pb::DeleteRangeResponse = self.call(Rpc::KvDeleteRange, &request).await?;
        Ok(deleted.header.unwrap_or_default())
    }

    /// Watches the keys from `key` to `range_end`, or `key` alone if that is empty.
    pub(super) async fn watch(&self, key: Bytes, range_end: Bytes, start_revision: i64) -> Watch {
        let (requests, responses) = self.caller.bidi(Origin::Step(Rpc::Watch));
        let create =
            pb::WatchCreateRequest { key, range_end, start_revision, ..Default::default() };
        let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.send(request.encode_to_vec().into()).await;
        Watch { responses }
    }

    /// Waits until the keys with `prefix` that were created up to this revision are gone.
    pub(super) async fn wait_deletes(
        &self,
        prefix: &Bytes,
        max_create_revision: i64,
    ) -> Result<()> {
        loop {
            let request = pb::RangeRequest {
                key: prefix.clone(),
                range_end: prefix_end(prefix),
                limit: 1,
                sort_order: SortOrder::Descend.into(),
                sort_target: SortTarget::Create.into(),
                max_create_revision,
                ..Default::default()
            };
            let found = self.range(&request).await?;
            let Some(last) = found.kv else { return Ok(()) };
            self.wait_delete(last.key, found.header.revision).await?;
        }
    }

    async fn wait_delete(&self, key: Bytes, revision: i64) -> Result<()> {
        let mut watch = self.watch(key, Bytes::new(), revision).await;
        loop {
            let response = watch.next().await?;
            if response.events.iter().any(|event| event.r#type() == EventType::Delete) {
                return Ok(());
            }
        }
    }
}

/// A watch of one range; it is cancelled when this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    responses: Responses,
}

impl Watch {
    /// The next response with events.
    ///
    /// # Errors
    /// The watch is over, and why.
    pub(super) async fn next(&mut self) -> Result<pb::WatchResponse> {
        loop {
            let response = match self.responses.next().await {
                Some(response) => response.map_err(inner)?,
                None => return Err(Error::Stopped.inner_status()),
            };
            let response: pb::WatchResponse = decode(&response)?;
            if response.compact_revision != 0 {
                return Err(Error::Compacted.inner_status());
            }
            if response.canceled {
                return Err(Status::new(Code::Unknown, response.cancel_reason));
            }
            if !response.events.is_empty() {
                return Ok(response);
            }
        }
    }
}

/// The key of a lease among those who want the same.
pub(super) fn key_of(prefix: &Bytes, lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// What the keys of all begin with who want `name`.
pub(super) fn prefix_of(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The oldest key with this prefix.
pub(super) fn first_created(prefix: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest {
        key: prefix.clone(),
        range_end: prefix_end(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    }
}

/// A range of this key alone.
pub(super) fn get(key: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest { key: key.clone(), ..Default::default() }
}

/// Whether the key was created at this revision; 0: there is no such key.
pub(super) fn created_at(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

pub(super) fn put_op(key: &Bytes, value: Bytes, lease: i64) -> pb::RequestOp {
    let put = pb::PutRequest { key: key.clone(), value, lease, ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestPut(put)) }
}

pub(super) fn range_op(range: pb::RangeRequest) -> pb::RequestOp {
    pb::RequestOp { request: Some(Request::RequestRange(range)) }
}

pub(super) fn delete_op(key: &Bytes) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
}

/// The first row that an operation of a transaction has read.
pub(super) fn first_row(response: &pb::TxnResponse, op: usize) -> Option<&KeyValue> {
    match &response.responses.get(op)?.response {
        Some(Response::ResponseRange(range)) => range.kvs.first(),
        _ => None,
    }
}

fn inner(status: Status) -> Status {
    Status { code: Code::Unknown, ..status }
}

fn decode<M: Message + Default>(response: &Bytes) -> Result<M> {
    M::decode(response.clone()).map_err(|error| Status::new(Code::Unknown, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_after_leases() {
        let prefix = prefix_of(b"name");
        assert_eq!(key_of(&prefix, 0x1234_abcd), "name/1234abcd");
        assert_eq!(key_of(&prefix, -1), "name/-1");
        assert_eq!(key_of(&prefix, i64::MIN), "name/-8000000000000000");
    }
}
