use super::*;
use proptest::prelude::*;

/// Reads `p:key`, `d:key` or `d:key..end`, and `(then|else)` for a nested transaction.
fn parse_branch(text: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Vec<pb::RequestOp> {
    let mut ops = Vec::new();
    loop {
        match text.peek().copied() {
            Some(' ') => drop(text.next()),
            Some('(') => {
                text.next();
                let success = parse_branch(text);
                assert_eq!(text.next(), Some('|'));
                let failure = parse_branch(text);
                assert_eq!(text.next(), Some(')'));
                let txn = pb::TxnRequest { compare: Vec::new(), success, failure };
                ops.push(Request::RequestTxn(txn));
            }
            Some(kind @ ('p' | 'd' | 'r')) => {
                text.next();
                assert_eq!(text.next(), Some(':'));
                let mut word = String::new();
                while let Some(c) = text.next_if(|c| !" |)".contains(*c)) {
                    word.push(c);
                }
                ops.push(parse_op(kind, &word));
            }
            _ => break,
        }
    }
    ops.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect()
}

fn parse_op(kind: char, word: &str) -> Request {
    let (key, end) = word.split_once("..").unwrap_or((word, ""));
    let key = Bytes::copy_from_slice(key.as_bytes());
    let range_end = Bytes::copy_from_slice(end.replace('*', "\0").as_bytes());
    match kind {
        'p' => Request::RequestPut(pb::PutRequest { key, ..Default::default() }),
        'd' => Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key,
            range_end,
            ..Default::default()
        }),
        _ => Request::RequestRange(pb::RangeRequest { key, range_end, ..Default::default() }),
    }
}

fn checked(text: &str, max_ops: usize) -> &'static str {
    let success = parse_branch(&mut text.chars().peekable());
    let txn = pb::TxnRequest { compare: Vec::new(), success, failure: Vec::new() };
    match check(&txn, max_ops) {
        Ok(()) => "ok",
        Err(status) if status == Error::DuplicateKey.into() => "duplicate",
        Err(status) if status == Error::TooManyOps.into() => "too many",
        Err(status) if status == Error::EmptyKey.into() => "empty",
        Err(status) => panic!("{status}"),
    }
}

#[test]
fn keys_may_be_put_once() {
    for (text, expected) in [
        ("p:a p:b", "ok"),
        ("p:a p:a", "duplicate"),
        ("p:a d:a", "duplicate"),
        ("d:a p:a", "duplicate"),
        ("d:a p:b", "ok"),
        ("d:a..c p:b", "duplicate"),
        ("d:a..c p:c", "ok"),
        ("d:a..* p:z", "duplicate"),
        ("d:b..* p:a", "ok"),
        ("d:c..a p:b", "ok"),
        ("d:a..c d:b..d", "ok"),
        ("d:a..b d:c..d d:b..c p:bb", "duplicate"),
        ("r:a p:a r:a..z", "ok"),
        ("(p:a|p:a)", "ok"),
        ("(p:a|p:b) p:b", "duplicate"),
        ("p:a (p:b|p:a)", "duplicate"),
        ("(p:a|) (|p:a)", "duplicate"),
        ("(p:a|d:a)", "ok"),
        ("(d:a|) p:a", "duplicate"),
        ("(d:a|) (p:a|)", "duplicate"),
        ("(p:a|) (d:a|)", "ok"),
        ("((p:a|)|(p:a|))", "ok"),
        ("p:", "empty"),
        ("(|d:)", "empty"),
    ] {
        assert_eq!(checked(text, 128), expected, "{text}");
    }
}

#[test]
fn a_nested_transaction_has_what_the_outer_leaves() {
    assert_eq!(checked("r:a r:b", 2), "ok");
    assert_eq!(checked("r:a r:b r:c", 2), "too many");
    assert_eq!(checked("(r:a|)", 2), "ok");
    assert_eq!(checked("(r:a r:b|)", 2), "too many");
    assert_eq!(checked("((|)|)", 2), "ok");
    assert_eq!(checked("(((|)|)|)", 2), "too many");
}

#[test]
fn an_operation_must_be_something() {
    let txn = pb::TxnRequest {
        success: vec![pb::RequestOp { request: None }],
        ..pb::TxnRequest::default()
    };
    assert_eq!(check(&txn, 128), Err(Error::KeyNotFound.into()));
}

proptest! {
    #[test]
    fn merged_ranges_hold_the_same_keys(
        ranges in prop::collection::vec(("[a-d]{1,2}", "[a-d]{0,2}|\0"), 0..12),
        key in "[a-d]{1,3}",
    ) {
        let mut deletes = Deletes::default();
        for (start, end) in &ranges {
            deletes.insert(start.as_bytes(), end.as_bytes());
        }
        let expected = ranges.iter().any(|(start, end)| match end.as_str() {
            "" => key == *start,
            "\0" => key >= *start,
            end => key >= *start && key.as_str() < end,
        });
        prop_assert_eq!(deletes.contains(key.as_bytes()), expected);
    }
}
