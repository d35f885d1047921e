//! Bugs that raft libraries had, and that a script cannot show: reads, restarts, configurations, hostile messages. The
//! numbers are those of `mutants.txt`.

use bytes::Bytes;
use raft::{
    ConfState, Config, ConfigError, Entry, Error, HardState, LOCAL_APPEND_THREAD, MemoryStorage,
    Message, MessageType, RawNode, ReadOnlyOption, ReadState, Ready, Snapshot, SnapshotMetadata,
    StateType, Storage,
};

type Node = RawNode<MemoryStorage>;

fn snapshot(index: u64, voters: &[u64], learners: &[u64]) -> Snapshot {
    let conf_state = ConfState {
        learners: learners.to_vec(),
        auto_leave: Some(false),
        ..ConfState::from_voters(voters.to_vec())
    };
    let metadata = SnapshotMetadata { conf_state, index, term: 1 };
    Snapshot { data: Bytes::new(), metadata }
}

fn node(config: Config, voters: &[u64], learners: &[u64]) -> Node {
    let mut storage = MemoryStorage::new();
    storage.apply_snapshot(snapshot(10, voters, learners)).expect("empty before");
    storage.set_hard_state(HardState { term: 1, vote: 0, commit: 10 });
    RawNode::new(config, storage).expect("a valid configuration")
}

fn write(node: &mut Node, ready: &Ready) {
    if let Some(snapshot) = &ready.snapshot {
        node.storage_mut().apply_snapshot(snapshot.clone()).expect("newer");
    }
    node.storage_mut().append(&ready.entries);
    if let Some(hard_state) = ready.hard_state {
        node.storage_mut().set_hard_state(hard_state);
    }
}

/// Handles all that is ready; returns the messages and reads.
fn settle(node: &mut Node) -> (Vec<Message>, Vec<ReadState>) {
    let (mut messages, mut reads) = (Vec::new(), Vec::new());
    while node.has_ready() {
        let ready = node.ready();
        write(node, &ready);
        messages.extend(ready.messages.iter().cloned());
        reads.extend(ready.read_states.iter().cloned());
        node.advance(ready);
    }
    (messages, reads)
}

fn message(msg_type: MessageType, from: u64, term: u64) -> Message {
    Message { msg_type, from, to: 1, term, ..Message::default() }
}

/// A leader of term 2 whose first entry is not committed unless it is the only voter.
fn leader(config: Config, voters: &[u64], learners: &[u64]) -> Node {
    let mut node = node(config, voters, learners);
    node.campaign().expect("a voter");
    settle(&mut node);
    if voters.len() > 1 {
        node.step(message(MessageType::VoteResp, 2, 2)).expect("a vote");
        settle(&mut node);
    }
    assert_eq!(node.basic_status().soft_state.raft_state, StateType::Leader);
    node
}

fn acknowledge(node: &mut Node, from: u64, index: u64) {
    let m = Message { index, ..message(MessageType::AppResp, from, 2) };
    node.step(m).expect("an acknowledgement");
    settle(node);
}

fn request(from: u64, context: &'static [u8]) -> Message {
    let entry = Entry { data: Bytes::from_static(context), ..Entry::default() };
    Message { entries: vec![entry], ..message(MessageType::ReadIndex, from, 0) }
}

/// R5: an append must follow its index without a gap; etcd indexed beyond the entries.
#[test]
fn entries_with_a_gap_are_refused() {
    let mut node = node(Config::new(1), &[1, 2, 3], &[]);
    let entry = |index| Entry { term: 2, index, ..Entry::default() };
    let append =
        |entries| Message { index: 10, log_term: 1, entries, ..message(MessageType::App, 2, 2) };
    for entries in
        [vec![entry(12)], vec![entry(11), entry(13)], vec![entry(11), entry(11)], vec![entry(9)]]
    {
        let error = node.step(append(entries)).expect_err("a gap");
        assert!(matches!(error, Error::InvalidMessage { reason: "gap in entries", .. }), "{error}");
    }
    node.step(append(vec![entry(11), entry(12)])).expect("no gap");
    settle(&mut node);
    assert_eq!(node.storage().last_index(), 12);
}

/// R10: a learner of a cluster with one voter asks for a read index, and is answered.
#[test]
fn the_only_voter_answers_a_learner() {
    let mut node = leader(Config::new(1), &[1], &[2]);
    node.step(request(2, b"r")).expect("a request");
    let (messages, reads) = settle(&mut node);
    let answers: Vec<_> =
        messages.iter().filter(|m| m.msg_type == MessageType::ReadIndexResp).collect();
    assert_eq!(reads, []);
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].to, answers[0].index), (2, 11));
    assert_eq!(answers[0].entries[0].data, "r");
}

/// R11: a lease without a check of the quorum never ends.
#[test]
fn lease_based_reads_need_the_check_of_the_quorum() {
    let config = Config { read_only_option: ReadOnlyOption::LeaseBased, ..Config::new(1) };
    assert!(matches!(config.validate(), Err(ConfigError::LeaseWithoutCheckQuorum)));
    assert!(RawNode::new(config.clone(), MemoryStorage::new()).is_err());
    Config { check_quorum: true, ..config }.validate().expect("with a check");
}

/// R14: two requests with one context, and the answer to the heartbeat of the first one is late. It says nothing about
/// the second.
#[test]
fn a_late_heartbeat_response_confirms_no_later_read() {
    let mut node = leader(Config::new(1), &[1, 2, 3], &[]);
    acknowledge(&mut node, 2, 11);
    let mut contexts = Vec::new();
    for _ in 0..2 {
        node.read_index(Bytes::from_static(b"same"));
        let (messages, reads) = settle(&mut node);
        assert_eq!(reads, []);
        let heartbeat = messages.iter().find(|m| m.msg_type == MessageType::Heartbeat);
        contexts.push(heartbeat.expect("it asks the others").context.clone());
    }
    for (context, confirmed) in contexts.into_iter().zip([1, 1]) {
        let m = Message { context, ..message(MessageType::HeartbeatResp, 2, 2) };
        node.step(m).expect("an answer");
        assert_eq!(settle(&mut node).1.len(), confirmed);
    }
}

/// R15 (raft #442): in Go a snapshot that was being sent was changed at the same time. Here one that is handed out is a
/// value of its own.
#[test]
fn a_snapshot_handed_out_is_a_value() {
    let storage = MemoryStorage::new();
    let mut handed_out = storage.snapshot().expect("in memory");
    handed_out.metadata.index = 7;
    handed_out.metadata.conf_state.voters.push(7);
    assert_eq!(storage.snapshot().expect("in memory"), Snapshot::default());
    fn is_shared<T: Send + Sync>(_: &T) {}
    is_shared(&handed_out);
}

/// R20: a read that comes before the leader has committed in its term waits, and is answered then.
#[test]
fn a_read_before_the_first_commit_waits() {
    let mut node = leader(Config::new(1), &[1, 2, 3], &[]);
    node.read_index(Bytes::from_static(b"own"));
    node.step(request(3, b"theirs")).expect("a request");
    let (messages, reads) = settle(&mut node);
    assert_eq!((messages.len(), reads.len()), (0, 0));
    let m = Message { index: 11, ..message(MessageType::AppResp, 2, 2) };
    node.step(m).expect("an acknowledgement");
    let (messages, _) = settle(&mut node);
    let last = messages.iter().rfind(|m| m.msg_type == MessageType::Heartbeat).expect("it asks");
    let answer =
        Message { context: last.context.clone(), ..message(MessageType::HeartbeatResp, 2, 2) };
    node.step(answer).expect("an answer");
    let (messages, reads) = settle(&mut node);
    assert_eq!(reads, [ReadState { index: 11, request_ctx: Bytes::from_static(b"own") }]);
    assert!(messages.iter().any(|m| m.msg_type == MessageType::ReadIndexResp && m.to == 3));
}

/// R21: a leader that hears nobody answers no read after an election timeout, lease or not.
#[test]
fn a_lease_ends() {
    let config = Config {
        check_quorum: true,
        read_only_option: ReadOnlyOption::LeaseBased,
        ..Config::new(1)
    };
    let timeout = config.election_tick;
    let mut node = leader(config, &[1, 2, 3], &[]);
    acknowledge(&mut node, 2, 11);
    node.read_index(Bytes::from_static(b"a"));
    assert_eq!(settle(&mut node).1.len(), 1);
    for _ in 0..2 * timeout {
        node.tick();
    }
    node.read_index(Bytes::from_static(b"b"));
    assert_eq!(settle(&mut node).1, []);
}

/// R22: the acknowledgement of one snapshot says nothing about a newer one that is still being written.
#[test]
fn an_older_snapshot_does_not_stand_for_a_newer_one() {
    let config = Config { async_storage_writes: true, ..Config::new(1) };
    let mut node = node(config, &[1, 2, 3], &[]);
    let mut responses = Vec::new();
    for index in [20, 30] {
        let snapshot = Some(Box::new(snapshot(index, &[1, 2, 3], &[])));
        node.step(Message { snapshot, ..message(MessageType::Snap, 2, 1) }).expect("a snapshot");
        let ready = node.ready();
        assert_eq!(ready.snapshot.map(|snapshot| snapshot.metadata.index), Some(index));
        let append = ready.messages.into_iter().find(|m| m.to == LOCAL_APPEND_THREAD);
        let append = append.expect("something to write");
        let to_self = append.responses.into_iter().filter(|m| m.to == 1);
        responses.push((append.snapshot.expect("the snapshot"), to_self.collect::<Vec<_>>()));
    }
    for (at, (written, to_self)) in responses.into_iter().enumerate() {
        node.storage_mut().apply_snapshot(*written).expect("newer");
        for m in to_self {
            node.step_local(m).expect("an acknowledgement");
        }
        assert_eq!(node.basic_status().applied, [20, 30][at]);
        // An append behind the newest is understood, whichever is written.
        let m = Message { index: 30, log_term: 1, commit: 30, ..message(MessageType::App, 2, 1) };
        node.step(m).expect("an append");
        let ready = node.ready();
        let answers = ready.messages.iter().chain(ready.messages.iter().flat_map(|m| &m.responses));
        let answer =
            answers.filter(|m| m.msg_type == MessageType::AppResp).last().expect("an answer");
        assert_eq!((answer.reject, answer.index), (false, 30));
    }
}

/// R25: the term of the entry before the first is that of the snapshot.
#[test]
fn a_storage_knows_the_term_of_its_snapshot() {
    let node = node(Config::new(1), &[1, 2, 3], &[]);
    assert_eq!(node.storage().term(10).expect("kept"), 1);
    assert_eq!((node.storage().first_index(), node.storage().last_index()), (11, 10));
    // so that an append behind the snapshot fits
    let mut node = node;
    let m = Message { index: 10, log_term: 1, ..message(MessageType::App, 2, 1) };
    node.step(m).expect("an append");
    let (messages, _) = settle(&mut node);
    assert!(messages.iter().all(|m| !m.reject), "{messages:?}");
}

/// R27: a crash after a snapshot was installed and before the hard state was saved. The one found is older.
#[test]
fn a_hard_state_older_than_the_snapshot_is_brought_up() {
    let mut storage = MemoryStorage::new();
    storage.set_hard_state(HardState { term: 1, vote: 2, commit: 3 });
    let mut newer = snapshot(20, &[1, 2, 3], &[]);
    newer.metadata.term = 4;
    storage.apply_snapshot(newer).expect("empty before");
    let node = RawNode::new(Config::new(1), storage).expect("it starts");
    let expected = HardState { term: 4, vote: 0, commit: 20 };
    assert_eq!(node.basic_status().hard_state, expected);
    // A commit index beyond the log is damage, and refused.
    let mut storage = MemoryStorage::new();
    storage.apply_snapshot(snapshot(20, &[1, 2, 3], &[])).expect("empty before");
    storage.set_hard_state(HardState { term: 4, vote: 2, commit: 21 });
    let error = RawNode::new(Config::new(1), storage).expect_err("beyond the log");
    assert!(matches!(error, ConfigError::OutOfRange { name: "state.commit", .. }), "{error}");
}

/// A member that starts from a snapshot alone is in no term. It may have to refuse a pre-vote; etcd's panics.
#[test]
fn a_member_without_a_term_refuses_a_pre_vote() {
    let mut storage = MemoryStorage::new();
    storage.apply_snapshot(snapshot(10, &[1, 2, 3], &[])).expect("empty before");
    let mut node = RawNode::new(Config::new(1), storage).expect("a valid configuration");
    node.step(Message { index: 5, log_term: 1, ..message(MessageType::PreVote, 2, 1) })
        .expect("a request");
    let (messages, _) = settle(&mut node);
    assert!(messages.iter().any(|m| m.msg_type == MessageType::PreVoteResp && m.reject));
}
