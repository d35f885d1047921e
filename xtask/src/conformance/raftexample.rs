//! Part `raftexample`: etcd's example and ours, in one cluster and on each other's files.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Outcome;
use super::process::{free_port, last_lines};
use super::tools::Tools;

const LIMIT: Duration = Duration::from_secs(90);
/// Puts that are made without waiting for answers in between.
const AT_A_TIME: usize = 1000;

/// Whose program a member runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Go,
    Ours,
}
use Kind::{Go, Ours};

pub(super) fn run(
    tools: &Tools,
    ours: PathBuf,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let programs = Programs { go: tools.raftexample()?, ours };
    for kinds in [[Go, Go, Ours], [Go, Ours, Ours]] {
        let cluster = Cluster::new(&programs, work.join(format!("{kinds:?}")))?;
        outcome.case(&format!("raftexample: {kinds:?} in turn down"), cluster.each_down(kinds));
    }
    for (kinds, late) in [([Go, Ours, Go], 1), ([Ours, Go, Ours], 1)] {
        let cluster = Cluster::new(&programs, work.join(format!("late-{kinds:?}")))?;
        let name = format!("raftexample: {kinds:?}, a snapshot for {:?}", kinds[late]);
        outcome.case(&name, cluster.late(kinds, late));
    }
    let cluster = Cluster::new(&programs, work.join("files"))?;
    outcome.case("raftexample: from Go to ours and back", cluster.swap());
    Ok(())
}

struct Programs {
    go: PathBuf,
    ours: PathBuf,
}

struct Cluster<'a> {
    programs: &'a Programs,
    dir: PathBuf,
    /// Of peers and clients.
    ports: [(u16, u16); 3],
}

impl<'a> Cluster<'a> {
    fn new(programs: &'a Programs, dir: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let ports = std::array::from_fn(|_| (free_port(), free_port()));
        Ok(Self { programs, dir, ports })
    }

    fn start(&self, at: usize, kind: Kind) -> Result<Member, String> {
        let program = if kind == Go { &self.programs.go } else { &self.programs.ours };
        let urls = self.ports.map(|(peer, _)| format!("http://127.0.0.1:{peer}"));
        let log = self.dir.join(format!("{}.log", at + 1));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.map_err(|e| format!("{}: {e}", log.display()))?;
        let child = Command::new(program)
            .args(["--id", &(at + 1).to_string(), "--cluster", &urls.join(",")])
            .args(["--port", &self.ports[at].1.to_string()])
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(|e| e.to_string())?)
            .stderr(file)
            .spawn()
            .map_err(|e| format!("cannot run {}: {e}", program.display()))?;
        Ok(Member { child, port: self.ports[at].1, log })
    }

    fn start_all(&self, kinds: [Kind; 3]) -> Result<Vec<Member>, String> {
        let members: Result<Vec<_>, String> =
            kinds.iter().enumerate().map(|(at, kind)| self.start(at, *kind)).collect();
        let members = members?;
        settle(&members.iter().collect::<Vec<_>>(), "start")?;
        Ok(members)
    }

    /// Each member goes, the others go on, and it comes back.
    fn each_down(&self, kinds: [Kind; 3]) -> Result<(), String> {
        let mut members = self.start_all(kinds)?;
        for (at, kind) in kinds.into_iter().enumerate() {
            members.remove(at);
            settle(&members.iter().collect::<Vec<_>>(), &format!("without-{at}"))?;
            members[0].put("/seen", &format!("without {at}"))?;
            members.insert(at, self.start(at, kind)?);
            members[at].wait_for("/seen", &format!("without {at}"))?;
            for from in 0..3 {
                let order: Vec<_> = (0..3).map(|n| &members[(from + n) % 3]).collect();
                settle(&order, &format!("with-{at}-{from}"))?;
            }
        }
        Ok(())
    }

    /// One member misses so much that it needs a snapshot.
    fn late(&self, kinds: [Kind; 3], late: usize) -> Result<(), String> {
        let mut members = self.start_all(kinds)?;
        members.remove(late);
        settle(&members.iter().collect::<Vec<_>>(), "two")?;
        // The second snapshot is more than a leader keeps for those who are late.
        for round in 0.. {
            members[0].fill(round * AT_A_TIME..(round + 1) * AT_A_TIME)?;
            settle(&members.iter().collect::<Vec<_>>(), &format!("round-{round}"))?;
            let log = fs::read_to_string(&members[0].log).map_err(|e| e.to_string())?;
            if log.matches("compacted log at index").count() >= 2 {
                break;
            }
        }
        let (key, value) = ("/last", "\"value\" <1>");
        members[0].put(key, value)?;
        for member in &members {
            member.wait_for(key, value)?;
        }
        let back = self.start(late, kinds[late])?;
        back.wait_for(key, value)?;
        let snapshots = self.dir.join(format!("raftexample-{}-snap", late + 1));
        let count = fs::read_dir(&snapshots).map_err(|e| e.to_string())?.count();
        if count == 0 {
            return Err("it has found all that without a snapshot".to_owned());
        }
        members.insert(late, back);
        settle(&members.iter().rev().collect::<Vec<_>>(), "three")
    }

    /// A cluster of Go's becomes one of ours and again one of Go's, a member at a time, each on its files.
    fn swap(&self) -> Result<(), String> {
        let mut members = self.start_all([Go; 3])?;
        members[0].put("/go", "first")?;
        members[2].wait_for("/go", "first")?;
        for kind in [Ours, Go] {
            for at in 0..3 {
                members.remove(at);
                members.insert(at, self.start(at, kind)?);
                members[at].wait_for("/go", "first")?;
                settle(&members.iter().collect::<Vec<_>>(), &format!("{kind:?}-{at}"))?;
            }
        }
        Ok(())
    }
}

/// A running member; killed when dropped.
struct Member {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Member {
    fn send(&self, requests: &str) -> std::io::Result<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
        socket.set_read_timeout(Some(LIMIT))?;
        let mut writer = socket.try_clone()?;
        thread::scope(|scope| {
            scope.spawn(move || writer.write_all(requests.as_bytes()));
            let mut answers = String::new();
            socket.read_to_string(&mut answers).map(|_| answers)
        })
    }

    fn put(&self, key: &str, value: &str) -> Result<(), String> {
        let answer = self
            .until(&format!("PUT {key}"), || self.send(&request("PUT", key, value, true)).ok())?;
        if answer.contains(" 204 ") { Ok(()) } else { Err(format!("PUT {key}: {answer}")) }
    }

    fn has(&self, key: &str, value: &str) -> bool {
        let answer = self.send(&request("GET", key, "", true)).unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
        answer.contains(" 200 ") && body == Some(value)
    }

    fn wait_for(&self, key: &str, value: &str) -> Result<(), String> {
        self.until(&format!("{key} is {value}"), || self.has(key, value).then_some(()))
    }

    fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T, String> {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            if let Some(answer) = ask() {
                return Ok(answer);
            }
            thread::sleep(Duration::from_millis(5));
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        Err(format!("{what}: not in time; {}", last_lines(&log, 3)))
    }

    /// Puts keys without waiting for answers in between.
    fn fill(&self, numbers: std::ops::Range<usize>) -> Result<(), String> {
        let count = numbers.len();
        let put = |n| request("PUT", &format!("/many-{n}"), &format!("value {n}"), false);
        let mut requests: String = numbers.map(put).collect();
        requests += &request("GET", "/none", "", true);
        let answers = self.send(&requests).map_err(|e| e.to_string())?;
        match answers.matches(" 204 ").count() {
            done if done == count => Ok(()),
            done => Err(format!("{done} of {count} puts were taken")),
        }
    }
}

fn request(method: &str, target: &str, body: &str, is_last: bool) -> String {
    let close = if is_last { "Connection: close\r\n" } else { "" };
    let length = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: a\r\n{close}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Waits until what the first one is told reaches all. A proposal that goes to a leader that has gone is lost, and nobody
/// says so: it is made again, under another key.
fn settle(members: &[&Member], name: &str) -> Result<(), String> {
    let mut tries = 0..;
    members[0].until(&format!("{name}: all work together"), || {
        let key = format!("/settled-{name}-{}", tries.next()?);
        members[0].put(&key, name).ok()?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            if members.iter().all(|member| member.has(&key, name)) {
                return Some(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    })
}
