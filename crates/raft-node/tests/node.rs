//! What etcd-io/raft's node.go does, by threads and by tasks in an executor of a few lines.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use raft::{
    ConfChange, ConfChangeType, ConfChangeV2, ConfState, Config, Level, MemoryStorage, Message,
    MessageType, Peer, Ready, Snapshot, SnapshotMetadata, SnapshotStatus, StateType,
};
use raft_node::{Error, Node};

type Member = Node<MemoryStorage>;

/// Longer than any step takes; reached only when something is broken.
const LONG: Duration = Duration::from_secs(60);

// ---- an executor ----

/// A queue of tasks to poll, by number.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<VecDeque<usize>>>);

struct TaskWaker {
    queue: Queue,
    task: usize,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.queue.0.lock().expect("no panic below the lock").push_back(self.task);
    }
}

/// Runs tasks on this thread, one after another, each when it is woken. Returns how many have not ended when nothing is
/// left to poll.
fn run(tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>) -> usize {
    let queue = Queue::default();
    let mut tasks: Vec<_> = tasks.into_iter().map(Some).collect();
    queue.0.lock().expect("no panic below the lock").extend(0..tasks.len());
    loop {
        let next = queue.0.lock().expect("no panic below the lock").pop_front();
        let Some(task) = next else { return tasks.iter().flatten().count() };
        let Some(future) = &mut tasks[task] else { continue };
        let waker = Waker::from(Arc::new(TaskWaker { queue: queue.clone(), task }));
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            tasks[task] = None;
        }
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counter(Mutex<usize>);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        *self.0.lock().expect("no panic below the lock") += 1;
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>, counter: &Arc<Counter>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(counter))))
}

// ---- members ----

fn storage_of(voters: &[u64]) -> MemoryStorage {
    let conf_state = ConfState::from_voters(voters.to_vec());
    let metadata = SnapshotMetadata { conf_state, index: 1, term: 1 };
    let mut storage = MemoryStorage::new();
    storage.apply_snapshot(Snapshot { metadata, ..Snapshot::default() }).expect("the first");
    storage
}

fn member(id: u64, voters: &[u64]) -> Member {
    let config = Config { log_level: Some(Level::Info), ..Config::new(id) };
    Node::restart(config, storage_of(voters)).expect("a valid config")
}

fn store(node: &Member, ready: &Ready) {
    node.with_storage(|storage| {
        if let Some(snapshot) = &ready.snapshot {
            storage.apply_snapshot(snapshot.clone()).expect("newer");
        }
        storage.append(&ready.entries);
        if let Some(hard_state) = ready.hard_state {
            storage.set_hard_state(hard_state);
        }
    });
}

/// Does all there is to do; returns the messages and the payload that was committed.
fn handle(node: &Member) -> (Vec<Message>, Vec<Bytes>) {
    let (mut messages, mut applied) = (Vec::new(), Vec::new());
    while let Ok(Some(mut ready)) = node.ready().now() {
        store(node, &ready);
        messages.append(&mut ready.messages);
        for entry in &ready.committed_entries {
            if entry.entry_type.is_conf_change() {
                let change = ConfChange::decode(entry.data.clone()).expect("of this test");
                node.apply_conf_change(&change.to_v2()).expect("possible");
            } else if !entry.data.is_empty() {
                applied.push(entry.data.clone());
            }
        }
        node.advance(ready);
    }
    (messages, applied)
}

fn leader_of_one() -> Member {
    let node = member(1, &[1]);
    node.campaign().expect("not stopped");
    handle(&node);
    assert!(node.status().expect("not stopped").is_leader(), "a lone voter elects itself");
    node
}

fn lines(node: &Member) -> Vec<String> {
    node.take_log_lines().into_iter().map(|line| format!("{} {}", line.level, line.text)).collect()
}

// ---- proposals ----

#[test]
fn a_proposal_waits_for_a_leader_on_a_thread() {
    let node = member(1, &[1]);
    let proposer = node.clone();
    let proposal = thread::spawn(move || proposer.propose("x".into()).wait_for(LONG));
    // whether it proposes before or after the election, it gets through
    node.campaign().expect("not stopped");
    let mut applied = handle(&node).1;
    assert_eq!(proposal.join().expect("no panic"), Ok(()));
    applied.append(&mut handle(&node).1);
    assert_eq!(applied, ["x"]);
}

#[test]
fn a_proposal_waits_for_a_leader_in_a_task() {
    let node = member(1, &[1]);
    let order = Mutex::new(Vec::new());
    let note = |what: &'static str| order.lock().expect("one thread").push(what);
    let left = run(vec![
        Box::pin(async {
            assert_eq!(node.propose("x".into()).await, Ok(()));
            note("proposed");
        }),
        Box::pin(async {
            note("campaign");
            node.campaign().expect("not stopped");
        }),
        Box::pin(async {
            loop {
                let ready = node.ready().await.expect("not stopped");
                store(&node, &ready);
                let is_done = ready.committed_entries.iter().any(|entry| entry.data == "x");
                node.advance(ready);
                if is_done {
                    return note("committed");
                }
            }
        }),
    ]);
    assert_eq!(left, 0);
    assert_eq!(order.into_inner().expect("one thread"), ["campaign", "proposed", "committed"]);
}

#[test]
fn a_proposal_gives_up_after_its_time_and_has_no_effect() {
    let node = member(1, &[1]);
    let waited = node.propose("gone".into()).wait_for(Duration::ZERO);
    assert_eq!(waited, Err(Error::DeadlineExceeded));
    node.campaign().expect("not stopped");
    assert_eq!(handle(&node).1, [] as [Bytes; 0]);
}

#[test]
fn a_dropped_proposal_has_no_effect_and_is_not_woken() {
    let node = member(1, &[1]);
    let (kept, dropped) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    let mut staying = pin!(node.propose("stays".into()));
    assert!(poll_once(staying.as_mut(), &kept).is_pending());
    {
        let going = pin!(node.propose("goes".into()));
        assert!(poll_once(going, &dropped).is_pending());
    }
    node.campaign().expect("not stopped");
    handle(&node);
    assert_eq!(*kept.0.lock().expect("one thread"), 1);
    assert_eq!(*dropped.0.lock().expect("one thread"), 0);
    assert_eq!(poll_once(staying, &kept), Poll::Ready(Ok(())));
    assert_eq!(handle(&node).1, ["stays"]);
}

#[test]
fn proposals_wait_again_when_the_leader_is_lost() {
    let node = member(1, &[1, 2]);
    let heartbeat =
        Message { msg_type: MessageType::Heartbeat, from: 2, to: 1, term: 2, ..Message::default() };
    node.step(heartbeat).wait().expect("a leader's");
    assert_eq!(node.propose("forwarded".into()).wait(), Ok(()));
    let forwarded = handle(&node).0.into_iter().find(|m| m.msg_type == MessageType::Prop);
    assert_eq!(forwarded.expect("sent to the leader").to, 2);
    node.forget_leader().expect("not stopped");
    assert_eq!(node.propose("x".into()).wait_for(Duration::ZERO), Err(Error::DeadlineExceeded));
    let lines = lines(&node);
    assert!(
        lines.contains(&"INFO raft.node: 1 elected leader 2 at term 2".to_owned()),
        "{lines:?}"
    );
    assert!(lines.contains(&"INFO raft.node: 1 lost leader 2 at term 2".to_owned()), "{lines:?}");
}

#[test]
fn a_new_leader_is_told_in_the_log() {
    let node = member(1, &[1, 2, 3]);
    for (from, term) in [(2, 2), (3, 3)] {
        let msg_type = MessageType::Heartbeat;
        node.step(Message { msg_type, from, to: 1, term, ..Message::default() })
            .wait()
            .expect("a leader's");
    }
    let expected = "INFO raft.node: 1 changed leader from 2 to 3 at term 3".to_owned();
    assert!(lines(&node).contains(&expected));
}

#[test]
fn raft_drops_what_etcd_drops() {
    let config = Config { disable_proposal_forwarding: true, ..Config::new(1) };
    let node = Node::restart(config, storage_of(&[1, 2])).expect("a valid config");
    let heartbeat =
        Message { msg_type: MessageType::Heartbeat, from: 2, to: 1, term: 2, ..Message::default() };
    node.step(heartbeat).wait().expect("a leader's");
    let dropped = Err(Error::Raft(raft::Error::ProposalDropped));
    assert_eq!(node.propose("x".into()).wait(), dropped);
    assert_eq!(node.propose_conf_change(&ConfChange::default()).wait(), dropped);

    let config = Config { max_uncommitted_entries_size: 10, ..Config::new(1) };
    let node = Node::restart(config, storage_of(&[1])).expect("a valid config");
    node.campaign().expect("not stopped");
    handle(&node);
    assert_eq!(node.propose(vec![0; 100].into()).wait(), Ok(()), "the first may be of any size");
    assert_eq!(node.propose("x".into()).wait(), dropped);
    handle(&node);
    assert_eq!(node.propose("x".into()).wait(), Ok(()));
}

#[test]
fn a_proposal_of_a_follower_waits_too_and_becomes_this_members() {
    let node = member(1, &[1, 2]);
    let entries = vec![raft::Entry { data: "x".into(), ..raft::Entry::default() }];
    let forwarded =
        Message { msg_type: MessageType::Prop, from: 2, to: 1, entries, ..Message::default() };
    let waited = node.step(forwarded.clone()).wait_for(Duration::ZERO);
    assert_eq!(waited, Err(Error::DeadlineExceeded));
    let heartbeat =
        Message { msg_type: MessageType::Heartbeat, from: 2, to: 1, term: 2, ..Message::default() };
    node.step(heartbeat).wait().expect("a leader's");
    node.step(forwarded).wait().expect("there is a leader");
    let sent = handle(&node).0.into_iter().find(|m| m.msg_type == MessageType::Prop);
    assert_eq!(sent.map(|m| (m.from, m.to)), Some((1, 2)));
}

// ---- messages ----

#[test]
fn local_messages_and_unknown_answers_are_ignored() {
    let node = leader_of_one();
    let before = node.status().expect("not stopped").to_string();
    for name in ["MsgHup", "MsgBeat", "MsgUnreachable", "MsgSnapStatus", "MsgCheckQuorum"] {
        let msg_type = MessageType::from_name(name).expect("a name");
        let m = Message { msg_type, from: 1, to: 1, ..Message::default() };
        assert_eq!(node.step(m).wait(), Ok(()), "{name}");
    }
    for name in ["MsgStorageAppend", "MsgStorageAppendResp", "MsgStorageApplyResp"] {
        let msg_type = MessageType::from_name(name).expect("a name");
        let m = Message { msg_type, from: u64::MAX, index: 2, log_term: 9, ..Message::default() };
        assert_eq!(node.step(m).wait(), Ok(()), "{name}");
    }
    let stranger =
        Message { msg_type: MessageType::AppResp, from: 9, term: 9, ..Message::default() };
    assert_eq!(node.step(stranger).wait(), Ok(()));
    assert_eq!(node.status().expect("not stopped").to_string(), before);
    assert!(node.ready().now().expect("not stopped").is_none());
}

#[test]
fn what_raft_refuses_is_told() {
    let node = member(1, &[1, 2]);
    let broken =
        Message { msg_type: MessageType::App, from: 2, term: u64::MAX, ..Message::default() };
    assert!(matches!(
        node.step(broken).wait(),
        Err(Error::Raft(raft::Error::InvalidMessage { from: 2, .. }))
    ));
    let lost = Message {
        msg_type: MessageType::Heartbeat,
        from: 2,
        term: 2,
        commit: 9,
        ..Message::default()
    };
    let log_lost = raft::Error::LogLost { commit: 9, last_index: 1 };
    assert_eq!(node.step(lost).wait(), Err(Error::Raft(log_lost)));
}

// ---- Ready and Advance ----

#[test]
fn a_ready_is_out_once_until_it_is_advanced() {
    let node = member(1, &[1]);
    node.campaign().expect("not stopped");
    let ready = node.ready().wait().expect("there is work");
    store(&node, &ready);
    node.report_unreachable(2);
    assert!(node.ready().now().expect("not stopped").is_none(), "one is out");
    let counter = Arc::new(Counter::default());
    let mut next = pin!(node.ready());
    assert!(poll_once(next.as_mut(), &counter).is_pending());
    node.advance(ready);
    assert_eq!(*counter.0.lock().expect("one thread"), 1);
    assert!(poll_once(next, &counter).is_ready());
}

#[test]
fn a_dropped_ready_call_leaves_the_work_to_others() {
    let node = member(1, &[1]);
    let (first, second) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    let mut staying = pin!(node.ready());
    {
        let going = pin!(node.ready());
        assert!(poll_once(going, &first).is_pending());
        assert!(poll_once(staying.as_mut(), &second).is_pending());
        node.campaign().expect("not stopped");
        // woken, but it never looks
    }
    let Poll::Ready(Ok(ready)) = poll_once(staying, &second) else { panic!("the work was lost") };
    assert!(ready.hard_state.is_some());
}

#[test]
fn waiting_for_work_ends_in_time() {
    let node = member(1, &[1]);
    assert!(matches!(node.ready().wait_for(Duration::ZERO), Err(Error::DeadlineExceeded)));
}

#[test]
fn with_async_storage_writes_nothing_is_brought_back() {
    let config = Config { async_storage_writes: true, ..Config::new(1) };
    let node = Node::restart(config, storage_of(&[1])).expect("a valid config");
    node.campaign().expect("not stopped");
    let mut applied = Vec::new();
    let mut proposed = false;
    while let Some(ready) = node.ready().now().expect("not stopped") {
        for mut m in ready.messages {
            match m.msg_type {
                MessageType::StorageAppend => {
                    node.with_storage(|storage| storage.append(&m.entries));
                }
                MessageType::StorageApply => {
                    applied.extend(m.entries.iter().map(|entry| entry.data.clone()));
                }
                other => panic!("a lone voter sends {other}"),
            }
            for response in std::mem::take(&mut m.responses) {
                node.step_local(response).expect("its own");
            }
        }
        if !proposed && node.status().expect("not stopped").is_leader() {
            proposed = true;
            node.propose("x".into()).wait().expect("it leads");
        }
    }
    assert_eq!(applied, ["", "x"]);
}

// ---- ticks ----

#[test]
fn a_tick_never_blocks() {
    let node = member(1, &[1]);
    node.with_storage(|_| {
        // this thread holds the lock: a tick that waited for it would wait for ever
        for _ in 0..130 {
            node.tick();
        }
    });
    let lines = lines(&node);
    let missed = "WARN 1 A tick missed to fire. Node blocks too long!";
    assert_eq!(lines.iter().filter(|line| *line == missed).count(), 2);
    // the others were counted: an election has begun
    let status = node.basic_status().expect("not stopped");
    assert_eq!(status.soft_state.raft_state, StateType::Candidate);
}

#[test]
fn ticks_elect_a_leader() {
    let node = member(1, &[1]);
    for _ in 0..20 {
        node.tick();
    }
    handle(&node);
    assert!(node.status().expect("not stopped").is_leader());
}

// ---- configuration, leadership, reads ----

#[test]
fn a_removed_leader_takes_no_proposals() {
    let node = leader_of_one();
    let add = ConfChange { node_id: 2, ..ConfChange::default() };
    node.apply_conf_change(&add.to_v2()).expect("possible");
    let remove =
        ConfChange { change_type: ConfChangeType::RemoveNode, node_id: 1, ..ConfChange::default() };
    let conf_state = node.apply_conf_change(&remove.to_v2()).expect("possible");
    assert_eq!(conf_state.voters, [2]);
    assert_eq!(node.propose("x".into()).wait_for(Duration::ZERO), Err(Error::DeadlineExceeded));
}

#[test]
fn a_change_that_is_impossible_is_an_error() {
    let node = leader_of_one();
    let remove =
        ConfChange { change_type: ConfChangeType::RemoveNode, node_id: 1, ..ConfChange::default() };
    let refused = node.apply_conf_change(&remove.to_v2());
    assert_eq!(refused, Err(Error::ConfChange(raft::ConfChangeError::RemovedAllVoters)));
    assert_eq!(node.propose("x".into()).wait(), Ok(()));
}

#[test]
fn changes_of_both_formats_are_proposed() {
    let node = leader_of_one();
    let learner = |node_id| ConfChange {
        change_type: ConfChangeType::AddLearnerNode,
        node_id,
        ..ConfChange::default()
    };
    node.propose_conf_change(&learner(2)).wait().expect("it leads");
    handle(&node);
    node.propose_conf_change_v2(&learner(3).to_v2()).wait().expect("it leads");
    let mut changes = Vec::new();
    while let Some(ready) = node.ready().now().expect("not stopped") {
        store(&node, &ready);
        for entry in
            ready.committed_entries.iter().filter(|entry| entry.entry_type.is_conf_change())
        {
            let change = ConfChangeV2::decode(entry.data.clone()).expect("of this test");
            changes.push(node.apply_conf_change(&change).expect("possible").learners);
        }
        node.advance(ready);
    }
    assert_eq!(changes, [[2, 3]]);
}

#[test]
fn a_read_index_comes_in_a_ready() {
    let node = leader_of_one();
    node.read_index("r".into()).expect("not stopped");
    let ready = node.ready().wait().expect("there is work");
    assert_eq!(ready.read_states.len(), 1);
    assert_eq!(ready.read_states[0].request_ctx, "r");
    assert_eq!(ready.read_states[0].index, 2);
}

// ---- stop ----

#[test]
fn stop_wakes_threads_and_tasks() {
    let node = member(1, &[1]);
    let (counter, mut pending) = (Arc::new(Counter::default()), pin!(node.propose("x".into())));
    assert!(poll_once(pending.as_mut(), &counter).is_pending());
    let waiting: Vec<_> = (0..4)
        .map(|i| {
            let node = node.clone();
            thread::spawn(move || {
                if i % 2 == 0 {
                    node.propose("x".into()).wait()
                } else {
                    node.ready().wait().map(drop)
                }
            })
        })
        .collect();
    node.stop();
    node.stop();
    for thread in waiting {
        assert_eq!(thread.join().expect("no panic"), Err(Error::Stopped));
    }
    assert_eq!(*counter.0.lock().expect("one thread"), 1);
    assert_eq!(poll_once(pending, &counter), Poll::Ready(Err(Error::Stopped)));
}

#[test]
fn a_stopped_member_answers_so() {
    let node = leader_of_one();
    let ready = {
        node.propose("x".into()).wait().expect("it leads");
        node.ready().wait().expect("there is work")
    };
    node.stop();
    node.advance(ready);
    node.tick();
    node.report_unreachable(2);
    node.report_snapshot(2, SnapshotStatus::Failure);
    assert_eq!(node.campaign(), Err(Error::Stopped));
    assert_eq!(node.propose("x".into()).wait(), Err(Error::Stopped));
    assert_eq!(node.propose_conf_change(&ConfChange::default()).wait(), Err(Error::Stopped));
    assert_eq!(node.propose_conf_change_v2(&ConfChangeV2::default()).wait(), Err(Error::Stopped));
    assert_eq!(node.step(Message::default()).wait(), Err(Error::Stopped));
    assert_eq!(node.step_local(Message::default()), Err(Error::Stopped));
    assert_eq!(node.ready().wait().map(drop), Err(Error::Stopped));
    assert_eq!(node.apply_conf_change(&ConfChangeV2::default()), Err(Error::Stopped));
    assert_eq!(node.transfer_leadership(2), Err(Error::Stopped));
    assert_eq!(node.forget_leader(), Err(Error::Stopped));
    assert_eq!(node.read_index("r".into()), Err(Error::Stopped));
    assert_eq!(node.status().map(drop), Err(Error::Stopped));
    assert_eq!(node.basic_status().map(drop), Err(Error::Stopped));
    let last = node.with_storage(|storage| raft::Storage::last_index(storage));
    assert_eq!(last, 2, "the storage is still there");
}

#[test]
fn a_broken_step_stops_the_member_for_all() {
    let node = leader_of_one();
    let waiter = node.clone();
    let waiting = thread::spawn(move || waiter.ready().wait().map(drop));
    let broken = catch_unwind(AssertUnwindSafe(|| node.advance(Ready::default())));
    let message = *broken.expect_err("an assertion").downcast::<&str>().expect("a text");
    assert_eq!(message, "Advance without a Ready");
    assert_eq!(waiting.join().expect("no panic"), Err(Error::Stopped));
    assert_eq!(node.campaign(), Err(Error::Stopped));
}

// ---- clusters ----

/// Three members, each with a thread that handles its work and one that receives, agree on the same sequence.
#[test]
fn three_members_on_threads_agree() {
    const PROPOSALS: usize = 200;
    let peers = [1, 2, 3].map(|id| Peer { id, ..Peer::default() });
    let nodes: Vec<Member> = peers
        .iter()
        .map(|peer| Node::start(Config::new(peer.id), MemoryStorage::new(), &peers).expect("new"))
        .collect();
    let (senders, inboxes): (Vec<_>, Vec<_>) = nodes.iter().map(|_| mpsc::channel()).unzip();
    for (node, inbox) in nodes.iter().zip(inboxes) {
        let node = node.clone();
        thread::spawn(move || {
            for m in inbox {
                if node.step(m).wait() == Err(Error::Stopped) {
                    return;
                }
            }
        });
    }
    let (applied_tx, applied_rx) = mpsc::channel();
    let workers: Vec<_> = nodes
        .iter()
        .map(|node| {
            let (node, senders, applied_tx) = (node.clone(), senders.clone(), applied_tx.clone());
            thread::spawn(move || {
                let mut applied: Vec<Bytes> = Vec::new();
                while let Ok(mut ready) = node.ready().wait() {
                    store(&node, &ready);
                    for m in ready.messages.drain(..) {
                        // one whose member is stopped is lost, as on a network
                        let _ = senders[m.to as usize - 1].send(m);
                    }
                    for entry in &ready.committed_entries {
                        if entry.entry_type.is_conf_change() {
                            let change =
                                ConfChange::decode(entry.data.clone()).expect("bootstrap's");
                            node.apply_conf_change(&change.to_v2()).expect("possible");
                        } else if !entry.data.is_empty() {
                            applied.push(entry.data.clone());
                        }
                    }
                    if applied.len() == PROPOSALS {
                        applied_tx.send(()).expect("the test waits");
                    }
                    node.advance(ready);
                }
                applied
            })
        })
        .collect();
    // Time passes, for one member alone, until there is a leader.
    while nodes.iter().all(|node| node.basic_status().expect("not stopped").soft_state.lead == 0) {
        nodes[0].tick();
        thread::yield_now();
    }
    let proposers: Vec<_> = (0..4)
        .map(|part| {
            let node = nodes[part % 3].clone();
            thread::spawn(move || {
                for i in 0..PROPOSALS / 4 {
                    let data = Bytes::from(format!("{part}-{i}"));
                    assert_eq!(node.propose(data).wait_for(LONG), Ok(()));
                }
            })
        })
        .collect();
    for proposer in proposers {
        proposer.join().expect("no panic");
    }
    for _ in &nodes {
        applied_rx.recv_timeout(LONG).expect("every member applies everything");
    }
    nodes.iter().for_each(Node::stop);
    let logs: Vec<_> = workers.into_iter().map(|worker| worker.join().expect("no panic")).collect();
    assert_eq!(logs[0].len(), PROPOSALS);
    assert!(logs[1] == logs[0] && logs[2] == logs[0], "the logs differ");
}

/// The same in tasks on one thread, with a transfer of leadership and a read on a follower.
#[test]
fn three_members_in_tasks_transfer_leadership_and_read() {
    let nodes: Vec<Member> = [1, 2, 3].map(|id| member(id, &[1, 2, 3])).into();
    let reads = Mutex::new(Vec::new());
    let worker = async |node: &Member| {
        while let Ok(mut ready) = node.ready().await {
            store(node, &ready);
            for m in std::mem::take(&mut ready.messages) {
                let to = &nodes[m.to as usize - 1];
                to.step(m).await.expect("a correct peer's");
            }
            let states =
                ready.read_states.iter().map(|read| (read.index, read.request_ctx.clone()));
            reads.lock().expect("one thread").extend(states);
            node.advance(ready);
        }
    };
    let script = async {
        nodes[0].campaign().expect("not stopped");
        nodes[0].propose("x".into()).await.expect("it leads by then");
        nodes[0].transfer_leadership(2).expect("not stopped");
    };
    let left = run(vec![
        Box::pin(worker(&nodes[0])),
        Box::pin(worker(&nodes[1])),
        Box::pin(worker(&nodes[2])),
        Box::pin(script),
    ]);
    assert_eq!(left, 3, "the workers wait for more");
    let lead_of = |node: &Member| node.basic_status().expect("not stopped").soft_state.lead;
    assert_eq!(nodes.iter().map(lead_of).collect::<Vec<_>>(), [2, 2, 2]);
    let commit = nodes[1].basic_status().expect("not stopped").hard_state.commit;

    let reader = async {
        nodes[2].read_index("r".into()).expect("not stopped");
    };
    run(vec![
        Box::pin(worker(&nodes[0])),
        Box::pin(worker(&nodes[1])),
        Box::pin(worker(&nodes[2])),
        Box::pin(reader),
    ]);
    assert_eq!(reads.into_inner().expect("one thread"), [(commit, Bytes::from_static(b"r"))]);
}
