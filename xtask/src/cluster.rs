//! `cargo xtask cluster`: the members of `Procfile` at once, and with `--learner` that of `Procfile.learner`.

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};

const USAGE: &str = "usage: cargo xtask cluster [--learner]";
/// Colours of the members' names, in turn.
const COLOURS: [u8; 4] = [32, 33, 36, 35];
/// How long the members have for an election before there can be a learner.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// What happens while the members run.
enum Event {
    /// Somebody wants them to stop.
    Signal,
    /// One has ended.
    Ended(String),
    /// The learner may be started, or why not.
    Added(Result<(), String>),
}

/// A line of a Procfile.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    words: Vec<String>,
}

/// Runs the members until a signal comes or all have ended.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool, String> {
    let with_learner = match args {
        [] => false,
        [flag] if flag == "--learner" => true,
        _ => return Err(USAGE.to_owned()),
    };
    let build = ["build", "--release", "--package", "etcd"];
    let built = Command::new("cargo").args(build).current_dir(root).status();
    if !built.map_err(|err| format!("cargo: {err}"))?.success() {
        return Ok(false);
    }
    let entries = read(&root.join("Procfile"))?;
    let learners = if with_learner { read(&root.join("Procfile.learner"))? } else { Vec::new() };
    let (sender, events) = mpsc::channel();
    forward_signals(sender.clone()).map_err(|err| format!("signals: {err}"))?;
    let mut members = Members { sender: sender.clone(), events, running: Vec::new() };
    for entry in &entries {
        members.start(root, entry)?;
    }
    if let Some(learner) = learners.first() {
        let (client, peer) =
            (url(&entries, "--advertise-client-urls"), url(&learners, "--listen-peer-urls"));
        println!("{}: waits until the others have been connected for 5 s", learner.name);
        thread::spawn(move || sender.send(Event::Added(add_learner(&client, &peer))));
    }
    members.supervise(root, &learners)
}

struct Members {
    sender: Sender<Event>,
    events: Receiver<Event>,
    running: Vec<(String, Pid)>,
}

impl Members {
    /// Starts a member in a process group of its own: the terminal's signals are passed on by us,
    /// once.
    fn start(&mut self, root: &Path, entry: &Entry) -> Result<(), String> {
        let (program, arguments) = entry.words.split_first().ok_or("a line without a command")?;
        let mut child = Command::new(root.join(program))
            .args(arguments)
            .current_dir(root)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|err| format!("{program}: {err}"))?;
        let prefix = prefix(&entry.name, self.running.len());
        let outputs = [
            child.stdout.take().map(|out| print_lines(out, prefix.clone())),
            child.stderr.take().map(|out| print_lines(out, prefix.clone())),
        ];
        self.running.push((entry.name.clone(), Pid::from_child(&child)));
        let (sender, name) = (self.sender.clone(), entry.name.clone());
        thread::spawn(move || {
            for output in outputs.into_iter().flatten() {
                let _ = output.join();
            }
            let how = child.wait().map_or_else(|err| err.to_string(), |status| status.to_string());
            println!("{prefix}ended: {how}");
            // The others have ended before, if nobody listens.
            let _ = sender.send(Event::Ended(name));
        });
        Ok(())
    }

    fn supervise(mut self, root: &Path, learners: &[Entry]) -> Result<bool, String> {
        let mut is_stopping = false;
        while !self.running.is_empty() {
            match self.events.recv().map_err(|err| err.to_string())? {
                Event::Signal => {
                    is_stopping = true;
                    self.stop();
                }
                Event::Ended(name) => self.running.retain(|(running, _)| *running != name),
                Event::Added(Ok(())) if !is_stopping => {
                    for learner in learners {
                        self.start(root, learner)?;
                    }
                }
                Event::Added(Ok(())) => {}
                Event::Added(Err(why)) => eprintln!("the learner can't be added: {why}"),
            }
        }
        Ok(is_stopping)
    }

    fn stop(&self) {
        for (_, pid) in &self.running {
            // It may be gone, which we shall hear of.
            let _ = kill_process(*pid, Signal::TERM);
        }
    }
}

fn forward_signals(sender: Sender<Event>) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            if sender.send(Event::Signal).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn prefix(name: &str, number: usize) -> String {
    if std::io::stdout().is_terminal() {
        format!("\x1b[{}m{name} |\x1b[0m ", COLOURS[number % COLOURS.len()])
    } else {
        format!("{name} | ")
    }
}

fn print_lines(output: impl Read + Send + 'static, prefix: String) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { return };
            println!("{prefix}{line}");
        }
    })
}

fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let text = fs::read_to_string(path).map_err(|err| format!("{}: {err}", path.display()))?;
    parse(&text).ok_or_else(|| format!("{}: not a Procfile", path.display()))
}

/// Lines `name: command`; words may stand in single quotes.
fn parse(text: &str) -> Option<Vec<Entry>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, command) = line.split_once(':')?;
            let words = command.split_whitespace();
            let words = words.map(|word| word.trim_matches('\'').to_owned()).collect();
            Some(Entry { name: name.to_owned(), words })
        })
        .collect()
}

/// What the first entry gives for a flag.
fn url(entries: &[Entry], flag: &str) -> String {
    let words = entries.first().map_or(&[][..], |entry| &entry.words);
    let mut rest = words.iter().skip_while(|word| *word != flag).skip(1);
    rest.next().cloned().unwrap_or_default()
}

/// Asks a member to add the learner, until that takes the cluster for healthy.
fn add_learner(client_url: &str, peer_url: &str) -> Result<(), String> {
    let address = client_url.trim_start_matches("http://");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let result = TcpStream::connect(address)
            .map_err(|err| err.to_string())
            .and_then(|_| crate::cluster_call::add_learner(address, peer_url));
        match result {
            Ok(()) => return Ok(()),
            Err(text) if text.ends_with("Peer URLs already exists") => return Ok(()),
            Err(text) if Instant::now() >= deadline => return Err(text),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_procfiles_are_read() {
        let root = crate::root();
        let entries = read(&root.join("Procfile")).expect("a Procfile");
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["etcd1", "etcd2", "etcd3"]);
        assert_eq!(url(&entries, "--advertise-client-urls"), "http://127.0.0.1:2379");
        let cluster = url(&entries, "--initial-cluster");
        assert_eq!(cluster.split(',').count(), 3);
        assert!(!cluster.contains('\''));
        let learner = read(&root.join("Procfile.learner")).expect("a Procfile");
        assert_eq!(url(&learner, "--initial-cluster-state"), "existing");
        assert!(url(&learner, "--initial-cluster").starts_with(&cluster));
    }

    #[test]
    fn what_is_no_procfile_is_refused() {
        assert_eq!(parse("# nothing\n\n"), Some(Vec::new()));
        assert_eq!(parse("etcd1 target/release/etcd"), None);
    }
}
