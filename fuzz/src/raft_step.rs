//! A member that is given any messages of peers, in any order, between what its own program may do.
//!
//! The first byte chooses the member. Then come steps: a byte that says which, and for a message one with its length
//! and its bytes.

use raft::{
    ConfChange, ConfChangeV2, ConfState, Config, Entry, EntryType, HardState, MemoryStorage,
    Message, Peer, RawNode, ReadOnlyOption, Ready, Snapshot, SnapshotMetadata, SnapshotStatus,
    Storage,
};

type Node = RawNode<MemoryStorage>;

/// Messages longer than a byte can say are not needed to reach any state.
pub fn run(mut data: &[u8]) {
    let Some(flags) = take(&mut data) else { return };
    let mut node = member(flags);
    while let Some(step) = take(&mut data) {
        match step % 16 {
            0..9 => {
                let length = usize::from(take(&mut data).unwrap_or(0)).min(data.len());
                let (bytes, rest) = data.split_at(length);
                data = rest;
                if let Ok(m) = Message::decode_slice(bytes) {
                    // an error is fine
                    let _ = node.step(m);
                }
            }
            9 => node.tick(),
            10 => (0..u8::MAX).for_each(|_| node.tick()),
            11 => {
                let _ = node.campaign();
            }
            12 => {
                let _ = node.propose(bytes::Bytes::from_static(b"x"));
            }
            13 => node.read_index(bytes::Bytes::from_static(b"r")),
            14 => {
                let id = u64::from(step / 16);
                node.report_unreachable(id);
                node.report_snapshot(id, SnapshotStatus::Failure);
            }
            _ => handle(&mut node, step & 16 != 0),
        }
    }
    handle(&mut node, true);
}

fn take(data: &mut &[u8]) -> Option<u8> {
    let (first, rest) = data.split_first()?;
    *data = rest;
    Some(*first)
}

/// Member 1 of three: founded or from a snapshot, in a term or in none.
fn member(flags: u8) -> Node {
    let is = |bit: u8| flags & (1 << bit) != 0;
    let config = Config {
        pre_vote: is(0),
        check_quorum: is(1),
        read_only_option: if is(1) && is(2) {
            ReadOnlyOption::LeaseBased
        } else {
            ReadOnlyOption::Safe
        },
        step_down_on_removal: is(3),
        max_inflight_msgs: if is(4) { 1 } else { 256 },
        max_uncommitted_entries_size: if is(5) { 10 } else { 0 },
        ..Config::new(1)
    };
    let mut storage = MemoryStorage::new();
    if !is(6) {
        let mut node = RawNode::new(config, storage).expect("a valid configuration");
        let peers = [1, 2, 3].map(|id| Peer { id, ..Peer::default() });
        node.bootstrap(&peers).expect("an empty storage");
        return node;
    }
    let conf_state = ConfState { learners: vec![4], ..ConfState::from_voters(vec![1, 2, 3]) };
    let metadata = SnapshotMetadata { conf_state, index: 5, term: 2 };
    let snapshot = Snapshot { metadata, ..Snapshot::default() };
    storage.apply_snapshot(snapshot).expect("an empty storage");
    if is(7) {
        storage.set_hard_state(HardState { term: 2, vote: 0, commit: 5 });
    }
    RawNode::new(config, storage).expect("a sound storage")
}

fn handle(node: &mut Node, compacts: bool) {
    while node.has_ready() {
        let ready = node.ready();
        write(node, &ready);
        for entry in &ready.committed_entries {
            apply(node, entry);
        }
        let applied = ready.committed_entries.last().map(|entry| entry.index);
        node.advance(ready);
        if let Some(index) = applied.filter(|_| compacts) {
            // not beyond what is there, and not twice
            let _ = node.storage_mut().create_snapshot(index, None, bytes::Bytes::new());
            if index > node.storage().first_index() {
                let _ = node.storage_mut().compact(index - 1);
            }
        }
    }
}

fn write(node: &mut Node, ready: &Ready) {
    let storage = node.storage_mut();
    if let Some(snapshot) = &ready.snapshot {
        storage.apply_snapshot(snapshot.clone()).expect("newer than the one here");
    }
    storage.append(&ready.entries);
    if let Some(hard_state) = ready.hard_state {
        storage.set_hard_state(hard_state);
    }
}

/// Peers could commit any change; what is impossible is refused.
fn apply(node: &mut Node, entry: &Entry) {
    let change = match entry.entry_type {
        EntryType::Normal => return,
        EntryType::ConfChange => {
            ConfChange::decode(entry.data.clone()).map(|change| change.to_v2())
        }
        EntryType::ConfChangeV2 => ConfChangeV2::decode(entry.data.clone()),
    };
    if let Ok(change) = change {
        let _ = node.apply_conf_change(&change);
    }
}
