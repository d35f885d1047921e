//! Part `cli`: one script of etcdctl and etcdutl commands, run against the real server and then against ours; standard
//! output, standard error and exit code of each command must be equal.
//!
//! The script is `conformance/cli.txt`; its first lines explain its form.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::normalise::normalise;
use super::process::{self, Member, Output, Server};
use super::{Outcome, tools::Tools};

#[derive(Debug, Default, PartialEq)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) words: Vec<String>,
    /// Variables for the command alone.
    environment: Vec<(String, String)>,
    stdin: String,
    /// Name under which the lease id printed by the command is remembered.
    capture: Option<String>,
    /// The command ends after so many lines.
    lines: Option<usize>,
    /// Nobody reads what it prints.
    closed: bool,
    /// It is interrupted when it has printed something.
    interrupt: bool,
    /// Only the official program is asked: ours is known to answer something else.
    pub(super) official: bool,
}

pub(super) struct Answer {
    stdout: String,
    stderr: String,
    code: i32,
}

/// Who plays a script: the tools, and the server.
#[derive(Clone, Copy)]
pub(super) struct Cast<'a> {
    pub(super) tools: &'a Tools,
    pub(super) etcdctl: &'a Path,
    pub(super) server: &'a Path,
}

pub(super) fn run(
    tools: &Tools,
    ours: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let mut steps = read(tools, "cli.txt")?;
    if !tools.has_35() {
        steps.retain(|step| !step.words[0].ends_with("35"));
    }
    // One identity for both servers, so that even the ids that they derive from it are comparable.
    let member = Member::new(work.join("data"));
    let (etcd, etcdctl) = (tools.bin("etcd"), tools.bin("etcdctl"));
    let cast = Cast { tools, etcdctl: &etcdctl, server: &etcd };
    let expected = play(cast, &member, work, &steps)?;
    eprintln!("cli: {} commands against the real server done", steps.len());
    let actual = play(Cast { server: ours, ..cast }, &member, work, &steps)?;
    for (step, (want, got)) in steps.iter().zip(expected.iter().zip(&actual)) {
        outcome.case(&format!("cli.txt:{}: {}", step.line, step.text), compare(want, got));
    }
    Ok(())
}

/// The steps of a script among the sources.
pub(super) fn read(tools: &Tools, name: &str) -> Result<Vec<Step>, String> {
    let path = tools.source.join(name);
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&text).map_err(|why| format!("{name}: {why}"))
}

/// Runs all steps, one after the other, on a fresh member.
pub(super) fn play(
    cast: Cast<'_>,
    member: &Member,
    work: &Path,
    steps: &[Step],
) -> Result<Vec<Answer>, String> {
    let _ = fs::remove_dir_all(&member.dir);
    let files = work.join("files");
    let _ = fs::remove_dir_all(&files);
    fs::create_dir_all(&files).map_err(|e| format!("{}: {e}", files.display()))?;
    let server = Server::start(cast.server, member, &[])?;
    server.wait_version("3.7.0")?;
    let mut known = vec![(files.display().to_string(), "$DIR".to_owned())];
    let mut answers = Vec::with_capacity(steps.len());
    for step in steps {
        let output = execute(cast, &server.endpoint(), &files, step, &known)?;
        if let Some(name) = &step.capture {
            remember(&mut known, name, &output)?;
        }
        answers.push(Answer {
            stdout: readable(&output.stdout, &known),
            stderr: readable(&output.stderr, &known),
            code: output.code,
        });
    }
    server.stop()?;
    Ok(answers)
}

fn execute(
    cast: Cast<'_>,
    endpoint: &str,
    files: &Path,
    step: &Step,
    known: &[(String, String)],
) -> Result<Output, String> {
    let program = match step.words[0].as_str() {
        "ctl" => cast.etcdctl.to_owned(),
        "utl" => cast.tools.bin("etcdutl"),
        "ctl35" => cast.tools.bin35("etcdctl"),
        "utl35" => cast.tools.bin35("etcdutl"),
        other => return Err(format!("line {}: unknown program {other}", step.line)),
    };
    let expand = |text: &str| {
        let mut text = text.replace("$EP", endpoint);
        for (value, name) in known {
            text = text.replace(name.as_str(), value);
        }
        text
    };
    let mut command = Command::new(program);
    command.current_dir(files);
    command.args(step.words[1..].iter().map(|word| expand(word)));
    if step.words[0].starts_with("ctl") && !step.text.contains("--endpoints") {
        command.env("ETCDCTL_ENDPOINTS", endpoint);
    }
    command.envs(step.environment.iter().map(|(name, value)| (name, expand(value))));
    let stdin = expand(&step.stdin);
    if step.closed {
        return process::run_closed(&mut command, Duration::from_secs(20));
    }
    if step.interrupt {
        return process::run_interrupted(&mut command, Duration::from_secs(20));
    }
    process::run_lines(&mut command, stdin.as_bytes(), Duration::from_secs(20), step.lines)
}

/// The lease id in the answer, in its two notations: hexadecimal as etcdctl prints it and decimal as JSON has it.
fn remember(known: &mut Vec<(String, String)>, name: &str, output: &Output) -> Result<(), String> {
    let text = output.text();
    // In the keys of locks it has no zeros before it.
    let is_id = |word: &&str| {
        (13..=16).contains(&word.len()) && word.chars().all(|c| c.is_ascii_hexdigit())
    };
    let word = text.split([' ', '\n', '/', '"']).find(is_id);
    let word = word.ok_or_else(|| format!("no lease id for ${name} in {text:?}"))?;
    let id = u64::from_str_radix(word, 16).map_err(|e| e.to_string())?;
    known.push((word.to_owned(), format!("${name}")));
    known.push((id.to_string(), format!("#{name}")));
    Ok(())
}

fn readable(bytes: &[u8], known: &[(String, String)]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => normalise(text, known),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

pub(super) fn compare(want: &Answer, got: &Answer) -> Result<(), String> {
    if want.code != got.code {
        let stderr = process::last_lines(&got.stderr, 2);
        return Err(format!("exit {} and not {}: {stderr}", got.code, want.code));
    }
    for (stream, want, got) in
        [("stdout", &want.stdout, &got.stdout), ("stderr", &want.stderr, &got.stderr)]
    {
        if want == got {
            continue;
        }
        let end = "(end)";
        let (mut theirs, mut mine) = (want.lines(), got.lines());
        loop {
            let (a, b) = (theirs.next().unwrap_or(end), mine.next().unwrap_or(end));
            if a != b || a == end {
                return Err(format!("{stream} differs\n    etcd: {a}\n    ours: {b}"));
            }
        }
    }
    Ok(())
}

fn parse(script: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut lines = script.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let mut text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let mut step = Step { line: index + 1, text: text.to_owned(), ..Step::default() };
        if let Some(head) = text.strip_suffix("<<") {
            text = head;
            loop {
                let (_, line) =
                    lines.next().ok_or_else(|| format!("line {}: no end", step.line))?;
                if line == "<<" {
                    break;
                }
                step.stdin.push_str(line);
                step.stdin.push('\n');
            }
        }
        if let Some((head, name)) = text.rsplit_once(" => ") {
            step.capture = Some(name.trim().to_owned());
            text = head;
        }
        if let Some((head, count)) = text.rsplit_once(" %lines=") {
            step.lines =
                Some(count.trim().parse().map_err(|e| format!("line {}: {e}", step.line))?);
            text = head;
        }
        for (mark, flag) in [
            (" %closed", &mut step.closed),
            (" %interrupt", &mut step.interrupt),
            (" %official", &mut step.official),
        ] {
            if let Some(head) = text.trim_end().strip_suffix(mark) {
                *flag = true;
                text = head;
            }
        }
        step.words = words(text);
        while let Some((name, value)) = step.words.first().and_then(|word| word.split_once('=')) {
            step.environment.push((name.to_owned(), value.to_owned()));
            step.words.remove(0);
        }
        steps.push(step);
    }
    Ok(steps)
}

/// Splits at blanks; single quotes keep a word together.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::{Step, parse};

    #[test]
    fn a_script_is_read_line_by_line() {
        let steps = parse(
            "# note\nctl put a ''\nctl txn -w json <<\nx\n\n<<\nctl watch 'a b' %lines=3\nctl l => L\nA=b ctl x %closed\n",
        );
        let word = |text: &str| text.split('|').map(str::to_owned).collect::<Vec<_>>();
        let step = |line, text: &str, words| Step {
            line,
            text: text.to_owned(),
            words: word(words),
            ..Step::default()
        };
        let expected = vec![
            step(2, "ctl put a ''", "ctl|put|a|"),
            Step { stdin: "x\n\n".to_owned(), ..step(3, "ctl txn -w json <<", "ctl|txn|-w|json") },
            Step { lines: Some(3), ..step(7, "ctl watch 'a b' %lines=3", "ctl|watch|a b") },
            Step { capture: Some("L".to_owned()), ..step(8, "ctl l => L", "ctl|l") },
            Step {
                environment: vec![("A".to_owned(), "b".to_owned())],
                closed: true,
                ..step(9, "A=b ctl x %closed", "ctl|x")
            },
        ];
        assert_eq!(steps, Ok(expected));
    }
}
