//! `cargo xtask suite`: etcd's own tests (`go.etcd.io/etcd/tests/v3`, built with the tag `e2e`) against our server.
//!
//! The tests start clusters of one and of three members and drive them with etcdctl: each with the official one, and those that
//! do not take long with ours as well. Where they ask for "the last release", members of etcd 3.6 stand beside ours. What cannot
//! pass yet is in `conformance/suite/<package>.txt`, with a
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
use crate::conformance::{Outcome, our_binary, our_tool};

use known::Known;
use report::{Report, Verdict};

const USAGE: &str = "usage: cargo xtask suite [--ours PATH] [--etcdctl official|ours|PATH] [--workers N] [--list FILE] [common|e2e] [TEST ...]";
/// Most of a test is waiting for processes and for etcd's intervals.
const WORKERS: usize = 4;
/// For one process, and so for all subtests of a test.
const LIMIT: Duration = Duration::from_secs(600);
/// Those that take longest, so that they begin first; in halves where one alone would outlast all others. Parts of a name
/// are patterns of Go's. In a run with both etcdctls these have the official one alone.
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

/// Which etcdctl the tests find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tool {
    Official,
    Ours,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Official => "official",
            Self::Ours => "ours",
        }
    }
}

/// A test with one of the etcdctls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    tool: Tool,
    test: String,
}

struct Options {
    ours: Option<PathBuf>,
    /// Both without the flag.
    tools: Vec<Tool>,
    /// Ours, if it is not the release build.
    etcdctl: Option<PathBuf>,
    workers: usize,
    list: Option<PathBuf>,
    package: String,
    only: Vec<String>,
}

/// What the workers share.
struct Suite {
    binary: PathBuf,
    alone: PathBuf,
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
    let ours = our_binary(options.ours.clone())?;
    let list = tools.source.join("suite").join(format!("{}.txt", options.package));
    let known = Known::read(options.list.as_ref().unwrap_or(&list))?;
    let mut suite = prepare(&tools, &options, &ours, known)?;
    suite.with_network = suite.has_network();
    let workers = if suite.with_network { options.workers } else { 1 };
    if !suite.with_network {
        println!("suite: no network of one's own on this machine, so one test after the other");
    }
    let jobs = suite.jobs(&options)?;
    let mut reports = suite.run_all(jobs, workers);
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
        tools: vec![Tool::Official, Tool::Ours],
        etcdctl: None,
        workers: WORKERS,
        list: None,
        package: "common".to_owned(),
        only: Vec::new(),
    };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--ours" => options.ours = Some(rest.next().ok_or(USAGE)?.into()),
            "--etcdctl" => match rest.next().ok_or(USAGE)?.as_str() {
                "official" => options.tools = vec![Tool::Official],
                "ours" => options.tools = vec![Tool::Ours],
                path => {
                    options.tools = vec![Tool::Ours];
                    options.etcdctl = Some(path.into());
                }
            },
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
fn prepare(tools: &Tools, options: &Options, ours: &Path, known: Known) -> Result<Suite, String> {
    let package = &options.package;
    let built = tools.suite(package)?;
    let work = tools.work.join("suite").join(package);
    let _ = fs::remove_dir_all(&work);
    let error = |e: std::io::Error| format!("{}: {e}", work.display());
    for tool in &options.tools {
        let etcdctl = match tool {
            Tool::Official => tools.bin("etcdctl"),
            Tool::Ours => our_etcdctl(options, ours)?,
        };
        let bin = work.join(tool.name());
        fs::create_dir_all(&bin).map_err(error)?;
        symlink(ours, bin.join("etcd")).map_err(error)?;
        symlink(&built.last_release, bin.join("etcd-last-release")).map_err(error)?;
        symlink(etcdctl, bin.join("etcdctl")).map_err(error)?;
        symlink(tools.bin("etcdutl"), bin.join("etcdutl")).map_err(error)?;
    }
    symlink(built.module.join("fixtures"), work.join("fixtures")).map_err(error)?;
    Ok(Suite {
        binary: built.tests,
        alone: built.alone,
        work,
        package: package.clone(),
        known,
        with_network: false,
    })
}

/// The one that was named, the one beside a named server, or the release build.
fn our_etcdctl(options: &Options, ours: &Path) -> Result<PathBuf, String> {
    match &options.etcdctl {
        Some(path) => path.canonicalize().map_err(|e| format!("--etcdctl {}: {e}", path.display())),
        None => our_tool("etcdctl", ours, options.ours.is_some()),
    }
}

impl Suite {
    fn has_network(&self) -> bool {
        let probe = process::run(Command::new(&self.alone).arg("-probe"), b"", LIMIT);
        probe.is_ok_and(|output| output.code == 0)
    }

    /// What to run, what takes long first. A name may have a pattern of subtests behind a slash.
    fn jobs(&self, options: &Options) -> Result<Vec<Job>, String> {
        let job = |tool: &Tool, test: &str| Job { tool: *tool, test: test.to_owned() };
        if !options.only.is_empty() {
            let with_each =
                |test: &String| options.tools.iter().map(|tool| job(tool, test)).collect();
            return Ok(options.only.iter().flat_map::<Vec<Job>, _>(with_each).collect());
        }
        let folder = self.folder("list")?;
        let mut list = Command::new(&self.binary);
        list.current_dir(&folder).args(["-test.list", "^Test"]);
        let text = process::run(&mut list, b"", LIMIT)?.success("-test.list")?;
        let long = LONG.map(|name| name.split('/').next().unwrap_or(name));
        let names: Vec<&str> = text.lines().filter(|line| line.starts_with("Test")).collect();
        let first = LONG.iter().zip(long).filter(|(_, name)| names.contains(name));
        let mut jobs: Vec<Job> = first.map(|(name, _)| job(&options.tools[0], name)).collect();
        for tool in &options.tools {
            let rest = names.iter().filter(|name| !long.contains(*name));
            jobs.extend(rest.map(|name| job(tool, name)));
        }
        Ok(jobs)
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

    fn run_all(&self, jobs: Vec<Job>, workers: usize) -> BTreeMap<Job, Report> {
        let jobs = Mutex::new(jobs.into_iter());
        let reports = Mutex::new(BTreeMap::new());
        let worker = || {
            loop {
                let next = jobs.lock().map_or(None, |mut jobs| jobs.next());
                let Some(job) = next else { break };
                let report = self.run_one(&job);
                if let Ok(mut reports) = reports.lock() {
                    reports.insert(job, report);
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

    fn run_one(&self, job: &Job) -> Report {
        let begun = Instant::now();
        let result = self.try_one(job);
        let report = result.unwrap_or_else(|why| Report::lost(&job.test, &why));
        let unexpected = report.unexpected(&self.known).count();
        let verdict = if unexpected == 0 { "ok" } else { "FAIL" };
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!("suite: {seconds:5.1} s {verdict} {}, etcdctl {}", job.test, job.tool.name());
        report
    }

    fn try_one(&self, job: &Job) -> Result<Report, String> {
        let name = job.test.as_str();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric();
        let plain = name.chars().map(|letter| if is_plain(letter) { letter } else { '-' });
        let folder = self.folder(&format!("{}-{}", job.tool.name(), plain.collect::<String>()))?;
        let temporary = Self::temporary()?;
        let exact: Vec<String> = name.split('/').map(|part| format!("^{part}$")).collect();
        let mut command = Command::new(&self.alone);
        if self.with_network {
            command.arg("-network");
        }
        command.arg(&self.binary).arg("-bin-dir");
        command.arg(self.work.join(job.tool.name()));
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
    fn run_again(&self, reports: &mut BTreeMap<Job, Report>) {
        for (job, report) in reports {
            if report.unexpected(&self.known).next().is_some() {
                println!(
                    "suite: {} failed beside others; again, alone:\n{}",
                    job.test,
                    report.why()
                );
                *report = self.run_one(job);
            }
        }
    }

    fn judge(&self, reports: &BTreeMap<Job, Report>, is_whole: bool, outcome: &mut Outcome) {
        for (job, report) in reports {
            let name = |test: &str| format!("{test}, etcdctl {}", job.tool.name());
            let mut unexpected: BTreeMap<&str, String> = report.unexpected(&self.known).collect();
            for (leaf, verdict) in &report.leaves {
                match unexpected.remove(leaf.as_str()) {
                    Some(why) => outcome.case(&name(leaf), Err(why)),
                    None if *verdict == Verdict::Pass => outcome.case(&name(leaf), Ok(())),
                    None => {}
                }
            }
            for (test, why) in unexpected {
                outcome.case(&name(test), Err(why));
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

    fn listed(&self, reports: &BTreeMap<Job, Report>) -> usize {
        let leaves = reports.values().flat_map(|report| &report.leaves);
        leaves.filter(|(leaf, found)| **found == Verdict::Fail && self.known.has(leaf)).count()
    }
}
