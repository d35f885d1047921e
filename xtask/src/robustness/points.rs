//! Every failpoint of the suite's pool, one after the other: the suite draws from them, and may never draw one.
//!
//! A cluster of three; a point of one member is set to end it, something is done that reaches the point, the process must
//! end as Go's does when it panics, and the member must come back. At the end all members must hold the same.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use api::etcdserverpb as pb;

use crate::conformance::Outcome;
use crate::conformance::process::{Member, Server, free_port, initial_cluster};
use crate::grpc::Channel;

/// For a process to end or to come up.
const LIMIT: Duration = Duration::from_secs(60);
/// Entries between two snapshots, and those that are kept behind one.
const SNAPSHOT_COUNT: usize = 50;
/// The code of a Go program that panicked.
const EXIT_PANIC: i32 = 2;

/// What reaches a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    /// A write, at a member that follows.
    Put,
    /// A write, at the leader.
    Lead,
    Defragment,
    Compact,
    MemberUpdate,
    /// A member comes back that is so far behind that it needs a snapshot.
    Snapshot,
}

const POINTS: [(&str, Trigger); 32] = [
    ("beforeCommit", Trigger::Put),
    ("afterCommit", Trigger::Put),
    ("beforeStartDBTxn", Trigger::Put),
    ("afterStartDBTxn", Trigger::Put),
    ("beforeWritebackBuf", Trigger::Put),
    ("afterWritebackBuf", Trigger::Put),
    ("commitBeforePreCommitHook", Trigger::Put),
    ("commitAfterPreCommitHook", Trigger::Put),
    ("raftBeforeSave", Trigger::Put),
    ("raftAfterSave", Trigger::Put),
    ("raftBeforeFollowerSend", Trigger::Put),
    ("raftBeforeLeaderSend", Trigger::Lead),
    ("raftBeforeAdvance", Trigger::Put),
    ("walBeforeSync", Trigger::Put),
    ("walAfterSync", Trigger::Put),
    ("beforeApplyOneEntryNormal", Trigger::Put),
    ("beforeApplyOneConfChange", Trigger::MemberUpdate),
    ("defragBeforeCopy", Trigger::Defragment),
    ("defragBeforeRename", Trigger::Defragment),
    ("compactBeforeCommitScheduledCompact", Trigger::Compact),
    ("compactAfterCommitScheduledCompact", Trigger::Compact),
    ("compactBeforeCommitBatch", Trigger::Compact),
    ("compactAfterCommitBatch", Trigger::Compact),
    ("compactBeforeSetFinishedCompact", Trigger::Compact),
    ("compactAfterSetFinishedCompact", Trigger::Compact),
    ("snapDBRenameBeforeDirSync", Trigger::Snapshot),
    ("raftBeforeSaveSnap", Trigger::Snapshot),
    ("raftAfterSaveSnap", Trigger::Snapshot),
    ("raftBeforeApplySnap", Trigger::Snapshot),
    ("raftAfterApplySnap", Trigger::Snapshot),
    ("raftAfterWALRelease", Trigger::Snapshot),
    ("applyBeforeOpenSnapshot", Trigger::Snapshot),
];

/// Strikes at all points; a case for each, and one for what the members hold.
pub(crate) fn run(binary: &Path, work: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let folder = work.join("points");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut cluster = Cluster::start(binary, &folder)?;
    for (point, trigger) in POINTS {
        let result = cluster.strike(point, trigger);
        let is_lost = result.is_err();
        outcome.case(point, result);
        if is_lost {
            // Whoever did not come back is not waited for thirty times.
            cluster.restart_all()?;
        }
    }
    outcome.case("hashes after all points", cluster.compare());
    Ok(())
}

struct Cluster {
    binary: PathBuf,
    nodes: Vec<Node>,
}

struct Node {
    member: Member,
    /// Where gofail's page is.
    gofail: u16,
    /// None while it is down.
    server: Option<Server>,
}

impl Cluster {
    fn start(binary: &Path, folder: &Path) -> Result<Self, String> {
        let node = |number| {
            let name = format!("n{number}");
            let member = Member::named(&name, folder.join(&name));
            Node { member, gofail: free_port(), server: None }
        };
        let mut cluster = Self { binary: binary.to_owned(), nodes: (0..3).map(node).collect() };
        cluster.restart_all()?;
        Ok(cluster)
    }

    fn restart_all(&mut self) -> Result<(), String> {
        for at in 0..self.nodes.len() {
            self.nodes[at].server = None;
            self.launch(at, "")?;
        }
        (0..self.nodes.len()).try_for_each(|at| self.server(at)?.wait_healthy(LIMIT))
    }

    /// Starts a member with a point set from the beginning.
    fn launch(&mut self, at: usize, points: &str) -> Result<(), String> {
        let list = initial_cluster(self.nodes.iter().map(|node| &node.member));
        let count = SNAPSHOT_COUNT.to_string();
        let node = &mut self.nodes[at];
        let address = format!("127.0.0.1:{}", node.gofail);
        let variables = [("GOFAIL_HTTP", address.as_str()), ("GOFAIL_FAILPOINTS", points)];
        let flags = [
            ["--initial-cluster", &list],
            ["--snapshot-count", &count],
            ["--snapshot-catchup-entries", &count],
            ["--compaction-batch-limit", "10"],
        ];
        let flags = flags.as_flattened();
        node.server = Some(Server::launch_with(&self.binary, &node.member, flags, &variables)?);
        Ok(())
    }

    fn server(&mut self, at: usize) -> Result<&mut Server, String> {
        self.nodes[at].server.as_mut().ok_or_else(|| format!("member n{at} is down"))
    }

    /// Reaches the point, and sees the member end and come back.
    fn strike(&mut self, point: &str, trigger: Trigger) -> Result<(), String> {
        let leader = self.leader()?;
        let target = if trigger == Trigger::Lead { leader } else { (leader + 1) % 3 };
        if trigger == Trigger::Snapshot {
            self.nodes[target].server = None;
            // What is left in the log must begin behind what the member has.
            self.fill(leader, 3 * SNAPSHOT_COUNT)?;
            self.launch(target, &format!("{point}=panic"))?;
        } else {
            if trigger == Trigger::Compact {
                self.fill(leader, SNAPSHOT_COUNT)?;
            }
            self.set(target, point)?;
            // The member may end before it answers.
            let _ = self.trigger(trigger, target, leader);
        }
        self.wait_end(target)?;
        self.launch(target, "")?;
        self.server(target)?.wait_healthy(LIMIT)
    }

    fn trigger(&self, trigger: Trigger, target: usize, leader: usize) -> Result<(), String> {
        match trigger {
            Trigger::Put => self.fill((target + 1) % 3, 1),
            Trigger::Lead => self.fill(leader, 1),
            Trigger::Defragment => {
                let request = pb::DefragmentRequest {};
                self.call::<_, pb::DefragmentResponse>(target, "Maintenance/Defragment", &request)
                    .map(drop)
            }
            Trigger::Compact => {
                let revision = self.status(leader)?.header.unwrap_or_default().revision;
                let request = pb::CompactionRequest { revision, physical: false };
                self.call::<_, pb::CompactionResponse>(leader, "KV/Compact", &request).map(drop)
            }
            Trigger::MemberUpdate => {
                let id = self.status(leader)?.header.unwrap_or_default().member_id;
                let peer_urls = vec![self.nodes[leader].member.peer_url()];
                let request = pb::MemberUpdateRequest { id, peer_urls };
                self.call::<_, pb::MemberUpdateResponse>(leader, "Cluster/MemberUpdate", &request)
                    .map(drop)
            }
            Trigger::Snapshot => Ok(()),
        }
    }

    /// Sets the point over gofail's page.
    fn set(&self, at: usize, point: &str) -> Result<(), String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.nodes[at].gofail));
        let set = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            let head = "Host: gofail\r\nContent-Length: 5\r\n\r\n";
            write!(stream, "PUT /{point} HTTP/1.1\r\n{head}panic")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        match set() {
            Ok(answer) if answer.starts_with("HTTP/1.1 204") => Ok(()),
            Ok(answer) => Err(format!("{point} cannot be set: {answer}")),
            Err(err) => Err(format!("{point} cannot be set: {err}")),
        }
    }

    fn wait_end(&mut self, at: usize) -> Result<(), String> {
        let code = self.server(at)?.wait(LIMIT);
        self.nodes[at].server = None;
        match code {
            Ok(EXIT_PANIC) => Ok(()),
            Ok(code) => Err(format!("the process ended with {code}")),
            Err(why) => Err(format!("the point was not reached: {why}")),
        }
    }

    fn call<Q, A>(&self, at: usize, method: &str, request: &Q) -> Result<A, String>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|err| err.to_string())?;
        let address = self.nodes[at].member.endpoint();
        runtime.block_on(async {
            let call = async {
                let channel = Channel::connect(&address).await?;
                channel.unary(&format!("/etcdserverpb.{method}"), request).await
            };
            match tokio::time::timeout(LIMIT, call).await {
                Ok(answer) => answer.map_err(|failure| failure.to_string()),
                Err(_) => Err(format!("no answer to {method} in {LIMIT:?}")),
            }
        })
    }

    /// Writes a few keys again and again.
    fn fill(&self, at: usize, count: usize) -> Result<(), String> {
        for number in 0..count {
            let key = format!("key-{}", number % 7).into();
            let request = pb::PutRequest { key, value: vec![7; 100].into(), ..Default::default() };
            self.call::<_, pb::PutResponse>(at, "KV/Put", &request)?;
        }
        Ok(())
    }

    fn status(&self, at: usize) -> Result<pb::StatusResponse, String> {
        self.call(at, "Maintenance/Status", &pb::StatusRequest {})
    }

    /// Which of the members leads.
    fn leader(&self) -> Result<usize, String> {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            for at in 0..self.nodes.len() {
                let status = self.status(at)?;
                if status.header.is_some_and(|header| header.member_id == status.leader) {
                    return Ok(at);
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err("nobody leads".to_owned())
    }

    /// Whether all members hold the same, once they have applied the same.
    fn compare(&self) -> Result<(), String> {
        let begun = Instant::now();
        let mut hashes = Vec::new();
        while begun.elapsed() < LIMIT {
            hashes.clear();
            for at in 0..self.nodes.len() {
                let request = pb::HashKvRequest { revision: 0 };
                let answer: pb::HashKvResponse = self.call(at, "Maintenance/HashKV", &request)?;
                let revision = answer.header.unwrap_or_default().revision;
                hashes.push((revision, answer.hash, answer.compact_revision));
            }
            if hashes.windows(2).all(|pair| pair[0] == pair[1]) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(format!("revision, hash and compact revision differ: {hashes:?}"))
    }
}
