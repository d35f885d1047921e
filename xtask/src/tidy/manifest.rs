//! Rules over `Cargo.toml` files: who may depend on whom.

use super::Finding;

/// Our crates, from the bottom to the top. One may name those of lower ranks only.
const RANKS: &[&[&str]] = &[
    &["env", "api", "failpoints", "mutant"],
    &["cobra", "http2", "raft"],
    &["bolt", "grpc", "http2-fuzz", "raft-node", "wal"],
    &["backend"],
    &["mvcc", "lease", "cluster"],
    &["apply"],
    &["replica"],
    &["client", "rpc", "sim", "transport"],
    &["server"],
    &["benchmark", "etcd", "etcdctl", "raftexample"],
    &["xtask"],
];

/// Crates that do the same thing twice with the same input: no thread, no clock, no chance.
pub(crate) const DETERMINISTIC: &[&str] = &[
    "http2", "grpc", "raft", "wal", "bolt", "backend", "mvcc", "lease", "cluster", "apply",
    "replica",
];

/// What a deterministic crate may use of others' code. Nothing here starts threads, reads clocks or draws numbers.
const DETERMINISTIC_MAY_USE: &[&str] =
    &["bytes", "crc32c", "prost", "rustc-hash", "serde", "serde_json", "sha1", "sha2", "thiserror"];

/// The two crates that share state with readers, and the lock that they use.
pub(crate) const SHARING: (&[&str], &str) = (&["backend", "mvcc"], "parking_lot");

fn rank(name: &str) -> Option<usize> {
    RANKS.iter().position(|names| names.contains(&name))
}

/// A dependency that ends up in the product, with its line.
#[derive(Debug, PartialEq, Eq)]
struct Dependency<'a> {
    line: usize,
    name: &'a str,
}

/// Checks the manifest of crate `folder`.
pub(crate) fn check(path: &str, folder: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut complain = |line: usize, what: String| findings.push(Finding::new(path, line, what));
    let Some(own_rank) = rank(folder) else {
        complain(
            1,
            format!("crate {folder} has no rank: give it one in xtask/src/tidy/manifest.rs"),
        );
        return;
    };
    if !text.lines().any(|line| line == format!("name = \"{folder}\"")) {
        complain(1, format!("the package must be named {folder}, like its folder"));
    }
    if !text.contains("[lints]\nworkspace = true\n") {
        complain(1, "without the lints of the workspace: [lints] workspace = true".to_owned());
    }
    for Dependency { line, name } in dependencies(text) {
        match rank(name) {
            Some(other) if other >= own_rank => complain(
                line,
                format!("{folder} (rank {own_rank}) must not depend on {name} (rank {other})"),
            ),
            None if DETERMINISTIC.contains(&folder) => {
                let shares = SHARING.0.contains(&folder) && name == SHARING.1;
                if !shares && !DETERMINISTIC_MAY_USE.contains(&name) {
                    complain(line, format!("{folder} is deterministic and must not use {name}"));
                }
            }
            _ => {}
        }
    }
}

/// Normal dependencies, those of a target included; build and dev ones do not run in production.
fn dependencies(text: &str) -> Vec<Dependency<'_>> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            let tail = section.rsplit("'.").next().unwrap_or(section);
            inside = tail == "dependencies";
            if let Some(name) = tail.strip_prefix("dependencies.") {
                found.push(Dependency { line: number, name });
            }
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            found.push(Dependency { line: number, name: &line[..end] });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::check;

    fn findings(folder: &str, dependencies: &str) -> String {
        let text = format!(
            "[package]\nname = \"{folder}\"\n[lints]\nworkspace = true\n[dependencies]\n{dependencies}"
        );
        let mut findings = Vec::new();
        check("Cargo.toml", folder, &text, &mut findings);
        findings.iter().map(|finding| format!("{finding}\n")).collect()
    }

    #[test]
    fn dependencies_point_down() {
        assert_eq!(findings("mvcc", "backend.workspace = true\nbytes = \"1\"\n"), "");
        assert_eq!(
            findings("mvcc", "lease.workspace = true\n"),
            "Cargo.toml:6: mvcc (rank 4) must not depend on lease (rank 4)\n"
        );
        assert_eq!(
            findings("bolt", "[target.'cfg(unix)'.dependencies.rpc]\npath = \"x\"\n"),
            "Cargo.toml:6: bolt (rank 2) must not depend on rpc (rank 7)\n"
        );
        assert_eq!(findings("mvcc", "[dev-dependencies]\nrpc.workspace = true\n"), "");
    }

    #[test]
    fn deterministic_crates_use_few_others() {
        assert_eq!(
            findings("apply", "tokio = { version = \"1\" }\nparking_lot.workspace = true\n"),
            "Cargo.toml:6: apply is deterministic and must not use tokio\n\
             Cargo.toml:7: apply is deterministic and must not use parking_lot\n"
        );
        assert_eq!(findings("backend", "parking_lot.workspace = true\n"), "");
        assert_eq!(findings("server", "tokio.workspace = true\n"), "");
    }

    #[test]
    fn a_crate_has_a_rank_a_name_and_the_lints() {
        let mut found = Vec::new();
        check("a", "utils", "", &mut found);
        check("b", "env", "name = \"environment\"", &mut found);
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "a:1: crate utils has no rank: give it one in xtask/src/tidy/manifest.rs",
                "b:1: the package must be named env, like its folder",
                "b:1: without the lints of the workspace: [lints] workspace = true",
            ]
        );
    }
}
