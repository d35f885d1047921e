//! `sim`: runs seeds and says what came of it. `cargo xtask sim` builds and calls it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "reports for people to read")]

mod options;
mod summary;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use options::Options;
use sim::plan::Plan;
use sim::rng::Rng;
use sim::run::{self, Report};
use sim::shrink;
use summary::Summary;

/// How often the progress line is written.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = match options::parse(&arguments) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{}", options::USAGE);
            return ExitCode::FAILURE;
        }
    };
    // A panic of a member is a finding, which the report tells.
    std::panic::set_hook(Box::new(|_| {}));
    let is_good = match &options {
        Options { is_quiet: true, .. } => quiet_hour(&options),
        Options { shrinks: true, .. } => shrink(&options),
        _ => run_all(&options),
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells what an hour costs in which three members do nothing but live; true if nothing is wrong.
fn quiet_hour(options: &Options) -> bool {
    let mut rng = Rng::new(options.first);
    let plan = Plan::quiet(&mut rng);
    let (begin, cpu) = (Instant::now(), cpu_time());
    let report = run::run_plan(options.first, plan, rng, &options.run);
    let took = cpu_time().zip(cpu).map_or(begin.elapsed(), |(end, begin)| end - begin);
    report.violations.iter().for_each(|violation| println!("{violation}"));
    let (hours, seconds) = (report.time as f64 / 3.6e12, took.as_secs_f64());
    println!("{hours:.2} quiet hours of three members took {seconds:.2} s of one processor");
    report.violations.is_empty()
}

/// For how long this thread has had a processor, where the system tells.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Tells the smallest run of the seed that fails; true if there is one.
fn shrink(options: &Options) -> bool {
    let seed = options.first;
    let Some(shrunk) = shrink::shrink(seed, &options.run) else {
        println!("seed {seed} does not fail");
        return false;
    };
    let report = &shrunk.report;
    report.violations.iter().for_each(|violation| println!("seed {seed}: {violation}"));
    let (faults, calls) = (report.faults_struck.len(), report.calls_made.len());
    println!("{faults} faults and {calls} calls are left after {} runs", shrunk.runs);
    println!("{}", repeat(options, seed, &shrunk.options));
    true
}

/// The line that repeats a run.
fn repeat(options: &Options, seed: u64, run: &run::Options) -> String {
    let mut line = format!("repeat with: cargo xtask sim --seed {seed}");
    if let Some(faults) = &run.mask.faults {
        line.push_str(&format!(" --faults {faults}"));
    }
    if let Some(calls) = &run.mask.calls {
        line.push_str(&format!(" --calls {calls}"));
    }
    if !run.has_rest {
        line.push_str(" --no-rest");
    }
    if let Some(mutant) = &options.mutant {
        line.push_str(&format!(" --mutant {mutant}"));
    }
    line
}

/// Runs the seeds, each on one thread from its begin to its end.
fn run_all(options: &Options) -> bool {
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let (send, receive) = mpsc::channel();
    let mut summary = Summary::default();
    thread::scope(|scope| {
        for _ in 0..options.threads {
            let (send, next, is_over) = (send.clone(), &next, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed)
                    && options.limit.is_none_or(|limit| begin.elapsed() < limit)
                    && let number = next.fetch_add(1, Ordering::Relaxed)
                    && number < options.seeds
                    && let report = run::run(options.first + number, &options.run)
                {
                    if options.stops && !report.violations.is_empty() {
                        is_over.store(true, Ordering::Relaxed);
                    }
                    if send.send(report).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut told = begin;
        for report in receive {
            tell(options, &report);
            summary.add(&report);
            if told.elapsed() > TELL_INTERVAL {
                told = Instant::now();
                let (passed, failed) = (summary.passed, summary.failed);
                eprintln!("{passed} passed, {failed} failed, seed {}", report.seed);
            }
        }
    });
    summary.expect_all_kinds();
    summary.print(begin.elapsed());
    summary.failed == 0
}

fn tell(options: &Options, report: &Report) {
    let seed = report.seed;
    report.story.iter().for_each(|line| println!("{line}"));
    for violation in &report.violations {
        println!("seed {seed}: {violation}");
    }
    if !report.violations.is_empty() {
        println!("{}", repeat(options, seed, &options.run));
    }
    if options.traces {
        println!("seed {seed}: trace {:016x} of {} steps", report.trace, report.steps);
    }
}
