//! `etcdserverpb.KV/Txn`: what can be said of a transaction before it runs.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use api::etcdserverpb as pb;
use api::internal::OpRef;
use api::request::{PutRequestRef, RangeRequestRef};
use api::txn::decode_txn_request;
use api::wire::DecodeError;
use api::{Error, error::transport};
use bytes::Bytes;
use pb::request_op::Request;

use super::outcome::txn_response;
use super::{Result, kv, refuse_learner, unary_too_large};
use crate::desk::{CallInfo, Desk, Next, ReadOp, RequestType};

/// `Txn`: one that only reads goes past consensus.
pub(crate) fn txn(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let max_ops = desk.link.limits.max_txn_ops;
    let source = Bytes::copy_from_slice(request);
    let txn = decode_txn_request(&source, max_ops).map_err(|error| match error {
        DecodeError::TooDeep | DecodeError::TooManyOps => Error::TooManyOps.into(),
        _ => transport::error_unmarshalling_request(),
    })?;
    refuse_learner(desk)?;
    kv::check_quota(desk, apply::quota::txn_cost(&txn))?;
    check(&txn, max_ops)?;
    if !apply::is_read_only(&txn) {
        return desk.propose(call, OpRef::Txn(request));
    }
    if apply::is_serializable(&txn) {
        return serve_read_only(desk, call, &txn);
    }
    Ok(desk.read(call, ReadOp::Txn(Box::new(txn))))
}

/// A transaction that only reads, when the state is fresh enough.
pub(crate) fn serve_read_only(
    desk: &mut Desk,
    call: &CallInfo,
    request: &pb::TxnRequest,
) -> Result<Next> {
    let outcome = apply::evaluate_read_only(&desk.link.reader, request);
    desk.durations.request(
        RequestType::ReadonlyTxn,
        outcome.is_ok(),
        desk.now.saturating_duration_since(call.begun),
    );
    let outcome = outcome?;
    let header = desk.header(outcome.revision);
    desk.frame.set(&txn_response(&outcome, header)).map_err(unary_too_large)?;
    Ok(Next::Answer)
}

/// What is wrong with a transaction whatever the state, in etcd's order: the number of operations,
/// each compare, each operation by itself, and then keys that are put twice.
fn check(txn: &pb::TxnRequest, max_ops: usize) -> Result<()> {
    check_ops(txn, max_ops)?;
    for branch in [&txn.success, &txn.failure] {
        Intervals::of(branch)?;
    }
    Ok(())
}

fn check_ops(txn: &pb::TxnRequest, max_ops: usize) -> Result<()> {
    let ops = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if ops > max_ops {
        return Err(Error::TooManyOps.into());
    }
    if txn.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey.into());
    }
    // What an outer transaction leaves is what a nested one may use.
    let left = max_ops - ops;
    txn.success.iter().chain(&txn.failure).try_for_each(|op| check_op(op, left))
}

fn check_op(op: &pb::RequestOp, left: usize) -> Result<()> {
    match &op.request {
        Some(Request::RequestRange(range)) => kv::check_range(&RangeRequestRef::from(range)),
        Some(Request::RequestPut(put)) => kv::check_put(&PutRequestRef::from(put)),
        Some(Request::RequestDeleteRange(delete)) if delete.key.is_empty() => {
            Err(Error::EmptyKey.into())
        }
        Some(Request::RequestDeleteRange(_)) => Ok(()),
        Some(Request::RequestTxn(txn)) => check_ops(txn, left),
        None => Err(Error::KeyNotFound.into()),
    }
}

/// The keys a branch puts and the ranges it deletes, however deep.
#[derive(Debug, Default)]
struct Intervals<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Deletes<'a>,
}

impl<'a> Intervals<'a> {
    /// Collects a branch; the error is a key that is put twice, or put and deleted.
    ///
    /// As in etcd, a key that one nested transaction puts may be deleted by a later one.
    fn of(branch: &'a [pb::RequestOp]) -> Result<Self> {
        let mut all = Self::default();
        for op in branch {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                all.deletes.insert(&delete.key, &delete.range_end);
            }
        }
        for op in branch {
            let Some(Request::RequestTxn(txn)) = &op.request else { continue };
            // One of the two runs, so they may put the same key, but not what others put.
            let then = Self::of(&txn.success)?;
            let other = Self::of(&txn.failure)?;
            all.check_apart(&then.puts)?;
            all.check_apart(&other.puts)?;
            all.puts.extend(then.puts);
            all.puts.extend(other.puts);
            all.deletes.extend(then.deletes);
            all.deletes.extend(other.deletes);
        }
        for op in branch {
            let Some(Request::RequestPut(put)) = &op.request else { continue };
            if !all.puts.insert(&put.key) || all.deletes.contains(&put.key) {
                return Err(Error::DuplicateKey.into());
            }
        }
        Ok(all)
    }

    fn check_apart(&self, puts: &BTreeSet<&'a [u8]>) -> Result<()> {
        let overlaps = puts.iter().any(|key| self.puts.contains(key) || self.deletes.contains(key));
        if overlaps { Err(Error::DuplicateKey.into()) } else { Ok(()) }
    }
}

/// Disjoint ranges of deleted keys, by their first key; `None` is the end of the key space.
#[derive(Debug, Default)]
struct Deletes<'a> {
    ranges: BTreeMap<&'a [u8], Option<Cow<'a, [u8]>>>,
}

impl<'a> Deletes<'a> {
    /// Adds a range in etcd's terms.
    fn insert(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        let end = match range_end {
            b"" => Some([key, b"\0"].concat().into()),
            b"\0" => None,
            end => Some(end.into()),
        };
        self.add(key, end);
    }

    fn extend(&mut self, other: Self) {
        other.ranges.into_iter().for_each(|(start, end)| self.add(start, end));
    }

    fn add(&mut self, mut start: &'a [u8], mut end: Option<Cow<'a, [u8]>>) {
        if end.as_deref().is_some_and(|end| end <= start) {
            return;
        }
        while let Some(first) = self.touching(start, end.as_deref()) {
            let last = self.ranges.remove(first).unwrap_or_default();
            start = start.min(first);
            end = match (end, last) {
                (Some(end), Some(last)) => Some(end.max(last)),
                _ => None,
            };
        }
        self.ranges.insert(start, end);
    }

    /// The first key of a range that overlaps the one from `start` to `end`, or borders on it.
    fn touching(&self, start: &[u8], end: Option<&[u8]>) -> Option<&'a [u8]> {
        let before = self.at_or_before(start).filter(|(_, last)| last.is_none_or(|l| l >= start));
        let mut after = self.ranges.range::<[u8], _>((Bound::Included(start), Bound::Unbounded));
        let after = after.next().map(|(first, _)| *first);
        let after = after.filter(|first| end.is_none_or(|end| *first <= end));
        before.map(|(first, _)| first).or(after)
    }

    fn at_or_before(&self, key: &[u8]) -> Option<(&'a [u8], Option<&[u8]>)> {
        let mut ranges = self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        ranges.next_back().map(|(first, last)| (*first, last.as_deref()))
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.at_or_before(key).is_some_and(|(_, end)| end.is_none_or(|end| key < end))
    }
}

#[cfg(test)]
mod tests;
