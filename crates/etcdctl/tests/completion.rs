//! The scripts of `etcdctl completion` in the shells that they are for: what is typed, and what is offered.

use std::path::Path;
use std::process::{Command, Stdio};

/// What is typed, and what must be among the candidates; nothing where there must be none.
const LINES: [(&str, &[&str]); 9] = [
    ("etcdctl ", &["get", "put", "lease", "make-mirror", "completion"]),
    ("etcdctl lease k", &["keep-alive"]),
    ("etcdctl me", &["member"]),
    ("etcdctl get --or", &["--order"]),
    ("etcdctl get --order A", &["ASCEND"]),
    ("etcdctl -w j", &["json"]),
    ("etcdctl completion ", &["bash", "fish", "powershell", "zsh"]),
    ("etcdctl check perf --load ", &["large", "medium", "small", "xLarge"]),
    ("etcdctl lease nope", &[]),
];

#[expect(clippy::print_stderr, reason = "who runs the tests should know what was not tried")]
fn skipped(what: &str) {
    eprintln!("skipped: completion in {what}");
}

/// Our program, found as `etcdctl`.
fn shell(name: &str) -> Command {
    let bin = Path::new(env!("CARGO_BIN_EXE_etcdctl")).parent().expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{}:{path}", bin.display())).env("TERM", "dumb");
    command.stdin(Stdio::null());
    command
}

/// What a shell writes; nothing if there is no such shell here.
fn run(name: &str, arguments: &[&str]) -> Option<String> {
    let output = match shell(name).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            skipped(&format!("{name}: {error}"));
            return None;
        }
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {} {stderr}", output.status);
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn check(shell: &str, line: &str, offered: &[String], expected: &[&str]) {
    let has = |word: &&str| offered.iter().any(|candidate| candidate == word);
    assert!(expected.iter().all(has), "{shell}: {line:?} offers {offered:?}");
    assert!(!expected.is_empty() || offered.is_empty(), "{shell}: {line:?} offers {offered:?}");
}

#[test]
fn bash_offers_what_fits() {
    let registered = "source <(etcdctl completion bash); complete -p etcdctl";
    let Some(how) = run("bash", &["--norc", "-c", registered]) else { return };
    let words: Vec<&str> = how.split_whitespace().collect();
    let ["complete", options @ .., "-F", function, "etcdctl"] = words.as_slice() else {
        panic!("not registered: {how}");
    };
    assert!(options.is_empty(), "{how}");
    for (line, expected) in LINES {
        // As readline calls it.
        let script = format!(
            "source <(etcdctl completion bash)
            COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9; COMP_KEY=9
            read -ra COMP_WORDS <<<\"$COMP_LINE\"
            if [[ $COMP_LINE == *' ' ]]; then COMP_WORDS+=(''); fi
            COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            {function} etcdctl \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"
            printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let found = run("bash", &["--norc", "-c", &script]).expect("it was there a moment ago");
        let offered: Vec<String> =
            found.lines().filter(|word| !word.is_empty()).map(str::to_owned).collect();
        check("bash", line, &offered, expected);
    }
    // What bash has split at the sign takes the place of what stands behind it.
    let split = format!(
        "source <(etcdctl completion bash); COMP_LINE='etcdctl get --order=D'; COMP_POINT=21
        COMP_WORDS=(etcdctl get --order = D); COMP_CWORD=4; {function} etcdctl D =
        echo \"${{COMPREPLY[@]}}\""
    );
    let found = run("bash", &["--norc", "-c", &split]).expect("it was there a moment ago");
    assert_eq!(found.trim(), "DESCEND");
}

#[test]
fn fish_offers_what_fits() {
    for (line, expected) in LINES {
        let script = format!("etcdctl completion fish | source; complete -C '{line}'");
        let Some(found) = run("fish", &["--no-config", "-c", &script]) else { return };
        let words = found.lines().filter_map(|line| line.split('\t').next());
        check("fish", line, &words.map(str::to_owned).collect::<Vec<_>>(), expected);
    }
}

/// A shell in a terminal, with a key that completes. What it completes to is run: it is no command without.
#[test]
fn zsh_completes_what_is_typed() {
    let script = "zmodload zsh/zpty || exit 1
        zpty shell 'zsh -f -i'
        zpty -w shell 'autoload -U compinit; compinit -u -D; source <(etcdctl completion zsh); echo rea''dy'
        zpty -r shell out '*ready*'
        zpty -n -w shell $'etcdctl completion po\\t\\n'
        zpty -r shell out '*PowerShell completion for etcdctl*'
        print -r -- $out
        zpty -d shell";
    let Some(found) = run("timeout", &["60", "sh", "-c", "command -v zsh || true"]) else { return };
    if found.is_empty() {
        skipped("zsh: it is not installed");
        return;
    }
    let found = run("timeout", &["60", "zsh", "-f", "-c", script]).expect("it was there");
    assert!(found.contains("etcdctl completion powershell"), "{found}");
}

#[test]
fn powershell_offers_what_fits() {
    for (line, expected) in LINES {
        let script = format!(
            "etcdctl completion powershell | Out-String | Invoke-Expression
            (TabExpansion2 '{line}' {}).CompletionMatches.CompletionText",
            line.len()
        );
        let arguments = ["-NoProfile", "-NonInteractive", "-Command", &script];
        let Some(found) = run("pwsh", &arguments) else { return };
        // Where nothing is offered, PowerShell offers files.
        if !expected.is_empty() {
            check(
                "PowerShell",
                line,
                &found.lines().map(str::to_owned).collect::<Vec<_>>(),
                expected,
            );
        }
    }
}
