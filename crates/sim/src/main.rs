//! `sim`: runs seeds and says what came of it. `cargo xtask sim` builds and calls it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "reports for people to read")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sim::coverage;
use sim::run::{self, Report};

const USAGE: &str = "usage: sim [--seed S] [--seeds N] [--first-seed F] [--minutes M] [--story]
  --seed S         run one seed, and print its checksum
  --seeds N        run N seeds (100), from the first on
  --first-seed F   begin there (1)
  --minutes M      begin no further seed after that time
  --story          with --seed: tell what happens";

#[derive(Debug)]
struct Options {
    first: u64,
    seeds: u64,
    limit: Option<Duration>,
    tell: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = match parse(&arguments) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    // A panic of a member is a finding, which the report tells.
    std::panic::set_hook(Box::new(|_| {}));
    if run_all(&options) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options { first: 1, seeds: 100, limit: None, tell: false };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let value = words.next().ok_or(format!("{word} needs a number"))?;
            value.parse().map_err(|_| format!("{value} is no number"))
        };
        match word.as_str() {
            "--seed" => (options.first, options.seeds) = (number()?, 1),
            "--seeds" => options.seeds = number()?,
            "--first-seed" => options.first = number()?,
            "--minutes" => {
                options.limit = Some(Duration::from_secs(number()? * 60));
                options.seeds = u64::MAX / 2;
            }
            "--story" => options.tell = true,
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(options)
}

/// What all runs came to.
#[derive(Debug, Default)]
struct Summary {
    passed: u64,
    failed: u64,
    nanoseconds: u128,
    steps: u64,
    answered: u64,
    unknown: u64,
    refused: u64,
    events: u64,
    states: u64,
    too_hard: u64,
    counts: BTreeMap<&'static str, u64>,
}

fn run_all(options: &Options) -> bool {
    let begin = Instant::now();
    let mut told = begin;
    let mut summary = Summary::default();
    for seed in options.first..options.first.saturating_add(options.seeds) {
        if options.limit.is_some_and(|limit| begin.elapsed() >= limit) {
            break;
        }
        let report = run::run(seed, options.tell);
        report.story.iter().for_each(|line| println!("{line}"));
        for violation in &report.violations {
            println!("seed {seed}: {violation}");
        }
        if !report.violations.is_empty() {
            println!("repeat with: cargo xtask sim --seed {seed}");
        }
        if options.seeds == 1 {
            println!("seed {seed}: trace {:016x} of {} steps", report.trace, report.steps);
        }
        summary.add(&report);
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            let (passed, failed) = (summary.passed, summary.failed);
            eprintln!("{passed} passed, {failed} failed, seed {seed}");
        }
    }
    if summary.passed + summary.failed >= coverage::SEEDS_MANY {
        for name in coverage::missing(&summary.counts) {
            println!("never happened: {name}");
            summary.failed += 1;
        }
    }
    summary.print(begin.elapsed());
    summary.failed == 0
}

impl Summary {
    fn add(&mut self, report: &Report) {
        let is_good = report.violations.is_empty();
        self.passed += u64::from(is_good);
        self.failed += u64::from(!is_good);
        self.nanoseconds += u128::from(report.time);
        self.steps += report.steps;
        self.answered += report.answered;
        self.unknown += report.unknown;
        self.refused += report.failed;
        self.events += report.events;
        self.states += report.states;
        self.too_hard += report.too_hard;
        for (name, count) in &report.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }

    fn print(&self, took: Duration) {
        for (name, count) in &self.counts {
            println!("{count:10} {name}");
        }
        let seeds = (self.passed + self.failed) as f64;
        println!("{:10.2} simulated hours", self.nanoseconds as f64 / 3.6e12);
        println!("{:10} steps", self.steps);
        println!("{:10} operations checked", self.answered);
        println!(
            "{:10} operations of unknown outcome, {} without effect",
            self.unknown, self.refused
        );
        println!("{:10} watch events checked", self.events);
        println!("{:10} states compared", self.states);
        println!("{:10} histories too hard to judge", self.too_hard);
        println!("{:10.2} seeds a second", seeds / took.as_secs_f64().max(1e-9));
        println!("{} passed, {} failed", self.passed, self.failed);
    }
}
