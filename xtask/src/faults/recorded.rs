//! Whether the checker of histories says of each of 102 recorded histories of etcd what is known of it: they come with
//! the checker Porcupine, whose tests have the verdicts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sim::check::linear::{self, Call, Did, Value};

use crate::conformance::process;

const MODULE: &str = "github.com/anishathalye/porcupine@v1.1.0";

/// A history's name, and whether the checker is right about it.
pub(super) type Judged = (String, Result<(), String>);

/// Fetches the histories and judges each.
///
/// # Errors
/// They cannot be had here.
pub(super) fn judge_all() -> Result<Vec<Judged>, String> {
    let folder = download()?;
    let tests = read(&folder.join("porcupine_test.go"))?;
    let mut all = Vec::new();
    for (number, is_good) in verdicts(&tests) {
        let name = format!("etcd_{number:03}.log");
        let log = read(&folder.join("test_data/jepsen").join(&name))?;
        let found = linear::is_linearizable(&parse(&log));
        let result = match found {
            Ok(found) if found == is_good => Ok(()),
            other => Err(format!("linearizable: {other:?}, and it is {is_good}")),
        };
        all.push((name, result));
    }
    Ok(all)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The folder of the Go module with the histories.
fn download() -> Result<PathBuf, String> {
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", MODULE]);
    let text = process::run(&mut go, b"", Duration::from_secs(300))?.success("go mod download")?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
    json["Dir"].as_str().map(PathBuf::from).ok_or_else(|| format!("no folder in {text}"))
}

/// The number of each history, and whether it is linearizable, from lines `checkJepsen(t, 17, false)`.
fn verdicts(tests: &str) -> Vec<(u32, bool)> {
    let calls = tests.lines().filter_map(|line| line.trim().strip_prefix("checkJepsen(t, "));
    let verdict = |call: &str| {
        let (number, is_good) = call.strip_suffix(')')?.split_once(", ")?;
        Some((number.parse().ok()?, is_good.parse().ok()?))
    };
    calls.filter_map(verdict).collect()
}

/// Reads lines `INFO  jepsen.util - PROCESS :invoke|:ok|:fail|:info :read|:write|:cas VALUE`. Time is the line's number.
fn parse(log: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut pending: Vec<(&str, usize)> = Vec::new();
    let mut dropped = Vec::new();
    for (time, line) in (0..).zip(log.lines()) {
        let Some((_, line)) = line.split_once(" - ") else { continue };
        let words: Vec<&str> = line.split_whitespace().collect();
        let [process, kind, operation, values @ ..] = words.as_slice() else { continue };
        if *kind == ":invoke" {
            let Some(did) = invoked(operation, values) else { continue };
            pending.push((process, calls.len()));
            calls.push(Call { begin: time, end: u64::MAX, did });
            continue;
        }
        let Some(at) = pending.iter().position(|(other, _)| other == process) else { continue };
        let (_, number) = pending.swap_remove(at);
        match (*kind, calls[number].did) {
            (":ok", Did::Read(_)) => {
                calls[number].end = time;
                calls[number].did = Did::Read(values.first().and_then(|value| value.parse().ok()));
            }
            (":ok", Did::Write(_)) => calls[number].end = time,
            (":ok", Did::Swap(old, new, _)) => {
                calls[number].end = time;
                calls[number].did = Did::Swap(old, new, Some(Ok(())));
            }
            (":fail", Did::Swap(old, _, _)) => {
                calls[number].end = time;
                calls[number].did = Did::Differs(old);
            }
            // A read that failed says nothing; of anything else nobody knows whether it happened.
            (_, Did::Read(_)) => dropped.push(number),
            _ => {}
        }
    }
    dropped.extend(
        pending.iter().filter_map(|(_, number)| {
            matches!(calls[*number].did, Did::Read(_)).then_some(*number)
        }),
    );
    let kept = calls.into_iter().enumerate().filter(|(number, _)| !dropped.contains(number));
    kept.map(|(_, call)| call).collect()
}

fn invoked(operation: &str, values: &[&str]) -> Option<Did> {
    let value = |text: &str| -> Value { text.trim_matches(['[', ']']).parse().ok() };
    Some(match (operation, values) {
        (":read", _) => Did::Read(None),
        (":write", [new]) => Did::Write(value(new)),
        (":cas", [old, new]) => Did::Swap(value(old), value(new), None),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_with_what_is_not_known() {
        let log = "INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - 1\t:invoke\t:write\t4
INFO  jepsen.util - 0\t:ok\t:read\tnil
INFO  jepsen.util - 2\t:invoke\t:cas\t[4 2]
INFO  jepsen.util - 1\t:info\t:write\t:timed-out
INFO  jepsen.util - 2\t:fail\t:cas\t[4 2]
INFO  jepsen.util - 3\t:invoke\t:read\tnil
INFO  jepsen.util - 3\t:fail\t:read\t:timed-out";
        let calls = parse(log);
        let expected = [
            Call { begin: 0, end: 2, did: Did::Read(None) },
            Call { begin: 1, end: u64::MAX, did: Did::Write(Some(4)) },
            Call { begin: 3, end: 5, did: Did::Differs(Some(4)) },
        ];
        assert_eq!(calls, expected);
        assert_eq!(linear::is_linearizable(&calls), Ok(true));
        assert_eq!(
            verdicts("\tcheckJepsen(t, 7, true)\n\tcheckJepsen(t, 8, false)\n"),
            [(7, true), (8, false)]
        );
    }
}
