//! `cargo xtask sim` and `cargo xtask crash`: builds the simulator, optimized and with all checks, and runs seeds,
//! or power failures.

use std::process::Command;

use crate::root;

/// Optimized, but quick to build, and with panics that a run survives, since one is a finding.
const PROFILE: &[&str] = &[
    "profile.sim.inherits=\"release\"",
    "profile.sim.lto=false",
    "profile.sim.codegen-units=16",
    "profile.sim.panic=\"unwind\"",
    "profile.sim.opt-level=2",
    "profile.sim.debug-assertions=true",
];

/// Runs the program `sim` or `crash` of the simulator with these arguments; whether nothing failed.
pub(crate) fn run(program: &str, arguments: &[String]) -> Result<bool, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(root()).args(["run", "--quiet", "--profile", "sim", "-p", "sim"]);
    cargo.args(["--bin", program]);
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    let status = cargo.arg("--").args(arguments).status();
    status.map(|status| status.success()).map_err(|err| format!("cargo: {err}"))
}
