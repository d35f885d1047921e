//! Replays etcd's data-driven scripts: a test harness, of no use in production.
//!
//! A script is a text of commands, each followed by `----` and the output it must have. Three kinds exist, told
//! apart by their commands: whole clusters (`interaction`), and the small packages `quorum` and `confchange`.
//! Commands, options and texts are those of etcd-io/raft's package rafttest and of its tests.

mod changes;
mod cluster;
mod directive;
mod interaction;
mod votes;

use std::fmt;

use directive::Directive;

/// Where a script's output differs first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Line of the command, from 1.
    pub line: usize,
    /// The command with its arguments.
    pub command: String,
    /// What the script says.
    pub expected: String,
    /// What came out, or why nothing did.
    pub actual: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "line {}: {}", self.line, self.command)?;
        let (expected, actual): (Vec<_>, Vec<_>) =
            (self.expected.lines().collect(), self.actual.lines().collect());
        let at = expected.iter().zip(&actual).take_while(|(e, a)| e == a).count();
        writeln!(f, "  first difference at line {} of the output", at + 1)?;
        writeln!(f, "  - {}", expected.get(at).unwrap_or(&"(end)"))?;
        write!(f, "  + {}", actual.get(at).unwrap_or(&"(end)"))
    }
}

/// Why a command has no output to compare.
#[derive(Debug)]
enum Failure {
    /// Part of the output: raft or the storage refused something.
    Reported(String),
    /// The script itself is wrong.
    Fatal(String),
}

impl Failure {
    fn fatal(text: impl Into<String>) -> Self {
        Self::Fatal(text.into())
    }

    fn reported(error: impl fmt::Display) -> Self {
        Self::Reported(error.to_string())
    }
}

/// Replays one script from its text.
pub fn replay(text: &str) -> Result<(), Box<Mismatch>> {
    let directives = directive::parse(text)?;
    let is = |names: &[&str]| directives.iter().any(|d| names.contains(&d.command.as_str()));
    if is(&["committed", "vote"]) {
        run(&directives, votes::handle)
    } else if is(&["simple", "enter-joint", "leave-joint"]) {
        let mut changes = changes::Changes::new();
        run(&directives, |directive| changes.handle(directive))
    } else {
        let mut env = cluster::Cluster::new();
        run(&directives, |directive| interaction::handle(&mut env, directive))
    }
}

/// Replays a script of a whole cluster and returns the [trace](crate::trace) of all members, one event a line.
pub fn trace(text: &str) -> Result<Vec<String>, Box<Mismatch>> {
    let directives = directive::parse(text)?;
    let mut env = cluster::Cluster::traced();
    run(&directives, |directive| interaction::handle(&mut env, directive))?;
    Ok(env.events.unwrap_or_default())
}

fn run(
    directives: &[Directive],
    mut handle: impl FnMut(&Directive) -> Result<String, Failure>,
) -> Result<(), Box<Mismatch>> {
    for directive in directives {
        let mut actual = match handle(directive) {
            Ok(actual) => actual,
            Err(Failure::Reported(text)) => text,
            Err(Failure::Fatal(text)) => {
                return Err(directive.mismatch(format!("(failed: {text})")));
            }
        };
        if !actual.is_empty() && !actual.ends_with('\n') {
            actual.push('\n');
        }
        if actual != directive.expected {
            return Err(directive.mismatch(actual));
        }
    }
    Ok(())
}
