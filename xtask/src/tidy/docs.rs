//! Rules that keep documents and marks true to the code.

use std::collections::BTreeMap;
use std::path::Path;

use super::Finding;

/// All that the code holds, for documents to be compared with.
#[derive(Debug, Default)]
pub(crate) struct Code {
    /// Every Rust file in one text.
    pub(crate) text: String,
    /// Marks `flow: NAME (i/n)`, with where they stand.
    flows: Vec<Flow>,
    /// Where a difference from etcd is marked.
    differences: Vec<(String, usize)>,
}

/// A mark at a point where one owner hands over to the next.
#[derive(Debug)]
pub(crate) struct Flow {
    path: String,
    line: usize,
    name: String,
    step: usize,
    steps: usize,
}

impl Code {
    /// Takes in a Rust file.
    pub(crate) fn add(&mut self, path: &str, text: &str) {
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim_start().starts_with("//") && line.contains("DIFF(etcd):") {
                self.differences.push((path.to_owned(), number));
            }
            let Some(mark) = line.trim_start().strip_prefix("// flow: ") else { continue };
            let Some((name, step, steps)) = read_mark(mark) else { continue };
            let name = name.to_owned();
            self.flows.push(Flow { path: path.to_owned(), line: number, name, step, steps });
        }
        self.text.push_str(text);
    }

    /// Each file with a mark of a difference from etcd is named in `document`.
    pub(crate) fn check_differences(&self, document: &str, findings: &mut Vec<Finding>) {
        for (path, line) in &self.differences {
            if !document.contains(&format!("`{path}`")) {
                let what =
                    "a difference from etcd that docs/differences.md does not list".to_owned();
                findings.push(Finding::new(path, *line, what));
            }
        }
    }

    /// Each flow has each of its steps once.
    pub(crate) fn check_flows(&self, findings: &mut Vec<Finding>) {
        let mut flows: BTreeMap<&str, Vec<&Flow>> = BTreeMap::new();
        for flow in &self.flows {
            flows.entry(&flow.name).or_default().push(flow);
        }
        for (name, marks) in flows {
            let steps = marks[0].steps;
            for mark in &marks {
                let twins = marks.iter().filter(|other| other.step == mark.step).count();
                if twins > 1 || mark.steps != steps || mark.step > steps {
                    let what =
                        format!("flow {name}: step {} of {} does not fit", mark.step, mark.steps);
                    findings.push(Finding::new(&mark.path, mark.line, what));
                }
            }
            for step in (1..=steps).filter(|step| marks.iter().all(|mark| mark.step != *step)) {
                let what = format!("flow {name}: step {step} of {steps} is marked nowhere");
                findings.push(Finding::new(&marks[0].path, marks[0].line, what));
            }
        }
    }

    /// Paths, constants and types that a document names in code spans must exist, and its links must lead somewhere.
    pub(crate) fn check_document(
        &self,
        root: &Path,
        path: &str,
        text: &str,
        findings: &mut Vec<Finding>,
    ) {
        let folder = root.join(path);
        let folder = folder.parent().unwrap_or(root);
        let mut is_block = false;
        for (number, line) in (1..).zip(text.lines()) {
            let mut complain = |what: String| findings.push(Finding::new(path, number, what));
            if line.starts_with("```") {
                is_block = !is_block;
            }
            if is_block {
                continue;
            }
            for target in links(line) {
                let target = target.split('#').next().unwrap_or_default();
                if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                    complain(format!("the link leads nowhere: {target}"));
                }
            }
            for span in spans(line) {
                let is_path = ["crates/", "xtask/", "docs/", "conformance/", ".ci/"]
                    .iter()
                    .any(|start| span.starts_with(start));
                if is_path && !span.contains('*') && !root.join(span).exists() {
                    complain(format!("there is no {span}"));
                }
                if is_item(span) && !self.has_item(span) {
                    complain(format!("the code has no {span}"));
                }
            }
        }
    }

    /// `a::b::C` exists when crate `a` does and the code has the word `C`; a constant when it is declared.
    fn has_item(&self, span: &str) -> bool {
        let name = span.rsplit("::").next().unwrap_or(span);
        let kinds = ["const ", "static ", "struct ", "enum ", "trait ", "fn ", "mod ", "type "];
        let declared = kinds.iter().any(|kind| self.has_word(&format!("{kind}{name}")));
        // The variants of an enum are declared by their bare name.
        declared || (span.contains("::") && self.has_word(&format!("    {name}")))
    }

    fn has_word(&self, word: &str) -> bool {
        self.text.match_indices(word).any(|(at, _)| {
            let after = self.text[at + word.len()..].chars().next();
            !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
        })
    }
}

fn read_mark(mark: &str) -> Option<(&str, usize, usize)> {
    let (name, steps) = mark.split_once(" (")?;
    let (step, steps) = steps.split(')').next()?.split_once('/')?;
    Some((name, step.parse().ok()?, steps.parse().ok()?))
}

/// A constant in capitals with an underscore, or a path of the code such as `raft::RawNode`.
fn is_item(span: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_constant = span.contains('_')
        && span.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        && !span.starts_with("ETCD_");
    let is_path = span.contains("::")
        && !span.starts_with("std::")
        && span.split("::").all(|part| !part.is_empty() && part.chars().all(is_word));
    is_constant || is_path
}

/// What stands between backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

#[cfg(test)]
mod tests {
    use super::Code;
    use std::path::Path;

    fn document(code: &str, text: &str) -> String {
        let mut all = Code::default();
        all.add("a.rs", code);
        let mut findings = Vec::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        all.check_document(root, "README.md", text, &mut findings);
        findings.iter().map(|finding| format!("{finding}\n")).collect()
    }

    #[test]
    fn a_document_names_what_exists() {
        let code =
            "pub const QUEUE_MAX: usize = 1;\npub struct RawNode {}\nenum E {\n    Tick,\n}\n";
        assert_eq!(
            document(code, "`QUEUE_MAX`, `raft::RawNode`, `replica::Event::Tick`, `x`\n"),
            ""
        );
        assert_eq!(document(code, "\n`QUEUE_MIN`\n"), "README.md:2: the code has no QUEUE_MIN\n");
        assert_eq!(
            document(code, "`raft::RawNod`\n"),
            "README.md:1: the code has no raft::RawNod\n"
        );
        assert_eq!(document(code, "`docs/none.md`\n"), "README.md:1: there is no docs/none.md\n");
        assert_eq!(document(code, "[a](src/main.rs) [b](https://c/d)\n"), "");
        assert_eq!(
            document(code, "[a](gone.rs#x)\n"),
            "README.md:1: the link leads nowhere: gone.rs\n"
        );
        assert_eq!(document(code, "```text\n`docs/none.md`\n```\n"), "");
    }

    #[test]
    fn differences_are_listed() {
        let mut code = Code::default();
        code.add("a.rs", "fn f() {}\n    // DIFF(etcd): there it panics.\n");
        let mut findings = Vec::new();
        code.check_differences("in `a.rs`", &mut findings);
        assert!(findings.is_empty());
        code.check_differences("in `b.rs`", &mut findings);
        assert_eq!(
            findings[0].to_string(),
            "a.rs:2: a difference from etcd that docs/differences.md does not list"
        );
    }

    #[test]
    fn flows_are_whole() {
        let check = |text: &str| {
            let mut code = Code::default();
            code.add("a.rs", text);
            let mut findings = Vec::new();
            code.check_flows(&mut findings);
            findings.iter().map(|finding| format!("{finding}\n")).collect::<String>()
        };
        assert_eq!(check("// flow: put (1/2)\n    // flow: put (2/2)\n"), "");
        assert_eq!(
            check("// flow: put (1/2)\n"),
            "a.rs:1: flow put: step 2 of 2 is marked nowhere\n"
        );
        assert_eq!(
            check("// flow: put (1/1)\n// flow: put (1/1)\n").lines().next(),
            Some("a.rs:1: flow put: step 1 of 1 does not fit")
        );
    }
}
