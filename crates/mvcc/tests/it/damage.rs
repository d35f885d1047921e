//! Rows that nobody writes are refused when the store is restored.

use backend::Bucket;
use bytes::Bytes;
use env::MemDisk;
use mvcc::{Error, Options, Rev, Store};

use crate::harness::Member;

#[test]
fn damaged_rows_are_refused() {
    let good = Rev { main: 5, sub: 0 }.to_key();
    let far = Rev { main: i64::MAX, sub: 0 }.to_key();
    let kv: &[u8] = b"\x0a\x01k\x10\x05\x18\x05\x20\x01";
    let cases: [(Bucket, &[u8], &[u8]); 6] = [
        (Bucket::Key, b"\xff", kv),
        (Bucket::Key, &far, kv),
        (Bucket::Key, &good, b"\x0a\xff"),
        (Bucket::Key, &[&good[..], b"x"].concat(), kv),
        (Bucket::Meta, b"scheduledCompactRev", b"short"),
        (Bucket::Meta, b"finishedCompactRev", &far),
    ];
    for (bucket, key, value) in cases {
        let mut member = Member::open(MemDisk::new());
        member.backend.put(Bucket::Key, &good, Bytes::copy_from_slice(kv));
        member.backend.put(bucket, key, Bytes::copy_from_slice(value));
        let restored = Store::restore(&mut member.backend, Options::default());
        assert!(matches!(restored, Err(Error::Damaged { .. })), "{bucket:?} {key:?}");
    }
}

/// Numbers may be anything: the store goes on with them and does not overflow.
#[test]
fn odd_numbers_are_taken() {
    let mut member = Member::open(MemDisk::new());
    let most: &[u8] = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
    let kv = [b"\x0a\x01k\x10", most, b"\x18", most, b"\x20", most, b"\x30", most].concat();
    for main in [2, 3] {
        let key = Rev { main, sub: 0 }.to_key();
        member.backend.put(Bucket::Key, &key, Bytes::copy_from_slice(&kv));
    }
    let restored = Store::restore(&mut member.backend, Options::default());
    let (mut store, leases) = restored.expect("rows are messages");
    assert_eq!(leases, [(Bytes::from_static(b"k"), i64::MAX)]);
    let mut txn = store.begin(&mut member.backend, true);
    let put = txn.put(b"k", b"", 0, true).expect("well");
    assert_eq!(put.prev_lease, i64::MAX);
    assert_eq!(txn.meta(b"k").map(|meta| meta.version), Some(i64::MAX));
    assert_eq!(txn.finish().map(|batch| batch.revision), Some(4));
    store.compact(&mut member.backend, 4).expect("it exists");
}
