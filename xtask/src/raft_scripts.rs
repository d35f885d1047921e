//! `raft-scripts DIR`: replays etcd's raft scripts against the crate `raft`.

use std::fs;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

/// Replays each script under `dir`, or `dir` itself when it is a file. Writes the first difference of each that
/// fails and, last, `N passed, N failed` to `out`; returns both numbers.
pub(crate) fn run(dir: &Path, out: &mut impl Write) -> io::Result<(usize, usize)> {
    let mut scripts = Vec::new();
    collect(dir, &mut scripts)?;
    scripts.sort();
    let (mut passed, mut failed) = (0, 0);
    for path in scripts {
        let text = fs::read_to_string(&path)?;
        // An assertion of the library fails this script, not the run.
        match panic::catch_unwind(AssertUnwindSafe(|| raft::script::replay(&text))) {
            Ok(Ok(())) => {
                passed += 1;
                continue;
            }
            Ok(Err(mismatch)) => writeln!(out, "{}: {mismatch}", path.display())?,
            Err(_) => writeln!(out, "{}: panicked", path.display())?,
        }
        failed += 1;
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok((passed, failed))
}

/// Scripts are the `.txt` files.
fn collect(path: &Path, scripts: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        scripts.push(path.to_owned());
        return Ok(());
    }
    for item in fs::read_dir(path)? {
        let path = item?.path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "txt") {
            collect(&path, scripts)?;
        }
    }
    Ok(())
}
