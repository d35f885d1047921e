//! `cargo xtask peers`: a member made of the crates transport and raft in a cluster with etcd.
//!
//! One story is told with each version of etcd: etcd serves alone and has cut its log; our member joins as a learner,
//! so that it gets a snapshot; it is promoted, and etcd commits through it; it becomes leader, and etcd forwards
//! to it; another etcd joins and gets its snapshot from ours; leadership goes back, and ours is removed.

mod alike;
mod player;

use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use player::Player;

use crate::conformance::Outcome;
use crate::conformance::process::{self, Member, Server, free_port, http_get};
use crate::conformance::tools::{self, Tools};

/// For each command and each step.
const LIMIT: Duration = Duration::from_secs(40);
/// What etcd may refuse for a while: a learner is not ready, a member not connected for long enough.
const RETRY_LIMIT: Duration = Duration::from_secs(30);
/// Our member publishes no name, without which a cluster has too few started members for a change.
const LENIENT: &str = "--strict-reconfig-check=false";
/// Entries that releases before 3.6 keep behind a snapshot, whatever one says.
const CATCH_UP: usize = 5000;

/// Tells the story with each version that this machine has.
///
/// # Errors
/// A machine on which nothing can be run.
pub(crate) fn run() -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    let tools = tools::prepare(&mut outcome.skipped)?;
    let folder = tools.work.join("peers");
    let _ = std::fs::remove_dir_all(&folder);
    story(&tools, &folder.join("3.7.3"), &tools.bin("etcd"), &mut outcome);
    if tools.has_35() {
        story(&tools, &folder.join("3.5.1"), &tools.bin35("etcd"), &mut outcome);
    }
    for what in &outcome.skipped {
        println!("skipped: {what}");
    }
    println!("peers: {} passed, {} failed", outcome.passed, outcome.failed);
    Ok(outcome)
}

fn story(tools: &Tools, folder: &Path, etcd: &Path, outcome: &mut Outcome) {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut steps = Steps { name: &name, begun: Instant::now(), outcome };
    if let Err(why) = Story::tell(tools, folder, etcd, &mut steps) {
        steps.outcome.case(&format!("{name} the rest"), Err(why));
    }
}

/// Counts what held so far.
struct Steps<'a> {
    name: &'a str,
    begun: Instant,
    outcome: &'a mut Outcome,
}

impl Steps<'_> {
    fn done(&mut self, what: &str) {
        println!("{} {:5.1} s {what}", self.name, self.begun.elapsed().as_secs_f64());
        self.outcome.case(what, Ok(()));
    }
}

/// The etcd that was there first, and ours.
struct Story<'a> {
    tools: &'a Tools,
    first: Server,
    ours: Player,
}

impl<'a> Story<'a> {
    fn tell(
        tools: &'a Tools,
        folder: &Path,
        etcd: &Path,
        steps: &mut Steps<'_>,
    ) -> Result<(), String> {
        let member = Member::new(folder.join("n1"));
        let is_old = etcd == tools.bin35("etcd");
        let mut args = vec!["--snapshot-count=5", LENIENT];
        args.extend((!is_old).then_some("--snapshot-catchup-entries=2"));
        let first = Server::start(etcd, &member, &args)?;
        if is_old {
            fill(tools, &first)?;
        }
        for number in 0..20 {
            let key = format!("early{number}");
            etcdctl(tools, &first, &["put", &key, "value"])?;
        }
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let peers = format!("--peer-urls={url}");
        etcdctl(tools, &first, &["member", "add", "ours", "--learner", &peers])?;
        let first_url = format!("http://127.0.0.1:{}", member.peer_port);
        let ours = Player::join(&folder.join("ours"), port, &first_url)?;
        let mut story = Story { tools, first, ours };
        steps.done("our member reads the members from etcd's page");

        let etcd_id = story.ours.others().next().ok_or("no other member")?;
        let theirs = alike::Port { port: member.peer_port, id: etcd_id };
        let own = alike::Port { port, id: story.ours.id() };
        let cluster_id = story.ours.cluster_id();
        let asking = std::thread::spawn(move || alike::check(theirs, own, cluster_id, is_old));
        let asked = story.ours.run_while(asking)??;
        steps.done(&format!("both peer ports answer {asked} requests alike"));

        story.learn(steps)?;
        story.vote(steps)?;
        story.rest(steps)?;
        story.lead(steps)?;
        let second = story.welcome(folder, etcd, steps)?;
        story.leave(&second, steps)
    }

    /// Runs etcdctl while our member does its part.
    fn etcdctl(&mut self, args: &[&str]) -> Result<String, String> {
        self.try_etcdctl(args)?
    }

    /// An error of our member's is the outer one.
    fn try_etcdctl(&mut self, args: &[&str]) -> Result<Result<String, String>, String> {
        let mut command = self.tools.etcdctl(&self.first.endpoint());
        command.args(["--command-timeout=20s"]).args(args);
        self.ours.run_while(in_background(command, args.join(" ")))
    }

    /// Runs etcdctl until etcd is willing.
    fn etcdctl_retried(&mut self, args: &[&str]) -> Result<String, String> {
        let deadline = Instant::now() + RETRY_LIMIT;
        loop {
            let result = self.try_etcdctl(args)?;
            if result.is_ok() || Instant::now() > deadline {
                return result;
            }
            self.ours.run_for(Duration::from_millis(200))?;
        }
    }

    fn learn(&mut self, steps: &mut Steps<'_>) -> Result<(), String> {
        self.ours.run_until("the snapshot of etcd", |ours| ours.snapshot_index() > 0)?;
        let db = self.ours.db().display().to_string();
        let mut check = Command::new(self.tools.bin("bboltcheck"));
        process::run(check.arg(&db), &[], LIMIT)?.success("bboltcheck")?;
        steps.done("a snapshot of etcd arrives, with a sound database");
        self.etcdctl(&["put", "after", "the snapshot"])?;
        self.ours.run_until("an entry", |ours| ours.has_committed(b"the snapshot"))?;
        steps.done("a learner gets the leader's appends");
        let metrics =
            http_get(self.first.member.client_port, "/metrics").map_err(|e| e.to_string())?;
        let ours = format!("Remote=\"{:x}\"}} 1", self.ours.id());
        let is_active = metrics
            .lines()
            .any(|line| line.starts_with("etcd_network_active_peers{") && line.ends_with(&ours));
        if !is_active {
            return Err("etcd does not count our member as active".to_owned());
        }
        steps.done("etcd counts our member as active");
        Ok(())
    }

    fn vote(&mut self, steps: &mut Steps<'_>) -> Result<(), String> {
        let id = format!("{:x}", self.ours.id());
        self.etcdctl_retried(&["member", "promote", &id])?;
        self.ours.run_until("the promotion", Player::is_voter)?;
        steps.done("etcd finds the learner ready, and promotes it");
        self.etcdctl(&["put", "voted", "by two"])?;
        self.ours.run_until("the commit", |ours| ours.has_committed(b"by two"))?;
        steps.done("etcd commits with our member's acknowledgement");
        Ok(())
    }

    /// Longer than a connection may be silent, and than it takes to the first probes.
    fn rest(&mut self, steps: &mut Steps<'_>) -> Result<(), String> {
        self.ours.run_for(Duration::from_secs(7))?;
        let metrics = http_get(self.first.member.client_port, "/metrics");
        let metrics = metrics.map_err(|e| e.to_string())?;
        let id = format!("{:x}", self.ours.id());
        let of_ours =
            |name: &str| metrics.lines().any(|line| line.starts_with(name) && line.contains(&id));
        if of_ours("etcd_network_disconnected_peers_total{") {
            return Err("etcd has lost our member".to_owned());
        }
        if !of_ours("etcd_network_peer_round_trip_time_seconds_count{") {
            return Err("etcd has not probed our member".to_owned());
        }
        if self.ours.disconnections() > 0 {
            return Err("our member has lost etcd".to_owned());
        }
        steps.done("nobody loses the other in seven quiet seconds");
        Ok(())
    }

    fn lead(&mut self, steps: &mut Steps<'_>) -> Result<(), String> {
        let id = format!("{:x}", self.ours.id());
        self.etcdctl(&["move-leader", &id])?;
        self.ours.run_until("leadership", Player::is_leader)?;
        steps.done("etcd hands leadership to our member");
        self.etcdctl(&["put", "led", "by ours"])?;
        let got = self.etcdctl(&["get", "led", "--print-value-only"])?;
        if got.trim() != "by ours" {
            return Err(format!("read {got:?}"));
        }
        steps.done("etcd forwards proposals and reads to our member, and follows it");
        Ok(())
    }

    fn welcome(
        &mut self,
        folder: &Path,
        etcd: &Path,
        steps: &mut Steps<'_>,
    ) -> Result<Server, String> {
        let member = Member::new(folder.join("n3"));
        let url = format!("http://127.0.0.1:{}", member.peer_port);
        let peers = format!("--peer-urls={url}");
        self.etcdctl_retried(&["member", "add", "n3", &peers])?;
        self.ours.run_until("the third member", |ours| ours.members() == 3)?;
        // Our member has no database of its own; that of the other, as of the same entry, is as good.
        self.etcdctl(&["put", "last", "before the snapshot"])?;
        let file = folder.join("n1.snapshot");
        let applied = self.ours.applied();
        self.etcdctl(&["snapshot", "save", &file.display().to_string()])?;
        let status = self.etcdctl(&["endpoint", "status", "--write-out=json"])?;
        if !status.contains(&format!("\"raftAppliedIndex\":{applied},")) {
            return Err(format!("our member has applied {applied}: {status}"));
        }
        self.ours.compact(&file, applied)?;
        let first_url = format!("http://127.0.0.1:{}", self.first.member.peer_port);
        let initial = format!("n1={first_url},ours={},n3={url}", self.ours.url());
        let etcd = etcd.to_owned();
        let starting = std::thread::spawn(move || {
            let existing = ["--initial-cluster-state", "existing"];
            let args = ["--name", "n3", "--initial-cluster", &initial, LENIENT];
            Server::start(&etcd, &member, &[args.as_slice(), &existing].concat())
        });
        let second = self.ours.run_while(starting)??;
        if self.ours.snapshots_sent() == 0 {
            return Err("the new etcd has got no snapshot of our member".to_owned());
        }
        steps.done("a new etcd gets its snapshot from our member, and is healthy");
        let mut command = self.tools.etcdctl(&second.endpoint());
        command.args(["get", "early7", "--consistency=s", "--print-value-only"]);
        let early = self.ours.run_while(in_background(command, "get early7".to_owned()))??;
        let mut command = self.tools.etcdctl(&second.endpoint());
        command.args(["get", "led", "--print-value-only"]);
        let led = self.ours.run_while(in_background(command, "get led".to_owned()))??;
        if (early.trim(), led.trim()) != ("value", "by ours") {
            return Err(format!("the new etcd reads {early:?} and {led:?}"));
        }
        steps.done("it has the database and what came after, and reads through our member");
        Ok(second)
    }

    fn leave(&mut self, second: &Server, steps: &mut Steps<'_>) -> Result<(), String> {
        self.ours.hand_over();
        self.ours.run_until("another leader", |ours| !ours.is_leader() && ours.has_leader())?;
        steps.done("our member hands leadership to etcd");
        let id = format!("{:x}", self.ours.id());
        self.etcdctl_retried(&["member", "remove", &id])?;
        self.ours.run_until("the word of the removal", Player::is_removed)?;
        steps.done("our member is removed, and told so");
        let endpoints = format!("{},{}", self.first.endpoint(), second.endpoint());
        let mut command = self.tools.etcdctl(&endpoints);
        command.args(["endpoint", "hashkv", "--write-out=json"]);
        let hashes = process::run(&mut command, &[], LIMIT)?.success("endpoint hashkv")?;
        let hashes: serde_json::Value = serde_json::from_str(&hashes).map_err(|e| e.to_string())?;
        let hash = |at: usize| hashes[at]["HashKV"]["hash"].as_u64();
        if hash(0).is_none() || hash(0) != hash(1) {
            return Err(format!("hashes differ: {hashes}"));
        }
        steps.done("both etcds have the same data");
        Ok(())
    }
}

/// Writes more than etcd keeps in its log.
fn fill(tools: &Tools, server: &Server) -> Result<(), String> {
    let endpoints = format!("--endpoints={}", server.endpoint());
    let total = format!("--total={}", CATCH_UP + 100);
    let mut command = Command::new(tools.bin("benchmark"));
    command.args(["put", "--clients=50", "--conns=2", "--val-size=8", &endpoints, &total]);
    process::run(&mut command, &[], LIMIT)?.success("benchmark put").map(drop)
}

fn etcdctl(tools: &Tools, server: &Server, args: &[&str]) -> Result<String, String> {
    let mut command = tools.etcdctl(&server.endpoint());
    process::run(command.args(args), &[], LIMIT)?.success(&args.join(" "))
}

fn in_background(mut command: Command, what: String) -> JoinHandle<Result<String, String>> {
    std::thread::spawn(move || process::run(&mut command, &[], LIMIT)?.success(&what))
}
