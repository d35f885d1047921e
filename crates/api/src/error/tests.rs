//! The table as a whole, and the texts clients match on.

use super::transport::{self, quote};
use super::{Code, Error, Status, WATCH_DUPLICATE_ID, WATCH_EMPTY_RANGE};
use crate::service::lookup;
use std::collections::BTreeSet;

/// How many constants etcd's `rpctypes` declares.
const DECLARED: usize = 63;
/// What the server sends besides: two context errors, eight raw texts, two of RangeStream.
const RAW: usize = 12;

#[test]
fn every_text_appears_once() {
    let mut seen = BTreeSet::new();
    for error in Error::ALL {
        assert!(seen.insert(error.message()), "{error:?} repeats {error}");
        assert_eq!(Error::from_message(error.message()), Some(*error));
        assert_eq!(error.to_string(), error.message());
    }
    assert!(seen.insert(WATCH_DUPLICATE_ID));
    assert!(seen.insert(WATCH_EMPTY_RANGE));
    assert_eq!(Error::ALL.len(), DECLARED + RAW);
    assert_eq!(Error::from_message("etcdserver: no such text"), None);
}

#[test]
fn errors_by_declared_code() {
    let count =
        |code: Code| Error::ALL.iter().filter(|error| error.declared_code() == code).count();
    let counts: Vec<(Code, usize)> =
        Code::ALL.iter().map(|code| (*code, count(*code))).filter(|(_, n)| *n > 0).collect();
    let expected = [
        (Code::Canceled, 3),
        (Code::Unknown, 8),
        (Code::InvalidArgument, 18),
        (Code::DeadlineExceeded, 2),
        (Code::NotFound, 2),
        (Code::PermissionDenied, 1),
        (Code::ResourceExhausted, 2),
        (Code::FailedPrecondition, 24),
        (Code::OutOfRange, 3),
        (Code::Unimplemented, 2),
        (Code::Unavailable, 8),
        (Code::DataLoss, 1),
        (Code::Unauthenticated, 1),
    ];
    assert_eq!(counts, expected);
}

#[test]
fn two_errors_lose_their_code_on_the_wire() {
    let lost: Vec<Error> =
        Error::ALL.iter().copied().filter(|error| error.code() != error.declared_code()).collect();
    assert_eq!(lost, [Error::MemberNotEnoughStarted, Error::TooManyRequests]);
    assert!(lost.iter().all(|error| error.code() == Code::Unknown));
}

#[test]
fn status_keeps_code_and_text() {
    let status = Status::from(Error::PermissionDenied);
    assert_eq!(
        status.to_string(),
        "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    );
    let inner = Error::LeaseNotFound.inner_status();
    assert_eq!(
        inner.to_string(),
        "rpc error: code = Unknown desc = etcdserver: requested lease not found"
    );
    assert_eq!(Error::Compacted.internal_message(), "mvcc: required revision has been compacted");
    assert_eq!(Error::EmptyKey.internal_message(), Error::EmptyKey.message());
}

#[test]
fn codes_have_numbers_names_and_http_statuses() {
    let mut text = String::new();
    for (number, code) in Code::ALL.into_iter().enumerate() {
        assert_eq!(code as usize, number);
        assert_eq!(Code::from_number(number as u64), code);
        assert_eq!(code.digits(), number.to_string());
        text.push_str(&format!("{code} {}\n", code.http_status()));
    }
    let expected = "OK 200\nCanceled 499\nUnknown 500\nInvalidArgument 400\nDeadlineExceeded 504\n\
                    NotFound 404\nAlreadyExists 409\nPermissionDenied 403\nResourceExhausted 429\n\
                    FailedPrecondition 400\nAborted 409\nOutOfRange 400\nUnimplemented 501\n\
                    Internal 500\nUnavailable 503\nDataLoss 500\nUnauthenticated 401\n";
    assert_eq!(text, expected);
    assert_eq!(Code::from_number(17), Code::Unknown);
    assert_eq!(Code::from_number(u64::MAX), Code::Unknown);
}

#[test]
fn transport_texts_are_those_of_grpc_go() {
    let unknown = |path: &str| Status::from(lookup(path.as_bytes()).expect_err("not a method"));
    let check = |status: Status, code: Code, text: &str| {
        assert_eq!((status.code, status.message.as_ref()), (code, text));
    };
    use Code::{Internal, InvalidArgument, ResourceExhausted, Unimplemented};
    check(unknown("/foo.Bar/Baz"), Unimplemented, "unknown service foo.Bar");
    check(
        unknown("/etcdserverpb.KV/Nope"),
        Unimplemented,
        "unknown method Nope for service etcdserverpb.KV",
    );
    check(unknown("/foo"), Unimplemented, "malformed method name: \"/foo\"");
    check(unknown(""), Unimplemented, "malformed method name: \"\"");
    let larger = transport::received_message_larger_than_max(2_197_152, 2_097_152);
    check(
        larger,
        ResourceExhausted,
        "grpc: received message larger than max (2197152 vs. 2097152)",
    );
    check(
        transport::decompressed_message_larger_than_max(3, 2),
        ResourceExhausted,
        "grpc: message after decompression larger than max (3 vs. 2)",
    );
    check(
        transport::sending_message_larger_than_max(3, 2),
        ResourceExhausted,
        "grpc: trying to send message larger than max (3 vs. 2)",
    );
    check(
        transport::streaming_message_larger_than_max(3, 2),
        ResourceExhausted,
        "trying to send message larger than max (3 vs. 2)",
    );
    check(
        transport::decompressor_not_installed(b"br"),
        Unimplemented,
        "grpc: Decompressor is not installed for grpc-encoding \"br\"",
    );
    check(
        transport::unexpected_payload_format(7),
        Internal,
        "grpc: received unexpected payload format 7",
    );
    check(
        transport::invalid_content_type(b"text/html"),
        InvalidArgument,
        "invalid gRPC request content-type \"text/html\"",
    );
    check(
        transport::method_not_post(b"GET"),
        Internal,
        "Received a HEADERS frame with :method \"GET\" which should be POST",
    );
}

#[test]
fn quote_is_gos() {
    let check = |text: &[u8], expected: &str| assert_eq!(quote(text), expected);
    check(b"/a \"b\"\\", r#""/a \"b\"\\""#);
    check(b"\x00\x07\n\x7f", r#""\x00\a\n\x7f""#);
    check("h\u{e9}\u{85}".as_bytes(), "\"h\u{e9}\\u0085\"");
    check(b"\xff\xc3", r#""\xff\xc3""#);
}
