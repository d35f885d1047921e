//! `cargo xtask fuzz`: builds the judge of `http2` and h2, optimized, and runs it.

use std::process::Command;

use crate::{mutants, root};

/// Optimized, but quick to build, and with panics that a run survives, since one is a finding.
const PROFILE: &[&str] = &[
    "profile.fuzz.inherits=\"release\"",
    "profile.fuzz.lto=false",
    "profile.fuzz.codegen-units=16",
    "profile.fuzz.panic=\"unwind\"",
];

/// Runs `http2-fuzz` with these arguments; whether nothing was found.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let [what, arguments @ ..] = arguments else { return Err("fuzz what? http2".to_owned()) };
    if what != "http2" {
        return Err(format!("nothing is known of {what}; http2 is all that is fuzzed here"));
    }
    let target = mutants::target_dir(&root());
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(root()).args(["build", "--quiet", "--locked", "--profile", "fuzz"]);
    cargo.args(["-p", "http2-fuzz"]).env("CARGO_TARGET_DIR", &target);
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    let status = cargo.status().map_err(|err| format!("cargo: {err}"))?;
    if !status.success() {
        return Err("http2-fuzz can't be built".to_owned());
    }
    let status = Command::new(target.join("fuzz").join("http2-fuzz")).args(arguments).status();
    status.map(|status| status.success()).map_err(|err| format!("http2-fuzz: {err}"))
}
