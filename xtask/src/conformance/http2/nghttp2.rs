//! nghttp and h2load, on nghttp2's client: an HTTP/2 of its own kind, with padding, dependencies, tables and windows of
//! all sizes, and many requests at a time.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::conformance::process::{self, Member, Output, Server};
use crate::conformance::{Outcome, tools::Tools};

const LIMIT: Duration = Duration::from_secs(120);
const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
/// Bytes of the value that is read.
const VALUE_BYTES: usize = 50_000;

/// A run of nghttp: options, and how many requests they make.
type Run = (&'static str, &'static [&'static str], usize);

/// Each reads the same key, all without an error.
const RUNS: [Run; 17] = [
    ("one request", &[], 1),
    ("100 requests at a time", &["-m", "100"], 100),
    ("300 requests, 3 at a time", &["-m", "300", "-M", "3"], 300),
    ("padding", &["-b", "255", "-m", "10"], 10),
    ("a window of 255 bytes", &["-w", "8", "-m", "2"], 2),
    ("a window of 2 GB", &["-w", "30", "-W", "30", "-m", "10"], 10),
    ("a large window on a small connection", &["-w", "30", "-W", "16", "-m", "10"], 10),
    ("CONTINUATION", &["--continuation", "-m", "2"], 2),
    ("CONTINUATION with padding", &["--continuation", "-b", "200"], 1),
    ("no table for answers", &["-c", "0", "-m", "10"], 10),
    ("a table that shrinks and grows", &["-c", "64", "-c", "8K", "-m", "10"], 10),
    ("no table for requests", &["--encoder-header-table-size", "0", "-m", "10"], 10),
    ("no length", &["--no-content-length", "-m", "10"], 10),
    ("no dependencies", &["--no-dep", "-p", "256", "-m", "10"], 10),
    ("priorities of RFC 9218", &["--no-rfc7540-pri", "-H", "priority: u=1, i", "-m", "10"], 10),
    ("Expect: 100-continue", &["--expect-continue"], 1),
    ("compressed answers", &["-H", "grpc-encoding: gzip", "-m", "10"], 10),
];

pub(super) fn run(
    tools: &Tools,
    ours: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    for program in ["nghttp", "h2load"] {
        if let Err(why) = version(program) {
            outcome.skipped.push(format!("http2: {program}, of nghttp2-client: {why}"));
            return Ok(());
        }
    }
    let member = Member::new(work.join("nghttp2"));
    let server = Server::start(ours, &member, &[])?;
    let bench = Bench { endpoint: server.endpoint(), work };
    let value = vec![b'v'; VALUE_BYTES];
    bench.write("range", &field(1, b"key"))?;
    bench.write("put", &[field(1, b"key"), field(2, &value)].concat())?;
    bench.write("small", &[field(1, b"load"), field(2, b"value")].concat())?;
    outcome.case("nghttp: put", bench.nghttp(PUT, "put", &[]).and_then(|out| all_ok(&out, 1)));
    for (name, options, requests) in RUNS {
        let result = bench.nghttp(RANGE, "range", options).and_then(|output| {
            all_ok(&output, requests)?;
            has_values(&output, requests)
        });
        outcome.case(&format!("nghttp: {name}"), result);
    }
    outcome.case("nghttp: a status, and no answer", bench.refused());
    outcome.case("nghttp: not gRPC", bench.not_grpc());
    for (name, options, requests) in [
        ("20,000 reads on one connection", ["-c", "1", "-m", "100"].as_slice(), 20_000),
        ("20,000 reads on 50 connections", &["-c", "50", "-m", "10"], 20_000),
        ("reads through windows of 1 KB", &["-c", "4", "-m", "10", "-w", "10", "-W", "16"], 200),
    ] {
        let result = bench.h2load(RANGE, "range", options, requests).and_then(|bytes| {
            let expected = requests * VALUE_BYTES;
            if bytes > expected { Ok(()) } else { Err(format!("{bytes} bytes of answers")) }
        });
        outcome.case(&format!("h2load: {name}"), result);
    }
    let puts = 3000;
    let result = bench.h2load(PUT, "small", &["-c", "10", "-m", "100"], puts).and_then(|_| {
        let mut etcdctl = tools.etcdctl(&bench.endpoint);
        etcdctl.args(["get", "load", "--write-out=fields"]);
        let told = process::run(&mut etcdctl, b"", LIMIT)?.success("etcdctl get")?;
        let version = told.lines().find_map(|line| line.strip_prefix("\"Version\" : "));
        if version == Some(&puts.to_string()) { Ok(()) } else { Err(told) }
    });
    outcome.case("h2load: 3,000 puts", result);
    server.stop()
}

fn version(program: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    process::run(command.arg("--version"), b"", LIMIT)?.success(program).map(drop)
}

/// A field of bytes of a message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

struct Bench<'a> {
    endpoint: String,
    work: &'a Path,
}

impl Bench<'_> {
    /// Writes a message in gRPC's frame to a file.
    fn write(&self, name: &str, message: &[u8]) -> Result<(), String> {
        let mut frame = vec![0];
        frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
        frame.extend_from_slice(message);
        fs::write(self.work.join(name), frame).map_err(|e| format!("{name}: {e}"))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.endpoint)
    }

    fn call(&self, program: &str, path: &str, body: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
        command.arg("-d").arg(self.work.join(body)).arg(self.url(path));
        command
    }

    fn nghttp(&self, path: &str, body: &str, options: &[&str]) -> Result<Output, String> {
        let mut command = self.call("nghttp", path, body);
        command.arg("-v").args(options);
        process::run(&mut command, b"", LIMIT)
    }

    /// Bytes of all answers, if all succeeded.
    fn h2load(
        &self,
        path: &str,
        body: &str,
        options: &[&str],
        requests: usize,
    ) -> Result<usize, String> {
        let mut command = self.call("h2load", path, body);
        command.args(["-n", &requests.to_string()]).args(options);
        let told = process::run(&mut command, b"", LIMIT)?.success("h2load")?;
        let good = [
            format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout"),
            format!("status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx"),
        ];
        let tail = process::last_lines(&told, 9);
        if !good.iter().all(|line| told.contains(line)) {
            return Err(tail);
        }
        let data = told.lines().find_map(|line| line.strip_suffix(") data"));
        let bytes = data.and_then(|line| line.rsplit('(').next()?.parse().ok());
        bytes.ok_or(tail)
    }

    fn refused(&self) -> Result<(), String> {
        let output = self.nghttp("/etcdserverpb.KV/Nope", "range", &["-m", "10"])?;
        let (heads, codes) = (count(&output, ":status: 200"), count(&output, "grpc-status: 12"));
        if output.code == 0 && (heads, codes) == (10, 10) { Ok(()) } else { Err(tail(&output)) }
    }

    fn not_grpc(&self) -> Result<(), String> {
        let output = process::run(
            Command::new("nghttp").args(["-v", "-m", "10"]).arg(self.url("/version")),
            b"",
            LIMIT,
        )?;
        let words = output.text().matches("invalid gRPC request content-type \"\"\n").count();
        // Once in the field of the head, and once in the body.
        if (count(&output, ":status: 415"), words) == (10, 20) {
            Ok(())
        } else {
            Err(tail(&output))
        }
    }
}

/// How many heads or trailers nghttp has received with this field.
fn count(output: &Output, field: &str) -> usize {
    let text = output.text();
    text.lines().filter(|line| line.contains("recv (stream_id=") && line.ends_with(field)).count()
}

fn all_ok(output: &Output, requests: usize) -> Result<(), String> {
    let (heads, codes) = (count(output, ":status: 200"), count(output, "grpc-status: 0"));
    if output.code == 0 && (heads, codes) == (requests, requests) {
        return Ok(());
    }
    Err(format!("{heads} answers and {codes} good ends of {requests}: {}", tail(output)))
}

/// Whether the value was in all answers, which nghttp prints as they come, unless they are compressed.
fn has_values(output: &Output, requests: usize) -> Result<(), String> {
    let is_compressed = count(output, "grpc-encoding: gzip") == requests;
    let letters = output.stdout.iter().filter(|byte| **byte == b'v').count();
    if is_compressed == (letters < requests * VALUE_BYTES) {
        return Ok(());
    }
    Err(format!("{letters} letters of the value"))
}

fn tail(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines = format!("{}\n{stderr}", output.text());
    let short: String = lines.lines().map(|line| format!("{:.150}\n", line)).collect();
    process::last_lines(&short, 12)
}
