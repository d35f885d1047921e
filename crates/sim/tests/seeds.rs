//! Some seeds for every build. What a seed has found is kept as a test of the crate that was wrong,
//! since the plan of a seed changes with the simulator; docs/testing.md lists them.

use std::process::Command;

use sim::run;

/// A rest takes long without optimization.
fn options() -> run::Options {
    run::Options { has_rest: false, ..run::Options::default() }
}

#[test]
fn some_seeds_have_no_violation() {
    let mut operations = 0;
    for seed in [1, 2, 3, 4, 7, 8, 10, 12, 13, 14] {
        let report = run::run(seed, &options());
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        operations += report.answered;
    }
    assert!(operations > 500, "{operations} operations are too few to mean anything");
}

fn trace_of(seed: u64) -> String {
    let sim = env!("CARGO_BIN_EXE_sim");
    let output = Command::new(sim)
        .args(["--no-rest", "--seed", &seed.to_string()])
        .output()
        .expect("it runs");
    let text = String::from_utf8(output.stdout).expect("it writes text");
    let line = text.lines().find(|line| line.contains("trace")).expect("it tells its trace");
    line.to_owned()
}

#[test]
fn a_seed_is_one_run_in_two_processes() {
    for seed in [3, 12] {
        let trace = trace_of(seed);
        assert_eq!(trace, trace_of(seed));
        assert!(trace.contains(&format!("{:016x}", run::run(seed, &options()).trace)));
    }
    assert_ne!(trace_of(12).split(": ").nth(1), trace_of(3).split(": ").nth(1));
}
