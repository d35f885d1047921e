//! The hand-written codec against the one generated from etcd's .proto.

use api::raftpb as proto;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use prost::Message as _;
use raft::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
    DecodeError, Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), 0..300u64, any::<u64>()]
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn numbers() -> impl Strategy<Value = Vec<u64>> {
    vec(number(), 0..4)
}

// ---- generated messages, each field set or not ----

fn proto_entry() -> impl Strategy<Value = proto::Entry> {
    (option::of(number()), option::of(number()), option::of(0..3), option::of(data()))
        .prop_map(|(term, index, r#type, data)| proto::Entry { term, index, r#type, data })
}

fn proto_conf_state() -> impl Strategy<Value = proto::ConfState> {
    (numbers(), numbers(), numbers(), numbers(), option::of(any::<bool>())).prop_map(
        |(voters, learners, voters_outgoing, learners_next, auto_leave)| proto::ConfState {
            voters,
            learners,
            voters_outgoing,
            learners_next,
            auto_leave,
        },
    )
}

fn proto_snapshot() -> impl Strategy<Value = proto::Snapshot> {
    let metadata = (option::of(proto_conf_state()), option::of(number()), option::of(number()))
        .prop_map(|(conf_state, index, term)| proto::SnapshotMetadata { conf_state, index, term });
    (option::of(data()), option::of(metadata))
        .prop_map(|(data, metadata)| proto::Snapshot { data, metadata })
}

fn proto_message() -> impl Strategy<Value = proto::Message> {
    let plain = (
        (option::of(0..24), option::of(number()), option::of(number()), option::of(number())),
        (option::of(number()), option::of(number()), option::of(number()), option::of(number())),
        (option::of(any::<bool>()), option::of(number()), option::of(data())),
        (vec(proto_entry(), 0..4), option::of(proto_snapshot())),
    )
        .prop_map(|(a, b, c, d)| proto::Message {
            r#type: a.0,
            to: a.1,
            from: a.2,
            term: a.3,
            log_term: b.0,
            index: b.1,
            commit: b.2,
            vote: b.3,
            reject: c.0,
            reject_hint: c.1,
            context: c.2,
            entries: d.0,
            snapshot: d.1,
            responses: Vec::new(),
        });
    plain.prop_recursive(2, 6, 3, |inner| {
        (inner.clone(), vec(inner, 0..3))
            .prop_map(|(m, responses)| proto::Message { responses, ..m })
    })
}

fn proto_change() -> impl Strategy<Value = proto::ConfChangeV2> {
    let single = (option::of(0..4), option::of(number()))
        .prop_map(|(r#type, node_id)| proto::ConfChangeSingle { r#type, node_id });
    (option::of(0..3), vec(single, 0..4), option::of(data())).prop_map(
        |(transition, changes, context)| proto::ConfChangeV2 { transition, changes, context },
    )
}

// ---- what they mean ----

const TYPES: [ConfChangeType; 4] = [
    ConfChangeType::AddNode,
    ConfChangeType::RemoveNode,
    ConfChangeType::UpdateNode,
    ConfChangeType::AddLearnerNode,
];

fn to_entry(e: &proto::Entry) -> Entry {
    let types = [EntryType::Normal, EntryType::ConfChange, EntryType::ConfChangeV2];
    Entry {
        term: e.term.unwrap_or(0),
        index: e.index.unwrap_or(0),
        entry_type: types[e.r#type.unwrap_or(0) as usize],
        data: e.data.clone().unwrap_or_default(),
    }
}

fn to_conf_state(c: &proto::ConfState) -> ConfState {
    ConfState {
        voters: c.voters.clone(),
        learners: c.learners.clone(),
        voters_outgoing: c.voters_outgoing.clone(),
        learners_next: c.learners_next.clone(),
        auto_leave: c.auto_leave,
    }
}

fn to_snapshot(s: &proto::Snapshot) -> Snapshot {
    let metadata = s.metadata.clone().unwrap_or_default();
    Snapshot {
        data: s.data.clone().unwrap_or_default(),
        metadata: SnapshotMetadata {
            conf_state: to_conf_state(&metadata.conf_state.unwrap_or_default()),
            index: metadata.index.unwrap_or(0),
            term: metadata.term.unwrap_or(0),
        },
    }
}

fn to_message(m: &proto::Message) -> Message {
    let name = proto::MessageType::try_from(m.r#type.unwrap_or(0)).expect("in range").as_str_name();
    Message {
        msg_type: MessageType::from_name(name).expect("the same names"),
        to: m.to.unwrap_or(0),
        from: m.from.unwrap_or(0),
        term: m.term.unwrap_or(0),
        log_term: m.log_term.unwrap_or(0),
        index: m.index.unwrap_or(0),
        entries: m.entries.iter().map(to_entry).collect(),
        commit: m.commit.unwrap_or(0),
        vote: m.vote.unwrap_or(0),
        snapshot: m.snapshot.as_ref().map(|s| Box::new(to_snapshot(s))),
        reject: m.reject.unwrap_or(false),
        reject_hint: m.reject_hint.unwrap_or(0),
        context: m.context.clone().unwrap_or_default(),
        responses: m.responses.iter().map(to_message).collect(),
    }
}

fn to_change(c: &proto::ConfChangeV2) -> ConfChangeV2 {
    use ConfChangeTransition::{Auto, JointExplicit, JointImplicit};
    let single = |c: &proto::ConfChangeSingle| ConfChangeSingle {
        change_type: TYPES[c.r#type.unwrap_or(0) as usize],
        node_id: c.node_id.unwrap_or(0),
    };
    ConfChangeV2 {
        transition: [Auto, JointImplicit, JointExplicit][c.transition.unwrap_or(0) as usize],
        changes: c.changes.iter().map(single).collect(),
        context: c.context.clone().unwrap_or_default(),
    }
}

proptest! {
    #[test]
    fn any_presence_of_fields_is_understood_and_survives(m in proto_message()) {
        let ours = Message::decode(m.encode_to_vec().into()).expect("valid");
        assert_eq!(ours, to_message(&m));
        let again = ours.encode_to_vec();
        assert_eq!(again.len(), ours.encoded_len());
        let theirs = proto::Message::decode(&again[..]).expect("valid");
        assert_eq!(to_message(&theirs), ours);
    }

    #[test]
    fn changes_agree(c in proto_change(), id in number(), node_id in number(), kind in 0..4usize) {
        let ours = ConfChangeV2::decode(c.encode_to_vec().into()).expect("valid");
        assert_eq!(ours, to_change(&c));
        let theirs = proto::ConfChangeV2::decode(&ours.encode_to_vec()[..]).expect("valid");
        assert_eq!(to_change(&theirs), ours);
        assert_eq!(ours.encode_to_vec().len(), ours.encoded_len());

        let ours = ConfChange { change_type: TYPES[kind], node_id, context: Bytes::new(), id };
        let theirs = proto::ConfChange::decode(&ours.encode_to_vec()[..]).expect("valid");
        assert_eq!(theirs.r#type, Some(kind as i32));
        assert_eq!(theirs.node_id, Some(node_id));
        assert_eq!(theirs.context, None);
        assert_eq!(theirs.id, (id != 0).then_some(id));
        assert_eq!(ConfChange::decode_slice(&ours.encode_to_vec()), Ok(ours));
    }

    #[test]
    fn states_write_all_fields(term in number(), vote in number(), commit in number()) {
        let ours = HardState { term, vote, commit };
        let theirs = proto::HardState::decode(&ours.encode_to_vec()[..]).expect("valid");
        let all = proto::HardState { term: Some(term), vote: Some(vote), commit: Some(commit) };
        assert_eq!(theirs, all);
        assert_eq!(ours.encode_to_vec().len(), ours.encoded_len());
        assert_eq!(HardState::decode_slice(&ours.encode_to_vec()), Ok(ours));
    }

    #[test]
    fn damaged_bytes_are_refused_or_read_but_never_panic(
        m in proto_message(),
        cut in any::<usize>(),
        flips in vec((any::<usize>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = m.encode_to_vec();
        bytes.truncate(cut % (bytes.len() + 1));
        for (at, bits) in flips {
            if let Some(at) = at.checked_rem(bytes.len()) {
                bytes[at] ^= bits;
            }
        }
        // what it reads, it can write and read again
        if let Ok(m) = Message::decode(bytes.into()) {
            assert_eq!(Message::decode(m.encode_to_vec().into()), Ok(m));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Message::decode_slice(&bytes);
        let _ = Entry::decode_slice(&bytes);
        let _ = Snapshot::decode_slice(&bytes);
        let _ = ConfChangeV2::decode_slice(&bytes);
    }
}

#[test]
fn bytes_are_those_of_etcd() {
    let check = |m: Message, bytes: &[u8]| assert_eq!(m.encode_to_vec(), bytes, "{m:?}");
    let addressed = Message { to: 2, from: 1, term: 3, ..Message::default() };
    let with = |msg_type| Message { msg_type, ..addressed.clone() };
    // what keeps a stream alive
    let link = Message { msg_type: MessageType::Heartbeat, ..Message::default() };
    check(link, &[8, 8]);
    check(with(MessageType::Heartbeat), &[8, 8, 16, 2, 24, 1, 32, 3, 64, 0]);
    check(with(MessageType::App), &[8, 3, 16, 2, 24, 1, 32, 3, 40, 0, 48, 0, 64, 0]);
    check(with(MessageType::AppResp), &[8, 4, 16, 2, 24, 1, 32, 3]);
    let rejection = Message { reject: true, ..with(MessageType::AppResp) };
    check(rejection, &[8, 4, 16, 2, 24, 1, 32, 3, 40, 0, 48, 0, 80, 1, 88, 0]);
    check(with(MessageType::Vote), &[8, 5, 16, 2, 24, 1, 32, 3, 40, 0, 48, 0]);
    check(with(MessageType::VoteResp), &[8, 6, 16, 2, 24, 1, 32, 3]);
    let entry = Entry { data: Bytes::from_static(b"x"), ..Entry::default() };
    let proposal = Message { term: 0, entries: vec![entry], ..with(MessageType::Prop) };
    check(proposal, &[8, 2, 16, 2, 24, 1, 58, 3, 34, 1, b'x']);

    // a leader's empty entry; a founding member's configuration change; a joining member's state
    let empty = Entry { term: 2, index: 5, ..Entry::default() };
    assert_eq!(empty.encode_to_vec(), [16, 2, 24, 5]);
    let change = ConfChange { node_id: 7, ..ConfChange::default() };
    assert_eq!(change.encode_to_vec(), [16, 0, 24, 7]);
    assert_eq!(HardState::default().encode_to_vec(), [8, 0, 16, 0, 24, 0]);
    let conf_state = ConfState { auto_leave: Some(false), ..ConfState::from_voters(vec![1, 300]) };
    assert_eq!(conf_state.encode_to_vec(), [8, 1, 8, 0xac, 2, 40, 0]);
}

#[test]
fn unknown_fields_are_skipped() {
    // field 15 in each wire type, a group with a group in it, then index 9; voters also packed
    let varint = [0x78, 1];
    let fixed64 = [0x79, 0, 0, 0, 0, 0, 0, 0, 0];
    let bytes = [0x7a, 2, 0xff, 0xff];
    let group = [0x7b, 0x7b, 0x08, 1, 0x7c, 0x7c];
    let fixed32 = [0x7d, 0, 0, 0, 0];
    let index = [24, 9];
    let all = [&varint[..], &fixed64, &bytes, &group, &fixed32, &index].concat();
    assert_eq!(Entry::decode_slice(&all), Ok(Entry { index: 9, ..Entry::default() }));
    let voters = ConfState::from_voters(vec![1, 2, 3]);
    assert_eq!(ConfState::decode_slice(&[10, 2, 1, 2, 8, 3]), Ok(voters));
}

#[test]
fn malformed_bytes_have_an_error_each() {
    let check = |bytes: &[u8], error| assert_eq!(Message::decode_slice(bytes), Err(error));
    check(&[8], DecodeError::UnexpectedEof);
    check(&[58, 200, 1, 0], DecodeError::UnexpectedEof);
    check(
        &[58, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        DecodeError::UnexpectedEof,
    );
    let overlong = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
    check(&[&[8][..], &overlong].concat(), DecodeError::VarintOverflow);
    check(&[0, 0], DecodeError::InvalidFieldNumber);
    check(&[14], DecodeError::InvalidWireType);
    check(&[12], DecodeError::InvalidWireType);
    check(&[8, 99], DecodeError::UnknownEnumValue { name: "MessageType", value: 99 });
    let nest = |m: Vec<u8>| [vec![114, m.len() as u8], m].concat();
    let nested = (0..40).fold(Vec::new(), |m, _| nest(m));
    check(&nested, DecodeError::TooDeep);
}

#[test]
fn payloads_share_the_buffer() {
    let entry = Entry { data: Bytes::from(vec![7; 100]), ..Entry::default() };
    let m = Message { entries: vec![entry], ..Message::default() };
    let buffer = Bytes::from(m.encode_to_vec());
    let decoded = Message::decode(buffer.clone()).expect("valid");
    let range = buffer.as_ptr_range();
    assert!(range.contains(&decoded.entries[0].data.as_ptr()));
}
