//! Part `patroni`: Patroni keeps the leader of two PostgreSQL servers in a cluster of three members of ours, by way of
//! the JSON gateway. Members are killed, and the leader is held; the leader is killed, and the other node takes over.
//!
//! `conformance/patroni` lists the libraries. A lease of Patroni's lasts 20 seconds at least, so that is what a failover
//! takes. PostgreSQL refuses to run as root: there it is started as another user, of a namespace or of the machine.

mod node;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use self::node::{Node, Place};
use super::process::{self, Member, Server};
use super::{Outcome, tools::Tools, zoo};

/// How long anything may take that is waited for.
const LIMIT: Duration = Duration::from_secs(150);
/// For how long the leader is watched at least while a member is down.
const WATCHED_SECONDS: u64 = 5;
/// Where Debian's packages have the programs of a version.
const POSTGRESQL: &str = "/usr/lib/postgresql";
/// The name of the PostgreSQL cluster, and the key of its leader.
const SCOPE: &str = "conformance";
const LEADER_KEY: &str = "/service/conformance/leader";

pub(super) fn run(
    tools: &Tools,
    ours: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let place = match prepare(tools, work) {
        Ok(place) => place,
        Err(why) => {
            outcome.skipped.push(format!("patroni: {why}"));
            return Ok(());
        }
    };
    let mut story = Story::begin(tools, ours, place)?;
    let steps: [(&str, Step<'_>); 8] = [
        ("a leader and a replica", Story::found),
        ("a member is killed, the leader is held", Story::lose_follower),
        ("the members' leader is killed, the leader is held", Story::lose_leader),
        ("the last member is killed, the leader is held", Story::lose_last),
        ("the leader hands over", Story::switch_over),
        ("the leader is killed, the other takes over with all data", Story::fail_over),
        ("the killed node comes back as a replica", Story::rejoin),
        ("the nodes stop", Story::stop),
    ];
    for (name, step) in steps {
        let begun = Instant::now();
        let result = step(&mut story);
        let failed = result.is_err();
        let result = result.map_err(|why| format!("{why}\n{}", story.logs()));
        outcome.case(&format!("patroni, {name}"), result);
        println!("patroni: {name}: {:.1} s", begun.elapsed().as_secs_f64());
        if failed {
            break;
        }
    }
    Ok(())
}

/// Makes sure of PostgreSQL, Patroni and a user for them.
///
/// # Errors
/// What is missing on this machine.
fn prepare(tools: &Tools, work: &Path) -> Result<Place, String> {
    let postgresql = find_postgresql()?;
    let cache = crate::root().join("target/conformance/patroni");
    let modules = zoo::python_modules(tools.source.join("patroni"), cache)?;
    Place::new(postgresql, modules, work)
}

/// The folder of the newest PostgreSQL's programs.
fn find_postgresql() -> Result<PathBuf, String> {
    let versions = std::fs::read_dir(POSTGRESQL).into_iter().flatten().filter_map(Result::ok);
    let bins = versions.map(|version| version.path().join("bin"));
    let newest = bins.filter(|bin| bin.join("initdb").exists()).max();
    newest.ok_or_else(|| format!("no PostgreSQL under {POSTGRESQL}"))
}

/// A part of the story, which begins where the one before has ended.
type Step<'a> = fn(&mut Story<'a>) -> Result<(), String>;

/// Three members, of which one may be down, and two nodes.
struct Story<'a> {
    tools: &'a Tools,
    binary: &'a Path,
    members: Vec<Option<Server>>,
    /// Members that were killed once.
    killed: BTreeSet<usize>,
    nodes: Vec<Node>,
    place: Place,
    /// Rows that were written, and must stay.
    rows: usize,
}

impl<'a> Story<'a> {
    fn begin(tools: &'a Tools, binary: &'a Path, place: Place) -> Result<Self, String> {
        let member = |name: &str| Member::named(name, place.work.join(name));
        let members = ["m1", "m2", "m3"].map(member);
        let members = Server::start_cluster(binary, &members)?;
        let endpoints: Vec<String> = members.iter().map(Server::endpoint).collect();
        let node = |name: &str| Node::new(name, &endpoints, &place);
        let nodes = vec![node("p1")?, node("p2")?];
        let members = members.into_iter().map(Some).collect();
        Ok(Self { tools, binary, members, killed: BTreeSet::new(), nodes, place, rows: 0 })
    }

    /// The first node founds the cluster, the second copies it.
    fn found(&mut self) -> Result<(), String> {
        self.nodes[0].start(&self.place)?;
        self.nodes[0].becomes("/primary")?;
        self.nodes[1].start(&self.place)?;
        self.nodes[1].becomes("/replica")?;
        self.nodes[0].query(&self.place, "CREATE TABLE kept (number int PRIMARY KEY)")?;
        self.write(0)
    }

    fn lose_follower(&mut self) -> Result<(), String> {
        let leader = self.raft_leader()?;
        self.hold_without((leader + 1) % self.members.len())
    }

    fn lose_leader(&mut self) -> Result<(), String> {
        let leader = self.raft_leader()?;
        self.hold_without(leader)
    }

    /// Each node has asked one of the members, and must have lost that one by now.
    fn lose_last(&mut self) -> Result<(), String> {
        let last = (0..self.members.len()).find(|member| !self.killed.contains(member));
        last.map_or(Ok(()), |last| self.hold_without(last))
    }

    /// Kills a member: the key of PostgreSQL's leader must stay and be renewed, and the leader go on leading. Then the
    /// member comes back.
    fn hold_without(&mut self, member: usize) -> Result<(), String> {
        let primary = self.primary()?;
        let (key, started) = (self.leader_key()?, self.nodes[primary].started()?);
        let (before, begun) = (self.seconds_left(&key.lease)?, Instant::now());
        let server = self.members[member].take().ok_or("it is down already")?;
        let identity = server.member.clone();
        server.kill();
        self.killed.insert(member);
        // Without renewals, what is left and what has passed have the same sum. A new leader of the members makes it larger
        // once, by the time that it was elected in.
        until("renewals of the lease", || {
            let passed = begun.elapsed().as_secs();
            let left = self.seconds_left(&key.lease).unwrap_or_default();
            passed >= WATCHED_SECONDS && left + passed >= before + WATCHED_SECONDS
        })?;
        self.write(primary)?;
        let server = Server::start_within(self.binary, &identity, &[], LIMIT)?;
        self.members[member] = Some(server);
        same("the leader's key", &self.leader_key()?, &key)?;
        same("the leader", &self.primary()?, &primary)?;
        same("the start of its PostgreSQL", &self.nodes[primary].started()?, &started)
    }

    fn switch_over(&mut self) -> Result<(), String> {
        let old = self.primary()?;
        let new = 1 - old;
        let body = format!(
            r#"{{"leader":"{}","candidate":"{}"}}"#,
            self.nodes[old].name, self.nodes[new].name
        );
        self.nodes[old].post("/switchover", &body)?;
        self.led_by(new)?;
        self.nodes[old].becomes("/replica")?;
        self.write(new)
    }

    /// The end of a machine: Patroni and PostgreSQL are killed at once, so that nobody gives up the leader's key.
    fn fail_over(&mut self) -> Result<(), String> {
        let old = self.primary()?;
        self.nodes[old].kill()?;
        let begun = Instant::now();
        self.led_by(1 - old)?;
        println!("patroni: the other node led after {:.1} s", begun.elapsed().as_secs_f64());
        self.write_alone(1 - old)
    }

    fn rejoin(&mut self) -> Result<(), String> {
        let back = 1 - self.primary()?;
        self.nodes[back].start(&self.place)?;
        self.nodes[back].becomes("/replica")?;
        self.has_all(back)
    }

    fn stop(&mut self) -> Result<(), String> {
        self.nodes.iter_mut().try_for_each(Node::stop)
    }

    /// Waits until a node leads, says so in the key, and has all rows.
    fn led_by(&mut self, node: usize) -> Result<(), String> {
        self.nodes[node].becomes("/primary")?;
        same("the leader's key", &self.leader_key()?.value, &self.nodes[node].name)?;
        self.has_all(node)
    }

    /// Writes a row to the leader, and waits until the replica has it.
    fn write(&mut self, primary: usize) -> Result<(), String> {
        self.write_alone(primary)?;
        self.has_all(1 - primary)
    }

    fn write_alone(&mut self, primary: usize) -> Result<(), String> {
        let insert = format!("INSERT INTO kept VALUES ({}) ON CONFLICT DO NOTHING", self.rows);
        // A leader writes as soon as it is out of recovery.
        until("a write", || self.nodes[primary].query(&self.place, &insert).is_ok())?;
        self.rows += 1;
        Ok(())
    }

    fn has_all(&self, node: usize) -> Result<(), String> {
        let count = self.rows.to_string();
        until("the rows that were written", || {
            let answer = self.nodes[node].query(&self.place, "SELECT count(*) FROM kept");
            answer.is_ok_and(|answer| answer.trim() == count)
        })
    }

    /// The one node that leads.
    fn primary(&self) -> Result<usize, String> {
        let mut leaders = Vec::new();
        until("one leader", || {
            leaders = (0..self.nodes.len()).filter(|&i| self.nodes[i].is("/primary")).collect();
            leaders.len() == 1
        })?;
        Ok(leaders[0])
    }

    /// The member that leads the others.
    fn raft_leader(&self) -> Result<usize, String> {
        let leads = |i: &usize| {
            let Some(server) = &self.members[*i] else { return false };
            process::http_get(server.member.client_port, "/metrics")
                .is_ok_and(|page| page.contains("\netcd_server_is_leader 1"))
        };
        let mut leaders = Vec::new();
        until("a leader of the members", || {
            leaders = (0..self.members.len()).filter(leads).collect();
            leaders.len() == 1
        })?;
        Ok(leaders[0])
    }

    /// The output of an etcdctl command, from whichever member answers.
    fn etcdctl(&self, words: &[&str]) -> Result<String, String> {
        let mut why = "no member".to_owned();
        for server in self.members.iter().flatten() {
            let mut command = self.tools.etcdctl(&server.endpoint());
            let output = process::run(command.args(words), b"", Duration::from_secs(10));
            match output.and_then(|output| output.success("etcdctl")) {
                Ok(text) => return Ok(text),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn leader_key(&self) -> Result<LeaderKey, String> {
        let text = self.etcdctl(&["get", LEADER_KEY, "--write-out", "fields"])?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("\"{name}\" : ")));
            line.map(|value| value.trim_matches('"').to_owned()).ok_or(format!("no {name}: {text}"))
        };
        let lease = field("Lease")?.parse::<i64>().map_err(|e| format!("lease: {e}"))?;
        let (create_revision, value) = (field("CreateRevision")?, field("Value")?);
        Ok(LeaderKey { create_revision, lease: format!("{lease:x}"), value })
    }

    /// What is left of a lease.
    fn seconds_left(&self, lease: &str) -> Result<u64, String> {
        let text = self.etcdctl(&["lease", "timetolive", lease])?;
        let left = text.split("remaining(").nth(1).and_then(|rest| rest.split('s').next());
        left.and_then(|left| left.parse().ok()).ok_or(format!("no time left: {text}"))
    }

    fn logs(&self) -> String {
        self.nodes.iter().map(Node::log_tail).collect::<Vec<_>>().join("\n")
    }
}

/// Who leads, and since when.
#[derive(Debug, PartialEq)]
struct LeaderKey {
    create_revision: String,
    /// In the digits of etcdctl.
    lease: String,
    value: String,
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, want: &T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what}: {got:?} instead of {want:?}")) }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let begun = Instant::now();
    while !condition() {
        if begun.elapsed() > LIMIT {
            return Err(format!("not after {LIMIT:?}: {what}"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Runs a command to its end, with a limit for what is quick.
fn quick(command: &mut Command, what: &str) -> Result<String, String> {
    process::run(command, b"", Duration::from_secs(60))?.success(what)
}
