//! JSON against what etcd's gateway reads and writes.

use proptest::prelude::*;
use prost::Message as _;

use super::{Values, decode, encode};
use crate::etcdserverpb as pb;
use crate::schema::{self, Message};

fn input(path: &str) -> &'static Message {
    schema::route(path).expect("a path").input
}

fn output(path: &str) -> &'static Message {
    schema::route(path).expect("a path").output
}

/// The values of a text, or what is wrong with it.
fn values(pieces: &[&[u8]]) -> String {
    let mut values = Values::new(100_000);
    let mut out = String::new();
    let mut take = |found: Result<Option<Vec<u8>>, super::Error>| match found {
        Ok(Some(value)) => {
            out.push_str(&format!("{} ; ", String::from_utf8_lossy(&value)));
            true
        }
        Ok(None) => false,
        Err(error) => {
            out.push_str(&error.to_string());
            false
        }
    };
    for piece in pieces {
        values.push(piece);
    }
    while take(values.finish()) {}
    out
}

fn read(path: &str, text: &str) -> Result<Vec<u8>, String> {
    let mut values = Values::new(100_000);
    values.push(text.as_bytes());
    let value = values.finish().map_err(|error| error.to_string())?.unwrap_or(b"{}".to_vec());
    decode(input(path), &value).map_err(|error| error.to_string())
}

/// What is wrong with a range.
fn wrong(text: &str) -> String {
    read("/v3/kv/range", text).expect_err("a text that is wrong")
}

#[test]
fn a_text_is_cut_into_values() {
    assert_eq!(
        values(&[b" {\"a\":[1, {}]} \n{}x"]),
        "{\"a\":[1, {}]} ; {} ; invalid character 'x' looking for beginning of value"
    );
    assert_eq!(values(&[b"1 2,"]), "1 ; 2 ; invalid character ',' looking for beginning of value");
    assert_eq!(values(&[b"\"a", b"b\"", b"tr", b"ue"]), "\"ab\" ; true ; ");
    assert_eq!(values(&[b" \n"]), "");
    assert_eq!(values(&[b"-1.5e+7"]), "-1.5e+7 ; ");
    assert_eq!(values(&[b"nul"]), "unexpected EOF");
}

#[test]
fn what_is_no_json_is_refused_in_the_words_of_go() {
    let table = [
        ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
        ("{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
        ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
        ("{\"a\":[1,]}", "invalid character ']' looking for beginning of value"),
        ("{\"a\" 1}", "invalid character '1' after object key"),
        ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
        ("{\"a\":01}", "invalid character '1' after object key:value pair"),
        ("{\"a\":[1 2]}", "invalid character '2' after array element"),
        ("{\"a\":-}", "invalid character '}' in numeric literal"),
        ("{\"a\":1.}", "invalid character '}' after decimal point in numeric literal"),
        ("{\"a\":1e}", "invalid character '}' in exponent of numeric literal"),
        ("{\"a\":tru}", "invalid character '}' in literal true (expecting 'e')"),
        ("{\"a\":\"\n\"}", "invalid character '\\n' in string literal"),
        ("{\"a\":\"\u{1}\"}", "invalid character '\\x01' in string literal"),
        ("{\"a\":\"\\x\"}", "invalid character 'x' in string escape code"),
        ("{\"a\":\"\\u12g4\"}", "invalid character 'g' in \\u hexadecimal character escape"),
        ("\u{feff}{}", "invalid character 'ï' looking for beginning of value"),
        ("{", "unexpected EOF"),
        ("{\"key\":", "unexpected EOF"),
    ];
    for (text, expected) in table {
        assert_eq!(wrong(text), expected, "{text}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(wrong(&deep), "invalid character '[' exceeded max depth");
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(9_999), "]".repeat(9_999));
    assert_eq!(read("/v3/kv/range", &deep), Ok(Vec::new()));
}

#[test]
fn what_is_no_message_is_refused_in_the_words_of_go() {
    let table = [
        ("null", "proto: syntax error (line 1:1): unexpected token null"),
        ("[]", "proto: syntax error (line 1:1): unexpected token ["),
        ("\"a\"", "proto: syntax error (line 1:1): unexpected token \"a\""),
        ("{\"key\":1}", "proto: (line 1:8): invalid value for bytes field key: 1"),
        ("{\"key\":\"!!\"}", "proto: (line 1:8): invalid value for bytes field key: \"!!\""),
        ("{\"key\":{\"a\":1}}", "proto: (line 1:8): invalid value for bytes field key: {"),
        ("{\n \"é\":1, \"key\":[]}", "proto: (line 2:15): invalid value for bytes field key: ["),
        ("{\"key\":\"YQ==\",\"key\":\"\"}", "proto: (line 1:15): duplicate field \"key\""),
        (
            "{\"rangeEnd\":\"\",\"range_end\":\"\"}",
            "proto: (line 1:16): duplicate field \"range_end\"",
        ),
        ("{\"limit\":1.5}", "proto: (line 1:10): invalid value for int64 field limit: 1.5"),
        ("{\"limit\":\" 1\"}", "proto: (line 1:10): invalid value for int64 field limit: \" 1\""),
        ("{\"limit\":\"\"}", "proto: (line 1:10): invalid value for int64 field limit: \"\""),
        (
            "{\"limit\":9223372036854775808}",
            "proto: (line 1:10): invalid value for int64 field limit: 9223372036854775808",
        ),
        (
            "{\"serializable\":\"true\"}",
            "proto: (line 1:17): invalid value for bool field serializable: \"true\"",
        ),
        (
            "{\"sort_order\":true}",
            "proto: (line 1:15): invalid value for enum field sortOrder: true",
        ),
        ("{\"key\":\"\\ud800\"}", "proto: unexpected EOF"),
        (
            "{\"key\":\"\\ud800xxxxxxx\"}",
            "proto: syntax error (line 1:8): invalid escape code \"xxxxxx\" in string",
        ),
        (
            "{\"a\":\"\\ude00abcdefgh\"}",
            "proto: syntax error (line 1:6): invalid escape code \"abcdef\" in string",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(wrong(text), expected, "{text}");
    }
    let txn = |text| read("/v3/kv/txn", text).expect_err("wrong");
    assert_eq!(
        txn("{\"success\":[null]}"),
        "proto: syntax error (line 1:13): unexpected token null"
    );
    assert_eq!(
        txn(r#"{"success":[{"request_put":{},"request_range":{}}]}"#),
        "proto: (line 1:31): error parsing \"request_range\", oneof etcdserverpb.RequestOp.request is already set"
    );
    let deep = format!("{}{{}}{}", r#"{"success":[{"request_txn":"#.repeat(400), "}]}".repeat(400));
    assert_eq!(txn(&deep), "proto: exceeded max recursion depth");
}

#[test]
fn texts_are_read_as_messages() {
    let range = |text: &str| {
        let bytes = read("/v3/kv/range", text).expect("a range");
        pb::RangeRequest::decode(bytes.as_slice()).expect("a message")
    };
    let limit = |text: &str| range(&format!("{{\"limit\":{text}}}")).limit;
    assert_eq!(limit("1e3"), 1000);
    assert_eq!(limit("10.00"), 10);
    assert_eq!(limit("120e-1"), 12);
    assert_eq!(limit("\"-9223372036854775808\""), i64::MIN);
    assert_eq!(limit("\"7,\""), 7);
    assert_eq!(limit("null"), 0);
    assert_eq!(range(r#"{"key":"Zm9v","a":{"b":[1,{"c":"\u00e9"}]},"[x]":1}"#).key, "foo");
    assert_eq!(range(r#"{"key":"_-_-"}"#).key, &b"\xff\xef\xfe"[..]);
    assert_eq!(range(r#"{"key":"Zg"}"#).key, "f");
    assert_eq!(range(r#"{"key":"Zm9v\n"}"#).key, "foo");
    assert_eq!(range(r#"{"sortOrder":"DESCEND"}"#).sort_order, 2);
    assert_eq!(range(r#"{"sort_order":"NONSENSE"}"#).sort_order, 0);
    assert_eq!(range(r#"{"sort_order":7}"#).sort_order, 7);
}

#[test]
fn messages_are_written_as_texts() {
    let write = |path: &str, bytes: &[u8], for_html| {
        let mut out = String::new();
        encode(output(path), bytes, for_html, &mut out).expect("a message");
        out
    };
    let response = pb::RangeResponse {
        header: Some(pb::ResponseHeader { revision: -1, ..Default::default() }),
        kvs: vec![crate::mvccpb::KeyValue { key: "foo".into(), ..Default::default() }; 2],
        more: true,
        count: 0,
    };
    assert_eq!(
        write("/v3/kv/range", &response.encode_to_vec(), false),
        r#"{"header":{"revision":"-1"},"kvs":[{"key":"Zm9v"},{"key":"Zm9v"}],"more":true}"#
    );
    let alarms = pb::AlarmResponse {
        header: None,
        alarms: vec![
            pb::AlarmMember { member_id: u64::MAX, alarm: 1 },
            pb::AlarmMember { member_id: 0, alarm: 9 },
        ],
    };
    assert_eq!(
        write("/v3/maintenance/alarm", &alarms.encode_to_vec(), false),
        r#"{"alarms":[{"memberID":"18446744073709551615","alarm":"NOSPACE"},{"alarm":9}]}"#
    );
    let watch = pb::WatchResponse { cancel_reason: "<\"\u{1f}".to_owned(), ..Default::default() };
    assert_eq!(
        write("/v3/watch", &watch.encode_to_vec(), true),
        r#"{"cancel_reason":"\u003c\"\u001f"}"#
    );
}

#[test]
fn all_paths_of_etcd_are_there() {
    let paths: Vec<&str> = schema::ROUTES.iter().map(|route| route.path).collect();
    assert_eq!(paths.len(), 51);
    let mut unique = paths.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), 51);
    assert!(paths.iter().all(|path| path.starts_with("/v3/")));
}

fn put_request() -> impl Strategy<Value = pb::PutRequest> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    (bytes(), bytes(), any::<i64>(), any::<bool>()).prop_map(|(key, value, lease, prev_kv)| {
        let (key, value) = (key.into(), value.into());
        pb::PutRequest { key, value, lease, prev_kv, ..Default::default() }
    })
}

fn nested(depth: u32) -> impl Strategy<Value = pb::TxnRequest> {
    let leaf = put_request().prop_map(|put| pb::TxnRequest {
        success: vec![pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }],
        ..Default::default()
    });
    leaf.prop_recursive(depth, 32, 3, |inner| {
        prop::collection::vec(inner, 1..3).prop_map(|inner| pb::TxnRequest {
            failure: inner
                .into_iter()
                .map(|txn| pb::RequestOp {
                    request: Some(pb::request_op::Request::RequestTxn(txn)),
                })
                .collect(),
            ..Default::default()
        })
    })
}

#[test]
fn fields_are_read_in_any_order_and_written_in_one() {
    let text = r#"{"value":"MQ==","success":[{"x":1}],"success ":0,"key":"YQ=="}"#;
    let message = input("/v3/kv/put");
    let bytes = decode(message, text.as_bytes()).expect("a put");
    let mut written = String::new();
    encode(message, &bytes, false, &mut written).expect("a message");
    assert_eq!(written, r#"{"key":"YQ==","value":"MQ=="}"#);
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(txn in nested(8)) {
        let message = input("/v3/kv/txn");
        let mut text = String::new();
        encode(message, &txn.encode_to_vec(), false, &mut text).expect("a message");
        let read = decode(message, text.as_bytes()).expect("a text");
        prop_assert_eq!(pb::TxnRequest::decode(read.as_slice()), Ok(txn));
    }

    #[test]
    fn no_text_brings_it_down(text in prop::collection::vec(any::<u8>(), 0..200)) {
        for path in ["/v3/kv/txn", "/v3/watch", "/v3/auth/user/add"] {
            let _ = decode(input(path), &text);
            let _ = encode(output(path), &text, true, &mut String::new());
        }
        let mut values = Values::new(150);
        values.push(&text);
        while let Ok(Some(_)) = values.finish() {}
    }

    #[test]
    fn no_json_brings_it_down(text in r#"[{}\[\]:,"a0-9.eE+\\u\- truefalsn]{0,60}"#) {
        let message = input("/v3/kv/txn");
        if let Ok(bytes) = decode(message, text.as_bytes()) {
            let mut written = String::new();
            encode(message, &bytes, false, &mut written).expect("a message");
            prop_assert!(decode(message, written.as_bytes()).is_ok());
        }
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        prop_assert_eq!(values(&pieces), values(&[text.as_bytes()]));
    }
}
