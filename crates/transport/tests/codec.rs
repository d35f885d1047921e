//! The formats of the streams: what is written is read back however the bytes are cut, what is known from
//! etcd is written to the byte, and nothing that arrives makes a decoder panic or take much memory.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use raft::{Entry, EntryType, Message, MessageType};
use transport::codec::{
    AppendDecoder, AppendEncoder, CodecError, MessageDecoder, MessageEncoder, link_heartbeat,
};

const LOCAL: u64 = 0xb4e4_926e_85f2_3147;
const REMOTE: u64 = 0x5520_9a07_e772_ae46;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let value = |digit: u8| char::from(digit).to_digit(16).expect("a digit") as u8;
    digits.chunks(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

/// Feeds `bytes` in pieces of these sizes, over and over.
fn append_decode(bytes: &[u8], sizes: &[usize]) -> Result<Vec<Message>, CodecError> {
    let mut decoder = AppendDecoder::new(LOCAL, REMOTE);
    let mut messages = Vec::new();
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    while !rest.is_empty() {
        let (part, tail) = rest.split_at(rest.len().min(*sizes.next().unwrap_or(&1)));
        rest = tail;
        decoder.push(part);
        while let Some(message) = decoder.next_message()? {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn message_decode(bytes: &[u8], sizes: &[usize]) -> Result<Vec<Message>, CodecError> {
    let mut decoder = MessageDecoder::stream();
    let mut messages = Vec::new();
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    while !rest.is_empty() {
        let (part, tail) = rest.split_at(rest.len().min(*sizes.next().unwrap_or(&1)));
        rest = tail;
        decoder.push(part);
        while let Some(message) = decoder.next_message()? {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn app(term: u64, index: u64, entries: Vec<Entry>, commit: u64) -> Message {
    Message {
        msg_type: MessageType::App,
        from: REMOTE,
        to: LOCAL,
        term,
        log_term: term,
        index,
        entries,
        commit,
        ..Message::default()
    }
}

fn entry(term: u64, index: u64, data: &'static [u8]) -> Entry {
    Entry { term, index, entry_type: EntryType::Normal, data: Bytes::from_static(data) }
}

#[test]
fn the_link_heartbeat_is_etcds() {
    let mut bytes = Vec::new();
    AppendEncoder::default().encode(&link_heartbeat(), &mut bytes);
    assert_eq!(bytes, [0]);
    bytes.clear();
    MessageEncoder::encode(&link_heartbeat(), &mut bytes);
    assert_eq!(bytes, unhex("0000000000000002 0808"));
}

#[test]
fn appends_of_a_leader_are_etcds() {
    let mut encoder = AppendEncoder::default();
    let mut bytes = Vec::new();
    // The first after an election refers to an older term, so it goes as a whole.
    let first = Message { log_term: 1, ..app(2, 3, vec![entry(2, 4, b"")], 3) };
    encoder.encode(&first, &mut bytes);
    let whole = first.encode_to_vec();
    let mut expected = unhex("02 00000000000000");
    expected.push(whole.len() as u8);
    expected.extend(&whole);
    assert_eq!(bytes, expected);
    // What continues it says no more than the entries and the commit index.
    bytes.clear();
    let second = app(2, 4, vec![entry(2, 5, b"x")], 4);
    encoder.encode(&second, &mut bytes);
    assert_eq!(
        bytes,
        unhex("01 0000000000000001 0000000000000007 10021805220178 0000000000000004")
    );
    // And what carries a commit index alone.
    bytes.clear();
    let third = app(2, 5, vec![], 5);
    encoder.encode(&third, &mut bytes);
    assert_eq!(bytes, unhex("01 0000000000000000 0000000000000005"));
    // A probe from an older index does not continue anything.
    bytes.clear();
    encoder.encode(&app(2, 3, vec![], 5), &mut bytes);
    assert_eq!(bytes[0], 2);
}

#[test]
fn lengths_beyond_the_limit_are_refused_at_once() {
    let cases = [
        ("03", CodecError::UnknownType(3)),
        ("02 0000000020000001", CodecError::LimitExceeded),
        ("02 ffffffffffffffff", CodecError::LimitExceeded),
        ("01 0000000000100001", CodecError::LimitExceeded),
        ("01 0000000000000001 0000000020000001", CodecError::LimitExceeded),
        // The last index that there is, and one more.
        (
            "02 000000000000000d 0803 30ffffffffffffffffff01
          01 0000000000000001 0000000000000000 0000000000000000",
            CodecError::IndexOverflow,
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(append_decode(&unhex(text), &[1]), Err(expected), "{text}");
    }
    let too_long = Err(CodecError::LimitExceeded);
    assert_eq!(message_decode(&unhex("0000000020000001"), &[8]), too_long);
    let mut snapshot = MessageDecoder::snapshot();
    snapshot.push(&unhex("0000000004000001"));
    assert_eq!(snapshot.next_message(), Err(CodecError::LimitExceeded));
}

#[test]
fn what_is_behind_a_snapshots_message_is_kept() {
    let message = Message { msg_type: MessageType::Snap, from: 1, to: 2, ..Message::default() };
    let mut bytes = Vec::new();
    MessageEncoder::encode(&message, &mut bytes);
    bytes.extend(b"the database");
    let mut decoder = MessageDecoder::snapshot();
    decoder.push(&bytes);
    assert_eq!(decoder.next_message(), Ok(Some(message)));
    assert_eq!(decoder.into_rest(), Bytes::from_static(b"the database"));
}

prop_compose! {
    /// Entries that may continue each other, or not.
    fn append()(
        term in 1..4_u64,
        log_term in 0..4_u64,
        index in 0..8_u64,
        continues in any::<bool>(),
        payloads in vec(vec(any::<u8>(), 0..40), 0..4),
        commit in 0..9_u64,
    ) -> (bool, Message) {
        let mut message = app(term, index, Vec::new(), commit);
        message.log_term = log_term;
        message.entries = payloads
            .into_iter()
            .zip(index + 1..)
            .map(|(data, index)| Entry { term, index, data: data.into(), ..Entry::default() })
            .collect();
        (continues, message)
    }
}

prop_compose! {
    fn any_message()(
        name in 0..24_usize,
        ids in any::<[u64; 3]>(),
        numbers in any::<[u64; 4]>(),
        reject in any::<bool>(),
        context in vec(any::<u8>(), 0..20),
    ) -> Message {
        let names = [MessageType::App, MessageType::Heartbeat, MessageType::Vote,
            MessageType::ReadIndex, MessageType::AppResp, MessageType::Prop];
        Message {
            msg_type: names[name % names.len()],
            to: ids[0],
            from: ids[1],
            term: ids[2],
            log_term: numbers[0],
            index: numbers[1],
            commit: numbers[2],
            reject,
            reject_hint: if reject { numbers[3] } else { 0 },
            context: context.into(),
            ..Message::default()
        }
    }
}

proptest! {
    #[test]
    fn appends_are_read_back_however_they_are_cut(
        appends in vec(append(), 1..12),
        sizes in vec(1..50_usize, 1..5),
    ) {
        let mut sent: Vec<Message> = Vec::new();
        for (continues, mut message) in appends {
            if continues && let Some(before) = sent.last() {
                let at = before.entries.last().map_or(before.index, |entry| entry.index);
                message.term = before.term;
                message.log_term = before.term;
                message.index = at;
                for (entry, index) in message.entries.iter_mut().zip(at + 1..) {
                    entry.index = index;
                }
            }
            sent.push(message);
        }
        let mut encoder = AppendEncoder::default();
        let mut bytes = Vec::new();
        for message in &sent {
            encoder.encode(message, &mut bytes);
        }
        prop_assert_eq!(append_decode(&bytes, &sizes), Ok(sent));
    }

    #[test]
    fn messages_are_read_back_however_they_are_cut(
        sent in vec(any_message(), 0..8),
        sizes in vec(1..50_usize, 1..5),
    ) {
        let mut bytes = Vec::new();
        for message in &sent {
            MessageEncoder::encode(message, &mut bytes);
        }
        prop_assert_eq!(message_decode(&bytes, &sizes), Ok(sent));
    }

    #[test]
    fn any_bytes_are_messages_or_an_error(
        bytes in vec(any::<u8>(), 0..200),
        kind in 0..4_u8,
        sizes in vec(1..50_usize, 1..5),
    ) {
        // The result does not depend on how the bytes are cut, and decoding ends.
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let whole = append_decode(&bytes, &[usize::MAX]);
        prop_assert_eq!(whole.is_err(), append_decode(&bytes, &sizes).is_err());
        for at in 1..bytes.len().min(8) {
            bytes[at - 1] = 0;
        }
        let whole = message_decode(&bytes, &[usize::MAX]);
        prop_assert_eq!(whole.is_err(), message_decode(&bytes, &sizes).is_err());
    }
}
