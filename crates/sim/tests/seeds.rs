//! Some seeds for every build, and those that once led to a fix.

use std::process::Command;

use sim::run;

#[test]
fn some_seeds_have_no_violation() {
    let mut operations = 0;
    for seed in 1..=12 {
        let report = run::run(seed, false);
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        operations += report.answered;
    }
    assert!(operations > 2_000, "{operations} operations are too few to mean anything");
}

/// The number of the seed, and what it found. The plan of a seed changes with the code of the
/// simulator, so what a fix needs to be kept is a test beside it; these are run all the same.
const FOUND: &[(u64, &str)] = &[
    (134, "a restart trusted records that were written but not synced when the process was killed"),
    (1230, "HashKV depended on how far a compaction was when no key was alive"),
    (1309, "a synced watcher was canceled for a compaction up to what it had heard of"),
];

#[test]
fn seeds_that_found_something_find_nothing_more() {
    for (seed, what) in FOUND {
        let report = run::run(*seed, false);
        assert!(report.violations.is_empty(), "seed {seed} ({what}): {:?}", report.violations);
    }
}

fn trace_of(seed: u64) -> String {
    let sim = env!("CARGO_BIN_EXE_sim");
    let output = Command::new(sim).args(["--seed", &seed.to_string()]).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("it writes text");
    let line = text.lines().find(|line| line.contains("trace")).expect("it tells its trace");
    line.to_owned()
}

#[test]
fn a_seed_is_one_run_in_two_processes() {
    for seed in [3, 4, 5] {
        let trace = trace_of(seed);
        assert_eq!(trace, trace_of(seed));
        assert!(trace.contains(&format!("{:016x}", run::run(seed, false).trace)));
    }
    assert_ne!(trace_of(3).split(": ").nth(1), trace_of(4).split(": ").nth(1));
}
