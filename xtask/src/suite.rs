//! `cargo xtask suite`: etcd's own tests (`go.etcd.io/etcd/tests/v3`, built with the tag `e2e`) against our server.
//!
//! The tests start clusters of one and of three members and drive them with the official etcdctl. Where they ask for "the last
//! release", members of etcd 3.6 stand beside ours. What cannot pass yet is in `conformance/suite/<package>.txt`, with a
//! reason for each; what is in that list and passes is a failure, so that the list shrinks.
//!
//! The ports of the tests are fixed. So each worker has a network of its own, where the machine permits it; elsewhere there
//! is one worker. Each test runs in a process of its own: a panic costs one test.

mod known;
mod report;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::conformance::process;
use crate::conformance::tools::{self, Tools};
use crate::conformance::{Outcome, our_binary};

use known::Known;
use report::{Report, Verdict};

const USAGE: &str =
    "usage: cargo xtask suite [--ours PATH] [--workers N] [--list FILE] [common|e2e] [TEST ...]";
/// Most of a test is waiting for processes and for etcd's intervals.
const WORKERS: usize = 4;
/// For one process, and so for all subtests of a test.
const LIMIT: Duration = Duration::from_secs(600);
/// Those that take longest, so that they begin first; in halves where one alone would outlast all others. Parts of a name
/// are patterns of Go's.
const LONG: [&str; 8] = [
    "TestMemberAdd/NotLearner",
    "TestMemberAdd/Learner",
    "TestMemberRemove/StrictReconfigCheck",
    "TestMemberRemove/DisableStrictReconfigCheck",
    "TestAuthority/Size:_3.*",
    "TestAuthority/Size:_1.*",
    "TestVerifyHashKVAfterCompact",
    "TestVerifyHashKVAfterCompactOnLastTombstone",
];

struct Options {
    ours: Option<PathBuf>,
    workers: usize,
    list: Option<PathBuf>,
    package: String,
    only: Vec<String>,
}

/// What the workers share.
struct Suite {
    binary: PathBuf,
    alone: PathBuf,
    bin: PathBuf,
    work: PathBuf,
    package: String,
    known: Known,
    with_network: bool,
}

/// Runs the tests, compares with the list, and prints the report.
///
/// # Errors
/// A wrong argument, or a machine on which the tests cannot be built.
pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    let options = parse(args)?;
    let mut outcome = Outcome::default();
    let begun = Instant::now();
    let tools = tools::prepare(&mut outcome.skipped)?;
    let ours = our_binary(options.ours)?;
    let list = tools.source.join("suite").join(format!("{}.txt", options.package));
    let known = Known::read(&options.list.unwrap_or(list))?;
    let mut suite = prepare(&tools, &ours, &options.package, known)?;
    suite.with_network = suite.has_network();
    let workers = if suite.with_network { options.workers } else { 1 };
    if !suite.with_network {
        println!("suite: no network of one's own on this machine, so one test after the other");
    }
    let names = suite.names(&options.only)?;
    let mut reports = suite.run_all(names, workers);
    suite.run_again(&mut reports);
    let is_whole = options.only.is_empty();
    suite.judge(&reports, is_whole, &mut outcome);
    for what in &outcome.skipped {
        println!("skipped: {what}");
    }
    let count = |verdict: Verdict| {
        let leaves = reports.values().flat_map(|report| &report.leaves);
        leaves.filter(|(_, found)| **found == verdict).count()
    };
    println!(
        "suite: {} passed, {} failed (subtests without subtests of {}; {} more are listed with a reason, {} are skipped by \
         etcd) in {:.0} s",
        outcome.passed,
        outcome.failed,
        options.package,
        suite.listed(&reports),
        count(Verdict::Skip),
        begun.elapsed().as_secs_f64()
    );
    Ok(outcome)
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        ours: None,
        workers: WORKERS,
        list: None,
        package: "common".to_owned(),
        only: Vec::new(),
    };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--ours" => options.ours = Some(rest.next().ok_or(USAGE)?.into()),
            "--list" => options.list = Some(rest.next().ok_or(USAGE)?.into()),
            "--workers" => {
                let workers = rest.next().and_then(|text| text.parse().ok());
                options.workers = workers.filter(|workers| *workers > 0).ok_or(USAGE)?;
            }
            "common" | "e2e" => arg.clone_into(&mut options.package),
            name if name.starts_with("Test") => options.only.push(arg.clone()),
            _ => return Err(format!("unknown argument {arg}\n{USAGE}")),
        }
    }
    Ok(options)
}

/// Builds the tests and lays out what they look for.
fn prepare(tools: &Tools, ours: &Path, package: &str, known: Known) -> Result<Suite, String> {
    let built = tools.suite(package)?;
    let work = tools.work.join("suite").join(package);
    let _ = fs::remove_dir_all(&work);
    let bin = work.join("bin");
    let error = |e: std::io::Error| format!("{}: {e}", work.display());
    fs::create_dir_all(&bin).map_err(error)?;
    symlink(ours, bin.join("etcd")).map_err(error)?;
    symlink(built.last_release, bin.join("etcd-last-release")).map_err(error)?;
    for name in ["etcdctl", "etcdutl"] {
        symlink(tools.bin(name), bin.join(name)).map_err(error)?;
    }
    symlink(built.module.join("fixtures"), work.join("fixtures")).map_err(error)?;
    Ok(Suite {
        binary: built.tests,
        alone: built.alone,
        bin,
        work,
        package: package.to_owned(),
        known,
        with_network: false,
    })
}

impl Suite {
    fn has_network(&self) -> bool {
        let probe = process::run(Command::new(&self.alone).arg("-probe"), b"", LIMIT);
        probe.is_ok_and(|output| output.code == 0)
    }

    /// What to run, what takes long first. A name may have a pattern of subtests behind a slash.
    fn names(&self, only: &[String]) -> Result<Vec<String>, String> {
        if !only.is_empty() {
            return Ok(only.to_vec());
        }
        let folder = self.folder("list")?;
        let mut list = Command::new(&self.binary);
        list.current_dir(&folder).args(["-test.list", "^Test"]);
        let text = process::run(&mut list, b"", LIMIT)?.success("-test.list")?;
        let long = LONG.map(|name| name.split('/').next().unwrap_or(name));
        let names: Vec<&str> = text.lines().filter(|line| line.starts_with("Test")).collect();
        let first = LONG.iter().zip(long).filter(|(_, name)| names.contains(name));
        let rest = names.iter().filter(|name| !long.contains(*name));
        Ok(first.map(|(name, _)| name).chain(rest).map(ToString::to_string).collect())
    }

    /// A working directory from which the fixtures are at `../fixtures`.
    fn folder(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.work.join(name);
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(folder)
    }

    /// A directory with a short name, since the tests have sockets in it.
    fn temporary() -> Result<PathBuf, String> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("suite-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(folder)
    }

    fn run_all(&self, names: Vec<String>, workers: usize) -> BTreeMap<String, Report> {
        let names = Mutex::new(names.into_iter());
        let reports = Mutex::new(BTreeMap::new());
        let worker = || {
            loop {
                let next = names.lock().map_or(None, |mut names| names.next());
                let Some(name) = next else { break };
                let report = self.run_one(&name);
                if let Ok(mut reports) = reports.lock() {
                    reports.insert(name, report);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(worker);
            }
        });
        reports.into_inner().unwrap_or_default()
    }

    fn run_one(&self, name: &str) -> Report {
        let begun = Instant::now();
        let result = self.try_one(name);
        let report = result.unwrap_or_else(|why| Report::lost(name, &why));
        let unexpected = report.unexpected(&self.known).count();
        let verdict = if unexpected == 0 { "ok" } else { "FAIL" };
        eprintln!("suite: {:5.1} s {verdict} {name}", begun.elapsed().as_secs_f64());
        report
    }

    fn try_one(&self, name: &str) -> Result<Report, String> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric();
        let plain = name.chars().map(|letter| if is_plain(letter) { letter } else { '-' });
        let folder = self.folder(&plain.collect::<String>())?;
        let temporary = Self::temporary()?;
        let exact: Vec<String> = name.split('/').map(|part| format!("^{part}$")).collect();
        let mut command = Command::new(&self.alone);
        if self.with_network {
            command.arg("-network");
        }
        command.arg(&self.binary).arg("-bin-dir").arg(&self.bin);
        command.args(["-test.v=test2json", "-test.run", &exact.join("/")]);
        command.arg(format!("-test.timeout={}s", LIMIT.as_secs()));
        if let Some(pattern) = self.known.not_run() {
            command.args(["-test.skip", &pattern]);
        }
        command.current_dir(&folder).env("TMPDIR", &temporary);
        let output = process::run(&mut command, b"", LIMIT + Duration::from_secs(30));
        let _ = fs::remove_dir_all(&temporary);
        let output = output?;
        let log = folder.with_extension("log");
        let _ = fs::rename(&log, folder.with_extension("first.log"));
        let text = [output.stdout, output.stderr].concat();
        fs::write(&log, &text).map_err(|e| format!("{}: {e}", log.display()))?;
        let _ = fs::remove_dir_all(&folder);
        Ok(Report::read(name, &String::from_utf8_lossy(&text), output.code, log))
    }

    /// Most tests have deadlines of a few seconds. What failed beside others gets a second chance alone, and a line.
    fn run_again(&self, reports: &mut BTreeMap<String, Report>) {
        for (name, report) in reports {
            if report.unexpected(&self.known).next().is_some() {
                println!("suite: {name} failed beside others; again, alone:\n{}", report.why());
                *report = self.run_one(name);
            }
        }
    }

    fn judge(&self, reports: &BTreeMap<String, Report>, is_whole: bool, outcome: &mut Outcome) {
        for report in reports.values() {
            let mut unexpected: BTreeMap<&str, String> = report.unexpected(&self.known).collect();
            for (leaf, verdict) in &report.leaves {
                match unexpected.remove(leaf.as_str()) {
                    Some(why) => outcome.case(leaf, Err(why)),
                    None if *verdict == Verdict::Pass => outcome.case(leaf, Ok(())),
                    None => {}
                }
            }
            for (name, why) in unexpected {
                outcome.case(name, Err(why));
            }
        }
        let leaves = || reports.values().flat_map(|report| report.leaves.keys());
        for line in self.known.lines().filter(|_| is_whole) {
            if line.is_run && !leaves().any(|leaf| line.matches(leaf)) {
                let why = format!("no such test ran: take it off {}.txt", self.package);
                outcome.case(&line.pattern, Err(why));
            }
        }
    }

    fn listed(&self, reports: &BTreeMap<String, Report>) -> usize {
        let leaves = reports.values().flat_map(|report| &report.leaves);
        leaves.filter(|(leaf, found)| **found == Verdict::Fail && self.known.has(leaf)).count()
    }
}
