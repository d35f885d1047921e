//! `etcdserverpb.KV`, but for Txn.

use std::sync::atomic::AtomicBool;

use api::error::transport;
use api::etcdserverpb as pb;
use api::internal::OpRef;
use api::request::{DeleteRangeRequestRef, PutRequestRef, RangeRequestRef};
use api::response::{RangeResponseRef, RangeStreamResponseRef};
use api::splice::SPLICE_MIN;
use api::wire::{DecodeError, Encode as _};
use api::{Error, Status};
use mvcc::{RangeArgs, RangeResult, SortOrder, SortTarget};
use tokio::time::Instant;

use super::{Result, decode, refuse_learner, store_error, unary_too_large};
use crate::call::Stream;
use crate::desk::{CallInfo, Desk, Next, ReadOp, RequestType};
use crate::message::Frame;
use crate::task::given_up;

/// `Range`: at once if the client wants no more than this member's own state.
pub(crate) fn range(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let range = RangeRequestRef::decode(request).map_err(undecodable)?;
    if !range.serializable {
        refuse_learner(desk)?;
    }
    check_range(&range)?;
    if range.serializable {
        return serve(desk, call, &range);
    }
    Ok(desk.read_request(call, request, ReadOp::Range))
}

/// `Range`, when the state is fresh enough. The request was checked when it came.
pub(crate) fn serve_range(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let range = RangeRequestRef::decode(request).map_err(undecodable)?;
    serve(desk, call, &range)
}

/// Rows that are read on the core's own thread.
const ROWS_AT_ONCE: i64 = 10_000;

fn serve(desk: &mut Desk, call: &CallInfo, range: &RangeRequestRef<'_>) -> Result<Next> {
    let mut args = range_args(range)?;
    let is_large = args.limit <= 0 || args.limit > ROWS_AT_ONCE;
    if is_large && !args.range_end.is_empty() {
        args.limit = ROWS_AT_ONCE;
    }
    desk.link.metrics.mvcc_range_total.inc();
    let begun = Instant::now();
    let header = desk.header(0);
    let result = read(&desk.link.reader, &mut desk.frame, &args, header, &AtomicBool::new(false));
    if is_large && matches!(result, Ok(true)) {
        return Ok(serve_elsewhere(desk, call, range));
    }
    let took = begun.elapsed();
    desk.durations.range(result.is_ok(), took);
    desk.durations.request(
        RequestType::Range,
        result.is_ok(),
        desk.now.saturating_duration_since(call.begun) + took,
    );
    result.map(|_| Next::Answer)
}

/// Reads all of a large range on another thread, as long as the call waits for it.
fn serve_elsewhere(desk: &mut Desk, call: &CallInfo, range: &RangeRequestRef<'_>) -> Next {
    let request = range.encode_to_vec();
    let (reader, header) = (desk.link.reader.clone(), desk.header(0));
    desk.work(call, move |frame, is_over| {
        let range = RangeRequestRef::decode(&request).map_err(undecodable)?;
        read(&reader, frame, &range_args(&range)?, header, is_over).map(|_| ())
    })
}

/// Reads a range into a framed `RangeResponse`; whether its limit cut it.
fn read(
    reader: &mvcc::Reader,
    frame: &mut Frame,
    args: &RangeArgs<'_>,
    header: pb::ResponseHeader,
    is_over: &AtomicBool,
) -> Result<bool> {
    frame.begin();
    let result = reader
        .range_until(args, is_over, |row| frame.row(2, &row))
        .map_err(|error| store_error(&error))?
        .ok_or_else(given_up)?;
    frame.number(3, u64::from(result.more));
    frame.number(4, result.count.cast_unsigned());
    let header = pb::ResponseHeader { revision: result.revision, ..header };
    frame.finish(&header).map_err(unary_too_large)?;
    Ok(result.more)
}

/// A `RangeStream` under way: chunks at one revision, sent as the client takes them.
#[derive(Debug)]
pub(crate) struct RangeStream {
    key: Vec<u8>,
    range_end: Vec<u8>,
    /// 0 until the first chunk is read, unless the client named one.
    revision: i64,
    keys_only: bool,
    count_only: bool,
    /// What each chunk is sorted by.
    sort_target: SortTarget,
    /// Rows that may still be sent.
    left: usize,
    chunk_rows: usize,
    /// Rows that are sent.
    count: usize,
    /// The current revision as of the first chunk.
    header_revision: Option<i64>,
    rows: Vec<bytes::Bytes>,
}

/// Rows of the first chunk.
const CHUNK_ROWS: usize = 10;

/// `RangeStream`.
pub(crate) fn range_stream(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let range = RangeRequestRef::decode(request).map_err(undecodable)?;
    refuse_learner(desk)?;
    check_range(&range)?;
    // A target without an order is let through, and orders each chunk.
    let is_sorted = range.sort_order == SortOrder::Descend as i32
        || (range.sort_order == SortOrder::Ascend as i32
            && range.sort_target != SortTarget::Key as i32);
    if is_sorted {
        return Err(Error::RangeStreamSort.into());
    }
    let filters = [
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ];
    if filters != [0; 4] {
        return Err(Error::RangeStreamFilter.into());
    }
    if range.serializable {
        return serve_range_stream(request);
    }
    Ok(desk.read_request(call, request, ReadOp::RangeStream))
}

/// `RangeStream`, when the state is fresh enough.
pub(crate) fn serve_range_stream(request: &[u8]) -> Result<Next> {
    let range = RangeRequestRef::decode(request).map_err(undecodable)?;
    Ok(Next::Stream(Stream::Range(Box::new(RangeStream {
        key: range.key.to_vec(),
        range_end: range.range_end.to_vec(),
        revision: range.revision,
        keys_only: range.keys_only,
        count_only: range.count_only,
        sort_target: SortTarget::try_from(range.sort_target).unwrap_or_default(),
        left: usize::try_from(range.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX),
        chunk_rows: CHUNK_ROWS,
        count: 0,
        header_revision: None,
        rows: Vec::new(),
    }))))
}

impl RangeStream {
    /// Makes the next message in the desk's frame; whether it was the last.
    pub(crate) fn advance(&mut self, desk: &mut Desk) -> Result<bool> {
        desk.link.metrics.mvcc_range_total.inc();
        if self.count_only {
            return self.count_only(desk);
        }
        let rows = &mut self.rows;
        rows.clear();
        let args = RangeArgs {
            key: &self.key,
            range_end: &self.range_end,
            limit: i64::try_from(self.chunk_rows.min(self.left)).unwrap_or(i64::MAX),
            revision: self.revision,
            keys_only: self.keys_only,
            // DIFF(etcd): there, what a chunk's sort leaves last decides where the next one begins,
            // and rows are left out or sent twice.
            sort_target: self.sort_target,
            ..RangeArgs::default()
        };
        let chunk = desk
            .link
            .reader
            .range_chunk(&args, |row| {
                let is_long = row.len() >= SPLICE_MIN;
                rows.push(if is_long { row.lend() } else { row.to_owned() });
            })
            .map_err(|error| store_error(&error))?;
        let header_revision = *self.header_revision.get_or_insert(chunk.revision);
        if self.revision <= 0 {
            self.revision = header_revision;
        }
        self.count += chunk.rows;
        self.left -= chunk.rows.min(self.left);
        self.adapt(desk.link.limits.max_request_bytes);
        let more = chunk.next.is_some();
        let is_last = !more || self.left == 0;
        self.key = chunk.next.unwrap_or_default();
        let mut response = RangeResponseRef { kvs: &self.rows, ..RangeResponseRef::default() };
        if is_last {
            response.header = Some(desk.header(header_revision));
            response.more = more;
            response.count = i64::try_from(self.count).unwrap_or(i64::MAX);
            if more {
                response.count += self.count_range(desk)?.count;
            }
        }
        self.send(desk, response)?;
        // What the file has lent is with the frame alone, which gives it back.
        self.rows.clear();
        Ok(is_last)
    }

    /// Counts the keys from `key` on.
    fn count_range(&self, desk: &Desk) -> Result<RangeResult> {
        let args = RangeArgs {
            key: &self.key,
            range_end: &self.range_end,
            revision: self.revision,
            count_only: true,
            ..RangeArgs::default()
        };
        desk.link.reader.range(&args, |_| ()).map_err(|error| store_error(&error))
    }

    fn count_only(&self, desk: &mut Desk) -> Result<bool> {
        let result = self.count_range(desk)?;
        let response = RangeResponseRef {
            header: Some(desk.header(result.revision)),
            count: result.count,
            ..RangeResponseRef::default()
        };
        self.send(desk, response)?;
        Ok(true)
    }

    fn send(&self, desk: &mut Desk, range_response: RangeResponseRef<'_>) -> Result<()> {
        desk.frame.set_lent(&RangeStreamResponseRef { range_response }).map_err(|error| {
            transport::streaming_message_larger_than_max(
                error.len as u64,
                api::frame::MESSAGE_BYTES_MAX as u64,
            )
        })?;
        Ok(())
    }

    /// Doubles the chunk while it is small, halves it when it is big.
    fn adapt(&mut self, max_request_bytes: usize) {
        let bytes: usize = self.rows.iter().map(bytes::Bytes::len).sum();
        if bytes < max_request_bytes / 2 {
            self.chunk_rows = self.chunk_rows.saturating_mul(2);
        } else if bytes > max_request_bytes.saturating_mul(2) {
            self.chunk_rows = (self.chunk_rows / 2).max(1);
        }
    }
}

/// `Put`: the request's own bytes go into the log.
pub(crate) fn put(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let put = PutRequestRef::decode(request).map_err(undecodable)?;
    refuse_learner(desk)?;
    check_quota(desk, apply::quota::put_cost(put.key, put.value))?;
    check_put(&put)?;
    desk.propose(call, OpRef::Put(request))
}

/// `DeleteRange`.
pub(crate) fn delete_range(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let delete = DeleteRangeRequestRef::decode(request).map_err(undecodable)?;
    refuse_learner(desk)?;
    if delete.key.is_empty() {
        return Err(Error::EmptyKey.into());
    }
    desk.propose(call, OpRef::DeleteRange(request))
}

/// `Compact`.
pub(crate) fn compact(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let _: pb::CompactionRequest = decode(request)?;
    refuse_learner(desk)?;
    desk.propose(call, OpRef::Compaction(request))
}

/// What is wrong with a range whatever the state.
pub(crate) fn check_range(range: &RangeRequestRef<'_>) -> Result<()> {
    if range.key.is_empty() {
        return Err(Error::EmptyKey.into());
    }
    range_args(range).map(|_| ())
}

/// What is wrong with a put whatever the state.
pub(crate) fn check_put(put: &PutRequestRef<'_>) -> Result<()> {
    if put.key.is_empty() {
        return Err(Error::EmptyKey.into());
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(Error::ValueProvided.into());
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Error::LeaseProvided.into());
    }
    Ok(())
}

/// Refuses what the backend has no room for, and raises the alarm.
pub(crate) fn check_quota(desk: &mut Desk, cost: u64) -> Result<()> {
    let quota = u64::try_from(desk.link.limits.quota_bytes).ok().filter(|quota| *quota > 0);
    let size = desk.link.state.db_size.load(std::sync::atomic::Ordering::Relaxed);
    if apply::quota::has_room(quota, u64::try_from(size).unwrap_or(0), cost) {
        return Ok(());
    }
    super::maintenance::raise_no_space(desk);
    Err(Error::NoSpace.into())
}

fn range_args<'a>(range: &RangeRequestRef<'a>) -> Result<RangeArgs<'a>> {
    let invalid = |_| Status::from(Error::InvalidSortOption);
    Ok(RangeArgs {
        key: range.key,
        range_end: range.range_end,
        limit: range.limit,
        revision: range.revision,
        sort_order: SortOrder::try_from(range.sort_order).map_err(invalid)?,
        sort_target: SortTarget::try_from(range.sort_target).map_err(invalid)?,
        keys_only: range.keys_only,
        count_only: range.count_only,
        min_mod_revision: range.min_mod_revision,
        max_mod_revision: range.max_mod_revision,
        min_create_revision: range.min_create_revision,
        max_create_revision: range.max_create_revision,
    })
}

pub(crate) fn undecodable(_: DecodeError) -> Status {
    transport::error_unmarshalling_request()
}
