//! gofail's pages.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::names::names;
use crate::point::{ANSWERING, SetError, parse_list, set, status, unset};

/// The longest head and the longest body of a request.
const HEAD_MAX: usize = 16 << 10;
const BODY_MAX: usize = 1 << 20;

/// How long a client may take to send a request.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens on `address` and answers from threads of its own until the process ends.
pub(crate) fn serve(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    thread::Builder::new().name("failpoints".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // Each has a thread: one that is slow holds up no other.
            drop(thread::Builder::new().spawn(move || drop(answer_one(stream))));
        }
    })?;
    Ok(())
}

/// A request and what is said to it. One connection, one request.
fn answer_one(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let Some(request) = Request::read(&mut stream)? else {
        return stream.write_all(Answer::text(400, "malformed request").to_bytes().as_slice());
    };
    // A point that ends the process waits until this answer is on its way.
    let _answering = ANSWERING.lock();
    let answer = answer(&request);
    stream.write_all(&answer.to_bytes())?;
    stream.flush()?;
    stream.shutdown(Shutdown::Write)
}

#[derive(Debug)]
struct Request {
    method: String,
    target: String,
    body: String,
}

impl Request {
    /// `None` if it is no request, or too long.
    fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut head = httparse::Request::new(&mut headers);
            match head.parse(&bytes) {
                Ok(httparse::Status::Complete(head_len)) => {
                    let (method, target) = (head.method.unwrap_or(""), head.path.unwrap_or(""));
                    let (method, target) = (method.to_owned(), target.to_owned());
                    let Some(body_len) = body_len(head.headers) else { return Ok(None) };
                    let Some(body) = read_body(stream, bytes.split_off(head_len), body_len)? else {
                        return Ok(None);
                    };
                    return Ok(Some(Self { method, target, body }));
                }
                Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => {
                    if read_some(stream, &mut bytes)? == 0 {
                        return Ok(None);
                    }
                }
                Ok(httparse::Status::Partial) | Err(_) => return Ok(None),
            }
        }
    }
}

/// `None` if the length can't be told or is too much.
fn body_len(headers: &[httparse::Header<'_>]) -> Option<usize> {
    let find = |name: &str| headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if find("transfer-encoding").is_some() {
        return None;
    }
    let Some(header) = find("content-length") else { return Some(0) };
    let len: usize = std::str::from_utf8(header.value).ok()?.trim().parse().ok()?;
    (len <= BODY_MAX).then_some(len)
}

fn read_body(stream: &mut impl Read, mut body: Vec<u8>, len: usize) -> io::Result<Option<String>> {
    while body.len() < len {
        if read_some(stream, &mut body)? == 0 {
            return Ok(None);
        }
    }
    body.truncate(len);
    Ok(String::from_utf8(body).ok())
}

fn read_some(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 4096];
    let read = stream.read(&mut chunk)?;
    bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
    Ok(read)
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn text(status: u16, text: impl std::fmt::Display) -> Self {
        Self { status, body: format!("{text}\n") }
    }

    fn done() -> Self {
        Self { status: 204, body: String::new() }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            204 => "No Content",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Internal Server Error",
        };
        let allow = if self.status == 405 { "Allow: PUT\r\n" } else { "" };
        let length = match self.status {
            204 => String::new(),
            _ => format!(
                "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n",
                self.body.len()
            ),
        };
        let status = self.status;
        let body = &self.body;
        format!("HTTP/1.1 {status} {reason}\r\n{allow}{length}Connection: close\r\n\r\n{body}")
            .into_bytes()
    }
}

fn answer(request: &Request) -> Answer {
    let Some(key) = request.target.strip_prefix('/') else {
        return Answer::text(400, "malformed request URI");
    };
    match request.method.as_str() {
        "PUT" => put(key, &request.body),
        "GET" if key.is_empty() => {
            let line = |name| {
                let terms = status(name).map(|(terms, _)| terms).unwrap_or_default();
                format!("{name}={terms}\n")
            };
            Answer { status: 200, body: names().map(line).collect() }
        }
        "GET" => match key.strip_suffix("/count") {
            Some(name) => count(name),
            None => match status(key) {
                Ok((terms, _)) => Answer::text(200, terms),
                Err(err) => Answer::text(404, format_args!("failed to GET: {err}")),
            },
        },
        "DELETE" => match unset(key) {
            Ok(()) => Answer::done(),
            Err(err) => Answer::text(400, format_args!("failed to delete failpoint {err}")),
        },
        _ => Answer::text(405, "Method not allowed"),
    }
}

fn count(name: &str) -> Answer {
    match status(name) {
        Ok((_, count)) => Answer { status: 200, body: count.to_string() },
        Err(err @ SetError::NoSuchPoint) => Answer::text(404, format_args!("failed to GET: {err}")),
        Err(err) => Answer::text(500, format_args!("failed to GET: {err}")),
    }
}

/// One point, or with the name `failpoints` several.
fn put(key: &str, body: &str) -> Answer {
    let points = if key.eq_ignore_ascii_case("failpoints") {
        match parse_list(body) {
            Ok(points) => points,
            Err(err) => return Answer::text(400, format_args!("fail to parse failpoint: {err}")),
        }
    } else {
        vec![(key.to_owned(), body.to_owned())]
    };
    for (name, terms) in points {
        if let Err(err) = set(&name, &terms) {
            return Answer::text(400, format_args!("fail to set failpoint: {err}"));
        }
    }
    Answer::done()
}
