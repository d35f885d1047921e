//! `cargo xtask conformance`: the official clients, tools and files of etcd, against ours.
//!
//! Every part compares with the real server or is judged by a program that also passes against the real server:
//! `cli` runs one script of etcdctl and etcdutl commands twice, `ctl` does so with our etcdctl, `gateway` runs one of
//! HTTP requests, `client` runs a Go program on etcd's client library,
//! `rust` one on the crate `etcd-client`, `zoo` others in Python, JavaScript and Java, `patroni` keeps the leader of
//! PostgreSQL servers in it, `files` passes data directories between the servers, `mixed` makes them members of one
//! cluster, `bad` sends bad input, `http2` asks the judges of the protocol.

mod bad;
mod cli;
mod client;
mod ctl;
mod files;
mod gateway;
mod http2;
mod mixed;
mod normalise;
mod patroni;
pub(crate) mod process;
mod raftexample;
mod rust;
pub(crate) mod tools;
mod zoo;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tools::Tools;

const PARTS: [&str; 12] = [
    "cli",
    "ctl",
    "gateway",
    "client",
    "rust",
    "zoo",
    "patroni",
    "files",
    "mixed",
    "bad",
    "http2",
    "raftexample",
];
const USAGE: &str = "usage: cargo xtask conformance [--ours PATH] [tools|cli|ctl|gateway|client|rust|zoo|patroni|files|mixed|bad|http2|raftexample ...]";

/// What a run found.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Cases that held.
    pub(crate) passed: usize,
    /// Cases that did not.
    pub(crate) failed: usize,
    /// What could not be run on this machine, and why.
    pub(crate) skipped: Vec<String>,
}

impl Outcome {
    /// Whether the caller may exit with 0: nothing failed and, where the environment says `CI=true`, nothing was
    /// skipped.
    #[must_use]
    pub(crate) fn success(&self) -> bool {
        let ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
        self.failed == 0 && (self.skipped.is_empty() || !ci)
    }

    /// Records one case and prints a failed one; a passed one only counts.
    pub(crate) fn case(&mut self, name: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(why) => {
                self.failed += 1;
                println!("FAIL {name}: {why}");
            }
        }
    }

    /// Takes over the lines `ok name`, `FAIL name: why` and `skipped name: why` of a checking program, with the
    /// program's own end: one that dies or stops early has failed, whatever it printed before.
    pub(crate) fn lines(&mut self, part: &str, output: &process::Output) {
        let mut total = false;
        for line in output.text().lines() {
            if line.starts_with("ok ") {
                self.passed += 1;
            } else if line.starts_with("FAIL ") {
                self.failed += 1;
                println!("{part}: {line}");
            } else if let Some(what) = line.strip_prefix("skipped ") {
                self.skipped.push(format!("{part}: {what}"));
            } else if line.starts_with("not yet ") {
                println!("{part}: {line}");
            } else if line.contains(" passed, ") {
                total = true;
                println!("{part}: {line}");
            } else {
                println!("{part}: | {line}");
            }
        }
        if !total || !matches!(output.code, 0 | 1) {
            self.failed += 1;
            let stderr = String::from_utf8_lossy(&output.stderr);
            let tail = process::last_lines(&stderr, 12);
            println!("FAIL {part}: ended with {} before its total: {tail}", output.code);
        }
    }
}

/// Runs the named parts, all of them when none is named, and prints the report.
///
/// # Errors
/// A wrong argument, or a machine on which nothing can be run.
pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    let (ours, parts) = parse(args)?;
    let mut outcome = Outcome::default();
    let begun = Instant::now();
    match tools::prepare(&mut outcome.skipped) {
        Ok(tools) => run_parts(&tools, ours, &parts, &mut outcome)?,
        Err(_) => println!("no tools, no conformance run"),
    }
    for what in &outcome.skipped {
        println!("skipped: {what}");
    }
    println!(
        "conformance: {} passed, {} failed in {:.0} s",
        outcome.passed,
        outcome.failed,
        begun.elapsed().as_secs_f64()
    );
    Ok(outcome)
}

fn run_parts(
    tools: &Tools,
    ours: Option<PathBuf>,
    parts: &[String],
    outcome: &mut Outcome,
) -> Result<(), String> {
    if parts.iter().all(|part| part == "tools") && !parts.is_empty() {
        return Ok(());
    }
    let given = ours.is_some();
    let ours = our_binary(ours)?;
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|name| name == part);
    for part in PARTS {
        if !wanted(part) {
            continue;
        }
        let work = tools.work.join(part);
        let _ = std::fs::remove_dir_all(&work);
        std::fs::create_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))?;
        let (passed, failed, begun) = (outcome.passed, outcome.failed, Instant::now());
        let result = match part {
            "cli" => cli::run(tools, &ours, &work, outcome),
            "ctl" => {
                let etcdctl = our_tool("etcdctl", &ours, given)?;
                ctl::run(tools, &ours, &etcdctl, &work, outcome)
            }
            "gateway" => gateway::run(tools, &ours, &work, outcome),
            "client" => client::run(tools, &ours, &work, outcome),
            "rust" => rust::run(tools, &ours, &work, outcome),
            "zoo" => zoo::run(tools, &ours, &work, outcome),
            "patroni" => patroni::run(tools, &ours, &work, outcome),
            "files" => files::run(tools, &ours, &work, outcome),
            "mixed" => mixed::run(tools, &ours, &work, outcome),
            "bad" => bad::run(tools, &ours, &work, outcome),
            "http2" => http2::run(tools, &ours, &work, outcome),
            _ => {
                let example = our_tool("raftexample", &ours, given)?;
                raftexample::run(tools, example, &work, outcome)
            }
        };
        if let Err(why) = result {
            outcome.case(part, Err(why));
        }
        println!(
            "{part}: {} passed, {} failed in {:.0} s",
            outcome.passed - passed,
            outcome.failed - failed,
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

fn parse(args: &[String]) -> Result<(Option<PathBuf>, Vec<String>), String> {
    let mut ours = None;
    let mut parts = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--ours" {
            ours = Some(PathBuf::from(rest.next().ok_or(USAGE)?));
        } else if arg == "tools" || PARTS.contains(&arg.as_str()) {
            parts.push(arg.clone());
        } else {
            return Err(format!("unknown argument {arg}\n{USAGE}"));
        }
    }
    Ok((ours, parts))
}

/// The server under test: the given one, or the release build of this workspace, brought up to date.
pub(crate) fn our_binary(given: Option<PathBuf>) -> Result<PathBuf, String> {
    if let Some(path) = given {
        return path.canonicalize().map_err(|e| format!("--ours {}: {e}", path.display()));
    }
    build("etcd")
}

/// Another program of ours: the one beside a given server, or the release build.
pub(crate) fn our_tool(name: &str, server: &Path, given: bool) -> Result<PathBuf, String> {
    if given { Ok(server.with_file_name(name)) } else { build(name) }
}

/// The release build of a program, brought up to date.
fn build(name: &str) -> Result<PathBuf, String> {
    cargo_build(&["--release"], "release", name)
}

/// A build of a program, in this folder of the target folder, brought up to date.
fn cargo_build(options: &[&str], folder: &str, name: &str) -> Result<PathBuf, String> {
    eprintln!("conformance: cargo build {} --bin {name}", options.join(" "));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::root()).arg("build").args(options).args(["--bin", name]);
    process::run(&mut cargo, b"", Duration::from_secs(3600))?.success("cargo build")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = crate::root().join(target.as_deref().unwrap_or(Path::new("target")));
    Ok(target.join(folder).join(name))
}
