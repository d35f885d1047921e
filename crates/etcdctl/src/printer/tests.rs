use api::authpb::Permission;
use api::etcdserverpb as pb;
use api::etcdserverpb::response_op::Response;
use api::mvccpb::{Event, KeyValue};

use super::{Format, Printer, size};
use crate::answer::{Answer, Health, Watched};
use crate::terminal::Paint;

const FORMATS: [Format; 5] =
    [Format::Simple, Format::Fields, Format::Json, Format::Protobuf, Format::Table];

fn header() -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { cluster_id: 0xc1, member_id: 0xa1, revision: 7, raft_term: 2 })
}

fn kv() -> KeyValue {
    KeyValue {
        key: "k<".into(),
        value: vec![0xff, b'v'].into(),
        create_revision: 3,
        mod_revision: 7,
        version: 2,
        lease: 0x1f,
    }
}

/// The answer in the formats, each behind its name; what is no text in it is escaped, and a tab.
fn show(answer: &Answer<'_>, formats: &[Format], hex: bool) -> String {
    let mut out = String::new();
    for &format in formats {
        let printer = Printer { format, hex, values_only: false, paint: Paint::NONE };
        let text = match printer.print(answer) {
            Ok(bytes) => readable(&bytes),
            Err(exit) => format!("exit {} {}\n", exit.code, exit.message.unwrap_or_default()),
        };
        out += &format!("-- {format:?}\n{text}");
    }
    out
}

fn readable(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push(c),
                c if c.is_control() => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        out += &chunk.invalid().escape_ascii().to_string();
    }
    out
}

#[track_caller]
fn check(answer: &Answer<'_>, formats: &[Format], hex: bool, expected: &str) {
    let expected: String =
        expected.lines().skip(1).map(|line| format!("{}\n", line.trim_start())).collect();
    let expected = expected.trim_end();
    assert_eq!(show(answer, formats, hex).trim_end(), expected);
}

#[test]
fn a_range_in_all_formats() {
    let answer = pb::RangeResponse { header: header(), kvs: vec![kv()], more: true, count: 9 };
    check(
        &Answer::Get(&answer),
        &[Format::Simple, Format::Fields, Format::Json, Format::Table],
        false,
        r#"
        -- Simple
        k<
        \xffv
        -- Fields
        "ClusterID" : 193
        "MemberID" : 161
        "Revision" : 7
        "RaftTerm" : 2
        "Key" : "k<"
        "CreateRevision" : 3
        "ModRevision" : 7
        "Version" : 2
        "Value" : "\xffv"
        "Lease" : 31
        "More" : true
        "Count" : 9
        -- Json
        {"header":{"cluster_id":193,"member_id":161,"revision":7,"raft_term":2},"kvs":[{"key":"azw=","create_revision":3,"mod_revision":7,"version":2,"value":"/3Y=","lease":31}],"more":true,"count":9}
        -- Table
        exit 4 table not supported as output format"#,
    );
    check(
        &Answer::Get(&answer),
        &[Format::Simple],
        true,
        r"
        -- Simple
        \x6b\x3c
        \xff\x76",
    );
}

#[test]
fn a_transaction() {
    let op = |response| pb::ResponseOp { response: Some(response) };
    let answer = pb::TxnResponse {
        header: header(),
        succeeded: true,
        responses: vec![
            op(Response::ResponsePut(pb::PutResponse { header: header(), prev_kv: Some(kv()) })),
            op(Response::ResponseDeleteRange(pb::DeleteRangeResponse {
                header: None,
                deleted: 3,
                prev_kvs: vec![],
            })),
        ],
    };
    check(
        &Answer::Txn(&answer),
        &[Format::Simple, Format::Json],
        false,
        r#"
        -- Simple
        SUCCESS

        OK
        k<
        \xffv

        3
        -- Json
        {"header":{"cluster_id":193,"member_id":161,"revision":7,"raft_term":2},"succeeded":true,"responses":[{"Response":{"response_put":{"header":{"cluster_id":193,"member_id":161,"revision":7,"raft_term":2},"prev_kv":{"key":"azw=","create_revision":3,"mod_revision":7,"version":2,"value":"/3Y=","lease":31}}}},{"Response":{"response_delete_range":{"deleted":3}}}]}"#,
    );
}

#[test]
fn a_watch() {
    let event = Event { r#type: 1, kv: Some(kv()), prev_kv: None };
    let watched =
        Watched { header: header().unwrap_or_default(), events: vec![event], ..Watched::default() };
    check(
        &Answer::Watch(&watched),
        &[Format::Simple, Format::Json],
        false,
        r#"
        -- Simple
        DELETE
        k<
        \xffv
        -- Json
        {"Header":{"cluster_id":193,"member_id":161,"revision":7,"raft_term":2},"Events":[{"type":1,"kv":{"key":"azw=","create_revision":3,"mod_revision":7,"version":2,"value":"/3Y=","lease":31}}],"CompactRevision":0,"Canceled":false,"Created":false,"CancelReason":""}"#,
    );
}

#[test]
fn leases() {
    let granted =
        pb::LeaseGrantResponse { header: header(), id: 0x1f, ttl: 60, error: String::new() };
    check(
        &Answer::Grant(&granted),
        &FORMATS,
        false,
        r#"
        -- Simple
        lease 000000000000001f granted with TTL(60s)
        -- Fields
        "ClusterID" : 193
        "MemberID" : 161
        "Revision" : 7
        "RaftTerm" : 2
        "ID" : 31
        "TTL" : 60
        -- Json
        {"cluster_id":193,"member_id":161,"revision":7,"raft_term":2,"ID":31,"TTL":60,"Error":""}
        -- Protobuf
        \u{8}\xc1\u{1}\u{10}\xa1\u{1}\u{18}\u{7} \u{2}-- Table
        exit 4 table not supported as output format"#,
    );
    let live = pb::LeaseTimeToLiveResponse {
        header: header(),
        id: 0x1f,
        ttl: 58,
        granted_ttl: 60,
        keys: vec!["a".into(), "b".into()],
    };
    check(
        &Answer::TimeToLive(&live, true),
        &[Format::Simple, Format::Json],
        false,
        r#"
        -- Simple
        lease 000000000000001f granted with TTL(60s), remaining(58s), attached keys([a b])
        -- Json
        {"cluster_id":193,"member_id":161,"revision":7,"raft_term":2,"id":31,"ttl":58,"granted-ttl":60,"keys":["YQ==","Yg=="]}"#,
    );
}

#[test]
fn members_have_tables_and_hexadecimal_ids() {
    let member = pb::Member {
        id: 0xa1,
        name: "infra0".to_owned(),
        peer_urls: vec!["http://p:1".to_owned()],
        client_urls: vec!["http://c:1".to_owned(), "http://c:2".to_owned()],
        is_learner: false,
    };
    let unstarted = pb::Member { id: 0xa2, is_learner: true, ..pb::Member::default() };
    let answer = pb::MemberListResponse { header: header(), members: vec![member, unstarted] };
    let printed =
        Printer { format: Format::Table, hex: false, values_only: false, paint: Paint::NONE }
            .print(&Answer::MemberList(&answer))
            .expect("members have a table");
    let expected = "
┌────┬───────────┬────────┬────────────┬───────────────────────┬────────────┐
│ ID │  STATUS   │  NAME  │ PEER ADDRS │     CLIENT ADDRS      │ IS LEARNER │
├────┼───────────┼────────┼────────────┼───────────────────────┼────────────┤
│ a1 │   started │ infra0 │ http://p:1 │ http://c:1,http://c:2 │      false │
│ a2 │ unstarted │        │            │                       │       true │
└────┴───────────┴────────┴────────────┴───────────────────────┴────────────┘
";
    assert_eq!(String::from_utf8_lossy(&printed), expected.trim_start());
    check(
        &Answer::MemberList(&answer),
        &[Format::Simple, Format::Json],
        true,
        r#"
        -- Simple
        a1, started, infra0, http://p:1, http://c:1,http://c:2, false
        a2, unstarted, , , , true
        -- Json
        {"header":{"cluster_id":"c1","member_id":"a1","revision":7,"raft_term":2},"members":[{"ID":"a1","name":"infra0","peerURLs":["http://p:1"],"clientURLs":["http://c:1","http://c:2"]},{"ID":"a2","isLearner":true}]}"#,
    );
}

#[test]
fn endpoints_are_lists() {
    let healths = [Health {
        endpoint: "e:1".to_owned(),
        healthy: false,
        took: "2ms".to_owned(),
        error: "no".to_owned(),
    }];
    check(
        &Answer::Health(&healths),
        &[Format::Simple, Format::Fields, Format::Json, Format::Protobuf],
        false,
        r#"
        -- Simple
        -- Fields
        "Endpoint" : "e:1"
        "Health" : false
        "Took" : 2ms
        "Error" : no

        -- Json
        [{"endpoint":"e:1","health":false,"took":"2ms","error":"no"}]
        -- Protobuf
        exit 4 protobuf not supported as output format"#,
    );
    check(
        &Answer::HashKv(&[]),
        &[Format::Simple, Format::Json],
        false,
        "
        -- Simple
        -- Json
        null",
    );
}

#[test]
fn roles_show_ranges() {
    let permission = |perm_type, key: &'static str, end: &'static str| Permission {
        perm_type,
        key: key.into(),
        range_end: end.into(),
    };
    let answer = pb::AuthRoleGetResponse {
        header: header(),
        perm: vec![permission(0, "a", ""), permission(2, "p/", "p0"), permission(1, "z", "\0")],
    };
    check(
        &Answer::RoleGet("r", &answer),
        &[Format::Simple, Format::Fields],
        false,
        r#"
        -- Simple
        Role r
        KV Read:
        \ta
        \t[p/, p0) (prefix p/)
        KV Write:
        \t[p/, p0) (prefix p/)
        \t[z, <open ended>
        -- Fields
        "ClusterID" : 193
        "MemberID" : 161
        "Revision" : 7
        "RaftTerm" : 2
        "PermType" :  READ
        "Key" : "a"
        "RangeEnd" : ""
        "PermType" :  READWRITE
        "Key" : "p/"
        "RangeEnd" : "p0"
        "PermType" :  WRITE
        "Key" : "z"
        "RangeEnd" : "\x00""#,
    );
    let status = pb::AuthStatusResponse { header: header(), enabled: true, auth_revision: 4 };
    check(
        &Answer::AuthStatus(&status),
        &[Format::Simple, Format::Fields],
        false,
        "
        -- Simple
        Authentication Status: true
        AuthRevision: 4
        -- Fields
        exit 4 fields not supported as output format",
    );
}

#[test]
fn sizes_are_for_people() {
    for (bytes, expected) in [
        (0, "0 B"),
        (9, "9 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (20_480, "20 kB"),
        (9_949, "9.9 kB"),
        (9_951, "10 kB"),
        (2_147_483_648, "2.1 GB"),
    ] {
        assert_eq!(size(bytes), expected, "{bytes}");
    }
}
