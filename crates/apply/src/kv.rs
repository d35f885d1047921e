//! Single operations on keys, the same alone and inside a transaction.

use api::etcdserverpb as pb;
use api::key_value::KeyValueRef;
use api::request::PutRequestRef;
use bytes::Bytes;
use lease::Lessor;
use mutant::mutant;
use mvcc::{RangeArgs, SortOrder, SortTarget, WriteTxn};

/// A put, from either codec.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PutArgs<'a> {
    key: &'a [u8],
    value: &'a [u8],
    lease: i64,
    prev_kv: bool,
    ignore_value: bool,
    ignore_lease: bool,
}

impl<'a> From<&'a pb::PutRequest> for PutArgs<'a> {
    fn from(request: &'a pb::PutRequest) -> Self {
        Self {
            key: &request.key,
            value: &request.value,
            lease: request.lease,
            prev_kv: request.prev_kv,
            ignore_value: request.ignore_value,
            ignore_lease: request.ignore_lease,
        }
    }
}

impl<'a> From<PutRequestRef<'a>> for PutArgs<'a> {
    fn from(request: PutRequestRef<'a>) -> Self {
        Self {
            key: request.key,
            value: request.value,
            lease: request.lease,
            prev_kv: request.prev_kv,
            ignore_value: request.ignore_value,
            ignore_lease: request.ignore_lease,
        }
    }
}

/// Sets a key and moves it between leases; revision and, if asked for, the row before.
pub(crate) fn put(
    txn: &mut WriteTxn<'_>,
    lessor: &mut Lessor,
    args: &PutArgs<'_>,
) -> Result<(i64, Option<Bytes>), api::Error> {
    if args.lease != 0 && !lessor.contains(args.lease) {
        return Err(api::Error::LeaseNotFound);
    }
    let (mut value, mut lease) = (args.value, args.lease);
    let prev;
    if args.ignore_value || args.ignore_lease {
        prev = txn.get(args.key).map_err(read_error)?.ok_or(api::Error::KeyNotFound)?;
        let row = KeyValueRef::decode(&prev).expect("the store hands out what it encoded");
        if args.ignore_value {
            value = row.value;
        }
        if args.ignore_lease {
            lease = row.lease;
        }
    }
    let put = txn.put(args.key, value, lease, args.prev_kv).map_err(read_error)?;
    if put.prev_lease != lease && !(mutant!("10686") && put.prev_lease != 0) {
        if put.prev_lease != 0 {
            lessor.detach(put.prev_lease, args.key);
        }
        if lease != 0 {
            let attached = lessor.attach(lease, args.key);
            assert!(attached, "a put kept a lease that is gone: {lease:016x}");
        }
    }
    Ok((txn.revision(), put.prev_kv))
}

/// Deletes keys and takes them off their leases: revision, how many, and the rows if asked for.
pub(crate) fn delete_range(
    txn: &mut WriteTxn<'_>,
    lessor: &mut Lessor,
    key: &[u8],
    range_end: &[u8],
    prev_kv: bool,
) -> (i64, i64, Vec<Bytes>) {
    let deleted = match txn.delete_range(key, range_end, prev_kv) {
        Ok(deleted) => deleted,
        Err(err) => panic!("deleting a range: {err}"),
    };
    for (key, lease) in &deleted.keys {
        if *lease != 0 {
            lessor.detach(*lease, key);
        }
    }
    (txn.revision(), deleted.keys.len() as i64, deleted.prev_kvs)
}

/// A range request in the store's terms. Unknown sort words were refused at the front door; in a
/// transaction etcd lets them pass, and they mean the default.
pub(crate) fn range_args(request: &pb::RangeRequest) -> RangeArgs<'_> {
    RangeArgs {
        key: &request.key,
        range_end: &request.range_end,
        limit: request.limit,
        revision: request.revision,
        sort_order: SortOrder::try_from(request.sort_order).unwrap_or_default(),
        sort_target: SortTarget::try_from(request.sort_target).unwrap_or_default(),
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

/// A user's mistake becomes etcd's error.
///
/// # Panics
/// If the store is damaged or its disk failed: the process must not go on.
pub(crate) fn read_error(err: mvcc::Error) -> api::Error {
    match err {
        mvcc::Error::Compacted => api::Error::Compacted,
        mvcc::Error::Future => api::Error::FutureRev,
        err @ (mvcc::Error::Backend(_) | mvcc::Error::Damaged { .. }) => {
            panic!("reading the store: {err}")
        }
    }
}
