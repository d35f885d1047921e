//! Benchmarks with the names that etcd-io/raft and raft-rs give the same work. `cargo xtask bench-raft` runs all three
//! side by side.

mod harness;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use harness::{Options, Run};
use raft::quorum::MajorityConfig;
use raft::{
    ConfState, Config, MemoryStorage, Message, MessageType, RawNode, Snapshot, SnapshotMetadata,
};
use raft_node::Node;

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
        for _ in 0..run.n {
            black_box(new_raw_node(1));
        }
    });
    for size in [0, 128, 4096] {
        let name = format!("RawNode::leader_propose/{size}");
        options.bench(&name, |run| leader_propose(run, size));
    }
}

fn new_storage(voters: u64) -> MemoryStorage {
    let conf_state = ConfState::from_voters((1..=voters).collect());
    let metadata = SnapshotMetadata { conf_state, index: 1, term: 1 };
    let mut storage = MemoryStorage::new();
    storage.apply_snapshot(Snapshot { metadata, ..Snapshot::default() }).expect("the first");
    storage
}

fn new_raw_node(voters: u64) -> RawNode<MemoryStorage> {
    RawNode::new(Config::new(1), new_storage(voters)).expect("a valid config")
}

/// Does what there is to do, with followers that agree to everything. Returns the last index applied.
fn stabilize(node: &mut RawNode<MemoryStorage>) -> u64 {
    let mut applied = 0;
    while node.has_ready() {
        let ready = node.ready();
        if let Some(last) = ready.committed_entries.last() {
            applied = last.index;
        }
        node.storage_mut().append(&ready.entries);
        for m in &ready.messages {
            let answer = match m.msg_type {
                MessageType::Vote => {
                    Message { msg_type: MessageType::VoteResp, ..Message::default() }
                }
                MessageType::App => Message {
                    msg_type: MessageType::AppResp,
                    index: m.entries.last().map_or(m.index, |entry| entry.index),
                    ..Message::default()
                },
                _ => continue,
            };
            node.step(Message { to: m.from, from: m.to, term: m.term, ..answer }).expect("correct");
        }
        node.advance(ready);
    }
    applied
}

fn new_leader(voters: u64) -> RawNode<MemoryStorage> {
    let mut node = new_raw_node(voters);
    node.campaign().expect("a voter");
    stabilize(&mut node);
    node
}

fn raw_node(run: &mut Run, voters: u64) {
    let mut node = new_leader(voters);
    let mut applied = 0;
    run.reset();
    for _ in 0..run.n {
        node.propose(Bytes::copy_from_slice(b"foo")).expect("it leads");
        applied = stabilize(&mut node);
    }
    assert_eq!(applied, run.n + 2);
}

fn leader_propose(run: &mut Run, size: usize) {
    let mut node = new_leader(1);
    run.reset();
    for i in 0..run.n {
        node.propose(vec![0; size].into()).expect("it leads");
        if i % 1024 == 1023 {
            run.stop();
            stabilize(&mut node);
            let index = node.basic_status().applied;
            node.storage_mut().compact(index).expect("applied");
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
        black_box(
            status
                .progress
                .map_or(0, |all| all.iter().map(|(_, progress)| progress.match_index).sum::<u64>()),
        );
    });
    bench("BasicStatus", &|| {
        black_box(node.basic_status());
    });
    bench("WithProgress", &|| {
        node.with_progress(|id, progress| {
            black_box((id, progress));
        });
    });
    bench("WithProgress-example", &|| {
        let mut sum = 0;
        node.with_progress(|_, progress| sum += progress.match_index);
        black_box(sum);
    });
}

fn committed_index(run: &mut Run, voters: u64) {
    let config: MajorityConfig = (1..=voters).collect();
    // any numbers in no order
    let index_of = |id: u64| id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
    let acked: BTreeMap<u64, u64> = (1..=voters).map(|id| (id, index_of(id))).collect();
    run.reset();
    for _ in 0..run.n {
        black_box(black_box(&config).committed_index(|id| acked.get(&id).copied()));
    }
}

fn one_node(run: &mut Run) {
    let node = Node::restart(Config::new(1), new_storage(1)).expect("a valid config");
    node.campaign().expect("not stopped");
    let n = run.n;
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..n {
                node.propose(Bytes::copy_from_slice(b"foo")).wait().expect("not stopped");
            }
        });
        loop {
            let ready = node.ready().wait().expect("not stopped");
            node.with_storage(|storage| storage.append(&ready.entries));
            // a reasonable time for a disk to sync
            thread::sleep(Duration::from_millis(1));
            let commit = ready.hard_state.map(|hard_state| hard_state.commit);
            node.advance(ready);
            if commit == Some(n + 2) {
                return;
            }
        }
    });
}

/// Proposals to one of three members, until all three have them.
fn three_nodes(run: &mut Run) {
    let config = |id| Config { max_size_per_msg: 1 << 20, ..Config::new(id) };
    let nodes = [1, 2, 3].map(|id| Node::restart(config(id), new_storage(3)).expect("valid"));
    nodes[0].campaign().expect("not stopped");
    let last = run.n + 2;
    let unfinished = AtomicU64::new(3);
    let work = |node: &Node<MemoryStorage>| {
        while let Ok(mut ready) = node.ready().wait() {
            node.with_storage(|storage| storage.append(&ready.entries));
            for m in ready.messages.drain(..) {
                // answers may come late
                let _ = nodes[m.to as usize - 1].step(m).wait();
            }
            let applied = ready.committed_entries.last().map(|entry| entry.index);
            node.advance(ready);
            if applied == Some(last) && unfinished.fetch_sub(1, Ordering::SeqCst) == 1 {
                nodes.iter().for_each(Node::stop);
            }
        }
    };
    thread::scope(|scope| {
        for node in &nodes {
            scope.spawn(|| work(node));
        }
        // a first one, so that there is a leader
        nodes[0].propose(Bytes::from_static(b"somedata")).wait().expect("not stopped");
        run.reset();
        for _ in 1..run.n {
            nodes[0].propose(Bytes::copy_from_slice(b"somedata")).wait().expect("not stopped");
        }
    });
}
