use std::io::{Read as _, Write as _};
use std::sync::atomic::Ordering;

use api::etcdserverpb as pb;

use crate::client::{Client, metrics};
use crate::member::Member;

/// Status line, headers and body of a page.
pub(crate) fn page(member: &Member, method: &str, path: &str) -> (String, String, String) {
    let mut socket = member.connect();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n");
    // Byte by byte, as the sniffing has to take it.
    for byte in request.as_bytes() {
        socket.write_all(&[*byte]).expect("open");
    }
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let (status, headers) = head.split_once("\r\n").expect("headers");
    let status = status.strip_prefix("HTTP/1.1 ").expect("HTTP/1.1");
    (status.to_owned(), headers.to_lowercase(), body.to_owned())
}

fn body(member: &Member, path: &str) -> String {
    let (status, _, body) = page(member, "GET", path);
    format!("{} {body}", status.split(' ').next().unwrap_or(""))
}

#[test]
fn version_and_unknown_paths() {
    let member = Member::start();
    assert_eq!(
        body(&member, "/version"),
        r#"200 {"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}"#
    );
    let (status, headers, _) = page(&member, "POST", "/version");
    assert!(status.starts_with("405") && headers.contains("allow: get"), "{status} {headers}");
    let (_, headers, _) = page(&member, "GET", "/version");
    assert!(headers.contains("content-type: application/json"), "{headers}");
    assert!(headers.contains("access-control-allow-origin: *"), "{headers}");
    *member.state.cluster_version.write() = None;
    *member.state.storage_version.write() = None;
    assert_eq!(
        body(&member, "/version"),
        r#"200 {"etcdserver":"3.7.3","etcdcluster":"not_decided","storage":"3.5.0"}"#
    );
    assert_eq!(body(&member, "/nope"), "404 404 page not found\n");
    let sent_on = "307 <a href=\"/version\">Temporary Redirect</a>.\n\n";
    assert_eq!(body(&member, "//version"), sent_on);
    let (status, headers, text) = page(&member, "POST", "/x/../version?a=b");
    assert!(status.starts_with("307") && headers.contains("location: /version?a=b"), "{headers}");
    assert!(!headers.contains("content-type: ") && text.is_empty(), "{headers} {text}");
    assert!(body(&member, "/debug/vars").contains("\"raft.status\""));
}

/// Status line, headers and body of the answer to a request as it stands.
fn answer_to(member: &Member, request: &str) -> String {
    let mut socket = member.connect();
    socket.write_all(request.as_bytes()).expect("open");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("a head");
        answer.extend(byte);
    }
    let head = String::from_utf8(answer).expect("ASCII");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |text| text.parse().expect("a number"))];
    socket.read_exact(&mut body).expect("a body");
    head + std::str::from_utf8(&body).expect("UTF-8")
}

/// As etcd does.
#[test]
fn what_is_asked_of_no_path() {
    let member = Member::start();
    for (request, status, headers) in [
        ("GET * HTTP/1.1\r\nHost: a", "HTTP/1.1 400 Bad Request", "Connection: close"),
        ("PRI * HTTP/1.1\r\nHost: a", "HTTP/1.1 400 Bad Request", "Connection: close"),
        ("POST * HTTP/1.0", "HTTP/1.0 400 Bad Request", "Access-Control-Allow-Origin: *"),
        ("OPTIONS * HTTP/1.1\r\nHost: a", "HTTP/1.1 200 OK", "Content-Length: 0"),
    ] {
        let answer = answer_to(&member, &format!("{request}\r\n\r\n"));
        assert!(answer.starts_with(status) && answer.contains(headers), "{request}: {answer}");
        let is_open = request.starts_with("OPTIONS");
        assert_eq!(answer.contains("Access-Control-"), !is_open, "{request}: {answer}");
        assert!(
            answer.ends_with("\r\n\r\n") && !answer.contains("Location"),
            "{request}: {answer}"
        );
    }
    let connect = answer_to(&member, "CONNECT etcd:1 HTTP/1.1\r\nHost: etcd\r\n\r\n");
    assert!(connect.starts_with("HTTP/1.1 404 Not Found"), "{connect}");
}

/// As etcd does.
#[test]
fn who_does_not_name_a_host() {
    let member = Member::start();
    for (hosts, status) in [
        ("HTTP/1.1", "400 Bad Request: missing required Host header"),
        ("HTTP/1.1\r\nHost: a\r\nHost: a", "400 Bad Request"),
        ("HTTP/1.1\r\nHost: a/b", "400 Bad Request: malformed Host header"),
        ("HTTP/1.1\r\nHost: ", "200 OK"),
        ("HTTP/1.0", "200 OK"),
    ] {
        let answer = answer_to(&member, &format!("GET /version {hosts}\r\n\r\n"));
        let (first, rest) = answer.split_once("\r\n").expect("lines");
        assert_eq!(first.get(9..), Some(status), "{hosts}");
        let is_refused = status.starts_with("400");
        assert_eq!(rest.ends_with(&format!("\r\n\r\n{status}")), is_refused, "{hosts}: {rest}");
        assert_eq!(rest.contains("Connection: close"), is_refused, "{hosts}: {rest}");
    }
}

/// As etcd does with what is neither HTTP/2 nor HTTP/1.
#[test]
fn who_speaks_something_else_is_hung_up_on() {
    let member = Member::start();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(4096));
    for text in ["INVALID CONNECTION PREFACE\r\n\r\n", "hello\n", "GET / HTTP/2.0\r\n\r\n", &long] {
        let mut socket = member.connect();
        socket.write_all(text.as_bytes()).expect("open");
        let mut answer = Vec::new();
        // What the other side had not read may be why the connection ends.
        let _ = socket.read_to_end(&mut answer);
        assert_eq!(String::from_utf8_lossy(&answer), "", "{text}");
    }
    assert_eq!(body(&member, "/health"), r#"200 {"health":"true","reason":""}"#);
}

#[test]
fn health() {
    let member = Member::start();
    assert_eq!(body(&member, "/health"), r#"200 {"health":"true","reason":""}"#);
    assert_eq!(body(&member, "/health?serializable=true"), r#"200 {"health":"true","reason":""}"#);
    member.machine.refuse(Some(api::Error::Timeout));
    assert_eq!(
        body(&member, "/health"),
        "503 {\"health\":\"false\",\"reason\":\"RANGE ERROR:etcdserver: request timed out\"}\n"
    );
    member.state.leader.store(0, Ordering::Relaxed);
    assert_eq!(
        body(&member, "/health"),
        "503 {\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n"
    );
    member.state.alarms.write().push(apply::Alarm { member_id: 1, alarm: 1 });
    assert_eq!(
        body(&member, "/health"),
        "503 {\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n"
    );
    let excluded = "/health?exclude=NOSPACE&serializable=true";
    assert_eq!(body(&member, excluded), r#"200 {"health":"true","reason":""}"#);
}

#[test]
fn livez_and_readyz() {
    let member = Member::start();
    assert_eq!(body(&member, "/livez"), "200 ok\n");
    assert_eq!(body(&member, "/livez?verbose"), "200 [+]serializable_read ok\nok\n");
    assert_eq!(body(&member, "/readyz/linearizable_read"), "200 ok\n");
    assert_eq!(body(&member, "/readyz/nope"), "404 404 page not found\n");
    member.state.alarms.write().push(apply::Alarm { member_id: 1, alarm: 2 });
    assert_eq!(
        body(&member, "/readyz"),
        "503 [-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n\
         [+]linearizable_read ok\n[+]non_learner ok\n\n"
    );
    assert_eq!(body(&member, "/readyz?exclude=data_corruption"), "200 ok\n");
}

#[tokio::test]
async fn metrics_count_calls() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let put = pb::PutRequest { key: "a".into(), ..Default::default() };
    for _ in 0..3 {
        assert_eq!(client.call("/etcdserverpb.KV/Put", &put).await.code, 0);
    }
    assert_eq!(client.call("/etcdserverpb.KV/Put", &pb::PutRequest::default()).await.code, 3);
    let (status, headers, text) = page(&member, "GET", "/metrics");
    assert!(status.starts_with("200"), "{status}");
    assert!(headers.contains("content-type: text/plain; version=0.0.4"), "{headers}");
    let values = metrics(&text);
    let call = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
    for (name, expected) in [
        (format!("grpc_server_started_total{{{call}}}"), 4.0),
        (format!("grpc_server_handled_total{{grpc_code=\"OK\",{call}}}"), 3.0),
        (format!("grpc_server_handled_total{{grpc_code=\"InvalidArgument\",{call}}}"), 1.0),
        (format!("grpc_server_handled_total{{grpc_code=\"DataLoss\",{call}}}"), 0.0),
        (format!("grpc_server_msg_received_total{{{call}}}"), 4.0),
        (format!("grpc_server_msg_sent_total{{{call}}}"), 3.0),
        ("etcd_network_client_grpc_received_bytes_total".to_owned(), 9.0),
        (
            "etcd_server_request_duration_seconds_count{success=\"true\",type=\"Put\"}".to_owned(),
            3.0,
        ),
        (
            "etcd_server_client_requests_total{client_api_version=\"unknown\",type=\"unary\"}"
                .to_owned(),
            4.0,
        ),
        ("etcd_server_proposals_pending".to_owned(), 0.0),
    ] {
        assert_eq!(values.get(&name), Some(&expected), "{name}");
    }
    for name in [
        "process_resident_memory_bytes",
        "os_fd_used",
        "process_start_time_seconds",
        "go_threads",
        "go_memstats_sys_bytes",
        "go_sched_gomaxprocs_threads",
    ] {
        assert!(values.get(name).is_some_and(|value| *value > 0.0), "{name}");
    }
    assert!(text.contains("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"}"));
    assert!(text.contains("\n# TYPE go_gc_duration_seconds summary\n"));
    assert!(!text.contains("grpc_server_handling_seconds"));
}

#[tokio::test]
async fn extensive_metrics_have_the_time_of_each_call() {
    let member = Member::start();
    member.metrics.measure_calls();
    let client = Client::connect(member.address).await;
    let put = pb::PutRequest { key: "a".into(), ..Default::default() };
    assert_eq!(client.call("/etcdserverpb.KV/Put", &put).await.code, 0);
    assert_eq!(client.call("/etcdserverpb.KV/Put", &pb::PutRequest::default()).await.code, 3);
    let (_, _, text) = page(&member, "GET", "/metrics");
    let values = metrics(&text);
    for (method, count) in [("Put", 2.0), ("Range", 0.0)] {
        let name = format!(
            "grpc_server_handling_seconds_count{{grpc_method=\"{method}\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}}"
        );
        assert_eq!(values.get(&name), Some(&count), "{name}");
    }
}
