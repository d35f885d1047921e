//! What is wrong is refused: by an error, or by an assertion where only the user's own program can be at fault. Each
//! text says what was broken.

use std::cell::Cell;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use raft::{
    ConfChange, ConfChangeError, ConfChangeSingle, ConfChangeTransition, ConfChangeType,
    ConfChangeV2, ConfState, Config, Entry, EntryType, Error, HardState, LOCAL_APPEND_THREAD,
    MemoryStorage, Message, MessageType, Peer, RawNode, ReadOnlyOption, Ready, Snapshot,
    SnapshotMetadata, Storage, StorageError,
};

type Node = RawNode<MemoryStorage>;

// ---- what the tests share ----

/// The text of the assertion that `f` runs into.
fn assertion(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("an assertion should have failed");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().expect("a text")).to_owned(),
    }
}

fn text_of<T: Debug>(result: Result<T, impl std::error::Error>) -> String {
    result.expect_err("an error").to_string()
}

fn snapshot_of(voters: &[u64], index: u64, term: u64) -> Snapshot {
    let conf_state = ConfState::from_voters(voters.to_vec());
    Snapshot { data: Bytes::new(), metadata: SnapshotMetadata { conf_state, index, term } }
}

fn storage_of(voters: &[u64]) -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    storage.apply_snapshot(snapshot_of(voters, 1, 1)).expect("the first");
    storage.set_hard_state(HardState { term: 1, vote: 0, commit: 1 });
    storage
}

fn node_with(config: Config, voters: &[u64]) -> Node {
    RawNode::new(config, storage_of(voters)).expect("a valid config")
}

fn handle(node: &mut Node) -> Vec<Entry> {
    let mut committed = Vec::new();
    while node.has_ready() {
        let mut ready = node.ready();
        if let Some(snapshot) = &ready.snapshot {
            node.storage_mut().apply_snapshot(snapshot.clone()).expect("newer");
        }
        node.storage_mut().append(&ready.entries);
        committed.append(&mut ready.committed_entries);
        node.advance(ready);
    }
    committed
}

/// A leader of itself alone.
fn leader_with(config: Config) -> Node {
    let mut node = node_with(config, &[1]);
    node.campaign().expect("a voter");
    handle(&mut node);
    assert!(node.status().is_leader(), "a lone voter elects itself");
    node
}

/// A leader of two, at term 2, with the other's vote.
fn leader_of_two() -> Node {
    let mut node = node_with(Config::new(1), &[1, 2]);
    node.campaign().expect("a voter");
    handle(&mut node);
    let vote = from_2(MessageType::VoteResp);
    node.step(vote).expect("a vote");
    handle(&mut node);
    assert!(node.status().is_leader(), "both have voted for it");
    node
}

fn from_2(msg_type: MessageType) -> Message {
    Message { msg_type, from: 2, to: 1, term: 2, ..Message::default() }
}

fn entry(term: u64, index: u64) -> Entry {
    Entry { term, index, ..Entry::default() }
}

// ---- Config ----

#[test]
fn a_config_that_contradicts_itself_is_refused() {
    let good = || Config::new(1);
    let lease = ReadOnlyOption::LeaseBased;
    let cases = [
        (Config { id: 0, ..good() }, "cannot use none as id"),
        (Config { id: u64::MAX, ..good() }, "cannot use local target as id"),
        (Config { id: u64::MAX - 1, ..good() }, "cannot use local target as id"),
        (Config { heartbeat_tick: 0, ..good() }, "heartbeat tick must be greater than 0"),
        (
            Config { election_tick: 1, ..good() },
            "election tick must be greater than heartbeat tick",
        ),
        (Config { election_tick: u32::MAX, ..good() }, "election tick is too large"),
        (Config { max_inflight_msgs: 0, ..good() }, "max inflight messages must be greater than 0"),
        (
            Config { max_size_per_msg: 10, max_inflight_bytes: 9, ..good() },
            "max inflight bytes must be >= max message size",
        ),
        (
            Config { read_only_option: lease, ..good() },
            "CheckQuorum must be enabled when ReadOnlyOption is ReadOnlyLeaseBased",
        ),
    ];
    good().validate().expect("the defaults are valid");
    for (config, text) in cases {
        assert_eq!(text_of(config.validate()), text);
        assert_eq!(text_of(RawNode::new(config, MemoryStorage::new())), text);
    }
}

#[test]
fn a_config_that_contradicts_the_storage_is_refused() {
    let applied = |applied| RawNode::new(Config { applied, ..Config::new(1) }, storage_of(&[1]));
    applied(1).expect("the snapshot is applied");
    assert_eq!(text_of(applied(2)), "1 applied 2 is out of range [1, 1]");
}

#[test]
fn a_cluster_is_founded_once_and_by_members() {
    let mut node = RawNode::new(Config::new(1), MemoryStorage::new()).expect("valid");
    let before = node.status().to_string();
    let peer = |id| Peer { id, ..Peer::default() };
    assert_eq!(text_of(node.bootstrap(&[])), "must provide at least one peer to Bootstrap");
    assert_eq!(text_of(node.bootstrap(&[peer(1), peer(0)])), "0 is no id of a member");
    let local = peer(LOCAL_APPEND_THREAD);
    assert_eq!(text_of(node.bootstrap(&[local])), "ffffffffffffffff is no id of a member");
    assert_eq!(node.status().to_string(), before);
    assert!(!node.has_ready());
    let mut node = node_with(Config::new(1), &[1]);
    assert_eq!(text_of(node.bootstrap(&[peer(1)])), "can't bootstrap a nonempty Storage");
}

// ---- Storage ----

/// A storage that answers one question as it must not.
struct Flawed {
    inner: MemoryStorage,
    flaw: Cell<Flaw>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    InitialState,
    Bounds,
    Term,
    NoEntries,
    OtherEntries,
    TooManyEntries,
    Unavailable,
    EmptySnapshot,
    NoSnapshot,
    /// All entries are gone when they are asked for, which compaction may do at any time.
    Compacted,
}

fn broken() -> StorageError {
    StorageError::Other("the disk is on fire".into())
}

impl Storage for Flawed {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        if self.flaw.get() == Flaw::InitialState {
            return Err(broken());
        }
        self.inner.initial_state()
    }

    fn entries(&self, lo: u64, hi: u64, max_size: u64) -> Result<Vec<Entry>, StorageError> {
        match self.flaw.get() {
            Flaw::NoEntries => Ok(Vec::new()),
            Flaw::OtherEntries => self.inner.entries(lo + 1, hi, max_size),
            Flaw::TooManyEntries => {
                let mut entries = self.inner.entries(lo, hi, max_size)?;
                entries.extend(entries.last().cloned());
                Ok(entries)
            }
            Flaw::Unavailable => Err(StorageError::Unavailable),
            Flaw::Compacted | Flaw::EmptySnapshot | Flaw::NoSnapshot => {
                Err(StorageError::Compacted)
            }
            _ => self.inner.entries(lo, hi, max_size),
        }
    }

    fn term(&self, index: u64) -> Result<u64, StorageError> {
        if self.flaw.get() == Flaw::Term { Err(broken()) } else { self.inner.term(index) }
    }

    fn first_index(&self) -> u64 {
        let past_the_end = 2 * u64::from(self.flaw.get() == Flaw::Bounds);
        self.inner.first_index() + past_the_end
    }

    fn last_index(&self) -> u64 {
        self.inner.last_index()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        match self.flaw.get() {
            Flaw::EmptySnapshot => Ok(Snapshot::default()),
            Flaw::NoSnapshot => Err(StorageError::SnapshotTemporarilyUnavailable),
            _ => self.inner.snapshot(),
        }
    }
}

fn flawed(flaw: Flaw) -> Flawed {
    Flawed { inner: storage_of(&[1, 2]), flaw: Cell::new(flaw) }
}

#[test]
fn a_storage_without_its_state_starts_no_member() {
    let start = |storage| RawNode::new(Config::new(1), storage).map(|_| ());
    assert_eq!(text_of(start(flawed(Flaw::InitialState))), "the disk is on fire");
    assert_eq!(
        assertion(|| drop(start(flawed(Flaw::Bounds)))),
        "storage holds an impossible log [first: 4, last: 1]"
    );

    let start = |hard_state, conf_state| {
        let mut storage = MemoryStorage::new();
        let metadata = SnapshotMetadata { conf_state, index: 5, term: 1 };
        storage.apply_snapshot(Snapshot { metadata, ..Snapshot::default() }).expect("the first");
        storage.set_hard_state(hard_state);
        text_of(RawNode::new(Config::new(1), storage).map(|_| ()))
    };
    let commit = HardState { term: 1, vote: 0, commit: 6 };
    let voters = ConfState::from_voters;
    assert_eq!(start(commit, voters(vec![1])), "1 state.commit 6 is out of range [5, 5]");
    let outgoing = ConfState { voters_outgoing: vec![1], ..ConfState::default() };
    assert_eq!(
        start(HardState::default(), outgoing),
        "unable to restore config: removed all voters"
    );
    let twice = ConfState { learners: vec![2], ..voters(vec![1, 2]) };
    let text = start(HardState::default(), twice);
    assert!(text.starts_with("stored config contradicts itself: ConfState {"), "{text}");
}

/// A leader whose follower asks for stored entries, right after the storage went wrong.
fn ask_with(flaw: Flaw) -> RawNode<Flawed> {
    let mut node = RawNode::new(Config::new(1), flawed(Flaw::None)).expect("valid");
    let handle = |node: &mut RawNode<Flawed>| {
        while node.has_ready() {
            let ready = node.ready();
            node.storage_mut().inner.append(&ready.entries);
            node.advance(ready);
        }
    };
    node.campaign().expect("a voter");
    handle(&mut node);
    node.step(from_2(MessageType::VoteResp)).expect("a vote");
    for _ in 0..3 {
        node.propose("x".into()).expect("it leads");
    }
    handle(&mut node);
    node.storage_mut().flaw.set(flaw);
    let answer = Message { index: 1, ..from_2(MessageType::AppResp) };
    node.step(answer).expect("correct");
    node
}

#[test]
fn a_storage_that_returns_what_it_must_not_is_an_assertion() {
    let cases = [
        (Flaw::NoEntries, "storage returned the wrong entries for [2, 6)"),
        (Flaw::OtherEntries, "storage returned the wrong entries for [2, 6)"),
        (Flaw::TooManyEntries, "storage returned the wrong entries for [2, 6)"),
        (Flaw::EmptySnapshot, "need non-empty snapshot"),
        (
            Flaw::Unavailable,
            "entries[2:6) is unavailable from storage: requested entry at index is unavailable",
        ),
        (Flaw::Term, "storage failed to return the term at 1: the disk is on fire"),
    ];
    for (flaw, text) in cases {
        assert_eq!(assertion(|| drop(ask_with(flaw))), text);
    }
}

#[test]
fn compacted_entries_are_replaced_by_a_snapshot() {
    let sends_snapshot = |mut node: RawNode<Flawed>| {
        node.ready().messages.iter().any(|m| m.msg_type == MessageType::Snap)
    };
    assert!(sends_snapshot(ask_with(Flaw::Compacted)));
    assert!(!sends_snapshot(ask_with(Flaw::None)));

    // One that is not ready yet is asked for again later.
    assert!(!sends_snapshot(ask_with(Flaw::NoSnapshot)));
}

#[test]
fn memory_storage_names_what_is_not_there() {
    let mut storage = storage_of(&[1]);
    storage.append(&[entry(1, 2), entry(1, 3), entry(2, 4)]);
    storage.compact(2).expect("in the log");
    let compacted = "requested index is unavailable due to compaction";
    let unavailable = "requested entry at index is unavailable";
    let out_of_date = "requested index is older than the existing snapshot";
    assert_eq!(text_of(storage.entries(2, 4, u64::MAX)), compacted);
    assert_eq!(text_of(storage.entries(3, 6, u64::MAX)), unavailable);
    assert_eq!(text_of(storage.entries(4, 3, u64::MAX)), unavailable);
    assert_eq!(text_of(storage.term(1)), compacted);
    assert_eq!(text_of(storage.term(5)), unavailable);
    assert_eq!(text_of(storage.compact(2)), compacted);
    assert_eq!(text_of(storage.apply_snapshot(snapshot_of(&[1], 1, 1))), out_of_date);
    assert_eq!(text_of(storage.create_snapshot(1, None, Bytes::new())), out_of_date);
    let last = "lastindex(4)";
    assert_eq!(assertion(|| drop(storage.compact(5))), format!("compact 5 is out of bound {last}"));
    assert_eq!(
        assertion(|| drop(storage.create_snapshot(5, None, Bytes::new()))),
        format!("snapshot 5 is out of bound {last}")
    );
    assert_eq!(
        assertion(|| storage.append(&[entry(2, 6)])),
        "missing log entry [last: 4, append at: 6]"
    );
    storage.append(&[entry(1, 1), entry(1, 2)]);
    assert_eq!(storage.last_index(), 4, "what is compacted already changes nothing");
}

// ---- proposals ----

#[test]
fn a_proposal_without_a_leader_is_dropped_however_long() {
    let mut node = node_with(Config::new(1), &[1, 2]);
    for _ in 0..100 {
        assert_eq!(node.propose("x".into()), Err(Error::ProposalDropped));
        assert_eq!(node.propose_conf_change(&ConfChange::default()), Err(Error::ProposalDropped));
        assert_eq!(
            node.propose_conf_change_v2(&ConfChangeV2::default()),
            Err(Error::ProposalDropped)
        );
        node.tick();
        handle(&mut node);
    }
    assert_eq!(node.storage().last_index(), 1);
    assert_eq!(Error::ProposalDropped.to_string(), "raft proposal dropped");
}

#[test]
fn a_proposal_over_the_limits_is_dropped_until_there_is_room() {
    let mut node = leader_with(Config { max_uncommitted_entries_size: 10, ..Config::new(1) });
    node.propose(vec![0; 100].into()).expect("the first may be of any size");
    assert_eq!(node.propose("x".into()), Err(Error::ProposalDropped));
    node.propose(Bytes::new()).expect("an empty one costs nothing");
    handle(&mut node);
    node.propose("x".into()).expect("there is room again");
}

#[test]
fn a_proposal_is_dropped_while_leadership_moves_and_by_the_removed() {
    let mut node = leader_of_two();
    node.transfer_leader(2);
    assert_eq!(node.propose("x".into()), Err(Error::ProposalDropped));

    let mut node = leader_of_two();
    let remove =
        ConfChange { change_type: ConfChangeType::RemoveNode, node_id: 1, ..ConfChange::default() };
    node.apply_conf_change(&remove.to_v2()).expect("possible");
    assert_eq!(node.propose("x".into()), Err(Error::ProposalDropped));
}

#[test]
fn a_follower_that_must_not_forward_drops() {
    let config = Config { disable_proposal_forwarding: true, ..Config::new(1) };
    let mut node = node_with(config, &[1, 2]);
    node.step(from_2(MessageType::Heartbeat)).expect("a leader's");
    assert_eq!(node.propose("x".into()), Err(Error::ProposalDropped));
}

#[test]
fn malformed_proposals_are_refused() {
    let mut node = leader_with(Config::new(1));
    let refused = |reason: &str| format!("raft: invalid MsgProp from 1: {reason}");
    assert_eq!(text_of(node.propose_entries(Vec::new())), refused("no entries"));
    let data = Bytes::from_static(b"\xff");
    let broken = Entry { entry_type: EntryType::ConfChange, data, ..Entry::default() };
    assert_eq!(
        text_of(node.propose_entries(vec![broken])),
        refused("malformed configuration change")
    );
    assert!(!node.has_ready());
}

// ---- configuration ----

#[test]
fn a_change_while_another_is_pending_becomes_an_empty_entry() {
    let mut node = leader_with(Config::new(1));
    let learner = |node_id| ConfChange {
        change_type: ConfChangeType::AddLearnerNode,
        node_id,
        ..ConfChange::default()
    };
    node.propose_conf_change(&learner(2)).expect("it leads");
    node.propose_conf_change(&learner(3)).expect("no error says so");
    let committed = handle(&mut node);
    let types: Vec<_> = committed.iter().map(|entry| entry.entry_type).collect();
    assert_eq!(types, [EntryType::ConfChange, EntryType::Normal]);
    assert!(committed[1].data.is_empty());
    // a change that leaves a joint configuration there is not, likewise
    node.propose_conf_change_v2(&ConfChangeV2::default()).expect("no error says so");
    assert_eq!(handle(&mut node)[0].entry_type, EntryType::Normal);
}

#[test]
fn impossible_changes_are_refused_and_change_nothing() {
    let single = |change_type, node_id| ConfChangeSingle { change_type, node_id };
    let change = |changes: &[ConfChangeSingle]| ConfChangeV2 {
        changes: changes.to_vec(),
        ..ConfChangeV2::default()
    };
    let joint = |changes: &[ConfChangeSingle]| ConfChangeV2 {
        transition: ConfChangeTransition::JointExplicit,
        ..change(changes)
    };
    let add = single(ConfChangeType::AddNode, 2);
    let remove = single(ConfChangeType::RemoveNode, 1);

    let mut node = leader_with(Config::new(1));
    let before = node.status().config.to_string();
    assert_eq!(node.apply_conf_change(&change(&[remove])), Err(ConfChangeError::RemovedAllVoters));
    assert_eq!(node.apply_conf_change(&change(&[])), Err(ConfChangeError::NotJoint));
    assert_eq!(node.apply_conf_change(&joint(&[remove])), Err(ConfChangeError::RemovedAllVoters));
    assert_eq!(node.status().config.to_string(), before);

    node.apply_conf_change(&joint(&[add])).expect("possible");
    let before = node.status().config.to_string();
    assert_eq!(node.apply_conf_change(&joint(&[add])), Err(ConfChangeError::AlreadyJoint));
    assert_eq!(node.apply_conf_change(&change(&[add])), Err(ConfChangeError::SimpleInJoint));
    assert_eq!(node.status().config.to_string(), before);

    let mut node = RawNode::new(Config::new(1), MemoryStorage::new()).expect("valid");
    assert_eq!(node.apply_conf_change(&joint(&[add])), Err(ConfChangeError::ZeroVoterJoint));
    let mut node = node_with(Config::new(1), &[1]);
    let learner = single(ConfChangeType::AddLearnerNode, 2);
    node.apply_conf_change(&change(&[learner])).expect("a learner is no voter");
    assert_eq!(node.apply_conf_change(&change(&[])), Err(ConfChangeError::NotJoint));
}

// ---- messages ----

#[test]
fn local_messages_from_a_peer_are_refused() {
    let mut node = leader_of_two();
    let names = [
        "MsgHup",
        "MsgBeat",
        "MsgUnreachable",
        "MsgSnapStatus",
        "MsgCheckQuorum",
        "MsgStorageAppend",
        "MsgStorageAppendResp",
        "MsgStorageApply",
        "MsgStorageApplyResp",
    ];
    for name in names {
        let msg_type = MessageType::from_name(name).expect("a name");
        assert_eq!(node.step(from_2(msg_type)), Err(Error::StepLocalMsg), "{name}");
    }
    let thread = Message { from: LOCAL_APPEND_THREAD, ..from_2(MessageType::App) };
    assert_eq!(node.step(thread), Err(Error::StepLocalMsg));
    assert_eq!(Error::StepLocalMsg.to_string(), "raft: cannot step raft local message");
}

#[test]
fn answers_of_unknown_peers_are_refused() {
    let mut node = leader_of_two();
    for name in
        ["MsgAppResp", "MsgVoteResp", "MsgHeartbeatResp", "MsgReadIndexResp", "MsgPreVoteResp"]
    {
        let msg_type = MessageType::from_name(name).expect("a name");
        let m = Message { from: 9, term: 9, ..from_2(msg_type) };
        assert_eq!(node.step(m), Err(Error::StepPeerNotFound), "{name}");
    }
    assert_eq!(Error::StepPeerNotFound.to_string(), "raft: cannot step as peer not found");
    assert_eq!(node.basic_status().hard_state.term, 2, "their term was not taken");
    // a request may come from somebody whom this member does not know yet
    node.step(Message { from: 9, term: 9, ..from_2(MessageType::Vote) }).expect("correct");
}

#[test]
fn messages_of_no_correct_peer_are_refused_and_change_nothing() {
    use MessageType::{App, AppResp, Heartbeat, HeartbeatResp, ReadIndex, Snap, Vote};
    let appends = |index, log_term, entries: &[Entry]| Message {
        index,
        log_term,
        entries: entries.to_vec(),
        ..from_2(App)
    };
    let snapshot = |index, term| Message {
        snapshot: Some(Box::new(snapshot_of(&[1, 2], index, term))),
        ..from_2(Snap)
    };
    let max = u64::MAX;
    let cases = [
        (Message { term: max, ..from_2(App) }, "MsgApp from 2: no term follows its term"),
        (Message { term: max, ..from_2(Vote) }, "MsgVote from 2: no term follows its term"),
        (Message { term: 0, ..from_2(App) }, "MsgApp from 2: no term"),
        (Message { from: 0, ..from_2(App) }, "MsgApp from 0: not from a peer"),
        (Message { from: 1, ..from_2(Heartbeat) }, "MsgHeartbeat from 1: not from a peer"),
        (appends(1, 1, &[entry(2, 3)]), "MsgApp from 2: gap in entries"),
        (appends(1, 1, &[entry(2, 2), entry(2, 4)]), "MsgApp from 2: gap in entries"),
        (appends(1, 1, &[entry(2, 2), entry(2, 2)]), "MsgApp from 2: gap in entries"),
        (appends(1, 1, &[entry(2, 2), entry(1, 3)]), "MsgApp from 2: terms of entries decrease"),
        (appends(1, 0, &[entry(0, 2)]), "MsgApp from 2: terms of entries decrease"),
        (appends(1, 1, &[entry(3, 2)]), "MsgApp from 2: entry of a later term"),
        (appends(max, 1, &[]), "MsgApp from 2: index out of range"),
        (appends(max - 1, 1, &[entry(1, max)]), "MsgApp from 2: index out of range"),
        (appends(max, 1, &[entry(1, 0)]), "MsgApp from 2: index out of range"),
        (snapshot(max, 1), "MsgSnap from 2: index out of range"),
        (snapshot(9, 3), "MsgSnap from 2: snapshot of a later term"),
        (
            Message { entries: Vec::new(), ..from_2(ReadIndex) },
            "MsgReadIndex from 2: not one request",
        ),
    ];
    let mut node = node_with(Config::new(1), &[1, 2]);
    let before = node.status().to_string();
    for (m, text) in cases {
        assert_eq!(text_of(node.step(m)), format!("raft: invalid {text}"));
        assert_eq!(node.status().to_string(), before);
    }

    let mut node = leader_of_two();
    let before = node.status().to_string();
    let cases = [
        (
            Message { index: 9, ..from_2(AppResp) },
            "MsgAppResp from 2: acknowledges entries beyond the log",
        ),
        (
            Message { index: max, ..from_2(AppResp) },
            "MsgAppResp from 2: acknowledges entries beyond the log",
        ),
        (
            Message { context: vec![1; 8].into(), ..from_2(HeartbeatResp) },
            "MsgHeartbeatResp from 2: echoes a read that was not asked for",
        ),
    ];
    for (m, text) in cases {
        assert_eq!(text_of(node.step(m)), format!("raft: invalid {text}"));
        assert_eq!(node.status().to_string(), before);
    }
}

#[test]
fn a_configuration_in_a_snapshot_must_make_sense() {
    let with = |conf_state| {
        let metadata = SnapshotMetadata { conf_state, index: 9, term: 2 };
        let snapshot = Snapshot { metadata, ..Snapshot::default() };
        let mut node = node_with(Config::new(1), &[1, 2]);
        let result =
            node.step(Message { snapshot: Some(Box::new(snapshot)), ..from_2(MessageType::Snap) });
        assert_eq!(node.storage().last_index(), 1);
        text_of(result)
    };
    let impossible = ConfState { learners: vec![1], ..ConfState::default() };
    assert_eq!(with(impossible), "raft: invalid MsgSnap from 2: impossible configuration");
    let twice = ConfState { learners: vec![1], ..ConfState::from_voters(vec![1, 2]) };
    assert_eq!(with(twice), "raft: invalid MsgSnap from 2: configuration contradicts itself");
}

#[test]
fn a_member_that_has_lost_its_log_is_told() {
    let mut node = node_with(Config::new(1), &[1, 2]);
    let heartbeat = Message { commit: 7, ..from_2(MessageType::Heartbeat) };
    assert_eq!(
        text_of(node.step(heartbeat)),
        "tocommit(7) is out of range [lastIndex(1)]. Was the raft log corrupted, truncated, or lost?"
    );
    // an append says how far it reaches itself, and commits no further
    let append = Message { index: 1, log_term: 1, commit: u64::MAX, ..from_2(MessageType::App) };
    node.step(append).expect("correct");
    assert_eq!(node.basic_status().hard_state.commit, 1);
}

#[test]
fn there_is_no_election_behind_the_last_term() {
    let mut node = node_with(Config::new(1), &[1]);
    let m = Message { term: u64::MAX - 1, ..from_2(MessageType::Heartbeat) };
    node.step(m).expect("the highest term there may be");
    node.campaign().expect("no error");
    assert_eq!(node.basic_status().hard_state.term, u64::MAX - 1);
}

// ---- Ready and Advance ----

#[test]
fn readies_come_and_go_in_turn() {
    let mut node = leader_with(Config::new(1));
    assert_eq!(assertion(|| node.advance(Ready::default())), "Advance without a Ready");
    let mut node = leader_with(Config::new(1));
    node.propose("x".into()).expect("it leads");
    let ready = node.ready();
    let text = "two accepted Ready structs without call to Advance";
    assert_eq!(assertion(|| drop(node.ready())), text);
    node.advance(ready);
    let config = Config { async_storage_writes: true, ..Config::new(1) };
    let mut node = node_with(config, &[1]);
    assert_eq!(
        assertion(|| node.advance(Ready::default())),
        "Advance must not be called when using AsyncStorageWrites"
    );
}

#[test]
fn only_answers_of_storage_threads_are_local() {
    let mut node = leader_of_two();
    assert_eq!(
        assertion(|| drop(node.step_local(from_2(MessageType::App)))),
        "MsgApp is no response of a storage thread"
    );
    let mut node = leader_of_two();
    let removed = Message { from: 9, ..from_2(MessageType::AppResp) };
    assert_eq!(node.step_local(removed), Err(Error::StepPeerNotFound));
}
