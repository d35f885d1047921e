//! A key-value store on three members, all in memory and on one thread, from its foundation to the restart of a member
//! that has missed too much. Nothing here is random and no clock is read, so it prints the same each time.
//!
//! `cargo run -p raft --example kv`

#![expect(clippy::print_stdout, reason = "it shows what happens")]

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::{
    ConfChange, ConfState, Config, Entry, MemoryStorage, Message, Peer, RawNode, ReadState,
    Snapshot, StateType,
};

fn main() {
    print!("{}", story());
}

// ---- the state machine: what raft replicates, and knows nothing of ----

/// It takes `set KEY VALUE`, as text. The same commands in the same order make the same state.
#[derive(Default)]
struct Store(BTreeMap<String, String>);

impl Store {
    fn apply(&mut self, command: &str) {
        if let ["set", key, value] = command.split(' ').collect::<Vec<_>>()[..] {
            self.0.insert(key.to_owned(), value.to_owned());
        }
    }

    fn save(&self) -> Bytes {
        let lines: Vec<_> = self.0.iter().map(|(key, value)| format!("{key} {value}")).collect();
        lines.join("\n").into()
    }

    fn load(data: &[u8]) -> Self {
        let text = String::from_utf8_lossy(data);
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }
}

// ---- one member ----

struct Member {
    /// With the storage inside. In earnest that is on a disk; here it is what survives a crash.
    node: RawNode<MemoryStorage>,
    store: Store,
    /// The configuration as of the last applied entry: a snapshot has to say it.
    conf_state: ConfState,
    /// Reads that wait until their index is applied.
    reads: Vec<ReadState>,
}

fn config(id: u64) -> Config {
    // Elections are settled in advance (pre_vote) and a leader that is cut off steps down (check_quorum): what etcd has.
    Config { pre_vote: true, check_quorum: true, ..Config::new(id) }
}

impl Member {
    /// One of the founders of a cluster. All of them name the same peers.
    fn found(id: u64, peers: &[Peer]) -> Self {
        let mut node = RawNode::new(config(id), MemoryStorage::new()).expect("a valid config");
        node.bootstrap(peers).expect("an empty storage and a peer");
        Self { node, store: Store::default(), conf_state: ConfState::default(), reads: Vec::new() }
    }

    /// From what its disk holds. The state machine starts from the last snapshot; the entries behind it come as committed
    /// ones again.
    fn restart(id: u64, disk: MemoryStorage) -> Self {
        let snapshot = raft::Storage::snapshot(&disk).expect("in memory");
        let store = Store::load(&snapshot.data);
        let conf_state = snapshot.metadata.conf_state;
        let node = RawNode::new(config(id), disk).expect("what it has written itself");
        Self { node, store, conf_state, reads: Vec::new() }
    }

    /// Does everything there is to do, in the one order that is safe. Returns the messages for others.
    fn handle_ready(&mut self, log: &mut Log) -> Vec<Message> {
        let mut outgoing = Vec::new();
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            let id = self.node.basic_status().id;
            if let Some(soft_state) = ready.soft_state
                && soft_state.raft_state == StateType::Leader
            {
                log.line(format!(
                    "member {id} leads in term {}",
                    self.node.basic_status().hard_state.term
                ));
            }

            // 1. To the disk: the snapshot, the entries, term and vote, and one sync if must_sync says so.
            let disk = self.node.storage_mut();
            if let Some(snapshot) = &ready.snapshot {
                disk.apply_snapshot(snapshot.clone()).expect("raft takes newer ones only");
            }
            disk.append(&ready.entries);
            if let Some(hard_state) = ready.hard_state {
                disk.set_hard_state(hard_state);
            }

            // 2. Messages, only now: they promise what was just written.
            outgoing.append(&mut ready.messages);

            // 3. To the state machine: the snapshot in place of what there was, and the committed entries.
            if let Some(snapshot) = &ready.snapshot {
                self.install(snapshot, log);
            }
            for entry in &ready.committed_entries {
                self.apply(entry);
            }
            self.reads.append(&mut ready.read_states);

            // 4. Done; raft may hand out the next.
            self.node.advance(ready);
        }
        outgoing
    }

    fn install(&mut self, snapshot: &Snapshot, log: &mut Log) {
        let (id, index) = (self.node.basic_status().id, snapshot.metadata.index);
        log.line(format!("member {id} installs a snapshot as of index {index}"));
        self.store = Store::load(&snapshot.data);
        self.conf_state = snapshot.metadata.conf_state.clone();
    }

    fn apply(&mut self, entry: &Entry) {
        if entry.entry_type.is_conf_change() {
            let change =
                ConfChange::decode(entry.data.clone()).expect("all changes here have this format");
            self.conf_state = self.node.apply_conf_change(&change.to_v2()).expect("possible");
        } else {
            // empty for the entry with which each leader opens its term
            self.store.apply(&String::from_utf8_lossy(&entry.data));
        }
    }

    /// A snapshot of the state machine, in place of the log up to here.
    fn compact(&mut self) {
        let applied = self.node.basic_status().applied;
        let (conf_state, data) = (self.conf_state.clone(), self.store.save());
        let disk = self.node.storage_mut();
        disk.create_snapshot(applied, Some(conf_state), data).expect("newer than the last");
        disk.compact(applied).expect("not compacted yet");
    }
}

// ---- the cluster ----

/// What happened.
#[derive(Default)]
struct Log(String);

impl Log {
    fn line(&mut self, text: impl AsRef<str>) {
        self.0.push_str(text.as_ref());
        self.0.push('\n');
    }
}

struct Cluster {
    /// Members by id; those that are down have only their disk.
    up: BTreeMap<u64, Member>,
    down: BTreeMap<u64, MemoryStorage>,
    network: VecDeque<Message>,
    log: Log,
}

impl Cluster {
    fn member(&mut self, id: u64) -> &mut Member {
        self.up.get_mut(&id).expect("it is up")
    }

    /// Lets work and messages flow until there are none. Those to a member that is down are lost.
    fn settle(&mut self) {
        loop {
            for member in self.up.values_mut() {
                self.network.extend(member.handle_ready(&mut self.log));
            }
            let Some(m) = self.network.pop_front() else { return };
            match self.up.get_mut(&m.to) {
                // an error tells that the sender is not to be trusted, or not a member any more
                Some(member) => member.node.step(m).expect("these are correct"),
                None => {
                    if let Some(sender) = self.up.get_mut(&m.from) {
                        sender.node.report_unreachable(m.to);
                    }
                }
            }
        }
    }

    /// Time passes for all, and what comes of it is done.
    fn tick(&mut self, times: u32) {
        for _ in 0..times {
            self.up.values_mut().for_each(|member| member.node.tick());
            self.settle();
        }
    }

    fn set(&mut self, at: u64, key: &str, value: &str) {
        let command = format!("set {key} {value}");
        self.log.line(format!("member {at} is asked to {command}"));
        // A follower sends it to the leader. That it is committed shows when it is applied; a real server would answer
        // its client then.
        self.member(at).node.propose(command.into()).expect("there is a leader");
        self.settle();
    }

    /// A read that sees every write that was finished before: the leader names an index, after a quorum has told it that
    /// it leads still, and the member answers when it has applied that.
    fn get(&mut self, at: u64, key: &str) {
        self.member(at).node.read_index(Bytes::copy_from_slice(key.as_bytes()));
        self.settle();
        let member = self.member(at);
        let applied = member.node.basic_status().applied;
        let (served, waiting) =
            std::mem::take(&mut member.reads).into_iter().partition(|read| read.index <= applied);
        member.reads = waiting;
        for ReadState { index, request_ctx } in served {
            let key = String::from_utf8_lossy(&request_ctx).into_owned();
            let value = self.up[&at].store.0.get(&key).cloned();
            let value = value.as_deref().unwrap_or("nothing");
            self.log.line(format!("member {at} reads {key} as of index {index}: {value}"));
        }
    }

    fn crash(&mut self, id: u64) {
        self.log.line(format!("member {id} crashes"));
        let member = self.up.remove(&id).expect("it is up");
        self.down.insert(id, member.node.storage().clone());
    }

    fn restart(&mut self, id: u64) {
        self.log.line(format!("member {id} restarts"));
        let disk = self.down.remove(&id).expect("it is down");
        self.up.insert(id, Member::restart(id, disk));
    }
}

/// Everything that happens, as text.
pub(crate) fn story() -> String {
    let peers = [1, 2, 3].map(|id| Peer { id, ..Peer::default() });
    let mut cluster = Cluster {
        up: peers.iter().map(|peer| (peer.id, Member::found(peer.id, &peers))).collect(),
        down: BTreeMap::new(),
        network: VecDeque::new(),
        log: Log::default(),
    };
    cluster.settle();

    // Nobody has heard of a leader. The first whose time is up asks for votes; its own clock or this call starts it.
    cluster.member(1).node.campaign().expect("a voter");
    cluster.settle();
    cluster.set(1, "colour", "red");
    cluster.set(3, "shape", "round");
    cluster.get(2, "colour");

    // Two of three are a majority, and go on with another leader.
    cluster.crash(1);
    cluster.tick(40);
    let leader = cluster.up.values().find(|member| member.node.status().is_leader());
    let leader = leader.expect("two of three elect one").node.basic_status().id;
    cluster.set(leader, "colour", "blue");

    // What member 1 has missed leaves the log, so it will be given the state instead.
    for member in cluster.up.values_mut() {
        member.compact();
    }
    cluster.log.line("members 2 and 3 replace their logs by snapshots");
    cluster.restart(1);
    cluster.tick(3);
    cluster.get(1, "colour");
    cluster.set(1, "size", "small");
    cluster.tick(1);

    for (id, Member { store, .. }) in &cluster.up {
        cluster.log.line(format!("member {id} has {:?}", store.0));
    }
    cluster.log.0
}
