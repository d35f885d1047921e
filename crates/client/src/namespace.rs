//! A part of the keys that looks like all of them: keys get a prefix on their way out, and lose it on their way in.

use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::response_op::Response;
use api::etcdserverpb::{RequestOp, TxnRequest, TxnResponse};
use api::mvccpb::KeyValue;
use bytes::Bytes;

use crate::error::Result;
use crate::op::{NO_END, Op, OpResponse, prefix_end};

/// Puts the prefix before a key and the end of its range.
///
/// # Errors
/// If there is a prefix and no key: the prefix alone is no key of the namespace.
pub(crate) fn add(prefix: &Bytes, key: &mut Bytes, range_end: &mut Bytes) -> Result<()> {
    if prefix.is_empty() {
        return Ok(());
    }
    if key.is_empty() {
        return Err(api::Error::EmptyKey.into());
    }
    *key = join(prefix, key);
    if **range_end == *NO_END {
        *range_end = prefix_end(prefix);
    } else if !range_end.is_empty() {
        *range_end = join(prefix, range_end);
    }
    Ok(())
}

/// Takes the prefix off a key.
pub(crate) fn strip(prefix: &Bytes, key: &mut Bytes) {
    if key.starts_with(prefix) {
        *key = key.slice(prefix.len()..);
    }
}

fn join(prefix: &[u8], key: &[u8]) -> Bytes {
    [prefix, key].concat().into()
}

/// Puts the prefix into an operation.
pub(crate) fn add_to_op(prefix: &Bytes, op: &mut Op) -> Result<()> {
    match op {
        Op::Get(get) => add(prefix, &mut get.request.key, &mut get.request.range_end),
        Op::Put(put) => add(prefix, &mut put.request.key, &mut Bytes::new()),
        Op::Delete(delete) => add(prefix, &mut delete.request.key, &mut delete.request.range_end),
        Op::Txn(txn) => add_to_txn(prefix, &mut txn.request),
    }
}

fn add_to_txn(prefix: &Bytes, txn: &mut TxnRequest) -> Result<()> {
    for compare in &mut txn.compare {
        add(prefix, &mut compare.key, &mut compare.range_end)?;
    }
    for RequestOp { request } in txn.success.iter_mut().chain(&mut txn.failure) {
        match request {
            Some(Request::RequestRange(get)) => add(prefix, &mut get.key, &mut get.range_end)?,
            Some(Request::RequestPut(put)) => add(prefix, &mut put.key, &mut Bytes::new())?,
            Some(Request::RequestDeleteRange(delete)) => {
                add(prefix, &mut delete.key, &mut delete.range_end)?;
            }
            Some(Request::RequestTxn(txn)) => add_to_txn(prefix, txn)?,
            None => {}
        }
    }
    Ok(())
}

/// Takes the prefix out of an answer.
pub(crate) fn strip_response(prefix: &Bytes, response: &mut OpResponse) {
    if prefix.is_empty() {
        return;
    }
    match response {
        OpResponse::Get(get) => strip_all(prefix, &mut get.kvs),
        OpResponse::Put(put) => strip_all(prefix, &mut put.prev_kv),
        OpResponse::Delete(delete) => strip_all(prefix, &mut delete.prev_kvs),
        OpResponse::Txn(txn) => strip_txn(prefix, txn),
    }
}

fn strip_txn(prefix: &Bytes, txn: &mut TxnResponse) {
    for op in &mut txn.responses {
        match &mut op.response {
            Some(Response::ResponseRange(get)) => strip_all(prefix, &mut get.kvs),
            Some(Response::ResponsePut(put)) => strip_all(prefix, &mut put.prev_kv),
            Some(Response::ResponseDeleteRange(delete)) => strip_all(prefix, &mut delete.prev_kvs),
            Some(Response::ResponseTxn(txn)) => strip_txn(prefix, txn),
            None => {}
        }
    }
}

pub(crate) fn strip_all<'a>(prefix: &Bytes, kvs: impl IntoIterator<Item = &'a mut KeyValue>) {
    kvs.into_iter().for_each(|kv| strip(prefix, &mut kv.key));
}

#[cfg(test)]
mod tests {
    use super::{add, strip};
    use bytes::Bytes;

    #[test]
    fn ranges_stay_within_the_prefix() {
        let table: [[&'static [u8]; 5]; 7] = [
            [b"p/", b"a", b"", b"p/a", b""],
            [b"p/", b"abc", b"def", b"p/abc", b"p/def"],
            [b"p/", b"abc", b"\0", b"p/abc", b"p0"],
            [b"p/", b"\0", b"\0", b"p/\0", b"p0"],
            [b"p/", b"\0", b"", b"p/\0", b""],
            [b"\xff\xff", b"abc", b"\0", b"\xff\xffabc", b"\0"],
            [b"", b"abc", b"\0", b"abc", b"\0"],
        ];
        for [prefix, key, end, new_key, new_end] in table {
            let (mut key, mut end) = (Bytes::from_static(key), Bytes::from_static(end));
            add(&Bytes::from_static(prefix), &mut key, &mut end).expect("a key");
            assert_eq!((&*key, &*end), (new_key, new_end));
        }
        let error = add(&Bytes::from_static(b"p/"), &mut Bytes::new(), &mut Bytes::new());
        assert_eq!(error.expect_err("no key").to_string(), "etcdserver: key is not provided");
    }

    #[test]
    fn keys_lose_the_prefix() {
        let mut key = Bytes::from_static(b"p/a");
        strip(&Bytes::from_static(b"p/"), &mut key);
        assert_eq!(key, "a");
    }
}
