//! The hash of a whole database.

use crate::backend::{CONSISTENT_INDEX_KEY, TERM_KEY};
use crate::{Bucket, Error};

/// CRC-32C over every bucket's name and then its keys and values, in order.
///
/// `skip` leaves rows out, by bucket and key: [`skip_local`] for etcd's Hash RPC, which compares
/// members; none for the hash of `etcdutl snapshot status`.
pub fn hash(tx: &bolt::ReadTx, skip: impl Fn(&[u8], &[u8]) -> bool) -> Result<u32, Error> {
    let mut crc = 0;
    let mut buckets = tx.root()?.cursor();
    while let Some(item) = buckets.next()? {
        let Some(bucket) = buckets.bucket()? else { continue };
        crc = crc32c::crc32c_append(crc, item.key);
        let mut rows = bucket.cursor();
        while let Some(row) = rows.next()? {
            if !skip(item.key, row.key) {
                crc = crc32c::crc32c_append(crc, row.key);
                crc = crc32c::crc32c_append(crc, row.value);
            }
        }
    }
    Ok(crc)
}

/// Whether a row may differ between members that hold the same data: the marks in bucket `meta` of
/// how far a member has come and of what version it is.
#[must_use]
pub fn skip_local(bucket: &[u8], key: &[u8]) -> bool {
    bucket == Bucket::Meta.name()
        && (key == CONSISTENT_INDEX_KEY || key == TERM_KEY || key == b"storageVersion")
}
