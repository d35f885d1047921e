//! `cargo xtask sim` and `cargo xtask crash`: builds the simulator, optimized and with all checks, and runs seeds,
//! or power failures.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{mutants, root};

/// Optimized, but quick to build, and with panics that a run survives, since one is a finding.
const PROFILE: &[&str] = &[
    "profile.sim.inherits=\"release\"",
    "profile.sim.lto=false",
    "profile.sim.codegen-units=16",
    "profile.sim.panic=\"unwind\"",
    "profile.sim.opt-level=2",
    "profile.sim.debug-assertions=true",
];

/// Runs the program `sim` or `crash` of the simulator with these arguments; whether nothing failed. `sim --twice N` is
/// ours: whether N seeds are the same runs in two processes.
pub(crate) fn run(program: &str, arguments: &[String]) -> Result<bool, String> {
    let path = build(program, false)?;
    if let [word, seeds] = arguments
        && word == "--twice"
        && program == "sim"
    {
        return twice(&path, seeds);
    }
    let status = Command::new(path).args(arguments).status();
    status.map(|status| status.success()).map_err(|err| format!("{program}: {err}"))
}

/// Builds a program of the simulator and says where it is. `with_bugs`: for [`crate::mutants_sim`].
pub(crate) fn build(program: &str, with_bugs: bool) -> Result<PathBuf, String> {
    let target = mutants::target_dir(&root());
    let target = if with_bugs { target.join("mutants") } else { target };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(root()).args(["build", "--quiet", "--locked", "--profile", "sim"]);
    cargo.args(["-p", "sim", "--bin", program]).env("CARGO_TARGET_DIR", &target);
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    if with_bugs {
        mutants::put_back_all(&mut cargo)?;
    }
    let status = cargo.status().map_err(|err| format!("cargo: {err}"))?;
    if !status.success() {
        return Err("the simulator can't be built".to_owned());
    }
    Ok(target.join("sim").join(program))
}

/// Runs the same seeds in two processes at a time and compares their traces.
fn twice(program: &Path, seeds: &str) -> Result<bool, String> {
    let start = || {
        let mut command = Command::new(program);
        command.args(["--traces", "--threads", "1", "--seeds", seeds]);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
    };
    let traces = |child: std::io::Result<std::process::Child>| {
        let output = child.and_then(std::process::Child::wait_with_output);
        let output = output.map_err(|err| format!("sim: {err}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text.lines().filter(|line| line.contains(": trace "));
        Ok::<_, String>(lines.map(str::to_owned).collect::<Vec<_>>())
    };
    let (one, other) = (start(), start());
    let (one, other) = (traces(one)?, traces(other)?);
    let mut same = 0;
    for (a, b) in one.iter().zip(&other) {
        if a == b {
            same += 1;
        } else {
            println!("{a}, but in another process {b}");
        }
    }
    let expected: usize = seeds.parse().map_err(|_| format!("{seeds} is no number"))?;
    println!("twice: {same} passed, {} failed", expected.saturating_sub(same));
    Ok(same == expected)
}
