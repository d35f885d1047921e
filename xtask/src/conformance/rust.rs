//! Part `rust`: a program on the crate `etcd-client` judges the real server, then ours.
//!
//! The build of that crate calls protoc; `conformance/protoc` stands in for it. Neither is a member of the workspace,
//! whose tests need nothing but Rust and a C compiler.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Outcome, process, tools::Tools};

pub(super) fn run(
    tools: &Tools,
    ours: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let protoc = build(tools, "protoc", "protoc", None)?;
    let client = build(tools, "rust", "rustclient", Some(&protoc))?;
    for (name, server) in [("real", tools.bin("etcd")), ("ours", ours.to_path_buf())] {
        let port = process::two_free_ports().to_string();
        let mut command = Command::new(&client);
        command.arg(server).arg(work.join(name)).arg(port);
        let output = process::run(&mut command, b"", Duration::from_secs(300))?;
        outcome.lines(&format!("rust, {name}"), &output);
    }
    Ok(())
}

/// Builds the package in this folder; returns the path of its program.
fn build(
    tools: &Tools,
    folder: &str,
    program: &str,
    protoc: Option<&Path>,
) -> Result<PathBuf, String> {
    let target = crate::root().join("target/conformance/rust");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(tools.source.join(folder)).args(["build", "--quiet", "--locked"]);
    cargo.env("CARGO_TARGET_DIR", &target);
    if let Some(protoc) = protoc {
        cargo.env("PROTOC", protoc);
    }
    process::run(&mut cargo, b"", Duration::from_secs(900))?.success("cargo build")?;
    Ok(target.join("debug").join(program))
}
