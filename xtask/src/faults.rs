//! `cargo xtask faults`: clusters of real processes against kills, pauses, cut, slow and lossy links, and failing disks.
//!
//! Members talk to each other through proxies (`network.rs`). While a fault strikes, clients of every member write and
//! read, and watchers watch; every call is recorded with its begin, its end and its answer, or that there was none. In
//! the end all members must serve, agree, and everything that was said must fit together (`judge.rs`).

mod calls;
mod cluster;
mod disk;
mod gap;
mod history;
mod judge;
mod load;
mod network;
mod recorded;
mod stories;
mod story;
mod watchers;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use cluster::Cluster;
use stories::{KINDS, Kind};
use story::{Report, Story};

use crate::conformance::{Outcome, our_binary, tools};

const USAGE: &str =
    "usage: cargo xtask faults [--ours PATH] [--story NAME]... [--times N] [--seed N] [--keep]
       cargo xtask faults --judge FILE";
/// Beside the stories: what the checker says of histories with a known verdict, and how long a dead leader is missed.
const RECORDED: &str = "recorded";
const GAP: &str = "gap";
/// Stories told at a time: most of each is waiting.
const AT_A_TIME: usize = 2;
/// After so long a story has failed, whatever it waits for.
const STORY_LIMIT: Duration = Duration::from_secs(240);
/// Less than that says nothing.
const ANSWERS_MIN: usize = 300;
const EVENTS_MIN: usize = 800;

#[derive(Debug)]
struct Options {
    ours: Option<PathBuf>,
    kinds: Vec<Kind>,
    recorded: bool,
    gap: bool,
    /// How often a leader is killed to measure the gap.
    times: usize,
    seed: u64,
    keep: bool,
    /// Only this history is to be judged.
    judge: Option<PathBuf>,
}

/// Tells the stories, and prints what came of each.
///
/// # Errors
/// A wrong argument, or a server that cannot be built.
pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    let options = parse(args)?;
    let begun = Instant::now();
    let mut outcome = Outcome::default();
    if let Some(path) = &options.judge {
        outcome.case("history", judge_file(path));
    } else {
        run_all(&options, &mut outcome)?;
    }
    for what in &outcome.skipped {
        println!("skipped: {what}");
    }
    println!(
        "faults: {} passed, {} failed in {:.0} s",
        outcome.passed,
        outcome.failed,
        begun.elapsed().as_secs_f64()
    );
    Ok(outcome)
}

fn run_all(options: &Options, outcome: &mut Outcome) -> Result<(), String> {
    if options.recorded {
        match recorded::judge_all() {
            Ok(judged) => judged.into_iter().for_each(|(name, result)| outcome.case(&name, result)),
            Err(why) => outcome.skipped.push(format!("{RECORDED}: {why}")),
        }
    }
    if options.kinds.is_empty() && !options.gap {
        return Ok(());
    }
    let ours = our_binary(options.ours.clone())?;
    let work = crate::root().join("target/faults");
    // Held until the end: another run would take away our members' directories.
    let lock = fs::File::create(work.with_extension("lock"));
    let lock = lock.map_err(|e| format!("{}: {e}", work.display()))?;
    lock.try_lock().map_err(|e| format!("is there another run? {}: {e}", work.display()))?;
    let _ = fs::remove_dir_all(&work);
    tell_all(options, &ours, &work, outcome)?;
    if options.gap {
        measure_gap(options, &ours, &work.join(GAP), outcome);
    }
    Ok(())
}

fn tell_all(
    options: &Options,
    ours: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let (kinds, skipped) = possible(&options.kinds);
    outcome.skipped.extend(skipped);
    let next = Mutex::new(kinds.into_iter());
    let results = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let kind = next.lock().map_or(None, |mut next| next.next());
            let Some(kind) = kind else { break };
            let begun = Instant::now();
            let folder = work.join(kind.name);
            let result = tell(kind, ours, &folder, options).and_then(|report| {
                let seconds = begun.elapsed().as_secs_f64();
                println!("faults: {} {seconds:.0} s: {}", kind.name, line(&report));
                if report.verdict.breaches.is_empty() { Ok(()) } else { Err(breaches(&report)) }
            });
            if result.is_ok() && !options.keep {
                let _ = fs::remove_dir_all(&folder);
            }
            if let Ok(mut results) = results.lock() {
                results.push((kind.name, result));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..AT_A_TIME {
            scope.spawn(worker);
        }
        worker();
    });
    for (name, result) in results.into_inner().map_err(|_| "a story panicked")? {
        let why = |why| format!("{why} (seed {}, see {})", options.seed, work.join(name).display());
        outcome.case(name, result.map_err(why));
    }
    Ok(())
}

/// The gap in writes behind each killed leader, with etcd and with ours.
fn measure_gap(options: &Options, ours: &Path, folder: &Path, outcome: &mut Outcome) {
    let Ok(tools) = tools::prepare(&mut outcome.skipped) else { return };
    let etcd = tools.bin("etcd");
    let measured = runtime()
        .and_then(|runtime| runtime.block_on(gap::measure(&etcd, ours, folder, options.times)));
    if let Ok(gaps) = &measured {
        println!("gap in writes after SIGKILL of the leader:\n{}", gaps.table());
    }
    outcome.case(GAP, measured.and_then(|gaps| gaps.verdict()));
    if !options.keep {
        let _ = fs::remove_dir_all(folder);
    }
}

fn judge_file(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let verdict = judge::judge(&history::History::parse(&text)?);
    let report = Report { verdict, revisions: 0 };
    println!("{}", line(&report));
    if report.verdict.breaches.is_empty() { Ok(()) } else { Err(breaches(&report)) }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    // The proxies must keep pace with the members even while the clients are busy.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|e| e.to_string())
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        ours: None,
        kinds: Vec::new(),
        recorded: false,
        gap: false,
        times: 3,
        seed: 1,
        keep: false,
        judge: None,
    };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--keep" => options.keep = true,
            "--ours" => options.ours = Some(PathBuf::from(value()?)),
            "--judge" => options.judge = Some(PathBuf::from(value()?)),
            "--seed" => options.seed = value()?.parse().map_err(|e| format!("--seed: {e}"))?,
            "--times" => options.times = value()?.parse().map_err(|e| format!("--times: {e}"))?,
            "--story" => match value()?.as_str() {
                RECORDED => options.recorded = true,
                GAP => options.gap = true,
                name => options.kinds.push(find(name)?),
            },
            _ => return Err(format!("unknown argument {arg}\n{USAGE}")),
        }
    }
    if options.kinds.is_empty() && !options.recorded && !options.gap {
        options.kinds = KINDS.to_vec();
        (options.recorded, options.gap) = (true, true);
    }
    Ok(options)
}

fn find(name: &str) -> Result<Kind, String> {
    let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    let kind = KINDS.iter().find(|kind| kind.name == name);
    kind.copied().ok_or_else(|| {
        format!("no story {name}; there are {}, {RECORDED}, {GAP}", names.join(", "))
    })
}

/// The stories that can be told here, and why others cannot.
fn possible(kinds: &[Kind]) -> (Vec<Kind>, Vec<String>) {
    let missing = if kinds.iter().any(|kind| kind.needs_disk) { disk::missing() } else { None };
    let (mut possible, mut skipped) = (Vec::new(), Vec::new());
    for kind in kinds {
        match &missing {
            Some(why) if kind.needs_disk => skipped.push(format!("{}: {why}", kind.name)),
            _ => possible.push(*kind),
        }
    }
    (possible, skipped)
}

fn tell(kind: Kind, ours: &Path, folder: &Path, options: &Options) -> Result<Report, String> {
    let seed = options.seed;
    let telling = async {
        let flags = Story::flags();
        let cluster = Cluster::new(ours, folder, kind.members, flags, Some(seed));
        let mut story = Story::begin(cluster, folder, &kind, seed).await?;
        kind.tell(&mut story).await?;
        story.end(options.keep).await
    };
    let told = runtime()?.block_on(async { tokio::time::timeout(STORY_LIMIT, telling).await });
    let report = told.map_err(|_| format!("not over after {STORY_LIMIT:?}"))??;
    let verdict = &report.verdict;
    if verdict.answered < ANSWERS_MIN || verdict.events < EVENTS_MIN {
        return Err(format!("too little happened to mean anything: {}", line(&report)));
    }
    Ok(report)
}

fn line(report: &Report) -> String {
    let Report { verdict, revisions } = report;
    format!(
        "{} calls answered, {} unknown, {revisions} revisions, {} events heard, {} breaches",
        verdict.answered,
        verdict.unknown,
        verdict.events,
        verdict.breaches.len()
    )
}

fn breaches(report: &Report) -> String {
    const SHOWN: usize = 5;
    let all = &report.verdict.breaches;
    format!("{} breaches: {}", all.len(), all[..all.len().min(SHOWN)].join("\n  "))
}
