//! Part `files`: data directories go from etcd to ours and back, after clean stops and after SIGKILL under load.
//!
//! At each change of hands the directory must hold every acknowledged write and have the same hash, leases and members
//! as before; a killed directory is copied first, and a server that is known to read it right opens the copy. Every db
//! file that ours leaves behind must pass bbolt's own check. Damaged directories are opened by both servers: both start
//! with the same content, or both refuse.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::process::{self, Member, Server};
use super::{Outcome, tools::Tools};

type Cases = Vec<(String, Result<(), String>)>;

/// Small, so that a short run writes several snapshots.
const FLAGS: &[&str] = &["--snapshot-count", "500"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Stop,
    Kill,
}

#[derive(Clone, Debug)]
struct Scenario {
    name: &'static str,
    origin: PathBuf,
    end: End,
    /// Values of 700 kB written at the beginning: 100 of them roll the log into its second segment.
    big: usize,
    /// Whether the origin itself may lose acknowledged writes when it is killed: 3.5.1 does (etcd 13766), by a commit of
    /// the index of an entry before that of the entry.
    may_lose: bool,
}

/// Everything about a run that the steps share.
struct Exchange<'a> {
    tools: &'a Tools,
    ours: &'a Path,
    real: PathBuf,
    work: PathBuf,
    cases: Cases,
}

pub(super) fn run(
    tools: &Tools,
    ours: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let real = tools.bin("etcd").canonicalize().map_err(|e| e.to_string())?;
    let old = tools.bin35("etcd");
    let scenario = |name, origin: &Path, end, big| Scenario {
        name,
        origin: origin.to_owned(),
        end,
        big,
        may_lose: origin == old,
    };
    let mut scenarios = vec![
        scenario("3.7.3 stopped", &real, End::Stop, 0),
        scenario("3.7.3 killed", &real, End::Kill, 100),
        scenario("ours stopped", ours, End::Stop, 100),
        scenario("ours killed", ours, End::Kill, 0),
    ];
    if tools.has_35() {
        scenarios.push(scenario("3.5.1 stopped", &old, End::Stop, 0));
        scenarios.push(scenario("3.5.1 killed", &old, End::Kill, 0));
    }
    let exchange = |name: &str| Exchange {
        tools,
        ours,
        real: real.clone(),
        work: work.join(name.replace(' ', "-")),
        cases: Vec::new(),
    };
    type Task<'a> = Box<dyn FnOnce(&mut Exchange<'a>) -> Result<(), String> + Send + 'a>;
    let mut tasks: Vec<(&str, Task<'_>)> = Vec::new();
    for scenario in scenarios {
        tasks.push((scenario.name, Box::new(move |exchange| exchange.pass_around(&scenario))));
    }
    tasks.push(("snapshots", Box::new(Exchange::snapshots)));
    tasks.push(("damage", Box::new(Exchange::damage)));
    // Two at a time: most of a step is waiting for a disk or for a process to start.
    let tasks = std::sync::Mutex::new(tasks.into_iter());
    let found = std::sync::Mutex::new(Vec::new());
    let worker = || {
        loop {
            let next = tasks.lock().map_or(None, |mut tasks| tasks.next());
            let Some((name, task)) = next else { break };
            let begun = Instant::now();
            let mut exchange = exchange(name);
            if let Err(why) = task(&mut exchange) {
                exchange.cases.push(("not finished".to_owned(), Err(why)));
            }
            eprintln!("files: {name}: {:.1} s", begun.elapsed().as_secs_f64());
            let _ = fs::remove_dir_all(&exchange.work);
            if let Ok(mut found) = found.lock() {
                let cases = exchange.cases.into_iter();
                found.extend(cases.map(|(case, result)| (format!("{name}: {case}"), result)));
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(worker);
        worker();
    });
    for (case, result) in found.into_inner().map_err(|_| "a worker panicked")? {
        outcome.case(&case, result);
    }
    Ok(())
}

impl Exchange<'_> {
    fn case(&mut self, name: &str, result: Result<(), String>) {
        self.cases.push((name.to_owned(), result));
    }

    fn same(&mut self, name: &str, got: &str, want: &str) {
        let result =
            if got == want { Ok(()) } else { Err(format!("\n    got  {got}\n    want {want}")) };
        self.case(name, result);
    }

    /// Origin, ours, real, ours: each opens what the one before left and writes on.
    fn pass_around(&mut self, scenario: &Scenario) -> Result<(), String> {
        let member = Member::new(self.work.join("data"));
        let record = self.work.join("record");
        let (ours, real) = (self.ours.to_path_buf(), self.real.clone());
        // Who opens a copy of a killed directory to say what it holds: not the one that opens it next, if that can be.
        let steps = [
            ("by its origin", &scenario.origin, &real, scenario.big),
            ("by ours", &ours, &ours, 0),
            ("by 3.7.3", &real, &real, 0),
            ("by ours again", &ours, &real, 0),
        ];
        let mut before: Option<String> = None;
        for (seed, (name, binary, judge, big)) in steps.into_iter().enumerate() {
            let server = Server::start(binary, &member, FLAGS)?;
            if let Some(before) = before.take() {
                self.same(&format!("content opened {name}"), &self.fingerprint(&server)?, &before);
                let verified = self.writer(&server, "verify", &record, &[]);
                self.case(&format!("acknowledged writes read {name}"), verified.map(drop));
            }
            let seed = (seed + 1).to_string();
            let big = big.to_string();
            let options = ["-seed", &seed, "-big", &big];
            let content = match scenario.end {
                End::Stop => self.load_and_stop(server, &record, &options)?,
                End::Kill => {
                    let may_lose = scenario.may_lose && *binary == scenario.origin;
                    self.load_and_kill(server, &record, &options, (judge, may_lose))?
                }
            };
            let checked = self.check_db(&member.dir);
            self.case(&format!("db left {name} passes bbolt's check"), checked.map(drop));
            before = Some(content);
        }
        let server = Server::start(&real, &member, FLAGS)?;
        let want = before.unwrap_or_default();
        self.same("content opened by 3.7.3 at the end", &self.fingerprint(&server)?, &want);
        let verified = self.writer(&server, "verify", &record, &[]);
        self.case("acknowledged writes read at the end", verified.map(drop));
        server.stop()
    }

    fn load_and_stop(
        &mut self,
        server: Server,
        record: &Path,
        options: &[&str],
    ) -> Result<String, String> {
        self.writer(&server, "load", record, &[options, &["-ops", "2500"]].concat())?;
        self.compact(&server, 800)?;
        let content = self.fingerprint(&server)?;
        server.stop()?;
        Ok(content)
    }

    /// Kills the server while the writer runs, and has a copy of the directory read by `judge`. What 3.7.3 finds lost
    /// of a server that may lose writes is not asked of others; that they read the same is.
    fn load_and_kill(
        &mut self,
        server: Server,
        record: &Path,
        options: &[&str],
        (judge, may_lose): (&Path, bool),
    ) -> Result<String, String> {
        let member = server.member.clone();
        let before = lines(record);
        thread::scope(|scope| {
            let options = [options, &["-for", "20s"]].concat();
            let endpoint = server.endpoint();
            let (this, path) = (&*self, record);
            let load = scope.spawn(move || this.writer_at(&endpoint, "load", path, &options));
            let deadline = Instant::now() + Duration::from_secs(20);
            let mut compacted = false;
            while lines(record) < before + 2000 && Instant::now() < deadline {
                if !compacted && lines(record) > before + 1900 {
                    compacted = true;
                    let _ = self.compact(&server, 500);
                }
                thread::sleep(Duration::from_millis(5));
            }
            server.kill();
            load.join().map_err(|_| "writer panicked")?.map(drop)
        })?;
        let copy = self.work.join("copy");
        copy_dir(&member.dir, &copy)?;
        let server = Server::start(judge, &member.with_dir(copy.clone()), FLAGS)?;
        let content = self.fingerprint(&server)?;
        if may_lose && let Err(why) = self.writer(&server, "verify", record, &[]) {
            eprintln!("files: lost by its origin, as 3.7.3 finds: {why}");
            File::create(record).map_err(|e| format!("{}: {e}", record.display()))?;
        }
        server.kill();
        fs::remove_dir_all(&copy).map_err(|e| format!("{}: {e}", copy.display()))?;
        Ok(content)
    }

    /// A snapshot of each server, restored by etcdutl and opened by the other.
    fn snapshots(&mut self) -> Result<(), String> {
        let (ours, real) = (self.ours.to_path_buf(), self.real.clone());
        for (name, from, to) in [("ours to 3.7.3", &ours, &real), ("3.7.3 to ours", &real, &ours)] {
            let folder = self.work.join(name.replace(' ', "-"));
            let member = Member::new(folder.join("data"));
            let server = Server::start(from, &member, FLAGS)?;
            let record = folder.join("record");
            self.writer(&server, "load", &record, &["-ops", "1500"])?;
            self.compact(&server, 500)?;
            let file = folder.join("snapshot.db");
            let mut save = self.tools.etcdctl(&server.endpoint());
            save.args(["snapshot", "save"]).arg(&file);
            finish(&mut save)?;
            let before = self.hash(&server)?;
            server.stop()?;
            // Not a copy of the same member: its ids come from new URLs.
            let restored = Member::new(folder.join("restored"));
            let peer = format!("http://127.0.0.1:{}", restored.peer_port);
            let mut restore = Command::new(self.tools.bin("etcdutl"));
            restore.args(["snapshot", "restore"]).arg(&file).arg("--data-dir").arg(&restored.dir);
            restore.args(["--name", "n1", "--initial-cluster", &format!("n1={peer}")]);
            restore.args(["--initial-cluster-token", "conformance"]);
            restore.args(["--initial-advertise-peer-urls", &peer]);
            let outcome = finish(&mut restore);
            self.case(&format!("{name}: etcdutl restores the snapshot"), outcome.map(drop));
            let server = Server::start(to, &restored, FLAGS)?;
            self.same(&format!("{name}: content"), &self.hash(&server)?, &before);
            let verified = self.writer(&server, "verify", &record, &[]);
            self.case(&format!("{name}: acknowledged writes"), verified.map(drop));
            server.stop()?;
        }
        Ok(())
    }

    /// Broken files: ours must do what etcd does, start with the same content or refuse.
    fn damage(&mut self) -> Result<(), String> {
        let member = Member::new(self.work.join("data"));
        let server = Server::start(&self.real.clone(), &member, FLAGS)?;
        self.writer(&server, "load", &self.work.join("record"), &["-ops", "1800"])?;
        // Killed: a clean stop would bring the db up to date and the log would hardly matter.
        server.kill();
        for (name, target, harm) in DAMAGES {
            let mut results = Vec::new();
            let mut harmed = PathBuf::new();
            for binary in [self.real.clone(), self.ours.to_path_buf()] {
                let copy = member.with_dir(self.work.join("copy"));
                let _ = fs::remove_dir_all(&copy.dir);
                let _ = fs::remove_file(copy.dir.with_extension("log"));
                copy_dir(&member.dir, &copy.dir)?;
                harmed = target.find(&copy.dir)?;
                harm.apply(&harmed)?;
                let limit = Duration::from_secs(8);
                results.push(match Server::start_within(&binary, &copy, FLAGS, limit) {
                    Ok(server) => self.fingerprint(&server)?,
                    Err(why) if why.contains("not healthy") => "hangs".to_owned(),
                    Err(_) => "refuses".to_owned(),
                });
            }
            eprintln!("files: {name}: etcd {}", abridged(&results[0]));
            // One case, since what etcd does about some of them depends on how far the log had come.
            let named = results[1] != "refuses" || self.ours == self.real || {
                let log = fs::read(self.work.join("copy.log")).unwrap_or_default();
                let file = harmed.file_name().unwrap_or_default().to_string_lossy().into_owned();
                String::from_utf8_lossy(&log).contains(&file)
            };
            match named {
                true => self.same(name, &results[1], &results[0]),
                false => self.case(name, Err("the refusal does not name the file".to_owned())),
            }
        }
        Ok(())
    }

    /// Hash of the key space at the current revision, leases and members, as text.
    fn fingerprint(&self, server: &Server) -> Result<String, String> {
        let mut text = self.hash(server)?;
        for command in [["lease", "list"], ["member", "list"]] {
            let output = finish(self.tools.etcdctl(&server.endpoint()).args(command))?;
            let mut lines: Vec<&str> = output.lines().collect();
            lines.sort_unstable();
            text.push_str("; ");
            text.push_str(&abridged(&lines.join(" ")));
        }
        Ok(text)
    }

    fn hash(&self, server: &Server) -> Result<String, String> {
        let mut command = self.tools.etcdctl(&server.endpoint());
        let json = finish(command.args(["endpoint", "hashkv", "-w", "json"]))?;
        let value: serde_json::Value = serde_json::from_str(&json).map_err(|e| e.to_string())?;
        let hash = &value[0]["HashKV"];
        if hash["hash"].is_null() {
            return Err(format!("no hash in {json}"));
        }
        // Without writes it is the revision that was hashed; etcd 3.5 does not say that one.
        let revision = &hash["header"]["revision"];
        let compacted = &hash["compact_revision"];
        Ok(format!("hash {} at revision {revision} compacted at {compacted}", hash["hash"]))
    }

    /// Compacts all but the last `keep` revisions.
    fn compact(&self, server: &Server, keep: i64) -> Result<(), String> {
        let mut status = self.tools.etcdctl(&server.endpoint());
        let json = finish(status.args(["endpoint", "status", "-w", "json"]))?;
        let value: serde_json::Value = serde_json::from_str(&json).map_err(|e| e.to_string())?;
        let revision = value[0]["Status"]["header"]["revision"].as_i64().ok_or("no revision")?;
        let target = (revision - keep).max(1).to_string();
        let mut compact = self.tools.etcdctl(&server.endpoint());
        finish(compact.args(["compaction", "--physical", &target])).map(drop)
    }

    fn writer(
        &self,
        server: &Server,
        verb: &str,
        record: &Path,
        options: &[&str],
    ) -> Result<String, String> {
        self.writer_at(&server.endpoint(), verb, record, options)
    }

    fn writer_at(
        &self,
        endpoint: &str,
        verb: &str,
        record: &Path,
        options: &[&str],
    ) -> Result<String, String> {
        let mut command = Command::new(self.tools.bin("writer"));
        command.args([verb, "-endpoint", endpoint, "-record"]).arg(record).args(options);
        finish(&mut command)
    }

    fn check_db(&self, dir: &Path) -> Result<String, String> {
        let mut command = Command::new(self.tools.bin("bboltcheck"));
        finish(command.arg(dir.join("member/snap/db")))
    }
}

/// A hash instead of a long text, so that a difference still shows and the report stays short.
fn abridged(text: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    if text.len() < 200 {
        return text.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{}... ({} bytes, {:016x})", &text[..40], text.len(), hasher.finish())
}

fn finish(command: &mut Command) -> Result<String, String> {
    let name = format!("{command:?}");
    process::run(command, b"", Duration::from_secs(60))?.success(&name)
}

fn lines(path: &Path) -> usize {
    fs::read(path).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count())
}

fn copy_dir(from: &Path, to: &Path) -> Result<(), String> {
    // cp keeps the log's and the db's holes; a plain copy would write 64 MB per segment.
    let mut command = Command::new("cp");
    finish(command.args(["-a", "--sparse=always"]).arg(from).arg(to)).map(drop)
}

#[derive(Clone, Copy, Debug)]
enum Target {
    /// The newest segment of the log.
    Wal,
    /// The newest .snap file.
    Snap,
    Db,
}

impl Target {
    fn find(self, dir: &Path) -> Result<PathBuf, String> {
        let (folder, end) = match self {
            Self::Wal => ("member/wal", ".wal"),
            Self::Snap => ("member/snap", ".snap"),
            Self::Db => return Ok(dir.join("member/snap/db")),
        };
        let folder = dir.join(folder);
        let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let newest = paths.filter(|path| path.to_string_lossy().ends_with(end)).max();
        newest.ok_or_else(|| format!("no {end} file in {}", folder.display()))
    }
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    /// The file ends so many bytes before the end of what was written.
    Truncate(u64),
    /// One bit changes, so many bytes before the end of what was written.
    FlipBeforeEnd(u64),
    /// One bit changes at an offset.
    Flip(u64),
    /// All of a range becomes zero.
    Zero(u64, u64),
    /// Zeros from so many bytes before the end of what was written on.
    ZeroTail(u64),
    Remove,
}

const DAMAGES: &[(&str, Target, Harm)] = &[
    ("log cut in its last record", Target::Wal, Harm::Truncate(5)),
    ("log cut at 300 bytes before the end", Target::Wal, Harm::Truncate(300)),
    ("log with a zero tail", Target::Wal, Harm::ZeroTail(1500)),
    ("log with a flipped bit in the last record", Target::Wal, Harm::FlipBeforeEnd(12)),
    ("log with a flipped bit 3,000 bytes before the end", Target::Wal, Harm::FlipBeforeEnd(3_000)),
    (
        "log with a flipped bit 20,001 bytes before the end",
        Target::Wal,
        Harm::FlipBeforeEnd(20_001),
    ),
    ("log with a flipped bit in its first record", Target::Wal, Harm::Flip(9)),
    ("log with its metadata flipped", Target::Wal, Harm::Flip(30)),
    ("log of no bytes", Target::Wal, Harm::Truncate(u64::MAX)),
    ("snapshot file with a flipped bit", Target::Snap, Harm::FlipBeforeEnd(40)),
    ("snapshot file of no bytes", Target::Snap, Harm::Truncate(u64::MAX)),
    ("newest snapshot file missing", Target::Snap, Harm::Remove),
    ("db with its first meta page zeroed", Target::Db, Harm::Zero(0, 4096)),
    ("db with its second meta page zeroed", Target::Db, Harm::Zero(4096, 4096)),
    ("db with both meta pages zeroed", Target::Db, Harm::Zero(0, 8192)),
    ("db of no bytes", Target::Db, Harm::Truncate(u64::MAX)),
];

impl Harm {
    fn apply(self, path: &Path) -> Result<(), String> {
        self.write(path).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn write(self, path: &Path) -> std::io::Result<()> {
        if matches!(self, Self::Remove) {
            return fs::remove_file(path);
        }
        let mut bytes = Vec::new();
        let mut file = File::options().read(true).write(true).open(path)?;
        file.read_to_end(&mut bytes)?;
        let written = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1);
        let mut put = |at: u64, bytes: &[u8]| {
            file.seek(SeekFrom::Start(at))?;
            file.write_all(bytes)
        };
        let flipped = |at: u64| [bytes.get(at as usize).copied().unwrap_or_default() ^ 0x10];
        match self {
            Self::Truncate(back) => file.set_len(written.saturating_sub(back)),
            Self::FlipBeforeEnd(back) => {
                let at = written.saturating_sub(back);
                put(at, &flipped(at))
            }
            Self::Flip(at) => put(at, &flipped(at)),
            Self::Zero(at, length) => put(at, &vec![0; length as usize]),
            Self::ZeroTail(back) => put(written.saturating_sub(back), &vec![0; back as usize]),
            Self::Remove => Ok(()),
        }
    }
}
