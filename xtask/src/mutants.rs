//! `mutants CRATE [NAME...]`: puts bugs back into a crate, one at a time, and demands that its tests notice each.
//!
//! A bug is in the source, behind `mutant!("NAME")`, and in the crate's `mutants.txt`. To compile it into that one crate
//! (`--cfg mutant="NAME"`) this program stands before rustc (`RUSTC_WORKSPACE_WRAPPER`), in a target directory of its
//! own. For the simulator, which needs all crates, it compiles all bugs in (`--cfg mutant`), and a run takes one.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Tells this program, run by cargo in place of rustc, which bug to compile into which crate: `CRATE:NAME`, or
/// [`ALL`].
const VARIABLE: &str = "XTASK_MUTANT";

/// All bugs into all crates.
const ALL: &str = "*";

/// A bug that keeps tests from ending is noticed too. Twice this is allowed, for the crate's own tests and for those in
/// `tests`.
const SECONDS_MAX: u64 = 120;

/// How many seeds tests of random schedules try here, by the variables that they read.
const SEEDS: [(&str, &str); 1] = [("RAFT_SEEDS", "100")];

/// A line of `mutants.txt`.
pub(crate) struct Mutant {
    pub(crate) name: String,
    pub(crate) text: String,
    /// False for what cannot be built in.
    pub(crate) exists: bool,
}

/// In place of rustc: calls it with the bug, if it compiles the crate of the bug.
pub(crate) fn rustc_wrapper() -> Option<ExitCode> {
    let mutant = std::env::var(VARIABLE).ok()?;
    let mut args = std::env::args_os().skip(1);
    let mut rustc = Command::new(args.next()?);
    let args: Vec<_> = args.collect();
    rustc.args(&args);
    if mutant == ALL {
        rustc.args(["--cfg", "mutant"]);
    } else {
        let (krate, name) = mutant.split_once(':')?;
        let is_crate = args.windows(2).any(|pair| pair[0] == "--crate-name" && pair[1] == *krate);
        if is_crate && !name.is_empty() {
            rustc.arg("--cfg").arg(format!("mutant=\"{name}\""));
        }
    }
    let status = rustc.status().ok()?;
    Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Has cargo compile all bugs in.
pub(crate) fn put_back_all(cargo: &mut Command) -> Result<(), String> {
    let wrapper = std::env::current_exe().map_err(|err| err.to_string())?;
    cargo.env("RUSTC_WORKSPACE_WRAPPER", wrapper).env(VARIABLE, ALL);
    Ok(())
}

/// The bugs in the list of a crate.
pub(crate) fn listed(root: &Path, krate: &str) -> Result<Vec<Mutant>, String> {
    let list = root.join("crates").join(krate).join("mutants.txt");
    let text = fs::read_to_string(&list).map_err(|err| format!("{}: {err}", list.display()))?;
    Ok(parse(&text))
}

/// Runs the tests of a crate with each bug, or with those named. Writes a table and, last, `N passed, N failed`; true
/// when every bug was noticed.
pub(crate) fn run(root: &Path, args: &[String], out: &mut impl Write) -> Result<bool, String> {
    let [krate, names @ ..] = args else {
        return Err("usage: cargo xtask mutants CRATE [NAME...]".to_owned());
    };
    let mutants = listed(root, krate)?;
    check_all_listed(root)?;
    let bench = Bench { root, krate, target: target_dir(root).join("mutants") };
    let as_io = |err: std::io::Error| err.to_string();

    // Tests that fail anyhow would notice everything.
    let sound = bench.test("")?;
    if sound != Outcome::Passed {
        return Err(format!("without a bug: {sound}"));
    }
    let (mut passed, mut failed) = (0, 0);
    for mutant in &mutants {
        if !names.is_empty() && !names.contains(&mutant.name) {
            continue;
        }
        if !mutant.exists {
            writeln!(out, "{:<12} -     {}", mutant.name, mutant.text).map_err(as_io)?;
            continue;
        }
        let begun = Instant::now();
        let outcome = bench.test(&mutant.name)?;
        let is_caught = matches!(outcome, Outcome::Failed(_));
        let verdict = if is_caught { "ok  " } else { "FAIL" };
        let seconds = begun.elapsed().as_secs();
        writeln!(out, "{:<12} {verdict}  {} ({seconds} s)", mutant.name, mutant.text)
            .and_then(|()| writeln!(out, "{:<18} {outcome}", ""))
            .map_err(as_io)?;
        if is_caught {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    writeln!(out, "{passed} passed, {failed} failed").map_err(as_io)?;
    Ok(passed > 0 && failed == 0)
}

fn parse(text: &str) -> Vec<Mutant> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (exists, line) = match line.strip_prefix("- ") {
                Some(rest) => (false, rest),
                None => (true, line),
            };
            let (name, text) = line.split_once(' ').unwrap_or((line, ""));
            Mutant { name: name.to_owned(), text: text.to_owned(), exists }
        })
        .collect()
}

/// The lists and the source must name the same bugs.
pub(crate) fn check_all_listed(root: &Path) -> Result<(), String> {
    let mut found = BTreeSet::new();
    let mut listed = BTreeSet::new();
    let mut folders = vec![root.join("crates")];
    while let Some(folder) = folders.pop() {
        let items = fs::read_dir(&folder).map_err(|err| format!("{}: {err}", folder.display()))?;
        for item in items {
            let path = item.map_err(|err| err.to_string())?.path();
            let read =
                || fs::read_to_string(&path).map_err(|err| format!("{}: {err}", path.display()));
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("mutants.txt") {
                let names = parse(&read()?).into_iter().filter(|mutant| mutant.exists);
                listed.extend(names.map(|mutant| mutant.name));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = read()?;
                let after = text.split("mutant!(\"").skip(1);
                found.extend(after.filter_map(|after| after.split('"').next()).map(str::to_owned));
            }
        }
    }
    // In the documentation of the macro.
    found.remove("NAME");
    let odd: Vec<_> = found.symmetric_difference(&listed).cloned().collect();
    if odd.is_empty() {
        return Ok(());
    }
    Err(format!("only in the source or only in a mutants.txt: {}", odd.join(", ")))
}

pub(crate) fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

#[derive(PartialEq, Eq)]
enum Outcome {
    /// No test has noticed anything.
    Passed,
    /// These tests have.
    Failed(Vec<String>),
    /// It does not compile, which says nothing of the tests.
    Broken(String),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passed => f.write_str("every test passes"),
            Self::Failed(tests) => f.write_str(&tests.join(", ")),
            Self::Broken(why) => write!(f, "it does not compile:\n{why}"),
        }
    }
}

struct Bench<'a> {
    root: &'a Path,
    krate: &'a str,
    target: PathBuf,
}

impl Bench<'_> {
    fn cargo(&self, mutant: &str, args: &[&str]) -> Result<Command, String> {
        let wrapper = std::env::current_exe().map_err(|err| err.to_string())?;
        let mut command = Command::new("cargo");
        command
            .current_dir(self.root)
            .args(["test", "--locked", "-p", self.krate])
            .args(args)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("RUSTC_WORKSPACE_WRAPPER", wrapper)
            .env(VARIABLE, format!("{}:{mutant}", self.krate))
            .env("RUST_BACKTRACE", "0")
            .envs(SEEDS)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Compiles the crate with the bug and runs its tests.
    fn test(&self, mutant: &str) -> Result<Outcome, String> {
        self.forget();
        let built = self.cargo(mutant, &["--tests", "--no-run", "--quiet"])?.output();
        let built = built.map_err(|err| format!("cargo: {err}"))?;
        if !built.status.success() {
            return Ok(Outcome::Broken(String::from_utf8_lossy(&built.stderr).into_owned()));
        }
        let mut failed = self.failed_tests(mutant, &["--test", "*"])?;
        failed.extend(self.failed_tests(mutant, &["--lib"])?);
        Ok(if failed.is_empty() { Outcome::Passed } else { Outcome::Failed(failed) })
    }

    fn failed_tests(&self, mutant: &str, which: &[&str]) -> Result<Vec<String>, String> {
        let log = self.target.join("output");
        let file = fs::File::create(&log).map_err(|err| format!("{}: {err}", log.display()))?;
        let mut command = self.cargo(mutant, which)?;
        command.args(["--no-fail-fast", "--quiet", "--", "--format=pretty"]);
        command.stdout(file).stderr(Stdio::null());
        // A process group of its own, so that the tests can be stopped along with cargo.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|err| format!("cargo: {err}"))?;
        let outcome = wait(child)?;
        let text = fs::read(&log).map_err(|err| format!("{}: {err}", log.display()))?;
        let text = String::from_utf8_lossy(&text);
        let failed = |line: &str| {
            let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
            Some(name.trim_end_matches(" - should panic").to_owned())
        };
        let mut tests: Vec<_> = text.lines().filter_map(failed).collect();
        match outcome {
            None => tests.push("(some do not end)".to_owned()),
            // A test program that was aborted names none.
            Some(false) if tests.is_empty() => tests.push("(aborted)".to_owned()),
            Some(_) => {}
        }
        Ok(tests)
    }

    /// Makes cargo compile the crate again, since it does not know what the wrapper does.
    fn forget(&self) {
        let fingerprints = self.target.join("debug/.fingerprint");
        for item in fs::read_dir(fingerprints).into_iter().flatten().flatten() {
            let name = item.file_name();
            let name = name.to_string_lossy();
            let is_crate = name.rsplit_once('-').is_some_and(|(name, _)| name == self.krate);
            if is_crate {
                // if it stays, the sound crate is tested, and the bug counts as not noticed
                let _ = fs::remove_dir_all(item.path());
            }
        }
    }
}

/// Whether the child succeeds; `None` when it takes too long.
fn wait(mut child: Child) -> Result<Option<bool>, String> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|err| err.to_string())? {
            return Ok(Some(status.success()));
        }
        if begun.elapsed() > Duration::from_secs(SECONDS_MAX) {
            // the whole group: the tests, and cargo
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            let _ = child.wait();
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(50));
    }
}
