//! Transactions: compares against the state before, then one branch, all under one revision.

use std::cmp::Ordering;

use api::etcdserverpb as pb;
use api::key_value::KeyValueRef;
use lease::Lessor;
use mvcc::{KeyMeta, RangeArgs, RangeResult, Reader, Row, WriteTxn};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;

use crate::kv;
use crate::{OpOutcome, RangeOutcome, TxnOutcome};

/// What compares and ranges read: a transaction in the making, or the store at one revision.
pub(crate) trait View {
    /// The revision that an operation's header names.
    fn revision(&self) -> i64;
    /// Below it nothing can be read; -1 if the store was never compacted.
    fn compact_revision(&self) -> i64;
    fn range(
        &self,
        args: &RangeArgs<'_>,
        sink: &mut dyn FnMut(Row<'_>),
    ) -> Result<RangeResult, mvcc::Error>;
    /// What is known of a key without reading its row.
    fn meta(&self, key: &[u8]) -> Result<Option<KeyMeta>, mvcc::Error>;
}

/// A transaction and the compact revision it began with.
pub(crate) struct Writing<'a, 's> {
    pub(crate) txn: &'a WriteTxn<'s>,
    pub(crate) compact_revision: i64,
}

impl View for Writing<'_, '_> {
    fn revision(&self) -> i64 {
        self.txn.revision()
    }

    fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    fn range(
        &self,
        args: &RangeArgs<'_>,
        sink: &mut dyn FnMut(Row<'_>),
    ) -> Result<RangeResult, mvcc::Error> {
        self.txn.range(args, sink)
    }

    fn meta(&self, key: &[u8]) -> Result<Option<KeyMeta>, mvcc::Error> {
        Ok(self.txn.meta(key))
    }
}

/// The store as it was at one revision.
struct Pinned<'a> {
    reader: &'a Reader,
    revision: i64,
}

impl View for Pinned<'_> {
    fn revision(&self) -> i64 {
        self.revision
    }

    fn compact_revision(&self) -> i64 {
        self.reader.compact_revision()
    }

    fn range(
        &self,
        args: &RangeArgs<'_>,
        sink: &mut dyn FnMut(Row<'_>),
    ) -> Result<RangeResult, mvcc::Error> {
        let revision = if args.revision > 0 { args.revision } else { self.revision };
        self.reader.range(&RangeArgs { revision, ..*args }, sink)
    }

    fn meta(&self, key: &[u8]) -> Result<Option<KeyMeta>, mvcc::Error> {
        let mut meta = None;
        let args =
            RangeArgs { key, revision: self.revision, keys_only: true, ..Default::default() };
        self.reader.range(&args, |raw| {
            let row = KeyValueRef::decode(&raw).expect("the store hands out what it encoded");
            meta = Some(KeyMeta {
                create_revision: row.create_revision,
                mod_revision: row.mod_revision,
                version: row.version,
            });
        })?;
        Ok(meta)
    }
}

/// Runs a transaction that changes nothing, beside the writes, at one revision.
///
/// # Errors
/// What a range of it is refused for; [`api::Error::Compacted`] for the transaction's own revision
/// too, when a compaction overtakes it, in which case the caller may try again.
pub fn evaluate_read_only(
    reader: &Reader,
    request: &pb::TxnRequest,
) -> Result<TxnOutcome, api::Error> {
    let view = Pinned { reader, revision: reader.current_revision() };
    let branches = choose(&view, request);
    check_ranges(&view, request, &mut branches.iter().copied())?;
    let mut taken = branches.into_iter();
    let succeeded = taken.next().expect("one choice for each transaction");
    let mut responses = Vec::new();
    for op in branch(request, succeeded) {
        let Some(Request::RequestRange(range)) = &op.request else {
            unreachable!("a read-only transaction holds nothing but ranges");
        };
        responses.push(OpOutcome::Range(range_outcome(&view, range)?));
    }
    Ok(TxnOutcome { revision: view.revision, succeeded, responses })
}

/// The range of an operation, with its rows.
pub(crate) fn range_outcome<V: View>(
    view: &V,
    request: &pb::RangeRequest,
) -> Result<RangeOutcome, api::Error> {
    let revision = view.revision();
    let mut kvs = Vec::new();
    let args = kv::range_args(request);
    let result = view.range(&args, &mut |raw| kvs.push(raw.to_owned())).map_err(kv::read_error)?;
    Ok(RangeOutcome { revision, kvs, more: result.more, count: result.count })
}

/// Which branch each transaction takes, the outer one first and then the nested ones of the branch
/// that was taken, depth first: all compares see the state before any change.
pub(crate) fn choose<V: View>(view: &V, request: &pb::TxnRequest) -> Vec<bool> {
    let mut choices = Vec::new();
    choose_into(view, request, &mut choices);
    choices
}

fn choose_into<V: View>(view: &V, request: &pb::TxnRequest, choices: &mut Vec<bool>) {
    let succeeded = request.compare.iter().all(|compare| holds(view, compare));
    choices.push(succeeded);
    for op in branch(request, succeeded) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            choose_into(view, nested, choices);
        }
    }
}

fn branch(request: &pb::TxnRequest, succeeded: bool) -> &[pb::RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

/// Whether a compare holds for every key of its range, or, where there is none, for a key that was
/// never written. A compare that can't be read does not hold.
fn holds<V: View>(view: &V, compare: &pb::Compare) -> bool {
    let target = CompareTarget::try_from(compare.target);
    let needs_row = matches!(target, Ok(CompareTarget::Value | CompareTarget::Lease));
    if compare.range_end.is_empty() && !needs_row {
        let Ok(meta) = view.meta(&compare.key) else {
            return false;
        };
        return holds_for(compare, &meta.map_or_else(KeyValueRef::default, without_row));
    }
    let mut all = true;
    let mut any = false;
    let args =
        RangeArgs { key: &compare.key, range_end: &compare.range_end, ..RangeArgs::default() };
    let read = view.range(&args, &mut |raw| {
        any = true;
        let row = KeyValueRef::decode(&raw).expect("the store hands out what it encoded");
        all = all && holds_for(compare, &row);
    });
    match read {
        Err(_) => false,
        Ok(_) if any => all,
        // The value of a missing key equals nothing, not even the empty value.
        Ok(_) if target == Ok(CompareTarget::Value) => false,
        Ok(_) => holds_for(compare, &KeyValueRef::default()),
    }
}

fn without_row(meta: KeyMeta) -> KeyValueRef<'static> {
    KeyValueRef {
        create_revision: meta.create_revision,
        mod_revision: meta.mod_revision,
        version: meta.version,
        ..KeyValueRef::default()
    }
}

/// Compares one row. A target whose operand is of another kind is compared with zero, an unknown
/// target counts as equal, and an unknown result holds: as in etcd.
fn holds_for(compare: &pb::Compare, row: &KeyValueRef<'_>) -> bool {
    let operand = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => row.version.cmp(&match operand {
            Some(TargetUnion::Version(version)) => *version,
            _ => 0,
        }),
        Ok(CompareTarget::Create) => row.create_revision.cmp(&match operand {
            Some(TargetUnion::CreateRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => row.mod_revision.cmp(&match operand {
            Some(TargetUnion::ModRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Value) => row.value.cmp(match operand {
            Some(TargetUnion::Value(value)) => value,
            _ => &[],
        }),
        Ok(CompareTarget::Lease) => row.lease.cmp(&match operand {
            Some(TargetUnion::Lease(lease)) => *lease,
            _ => 0,
        }),
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

/// Refuses a transaction before its first change, so that none is applied by half.
pub(crate) fn check<V: View>(
    view: &V,
    lessor: &Lessor,
    request: &pb::TxnRequest,
    choices: &[bool],
) -> Result<(), api::Error> {
    check_ranges(view, request, &mut choices.iter().copied())?;
    check_puts(view, lessor, request, &mut choices.iter().copied())
}

fn check_ranges<V: View>(
    view: &V,
    request: &pb::TxnRequest,
    choices: &mut dyn Iterator<Item = bool>,
) -> Result<(), api::Error> {
    let succeeded = choices.next().expect("one choice for each transaction");
    for op in branch(request, succeeded) {
        match &op.request {
            Some(Request::RequestRange(range)) if range.revision != 0 => {
                if range.revision > view.revision() {
                    return Err(api::Error::FutureRev);
                }
                if range.revision < view.compact_revision() {
                    return Err(api::Error::Compacted);
                }
            }
            Some(Request::RequestTxn(nested)) => check_ranges(view, nested, choices)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_puts<V: View>(
    view: &V,
    lessor: &Lessor,
    request: &pb::TxnRequest,
    choices: &mut dyn Iterator<Item = bool>,
) -> Result<(), api::Error> {
    let succeeded = choices.next().expect("one choice for each transaction");
    for op in branch(request, succeeded) {
        match &op.request {
            Some(Request::RequestPut(put)) => {
                let reuses = put.ignore_value || put.ignore_lease;
                if reuses && view.meta(&put.key).map_err(kv::read_error)?.is_none() {
                    return Err(api::Error::KeyNotFound);
                }
                if put.lease != 0 && !lessor.contains(put.lease) {
                    return Err(api::Error::LeaseNotFound);
                }
            }
            Some(Request::RequestTxn(nested)) => check_puts(view, lessor, nested, choices)?,
            _ => {}
        }
    }
    Ok(())
}

/// Runs the branch that was chosen. The transaction was checked: what fails now is a broken
/// invariant or a broken disk.
pub(crate) fn execute(
    txn: &mut WriteTxn<'_>,
    lessor: &mut Lessor,
    request: &pb::TxnRequest,
    choices: &mut dyn Iterator<Item = bool>,
    compact_revision: i64,
    is_local: bool,
) -> (bool, Vec<OpOutcome>) {
    let succeeded = choices.next().expect("one choice for each transaction");
    let mut responses = Vec::new();
    for op in branch(request, succeeded) {
        responses.push(match &op.request {
            // Only the member that answers the client needs what a range reads.
            Some(Request::RequestRange(_)) if !is_local => {
                OpOutcome::Range(RangeOutcome::default())
            }
            Some(Request::RequestRange(range)) => {
                let view = Writing { txn, compact_revision };
                OpOutcome::Range(range_outcome(&view, range).expect("the range was checked"))
            }
            Some(Request::RequestPut(put)) => {
                let put = kv::PutArgs::from(put);
                let (revision, prev_kv) = kv::put(txn, lessor, &put).expect("the put was checked");
                OpOutcome::Put { revision, prev_kv }
            }
            Some(Request::RequestDeleteRange(delete)) => {
                let (revision, deleted, prev_kvs) =
                    kv::delete_range(txn, lessor, &delete.key, &delete.range_end, delete.prev_kv);
                OpOutcome::DeleteRange { revision, deleted, prev_kvs }
            }
            Some(Request::RequestTxn(nested)) => {
                let (succeeded, responses) =
                    execute(txn, lessor, nested, choices, compact_revision, is_local);
                OpOutcome::Txn { succeeded, responses }
            }
            None => panic!("a transaction with an empty operation was committed"),
        });
    }
    (succeeded, responses)
}

/// The bug of etcd 18799: what comes before the operation that fails stays.
pub(crate) fn execute_first(
    txn: &mut WriteTxn<'_>,
    lessor: &mut Lessor,
    request: &pb::TxnRequest,
    choices: &[bool],
) {
    let succeeded = choices.first().copied().unwrap_or_default();
    if let Some(Request::RequestPut(put)) =
        branch(request, succeeded).first().and_then(|op| op.request.as_ref())
    {
        // It fails where nothing else does.
        let _ = kv::put(txn, lessor, &kv::PutArgs::from(put));
    }
}

/// Whether a transaction has no operation that could change something, in either branch. Nesting
/// counts as a change, as in etcd.
#[must_use]
pub fn is_read_only(request: &pb::TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether all ranges of a read-only transaction are content with this member's own state.
#[must_use]
pub fn is_serializable(request: &pb::TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        Some(Request::RequestRange(range)) => range.serializable,
        _ => false,
    })
}
