//! The list of what does not pass yet.

use std::fs;
use std::path::Path;

/// Lines of `out PATTERN  REASON` and `skip PATTERN  REASON`.
#[derive(Debug, Default)]
pub(super) struct Known(Vec<Line>);

/// A line of the list.
#[derive(Debug)]
pub(super) struct Line {
    /// The name of a test or subtest; `*` stands for any characters.
    pub(super) pattern: String,
    /// False when it is not even run, since it now passes and now does not.
    pub(super) is_run: bool,
}

impl Known {
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        Self::parse(&text).map_err(|why| format!("{}: {why}", file.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let (kind, pattern) = (words.next(), words.next());
            let is_run = match kind {
                Some("out") => true,
                Some("skip") => false,
                _ => return Err(format!("line {}: begins with neither out nor skip", number + 1)),
            };
            let Some(pattern) = pattern.filter(|_| words.next().is_some()) else {
                return Err(format!("line {}: no reason", number + 1));
            };
            lines.push(Line { pattern: pattern.to_owned(), is_run });
        }
        Ok(Self(lines))
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.0.iter()
    }

    /// Whether this test is expected to fail.
    pub(super) fn has(&self, test: &str) -> bool {
        self.0.iter().any(|line| line.is_run && line.matches(test))
    }

    /// What to leave out, as Go's `-test.skip` has it.
    pub(super) fn not_run(&self) -> Option<String> {
        let skipped = self.0.iter().filter(|line| !line.is_run).map(|line| {
            let parts = line.pattern.split('/');
            let exact: Vec<_> =
                parts.map(|part| format!("^{}$", part.replace('*', ".*"))).collect();
            exact.join("/")
        });
        let patterns: Vec<String> = skipped.collect();
        (!patterns.is_empty()).then(|| patterns.join("|"))
    }
}

impl Line {
    pub(super) fn matches(&self, test: &str) -> bool {
        let mut parts = self.pattern.split('*');
        let Some(mut rest) = test.strip_prefix(parts.next().unwrap_or_default()) else {
            return false;
        };
        let parts: Vec<&str> = parts.collect();
        let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
        for part in middle {
            let Some(at) = rest.find(part) else { return false };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::Known;

    #[test]
    fn patterns_match_as_people_expect() {
        let text = "# why\nout TestAuth*  no auth\nout */TLS  none\nout TestA/*x/b  c\nout TestB d\nskip TestC/D e";
        let known = Known::parse(text).expect("a list");
        for (test, expected) in [
            ("TestAuthEnable", true),
            ("TestX/TLS", true),
            ("TestX/y/TLS", true),
            ("TestX/NoTLS", false),
            ("TestX/TLS/more", false),
            ("TestA/x/b", true),
            ("TestA/yx/b", true),
            ("TestA/y/b", false),
            ("TestB", true),
            ("TestBB", false),
            ("TestC/D", false),
        ] {
            assert_eq!(known.has(test), expected, "{test}");
        }
        assert_eq!(known.not_run().as_deref(), Some("^TestC$/^D$"));
    }

    #[test]
    fn a_line_without_reason_is_refused() {
        for text in ["out TestA", "TestA because", "skip  TestA  "] {
            Known::parse(text).expect_err(text);
        }
    }
}
