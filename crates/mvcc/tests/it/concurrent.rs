//! Readers on threads of their own beside transactions, compactions and commits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use api::key_value::KeyValueRef;
use env::MemDisk;
use mvcc::{Error, RangeArgs, Reader};

use crate::harness::Member;

const KEYS: u8 = 40;
const TRANSACTIONS: u32 = 3_000;
const READERS: u64 = 3;

/// Every transaction writes all keys with one value, and now and then deletes and makes one, so
/// whatever a reader sees, it sees one value, and the key that is always there.
#[test]
fn readers_see_whole_transactions() {
    let mut member = Member::open(MemDisk::new());
    write(&mut member, 0);
    let done = AtomicBool::new(false);
    let reads = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let (reader, done) = (member.store.reader(), &done);
                scope.spawn(move || read(&reader, done, number))
            })
            .collect();
        for number in 1..TRANSACTIONS {
            write(&mut member, number);
            if number % 50 == 0 {
                let revision = member.store.revision() - i64::from(number % 3);
                member.store.compact(&mut member.backend, revision).expect("it is a new one");
            }
            member.store.compaction_step(&mut member.backend, 100).expect("well");
            if number % 64 == 0 {
                member.commit();
            }
        }
        done.store(true, Ordering::SeqCst);
        readers.into_iter().map(|reader| reader.join().expect("readers don't fail")).sum::<u64>()
    });
    member.compact_all(100);
    assert!(reads >= READERS, "each reader has read");
}

fn write(member: &mut Member, number: u32) {
    let mut txn = member.store.begin(&mut member.backend, false);
    let value = number.to_be_bytes();
    for key in 0..KEYS {
        if key > 0 && number % 7 == u32::from(key % 7) {
            txn.delete_range(&[b'k', key], b"", false).expect("well");
        } else {
            txn.put(&[b'k', key], &value, 0, false).expect("well");
        }
    }
    assert!(txn.finish().is_some());
}

/// Reads until told to stop; how often it did.
fn read(reader: &Reader, done: &AtomicBool, number: u64) -> u64 {
    let mut reads = 0;
    let mut last = 0;
    while reads == 0 || !done.load(Ordering::SeqCst) {
        reads += 1;
        let current = reader.current_revision();
        assert!(current >= last, "the revision never falls");
        last = current;
        let revision = if reads % 4 == 0 { current - 3 } else { 0 };
        let args = RangeArgs { key: b"k", range_end: b"l", revision, ..RangeArgs::default() };
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let result = reader.range(&args, |row| {
            let kv = KeyValueRef::decode(&row).expect("a row");
            rows.push((kv.key.to_vec(), kv.value.to_vec()));
        });
        match result {
            Ok(result) => {
                assert_eq!(result.count, i64::try_from(rows.len()).expect("few"));
                match rows.first() {
                    Some((key, first)) => {
                        assert_eq!(key, b"k\0");
                        assert!(rows.iter().all(|(_, value)| value == first), "one transaction");
                    }
                    None => assert_eq!(revision, 1, "before the first transaction is nothing"),
                }
                let keys: Vec<_> = rows.iter().map(|(key, _)| key).collect();
                assert!(keys.is_sorted());
            }
            Err(Error::Compacted) => assert!(revision > 0, "the current revision can be read"),
            Err(Error::Future) => assert!(revision < 0),
            Err(error) => panic!("{error}"),
        }
        if reads % 16 == number {
            let (hash, current) = reader.hash_kv(0).expect("the current revision can be read");
            assert!(hash.revision <= current && hash.compact_revision <= hash.revision);
        }
    }
    reads
}
