//! The peer port of etcd and ours, asked the same: codes, headers and bodies must be equal.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use raft::{Message, MessageType};

/// Somebody with a peer port.
#[derive(Clone, Copy)]
pub(crate) struct Port {
    pub(crate) port: u16,
    pub(crate) id: u64,
}

/// Headers that must be equal where either has them.
const HEADERS: [&str; 6] = [
    "allow",
    "content-type",
    "location",
    "x-content-type-options",
    "x-etcd-cluster-id",
    "x-server-version",
];

/// Who asks: as an honest member would, without saying who, of an old release, of a later one, of another cluster.
const ASKERS: [&str; 5] = [
    "X-Server-From: 77\r\nX-Server-Version: 3.6.1\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: $CLUSTER\r\n",
    "",
    "X-Server-From: 77\r\nX-Server-Version: 2.3.8\r\nX-Min-Cluster-Version: 2.1.0\r\nX-Etcd-Cluster-ID: $CLUSTER\r\n",
    "X-Server-From: 77\r\nX-Server-Version: 4.1.0\r\nX-Min-Cluster-Version: 4.0.0\r\nX-Etcd-Cluster-ID: $CLUSTER\r\n",
    "X-Server-From: 77\r\nX-Server-Version: 3.7.3\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: 1234\r\n",
];

const LINES: [&str; 25] = [
    "GET /",
    "GET /raft",
    "PUT /raft",
    "POST /raft",
    "GET /raft/",
    "GET /raft/other",
    "GET /raft/snapshot",
    "POST /raft/snapshot",
    "POST /raft/stream/msgapp/77",
    "GET /raft/stream/",
    "GET /raft/stream/msgapp",
    "GET /raft/stream/msgapp/",
    "GET /raft/stream/msgapp/77",
    "GET /raft/stream/msgapp/+77",
    "GET /raft/stream/msgapp/0x77",
    "GET /raft/stream/msgapp/77/1",
    "GET /raft/stream/message/xyz",
    "GET /raft/stream/message/11112222333344445",
    "GET /raft/stream/other/77",
    "POST /members",
    "GET /members/",
    "GET /members/promote/1",
    "DELETE /version",
    "GET /v3/kv/range",
    "GET /health",
];

/// Paths that etcd sends on to other ones; 3.5 does it with another code.
const REDIRECTED: [&str; 6] = [
    "GET //members",
    "HEAD /x/../version?a=b&c=d",
    "POST /raft/../raft/",
    "GET /members/promote",
    "GET /raft/stream",
    "GET /health/..",
];

/// Asks both everything; returns how many questions there were.
///
/// # Errors
/// The first answers that differ.
pub(crate) fn check(
    etcd: Port,
    ours: Port,
    cluster_id: u64,
    is_old: bool,
) -> Result<usize, String> {
    let mut asked = 0;
    let mut ask = |line: &str, asker: &str, body: &dyn Fn(Port) -> Vec<u8>| {
        let asker = asker.replace("$CLUSTER", &format!("{cluster_id:x}"));
        let theirs = answer(etcd.port, line, &asker, &body(etcd))?;
        let mut answer = answer(ours.port, line, &asker, &body(ours))?;
        if is_old {
            answer = answer.replace("x-server-version: 3.7.3", "x-server-version: 3.5.1");
        }
        asked += 1;
        if theirs == answer {
            return Ok(());
        }
        Err(format!("{line} ({asker:?}):\netcd: {theirs}\nours: {answer}"))
    };
    for line in LINES {
        for asker in ASKERS {
            // A message without content, to nobody.
            if is_old && (line, asker) == ("POST /raft", ASKERS[0]) {
                continue;
            }
            ask(line, asker, &|_| Vec::new())?;
        }
    }
    if !is_old {
        for line in REDIRECTED {
            ask(line, "", &|_| Vec::new())?;
        }
    }
    let honest = ASKERS[0];
    let message =
        |msg_type, to| Message { msg_type, to, from: 0x77, term: 1, ..Message::default() };
    ask("POST /raft", honest, &|_| b"\x0f".to_vec())?;
    ask("POST /raft", honest, &|_| b"junk".to_vec())?;
    ask("POST /raft", honest, &|port| {
        message(MessageType::HeartbeatResp, port.id).encode_to_vec()
    })?;
    ask("POST /raft", honest, &|port| message(MessageType::Hup, port.id).encode_to_vec())?;
    // 3.5 did not look for whom a message is.
    if !is_old {
        ask("POST /raft", honest, &|_| message(MessageType::HeartbeatResp, 0x78).encode_to_vec())?;
    }
    let framed = |message: Message| {
        let bytes = message.encode_to_vec();
        [&(bytes.len() as u64).to_be_bytes(), bytes.as_slice()].concat()
    };
    let snapshot = "POST /raft/snapshot";
    ask(snapshot, honest, &|port| framed(message(MessageType::Vote, port.id)))?;
    ask(snapshot, honest, &|_| 9_u64.to_be_bytes().to_vec())?;
    ask(snapshot, honest, &|_| b"\0\0\0".to_vec())?;
    // What was far too long in 2.x and 3.5 still had a buffer made for it.
    if !is_old {
        ask(snapshot, honest, &|_| (64_u64 << 20 | 1).to_be_bytes().to_vec())?;
    }
    Ok(asked)
}

/// The code, the headers that matter and the body, as one text.
fn answer(port: u16, line: &str, asker: &str, body: &[u8]) -> Result<String, String> {
    let what = |err| format!("{line} to {port}: {err}");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(what)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(what)?;
    let len = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len}\r\n{asker}\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).map_err(what)?;
    let answer = read_answer(&mut stream).map_err(what)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    // An answer after which etcd breaks the connection off comes as one chunk.
    let is_chunked = head.contains("Transfer-Encoding: chunked");
    let body = body.split_once("\r\n").filter(|_| is_chunked).map_or(body, |(_, chunk)| chunk);
    let body = if is_chunked { body.trim_end_matches("\r\n") } else { body };
    let mut lines = head.lines();
    let code = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default();
    let mut headers: Vec<String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| HEADERS.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    headers.sort();
    Ok(format!("{code} {headers:?} {body:?}"))
}

/// Reads an answer to its end. etcd closes the connection some seconds later.
fn read_answer(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let answer = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = answer.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let len = head.split_once("content-length: ").map(|(_, rest)| rest.lines().next());
            let is_whole = match len.flatten().and_then(|len| len.parse::<usize>().ok()) {
                Some(len) => body.len() >= len,
                None if head.contains("transfer-encoding: chunked") => {
                    body.matches("\r\n").count() >= 2
                }
                None => true,
            };
            if is_whole {
                return Ok(answer.into_owned());
            }
        }
        let mut part = [0; 4096];
        match stream.read(&mut part)? {
            0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            len => bytes.extend_from_slice(&part[..len]),
        }
    }
}
