//! Part `gateway`: one script of HTTP requests, sent to the real server and then to ours; status, header fields and body
//! of each answer must be equal.
//!
//! The script is `conformance/gateway.txt`; its first lines explain its form.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::process::{Member, Server};
use super::{Outcome, tools::Tools};

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// An answer that does not come in this time counts as none.
const NO_ANSWER: Duration = Duration::from_secs(2);

/// The header fields that are compared.
const FIELDS: [&str; 14] = [
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "allow",
    "connection",
    "content-type",
    "grpc-metadata-content-type",
    "location",
    "sec-websocket-accept",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "transfer-encoding",
    "www-authenticate",
    "x-content-type-options",
];

/// Members of objects whose values differ from run to run.
const VARYING: [&str; 9] = [
    "TTL",
    "blob",
    "dbSize",
    "dbSizeInUse",
    "hash",
    "raftAppliedIndex",
    "raftIndex",
    "remaining_bytes",
    "raft_term",
];

#[derive(Debug, Default, PartialEq)]
struct Case {
    /// Where it stands in the script.
    line: usize,
    name: String,
    request: Vec<u8>,
    /// What is sent when the answer's head has come: a WebSocket's frames.
    frames: Vec<u8>,
    /// The answer is read up to so many lines of its body.
    lines: Option<usize>,
    /// There must be no answer.
    is_silent: bool,
}

pub(super) fn run(
    tools: &Tools,
    ours: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let path = tools.source.join("gateway.txt");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let sections = parse(&text)?;
    // One identity for both servers, so that even the ids that they derive from it are comparable.
    let member = Member::new(work.join("data"));
    for (flags, cases) in &sections {
        let expected = play(&tools.bin("etcd"), &member, flags, cases)?;
        let actual = play(ours, &member, flags, cases)?;
        for (case, (want, got)) in cases.iter().zip(expected.iter().zip(&actual)) {
            let name = format!("gateway.txt:{}: {}", case.line, case.name);
            if want == got {
                outcome.case(&name, Ok(()));
            } else if got.contains("\"message\":\"unknown method ") {
                println!("gateway: not yet {name}");
            } else {
                let (want, got) = (cut(want), cut(got));
                let result = Err(format!("differs\n    etcd: {want}\n    ours: {got}"));
                outcome.case(&name, result);
            }
        }
    }
    Ok(())
}

fn cut(answer: &str) -> String {
    answer.chars().take(1500).collect()
}

fn play(
    binary: &Path,
    member: &Member,
    flags: &[String],
    cases: &[Case],
) -> Result<Vec<String>, String> {
    let _ = fs::remove_dir_all(&member.dir);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut server = Server::launch(binary, member, &flags)?;
    wait_serving(&mut server)?;
    let mut answers = Vec::with_capacity(cases.len());
    for case in cases {
        let answer = ask(member.client_port, case)
            .map_err(|e| format!("gateway.txt:{}: {}: {e}", case.line, case.name))?;
        answers.push(answer);
    }
    server.stop()?;
    Ok(answers)
}

/// Waits until it has a version, whatever hosts and origins it takes.
fn wait_serving(server: &mut Server) -> Result<(), String> {
    let begun = Instant::now();
    let version = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec();
    let case = Case { request: version, ..Case::default() };
    while begun.elapsed() < Duration::from_secs(40) {
        let decided = |answer: &String| answer.contains("3.7.0") && !answer.contains("not_decided");
        if ask(server.member.client_port, &case).is_ok_and(|answer| decided(&answer)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("server does not serve: {}", server.log_tail()))
}

/// Sends the request; the answer without what varies.
fn ask(port: u16, case: &Case) -> Result<String, String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
    let timeout = if case.is_silent { NO_ANSWER } else { ANSWER_TIMEOUT };
    socket.set_read_timeout(Some(timeout)).map_err(|e| e.to_string())?;
    // Who is refused early may have closed already.
    let _ = socket.write_all(&case.request);
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    let mut frames = case.frames.as_slice();
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                bytes.extend_from_slice(&buffer[..read]);
                if bytes.windows(4).any(|window| window == b"\r\n\r\n") {
                    let _ = socket.write_all(std::mem::take(&mut frames));
                }
            }
            Err(_) if case.is_silent && bytes.is_empty() => return Ok("no answer".to_owned()),
            // Who does not read a request to its end may reset the connection behind the answer.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !bytes.is_empty() => break,
            Err(error) => return Err(format!("{error} after {} bytes", bytes.len())),
        }
        let Some(limit) = case.lines else { continue };
        let (_, _, body) = split(&bytes);
        if body.iter().filter(|byte| **byte == b'\n').count() >= limit {
            break;
        }
    }
    Ok(show(&bytes, case.lines))
}

/// Status line, header and decoded body.
fn split(answer: &[u8]) -> (String, Vec<(String, String)>, Vec<u8>) {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.map_or(answer.len(), |end| end + 4));
    let head = String::from_utf8_lossy(head).into_owned();
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default().to_owned();
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let is_chunked = fields
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value.eq_ignore_ascii_case("chunked"));
    let body = match status.as_str() {
        "HTTP/1.1 101 Switching Protocols" => unframe(body),
        _ if is_chunked => unchunk(body),
        _ => body.to_vec(),
    };
    (status, fields, body)
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).unwrap_or_default();
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        let rest = &body[end + 2..];
        out.extend_from_slice(rest.get(..size).unwrap_or(rest));
        body = rest.get(size + 2..).unwrap_or_default();
    }
    out
}

/// One line for each frame of a server: what it is and what is in it.
fn unframe(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        let (len, rest) = match (len, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(*high) << 8 | usize::from(*low), rest),
            (126.., _) => break,
            (len, rest) => (usize::from(*len), rest),
        };
        let Some((payload, rest)) = rest.split_at_checked(len) else { break };
        if *first == 0x81 {
            out.extend_from_slice(payload);
        } else {
            out.extend_from_slice(format!("{first:02x} {}", payload.escape_ascii()).as_bytes());
        }
        out.push(b'\n');
        bytes = rest;
    }
    out
}

/// A client's text in one frame, whose mask is 0.
fn frame(text: &[u8]) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let mut frame = vec![0x81, 0xfe];
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text);
    frame
}

fn show(answer: &[u8], lines: Option<usize>) -> String {
    let (status, mut fields, body) = split(answer);
    // How long an answer must be to be sent in chunks is each server's own business.
    let is_stream = body.starts_with(b"{\"result\"") || body.starts_with(b"{\"error\"");
    fields.retain(|(name, _)| {
        FIELDS.contains(&name.as_str()) && (name != "transfer-encoding" || is_stream)
    });
    fields.sort();
    let mut text = status;
    for (name, value) in fields {
        text.push_str(&format!("\n      {name}: {value}"));
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    for line in body.lines().take(lines.unwrap_or(usize::MAX)) {
        text.push_str("\n      ");
        text.push_str(&normalise(line));
    }
    text
}

/// Takes out of a line of JSON the spaces between tokens and the values that vary; any other line stays.
fn normalise(line: &str) -> String {
    let line = line.replace('\u{a0}', " ");
    if !line.starts_with('{') {
        return line;
    }
    let mut out = String::new();
    let mut name = String::new();
    let mut rest = line.as_str();
    while let Some(c) = rest.chars().next() {
        let end = if c == '"' { string_end(rest) } else { c.len_utf8() };
        let (token, tail) = rest.split_at(end);
        rest = tail;
        if c == ' ' {
            continue;
        }
        if c == '"' && rest.starts_with(':') {
            name = token.trim_matches('"').to_owned();
        } else if VARYING.contains(&name.as_str()) && (c == '"' || c.is_ascii_digit()) {
            out.push('#');
            rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            continue;
        }
        out.push_str(token);
    }
    out
}

/// Where the string at the start of `text` ends.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

type Section = (Vec<String>, Vec<Case>);

fn parse(script: &str) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = vec![Section::default()];
    let mut lines = script.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        if let Some(flags) = line.strip_prefix("== ") {
            sections.push((flags.split_whitespace().map(str::to_owned).collect(), Vec::new()));
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut block = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.is_empty()) {
            block.push(line);
        }
        let case = case(index + 1, line, &block)?;
        if let Some((_, cases)) = sections.last_mut() {
            cases.push(case);
        }
    }
    sections.retain(|(_, cases)| !cases.is_empty());
    Ok(sections)
}

fn case(line: usize, name: &str, block: &[&str]) -> Result<Case, String> {
    let (start, block) = block.split_first().ok_or(format!("line {line}: no request"))?;
    let mut case = Case { line, name: name.to_owned(), ..Case::default() };
    let mut start = *start;
    if let Some((head, count)) = start.rsplit_once(" %lines=") {
        case.lines = Some(count.parse().map_err(|e| format!("line {line}: {e}"))?);
        start = head;
    }
    if let Some(head) = start.strip_suffix(" %silent") {
        case.is_silent = true;
        start = head;
    }
    let is_field = |line: &&&str| {
        let name = line.split_once(": ").map_or("", |(name, _)| name);
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let fields = block.iter().take_while(is_field).count();
    let (fields, body) = block.split_at(fields);
    let body: Result<Vec<Vec<u8>>, String> =
        body.iter().map(|text| expand(text).map_err(|e| format!("line {line}: {e}"))).collect();
    let body = body?;
    let has = |name: &str| fields.iter().any(|field| field.starts_with(name));
    let mut head = format!("{start} HTTP/1.1\r\n");
    if !has("Host: ") {
        head.push_str("Host: localhost\r\n");
    }
    for field in fields {
        head.push_str(&format!("{field}\r\n"));
    }
    if has("Upgrade: ") {
        case.request = (head + "\r\n").into_bytes();
        case.frames = body
            .iter()
            .flat_map(|line| match line.strip_prefix(b"%bytes ") {
                Some(bytes) => bytes.to_vec(),
                None => frame(line),
            })
            .collect();
        return Ok(case);
    }
    let body = body.join(&b'\n');
    if !has("Content-Length: ") && !has("Transfer-Encoding: ") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("Connection: close\r\n\r\n");
    case.request = head.into_bytes();
    if has("Transfer-Encoding: chunked") {
        // In the smallest chunks that there are.
        for byte in &body {
            case.request.extend_from_slice(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
        }
        case.request.extend_from_slice(b"0\r\n\r\n");
    } else {
        case.request.extend_from_slice(&body);
    }
    Ok(case)
}

/// Undoes `\xNN`, and repeats: `<5*text>` is `text` five times.
fn expand(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(tail) = rest.strip_prefix("\\x") {
            let digits = tail.get(..2).ok_or("two digits")?;
            out.push(u8::from_str_radix(digits, 16).map_err(|e| e.to_string())?);
            rest = &tail[2..];
        } else if c == '<'
            && let Some((count, tail)) = rest[1..].split_once('*')
            && let Ok(count) = count.parse::<usize>()
            && let Some((what, tail)) = tail.split_once('>')
        {
            out.extend_from_slice(&what.as_bytes().repeat(count));
            rest = tail;
        } else {
            let (char, tail) = rest.split_at(c.len_utf8());
            out.extend_from_slice(char.as_bytes());
            rest = tail;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read() {
        let script = "# words\na name\nPOST /v3/x %lines=2\nX-A: b\n{\"a\":\n<2*[>\\xff}\n\n== --cors=x\nb\nGET /\n";
        let sections = parse(script).expect("a script");
        assert_eq!(sections.len(), 2);
        let case = &sections[0].1[0];
        assert_eq!((case.name.as_str(), case.line, case.lines), ("a name", 2, Some(2)));
        let expected = b"POST /v3/x HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\nContent-Length: 10\r\nConnection: close\r\n\r\n{\"a\":\n[[\xff}";
        assert_eq!(case.request, expected);
        assert_eq!(sections[1].0, ["--cors=x"]);
    }

    #[test]
    fn an_answer_is_shown_without_what_varies() {
        let answer = b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{\"result\":{\"TTL\":\"5\", \"a\":\"b c\"}\r\n1\r\n}\r\n0\r\n\r\n";
        let shown = show(answer, None);
        assert_eq!(
            shown,
            "HTTP/1.1 200 OK\n      transfer-encoding: chunked\n      {\"result\":{\"TTL\":#,\"a\":\"b c\"}}"
        );
        assert_eq!(normalise("proto:\u{a0}x"), "proto: x");
    }
}
