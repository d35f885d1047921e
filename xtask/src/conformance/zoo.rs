//! Part `zoo`: programs on the gRPC libraries of other languages judge the real server and ours: grpcio in Python,
//! @grpc/grpc-js in JavaScript, grpc-java in Java, each with an HTTP/2 of its own, and on them etcd's clients etcd3 and
//! etcd3gw, etcd3, and jetcd.
//!
//! Libraries are installed by name into `target/conformance/zoo`, once for each list of them and version of the
//! language. What is not on this machine is skipped, with a line that says so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::process::{self, Output};
use super::{Outcome, tools::Tools};

const INSTALL_LIMIT: Duration = Duration::from_secs(600);
const INSTALL_ATTEMPTS: usize = 3;
const CHECK_LIMIT: Duration = Duration::from_secs(300);

/// Where the parts of one check lie.
struct Place {
    /// Its sources.
    source: PathBuf,
    /// What is installed and compiled for it, kept over runs.
    cache: PathBuf,
    /// etcd's .proto files.
    proto: PathBuf,
}

/// How a language comes to its check.
struct Language {
    name: &'static str,
    /// Where its sources are, and what is installed for it; checks may share it.
    folder: &'static str,
    /// What must be on the machine: commands that print a version.
    needs: &'static [&'static [&'static str]],
    /// The file in `source` that names the libraries.
    list: &'static str,
    /// Installs the libraries into the cache folder, which is empty.
    install: fn(&Place) -> Result<(), String>,
    /// Compiles what is to be compiled, each time.
    compile: fn(&Place) -> Result<(), String>,
    /// The check of a server (its program, a folder for it, the first of two ports).
    check: fn(&Place, &Path, &Path, u16) -> Command,
}

const PIP: &[&[&str]] = &[&["python3", "-m", "pip", "--version"]];

const LANGUAGES: [Language; 4] = [
    Language {
        name: "python",
        folder: "python",
        needs: PIP,
        list: "requirements.txt",
        install: install_python,
        compile: compile_python,
        check: check_python,
    },
    Language {
        name: "python-etcd3",
        folder: "python",
        needs: PIP,
        list: "requirements.txt",
        install: install_python,
        compile: |_| Ok(()),
        check: check_python_etcd3,
    },
    Language {
        name: "node",
        folder: "node",
        needs: &[&["node", "--version"], &["npm", "--version"]],
        list: "package-lock.json",
        install: install_node,
        compile: |_| Ok(()),
        check: check_node,
    },
    Language {
        name: "java",
        folder: "java",
        needs: &[&["java", "-version"], &["javac", "-version"], &["mvn", "-version"]],
        list: "pom.xml",
        install: install_java,
        compile: compile_java,
        check: check_java,
    },
];

pub(super) fn run(
    tools: &Tools,
    ours: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let root = crate::root();
    for language in &LANGUAGES {
        let place = Place {
            source: tools.source.join("zoo").join(language.folder),
            cache: root.join("target/conformance/zoo").join(language.folder),
            proto: root.join("crates/api/proto"),
        };
        if let Err(why) = prepare(language, &place) {
            let what = format!("zoo, {}: {why}", language.name);
            println!("skipped: {what}");
            outcome.skipped.push(what);
            continue;
        }
        if let Err(why) = (language.compile)(&place) {
            outcome.case(&format!("zoo, {}", language.name), Err(why));
            continue;
        }
        compare(language, &place, [&tools.bin("etcd"), ours], work, outcome)?;
    }
    Ok(())
}

/// Installs what `requirements.txt` in `source` lists into `cache`, and returns the folder of the modules.
///
/// # Errors
/// What is missing on this machine.
pub(super) fn python_modules(source: PathBuf, cache: PathBuf) -> Result<PathBuf, String> {
    let modules = cache.join("lib");
    let [python, ..] = &LANGUAGES;
    prepare(python, &Place { source, cache, proto: PathBuf::new() })?;
    Ok(modules)
}

/// Makes sure of the language and of its libraries.
///
/// # Errors
/// What is missing on this machine.
fn prepare(language: &Language, place: &Place) -> Result<(), String> {
    let mut stamp = String::new();
    for words in language.needs {
        let mut command = Command::new(words[0]);
        let output = process::run(command.args(&words[1..]), b"", Duration::from_secs(60))?;
        stamp.push_str(&String::from_utf8_lossy(&output.stderr));
        stamp.push_str(&output.success(&words.join(" "))?);
    }
    let list = place.source.join(language.list);
    stamp.push_str(&fs::read_to_string(&list).map_err(|e| format!("{}: {e}", list.display()))?);
    let stamp_path = place.cache.join("stamp");
    if fs::read_to_string(&stamp_path).is_ok_and(|last| last == stamp) {
        return Ok(());
    }
    let begun = Instant::now();
    eprintln!("conformance: install what {} lists", list.display());
    install(language, place)?;
    eprintln!("conformance: installed in {:.1} s", begun.elapsed().as_secs_f64());
    fs::write(&stamp_path, stamp).map_err(|e| format!("{}: {e}", stamp_path.display()))
}

/// Installs the libraries into an empty folder; a registry that does not answer is asked again.
fn install(language: &Language, place: &Place) -> Result<(), String> {
    let mut attempts = 1..=INSTALL_ATTEMPTS;
    loop {
        let last = attempts.next() == Some(INSTALL_ATTEMPTS);
        let _ = fs::remove_dir_all(&place.cache);
        fs::create_dir_all(&place.cache).map_err(|e| format!("{}: {e}", place.cache.display()))?;
        match (language.install)(place) {
            Err(why) if !last => eprintln!("conformance: once more: {why}"),
            result => return result,
        }
    }
}

/// Runs the check against the real server and ours, `servers` in this order, at the same time: it waits a good part of
/// its time. Both must come to the same cases; the real server must pass them all.
fn compare(
    language: &Language,
    place: &Place,
    servers: [&Path; 2],
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let folder = work.join(language.name);
    let check = |server: &Path, name: &str, port| {
        let mut command = (language.check)(place, server, &folder.join(name), port);
        process::run(&mut command, b"", CHECK_LIMIT)
    };
    let (real_ports, our_ports) = (process::two_free_ports(), process::two_free_ports());
    let (theirs, mine) = thread::scope(|scope| {
        let theirs = scope.spawn(|| check(servers[0], "real", real_ports));
        let mine = check(servers[1], "ours", our_ports);
        (theirs.join(), mine)
    });
    let (theirs, mine) = (theirs.map_err(|_| "the check panicked")??, mine?);
    outcome.lines(&format!("zoo, {}, real server", language.name), &theirs);
    outcome.lines(&format!("zoo, {}, ours", language.name), &mine);
    if let Err(why) = same_cases(&theirs, &mine) {
        outcome.case(&format!("zoo, {}", language.name), Err(why));
    }
    Ok(())
}

fn same_cases(theirs: &Output, mine: &Output) -> Result<(), String> {
    let (theirs, mine) = (theirs.text(), mine.text());
    if let Some(line) = theirs.lines().find(|line| line.starts_with("not yet ")) {
        return Err(format!("the real server must have everything: {line}"));
    }
    let (theirs, mine) = (cases(&theirs), cases(&mine));
    let difference: Vec<_> = theirs.symmetric_difference(&mine).copied().collect();
    if !difference.is_empty() {
        return Err(format!("ran against one server alone: {}", difference.join(", ")));
    }
    Ok(())
}

/// The names of the cases in the report of a check.
fn cases(report: &str) -> BTreeSet<&str> {
    let name = |line| {
        let rest =
            ["ok ", "FAIL ", "not yet "].iter().find_map(|word| str::strip_prefix(line, word));
        rest.map(|rest| rest.split(": ").next().unwrap_or(rest))
    };
    report.lines().filter_map(name).collect()
}

/// Runs one step of an installation.
fn step(command: &mut Command, what: &str) -> Result<(), String> {
    process::run(command, b"", INSTALL_LIMIT)?.success(what).map(drop)
}

fn install_python(place: &Place) -> Result<(), String> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]);
    pip.arg("--target").arg(place.cache.join("lib"));
    step(pip.arg("-r").arg(place.source.join("requirements.txt")), "pip install")
}

fn python(place: &Place) -> Command {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", place.cache.join("lib")).env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

fn compile_python(place: &Place) -> Result<(), String> {
    let stubs = place.cache.join("stubs");
    fs::create_dir_all(&stubs).map_err(|e| format!("{}: {e}", stubs.display()))?;
    let files =
        fs::read_dir(&place.proto).map_err(|e| format!("{}: {e}", place.proto.display()))?;
    let mut protoc = python(place);
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(&place.proto);
    protoc.arg("--python_out").arg(&stubs).arg("--grpc_python_out").arg(&stubs);
    let paths = files.filter_map(Result::ok).map(|file| file.path());
    protoc
        .args(paths.filter(|path| path.extension().is_some_and(|extension| extension == "proto")));
    protoc.arg(place.proto.join("google/api/annotations.proto"));
    step(&mut protoc, "protoc")
}

fn check_python(place: &Place, server: &Path, folder: &Path, port: u16) -> Command {
    let mut check = python(place);
    check.arg(place.source.join("check.py")).arg(server).arg(folder).arg(port.to_string());
    check.arg(place.cache.join("stubs"));
    check
}

fn check_python_etcd3(place: &Place, server: &Path, folder: &Path, port: u16) -> Command {
    let mut check = python(place);
    // Its messages were generated for a protobuf of before 4.
    check.env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python");
    check.arg(place.source.join("etcd3_check.py")).arg(server).arg(folder).arg(port.to_string());
    check
}

fn install_node(place: &Place) -> Result<(), String> {
    for file in ["package.json", "package-lock.json"] {
        let (from, to) = (place.source.join(file), place.cache.join(file));
        fs::copy(&from, to).map_err(|e| format!("{}: {e}", from.display()))?;
    }
    let mut npm = Command::new("npm");
    npm.current_dir(&place.cache).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    step(&mut npm, "npm ci")
}

fn check_node(place: &Place, server: &Path, folder: &Path, port: u16) -> Command {
    let mut check = Command::new("node");
    check.env("NODE_PATH", place.cache.join("node_modules"));
    check.arg(place.source.join("check.js")).arg(server).arg(folder).arg(port.to_string());
    check.arg(&place.proto);
    check
}

fn install_java(place: &Place) -> Result<(), String> {
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "--file"]).arg(place.source.join("pom.xml"));
    maven.arg("dependency:copy-dependencies").arg(output_directory(&place.cache.join("lib")));
    step(&mut maven, "mvn dependency:copy-dependencies")
}

fn output_directory(path: &Path) -> String {
    format!("-DoutputDirectory={}", path.display())
}

fn compile_java(place: &Place) -> Result<(), String> {
    let mut javac = Command::new("javac");
    javac.arg("-d").arg(place.cache.join("classes")).arg("-cp").arg(place.cache.join("lib/*"));
    javac.args(["Server.java", "Jetcd.java", "Check.java"].map(|file| place.source.join(file)));
    step(&mut javac, "javac")
}

fn check_java(place: &Place, server: &Path, folder: &Path, port: u16) -> Command {
    let (classes, libraries) = (place.cache.join("classes"), place.cache.join("lib/*"));
    let mut check = Command::new("java");
    check.arg("-cp").arg(format!("{}:{}", classes.display(), libraries.display()));
    check.arg("Check").arg(server).arg(folder).arg(port.to_string());
    check
}

#[cfg(test)]
mod tests {
    use super::{Output, same_cases};

    #[test]
    fn both_servers_must_have_seen_the_same_cases() {
        let output = |text: &str| Output { stdout: text.as_bytes().to_vec(), ..Output::default() };
        let real = output("ok put get\nok lock\n2 passed, 0 failed\n");
        let lacking = output("ok put get\nnot yet lock: unknown: method\n1 passed, 0 failed\n");
        assert_eq!(same_cases(&real, &lacking), Ok(()));
        assert_eq!(same_cases(&real, &output("FAIL put get: no\nok lock\n")), Ok(()));
        let short = output("ok put get\n1 passed, 0 failed\n");
        let why = "ran against one server alone: lock";
        assert_eq!(same_cases(&real, &short), Err(why.to_owned()));
        assert!(same_cases(&lacking, &real).is_err(), "etcd itself must have it all");
    }
}
