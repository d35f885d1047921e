//! What the process of one test printed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::known::Known;

/// Marks what the testing package itself writes, under `-test.v=test2json`.
const MARK: char = '\u{16}';

/// What the framework says of goroutines of its own that still wait for a process which it has stopped. They would have
/// ended long ago if other tests had followed in the same process.
const LEFTOVERS: &str = "\u{16}PASS\nUnexpected goroutines running after all test(s).";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Skip,
    /// Also one that has begun and not ended: another one panicked, or the time was over.
    Fail,
}

/// One test with its subtests.
#[derive(Debug)]
pub(super) struct Report {
    name: String,
    /// Those without subtests.
    pub(super) leaves: BTreeMap<String, Verdict>,
    code: i32,
    text: String,
    log: Option<PathBuf>,
}

impl Report {
    pub(super) fn read(name: &str, text: &str, code: i32, log: PathBuf) -> Self {
        let (mut begun, mut ended) = (BTreeSet::new(), BTreeMap::new());
        for line in text.lines() {
            let Some((_, line)) = line.split_once(MARK) else { continue };
            if let Some(test) = line.strip_prefix("=== RUN") {
                begun.insert(test.trim());
            } else if let Some((verdict, test)) = result(line) {
                ended.insert(test, verdict);
            }
        }
        let is_leaf = |test: &&&str| {
            let prefix = format!("{test}/");
            // They are in order, but others may stand between a test and its subtests.
            !begun.iter().any(|other| other.starts_with(&prefix))
        };
        let verdict = |test: &str| ended.get(test).copied().unwrap_or(Verdict::Fail);
        let leaves = begun.iter().filter(is_leaf).map(|test| (test.to_string(), verdict(test)));
        Self {
            name: name.to_owned(),
            leaves: leaves.collect(),
            code,
            text: text.to_owned(),
            log: Some(log),
        }
    }

    /// Of a process that could not be run.
    pub(super) fn lost(name: &str, why: &str) -> Self {
        let leaves = BTreeMap::from([(name.to_owned(), Verdict::Fail)]);
        Self { name: name.to_owned(), leaves, code: -1, text: why.to_owned(), log: None }
    }

    /// What is otherwise than the list says, and why.
    pub(super) fn unexpected<'a>(
        &'a self,
        known: &'a Known,
    ) -> impl Iterator<Item = (&'a str, String)> {
        let leaves = self.leaves.iter().filter_map(|(leaf, verdict)| {
            let why = match (verdict, known.has(leaf)) {
                (Verdict::Fail, false) => self.why(),
                (Verdict::Pass, true) => "passes now: take it off the list".to_owned(),
                _ => return None,
            };
            Some((leaf.as_str(), why))
        });
        // A test may fail behind its subtests, or the process when all have ended.
        let is_explained = self.code == 0
            || self.text.contains(LEFTOVERS)
            || self.leaves.values().any(|verdict| *verdict == Verdict::Fail);
        let rest = (!is_explained).then(|| (self.name.as_str(), self.why()));
        leaves.chain(rest)
    }

    /// The lines that tell most, and where the others are.
    pub(super) fn why(&self) -> String {
        const TELLING: [&str; 6] =
            ["Error:  ", "panic: ", "Error Trace:", "could not ", "timed out", "Messages:"];
        let is_telling = |line: &&str| TELLING.iter().any(|word| line.contains(word));
        let mut lines: Vec<&str> = self.text.lines().filter(is_telling).take(8).collect();
        if lines.is_empty() {
            lines = self.text.lines().rev().take(4).collect();
            lines.reverse();
        }
        let short = |line: &str| line.trim().chars().take(300).collect::<String>();
        let lines: Vec<String> = lines.into_iter().map(short).collect();
        let log = self.log.as_deref().map_or(String::new(), |log| log.display().to_string());
        format!("exit code {}\n    {}\n    all of it: {log}", self.code, lines.join("\n    "))
    }
}

/// `--- PASS: TestName (0.00s)`.
fn result(line: &str) -> Option<(Verdict, &str)> {
    let (verdict, rest) = line.strip_prefix("--- ")?.split_once(": ")?;
    let verdict = match verdict {
        "PASS" => Verdict::Pass,
        "SKIP" => Verdict::Skip,
        "FAIL" => Verdict::Fail,
        _ => return None,
    };
    Some((verdict, rest.rsplit_once(" (")?.0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::{Known, Report, Verdict};

    #[test]
    fn leaves_are_counted_and_what_never_ended_has_failed() {
        let text = "\u{16}=== RUN   TestA\n\u{16}=== RUN   TestA/b\nnoise\u{16}=== RUN   TestA/b/c_(d)\n\
                    \u{16}--- PASS: TestA/b/c_(d) (0.10s)\n\u{16}=== RUN   TestA/bb\n\u{16}--- SKIP: TestA/bb (0.00s)\n\
                    --- PASS: TestZ (0.00s)\n\u{16}=== RUN   TestA/e\npanic: no";
        let report = Report::read("TestA", text, 2, PathBuf::from("log"));
        let expected = [
            ("TestA/b/c_(d)", Verdict::Pass),
            ("TestA/bb", Verdict::Skip),
            ("TestA/e", Verdict::Fail),
        ];
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|(name, verdict)| (name.to_owned(), verdict)).collect();
        assert_eq!(report.leaves, expected);
        let known = Known::default();
        let unexpected: Vec<_> = report.unexpected(&known).map(|(name, _)| name).collect();
        assert_eq!(unexpected, ["TestA/e"]);
    }

    #[test]
    fn a_process_that_fails_behind_its_subtests_has_failed() {
        let text = "\u{16}=== RUN   TestA\n\u{16}--- PASS: TestA (0.00s)\nToo many goroutines";
        let report = Report::read("TestA", text, 1, PathBuf::from("log"));
        let known = Known::default();
        assert_eq!(report.unexpected(&known).count(), 1);
        let text = "\u{16}=== RUN   TestA\n\u{16}--- PASS: TestA (0.00s)\n\u{16}=== NAME  \n\u{16}PASS\n\
                    Unexpected goroutines running after all test(s).\n1 instances of:";
        let report = Report::read("TestA", text, 1, PathBuf::from("log"));
        assert_eq!(report.unexpected(&known).count(), 0);
    }
}
