//! Judges the inputs of many seeds, or one input, and prints what it has found.

#![expect(clippy::print_stdout, reason = "reports for people to read")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http2_fuzz::allowed::RULES;
use http2_fuzz::{Tally, generate, judge, shrink, trip};

const USAGE: &str =
    "usage: http2-fuzz [--executions N] [--first-seed F] [--threads T] [--trips N] | --input HEX";
/// Seeds that a thread takes at a time.
const TURN: u64 = 10_000;
/// With so many executions, each rule must have been needed.
const MANY: u64 = 10_000_000;
/// Failures that are told in full.
const TOLD_MAX: u64 = 20;

struct Options {
    executions: u64,
    first_seed: u64,
    threads: u64,
    /// In so many executions there is one round trip.
    trips: u64,
    input: Option<Vec<u8>>,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            println!("{why}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let is_good = match &options.input {
        Some(input) => one(input),
        None => many(&options),
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options =
        Options { executions: 1_000_000, first_seed: 0, threads: 2, trips: 200, input: None };
    let mut arguments = arguments;
    while let Some(word) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{value} is no number"));
        match word.as_str() {
            "--executions" => options.executions = number()?,
            "--first-seed" => options.first_seed = number()?,
            "--threads" => options.threads = number()?.max(1),
            "--trips" => options.trips = number()?.max(1),
            "--input" => options.input = Some(from_hex(&value)?),
            _ => return Err(format!("no option {word}")),
        }
    }
    Ok(options)
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect::<Option<_>>().ok_or_else(|| "not hexadecimal".to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn one(input: &[u8]) -> bool {
    let mut tally = Tally::default();
    let result = judge(input, &mut tally);
    match &result {
        Ok(()) => println!("{tally:?}"),
        Err(disagreement) => println!("{disagreement}\nshrunk: {}", hex(&shrink(input))),
    }
    result.is_ok()
}

struct Run {
    next: AtomicU64,
    end: u64,
    done: AtomicU64,
    failed: AtomicU64,
    /// Calls of round trips, and in how many executions there is one.
    calls: AtomicU64,
    trips: u64,
    sum: Mutex<Tally>,
}

fn many(options: &Options) -> bool {
    let run = Run {
        next: AtomicU64::new(options.first_seed),
        end: options.first_seed.saturating_add(options.executions),
        done: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        calls: AtomicU64::new(0),
        trips: options.trips,
        sum: Mutex::new(Tally::default()),
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| work(&run));
        }
        let mut told = begun;
        while run.done.load(Ordering::Relaxed) < options.executions {
            std::thread::sleep(Duration::from_millis(20));
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                println!("{}", progress(&run, begun));
            }
        }
    });
    let failed = run.failed.load(Ordering::Relaxed);
    println!("{}", progress(&run, begun));
    println!("{} calls of round trips", run.calls.load(Ordering::Relaxed));
    let sum = run.sum.into_inner().unwrap_or_default();
    let silent = report(&sum);
    println!("{} passed, {failed} failed", sum.executions - failed);
    failed == 0 && (silent == 0 || sum.executions < MANY)
}

fn progress(run: &Run, begun: Instant) -> String {
    let done = run.done.load(Ordering::Relaxed);
    let rate = done as f64 / begun.elapsed().as_secs_f64().max(0.001);
    format!("{done} executions, {rate:.0} a second, {} failed", run.failed.load(Ordering::Relaxed))
}

fn work(run: &Run) {
    let mut tally = Tally::default();
    let mut input = Vec::new();
    loop {
        let first = run.next.fetch_add(TURN, Ordering::Relaxed);
        let last = run.end.min(first.saturating_add(TURN));
        if first >= last {
            break;
        }
        for seed in first..last {
            if seed % run.trips == 0 {
                travel(run, seed, &mut tally);
                continue;
            }
            generate(seed, &mut input);
            let result = catch_unwind(AssertUnwindSafe(|| judge(&input, &mut tally)));
            let what = match result {
                Ok(Ok(())) => continue,
                Ok(Err(disagreement)) => disagreement.to_string(),
                Err(_) => "a panic".to_owned(),
            };
            if run.failed.fetch_add(1, Ordering::Relaxed) < TOLD_MAX {
                let shrunk = catch_unwind(|| shrink(&input)).unwrap_or_else(|_| input.clone());
                let short = judge_quietly(&shrunk).unwrap_or(what);
                println!("seed {seed}: {short}\n  --input {}", hex(&shrunk));
            }
        }
        run.done.fetch_add(last - first, Ordering::Relaxed);
    }
    if let Ok(mut sum) = run.sum.lock() {
        sum.add(&tally);
    }
}

/// The round trip of a seed.
fn travel(run: &Run, seed: u64, tally: &mut Tally) {
    tally.executions += 1;
    let why = match catch_unwind(|| trip(seed)) {
        Ok(Ok(calls)) => {
            run.calls.fetch_add(calls as u64, Ordering::Relaxed);
            return;
        }
        Ok(Err(why)) => why,
        Err(_) => "a panic".to_owned(),
    };
    if run.failed.fetch_add(1, Ordering::Relaxed) < TOLD_MAX {
        println!("seed {seed}, a round trip: {why}");
    }
}

fn judge_quietly(input: &[u8]) -> Option<String> {
    let result = catch_unwind(AssertUnwindSafe(|| judge(input, &mut Tally::default())));
    result.ok()?.err().map(|disagreement| disagreement.to_string())
}

/// Prints what has happened how often; the number of rules that nothing needed.
fn report(sum: &Tally) -> usize {
    let Tally { frames, facts, stream_errors, connection_errors, agreed, .. } = sum;
    println!(
        "{frames} frames, {facts} facts, {stream_errors} errors of streams, {connection_errors} of connections; \
         {agreed} inputs agreed on to their end"
    );
    let mut silent = 0;
    for (at, rule) in RULES.iter().enumerate() {
        let count = sum.allowed.get(at).copied().unwrap_or(0);
        println!("allowed {count:>10} {} ({} is stricter)", rule.name, rule.stricter);
        if count == 0 {
            silent += 1;
        }
    }
    if silent > 0 {
        println!("{silent} rules were not needed");
    }
    silent
}
