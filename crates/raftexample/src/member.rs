//! A member: raft, its files, the other members and the store, in the order in which each may be told.

use std::sync::Arc;

use bytes::Bytes;
use raft::{
    ConfChange, ConfChangeType, ConfChangeV2, ConfState, Config, Entry, EntryType, MemoryStorage,
    MessageType, Peer, RawNode, Snapshot, Storage,
};
use tokio::sync::mpsc;
use tokio::time::{Duration, MissedTickBehavior, interval};
use transport::{Event, Transport};

use crate::files::{Files, Opened};
use crate::log;
use crate::store::Store;

/// Entries between two snapshots.
const SNAPSHOT_COUNT: u64 = 10_000;
/// Entries that stay in memory behind a snapshot, for members that are a little late.
const CATCH_UP_ENTRIES: u64 = 10_000;
const TICK: Duration = Duration::from_millis(100);
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
const UNCOMMITTED_BYTES_MAX: u64 = 1 << 30;
/// Proposals that are taken before the log is written.
const PROPOSALS_PER_TURN: usize = 256;

/// What the key-value API asks of raft.
#[derive(Debug)]
pub(crate) enum Proposal {
    /// A pair, encoded.
    Pair(Bytes),
    /// Another set of members.
    Change(ConfChange),
}

/// Why a member ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("I've been removed from the cluster! Shutting down.")]
    Removed,
    #[error("the member has been permanently removed from the cluster")]
    ToldRemoved,
    #[error("raftexample: {0}")]
    Files(#[from] wal::Error),
    #[error("raftexample: {0}")]
    Config(#[from] raft::ConfigError),
    #[error("raftexample: {0}")]
    Bootstrap(#[from] raft::BootstrapError),
    #[error("raftexample: could not read the snapshot ({0})")]
    Snapshot(#[from] serde_json::Error),
    #[error("raftexample: {0}")]
    Raft(#[from] raft::Error),
    #[error("raftexample: {0}")]
    Storage(#[from] raft::StorageError),
}

/// Where a member's work comes from.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) proposals: mpsc::Receiver<Proposal>,
    pub(crate) events: mpsc::Receiver<Event>,
}

pub(crate) struct Member {
    id: u64,
    node: RawNode<MemoryStorage>,
    files: Files,
    transport: Arc<Transport>,
    store: Arc<Store>,
    conf_state: ConfState,
    /// Index of the last snapshot, and of what the store has.
    snapshot_index: u64,
    applied: u64,
    /// Changes of members proposed so far.
    changes: u64,
}

impl Member {
    /// A member with what its files hold. `founders` are those of a new cluster, `None` if there is one already.
    pub(crate) fn new(
        id: u64,
        seed: u64,
        founders: Option<u64>,
        opened: Opened,
        transport: Arc<Transport>,
        store: Arc<Store>,
    ) -> Result<Self, Ended> {
        let Opened { files, storage, is_old } = opened;
        let Snapshot { data, metadata } = storage.snapshot()?;
        if metadata.index > 0 {
            log(&format!(
                "loading snapshot at term {} and index {}",
                metadata.term, metadata.index
            ));
            store.recover(&data)?;
        }
        let config = Config {
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_uncommitted_entries_size: UNCOMMITTED_BYTES_MAX,
            seed,
            ..Config::new(id)
        };
        let mut node = RawNode::new(config, storage)?;
        if let (false, Some(founders)) = (is_old, founders) {
            let peers: Vec<Peer> =
                (1..=founders).map(|id| Peer { id, ..Peer::default() }).collect();
            node.bootstrap(&peers)?;
        }
        Ok(Self {
            id,
            node,
            files,
            transport,
            store,
            conf_state: metadata.conf_state,
            snapshot_index: metadata.index,
            applied: metadata.index,
            changes: 0,
        })
    }

    /// Works until there is a reason to end.
    pub(crate) async fn run(mut self, mut inbox: Inbox) -> Ended {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Err(ended) = self.handle_ready() {
                return ended;
            }
            // Who proposes waits while there is no leader.
            let has_leader = self.node.basic_status().soft_state.lead != raft::NONE;
            let turn = tokio::select! {
                _ = ticks.tick() => { self.node.tick(); Ok(()) }
                Some(event) = inbox.events.recv() => self.take_events(event, &mut inbox.events),
                Some(proposal) = inbox.proposals.recv(), if has_leader => {
                    self.take_proposals(proposal, &mut inbox.proposals);
                    Ok(())
                }
            };
            if let Err(ended) = turn {
                return ended;
            }
        }
    }

    fn take_proposals(&mut self, first: Proposal, more: &mut mpsc::Receiver<Proposal>) {
        let rest = std::iter::from_fn(|| more.try_recv().ok());
        for proposal in std::iter::once(first).chain(rest.take(PROPOSALS_PER_TURN)) {
            let proposed = match proposal {
                Proposal::Pair(data) => self.node.propose(data),
                Proposal::Change(change) => {
                    self.changes += 1;
                    self.node.propose_conf_change(&ConfChange { id: self.changes, ..change })
                }
            };
            // The API promises nothing: who wants to know reads the key again.
            if let Err(err) = proposed {
                log(&format!("a proposal was dropped ({err})"));
            }
        }
    }

    fn take_events(&mut self, first: Event, more: &mut mpsc::Receiver<Event>) -> Result<(), Ended> {
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                Event::Message(message) => {
                    // Any other error is about a message that has changed nothing.
                    if let Err(err @ raft::Error::LogLost { .. }) = self.node.step(message) {
                        return Err(err.into());
                    }
                }
                Event::Unreachable(id) => self.node.report_unreachable(id),
                Event::Snapshot { to, status } => self.node.report_snapshot(to, status),
                Event::Removed => return Err(Ended::ToldRemoved),
                Event::Gone(_) => {}
            }
            next = more.try_recv().ok();
        }
        Ok(())
    }

    /// Does all that there is to do: first to disk, then to others, then to the store.
    fn handle_ready(&mut self) -> Result<(), Ended> {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            if let Some(snapshot) = &ready.snapshot {
                self.files.save_snapshot(snapshot)?;
            }
            let hard_state = ready.hard_state.unwrap_or_default();
            self.files.wal.save(&hard_state, &ready.entries, ready.must_sync)?;
            if let Some(snapshot) = &ready.snapshot {
                self.node.storage_mut().apply_snapshot(snapshot.clone())?;
                self.install(snapshot)?;
            }
            let storage = self.node.storage_mut();
            storage.append(&ready.entries);
            if let Some(hard_state) = ready.hard_state {
                storage.set_hard_state(hard_state);
            }
            let mut messages = std::mem::take(&mut ready.messages);
            for message in &mut messages {
                // Members may have changed since the snapshot was made.
                if message.msg_type == MessageType::Snap
                    && let Some(snapshot) = &mut message.snapshot
                {
                    snapshot.metadata.conf_state = self.conf_state.clone();
                }
            }
            self.transport.send(messages);
            for entry in &ready.committed_entries {
                self.apply(entry)?;
            }
            self.make_snapshot()?;
            self.node.advance(ready);
        }
        Ok(())
    }

    fn install(&mut self, snapshot: &Snapshot) -> Result<(), Ended> {
        let metadata = &snapshot.metadata;
        log(&format!("publishing snapshot at index {}", metadata.index));
        self.store.recover(&snapshot.data)?;
        self.conf_state = metadata.conf_state.clone();
        self.snapshot_index = metadata.index;
        self.applied = metadata.index;
        log(&format!("finished publishing snapshot at index {}", metadata.index));
        Ok(())
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), Ended> {
        match entry.entry_type {
            // Each leader opens its term with an empty one.
            EntryType::Normal if entry.data.is_empty() => {}
            EntryType::Normal => {
                if let Err(err) = self.store.apply(&entry.data) {
                    log(&format!("could not decode message ({err})"));
                }
            }
            EntryType::ConfChange => match ConfChange::decode(entry.data.clone()) {
                Ok(change) => self.change(&change.to_v2(), &change.context)?,
                Err(err) => log(&format!("could not decode a change of members ({err})")),
            },
            EntryType::ConfChangeV2 => match ConfChangeV2::decode(entry.data.clone()) {
                Ok(change) => self.change(&change, &change.context)?,
                Err(err) => log(&format!("could not decode a change of members ({err})")),
            },
        }
        self.applied = entry.index;
        Ok(())
    }

    /// Changes the members. `url` is where an added one is.
    fn change(&mut self, change: &ConfChangeV2, url: &[u8]) -> Result<(), Ended> {
        match self.node.apply_conf_change(change) {
            Ok(conf_state) => self.conf_state = conf_state,
            // All members find the same, and stay as they are.
            Err(err) => {
                log(&format!("an impossible change of members ({err})"));
                return Ok(());
            }
        }
        for single in &change.changes {
            let id = single.node_id;
            match single.change_type {
                ConfChangeType::RemoveNode if id == self.id => return Err(Ended::Removed),
                ConfChangeType::RemoveNode => self.transport.remove_peer(id),
                ConfChangeType::AddNode if !url.is_empty() => {
                    let url = String::from_utf8_lossy(url).into_owned();
                    if let Err(err) = self.transport.add_peer(id, &[url]) {
                        log(&format!("member {id} cannot be reached ({err})"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn make_snapshot(&mut self) -> Result<(), Ended> {
        if self.applied - self.snapshot_index <= SNAPSHOT_COUNT {
            return Ok(());
        }
        log(&format!(
            "start snapshot [applied index: {} | last snapshot index: {}]",
            self.applied, self.snapshot_index
        ));
        let data = self.store.snapshot();
        let conf_state = Some(self.conf_state.clone());
        let storage = self.node.storage_mut();
        let snapshot = storage.create_snapshot(self.applied, conf_state, data)?.clone();
        self.files.save_snapshot(&snapshot)?;
        let index = self.applied.saturating_sub(CATCH_UP_ENTRIES).max(1);
        if self.node.storage_mut().compact(index).is_ok() {
            log(&format!("compacted log at index {index}"));
        }
        self.snapshot_index = self.applied;
        Ok(())
    }
}
