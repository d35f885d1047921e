//! h2spec in strict mode: each of its cases is one of ours, but those of which `conformance/http2/dropped.txt` says by
//! which sentence RFC 9113 dropped them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::conformance::process::{self, Member, Server};
use crate::conformance::{Outcome, tools::Tools};

/// How long h2spec waits for an answer, in seconds: a case that fails waits so long.
const ANSWER_SECONDS: &str = "2";
/// And when a case is tried again, since the machine may have been slow.
const PATIENT_SECONDS: &str = "20";
const LIMIT: Duration = Duration::from_secs(300);

/// What h2spec says of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Skipped,
    /// What was expected, and what came.
    Failed(String),
}

#[derive(Debug, PartialEq, Eq)]
struct Case {
    /// Section and number, `http2/5.3.1/2`.
    id: String,
    name: String,
    verdict: Verdict,
}

pub(super) fn run(
    tools: &Tools,
    ours: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let path = tools.source.join("http2/dropped.txt");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut dropped = parse_dropped(&text)?;
    let program = tools.h2spec()?;
    let member = Member::new(work.join("h2spec"));
    // Without a limit of streams there is nothing to exceed.
    let server = Server::start(ours, &member, &["--max-concurrent-streams", "64"])?;
    let judge = |seconds: &str, section: Option<&str>| {
        let report = work.join("h2spec.xml");
        let mut command = Command::new(&program);
        command.args(["--strict", "--timeout", seconds, "--junit-report"]).arg(&report);
        command.args(["--port", &server.member.client_port.to_string()]).args(section);
        let output = process::run(&mut command, b"", LIMIT)?;
        let text = fs::read_to_string(&report)
            .map_err(|e| format!("no report: {e}: {}", process::last_lines(&output.text(), 3)))?;
        Ok::<_, String>(parse_report(&text))
    };
    for mut case in judge(ANSWER_SECONDS, None)? {
        let is_dropped = dropped.remove(case.id.as_str());
        if !is_dropped && case.verdict != Verdict::Passed {
            println!("h2spec: {}: {:?}; again", case.id, case.verdict);
            case.verdict = match judge(PATIENT_SECONDS, Some(&case.id))?.pop() {
                Some(again) => again.verdict,
                None => Verdict::Failed("it is not run alone".to_owned()),
            };
        }
        let name = format!("h2spec {}: {}", case.id, case.name);
        match (case.verdict, is_dropped) {
            (Verdict::Passed, false) => outcome.case(&name, Ok(())),
            (Verdict::Passed, true) => {
                outcome.case(&name, Err("it passes, and is in dropped.txt".to_owned()));
            }
            (Verdict::Skipped, _) => outcome.case(&name, Err("h2spec skips it".to_owned())),
            (Verdict::Failed(why), false) => outcome.case(&name, Err(why)),
            (Verdict::Failed(_), true) => println!("h2spec: dropped by RFC 9113: {name}"),
        }
    }
    for id in dropped {
        outcome.case(&format!("h2spec {id}"), Err("no such case, but in dropped.txt".to_owned()));
    }
    server.stop()
}

/// The ids in a list of dropped cases, each with a reason behind it.
fn parse_dropped(text: &str) -> Result<BTreeSet<&str>, String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_once(char::is_whitespace) {
            Some((id, _)) => Ok(id),
            None => Err(format!("dropped.txt: no reason: {line}")),
        })
        .collect()
}

/// The cases of a report as h2spec writes it: each element begins a line, texts are not escaped.
fn parse_report(text: &str) -> Vec<Case> {
    let mut counts = BTreeMap::new();
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with("<testcase ") {
            let section = attribute(line, "package");
            let count = counts.entry(section).or_insert(0);
            *count += 1;
            let id = format!("{section}/{count}");
            let name = attribute(line, "classname").to_owned();
            cases.push(Case { id, name, verdict: Verdict::Passed });
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        if line.starts_with("<skipped>") {
            case.verdict = Verdict::Skipped;
        } else if let Some(what) = line.strip_prefix("<error>").or(line.strip_prefix("<failure>")) {
            case.verdict = Verdict::Failed(format!("one of: {what}"));
        } else if let Verdict::Failed(what) = &mut case.verdict
            && !line.starts_with("</")
        {
            what.push_str("; ");
            what.push_str(line);
        }
        if let Verdict::Failed(what) = &mut case.verdict
            && let Some(end) = what.find("</")
        {
            what.truncate(end);
        }
    }
    cases
}

fn attribute<'l>(line: &'l str, name: &str) -> &'l str {
    let value = line.split_once(&format!("{name}=\"")).map(|(_, rest)| rest);
    value.and_then(|value| value.split_once('"')).map_or("", |(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites>
  <testsuite name="5.3.1. Dependencies" package="http2/5.3.1" id="5.3.1" tests="2" errors="1">
    <testcase package="http2/5.3.1" classname="Sends one" time="2.0014">
      <error>GOAWAY Frame
Connection closed
DATA Frame (length:37)</error>
    </testcase>
    <testcase package="http2/5.3.1" classname="Sends another" time="0.0001"></testcase>
  </testsuite>
  <testsuite name="6. Frames" package="http2/6" id="6" tests="1">
    <testcase package="http2/6" classname="Sends none" time="0.0001">
      <skipped></skipped>
    </testcase>
  </testsuite>
</testsuites>"#;
        let cases = parse_report(text);
        let told: Vec<_> =
            cases.iter().map(|case| (case.id.as_str(), case.name.as_str())).collect();
        let expected = [
            ("http2/5.3.1/1", "Sends one"),
            ("http2/5.3.1/2", "Sends another"),
            ("http2/6/1", "Sends none"),
        ];
        assert_eq!(told, expected);
        let why = "one of: GOAWAY Frame; Connection closed; DATA Frame (length:37)";
        assert_eq!(cases[0].verdict, Verdict::Failed(why.to_owned()));
        assert_eq!(cases[1].verdict, Verdict::Passed);
        assert_eq!(cases[2].verdict, Verdict::Skipped);
    }

    #[test]
    fn dropped_cases_have_a_reason() {
        let ids = parse_dropped("# a comment\n\nhttp2/1/1  why\n").expect("a list");
        assert_eq!(ids.into_iter().collect::<Vec<_>>(), ["http2/1/1"]);
        assert!(parse_dropped("http2/1/1").is_err());
    }
}
