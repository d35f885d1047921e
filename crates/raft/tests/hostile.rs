//! Whatever a peer sends, in whatever order, is handled or refused. It never panics.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use raft::{
    ConfState, Config, Entry, EntryType, MemoryStorage, Message, MessageType, Peer, RawNode,
    ReadOnlyOption, Snapshot, SnapshotMetadata,
};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        10 => 0..8u64,
        1 => Just(u64::MAX),
        1 => Just(u64::MAX - 1),
        1 => Just(u64::MAX - 2),
        1 => any::<u64>(),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let entry_type = prop_oneof![
        4 => Just(EntryType::Normal),
        1 => Just(EntryType::ConfChange),
        1 => Just(EntryType::ConfChangeV2),
    ];
    (number(), number(), entry_type, vec(0..20u8, 0..6)).prop_map(
        |(term, index, entry_type, data)| Entry { term, index, entry_type, data: data.into() },
    )
}

/// Half of all entries continue the message, as those of a correct leader do.
fn entries() -> impl Strategy<Value = (bool, Vec<Entry>)> {
    (any::<bool>(), vec(entry(), 0..4))
}

fn snapshot() -> impl Strategy<Value = Option<Box<Snapshot>>> {
    let ids = || vec(number(), 0..4);
    let conf_state = (ids(), ids(), ids(), ids(), any::<bool>()).prop_map(|lists| ConfState {
        voters: lists.0,
        learners: lists.1,
        voters_outgoing: lists.2,
        learners_next: lists.3,
        auto_leave: Some(lists.4),
    });
    let conf_state = prop_oneof![conf_state, Just(ConfState::from_voters(vec![1, 2, 3]))];
    (any::<bool>(), conf_state, number(), number()).prop_map(|(some, conf_state, index, term)| {
        let metadata = SnapshotMetadata { conf_state, index, term };
        some.then(|| Box::new(Snapshot { data: Bytes::new(), metadata }))
    })
}

fn message() -> impl Strategy<Value = Message> {
    let names = [
        "MsgHup",
        "MsgBeat",
        "MsgProp",
        "MsgApp",
        "MsgApp",
        "MsgApp",
        "MsgAppResp",
        "MsgAppResp",
        "MsgVote",
        "MsgVoteResp",
        "MsgVoteResp",
        "MsgSnap",
        "MsgSnap",
        "MsgHeartbeat",
        "MsgHeartbeatResp",
        "MsgUnreachable",
        "MsgSnapStatus",
        "MsgCheckQuorum",
        "MsgTransferLeader",
        "MsgTimeoutNow",
        "MsgReadIndex",
        "MsgReadIndexResp",
        "MsgPreVote",
        "MsgPreVoteResp",
        "MsgStorageAppend",
        "MsgStorageAppendResp",
        "MsgStorageApply",
        "MsgStorageApplyResp",
        "MsgForgetLeader",
    ];
    let context = prop_oneof![
        Just(Bytes::new()),
        Just(Bytes::from_static(b"CampaignTransfer")),
        number().prop_map(|n| Bytes::from(n.to_le_bytes().to_vec())),
        vec(any::<u8>(), 0..10).prop_map(Bytes::from),
    ];
    (
        (0..names.len(), number(), number(), number(), number()),
        (number(), number(), any::<bool>(), number(), context),
        (entries(), snapshot()),
    )
        .prop_map(move |(a, b, (mut entries, snapshot))| {
            let (log_term, index) = (a.4, b.0);
            if entries.0 {
                let mut next = index;
                for entry in &mut entries.1 {
                    next = next.wrapping_add(1);
                    entry.index = next;
                    entry.term = log_term.max(1);
                }
            }
            Message {
                msg_type: MessageType::from_name(names[a.0]).expect("a name"),
                to: a.1,
                from: a.2,
                term: a.3,
                log_term,
                index,
                entries: entries.1,
                commit: b.1,
                reject: b.2,
                reject_hint: b.3,
                context: b.4,
                snapshot,
                ..Message::default()
            }
        })
}

fn handle_ready(node: &mut RawNode<MemoryStorage>) {
    while node.has_ready() {
        let ready = node.ready();
        let storage = node.storage_mut();
        if let Some(snapshot) = &ready.snapshot {
            storage.apply_snapshot(snapshot.clone()).expect("newer");
        }
        storage.append(&ready.entries);
        if let Some(hard_state) = ready.hard_state {
            storage.set_hard_state(hard_state);
        }
        // Changes of the configuration are refused by this application: peers could commit any.
        node.advance(ready);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_message_of_a_peer_panics(
        (leads, pre_vote, check_quorum, lease) in any::<(bool, bool, bool, bool)>(),
        messages in vec((message(), any::<bool>(), 0..4u32), 1..40),
    ) {
        let read_only_option = if lease && check_quorum {
            ReadOnlyOption::LeaseBased
        } else {
            ReadOnlyOption::Safe
        };
        let config = Config { pre_vote, check_quorum, read_only_option, ..Config::new(1) };
        let mut node = RawNode::new(config, MemoryStorage::new()).expect("a valid config");
        let peers = [1, 2, 3].map(|id| Peer { id, ..Peer::default() });
        node.bootstrap(&peers).expect("an empty storage");
        handle_ready(&mut node);
        if leads {
            node.campaign().expect("a voter");
            handle_ready(&mut node);
            let term = node.basic_status().hard_state.term;
            let types = [MessageType::PreVoteResp, MessageType::VoteResp];
            for (msg_type, term) in types.into_iter().zip([term + 1, term + u64::from(pre_vote)]) {
                let m = Message { msg_type, from: 2, to: 1, term, ..Message::default() };
                node.step(m).expect("a vote");
                handle_ready(&mut node);
            }
        }
        for (m, is_handled, ticks) in messages {
            // an error is fine
            let _ = node.step(m);
            for _ in 0..ticks {
                node.tick();
            }
            if is_handled {
                handle_ready(&mut node);
            }
        }
        handle_ready(&mut node);
    }
}
