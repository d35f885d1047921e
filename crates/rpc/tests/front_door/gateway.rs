//! The JSON gateway over real sockets.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};

use crate::member::Member;

fn post(path: &str, headers: &str, body: &str) -> String {
    let len = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: etcd\r\n{headers}Content-Length: {len}\r\n\r\n{body}")
}

/// Status and body of an answer.
fn ask(member: &Member, path: &str, body: &str) -> String {
    let mut socket = member.connect();
    let request = post(path, "Connection: close\r\n", body);
    socket.write_all(request.as_bytes()).expect("open");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    format!("{} {body}", head.split(' ').nth(1).expect("a status"))
}

#[test]
fn requests_are_calls() {
    let member = Member::start();
    assert_eq!(
        ask(&member, "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
        r#"200 {"header":{"cluster_id":"7","member_id":"1","revision":"2","raft_term":"2"}}"#
    );
    let found = ask(&member, "/v3beta/kv/range", r#"{"key":"Zm9v","unknown":[]}"#);
    assert!(found.contains(r#""kvs":[{"key":"Zm9v","create_revision":"2""#), "{found}");
    assert_eq!(
        ask(&member, "/v3/kv/range", ""),
        r#"400 {"code":3,"message":"etcdserver: key is not provided"}"#
    );
    assert_eq!(ask(&member, "/v3/nothing", "{}"), r#"404 {"code":5,"message":"Not Found"}"#);
    assert_eq!(
        ask(&member, "/v3/watch", "{"),
        r#"400 {"code":3,"message":"Failed to decode request: unexpected EOF"}"#
    );
    assert_eq!(ask(&member, "/v3/election/resign", "{}").split(' ').next(), Some("500"));
}

#[test]
fn a_value_without_end_is_refused() {
    let member = Member::start();
    let mut socket = member.connect();
    let head = "POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nTransfer-Encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).expect("open");
    socket.write_all(b"2\r\n{\"\r\n").expect("open");
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
    let mut sent = 0;
    while sent < 1 << 30 {
        match socket.write(chunk.as_bytes()) {
            Ok(written) => sent += written,
            Err(error) => {
                let kind = error.kind();
                assert!(
                    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                    "{kind}"
                );
                break;
            }
        }
    }
    assert!(sent < 1 << 28, "the connection ends when the limit is reached: {sent}");
    assert!(ask(&member, "/v3/kv/range", r#"{"key":"YQ=="}"#).starts_with("200 "));
}

/// The lines of a stream, without the lengths of chunks.
fn lines(socket: impl std::io::Read) -> impl Iterator<Item = String> {
    let lines = BufReader::new(socket).lines().map(|line| line.expect("open"));
    lines.filter(|line| line.starts_with('{'))
}

#[test]
fn a_watch_ends_with_its_client() {
    let member = Member::start();
    let socket = member.connect();
    let request = post("/v3/watch", "", r#"{"create_request":{"key":"Zm9v"}}"#);
    (&socket).write_all(request.as_bytes()).expect("open");
    let mut watch = lines(&socket);
    assert!(watch.next().expect("a line").contains(r#""created":true"#));
    ask(&member, "/v3/kv/put", r#"{"key":"Zm9v"}"#);
    let event = watch.next().expect("a line");
    assert!(event.contains(r#""events":[{"kv":{"key":"Zm9v","create_revision":"2""#), "{event}");
    drop(watch);
    assert_eq!(member.machine.watch_streams(), 1);
    drop(socket);
    while member.machine.watch_streams() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_lock_is_given_up_with_its_client() {
    let member = Member::start();
    for id in [1, 2] {
        ask(&member, "/v3/lease/grant", &format!(r#"{{"TTL":600,"ID":{id}}}"#));
    }
    let held = ask(&member, "/v3/lock/lock", r#"{"name":"bA==","lease":1}"#);
    assert!(held.contains(r#""key":"bC8x""#), "{held}");
    let count = |want: &str| {
        let range = r#"{"key":"bC8=","range_end":"bDA=","count_only":true}"#;
        while !ask(&member, "/v3/kv/range", range).contains(&format!(r#""count":"{want}""#)) {}
    };
    let mut waiter = member.connect();
    let request = post("/v3/lock/lock", "", r#"{"name":"bA==","lease":2}"#);
    waiter.write_all(request.as_bytes()).expect("open");
    count("2");
    drop(waiter);
    count("1");
}
