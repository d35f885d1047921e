//! `cargo xtask robustness`: etcd's robustness suite (`go.etcd.io/etcd/tests/v3/robustness`), as it is, against our server
//! built with the feature `failpoints`.
//!
//! Each scenario starts a cluster, puts clients to work, strikes at a failpoint that the suite draws from those that the
//! server lists, and then judges all that the clients have seen by the logs of the members. A scenario counts only if its
//! failpoint was struck and the cluster was healthy afterwards: without an answer on the port of gofail the suite would
//! skip in silence, and here that is a failure.
//!
//! The suite draws; so before its rounds each point of its pool is struck once, see [`points`].

mod points;
mod report;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::conformance::Outcome;
use crate::conformance::process;
use crate::conformance::tools::{self, Suite};

use report::Scenario;

const USAGE: &str = "usage: cargo xtask robustness [--ours PATH] [--rounds N] [--scenario RE]";

/// For a round; one takes two minutes.
const ROUND_LIMIT: Duration = Duration::from_secs(30 * 60);

/// How many scenarios a round has: four loads on clusters of one and of three, and the regressions.
const SCENARIOS: usize = 8 + 10;

/// How often a scenario is tried that ends without a verdict.
const ATTEMPTS: usize = 3;

struct Options {
    ours: Option<PathBuf>,
    rounds: usize,
    /// Which scenarios, as `-test.run` takes it behind the test's name.
    scenario: Option<String>,
}

/// What a round needs.
struct Bench {
    suite: Suite,
    work: PathBuf,
    has_network: bool,
}

/// Builds the suite and the server, runs the rounds and prints the report.
///
/// # Errors
/// A wrong argument, or a machine on which they cannot be built.
pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    let options = parse(args)?;
    let mut outcome = Outcome::default();
    let tools = tools::prepare(&mut outcome.skipped)?;
    let suite = tools.suite("robustness")?;
    let ours = match options.ours {
        Some(ours) => ours.canonicalize().map_err(|e| format!("--ours {}: {e}", ours.display()))?,
        None => build()?,
    };
    let work = tools.work.join("robustness");
    let _ = fs::remove_dir_all(&work);
    let bench = Bench { has_network: has_network(&suite), suite, work };
    bench.lay_out(&ours, [tools.bin("etcdctl"), tools.bin("etcdutl")])?;
    let begun = Instant::now();
    if options.scenario.is_none() {
        points::run(&ours, &bench.work, &mut outcome)?;
        println!("points: {} passed, {} failed", outcome.passed, outcome.failed);
    }
    for round in 1..=options.rounds {
        let mut scenarios = bench.round(&round.to_string(), options.scenario.as_deref())?;
        for scenario in &mut scenarios {
            bench.again_if_undecided(round, scenario)?;
            println!("round {round}: {scenario}");
            outcome.case(&scenario.name, scenario.verdict());
        }
        if options.scenario.is_none() && scenarios.len() != SCENARIOS {
            let why = format!("{} scenarios instead of {SCENARIOS}", scenarios.len());
            outcome.case(&format!("round {round}"), Err(why));
        } else if scenarios.is_empty() {
            outcome.case(&format!("round {round}"), Err("no such scenario".to_owned()));
        }
    }
    for what in &outcome.skipped {
        println!("skipped: {what}");
    }
    println!(
        "robustness: {} passed, {} failed ({} rounds in {:.0} s)",
        outcome.passed,
        outcome.failed,
        options.rounds,
        begun.elapsed().as_secs_f64()
    );
    Ok(outcome)
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options { ours: None, rounds: 1, scenario: None };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let value = rest.next().ok_or(USAGE)?;
        match arg.as_str() {
            "--ours" => options.ours = Some(value.into()),
            "--rounds" => options.rounds = value.parse().map_err(|_| USAGE)?,
            "--scenario" => options.scenario = Some(value.clone()),
            _ => return Err(format!("unknown argument {arg}\n{USAGE}")),
        }
    }
    Ok(options)
}

/// The server with failpoints, in a place of its own. It shares all compiled crates but the upper ones with the normal
/// server, which has its place in the target folder back afterwards.
fn build() -> Result<PathBuf, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = crate::root().join(target.as_deref().unwrap_or(Path::new("target")));
    let (normal, ours) = (target.join("release/etcd"), target.join("robustness/etcd"));
    let had_normal = normal.exists();
    cargo(&["--features", "failpoints"])?;
    let folder = target.join("robustness");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    fs::copy(&normal, &ours).map_err(|e| format!("{}: {e}", ours.display()))?;
    if had_normal {
        cargo(&[])?;
    }
    Ok(ours)
}

fn cargo(features: &[&str]) -> Result<(), String> {
    let begun = Instant::now();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::root()).args(["build", "--release", "--bin", "etcd"]).args(features);
    process::run(&mut cargo, b"", Duration::from_secs(3600))?.success("cargo build")?;
    eprintln!("robustness: built {features:?} in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// The suite's ports are fixed, so it has a network of its own where the machine permits it.
fn has_network(suite: &Suite) -> bool {
    let probe = process::run(Command::new(&suite.alone).arg("-probe"), b"", ROUND_LIMIT);
    probe.is_ok_and(|output| output.code == 0)
}

impl Bench {
    fn bin(&self) -> PathBuf {
        self.work.join("bin")
    }

    /// The folder that the suite is told to find servers and tools in. Without a server of the release before in it,
    /// there are no clusters of two releases and no downgrades.
    fn lay_out(&self, ours: &Path, tools: [PathBuf; 2]) -> Result<(), String> {
        let error = |e: std::io::Error| format!("{}: {e}", self.work.display());
        fs::create_dir_all(self.bin()).map_err(error)?;
        symlink(ours, self.bin().join("etcd")).map_err(error)?;
        for tool in tools {
            let name = tool.file_name().ok_or("a tool without a name")?;
            symlink(&tool, self.bin().join(name)).map_err(error)?;
        }
        // The suite looks for certificates at ../fixtures.
        symlink(self.suite.module.join("fixtures"), self.work.join("fixtures")).map_err(error)
    }

    fn again_if_undecided(&self, round: usize, scenario: &mut Scenario) -> Result<(), String> {
        for attempt in 2..=ATTEMPTS {
            if !scenario.is_undecided() {
                break;
            }
            println!("round {round}: {scenario}: no verdict; again");
            let levels: Vec<String> =
                scenario.name.split('/').map(|level| format!("^{level}$")).collect();
            let name = format!("{round}-{}-{attempt}", scenario.name.replace('/', "-"));
            if let Some(again) = self.round(&name, Some(&levels.join("/")))?.pop() {
                *scenario = again;
            }
        }
        Ok(())
    }

    /// Runs each scenario once. The log and what the suite keeps of a failure stay in the work folder.
    fn round(&self, round: &str, scenario: Option<&str>) -> Result<Vec<Scenario>, String> {
        let folder = self.work.join(format!("round-{round}"));
        let (temporary, results) = (folder.join("tmp"), folder.join("results"));
        for folder in [&temporary, &results] {
            fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        let pattern = match scenario {
            Some(scenario) => format!("^TestRobustness/{scenario}"),
            None => "^TestRobustness".to_owned(),
        };
        let mut command = Command::new(&self.suite.alone);
        if self.has_network {
            command.arg("-network");
        }
        command.arg(&self.suite.tests).arg("-bin-dir").arg(self.bin());
        command.args(["-test.v", "-test.run", &pattern]);
        command.arg(format!("-test.timeout={}s", ROUND_LIMIT.as_secs()));
        command.current_dir(&folder).env("TMPDIR", &temporary).env("RESULTS_DIR", &results);
        let output = process::run(&mut command, b"", ROUND_LIMIT + Duration::from_secs(30))?;
        let text = [output.stdout, output.stderr].concat();
        let log = folder.with_extension("log");
        fs::write(&log, &text).map_err(|e| format!("{}: {e}", log.display()))?;
        let scenarios = report::read(&String::from_utf8_lossy(&text));
        let _ = fs::remove_dir_all(&temporary);
        if scenarios.iter().all(|scenario| scenario.verdict().is_ok()) && output.code == 0 {
            let _ = fs::remove_dir_all(&folder);
        } else {
            println!("round {round}: see {} and {}", log.display(), results.display());
        }
        if output.code != 0 && scenarios.iter().all(|scenario| scenario.verdict().is_ok()) {
            return Err(format!("the suite ended with {}, see {}", output.code, log.display()));
        }
        Ok(scenarios)
    }
}
