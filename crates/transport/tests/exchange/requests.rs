//! Requests that no honest member makes, and what etcd answers.

use crate::node::{HONEST, Node};

/// A request's first line, its headers and its body, and what the answer begins and ends with.
struct Case {
    line: &'static str,
    headers: &'static str,
    body: &'static str,
    answer: &'static [&'static str],
}

const fn case(
    line: &'static str,
    headers: &'static str,
    body: &'static str,
    answer: &'static [&'static str],
) -> Case {
    Case { line, headers, body, answer }
}

const CASES: &[Case] = &[
    case(
        "GET /raft",
        "",
        "",
        &["HTTP/1.1 405 ", "allow: POST\r\n", "\r\n\r\nMethod Not Allowed\n"],
    ),
    case("POST /raft/stream/msgapp/2", "", "", &["HTTP/1.1 405 ", "allow: GET\r\n"]),
    case("GET /raft/snapshot", "", "", &["HTTP/1.1 405 ", "allow: POST\r\n"]),
    case(
        "POST /raft",
        "",
        "",
        &["HTTP/1.1 412 ", "x-etcd-cluster-id: c1\r\n", "\r\n\r\nincompatible version\n"],
    ),
    case(
        "POST /raft",
        "X-Server-Version: 3.7.3\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: c2\r\n",
        "",
        &[
            "HTTP/1.1 412 ",
            "x-etcd-cluster-id: c1\r\n",
            "content-type: text/plain; charset=utf-8\r\n",
            "\r\n\r\ncluster ID mismatch\n",
        ],
    ),
    case(
        "POST /raft",
        "X-Server-Version: 2.3.8\r\nX-Min-Cluster-Version: 2.1.0\r\nX-Etcd-Cluster-ID: c1\r\n",
        "",
        &["HTTP/1.1 412 ", "\r\n\r\nincompatible version\n"],
    ),
    case(
        "POST /raft",
        "X-Server-Version: 4.0.0\r\nX-Min-Cluster-Version: 3.8.0\r\nX-Etcd-Cluster-ID: c1\r\n",
        "",
        &["HTTP/1.1 412 ", "\r\n\r\nincompatible version\n"],
    ),
    case(
        "POST /raft",
        "X-Server-Version: junk\r\nX-Etcd-Cluster-ID: c1\r\n",
        "",
        &["HTTP/1.1 412 "],
    ),
    case(
        "POST /raft",
        HONEST,
        "\x0f",
        &["HTTP/1.1 400 ", "\r\n\r\nerror unmarshalling raft message\n"],
    ),
    // MsgVote to 9, and from 5, which was removed.
    case(
        "POST /raft",
        HONEST,
        "\x08\x05\x10\x09\x18\x02",
        &["HTTP/1.1 500 ", "\r\n\r\nerror processing raft message\n"],
    ),
    case("POST /raft", HONEST, "\x08\x05\x10\x01\x18\x05", &["HTTP/1.1 500 "]),
    case("POST /raft", HONEST, "\x08\x05\x10\x01\x18\x02", &["HTTP/1.1 204 "]),
    case(
        "GET /raft/stream/msgapp/2",
        "",
        "",
        &["HTTP/1.1 412 ", "x-server-version: 3.7.3\r\n", "incompatible version\n"],
    ),
    case("GET /raft/stream/other/2", HONEST, "", &["HTTP/1.1 404 ", "\r\n\r\ninvalid path\n"]),
    case("GET /raft/stream/msgapp", HONEST, "", &["HTTP/1.1 404 ", "\r\n\r\ninvalid path\n"]),
    case("GET /raft/stream/msgapp/2/3", HONEST, "", &["HTTP/1.1 404 ", "\r\n\r\ninvalid path\n"]),
    case("GET /raft/stream/msgapp/xyz", HONEST, "", &["HTTP/1.1 404 ", "\r\n\r\ninvalid from\n"]),
    case("GET /raft/stream/msgapp/+2", HONEST, "", &["HTTP/1.1 404 ", "\r\n\r\ninvalid from\n"]),
    case("GET /raft/stream/msgapp/5", HONEST, "", &["HTTP/1.1 410 ", "\r\n\r\nremoved member\n"]),
    case(
        "GET /raft/stream/msgapp/6",
        HONEST,
        "",
        &["HTTP/1.1 404 ", "\r\n\r\nerror sender not found\n"],
    ),
    case(
        "GET /raft/stream/message/2",
        HONEST,
        "",
        &["HTTP/1.1 412 ", "\r\n\r\nto field mismatch\n"],
    ),
    case(
        "POST /raft/snapshot",
        HONEST,
        "\0\0\0\0\x7f\0\0\0",
        &[
            "HTTP/1.1 400 ",
            "\r\n\r\nfailed to decode raft message (rafthttp: error limit exceeded)\n",
        ],
    ),
    case(
        "POST /raft/snapshot",
        HONEST,
        "\0\0\0\0\0\0\0\x09\x08",
        &["HTTP/1.1 400 ", "\r\n\r\nfailed to decode raft message (unexpected EOF)\n"],
    ),
    case(
        "POST /raft/snapshot",
        HONEST,
        "\0\0\0\0\0\0\0\x02\x08\x05",
        &["HTTP/1.1 400 ", "\r\n\r\nwrong raft message type\n"],
    ),
    case(
        "POST /raft/snapshot",
        HONEST,
        "\0\0\0\0\0\0\0\x02\x08\x07",
        &["HTTP/1.1 400 ", "failed to decode raft message"],
    ),
    case("GET /raft/probing", "", "", &["HTTP/1.1 200 ", "\r\n\r\n{\"OK\":true,\"Now\":\"20"]),
    case(
        "GET /version",
        "",
        "",
        &[
            "HTTP/1.1 200 ",
            "content-type: application/json\r\n",
            "\r\n\r\n{\"etcdserver\":\"3.7.3\",\"etcdcluster\":\"3.7.0\",\"storage\":\"unknown\"}",
        ],
    ),
    case("GET /members", "", "", &["HTTP/1.1 200 ", "x-etcd-cluster-id: c1\r\n", "\r\n\r\n[]\n"]),
    case("PUT /members", "", "", &["HTTP/1.1 405 ", "allow: GET\r\n"]),
    case(
        "POST /members/promote/7",
        "Authorization: tok\r\n",
        "",
        &["HTTP/1.1 200 ", "\r\n\r\n[tok]\n"],
    ),
    case(
        "POST /members/promote/8",
        "",
        "",
        &["HTTP/1.1 404 ", "\r\n\r\nmembership: ID not found\n"],
    ),
    case(
        "POST /members/promote/x7",
        "",
        "",
        &["HTTP/1.1 404 ", "\r\n\r\nmember x7 not found in cluster\n"],
    ),
    case(
        "GET /members/hashkv",
        "",
        "{\"revision\":5}",
        &[
            "HTTP/1.1 200 ",
            "\r\n\r\n{\"header\":{\"revision\":9},\"hash\":77,\"compact_revision\":-1,\"hash_revision\":5}",
        ],
    ),
    case(
        "GET /members/hashkv",
        "",
        "{}",
        &["HTTP/1.1 400 ", "\r\n\r\nmvcc: required revision is a future revision\n"],
    ),
    case(
        "GET /members/hashkv",
        "",
        "{",
        &["HTTP/1.1 400 ", "\r\n\r\nerror unmarshalling request\n"],
    ),
    case(
        "GET /members/hashkv",
        "X-Etcd-Cluster-ID: c2\r\n",
        "{}",
        &["HTTP/1.1 412 ", "\r\n\r\ncluster ID mismatch\n"],
    ),
    case("GET /downgrade/enabled", "", "", &["HTTP/1.1 500 "]),
    case("GET /leases", "", "", &["HTTP/1.1 405 ", "Method Not Allowed\n"]),
    case(
        "POST /leases",
        "",
        "\x08\x01",
        &["HTTP/1.1 200 ", "content-type: application/protobuf\r\n", "\r\n\r\n\x10\x01\x18\x3c"],
    ),
    case("POST /leases", "", "\x08\x02", &["HTTP/1.1 404 ", "\r\n\r\nlease not found\n"]),
    case("POST /leases", "", "\x0f", &["HTTP/1.1 400 ", "\r\n\r\nerror unmarshalling request\n"]),
    case(
        "POST /leases/internal",
        "",
        "\x0a\x04\x08\x01\x10\x01",
        &["HTTP/1.1 200 ", "\r\n\r\n\x0a\x0b\x0a\0\x10\x01\x18\x03\x20\x3c\x2a\x01k"],
    ),
    case(
        "POST /leases/internal",
        "",
        "\x0a\x02\x08\x01",
        &["HTTP/1.1 500 ", "\r\n\r\nnot a primary lessor\n"],
    ),
    case("GET /", "", "", &["HTTP/1.1 404 ", "\r\n\r\n404 page not found\n"]),
    case("GET /v3/kv/range", "", "", &["HTTP/1.1 404 "]),
];

#[test]
fn requests_are_answered_as_by_etcd() {
    let one = Node::start(1);
    one.transport.remove_peer(5);
    one.transport.add_peer(2, &["http://127.0.0.1:1".to_owned()]).expect("a URL");
    for Case { line, headers, body, answer } in CASES {
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        let got = one.ask(&request);
        for part in *answer {
            assert!(got.contains(part), "{line} {headers:?} {body:?}\nwithout {part:?}:\n{got}");
        }
    }
}
