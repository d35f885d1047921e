//! Measures the crate `raft` 0.7 with the work of `crates/raft-node/benches/raft/main.rs`, and prints what that prints.

#[path = "../../../crates/raft-node/benches/raft/harness.rs"]
mod harness;

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use harness::{Options, Run};
use raft::eraftpb::{ConfState, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode};
use slog::{Discard, Logger, o};

fn main() {
    let options = Options::from_args();
    options.bench("BenchmarkOneNode", one_node);
    options.bench("BenchmarkProposal3Nodes", three_nodes);
    options.bench("BenchmarkRawNode/single-voter", |run| raw_node(run, 1));
    options.bench("BenchmarkRawNode/two-voters", |run| raw_node(run, 2));
    for members in [1, 3, 5, 100] {
        status(&options, members);
    }
    for voters in [1, 3, 5, 7, 9, 11] {
        let name = format!("BenchmarkMajorityConfig_CommittedIndex/voters={voters}");
        options.bench(&name, |run| committed_index(run, voters));
    }
    options.bench("RawNode::new", |run| {
        let logger = Logger::root(Discard, o!());
        for _ in 0..run.n {
            black_box(RawNode::new(&Config::new(1), new_storage(1), &logger).unwrap());
        }
    });
    for size in [0, 128, 4096] {
        let name = format!("RawNode::leader_propose/{size}");
        options.bench(&name, |run| leader_propose(run, size));
    }
}

fn new_storage(voters: u64) -> MemStorage {
    MemStorage::new_with_conf_state(ConfState::from(((1..=voters).collect::<Vec<_>>(), vec![])))
}

fn new_raw_node(id: u64, voters: u64) -> RawNode<MemStorage> {
    let config = Config { max_size_per_msg: 1 << 20, ..Config::new(id) };
    RawNode::new(&config, new_storage(voters), &Logger::root(Discard, o!())).unwrap()
}

/// Handles one `Ready`. Returns the last index applied, 0 for none.
fn handle(node: &mut RawNode<MemStorage>, send: &mut impl FnMut(Message), sync: Duration) -> u64 {
    let mut ready = node.ready();
    let mut applied = 0;
    let mut outgoing = ready.take_messages();
    if let Some(last) = ready.committed_entries().last() {
        applied = last.index;
    }
    node.store().wl().append(ready.entries()).unwrap();
    if !sync.is_zero() {
        thread::sleep(sync);
    }
    outgoing.extend(ready.take_persisted_messages());
    let mut light = node.advance(ready);
    outgoing.extend(light.take_messages());
    if let Some(last) = light.committed_entries().last() {
        applied = last.index;
    }
    node.advance_apply();
    outgoing.into_iter().for_each(send);
    applied
}

/// Does what there is to do, with followers that agree to everything. Returns the last index applied.
fn stabilize(node: &mut RawNode<MemStorage>) -> u64 {
    let mut applied = 0;
    let mut messages = Vec::new();
    while node.has_ready() {
        applied = applied.max(handle(node, &mut |m| messages.push(m), Duration::ZERO));
        for m in messages.drain(..) {
            let mut answer = Message { to: m.from, from: m.to, term: m.term, ..Message::default() };
            match m.get_msg_type() {
                MessageType::MsgRequestVote => {
                    answer.set_msg_type(MessageType::MsgRequestVoteResponse);
                }
                MessageType::MsgAppend => {
                    answer.set_msg_type(MessageType::MsgAppendResponse);
                    answer.index = m.entries.last().map_or(m.index, |entry| entry.index);
                }
                _ => continue,
            }
            node.step(answer).unwrap();
        }
    }
    applied
}

fn new_leader(voters: u64) -> RawNode<MemStorage> {
    let mut node = new_raw_node(1, voters);
    node.campaign().unwrap();
    stabilize(&mut node);
    node
}

fn raw_node(run: &mut Run, voters: u64) {
    let mut node = new_leader(voters);
    let first = node.raft.raft_log.last_index();
    let mut applied = 0;
    run.reset();
    for _ in 0..run.n {
        node.propose(vec![], b"foo".to_vec()).unwrap();
        applied = stabilize(&mut node);
    }
    assert_eq!(applied, run.n + first);
}

fn leader_propose(run: &mut Run, size: usize) {
    let mut node = new_leader(1);
    run.reset();
    for i in 0..run.n {
        node.propose(vec![], vec![0; size]).unwrap();
        if i % 1024 == 1023 {
            run.stop();
            stabilize(&mut node);
            let index = node.raft.raft_log.applied;
            node.store().wl().compact(index).unwrap();
            run.start();
        }
    }
}

fn status(options: &Options, members: u64) {
    let node = new_leader(members);
    let bench = |name: &str, f: &dyn Fn()| {
        options.bench(&format!("BenchmarkStatus/members={members}/{name}"), |run| {
            for _ in 0..run.n {
                f();
            }
        });
    };
    bench("Status", &|| {
        black_box(node.status());
    });
    bench("Status-example", &|| {
        let status = node.status();
        let progress = status.progress.unwrap();
        black_box(progress.iter().map(|(_, progress)| progress.matched).sum::<u64>());
    });
}

fn committed_index(run: &mut Run, voters: u64) {
    let mut node = new_leader(voters);
    for id in 1..=voters {
        let matched = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
        node.raft.mut_prs().get_mut(id).unwrap().matched = matched;
    }
    run.reset();
    for _ in 0..run.n {
        black_box(black_box(node.raft.mut_prs()).maximal_committed_index());
    }
}

/// What reaches the thread of a member: there is no `Node` in this crate, and its examples do it like this.
enum Event {
    Propose(Vec<u8>),
    Step(Message),
    Stop,
}

fn one_node(run: &mut Run) {
    let mut node = new_leader(1);
    let last = node.raft.raft_log.last_index() + run.n;
    let (sender, inbox) = channel();
    let n = run.n;
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..n {
                sender.send(Event::Propose(b"foo".to_vec())).unwrap();
            }
        });
        work(
            &mut node,
            &inbox,
            &[],
            last,
            Duration::from_millis(1),
            &channel().0,
            &AtomicU64::new(1),
        );
    });
}

/// Proposals to one of three members, until all three have them.
fn three_nodes(run: &mut Run) {
    let (senders, inboxes): (Vec<_>, Vec<_>) = (0..3).map(|_| channel()).unzip();
    let mut nodes: Vec<_> = (1..=3).map(|id| new_raw_node(id, 3)).collect();
    // index 1 is the empty entry's
    let last = run.n + 1;
    nodes[0].campaign().unwrap();
    let n = run.n;
    let (led_tx, led) = channel();
    let unfinished = &AtomicU64::new(3);
    thread::scope(|scope| {
        for (node, inbox) in nodes.iter_mut().zip(inboxes) {
            let (senders, led_tx) = (senders.clone(), led_tx.clone());
            scope.spawn(move || {
                work(node, &inbox, &senders, last, Duration::ZERO, &led_tx, unfinished)
            });
        }
        led.recv().unwrap();
        run.reset();
        for _ in 0..n {
            senders[0].send(Event::Propose(b"somedata".to_vec())).unwrap();
        }
    });
}

fn work(
    node: &mut RawNode<MemStorage>,
    inbox: &Receiver<Event>,
    senders: &[Sender<Event>],
    last: u64,
    sync: Duration,
    led: &Sender<()>,
    unfinished: &AtomicU64,
) {
    let mut send = |m: Message| {
        // one that is done takes no more
        let _ = senders[m.to as usize - 1].send(Event::Step(m));
    };
    let take = |node: &mut RawNode<MemStorage>, event| match event {
        Event::Propose(data) => node.propose(vec![], data).unwrap(),
        Event::Step(m) => drop(node.step(m)),
        Event::Stop => unreachable!(),
    };
    let mut is_led = false;
    loop {
        while node.has_ready() {
            let applied = handle(node, &mut send, sync);
            if !is_led && applied > 0 {
                is_led = true;
                let _ = led.send(());
            }
            if applied == last && unfinished.fetch_sub(1, Ordering::SeqCst) == 1 {
                for sender in senders {
                    let _ = sender.send(Event::Stop);
                }
                return;
            }
        }
        let event = inbox.recv().unwrap();
        if matches!(event, Event::Stop) {
            return;
        }
        take(node, event);
        for event in inbox.try_iter() {
            if matches!(event, Event::Stop) {
                return;
            }
            take(node, event);
        }
    }
}
