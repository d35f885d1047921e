//! `TxnRequest`, read to any depth that etcd would run.
//!
//! Transactions nest, so a small request can be very deep. Go's decoder stops at 10,000 nested
//! messages, and etcd then refuses a transaction whose nesting costs more than `--max-txn-ops`
//! (128 by default; every level costs at least one), while prost stops at 100 messages, which is
//! less than etcd runs. This decoder stops at [`TXN_DEPTH_MAX`] transactions, twice etcd's
//! default, and so bounds the stack of every walk over the result.

use crate::etcdserverpb::{Compare, RequestOp, TxnRequest, compare, request_op};
use crate::request::{DeleteRangeRequestRef, PutRequestRef, RangeRequestRef};
use crate::wire::{DecodeError, Field, Reader, Value};
use bytes::Bytes;

/// How many transactions may stand inside one another, the outermost included.
///
/// A deeper one is refused as having too many operations, which it has unless `--max-txn-ops` was
/// raised beyond this number.
// DIFF(etcd): with --max-txn-ops above this number, etcd runs deeper transactions.
pub const TXN_DEPTH_MAX: usize = 256;

/// Reads a transaction; keys and values share the memory of `source`.
///
/// No list of compares, success or failure operations may be longer than `ops_max`: the front door
/// passes `--max-txn-ops`, so that a hostile request is not unpacked in full, and whoever reads a
/// committed entry passes `usize::MAX`.
///
/// # Errors
///
/// [`DecodeError`] when the bytes are no message, nest too deep or list too much. The result may
/// still hold operations without a request, which etcd refuses later.
pub fn decode_txn_request(source: &Bytes, ops_max: usize) -> Result<TxnRequest, DecodeError> {
    decode_txn_request_in(source, source, ops_max)
}

/// As [`decode_txn_request`], where the transaction is only `part` of `source`.
///
/// # Errors
///
/// As [`decode_txn_request`].
///
/// # Panics
///
/// When `part` does not lie within `source`.
pub fn decode_txn_request_in(
    source: &Bytes,
    part: &[u8],
    ops_max: usize,
) -> Result<TxnRequest, DecodeError> {
    let mut txn = TxnRequest::default();
    Decoder { source, ops_max }.txn(&mut txn, part, TXN_DEPTH_MAX)?;
    Ok(txn)
}

struct Decoder<'a> {
    source: &'a Bytes,
    ops_max: usize,
}

impl Decoder<'_> {
    fn txn(&self, txn: &mut TxnRequest, part: &[u8], depth: usize) -> Result<(), DecodeError> {
        let depth = depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
        let mut reader = Reader::new(part);
        while let Some(Field { number, value }) = reader.next_field()? {
            match (number, value) {
                (1, Value::Bytes(part)) => {
                    self.check_room(txn.compare.len())?;
                    txn.compare.push(self.compare(part)?);
                }
                (2, Value::Bytes(part)) => {
                    self.check_room(txn.success.len())?;
                    txn.success.push(self.request_op(part, depth)?);
                }
                (3, Value::Bytes(part)) => {
                    self.check_room(txn.failure.len())?;
                    txn.failure.push(self.request_op(part, depth)?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_room(&self, len: usize) -> Result<(), DecodeError> {
        if len < self.ops_max { Ok(()) } else { Err(DecodeError::TooManyOps) }
    }

    fn compare(&self, part: &[u8]) -> Result<Compare, DecodeError> {
        use compare::TargetUnion;
        let mut compare = Compare::default();
        let mut reader = Reader::new(part);
        while let Some(Field { number, value }) = reader.next_field()? {
            let union = match (number, value) {
                (4, Value::Varint(number)) => TargetUnion::Version(number.cast_signed()),
                (5, Value::Varint(number)) => TargetUnion::CreateRevision(number.cast_signed()),
                (6, Value::Varint(number)) => TargetUnion::ModRevision(number.cast_signed()),
                (7, Value::Bytes(bytes)) => TargetUnion::Value(self.source.slice_ref(bytes)),
                (8, Value::Varint(number)) => TargetUnion::Lease(number.cast_signed()),
                (1, Value::Varint(number)) => {
                    compare.result = number as i32;
                    continue;
                }
                (2, Value::Varint(number)) => {
                    compare.target = number as i32;
                    continue;
                }
                (3, Value::Bytes(bytes)) => {
                    compare.key = self.source.slice_ref(bytes);
                    continue;
                }
                (64, Value::Bytes(bytes)) => {
                    compare.range_end = self.source.slice_ref(bytes);
                    continue;
                }
                _ => continue,
            };
            compare.target_union = Some(union);
        }
        Ok(compare)
    }

    fn request_op(&self, part: &[u8], depth: usize) -> Result<RequestOp, DecodeError> {
        let mut request = None;
        let mut reader = Reader::new(part);
        while let Some(Field { number, value }) = reader.next_field()? {
            if let (1..=4, Value::Bytes(part)) = (number, value) {
                request = Some(self.request(request.take(), number, part, depth)?);
            }
        }
        Ok(RequestOp { request: request.map(|request| request.into_message(self.source)) })
    }

    /// Reads one request of an operation on top of what the operation held: a request of the same
    /// kind is merged, any other replaced.
    fn request<'a>(
        &self,
        before: Option<Request<'a>>,
        number: u32,
        part: &'a [u8],
        depth: usize,
    ) -> Result<Request<'a>, DecodeError> {
        let mut request = match (number, before) {
            (1, Some(before @ Request::Range(_)))
            | (2, Some(before @ Request::Put(_)))
            | (3, Some(before @ Request::DeleteRange(_)))
            | (4, Some(before @ Request::Txn(_))) => before,
            (1, _) => Request::Range(RangeRequestRef::default()),
            (2, _) => Request::Put(PutRequestRef::default()),
            (3, _) => Request::DeleteRange(DeleteRangeRequestRef::default()),
            _ => Request::Txn(TxnRequest::default()),
        };
        match &mut request {
            Request::Range(range) => range.merge(part)?,
            Request::Put(put) => put.merge(part)?,
            Request::DeleteRange(delete) => delete.merge(part)?,
            Request::Txn(txn) => self.txn(txn, part, depth)?,
        }
        Ok(request)
    }
}

/// An operation's request while it is read.
enum Request<'a> {
    Range(RangeRequestRef<'a>),
    Put(PutRequestRef<'a>),
    DeleteRange(DeleteRangeRequestRef<'a>),
    Txn(TxnRequest),
}

impl Request<'_> {
    fn into_message(self, source: &Bytes) -> request_op::Request {
        match self {
            Self::Range(range) => request_op::Request::RequestRange(range.to_message(source)),
            Self::Put(put) => request_op::Request::RequestPut(put.to_message(source)),
            Self::DeleteRange(delete) => {
                request_op::Request::RequestDeleteRange(delete.to_message(source))
            }
            Self::Txn(txn) => request_op::Request::RequestTxn(txn),
        }
    }
}

#[cfg(test)]
mod tests;
