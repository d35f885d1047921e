//! Rules over single files.

use std::path::Path;

use super::Finding;
use super::manifest::{DETERMINISTIC, SHARING};
use super::source::{Mention, Source, mentions};

/// The most lines of a file, its tests not counted.
const FILE_LINES_MAX: usize = 1000;

/// How the first five lines of a `lib.rs` begin.
const HEAD: [&str; 5] = [
    "//! What it is: ",
    "//! What it never does: ",
    "//! Entry types: ",
    "//! Owner: ",
    "//! How to test it: ",
];

/// What a deterministic crate must not name, with all that lies below it.
const FORBIDDEN: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::hash::RandomState",
    "std::collections::hash_map::RandomState",
    "std::sync::Barrier",
    "std::sync::Condvar",
    "std::sync::LazyLock",
    "std::sync::Mutex",
    "std::sync::OnceLock",
    "std::sync::RwLock",
    "std::sync::mpsc",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
    "tokio",
    "rand",
    "fastrand",
    "getrandom",
    "async",
    "await",
];

/// Checks what holds for every text that people read.
pub(crate) fn check_text(path: &str, text: &str, findings: &mut Vec<Finding>) {
    // Put together here, so that this file does not hold what it looks for.
    let machine: Vec<String> =
        ["home", "root", "Users", "work", "tmp"].iter().map(|name| format!("/{name}/")).collect();
    for (number, line) in (1..).zip(text.lines()) {
        let mut complain = |what: &str| findings.push(Finding::new(path, number, what.to_owned()));
        if line.ends_with([' ', '\t', '\r']) {
            complain("blanks at the end of the line");
        }
        if machine.iter().any(|root| names_machine_path(line, root)) {
            complain("an absolute path of one machine");
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::new(path, text.lines().count(), "no newline at the end".to_owned()));
    }
}

/// Whether `line` has `root` at the beginning of a path, and not inside one or inside a URL.
fn names_machine_path(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before
            .is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '/' | '}' | ')'))
    })
}

/// Checks a Rust file. `krate` is the crate's folder; `is_test` says that nothing of it is in the product.
pub(crate) fn check_rust(
    path: &str,
    krate: &str,
    is_test: bool,
    text: &str,
    findings: &mut Vec<Finding>,
) {
    let source = Source::new(text);
    let mut complain = |line: usize, what: String| findings.push(Finding::new(path, line, what));
    let file_name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if file_name == "mod.rs" {
        complain(1, "mod.rs: use name.rs beside the folder name".to_owned());
    }
    for (number, line) in (1..).zip(source.prose.lines()) {
        for word in [concat!("TO", "DO"), concat!("FIX", "ME")] {
            if line.contains(word) {
                complain(number, format!("{word}: do it, or file an issue"));
            }
        }
    }
    for (number, line) in (1..).zip(source.code.lines()) {
        for word in ["dbg!", "todo!", "unimplemented!"] {
            if line.contains(word) {
                complain(number, format!("{word} is for work in progress"));
            }
        }
    }
    if is_test {
        return;
    }
    if path.ends_with("src/lib.rs") {
        check_head(text, &mut complain);
    } else if path.ends_with("src/main.rs") && !text.starts_with("//! ") {
        complain(1, "the first line must say what the program is: `//! `".to_owned());
    }
    let lines = source.production.lines().filter(|line| !line.trim().is_empty()).count();
    if lines > FILE_LINES_MAX {
        complain(1, format!("{lines} lines of code; {FILE_LINES_MAX} is the most"));
    }
    check_mentions(krate, &source, &mut complain);
}

fn check_head(text: &str, complain: &mut impl FnMut(usize, String)) {
    let lines: Vec<&str> = text.lines().take(HEAD.len() + 1).collect();
    for (at, head) in HEAD.iter().enumerate() {
        if !lines.get(at).is_some_and(|line| line.starts_with(head)) {
            complain(
                at + 1,
                format!("a lib.rs opens with five lines; this one must begin `{head}`"),
            );
        }
    }
    if lines.get(HEAD.len()).is_some_and(|line| line.is_empty() && text.contains("\n\n//!")) {
        complain(HEAD.len() + 1, "an empty line inside the head: write `//!`".to_owned());
    }
}

fn check_mentions(krate: &str, source: &Source, complain: &mut impl FnMut(usize, String)) {
    let is_deterministic = DETERMINISTIC.contains(&krate);
    let found = mentions(&source.production);
    let has_hasher = found.iter().any(|m| m.path.ends_with("BuildHasherDefault"));
    for Mention { line, path } in &found {
        if path.ends_with("::*") {
            complain(*line, format!("{path}: name what you import"));
        }
        if path == "unsafe" && !matches!(krate, "env" | "bolt") {
            complain(*line, "unsafe belongs into env and bolt only".to_owned());
        }
        if !is_deterministic {
            continue;
        }
        let is_below = |root: &&&str| {
            path.strip_prefix(**root).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        // A word alone, such as a variable, is no module.
        let is_word = !path.contains("::") && !matches!(path.as_str(), "async" | "await");
        let is_fine = is_word || path == "std::thread::panicking";
        if let Some(root) = FORBIDDEN.iter().find(is_below).filter(|_| !is_fine) {
            complain(*line, format!("{krate} is deterministic and must not name {root}"));
        }
        if path.starts_with(SHARING.1) && !SHARING.0.contains(&krate) {
            complain(*line, format!("{krate} is deterministic and must not lock"));
        }
        let maps = ["HashMap", "HashSet"];
        let random = maps.iter().any(|map| {
            path.ends_with(&format!("{map}::new"))
                || path.ends_with(&format!("{map}::with_capacity"))
        });
        let is_map = maps.iter().any(|map| path.rsplit("::").next() == Some(map));
        if random || (is_map && !has_hasher) {
            complain(
                *line,
                format!("{path}: its order is random; use BTreeMap, or a hasher without a seed"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{check_rust, check_text};

    fn check(krate: &str, text: &str) -> String {
        let mut findings = Vec::new();
        check_rust("a.rs", krate, false, text, &mut findings);
        findings.iter().map(|finding| format!("{finding}\n")).collect()
    }

    #[test]
    fn a_deterministic_crate_has_no_world() {
        for (text, what) in [
            ("use std::{fs, io};", "std::fs"),
            ("fn f() { std::thread::spawn(g); }", "std::thread"),
            ("use std::time::{Duration, Instant};", "std::time::Instant"),
            ("fn f() { Instant::now(); }", "Instant::now"),
            ("async fn f() {}", "async"),
            ("use tokio::net::TcpStream;", "tokio"),
            ("use std::sync::{Arc, Mutex};", "std::sync::Mutex"),
        ] {
            let expected = format!("a.rs:1: raft is deterministic and must not name {what}\n");
            assert_eq!(check("raft", text), expected, "{text}");
            assert_eq!(check("server", text), "", "{text}");
        }
        assert_eq!(
            check("raft", "use std::{io, time::Duration};\nfn f(rand: u8, thread: u8) {}"),
            ""
        );
        assert_eq!(check("raft", "#[cfg(test)]\nmod tests { use std::fs; }"), "");
        assert_eq!(check("mvcc", "use parking_lot::RwLock;"), "");
        assert_eq!(
            check("apply", "use parking_lot::RwLock;"),
            "a.rs:1: apply is deterministic and must not lock\n"
        );
    }

    #[test]
    fn the_protocols_have_no_clock_socket_thread_or_chance() {
        for krate in ["http2", "grpc"] {
            for word in [
                "std::time::Instant",
                "std::time::SystemTime",
                "std::net::TcpStream",
                "std::os::fd::OwnedFd",
                "std::thread::spawn",
                "tokio::time::sleep",
                "rand::random",
                "fastrand::u8",
                "std::hash::RandomState",
            ] {
                let found = check(krate, &format!("fn f() {{ {word}(); }}"));
                assert!(found.contains("is deterministic"), "{krate}: {word}");
            }
        }
    }

    #[test]
    fn maps_have_an_order() {
        assert!(check("wal", "use std::collections::HashMap;").contains("its order is random"));
        assert!(check("wal", "use std::collections::BTreeMap;").is_empty());
        let hashed = "use std::{collections::HashMap, hash::BuildHasherDefault};";
        assert_eq!(check("wal", hashed), "");
        let call = format!("{hashed}\nfn f() {{ HashMap::new(); }}");
        assert!(check("wal", &call).contains("a.rs:2: HashMap::new: its order is random"));
    }

    #[test]
    fn habits() {
        let todo = concat!("// TO", "DO: later\n");
        assert!(check("server", todo).starts_with("a.rs:1: "));
        assert_eq!(
            check("server", "fn f() { dbg!(1); }"),
            "a.rs:1: dbg! is for work in progress\n"
        );
        assert_eq!(check("server", "use a::*;"), "a.rs:1: a::*: name what you import\n");
        assert_eq!(
            check("server", "unsafe { f() }"),
            "a.rs:1: unsafe belongs into env and bolt only\n"
        );
        let long = "x;\n".repeat(1001);
        assert_eq!(check("server", &long), "a.rs:1: 1001 lines of code; 1000 is the most\n");
        let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}");
        assert_eq!(check("server", &tests), "");
    }

    #[test]
    fn a_library_opens_with_its_five_lines() {
        let head =
            "//! What it is: a.\n//! What it never does: b.\n//! Entry types: c.\n//! Owner: d.\n";
        let check = |text: &str| {
            let mut findings = Vec::new();
            check_rust("crates/x/src/lib.rs", "server", false, text, &mut findings);
            findings.iter().map(|finding| finding.line).collect::<Vec<_>>()
        };
        assert!(check(&format!("{head}//! How to test it: e.\n")).is_empty());
        assert_eq!(check(head), [5]);
        assert_eq!(check("//! About x.\n"), [1, 2, 3, 4, 5]);
        assert_eq!(check(&format!("{head}//! How to test it: e.\n\n//! More.\n")), [6]);
    }

    #[test]
    fn text_is_clean() {
        let check = |text: &str| {
            let mut findings = Vec::new();
            check_text("a.md", text, &mut findings);
            findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(check("a\n\nb\n"), "");
        assert_eq!(
            check("a \nb"),
            "a.md:1: blanks at the end of the line; a.md:2: no newline at the end"
        );
        let place = format!("see {}home/me/notes\n", '/');
        assert_eq!(check(&place), "a.md:1: an absolute path of one machine");
        assert_eq!(check("https://example.com/home/x and src/work/y\n"), "");
    }
}
