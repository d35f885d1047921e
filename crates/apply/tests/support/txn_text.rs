//! Requests as scripts write them.

use api::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;

/// `KEY VALUE [lease=ID] [prev] [ignore_value] [ignore_lease]`; the value `-` is empty.
pub(crate) fn put(words: &[&str]) -> pb::PutRequest {
    let value = words.get(1).copied().filter(|value| *value != "-").unwrap_or("");
    let lease = words.iter().find_map(|word| word.strip_prefix("lease="));
    pb::PutRequest {
        key: words[0].to_owned().into(),
        value: value.to_owned().into(),
        lease: lease.map_or(0, |id| id.parse().expect("a lease id")),
        prev_kv: words.contains(&"prev"),
        ignore_value: words.contains(&"ignore_value"),
        ignore_lease: words.contains(&"ignore_lease"),
    }
}

/// `KEY [END] [prev]`; the end `-` means none.
pub(crate) fn delete(words: &[&str]) -> pb::DeleteRangeRequest {
    let end = words.get(1).copied().filter(|end| *end != "-" && *end != "prev").unwrap_or("");
    pb::DeleteRangeRequest {
        key: words[0].to_owned().into(),
        range_end: end.to_owned().into(),
        prev_kv: words.contains(&"prev"),
    }
}

/// `if CONDITIONS then OPS else OPS`; any part may be missing.
pub(crate) fn txn(text: &str) -> pb::TxnRequest {
    let text = format!(" {text} ");
    let (rest, failure) = split_outside(&text, " else ");
    let (conditions, success) = split_outside(rest, " then ");
    let conditions = conditions.trim().strip_prefix("if").unwrap_or("");
    pb::TxnRequest {
        compare: conditions.split_whitespace().map(compare).collect(),
        success: ops(success),
        failure: ops(failure),
    }
}

/// Splits at a word that stands outside of all brackets.
fn split_outside<'a>(text: &'a str, word: &str) -> (&'a str, &'a str) {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            ' ' if depth == 0 && text[at..].starts_with(word) => {
                return (&text[..at], &text[at + word.len()..]);
            }
            _ => {}
        }
    }
    (text, "")
}

/// `mod(KEY)=3`, `ver(KEY)>0`, `create(KEY)!=1`, `value(KEY)<x`, `lease(KEY)=5`; a range is
/// `KEY..END`.
fn compare(text: &str) -> pb::Compare {
    let (target, rest) = text.split_once('(').expect("a target");
    let (keys, rest) = rest.split_once(')').expect("a key");
    let (key, range_end) = keys.split_once("..").unwrap_or((keys, ""));
    let (result, operand) = match rest.strip_prefix("!=") {
        Some(operand) => (CompareResult::NotEqual, operand),
        None => {
            let result = match &rest[..1] {
                "=" => CompareResult::Equal,
                ">" => CompareResult::Greater,
                "<" => CompareResult::Less,
                other => panic!("unknown comparison {other}"),
            };
            (result, &rest[1..])
        }
    };
    let number = || operand.parse().expect("a number");
    let (target, union) = match target {
        "ver" => (CompareTarget::Version, TargetUnion::Version(number())),
        "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number())),
        "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number())),
        "value" => (CompareTarget::Value, TargetUnion::Value(operand.to_owned().into())),
        other => panic!("unknown target {other}"),
    };
    pb::Compare {
        result: result as i32,
        target: target as i32,
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        target_union: Some(union),
    }
}

fn ops(text: &str) -> Vec<pb::RequestOp> {
    let mut ops = Vec::new();
    let mut rest = text;
    while !rest.trim().is_empty() {
        let (op, behind) = match split_outside(rest, " ; ") {
            (op, behind) if op.len() < rest.len() => (op, behind),
            (op, _) => (op, ""),
        };
        ops.push(pb::RequestOp { request: Some(request(op.trim())) });
        rest = behind;
    }
    ops
}

fn request(text: &str) -> Request {
    if let Some(nested) = text.strip_prefix('[') {
        return Request::RequestTxn(txn(nested.trim_end_matches(']')));
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[0] {
        "put" => Request::RequestPut(put(&words[1..])),
        "del" => Request::RequestDeleteRange(delete(&words[1..])),
        "get" => Request::RequestRange(pb::RangeRequest {
            key: words[1].to_owned().into(),
            range_end: words
                .get(2)
                .copied()
                .filter(|end| *end != "-")
                .unwrap_or("")
                .to_owned()
                .into(),
            revision: words.get(3).map_or(0, |revision| revision.parse().expect("a revision")),
            ..Default::default()
        }),
        other => panic!("unknown operation {other}"),
    }
}
