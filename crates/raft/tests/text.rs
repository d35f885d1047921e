//! Text forms, as the Go library prints them; its scripts show most of the others.

use raft::describe::{describe_message, describe_ready, quoted};
use raft::{
    ConfState, Config, HardState, MemoryStorage, Message, MessageType, RawNode, ReadState, Ready,
    Snapshot, SnapshotMetadata, SoftState, StateType,
};

fn leader() -> RawNode<MemoryStorage> {
    let mut storage = MemoryStorage::new();
    let conf_state = ConfState::from_voters(vec![10]);
    let metadata = SnapshotMetadata { conf_state, index: 8, term: 2 };
    storage.apply_snapshot(Snapshot { metadata, ..Snapshot::default() }).expect("the first");
    storage.set_hard_state(HardState { term: 2, vote: 0, commit: 8 });
    let mut node = RawNode::new(Config::new(10), storage).expect("valid");
    node.campaign().expect("a voter");
    while node.has_ready() {
        let ready = node.ready();
        node.storage_mut().append(&ready.entries);
        node.advance(ready);
    }
    node
}

#[test]
fn a_status_is_json() {
    let node = leader();
    assert_eq!(
        node.status().to_string(),
        r#"{"id":"a","term":3,"vote":"a","commit":9,"lead":"a","raftState":"StateLeader","applied":9,"progress":{"a":{"match":9,"next":10,"state":"StateReplicate"}},"leadtransferee":"0"}"#
    );
    let mut follower = node.status().to_owned();
    follower.progress = None;
    follower.basic.soft_state = SoftState { lead: 11, raft_state: StateType::Follower };
    follower.basic.lead_transferee = 11;
    assert_eq!(
        follower.to_string(),
        r#"{"id":"a","term":3,"vote":"a","commit":9,"lead":"b","raftState":"StateFollower","applied":9,"progress":{},"leadtransferee":"b"}"#
    );
}

#[test]
fn a_progress_is_one_line() {
    let node = leader();
    let text = node.status().progress.and_then(|all| all.get(10)).map(ToString::to_string);
    assert_eq!(text.as_deref(), Some("StateReplicate match=9 next=10"));
}

#[test]
fn a_ready_shows_its_read_states() {
    let ready = Ready {
        soft_state: Some(SoftState { lead: 3, raft_state: StateType::Follower }),
        read_states: vec![ReadState { index: 5, request_ctx: "ab".into() }],
        ..Ready::default()
    };
    assert_eq!(
        describe_ready(&ready, &quoted),
        "Ready MustSync=false:\nLead:3 State:StateFollower\nReadStates [{5 [97 98]}]\n"
    );
    assert_eq!(describe_ready(&Ready::default(), &quoted), "<empty Ready>");
}

#[test]
fn a_message_does_not_show_its_context() {
    let m = Message {
        msg_type: MessageType::Heartbeat,
        from: 3,
        to: 10,
        term: 3,
        commit: 9,
        context: "ctx".into(),
        ..Message::default()
    };
    assert_eq!(describe_message(&m, &quoted), "3->a MsgHeartbeat Term:3 Log:0/0 Commit:9");
}

#[test]
fn bytes_are_quoted_as_go_quotes_them() {
    let cases: [(&[u8], &str); 8] = [
        (b"a \"b\" \\", r#""a \"b\" \\""#),
        (b"\x00\x07\x08\x0c\n\r\t\x0b\x1f\x7f", r#""\x00\a\b\f\n\r\t\v\x1f\x7f""#),
        (b"\xff\xc3\x28", r#""\xff\xc3(""#),
        ("é 漢 😀 '".as_bytes(), "\"é 漢 😀 '\""),
        // marks that combine are printable, spaces other than the plain one are not
        ("\u{301}".as_bytes(), "\"\u{301}\""),
        ("\u{a0}\u{ad}\u{85}".as_bytes(), r#""\u00a0\u00ad\u0085""#),
        ("\u{2028}\u{feff}\u{e000}".as_bytes(), r#""\u2028\ufeff\ue000""#),
        ("\u{e0001}".as_bytes(), r#""\U000e0001""#),
    ];
    for (data, text) in cases {
        assert_eq!(quoted(data), text);
    }
}
