//! `cargo xtask`: the tasks of this repository, the same at home as in CI.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "reports for people to read")]

mod bench;
mod bench_raft;
mod cluster;
mod cluster_call;
mod conformance;
mod faults;
mod fuzz;
mod grpc;
mod mutants;
mod mutants_sim;
mod peers;
mod raft_scripts;
mod robustness;
mod sim;
mod suite;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask TASK
  ci                  everything that must be green, as CI runs it
  tidy                rules of this repository that neither rustc nor clippy knows
  conformance [...]   the official clients, tools and files of etcd against ours
  peers               a member of ours in a cluster with etcd: streams, snapshots and leadership both ways
  suite [...]         etcd's own tests, with etcdctl, against clusters of ours and of ours and 3.6
  faults [...]        members as processes, against kills, pauses, cut and slow links, and failing disks
  robustness [...]    etcd's robustness suite against our server built with failpoints
  cluster [--learner] three members on this machine, those of Procfile, and a learner beside them
  bench [...]         etcd and ours under the same load
  mutants CRATE [...] put bugs of the past back into a crate, and see that its tests notice
  mutants sim [--seeds N] [...]
                      put bugs of the past back, and see that the simulator finds them
  bench-raft [...]    our raft, Go's and the crate raft 0.7 at the same work
  sim [...]           whole clusters against faults, from seeds
  crash [...]         a member's disk after a power failure at each of its operations
  fuzz http2 [--executions N] [--first-seed F] [--threads T] [--input HEX]
                      the same bytes to http2 and to h2, which must make the same of them
  raft-scripts DIR    replay etcd's raft scripts against the crate raft";

fn main() -> ExitCode {
    if let Some(code) = mutants::rustc_wrapper() {
        return code;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let task = args.first().map_or("help", String::as_str);
    let rest = args.get(1..).unwrap_or_default();
    let result = match task {
        "ci" => ci(),
        "tidy" => tidy(),
        "conformance" => conformance::run(rest).map(|outcome| outcome.success()),
        "peers" => peers::run().map(|outcome| outcome.success()),
        "suite" => suite::run(rest).map(|outcome| outcome.success()),
        "faults" => faults::run(rest).map(|outcome| outcome.success()),
        "robustness" => robustness::run(rest).map(|outcome| outcome.success()),
        "cluster" => cluster::run(&root(), rest),
        "bench" => bench::run(rest).map(|outcome| outcome.success()),
        "mutants" if rest.first().is_some_and(|word| word == "sim") => {
            mutants_sim::run(&root(), &rest[1..], &mut std::io::stdout())
        }
        "mutants" => mutants::run(&root(), rest, &mut std::io::stdout()),
        "bench-raft" => bench_raft::run(rest),
        "sim" | "crash" => sim::run(task, rest),
        "fuzz" => fuzz::run(rest),
        "raft-scripts" => raft_scripts(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(true)
        }
        _ => Err(format!("no task {task}\n{USAGE}")),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Where the workspace lies.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

fn ci() -> Result<bool, String> {
    let script = root().join(".ci/run");
    let status = Command::new("bash").arg(&script).current_dir(root()).status();
    status.map(|status| status.success()).map_err(|err| format!("{}: {err}", script.display()))
}

fn tidy() -> Result<bool, String> {
    let findings = tidy::run(&root()).map_err(|err| format!("tidy: {err}"))?;
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} findings", findings.len());
    Ok(findings.is_empty())
}

fn raft_scripts(args: &[String]) -> Result<bool, String> {
    let [folder] = args else { return Err(USAGE.to_owned()) };
    let result = raft_scripts::run(Path::new(folder), &mut std::io::stdout());
    result
        .map(|(passed, failed)| passed > 0 && failed == 0)
        .map_err(|err| format!("{folder}: {err}"))
}
