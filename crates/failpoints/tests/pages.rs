//! gofail's pages over a socket, the points that they set, and the end of a process at one of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use failpoints::{StartError, Value, points};

/// Says to the child of [`a_panic_ends_the_process`] what it is.
const CHILD: &str = "FAILPOINTS_TEST_CHILD";

/// Sets the points of `list` and serves the pages; returns where, and what there is to say of the list.
fn start(list: &str) -> (String, Vec<String>) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        drop(listener);
        let complaints = failpoints::start(|name| match name {
            "GOFAIL_HTTP" => Some(address.clone()),
            "GOFAIL_FAILPOINTS" => Some(list.to_owned()),
            _ => None,
        });
        match complaints {
            // Somebody else was given the same port meanwhile.
            Err(StartError::Listen(_, err)) if err.kind() == ErrorKind::AddrInUse => {}
            complaints => return (address, complaints.expect("started")),
        }
    }
}

/// Sends a request; returns the status line and the body.
fn call(address: &str, request: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("connect");
    let len = body.len();
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n{body}")
        .expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

#[test]
fn the_pages_are_gofails() {
    let (address, complaints) = start("walBeforeSync=1*return(7);nobody=panic;beforeMoveVictims=x");
    assert_eq!(
        complaints,
        [
            "failed to enable \"nobody=panic\" (failpoint: failpoint does not exist)",
            "failed to enable \"beforeMoveVictims=x\" (failpoint: could not parse terms)",
        ]
    );
    assert_eq!(points::walBeforeSync.reach(), Some(Value::Int(7)));
    assert_eq!(points::walBeforeSync.reach(), None);

    let (status, list) = call(&address, "GET /", "");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let listed: Vec<&str> = list.lines().map(|line| line.split('=').next().unwrap_or("")).collect();
    assert_eq!(listed, failpoints::names().collect::<Vec<_>>());
    assert!(list.contains("\nwalBeforeSync=1*return(7)\n"), "{list}");

    let script = [
        ("GET /walBeforeSync/count", "", "200 OK", "1"),
        (
            "GET /walAfterSync",
            "",
            "404 Not Found",
            "failed to GET: failpoint: failpoint is disabled\n",
        ),
        ("PUT /walAfterSync", "return(\"late\")", "204 No Content", ""),
        ("GET /walAfterSync", "", "200 OK", "return(\"late\")\n"),
        ("GET /walAfterSync/count", "", "200 OK", "0"),
        (
            "PUT /walAfterSync",
            "faint",
            "400 Bad Request",
            "fail to set failpoint: failpoint: could not parse terms\n",
        ),
        ("GET /walAfterSync", "", "200 OK", "return(\"late\")\n"),
        ("DELETE /walAfterSync", "", "204 No Content", ""),
        (
            "DELETE /walAfterSync",
            "",
            "400 Bad Request",
            "failed to delete failpoint failpoint: failpoint is disabled\n",
        ),
        (
            "PUT /nobody",
            "panic",
            "400 Bad Request",
            "fail to set failpoint: failpoint: failpoint does not exist\n",
        ),
        (
            "GET /nobody/count",
            "",
            "404 Not Found",
            "failed to GET: failpoint: failpoint does not exist\n",
        ),
        (
            "PUT /failpoints",
            "defragdbFail=return(\"no\");raftBeforeAdvance=2*print",
            "204 No Content",
            "",
        ),
        ("GET /raftBeforeAdvance", "", "200 OK", "2*print\n"),
        (
            "PUT /failpoints",
            "defragdbFail",
            "400 Bad Request",
            "fail to parse failpoint: bad failpoint \"defragdbFail\"\n",
        ),
        ("POST /raftBeforeAdvance", "", "405 Method Not Allowed", "Method not allowed\n"),
    ];
    for (request, body, status, text) in script {
        assert_eq!(
            call(&address, request, body),
            (format!("HTTP/1.1 {status}"), text.to_owned()),
            "{request}"
        );
    }
    let error = points::defragdbFail.error().expect_err("it is set");
    assert_eq!(error.to_string(), "no");
}

#[test]
fn what_is_no_request_is_refused() {
    let (address, _) = start("");
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(64 << 10));
    let requests =
        ["\0\0\0\r\n\r\n", "PUT / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", &long];
    for request in requests {
        let mut stream = TcpStream::connect(&address).expect("connect");
        // The other side may have enough before all of it is sent.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || text.starts_with("HTTP/1.1 400"), "{text}");
    }
    assert_eq!(call(&address, "GET /beforeCommit", "").0, "HTTP/1.1 404 Not Found");
}

#[test]
fn a_panic_ends_the_process() {
    if std::env::var_os(CHILD).is_some() {
        let list = |name: &str| (name == "GOFAIL_FAILPOINTS").then(|| "beforeCommit=panic".into());
        failpoints::start(list).expect("set");
        points::beforeCommit.reach();
        std::process::exit(1);
    }
    let program = std::env::current_exe().expect("this test");
    let child = Command::new(program)
        .args(["--exact", "a_panic_ends_the_process", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .expect("a child");
    assert_eq!(child.status.code(), Some(2), "the code of a Go program that panicked");
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(said.contains("panic: failpoint panic: beforeCommit"), "{said}");
}
