//! A member without a state machine: it keeps the log in memory, acknowledges it, and leads if asked to.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::Cluster;
use env::OsDisk;
use raft::{
    ConfChange, ConfChangeType, ConfState, EntryType, MemoryStorage, Message, MessageType, RawNode,
    SnapshotStatus, StateType,
};
use transport::{
    Call, Config, DEFAULT_IO_TIMEOUT, Event, Metrics, OutSnapshot, Owner, Pace, PeerUrl, Request,
    Socket, Transport, Versions,
};
use wal::snap::{Snapshotter, db_name};

const TICK: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(40);
/// What etcdctl appends to a database.
const SNAPSHOT_HASH: usize = 32;
/// More patient than etcd, so that etcd is the one that campaigns.
const ELECTION_TICKS: u32 = 50;

/// Events into a channel; the pages from a list that the player keeps up to date.
struct Desk {
    events: Sender<Event>,
    members: Mutex<String>,
}

impl Owner for Desk {
    fn event(&self, event: Event) -> Option<Event> {
        self.events.send(event).err().map(|err| err.0)
    }

    fn request(&self, request: Request) {
        match request {
            Request::Members { reply } => {
                let members = self.members.lock().map(|members| members.clone());
                drop(reply.send(members.unwrap_or_default()));
            }
            Request::Version { reply } => drop(reply.send(Versions::default())),
            // Without an answer the asker gets an error, and asks somebody else.
            _ => {}
        }
    }
}

/// See the module's text.
pub(crate) struct Player {
    config: Config,
    metrics: Metrics,
    transport: Arc<Transport>,
    desk: Arc<Desk>,
    events: Receiver<Event>,
    node: RawNode<MemoryStorage>,
    members: BTreeMap<u64, cluster::Member>,
    conf_state: ConfState,
    /// The database of the last snapshot, and its message's data.
    db: PathBuf,
    folder: PathBuf,
    committed: VecDeque<Bytes>,
    applied: u64,
    snapshots_sent: usize,
    is_removed: bool,
    is_leader: bool,
    leader: u64,
    next_tick: Instant,
    is_stopped: Arc<AtomicBool>,
}

impl Player {
    /// Joins the cluster of the member at `first_url`, which has been told of this one, at `port`.
    pub(crate) fn join(folder: &Path, port: u16, first_url: &str) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let url = format!("http://127.0.0.1:{port}");
        let urls = PeerUrl::parse_all(&[first_url]).map_err(|e| e.to_string())?;
        let first = urls.into_iter().next().ok_or("no URL")?;
        let answer =
            Call::get(first, "/members", LIMIT).send_blocking().map_err(|e| e.to_string())?;
        let cluster_id = answer.headers.get("X-Etcd-Cluster-ID").and_then(|id| id.to_str().ok());
        let cluster_id = cluster_id.and_then(|id| u64::from_str_radix(id, 16).ok());
        let members = cluster::members_from_json(&answer.body).map_err(|e| e.to_string())?;
        let own = members.iter().find(|member| member.peer_urls.contains(&url));
        let id = own.ok_or("etcd does not know our member")?.id;
        let config = Config {
            id,
            cluster_id: cluster_id.ok_or("no cluster id")?,
            urls: vec![url],
            version: "3.7.3".to_owned(),
            dial_timeout: Duration::from_secs(2),
            read_timeout: DEFAULT_IO_TIMEOUT,
            write_timeout: DEFAULT_IO_TIMEOUT,
            pace: Pace::default(),
            tls: None,
        };
        let raft_config = raft::Config {
            election_tick: ELECTION_TICKS,
            check_quorum: true,
            pre_vote: true,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 512,
            ..raft::Config::new(id)
        };
        let node = RawNode::new(raft_config, MemoryStorage::new()).map_err(|e| e.to_string())?;
        let (sender, events) = channel();
        let desk = Arc::new(Desk { events: sender, members: Mutex::default() });
        let owner = Arc::clone(&desk) as Arc<dyn Owner>;
        let metrics = Metrics::new().map_err(|e| e.to_string())?;
        let snapshotter = Snapshotter::new(OsDisk, folder);
        let transport = Transport::start(config.clone(), owner, snapshotter, metrics.clone());
        let transport = Arc::new(transport.map_err(|e| e.to_string())?);
        let is_stopped = Arc::new(AtomicBool::new(false));
        accept(port, &transport, &is_stopped)?;
        let mut player = Self {
            config,
            metrics,
            transport,
            desk,
            events,
            node,
            members: BTreeMap::new(),
            conf_state: ConfState::default(),
            db: PathBuf::new(),
            folder: folder.to_owned(),
            committed: VecDeque::new(),
            applied: 0,
            snapshots_sent: 0,
            is_removed: false,
            is_leader: false,
            leader: 0,
            next_tick: Instant::now() + TICK,
            is_stopped,
        };
        members.into_iter().try_for_each(|member| player.add(member))?;
        Ok(player)
    }

    pub(crate) const fn id(&self) -> u64 {
        self.config.id
    }

    pub(crate) const fn cluster_id(&self) -> u64 {
        self.config.cluster_id
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = u64> {
        self.members.keys().copied().filter(|&id| id != self.config.id)
    }

    /// How many times it has lost a peer.
    pub(crate) fn disconnections(&self) -> u64 {
        let own = format!("{:x}", self.config.id);
        let counters = &self.metrics.disconnected_peers_total;
        self.others().map(|id| counters.with_label_values(&[&own, &format!("{id:x}")]).get()).sum()
    }

    pub(crate) fn url(&self) -> &str {
        self.config.urls.first().map_or("", String::as_str)
    }

    pub(crate) fn db(&self) -> &Path {
        &self.db
    }

    pub(crate) fn snapshot_index(&self) -> u64 {
        use raft::Storage;
        self.node.storage().snapshot().map_or(0, |snapshot| snapshot.metadata.index)
    }

    pub(crate) fn has_committed(&self, part: &[u8]) -> bool {
        self.committed.iter().any(|data| data.windows(part.len()).any(|window| window == part))
    }

    pub(crate) fn is_voter(&self) -> bool {
        self.conf_state.voters.contains(&self.config.id)
    }

    pub(crate) const fn is_leader(&self) -> bool {
        self.is_leader
    }

    pub(crate) const fn has_leader(&self) -> bool {
        self.leader != 0
    }

    pub(crate) const fn is_removed(&self) -> bool {
        self.is_removed
    }

    pub(crate) fn members(&self) -> usize {
        self.members.len()
    }

    pub(crate) const fn snapshots_sent(&self) -> usize {
        self.snapshots_sent
    }

    pub(crate) const fn applied(&self) -> u64 {
        self.applied
    }

    /// Takes `file`, as etcdctl saves it, for its own state at `index`, and forgets the log up to there.
    pub(crate) fn compact(&mut self, file: &Path, index: u64) -> Result<(), String> {
        let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let db = bytes.get(..bytes.len().saturating_sub(SNAPSHOT_HASH)).unwrap_or_default();
        self.db = self.folder.join("own.db");
        std::fs::write(&self.db, db).map_err(|e| format!("{}: {e}", self.db.display()))?;
        let members = self.members.values().cloned();
        let data = Cluster::from_members(self.config.cluster_id, members).v2_snapshot();
        let storage = self.node.storage_mut();
        let conf_state = Some(self.conf_state.clone());
        storage.create_snapshot(index, conf_state, data).map_err(|e| e.to_string())?;
        storage.compact(index).map_err(|e| e.to_string())
    }

    /// Hands leadership to any other voter.
    pub(crate) fn hand_over(&mut self) {
        let own = self.config.id;
        let other = self.conf_state.voters.iter().copied().find(|&id| id != own);
        self.node.transfer_leader(other.unwrap_or(own));
    }

    /// Does its part until `is_done`.
    pub(crate) fn run_until(
        &mut self,
        what: &str,
        mut is_done: impl FnMut(&Self) -> bool,
    ) -> Result<(), String> {
        let deadline = Instant::now() + LIMIT;
        while !is_done(self) {
            if Instant::now() > deadline {
                return Err(format!("{what} has not come in {LIMIT:?}"));
            }
            self.turn()?;
        }
        Ok(())
    }

    pub(crate) fn run_for(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    /// Does its part until `other` is done. An error of its own is the outer one.
    pub(crate) fn run_while<T>(
        &mut self,
        other: JoinHandle<Result<T, String>>,
    ) -> Result<Result<T, String>, String> {
        while !other.is_finished() {
            self.turn()?;
        }
        other.join().map_err(|_| "a thread has panicked".to_owned())
    }

    fn turn(&mut self) -> Result<(), String> {
        let wait = self.next_tick.saturating_duration_since(Instant::now());
        let mut event = self.events.recv_timeout(wait.min(Duration::from_millis(5))).ok();
        while let Some(next) = event {
            self.handle(next);
            event = self.events.try_recv().ok();
        }
        if Instant::now() >= self.next_tick {
            self.next_tick += TICK;
            self.node.tick();
        }
        while self.node.has_ready() {
            self.ready()?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) {
        match event {
            // As etcd: what raft does not take is not worth a word.
            Event::Message(message) => drop(self.node.step(message)),
            Event::Unreachable(id) => self.node.report_unreachable(id),
            Event::Snapshot { to, status } => {
                self.snapshots_sent += usize::from(status == SnapshotStatus::Finish);
                self.node.report_snapshot(to, status);
            }
            Event::Gone(_) => {}
            Event::Removed => self.is_removed = true,
        }
    }

    fn ready(&mut self) -> Result<(), String> {
        let mut ready = self.node.ready();
        if let Some(soft_state) = ready.soft_state {
            self.is_leader = soft_state.raft_state == StateType::Leader;
            self.leader = soft_state.lead;
        }
        if let Some(snapshot) = &ready.snapshot {
            self.conf_state = snapshot.metadata.conf_state.clone();
            self.applied = snapshot.metadata.index;
            self.db = self.folder.join(db_name(snapshot.metadata.index));
            let storage = self.node.storage_mut();
            storage.apply_snapshot(snapshot.clone()).map_err(|e| e.to_string())?;
        }
        self.node.storage_mut().append(&ready.entries);
        if let Some(hard_state) = ready.hard_state {
            self.node.storage_mut().set_hard_state(hard_state);
        }
        for message in std::mem::take(&mut ready.messages) {
            self.send(message)?;
        }
        for entry in std::mem::take(&mut ready.committed_entries) {
            if entry.entry_type == EntryType::ConfChange {
                self.change(&entry.data)?;
            }
            self.applied = entry.index;
            self.committed.push_back(entry.data);
        }
        self.node.advance(ready);
        Ok(())
    }

    fn send(&mut self, message: Message) -> Result<(), String> {
        if message.msg_type != MessageType::Snap {
            self.transport.send([message]);
            return Ok(());
        }
        let db = File::open(&self.db).map_err(|e| format!("{}: {e}", self.db.display()))?;
        let db_bytes = db.metadata().map_or(0, |metadata| metadata.len());
        self.transport.send_snapshot(OutSnapshot { message, db: Box::new(db), db_bytes });
        Ok(())
    }

    fn change(&mut self, data: &Bytes) -> Result<(), String> {
        let change = ConfChange::decode(data.clone()).map_err(|e| e.to_string())?;
        let conf_state = self.node.apply_conf_change(&change.to_v2());
        self.conf_state = conf_state.map_err(|e| e.to_string())?;
        match change.change_type {
            // A promotion says no more than that.
            ConfChangeType::AddNode if self.members.contains_key(&change.node_id) => Ok(()),
            ConfChangeType::AddNode | ConfChangeType::AddLearnerNode => {
                let member = cluster::Member::from_json(&change.context);
                self.add(member.map_err(|e| e.to_string())?)
            }
            ConfChangeType::RemoveNode => {
                self.members.remove(&change.node_id);
                self.is_removed |= change.node_id == self.config.id;
                self.transport.remove_peer(change.node_id);
                Ok(())
            }
            ConfChangeType::UpdateNode => Ok(()),
        }
    }

    fn add(&mut self, member: cluster::Member) -> Result<(), String> {
        let added = self.transport.add_peer(member.id, &member.peer_urls);
        added.map_err(|e| e.to_string())?;
        self.members.insert(member.id, member);
        let json = cluster::members_to_json(self.members.values());
        if let Ok(mut members) = self.desk.members.lock() {
            *members = json;
        }
        Ok(())
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// Hands connections to the transport for as long as there is a player.
fn accept(
    port: u16,
    transport: &Arc<Transport>,
    is_stopped: &Arc<AtomicBool>,
) -> Result<(), String> {
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|e| e.to_string())?;
    let (transport, is_stopped) = (Arc::downgrade(transport), Arc::clone(is_stopped));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Some(transport) = transport.upgrade() else { return };
            if is_stopped.load(Ordering::Relaxed) {
                return;
            }
            transport.serve(Socket::Tcp(stream), ());
        }
    });
    Ok(())
}
