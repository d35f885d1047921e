//! Part `mixed`: etcd 3.7.3 and 3.5.1 and ours are members of one cluster.
//!
//! A cluster is founded by both kinds; each leads; members come, move and go through each; who is far behind gets the
//! database of the other kind; the leader of each kind is killed. Then a cluster moves from etcd to ours and back, one
//! member at a time on its directory, while writers run, and another from 3.5.1 to ours. After every step all members have the same hash. And the data of
//! a member of each kind is altered: the other kind finds it.

mod altered;
mod old;
mod secure;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use altered::Check;
use secure::Authority;

use super::process::{self, Member, Server};
use super::{Outcome, tools::Tools};

type Cases = Vec<(String, Result<(), String>)>;

/// For each command, and for all that comes about after a while.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Small logs, so that snapshots are sent.
const FLAGS: [&str; 2] = ["--snapshot-count", "50"];
/// What 3.5.1 has no flag for.
const CATCH_UP: [&str; 2] = ["--snapshot-catchup-entries", "20"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    Etcd,
    Old,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Etcd => "3.7.3",
            Self::Old => "3.5.1",
        }
    }

    /// Writes after which a leader has no log left for who was away: 3.5 keeps 5,000 entries behind a snapshot.
    fn many(self) -> &'static str {
        if self == Self::Old { "5200" } else { "300" }
    }
}

/// What becomes of a cluster.
#[derive(Clone, Copy, Debug)]
enum Story {
    Together([Kind; 3]),
    MoveAndReturn,
    MoveFromOld,
    Altered(Check),
    Secure([Kind; 3]),
}

pub(super) fn run(
    tools: &Tools,
    ours: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let mut stories = vec![
        ("rolling move", Story::MoveAndReturn),
        ("two 3.7.3, one ours", Story::Together([Kind::Etcd, Kind::Etcd, Kind::Ours])),
        ("one 3.7.3, two ours", Story::Together([Kind::Etcd, Kind::Ours, Kind::Ours])),
        ("altered data, periodic check", Story::Altered(Check::Periodic)),
        ("altered data, check of compactions", Story::Altered(Check::Compaction)),
        ("TLS, one 3.7.3, two ours", Story::Secure([Kind::Etcd, Kind::Ours, Kind::Ours])),
    ];
    if tools.has_35() {
        stories.extend([
            ("rolling move from 3.5.1", Story::MoveFromOld),
            ("two 3.5.1, one ours", Story::Together([Kind::Old, Kind::Old, Kind::Ours])),
            ("one 3.5.1, two ours", Story::Together([Kind::Old, Kind::Ours, Kind::Ours])),
        ]);
    }
    // Two at a time: most of a story is waiting for elections, disks and processes.
    let stories = Mutex::new(stories.into_iter());
    let found = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let next = stories.lock().map_or(None, |mut stories| stories.next());
            let Some((name, story)) = next else { break };
            let folder = work.join(name.replace([' ', ','], "-"));
            let begun = Instant::now();
            let mut cluster = Cluster {
                tools,
                ours,
                folder,
                name,
                extra: Vec::new(),
                authority: None,
                begun,
                nodes: Vec::new(),
                named: 0,
                cases: Vec::new(),
            };
            let told = match story {
                Story::Together(kinds) => cluster.live_together(kinds),
                Story::MoveAndReturn => cluster.move_and_return([Kind::Etcd; 3]),
                Story::MoveFromOld => cluster.move_from_old(),
                Story::Altered(check) => {
                    cluster.extra = check.flags().to_vec();
                    cluster.find_altered(check)
                }
                Story::Secure(kinds) => cluster.live_secured(kinds),
            };
            if let Err(why) = told {
                cluster.case("the rest", Err(why));
            }
            let cases = std::mem::take(&mut cluster.cases);
            if cases.iter().all(|(_, result)| result.is_ok()) {
                let _ = fs::remove_dir_all(&cluster.folder);
            }
            if let Ok(mut found) = found.lock() {
                found.extend(cases);
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(worker);
        worker();
    });
    let found: Cases = found.into_inner().map_err(|_| "a worker panicked")?;
    for (case, result) in found {
        outcome.case(&case, result);
    }
    Ok(())
}

/// A member, whichever kind of server runs it.
struct Node {
    kind: Kind,
    member: Member,
    /// None while it is down.
    server: Option<Server>,
}

struct Cluster<'a> {
    tools: &'a Tools,
    ours: &'a Path,
    folder: PathBuf,
    name: &'static str,
    /// What its members are started with beside the usual.
    extra: Vec<&'static str>,
    /// Who signs certificates, if they speak TLS to each other.
    authority: Option<Authority>,
    begun: Instant,
    nodes: Vec<Node>,
    /// How many there have been: who was removed does not come back.
    named: usize,
    cases: Cases,
}

impl Cluster<'_> {
    fn case(&mut self, name: &str, result: Result<(), String>) {
        let verdict = if result.is_ok() { "ok" } else { "FAIL" };
        let seconds = self.begun.elapsed().as_secs_f64();
        eprintln!("mixed: {} {seconds:5.1} s {verdict} {name}", self.name);
        self.cases.push((format!("{}: {name}", self.name), result));
    }

    fn live_together(&mut self, kinds: [Kind; 3]) -> Result<(), String> {
        self.found(&kinds)?;
        let etcd = 0;
        let ours = 2;
        let titles = [kinds[etcd].name(), kinds[ours].name()];
        for (leader, title) in [etcd, ours].into_iter().zip(titles) {
            self.lead(leader)?;
            let result = self.write_and_read(&format!("led-by-{title}"));
            self.case(&format!("{title} leads, each reads what each wrote"), result);
            self.agree(&format!("{title} leads"))?;
        }
        // The newcomer is of the other kind than who is asked.
        self.come_and_go(etcd, Kind::Ours)?;
        self.come_and_go(ours, kinds[etcd])?;
        self.catch_up(etcd, ours)?;
        self.catch_up(ours, etcd)?;
        self.lose_leader(etcd)?;
        self.lose_leader(ours)
    }

    /// Starts all at once and compares what they say of the members.
    fn found(&mut self, kinds: &[Kind]) -> Result<(), String> {
        for kind in kinds {
            self.new_node(*kind);
        }
        let starting: Vec<_> = (0..self.nodes.len())
            .map(|number| {
                let node = &self.nodes[number];
                let (binary, member) = (self.binary(node.kind), node.member.clone());
                let flags = self.flags(number, "new");
                thread::spawn(move || launch(&binary, &member, &flags))
            })
            .collect();
        for (node, starting) in self.nodes.iter_mut().zip(starting) {
            node.server = Some(starting.join().map_err(|_| "a start panicked")??);
        }
        let result = self.eventually("one list of members", |this| {
            let lists: Result<Vec<String>, String> = (0..this.nodes.len())
                .map(|number| this.etcdctl(number, &["member", "list", "--write-out=simple"]))
                .collect();
            let mut lists = lists?;
            for list in &mut lists {
                let mut lines: Vec<&str> = list.lines().collect();
                lines.sort_unstable();
                *list = lines.join("\n");
            }
            let is_started = lists[0].matches(", started, ").count() == this.nodes.len();
            if is_started && lists.iter().all(|list| *list == lists[0]) {
                Ok(())
            } else {
                Err(lists.join("\n--\n"))
            }
        });
        self.case("founded together, all list the same members", result);
        Ok(())
    }

    fn new_node(&mut self, kind: Kind) -> usize {
        self.named += 1;
        let name = format!("n{}", self.named);
        let mut member = Member::named(&name, self.folder.join(&name));
        member.peer_scheme = if self.authority.is_some() { "https" } else { "http" };
        self.nodes.push(Node { kind, member, server: None });
        self.nodes.len() - 1
    }

    fn binary(&self, kind: Kind) -> PathBuf {
        match kind {
            Kind::Ours => self.ours.to_owned(),
            Kind::Etcd => self.tools.bin("etcd"),
            Kind::Old => self.tools.bin35("etcd"),
        }
    }

    fn initial_cluster(&self) -> String {
        process::initial_cluster(self.nodes.iter().map(|node| &node.member))
    }

    /// What all members of the story are started with.
    fn flags(&self, number: usize, state: &str) -> Vec<String> {
        let list = self.initial_cluster();
        let cluster = ["--initial-cluster", &list, "--initial-cluster-state", state];
        let catch_up = if self.nodes[number].kind == Kind::Old { &[][..] } else { &CATCH_UP };
        let all = cluster.iter().chain(&FLAGS).chain(catch_up).chain(&self.extra);
        let secure = self.authority.iter().flat_map(|authority| authority.flags());
        all.map(|flag| (*flag).to_owned()).chain(secure).collect()
    }

    /// Starts a member that is down or joins.
    fn start(&mut self, number: usize) -> Result<(), String> {
        let flags = self.flags(number, "existing");
        let node = &self.nodes[number];
        let binary = self.binary(node.kind);
        let server = launch(&binary, &node.member, &flags)
            .map_err(|why| format!("{} ({}): {why}", node.member.name, node.kind.name()))?;
        self.nodes[number].server = Some(server);
        Ok(())
    }

    fn take(&mut self, number: usize) -> Result<Server, String> {
        self.nodes[number].server.take().ok_or_else(|| format!("member {number} is down"))
    }

    fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|number| self.nodes[*number].server.is_some()).collect()
    }

    fn endpoint(&self, number: usize) -> String {
        self.nodes[number].member.endpoint()
    }

    fn endpoints(&self) -> String {
        let all: Vec<String> =
            self.running().into_iter().map(|number| self.endpoint(number)).collect();
        all.join(",")
    }

    fn etcdctl(&self, through: usize, args: &[&str]) -> Result<String, String> {
        finish(self.tools.etcdctl(&self.endpoint(through)).args(args))
    }

    fn etcdctl_json(&self, args: &[&str]) -> Result<Vec<serde_json::Value>, String> {
        let mut command = self.tools.etcdctl(&self.endpoints());
        let json = finish(command.args(args).arg("--write-out=json"))?;
        serde_json::from_str(&json).map_err(|e| format!("{e}: {json}"))
    }

    /// Looks until there is something, and tells the last reason why there was not.
    fn eventually<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match look(self) {
                Ok(found) => return Ok(found),
                Err(why) if Instant::now() > deadline => return Err(format!("no {what}: {why}")),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// The ids of the member and of the leader that it sees, from each that runs.
    fn ids(&self) -> Result<Vec<(u64, u64)>, String> {
        let statuses = self.etcdctl_json(&["endpoint", "status"])?;
        let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
        let ids = statuses.iter().map(|status| &status["Status"]);
        Ok(ids.map(|s| (number(&s["header"]["member_id"]), number(&s["leader"]))).collect())
    }

    fn id(&self, number: usize) -> Result<u64, String> {
        let at = self.running().iter().position(|other| *other == number).ok_or("it is down")?;
        Ok(self.ids()?.get(at).ok_or("no status")?.0)
    }

    /// The highest revision that a member tells.
    fn revision(&self) -> Result<i64, String> {
        let statuses = self.etcdctl_json(&["endpoint", "status"])?;
        let revisions = statuses.iter().map(|status| &status["Status"]["header"]["revision"]);
        Ok(revisions.filter_map(serde_json::Value::as_i64).max().unwrap_or(0))
    }

    /// Makes a member the leader of all that run.
    fn lead(&mut self, number: usize) -> Result<(), String> {
        let what = format!("leadership of {}", self.nodes[number].kind.name());
        self.eventually(&what, |this| {
            let id = this.id(number)?;
            if this.ids()?.iter().all(|(_, leader)| *leader == id) {
                return Ok(());
            }
            let mut command = this.tools.etcdctl(&this.endpoints());
            finish(command.args(["move-leader", &format!("{id:x}")]))?;
            Err("moved".to_owned())
        })
    }

    /// A write through each is there for each other at once.
    fn write_and_read(&self, key: &str) -> Result<(), String> {
        for writer in self.running() {
            let value = format!("{key} through {writer}");
            self.etcdctl(writer, &["put", key, &value])?;
            for reader in self.running().into_iter().filter(|reader| *reader != writer) {
                let got = self.etcdctl(reader, &["get", key, "--print-value-only"])?;
                if got.trim_end() != value {
                    return Err(format!("member {reader} reads {got:?}, not {value:?}"));
                }
            }
        }
        Ok(())
    }

    /// A case: all that run have the same hash at one revision, whoever writes meanwhile.
    fn agree(&mut self, name: &str) -> Result<(), String> {
        let result = self.same_hash();
        self.case(&format!("{name}: HashKV is equal"), result);
        Ok(())
    }

    fn same_hash(&self) -> Result<(), String> {
        let revision = self.revision()?;
        // A linearizable read waits until the member has it.
        for number in self.running() {
            self.eventually("read", |this| this.etcdctl(number, &["get", "k"]))?;
        }
        let hashes = self.etcdctl_json(&["endpoint", "hashkv", &format!("--rev={revision}")])?;
        let hash = |value: &serde_json::Value| value["HashKV"]["hash"].as_u64();
        let first = hashes.first().and_then(hash);
        let is_equal = hashes.len() == self.running().len()
            && first.is_some()
            && hashes.iter().all(|value| hash(value) == first);
        if is_equal { Ok(()) } else { Err(format!("at revision {revision}: {hashes:?}")) }
    }

    /// A learner is added, promoted, given another URL and removed, all through one member.
    fn come_and_go(&mut self, through: usize, kind: Kind) -> Result<(), String> {
        let title = format!("{} through {}", kind.name(), self.nodes[through].kind.name());
        let number = self.new_node(kind);
        let (name, url) =
            (self.nodes[number].member.name.clone(), self.nodes[number].member.peer_url());
        let peers = format!("--peer-urls={url}");
        self.eventually("addition", |this| {
            this.etcdctl(through, &["member", "add", &name, "--learner", &peers])
        })?;
        self.start(number)?;
        let id = format!("{:x}", self.id(number)?);
        self.case(&format!("{title}: a learner is added and serves"), Ok(()));
        self.eventually("promotion", |this| this.etcdctl(through, &["member", "promote", &id]))?;
        let result = self.write_and_read("promoted");
        self.case(&format!("{title}: it is promoted, writes and reads"), result);

        self.nodes[number].member.peer_port = process::free_port();
        let peers = format!("--peer-urls={}", self.nodes[number].member.peer_url());
        self.eventually("update", |this| {
            this.etcdctl(through, &["member", "update", &id, &peers])
        })?;
        self.take(number)?.stop()?;
        self.start(number)?;
        let result = self.write_and_read("moved");
        self.case(&format!("{title}: it is updated and found at its other URL"), result);
        self.agree(&format!("{title}: updated"))?;

        self.eventually("removal", |this| this.etcdctl(through, &["member", "remove", &id]))?;
        let code = self.take(number)?.wait(PATIENCE);
        self.nodes.pop();
        let result = match code {
            Ok(0) => self.write_and_read("removed"),
            Ok(code) => Err(format!("it ended with {code}")),
            Err(why) => Err(why),
        };
        self.case(&format!("{title}: it is removed and ends"), result);
        Ok(())
    }

    /// A member that was away for too long gets the database of a leader.
    fn catch_up(&mut self, leader: usize, behind: usize) -> Result<(), String> {
        let kinds = [self.nodes[leader].kind, self.nodes[behind].kind];
        let title = format!("snapshot from {} to {}", kinds[0].name(), kinds[1].name());
        self.lead(leader)?;
        self.take(behind)?.kill();
        let log = self.nodes[behind].member.dir.with_extension("log");
        let logged = fs::read(&log).map_or(0, |bytes| bytes.len());
        let record = self.folder.join(format!("record-{leader}-{behind}"));
        let record = record.display().to_string();
        let mut load = Command::new(self.tools.bin("writer"));
        load.args(["load", "-endpoint", &self.endpoint(leader), "-record", &record]);
        finish(load.args(["-ops", kinds[0].many(), "-workers", "64"]))?;
        self.start(behind)?;
        let result = self.verify(behind, &record);
        self.case(&format!("{title}: what was written meanwhile is there"), result);
        let bytes = fs::read(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let text = String::from_utf8_lossy(bytes.get(logged..).unwrap_or_default()).into_owned();
        let result = if text.contains("applied snapshot") {
            Ok(())
        } else {
            Err("its log tells of none".to_owned())
        };
        self.case(&format!("{title}: it was sent"), result);
        self.agree(&title)
    }

    /// Every acknowledged write is read from one member.
    fn verify(&self, number: usize, record: &str) -> Result<(), String> {
        self.eventually("read", |this| this.etcdctl(number, &["get", "k"]))?;
        let mut verify = Command::new(self.tools.bin("writer"));
        verify.args(["verify", "-endpoint", &self.endpoint(number), "-record", record]);
        finish(&mut verify).map(drop)
    }

    /// SIGKILL of the leader: the others serve; it comes back.
    fn lose_leader(&mut self, number: usize) -> Result<(), String> {
        let title = format!("leader of {} killed", self.nodes[number].kind.name());
        self.lead(number)?;
        self.take(number)?.kill();
        let through = self.running();
        let result = through.iter().try_for_each(|through| {
            self.eventually("write", |this| this.etcdctl(*through, &["put", "k", "v"])).map(drop)
        });
        self.case(&format!("{title}: the others go on"), result);
        self.start(number)?;
        let result = self.write_and_read("back");
        self.case(&format!("{title}: it comes back"), result);
        self.agree(&title)
    }

    /// From etcd to ours and back, a member at a time, with writers.
    fn move_and_return(&mut self, kinds: [Kind; 3]) -> Result<(), String> {
        self.found(&kinds)?;
        let record = self.folder.join("record");
        let writers = Writers::start(self.tools, &self.endpoints(), &record)?;
        for number in 0..kinds.len() {
            self.becomes(number, Kind::Ours, &writers)?;
        }
        self.each_leads(Kind::Ours)?;
        for (number, kind) in kinds.into_iter().enumerate() {
            self.becomes(number, kind, &writers)?;
        }
        self.finish_move(writers, &record)
    }

    /// A member goes on under another kind of server, on its directory.
    fn becomes(&mut self, number: usize, kind: Kind, writers: &Writers) -> Result<(), String> {
        let node = &self.nodes[number];
        let title = format!("{}, {}, becomes {}", node.member.name, node.kind.name(), kind.name());
        let is_old = [node.kind, kind].contains(&Kind::Old);
        writers.wait_for_more()?;
        let server = self.take(number)?;
        // Most stop; one is killed, which 3.5.1 itself does not always survive.
        if number == 1 && !is_old {
            server.kill();
        } else {
            server.stop()?;
        }
        if is_old && let Some(version) = self.storage_version(number)? {
            let version = String::from_utf8_lossy(&version).into_owned();
            return Err(format!("{title}: the database is of version {version}"));
        }
        self.nodes[number].kind = kind;
        self.start(number)?;
        let result = writers.wait_for_more();
        self.case(&format!("{title}: writes go on"), result);
        self.agree(&title)
    }

    fn each_leads(&mut self, kind: Kind) -> Result<(), String> {
        for leader in 0..self.nodes.len() {
            self.lead(leader)?;
        }
        let result = self.write_and_read("moved");
        let title = format!("all are {}", kind.name());
        self.case(&format!("{title}: each leads, each reads what each wrote"), result);
        Ok(())
    }

    fn finish_move(&mut self, writers: Writers, record: &Path) -> Result<(), String> {
        self.each_leads(self.nodes[0].kind)?;
        writers.stop();
        let record = record.display().to_string();
        for number in self.running() {
            let result = self.verify(number, &record);
            let name = format!("{} has every acknowledged write", self.nodes[number].member.name);
            self.case(&name, result);
        }
        self.agree("at the end")
    }
}

/// A program that writes through all members until it is stopped.
struct Writers {
    child: Child,
    record: PathBuf,
}

impl Writers {
    fn start(tools: &Tools, endpoints: &str, record: &Path) -> Result<Self, String> {
        let mut command = Command::new(tools.bin("writer"));
        command.args(["load", "-endpoint", endpoints, "-for", "10m", "-persist"]);
        command.args(["-workers", "4", "-record"]).arg(record);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|e| format!("writer: {e}"))?;
        Ok(Self { child, record: record.to_owned() })
    }

    fn acknowledged(&self) -> usize {
        let newline = |byte: &&u8| **byte == b'\n';
        fs::read(&self.record).map_or(0, |bytes| bytes.iter().filter(newline).count())
    }

    /// Returns when some more writes have been acknowledged.
    fn wait_for_more(&self) -> Result<(), String> {
        let wanted = self.acknowledged() + 100;
        let deadline = Instant::now() + PATIENCE;
        while self.acknowledged() < wanted {
            if Instant::now() > deadline {
                return Err(format!("{} writes, no more", self.acknowledged()));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.end();
    }
}

fn launch(binary: &Path, member: &Member, flags: &[String]) -> Result<Server, String> {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Server::start(binary, member, &flags)
}

fn finish(command: &mut Command) -> Result<String, String> {
    let name = format!("{command:?}");
    process::run(command, b"", PATIENCE)?.success(&name)
}
