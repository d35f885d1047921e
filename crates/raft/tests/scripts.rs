//! etcd's own scripts, to the byte.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "scripts are files, and a test that is skipped says so"
)]

use std::fs;
use std::path::{Path, PathBuf};

fn scripts_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for item in fs::read_dir(dir).expect("a readable directory") {
        let path = item.expect("a readable directory").path();
        if path.is_dir() {
            scripts_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            found.push(path);
        }
    }
}

#[test]
fn every_script_prints_what_it_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/raft-testdata");
    if !dir.is_dir() {
        eprintln!("skipped: {} is missing, so no script was replayed", dir.display());
        return;
    }
    let mut scripts = Vec::new();
    scripts_below(&dir, &mut scripts);
    scripts.sort();
    let failed: Vec<_> = scripts
        .iter()
        .filter_map(|path| {
            let text = fs::read_to_string(path).expect("a readable script");
            let mismatch = raft::script::replay(&text).err()?;
            Some(format!("{}: {mismatch}\n", path.display()))
        })
        .collect();
    assert!(!scripts.is_empty(), "no script in {}", dir.display());
    assert!(
        failed.is_empty(),
        "{} of {} failed:\n{}",
        failed.len(),
        scripts.len(),
        failed.concat()
    );
}
