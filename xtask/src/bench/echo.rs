//! What a request costs at the front door alone: `http2` and `rpc` beside tonic, each on one thread with nothing behind it;
//! and what it costs ours when another thread answers puts, as in a member.
//!
//! Both answer with the same bytes. The two take turns, and the least CPU time of all rounds counts for each: that is the
//! round which the rest of the machine has disturbed least.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::{benchmark, digits, read_report};
use crate::conformance::Outcome;
use crate::conformance::process;
use crate::conformance::tools::Tools;

/// What ours may cost, as a part of tonic's.
const PART_MAX: f64 = 0.25;
const ROUNDS: usize = 8;
/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_secs(10);

struct Load {
    title: &'static str,
    /// Arguments of the benchmark tool, without the size.
    args: &'static str,
    /// Whether ours can hand it to another thread.
    is_handed_over: bool,
}

const LOADS: &[Load] = &[
    Load {
        title: "serializable range, 100 clients, 1 connection",
        args: "--conns 1 --clients 100 range bench --consistency s",
        is_handed_over: false,
    },
    Load {
        title: "serializable range, 1,000 clients, 100 connections",
        args: "--conns 100 --clients 1000 range bench --consistency s",
        is_handed_over: false,
    },
    Load {
        title: "put, 100 clients, 1 connection",
        args: "--conns 1 --clients 100 put --key-size 32 --val-size 256 --key-space-size 1000000",
        is_handed_over: true,
    },
    Load {
        title: "put, 1,000 clients, 100 connections",
        args: "--conns 100 --clients 1000 put --key-size 32 --val-size 256 --key-space-size 1000000",
        is_handed_over: true,
    },
];

/// A server of this comparison; it ends when it is dropped.
struct Server {
    name: &'static str,
    child: Child,
    endpoint: String,
}

impl Server {
    fn start(name: &'static str, program: &Path, mode: Option<&str>) -> Result<Self, String> {
        let port = process::free_port();
        let endpoint = format!("127.0.0.1:{port}");
        let child = Command::new(program).arg(&endpoint).args(mode).stdin(Stdio::null()).spawn();
        let child = child.map_err(|e| format!("{}: {e}", program.display()))?;
        let server = Self { name, child, endpoint };
        let begun = Instant::now();
        while std::net::TcpStream::connect(&server.endpoint).is_err() {
            if begun.elapsed() > START_MAX {
                return Err(format!("{name} does not listen"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// CPU time of a request in microseconds.
    fn drive(&self, tools: &Tools, load: &Load, total: u32) -> Result<f64, String> {
        let before = cpu_nanoseconds(self.child.id())?;
        let args = format!("{} --total {total}", load.args);
        read_report(&benchmark(tools, &self.endpoint, &args)?)?;
        let spent = cpu_nanoseconds(self.child.id())?.saturating_sub(before);
        Ok(spent as f64 / 1e3 / f64::from(total))
    }
}

/// CPU time of all threads of a process, as the scheduler counts it.
fn cpu_nanoseconds(pid: u32) -> Result<u64, String> {
    let folder = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&folder).map_err(|e| format!("{folder}: {e}"))?;
    let mut sum = 0;
    for thread in threads {
        let path = thread.map_err(|e| format!("{folder}: {e}"))?.path().join("schedstat");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let time = text.split(' ').next().and_then(|field| field.parse::<u64>().ok());
        sum += time.ok_or_else(|| format!("{}: no time", path.display()))?;
    }
    Ok(sum)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures all, and returns the table.
pub(super) fn run(tools: &Tools, quick: bool, outcome: &mut Outcome) -> Result<String, String> {
    let (tonic, ours) = (tonic()?, ours()?);
    let servers = [
        Server::start("tonic", &tonic, None)?,
        Server::start("ours", &ours, None)?,
        Server::start("ours, handed over", &ours, Some("hand-over"))?,
    ];
    let total = if quick { 10_000 } else { 40_000 };
    let mut text = "| server CPU each, us | tonic | ours | ours/tonic | \
        ours, answered by another thread |\n|---|---:|---:|---:|---:|\n"
        .to_owned();
    for load in LOADS {
        let servers = if load.is_handed_over { &servers[..] } else { &servers[..2] };
        let best = least(tools, load, servers, total, outcome);
        let [Some(tonic), Some(ours), ..] = best[..] else { continue };
        let part = ours / tonic;
        let handed_over = best.get(2).copied().flatten().map_or_else(|| "-".to_owned(), digits);
        let (tonic, ours) = (digits(tonic), digits(ours));
        let title = load.title;
        text.push_str(&format!("| {title} | {tonic} | {ours} | {part:.2} | {handed_over} |\n"));
        let result = if part <= PART_MAX { Ok(()) } else { Err(format!("{part:.2}")) };
        outcome.case(&format!("echo, {title}: at most {PART_MAX} of tonic's CPU"), result);
    }
    Ok(text)
}

/// The least that a request has cost each of the servers.
fn least(
    tools: &Tools,
    load: &Load,
    servers: &[Server],
    total: u32,
    outcome: &mut Outcome,
) -> Vec<Option<f64>> {
    let mut best: Vec<Option<f64>> = vec![None; servers.len()];
    for round in 1..=ROUNDS {
        for (server, best) in servers.iter().zip(&mut best) {
            let name = format!("echo, {} against {}", load.title, server.name);
            eprintln!("bench: {name}, round {round}");
            let cost = server.drive(tools, load, total);
            if let Ok(cost) = cost {
                *best = Some(best.map_or(cost, |best| best.min(cost)));
            }
            outcome.case(&name, cost.map(drop));
        }
    }
    best
}

fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR");
    crate::root().join(target.map_or_else(|| PathBuf::from("target"), PathBuf::from))
}

fn ours() -> Result<PathBuf, String> {
    build(&crate::root(), &["-p", "rpc", "--example", "echo"], &target())?;
    Ok(target().join("release/examples/echo"))
}

fn tonic() -> Result<PathBuf, String> {
    let folder = target().join("bench-echo");
    build(&crate::root().join("conformance/tonic-echo"), &[], &folder)?;
    Ok(folder.join("release/tonic-echo"))
}

fn build(source: &Path, what: &[&str], target: &Path) -> Result<(), String> {
    eprintln!("bench: cargo build --release {} in {}", what.join(" "), source.display());
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(source).args(["build", "--locked", "--release"]).args(what);
    cargo.arg("--target-dir").arg(target);
    process::run(&mut cargo, b"", Duration::from_secs(3600))?.success("cargo build").map(drop)
}
