//! Part `ctl`: our etcdctl beside the official one. Both run the same scripts against our server, each from a fresh member;
//! standard output, standard error and exit code of each command must be equal.
//!
//! The scripts are the commands of etcdctl in `conformance/cli.txt`, `conformance/ctl.txt`, `conformance/ctl-formats.txt`
//! and, against the real server, `conformance/ctl-auth.txt`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::cli::{self, Cast};
use super::process::{self, Member, Server};
use super::{Outcome, tools::Tools};

/// What passes of a snapshot before the way is blocked.
const SNAPSHOT_BYTES: u64 = 256 << 10;

pub(super) fn run(
    tools: &Tools,
    server: &Path,
    etcdctl: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let official = tools.bin("etcdctl");
    let member = Member::new(work.join("data"));
    let etcd = tools.bin("etcd");
    let scripts = [
        ("cli.txt", server),
        ("ctl.txt", server),
        ("ctl-formats.txt", server),
        ("ctl-auth.txt", etcd.as_path()),
    ];
    for (script, server) in scripts {
        let mut steps = cli::read(tools, script)?;
        steps.retain(|step| step.words[0] == "ctl" && !step.official);
        let cast = Cast { tools, etcdctl: &official, server };
        let expected = cli::play(cast, &member, work, &steps)?;
        let actual = cli::play(Cast { etcdctl, ..cast }, &member, work, &steps)?;
        for (step, (want, got)) in steps.iter().zip(expected.iter().zip(&actual)) {
            let name = format!("ctl {script}:{}: {}", step.line, step.text);
            outcome.case(&name, cli::compare(want, got));
        }
    }
    at_a_terminal(server, etcdctl, work, outcome)?;
    outcome.case("ctl an interrupted snapshot", interrupted_snapshot(server, etcdctl, work));
    for (name, flags) in MIRRORS {
        let theirs = mirror(server, &official, &official, flags, &work.join("theirs"));
        let ours = mirror(server, &official, etcdctl, flags, &work.join("ours"));
        let result = match (theirs, ours) {
            (Ok(theirs), Ok(ours)) if theirs == ours => Ok(()),
            (theirs, ours) => Err(format!("\n    etcd: {theirs:?}\n    ours: {ours:?}")),
        };
        outcome.case(&format!("ctl make-mirror: {name}"), result);
    }
    Ok(())
}

/// What a person sees beyond what programs get: colours, progress, hints, and `top`. The program `script` is the terminal.
fn at_a_terminal(
    server: &Path,
    etcdctl: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let server = Server::start(server, &Member::new(work.join("terminal")), &[])?;
    let endpoint = server.endpoint();
    let run = |line: &str, variable: &str, typed: &str| {
        let mut command = Command::new("script");
        let at = if line.contains("--endpoints") { "" } else { &format!("--endpoints {endpoint}") };
        let line = format!("{variable} {} {at} {line}", etcdctl.display());
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.env("TERM", "xterm").env_remove("NO_COLOR").current_dir(work);
        process::run(&mut command, typed.as_bytes(), Duration::from_secs(20))
    };
    let check = |output: &process::Output, code, has: &[&str], not: &[&str]| {
        let text = output.text();
        let missing = has.iter().find(|part| !text.contains(**part));
        let surplus = not.iter().find(|part| text.contains(**part));
        match (missing, surplus) {
            _ if output.code != code => {
                Err(format!("exit {} and not {code}: {text:?}", output.code))
            }
            (Some(part), _) => Err(format!("no {part:?} in {text:?}")),
            (_, Some(part)) => Err(format!("{part:?} in {text:?}")),
            (None, None) => Ok(()),
        }
    };
    let health = format!("\x1b[32m{endpoint} is healthy: ");
    let mut plain = Command::new(etcdctl);
    plain.args(["--endpoints", &endpoint, "endpoint", "health"]);
    let plain = process::run(&mut plain, b"", Duration::from_secs(20))?;
    let once = "top --interval 100ms --once | cat";
    let (begin, end) = ("\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l");
    let nobody = "--endpoints 127.0.0.1:1 --command-timeout 200ms get a";
    let results = [
        ("colours", check(&run("endpoint health", "", "")?, 0, &[&health], &[])),
        (
            "NO_COLOR",
            check(&run("endpoint health", "NO_COLOR=1", "")?, 0, &["is healthy:"], &["\x1b"]),
        ),
        (
            "TERM=dumb",
            check(&run("endpoint health", "TERM=dumb", "")?, 0, &["is healthy:"], &["\x1b"]),
        ),
        ("none in a pipe", check(&plain, 0, &["is healthy:"], &["\x1b"])),
        ("progress", check(&run("snapshot save x.db", "", "")?, 0, &["snapshot ", "100%"], &[])),
        ("a hint", check(&run(nobody, "", "")?, 1, &["Hint: nothing listens at 127.0.0.1:1"], &[])),
        ("top", check(&run("top", "", "q")?, 0, &[begin, "leader", "q quits", end], &[])),
        (
            "top in a pipe",
            check(&run(once, "", "")?, 0, &["MEMBER", "PUTS/S", "FSYNC P50"], &["\x1b"]),
        ),
        (
            "top takes no arguments",
            check(&run("top x", "", "")?, 128, &["accepts no arguments"], &[]),
        ),
    ];
    for (name, result) in results {
        outcome.case(&format!("ctl at a terminal: {name}"), result);
    }
    server.stop()
}

/// Ways to make a mirror, with their flags.
const MIRRORS: [(&str, &[&str]); 5] = [
    ("all keys", &[]),
    ("a prefix", &["--prefix", "a/"]),
    ("another prefix", &["--prefix", "a/", "--dest-prefix", "new/"]),
    ("no prefix", &["--prefix", "a/", "--no-dest-prefix"]),
    ("changes alone, one by one", &["--rev", "4", "--max-txn-ops", "1"]),
];

/// The keys at the destination of a mirror that `etcdctl` makes; `with` reads and writes.
fn mirror(
    server: &Path,
    with: &Path,
    etcdctl: &Path,
    flags: &[&str],
    work: &Path,
) -> Result<String, String> {
    let _ = fs::remove_dir_all(work);
    let source = Server::start(server, &Member::new(work.join("source")), &[])?;
    let destination = Server::start(server, &Member::new(work.join("destination")), &[])?;
    let limit = Duration::from_secs(20);
    let run = |at: &Server, words: &[&str], stdin: &str| {
        let mut command = Command::new(with);
        command.args(["--endpoints", &at.endpoint()]).args(words);
        process::run(&mut command, stdin.as_bytes(), limit)?.success("etcdctl")
    };
    for key in ["a/1", "a/2", "a/3", "b/1"] {
        run(&source, &["put", key, key], "")?;
    }
    let child = Command::new(etcdctl)
        .args(["--endpoints", &source.endpoint(), "make-mirror"])
        .args(flags)
        .arg(destination.endpoint())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    run(&source, &["del", "a/2"], "")?;
    run(&source, &["txn"], "\nput a/4 x\nput a/1 y\ndel b/1\n\n\n")?;
    run(&source, &["put", "a/last", "z"], "")?;
    // It goes on for ever: what counts is there when the last key is.
    let begun = Instant::now();
    let mut found = String::new();
    while !found.contains("last") && begun.elapsed() < limit {
        found = run(&destination, &["get", "", "--prefix"], "")?;
        thread::sleep(Duration::from_millis(20));
    }
    process::signal(&child, "-TERM")?;
    let output = process::finish(child, Vec::new(), limit)?;
    if !found.contains("last") {
        return Err(format!("{} {found}", String::from_utf8_lossy(&output.stderr)));
    }
    destination.stop()?;
    source.stop()?;
    Ok(found)
}

/// Ctrl-C in the middle of a snapshot: what there is of it goes, and the file of before stays.
fn interrupted_snapshot(server: &Path, etcdctl: &Path, work: &Path) -> Result<(), String> {
    let member = Member::new(work.join("snapshot"));
    let server = Server::start(server, &member, &[])?;
    let text = |error: std::io::Error| error.to_string();
    for key in 0..8 {
        let mut put = Command::new(etcdctl);
        put.args(["--endpoints", &server.endpoint(), "put", &format!("k{key}")]);
        let value = vec![b'v'; 512 << 10];
        process::run(&mut put, &value, Duration::from_secs(20))?.success("etcdctl put")?;
    }
    let file = work.join("old.db");
    let part = work.join("old.db.part");
    fs::write(&file, "old").map_err(text)?;
    let mut child = Command::new(etcdctl)
        .args(["--endpoints", &blocked_way(&server.endpoint())?, "snapshot", "save"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(text)?;
    let mut stderr = BufReader::new(child.stderr.take().ok_or("no stderr")?);
    let mut line = String::new();
    while !line.contains("fetching snapshot") {
        line.clear();
        if stderr.read_line(&mut line).map_err(text)? == 0 {
            return Err("it ended before it had fetched anything".to_owned());
        }
    }
    if !part.exists() {
        return Err(format!("there is no {}", part.display()));
    }
    process::signal(&child, "-INT")?;
    let output = process::finish(child, Vec::new(), Duration::from_secs(20))?;
    if output.code != 5 {
        return Err(format!("exit {} and not 5", output.code));
    }
    if part.exists() || fs::read_to_string(&file).map_err(text)? != "old" {
        return Err("the part stayed, or the old file went".to_owned());
    }
    server.stop()
}

/// An address that leads to the server, but lets no more than [`SNAPSHOT_BYTES`] come back.
fn blocked_way(server: &str) -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let server = server.to_owned();
    // The threads end with the connections, or with this program.
    thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let Ok(upstream) = TcpStream::connect(&server) else { return };
            let (Ok(mut from), Ok(mut to)) = (client.try_clone(), upstream.try_clone()) else {
                return;
            };
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            thread::spawn(move || back(upstream, client));
        }
    });
    Ok(address.to_string())
}

/// Passes on what may pass, and then keeps the connection open until the client has gone.
fn back(upstream: TcpStream, mut client: TcpStream) -> std::io::Result<()> {
    std::io::copy(&mut upstream.take(SNAPSHOT_BYTES), &mut client)?;
    client.flush()?;
    loop {
        thread::park();
    }
}
