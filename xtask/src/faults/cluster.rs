//! The members of a story as processes, with the network between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::etcdserverpb as pb;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep, timeout};

use super::network::Network;
use crate::conformance::process::{Member, Server, free_port, initial_cluster};
use crate::grpc::Channel;

/// For all that comes about after a while.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// For one question to a member.
const CALL_LIMIT: Duration = Duration::from_secs(2);

/// A member's place in the cluster, and its process, if it runs.
#[derive(Debug)]
struct Node {
    /// Its advertised peer port is that of its proxy.
    member: Member,
    own_peer_port: u16,
    /// What is run instead of the server itself.
    wrapper: Option<PathBuf>,
    server: Option<Server>,
}

/// A cluster and what can be done to it.
#[derive(Debug)]
pub(super) struct Cluster {
    binary: PathBuf,
    nodes: Vec<Node>,
    flags: Vec<String>,
    /// None: the members call each other directly.
    pub(super) network: Option<Network>,
}

impl Cluster {
    /// A cluster that is not started yet; with `seed`, its members talk through proxies.
    pub(super) fn new(
        binary: &Path,
        folder: &Path,
        size: usize,
        flags: &[&str],
        seed: Option<u64>,
    ) -> Self {
        let node = |number: usize| {
            let name = format!("m{number}");
            let member = Member::named(&name, folder.join(&name));
            let own_peer_port = if seed.is_some() { free_port() } else { member.peer_port };
            Node { member, own_peer_port, wrapper: None, server: None }
        };
        let nodes: Vec<Node> = (0..size).map(node).collect();
        let ports = nodes.iter().map(|node| (node.member.peer_port, node.own_peer_port)).collect();
        Self {
            binary: binary.to_owned(),
            nodes,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            network: seed.map(|seed| Network::new(ports, seed)),
        }
    }

    pub(super) fn members(&self) -> Vec<usize> {
        (0..self.nodes.len()).collect()
    }

    /// All members but some.
    pub(super) fn others(&self, than: &[usize]) -> Vec<usize> {
        self.members().into_iter().filter(|member| !than.contains(member)).collect()
    }

    pub(super) fn address(&self, member: usize) -> String {
        self.nodes[member].member.endpoint()
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        self.members().into_iter().map(|member| self.address(member)).collect()
    }

    pub(super) fn folder(&self, member: usize) -> &Path {
        &self.nodes[member].member.dir
    }

    pub(super) fn binary(&self) -> &Path {
        &self.binary
    }

    pub(super) fn pid(&self, member: usize) -> Option<u32> {
        self.nodes[member].server.as_ref().map(Server::pid)
    }

    /// Lets `wrapper` run the server of a member from now on; it must become that process.
    pub(super) fn wrap(&mut self, member: usize, wrapper: PathBuf) {
        self.nodes[member].wrapper = Some(wrapper);
    }

    /// Starts all and waits until they serve.
    pub(super) async fn start_all(&mut self) -> Result<(), String> {
        for member in self.members() {
            self.spawn(member).await?;
        }
        for member in self.members() {
            self.wait_healthy(member).await?;
        }
        Ok(())
    }

    /// Starts one and waits until it serves.
    pub(super) async fn start(&mut self, member: usize) -> Result<(), String> {
        self.spawn(member).await?;
        self.wait_healthy(member).await
    }

    /// Starts one and does not wait.
    pub(super) async fn spawn(&mut self, member: usize) -> Result<(), String> {
        if let Some(network) = &mut self.network {
            network.open(member).await?;
        }
        let list = initial_cluster(self.nodes.iter().map(|node| &node.member));
        let node = &mut self.nodes[member];
        let listen = format!("http://127.0.0.1:{}", node.own_peer_port);
        let mut flags = vec!["--initial-cluster", &list];
        flags.extend(["--listen-peer-urls", &listen]);
        flags.extend(self.flags.iter().map(String::as_str));
        let binary = node.wrapper.as_deref().unwrap_or(&self.binary);
        let server = Server::launch(binary, &node.member, &flags)?;
        if let Some(network) = &self.network {
            network.is_process(member, server.pid());
        }
        node.server = Some(server);
        Ok(())
    }

    pub(super) async fn wait_healthy(&mut self, member: usize) -> Result<(), String> {
        let name = self.nodes[member].member.name.clone();
        let server = self.nodes[member].server.take().ok_or("it is down")?;
        let waiting = tokio::task::spawn_blocking(move || {
            let mut server = server;
            let result = server.wait_healthy(PATIENCE);
            (server, result)
        });
        let (server, result) = waiting.await.map_err(|e| e.to_string())?;
        self.nodes[member].server = Some(server);
        result.map_err(|why| format!("{name}: {why}"))
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self, member: usize) {
        if let Some(server) = self.nodes[member].server.take() {
            server.kill();
        }
        if let Some(network) = &mut self.network {
            network.close(member);
        }
    }

    /// Waits until the process of a member has ended by itself, and gives its exit code.
    pub(super) async fn wait_end(&mut self, member: usize) -> Result<i32, String> {
        let mut server = self.nodes[member].server.take().ok_or("it is down")?;
        let waiting = tokio::task::spawn_blocking(move || server.wait(PATIENCE));
        let code = waiting.await.map_err(|e| e.to_string())?;
        if let Some(network) = &mut self.network {
            network.close(member);
        }
        code
    }

    pub(super) fn pause(&mut self, member: usize) {
        self.signal(member, Signal::STOP);
    }

    pub(super) fn resume(&mut self, member: usize) {
        self.signal(member, Signal::CONT);
    }

    fn signal(&self, member: usize, signal: Signal) {
        let pid = self.pid(member).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // It may have ended just now.
            let _ = kill_process(pid, signal);
        }
    }

    /// What is in the log of a member.
    pub(super) fn log(&self, member: usize) -> String {
        let bytes = fs::read(self.folder(member).with_extension("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(super) async fn status(&self, member: usize) -> Result<pb::StatusResponse, String> {
        self.ask(member, "/etcdserverpb.Maintenance/Status", &pb::StatusRequest::default()).await
    }

    /// One call to a member.
    pub(super) async fn ask<Q: prost::Message, A: prost::Message + Default>(
        &self,
        member: usize,
        path: &str,
        request: &Q,
    ) -> Result<A, String> {
        let asking = async {
            let channel = Channel::connect(&self.address(member)).await?;
            channel.unary(path, request).await
        };
        let answer = timeout(CALL_LIMIT, asking).await;
        let answer = answer.map_err(|_| "no answer in time".to_owned())?;
        answer.map_err(|failure| format!("{path}: {failure}"))
    }

    /// The leader on which all of `among` agree, and which is one of them.
    pub(super) async fn leader(&self, among: &[usize]) -> Result<usize, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.look_for_leader(among).await {
                Ok(leader) => return Ok(leader),
                Err(why) if Instant::now() > deadline => return Err(format!("no leader: {why}")),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn look_for_leader(&self, among: &[usize]) -> Result<usize, String> {
        let mut ids = Vec::new();
        for member in among {
            let status = self.status(*member).await?;
            let id = status.header.ok_or("a status without a header")?.member_id;
            ids.push((id, status.leader, status.raft_term));
        }
        let same = ids.iter().all(|(_, leader, term)| (*leader, *term) == (ids[0].1, ids[0].2));
        let leader = ids.iter().position(|(id, leader, _)| same && id == leader);
        leader.map(|at| among[at]).ok_or_else(|| format!("{ids:x?}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in self.members() {
            self.kill(member);
        }
    }
}
