use std::sync::atomic::{AtomicBool, Ordering};

use env::MemDisk;
use mvcc::{RangeArgs, SortOrder, SortTarget};

use crate::harness::Member;

const KEYS: usize = 10_000;
/// Rows that are read without a look at whether somebody wants them.
const AT_ONCE: usize = 1024;

fn member() -> Member {
    let mut member = Member::open(MemDisk::new());
    let mut txn = member.store.begin(&mut member.backend, false);
    for key in 0..KEYS {
        txn.put(format!("k{key:05}").as_bytes(), b"value", 0, false).expect("well");
    }
    assert!(txn.finish().is_some());
    member
}

/// Ranges over all keys that are read in different ways.
fn ways() -> impl Iterator<Item = RangeArgs<'static>> {
    let targets = [SortTarget::Key, SortTarget::Version, SortTarget::Value];
    let orders = [SortOrder::None, SortOrder::Descend];
    targets.into_iter().flat_map(move |sort_target| {
        orders.into_iter().flat_map(move |sort_order| {
            [false, true].map(|keys_only| RangeArgs {
                key: b"k",
                range_end: b"l",
                sort_target,
                sort_order,
                keys_only,
                ..RangeArgs::default()
            })
        })
    })
}

#[test]
fn a_range_that_somebody_wants_is_a_range() {
    let member = member();
    for args in ways() {
        let mut rows = Vec::new();
        let until = AtomicBool::new(false);
        let sink = |row: backend::Row<'_>| rows.push(row.to_vec());
        let result = member.store.reader().range_until(&args, &until, sink).expect("well");
        assert_eq!((result.expect("wanted"), rows), member.range(&args).expect("well"), "{args:?}");
    }
}

#[test]
fn a_range_that_nobody_wants_is_not_read_to_its_end() {
    let member = member();
    for args in ways() {
        for after in [0, 1, AT_ONCE, AT_ONCE + 1] {
            let until = AtomicBool::new(after == 0);
            let mut rows = 0;
            let result = member.store.reader().range_until(&args, &until, |_| {
                rows += 1;
                until.store(rows >= after, Ordering::Relaxed);
            });
            assert_eq!(result.expect("well"), None, "{args:?}");
            let is_sorted =
                args.sort_target != SortTarget::Key || args.sort_order == SortOrder::Descend;
            // What is sorted by value, or made of the index and then sorted, is all there when the first is sent.
            let is_there = is_sorted && (args.keys_only || args.sort_target == SortTarget::Value);
            let most = match after {
                1.. if is_there => KEYS,
                after => after.next_multiple_of(AT_ONCE),
            };
            assert!(rows <= most, "{rows} of {args:?} after {after}");
        }
    }
}

#[test]
fn keys_that_nobody_wants_are_not_counted() {
    let member = member();
    let args = RangeArgs { key: b"k", range_end: b"l", count_only: true, ..RangeArgs::default() };
    for (is_over, expected) in [(true, None), (false, i64::try_from(KEYS).ok())] {
        let until = AtomicBool::new(is_over);
        let result = member.store.reader().range_until(&args, &until, |_| ()).expect("well");
        assert_eq!(result.map(|result| result.count), expected);
    }
}
