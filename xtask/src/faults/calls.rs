//! Operations as requests of etcd's API, and answers read strictly: what does not look as it must is an error.

use api::etcdserverpb as pb;
use api::mvccpb;
use bytes::Bytes;
use pb::request_op::Request;
use pb::response_op::Response;
use prost::Message;

use super::history::{Answer, Change, Keys, Operation};
use crate::grpc::{Channel, Failure};

/// How a call ended.
pub(super) enum Outcome {
    /// With the revision in its header.
    Answered(i64, Answer),
    /// Whether it took effect is not known.
    Unknown(String),
    /// An answer that no server may give.
    Wrong(String),
}

/// The text that stands for a value: its number, and `padding` bytes to carry.
pub(super) fn text(value: u64, padding: usize) -> Bytes {
    format!("{value}:{padding}:{}", "x".repeat(padding)).into()
}

fn read_text(bytes: &[u8]) -> Result<u64, String> {
    let read = || {
        let text = std::str::from_utf8(bytes).ok()?;
        let (number, rest) = text.split_once(':')?;
        let (length, padding) = rest.split_once(':')?;
        let is_whole = length.parse() == Ok(padding.len()) && padding.bytes().all(|b| b == b'x');
        if is_whole { number.parse().ok() } else { None }
    };
    read().ok_or_else(|| format!("a value that nobody wrote: {}", bytes.escape_ascii()))
}

/// A row as the store tells of it.
pub(super) fn row(kv: &mvccpb::KeyValue, is_deletion: bool) -> Result<Change, String> {
    Ok(Change {
        revision: kv.mod_revision,
        key: String::from_utf8_lossy(&kv.key).into_owned(),
        value: if is_deletion { None } else { Some(read_text(&kv.value)?) },
        created: kv.create_revision,
        version: kv.version,
    })
}

/// Makes one call and waits for its end.
pub(super) async fn call(channel: &Channel, operation: &Operation, padding: usize) -> Outcome {
    let sent = match operation {
        Operation::Put { key, value } => {
            unary(channel, "Put", &put(key, *value, padding), |answer: pb::PutResponse| {
                Ok((answer.header, Answer::Written))
            })
            .await
        }
        Operation::Delete { key } => {
            unary(channel, "DeleteRange", &delete(key), |answer: pb::DeleteRangeResponse| {
                Ok((answer.header, deleted(&answer)?))
            })
            .await
        }
        Operation::Read { keys, at, is_linearizable } => {
            let request = range(keys, *at, *is_linearizable);
            unary(channel, "Range", &request, |answer: pb::RangeResponse| {
                Ok((answer.header, found(&answer)?))
            })
            .await
        }
        Operation::Pair { keys, value } => {
            let puts = keys.iter().map(|key| Request::RequestPut(put(key, *value, padding)));
            txn(channel, None, puts.collect(), Vec::new()).await
        }
        Operation::Swap { key, expected, value } => {
            let done = Request::RequestPut(put(key, *value, padding));
            let compare = compare(key, *expected, padding);
            txn(channel, Some(compare), vec![done], vec![look(key)]).await
        }
        Operation::Drop { key, expected } => {
            let done = Request::RequestDeleteRange(delete(key));
            let compare = compare(key, Some(*expected), padding);
            txn(channel, Some(compare), vec![done], vec![look(key)]).await
        }
    };
    match sent {
        Ok(Ok((Some(header), answer))) => Outcome::Answered(header.revision, answer),
        Ok(Ok((None, _))) => Outcome::Wrong("an answer without a header".to_owned()),
        Ok(Err(wrong)) => Outcome::Wrong(wrong),
        Err(failure) => Outcome::Unknown(failure.to_string()),
    }
}

type Read = Result<(Option<pb::ResponseHeader>, Answer), String>;

async fn unary<Q: Message, A: Message + Default>(
    channel: &Channel,
    method: &str,
    request: &Q,
    read: impl FnOnce(A) -> Read,
) -> Result<Read, Failure> {
    let answer = channel.unary(&format!("/etcdserverpb.KV/{method}"), request).await?;
    Ok(read(answer))
}

async fn txn(
    channel: &Channel,
    compare: Option<pb::Compare>,
    success: Vec<Request>,
    failure: Vec<Request>,
) -> Result<Read, Failure> {
    let counts = [success.len(), failure.len()];
    let operations = |requests: Vec<Request>| {
        requests.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect()
    };
    let request = pb::TxnRequest {
        compare: compare.into_iter().collect(),
        success: operations(success),
        failure: operations(failure),
    };
    unary(channel, "Txn", &request, |answer: pb::TxnResponse| {
        let responses: Vec<&Response> =
            answer.responses.iter().filter_map(|response| response.response.as_ref()).collect();
        let wanted = if answer.succeeded { counts[0] } else { counts[1] };
        if responses.len() != wanted {
            return Err(format!("{} answers to {wanted} operations", responses.len()));
        }
        let read = match responses.first() {
            Some(Response::ResponsePut(_)) if answer.succeeded => Answer::Written,
            Some(Response::ResponseDeleteRange(one)) if answer.succeeded => deleted(one)?,
            Some(Response::ResponseRange(one)) if !answer.succeeded => found(one)?,
            other => return Err(format!("another branch than it says: {other:?}")),
        };
        Ok((answer.header, read))
    })
    .await
}

fn put(key: &str, value: u64, padding: usize) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: text(value, padding),
        ..pb::PutRequest::default()
    }
}

fn delete(key: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key.to_owned().into(),
        prev_kv: true,
        ..pb::DeleteRangeRequest::default()
    }
}

fn look(key: &str) -> Request {
    Request::RequestRange(range(&Keys::One(key.to_owned()), None, true))
}

fn range(keys: &Keys, at: Option<i64>, is_linearizable: bool) -> pb::RangeRequest {
    let (key, range_end) = match keys {
        Keys::One(key) => (key.clone().into_bytes(), Vec::new()),
        Keys::Prefix(prefix) if prefix.is_empty() => (vec![0], vec![0]),
        Keys::Prefix(prefix) => {
            let mut end = prefix.clone().into_bytes();
            // No key here ends with the highest byte.
            if let Some(last) = end.last_mut() {
                *last += 1;
            }
            (prefix.clone().into_bytes(), end)
        }
    };
    pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        revision: at.unwrap_or_default(),
        serializable: !is_linearizable,
        ..pb::RangeRequest::default()
    }
}

/// That the key holds `expected`, or does not exist.
fn compare(key: &str, expected: Option<u64>, padding: usize) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let (target, union) = match expected {
        Some(value) => (CompareTarget::Value, TargetUnion::Value(text(value, padding))),
        None => (CompareTarget::Version, TargetUnion::Version(0)),
    };
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.to_owned().into(),
        target_union: Some(union),
        ..pb::Compare::default()
    }
}

fn found(answer: &pb::RangeResponse) -> Result<Answer, String> {
    if answer.more || answer.count != answer.kvs.len() as i64 {
        return Err(format!("{} rows of {}", answer.kvs.len(), answer.count));
    }
    let rows = answer.kvs.iter().map(|kv| row(kv, false));
    Ok(Answer::Found(rows.collect::<Result<_, _>>()?))
}

fn deleted(answer: &pb::DeleteRangeResponse) -> Result<Answer, String> {
    match (answer.deleted, answer.prev_kvs.as_slice()) {
        (0, []) => Ok(Answer::Deleted(None)),
        (1, [before]) => Ok(Answer::Deleted(Some(read_text(&before.value)?))),
        (count, rows) => Err(format!("{count} deleted, with {} rows", rows.len())),
    }
}
