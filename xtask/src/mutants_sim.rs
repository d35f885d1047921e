//! `mutants sim [--seeds N] [--shrink] [NAME...]`: puts the bugs of `crates/sim/mutants.txt` back, all into one build, and lets the
//! general simulator look for each of them. With `--shrink` it makes what it has found smaller, and runs that again.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::mutants::{self, Mutant};
use crate::sim;

/// How many seeds may be needed for a bug.
const SEEDS: u64 = 5000;

/// What a search came to.
struct Search {
    /// The seed that failed, counted from one; `None` if none did.
    seeds: Option<u64>,
    finding: String,
    seconds: u64,
}

/// Looks for each bug, or for those named. Writes a table and, last, `N passed, N failed`; true when
/// all were found.
pub(crate) fn run(root: &Path, args: &[String], out: &mut impl Write) -> Result<bool, String> {
    let (mut seeds, mut shrinks, mut names) = (SEEDS, false, Vec::new());
    let mut words = args.iter();
    while let Some(word) = words.next() {
        if word == "--seeds" {
            let number = words.next().and_then(|word| word.parse().ok());
            seeds = number.ok_or("--seeds needs a number")?;
        } else if word == "--shrink" {
            shrinks = true;
        } else {
            names.push(word.clone());
        }
    }
    let mut bugs = mutants::listed(root, "sim")?;
    mutants::check_all_listed(root)?;
    bugs.retain(|bug| bug.exists && (names.is_empty() || names.contains(&bug.name)));
    let program = sim::build("sim", true)?;
    let passed = search_all(&bugs, seeds, out, |name| search(&program, name, seeds, shrinks))?;
    let failed = bugs.len() - passed;
    writeln!(out, "{passed} passed, {failed} failed").map_err(|err| err.to_string())?;
    Ok(passed > 0 && failed == 0)
}

/// Searches on as many threads as there are processors, writes the rows in the order of the list,
/// and returns how many bugs were found.
fn search_all(
    bugs: &[Mutant],
    seeds: u64,
    out: &mut impl Write,
    search: impl Fn(&str) -> Result<Search, String> + Sync,
) -> Result<usize, String> {
    let (send, receive) = mpsc::channel();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (send, next, search) = (send.clone(), &next, &search);
            scope.spawn(move || {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(bug) = bugs.get(number)
                    && send.send((number, search(&bug.name))).is_ok()
                {}
            });
        }
        drop(send);
        let (mut waiting, mut written, mut found) = (BTreeMap::new(), 0, 0);
        for (number, search) in receive {
            waiting.insert(number, search?);
            while let Some(search) = waiting.remove(&written) {
                found += usize::from(search.seeds.is_some());
                row(&bugs[written], &search, seeds, out).map_err(|err| err.to_string())?;
                written += 1;
            }
        }
        Ok(found)
    })
}

fn row(bug: &Mutant, search: &Search, seeds: u64, out: &mut impl Write) -> std::io::Result<()> {
    let number = match search.seeds {
        Some(number) => number.to_string(),
        None => format!("none of {seeds}"),
    };
    writeln!(out, "{:<17} {number:>6}  {} ({} s)", bug.name, bug.text, search.seconds)?;
    writeln!(out, "{:<24}  {}", "", search.finding)
}

fn search(program: &Path, name: &str, seeds: u64, shrinks: bool) -> Result<Search, String> {
    let begun = Instant::now();
    let mut command = Command::new(program);
    command.args(["--mutant", name, "--seeds", &seeds.to_string(), "--first-failure"]);
    // A long rest costs more time than all the rest.
    command.args(["--threads", "1", "--no-rest"]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.map_err(|err| format!("sim: {err}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let finding = text.lines().find(|line| line.starts_with("seed "));
    let total = text.lines().last().unwrap_or_default();
    let numbers = total.strip_suffix(" failed").and_then(|line| line.split_once(" passed, "));
    let (passed, failed) = numbers.ok_or(format!("{name}: the simulator says {total:?}"))?;
    let passed: u64 = passed.parse().map_err(|_| format!("{name}: {total:?}"))?;
    if shrinks && failed != "0" {
        return shrink(program, name, passed + 1, begun);
    }
    Ok(Search {
        seeds: (failed != "0").then_some(passed + 1),
        finding: finding.unwrap_or_default().chars().take(160).collect(),
        seconds: begun.elapsed().as_secs(),
    })
}

/// Makes the run of a seed smaller, and expects what is left to fail, too.
fn shrink(program: &Path, name: &str, seed: u64, begun: Instant) -> Result<Search, String> {
    let run = |words: &[&str]| {
        let output = Command::new(program).args(words).stdin(Stdio::null()).output();
        let output = output.map_err(|err| format!("sim: {err}"))?;
        Ok::<_, String>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let number = seed.to_string();
    let text = run(&["--mutant", name, "--seed", &number, "--no-rest", "--shrink"])?;
    let line = text.lines().find_map(|line| line.strip_prefix("repeat with: cargo xtask sim "));
    let line = line.ok_or(format!("{name}: seed {seed} was not made smaller: {text}"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let fails = run(&words)?.lines().any(|line| line == "0 passed, 1 failed");
    let left = text.lines().find(|line| line.contains(" are left after ")).unwrap_or_default();
    let again = if fails { "fails again" } else { "does not fail again" };
    Ok(Search {
        seeds: fails.then_some(seed),
        finding: format!("{left}, and {again}: {line}"),
        seconds: begun.elapsed().as_secs(),
    })
}
