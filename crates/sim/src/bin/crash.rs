//! `crash`: lets the power fail at every operation of a disk. `cargo xtask crash` builds and calls it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "reports for people to read")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sim::crash::{self, ImageId, Look, Tally};

const USAGE: &str = "usage: crash [--images N] [--threads T] [--image ID]
  --images N       at least so many images (100000)
  --threads T      on so many threads (2)
  --image ID       one image, as a failure names it";

/// So many failures are told one by one.
const TOLD_MAX: usize = 20;

#[derive(Debug)]
struct Options {
    images: u64,
    threads: usize,
    image: Option<ImageId>,
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
    let is_good = match &options.image {
        Some(id) => repeat(id),
        None => {
            // A panic of a member is a finding, which the report tells.
            std::panic::set_hook(Box::new(|_| {}));
            run_all(&options)
        }
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options { images: 100_000, threads: 2, image: None };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{value} is no number"));
        match word.as_str() {
            "--images" => options.images = number()?,
            "--threads" => options.threads = number()?.max(1) as usize,
            "--image" => options.image = Some(value.parse()?),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(options)
}

fn repeat(id: &ImageId) -> bool {
    let outcome = match crash::repeat(id) {
        Ok((told, outcome)) => {
            println!("{told}");
            outcome
        }
        Err(why) => Err(why),
    };
    match &outcome {
        Ok(()) => println!("1 passed, 0 failed"),
        Err(why) => println!("{id}: {why}\n0 passed, 1 failed"),
    }
    outcome.is_ok()
}

/// What all threads have done.
#[derive(Debug, Default)]
struct Progress {
    cases: usize,
    images: u64,
    tallies: BTreeMap<&'static str, Tally>,
    told: Option<Instant>,
}

fn run_all(options: &Options) -> bool {
    let begin = Instant::now();
    let progress = Mutex::new(Progress::default());
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| while run_next(&progress, options.images) {});
        }
    });
    let progress = progress.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    print(&progress, begin.elapsed())
}

/// Runs the next case; whether there was one.
fn run_next(progress: &Mutex<Progress>, images: u64) -> bool {
    let lock = || progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let case = {
        let mut progress = lock();
        if progress.images >= images {
            return false;
        }
        progress.cases += 1;
        crash::cases().nth(progress.cases - 1).expect("they never end")
    };
    let tally = case.run(Look::default());
    let mut progress = lock();
    progress.images += tally.passed + tally.failed.len() as u64;
    progress.tallies.entry(case.history.name).or_default().add(tally);
    if progress.told.is_none_or(|told| told.elapsed() > Duration::from_secs(5)) {
        progress.told = Some(Instant::now());
        eprintln!("{} images", progress.images);
    }
    true
}

fn print(progress: &Progress, took: Duration) -> bool {
    let mut all = Tally::default();
    println!("    images  operations  of recoveries  repeated");
    for (name, tally) in &progress.tallies {
        let images = tally.passed + tally.failed.len() as u64;
        let Tally { moments, recoveries, repeated, .. } = tally;
        println!("{images:10} {moments:11} {recoveries:14} {repeated:9}  {name}");
        all.add(tally.clone());
    }
    for (id, why) in all.failed.iter().take(TOLD_MAX) {
        println!("{id}: {why}\nrepeat with: cargo xtask crash --image {id}");
    }
    let images = all.passed + all.failed.len() as u64;
    println!("{:10} images of recoveries", all.recoveries);
    println!("{:10.0} images a second", images as f64 / took.as_secs_f64().max(1e-9));
    println!("{} passed, {} failed", all.passed, all.failed.len());
    all.failed.is_empty()
}
