//! Transactions against prost, and how deep and wide they may be.

use super::{TXN_DEPTH_MAX, decode_txn_request};
use crate::error::{Error, Status};
use crate::etcdserverpb::request_op::Request;
use crate::etcdserverpb::{PutRequest, RequestOp, TxnRequest};
use crate::sample;
use crate::wire::DecodeError;
use bytes::Bytes;
use proptest::prelude::{Strategy, prop_assert_eq, prop_oneof, proptest};
use prost::Message;

fn decode(bytes: &[u8]) -> Result<TxnRequest, DecodeError> {
    decode_txn_request(&Bytes::copy_from_slice(bytes), usize::MAX)
}

/// How many transactions stand inside one another along the first operations.
fn depth(txn: &TxnRequest) -> usize {
    let mut depth = 1;
    let mut txn = txn;
    while let Some(RequestOp { request: Some(Request::RequestTxn(inner)) }) = txn.success.first() {
        depth += 1;
        txn = inner;
    }
    depth
}

proptest! {
    #[test]
    fn same_as_prost(txn in sample::txn_request()) {
        prop_assert_eq!(decode(&txn.encode_to_vec()), Ok(txn));
    }

    #[test]
    fn hostile_bytes_are_read_as_prost_reads_them(
        bytes in prop_oneof![
            sample::hostile_bytes(),
            sample::damaged(sample::txn_request().prop_map(|txn| txn.encode_to_vec())),
        ]
    ) {
        let ours = decode(&bytes);
        if let Ok(txn) = TxnRequest::decode(bytes.as_slice()) {
            prop_assert_eq!(ours, Ok(txn));
        }
    }
}

#[test]
fn nesting_has_a_limit_that_fits_the_stack() {
    for count in [1, 2, 129, TXN_DEPTH_MAX] {
        let txn = decode(&sample::nested_txns(count)).expect("within the limit");
        assert_eq!(depth(&txn), count);
    }
    for count in [TXN_DEPTH_MAX + 1, 1_000, 20_000] {
        let error = decode(&sample::nested_txns(count)).expect_err("beyond the limit");
        assert_eq!(error, DecodeError::TooDeep);
        assert_eq!(Status::from(error), Error::TooManyOps.into());
    }
}

#[test]
fn width_has_the_callers_limit() {
    let op = RequestOp { request: Some(Request::RequestPut(PutRequest::default())) };
    let wide = TxnRequest { success: vec![op; 3], ..TxnRequest::default() };
    let bytes = Bytes::from(wide.encode_to_vec());
    assert_eq!(decode_txn_request(&bytes, 3), Ok(wide));
    assert_eq!(decode_txn_request(&bytes, 2), Err(DecodeError::TooManyOps));
}

#[test]
fn a_request_that_appears_twice_in_one_operation_merges() {
    let put = |key: &'static [u8], value: &'static [u8]| PutRequest {
        key: Bytes::from_static(key),
        value: Bytes::from_static(value),
        ..PutRequest::default()
    };
    let bytes = b"\x12\x0a\x12\x03\x0a\x01k\x12\x03\x12\x01v";
    let op = RequestOp { request: Some(Request::RequestPut(put(b"k", b"v"))) };
    assert_eq!(decode(bytes), Ok(TxnRequest { success: vec![op], ..TxnRequest::default() }));
    let replaced = b"\x12\x0a\x1a\x03\x0a\x01k\x12\x03\x12\x01v";
    let op = RequestOp { request: Some(Request::RequestPut(put(b"", b"v"))) };
    assert_eq!(decode(replaced), Ok(TxnRequest { success: vec![op], ..TxnRequest::default() }));
}
