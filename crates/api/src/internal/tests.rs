//! Log entries against prost: every operation in its place, both ways.

use super::{InternalRequestRef, OpRef};
use crate::etcdserverpb::{InternalRaftRequest, PutRequest, RequestHeader};
use crate::membershippb::ClusterVersionSetRequest;
use crate::sample;
use crate::wire::{DecodeError, Encode};
use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};
use prost::Message;

/// All operations' numbers.
fn numbers() -> impl Iterator<Item = u32> {
    (0..10_000).filter(|number| OpRef::new(*number, b"").is_some())
}

fn header() -> impl Strategy<Value = RequestHeader> {
    (sample::uint64(), any::<String>(), sample::uint64())
        .prop_map(|(id, username, auth_revision)| RequestHeader { id, username, auth_revision })
}

fn to_ref<'a>(header: &'a RequestHeader, op: Option<OpRef<'a>>) -> InternalRequestRef<'a> {
    let RequestHeader { id, username, auth_revision } = header;
    InternalRequestRef { id: *id, username, auth_revision: *auth_revision, op }
}

proptest! {
    #[test]
    fn same_bytes_as_prost(header in header(), put in sample::put_request(), ver in any::<String>()) {
        let message = put.encode_to_vec();
        let ours = to_ref(&header, Some(OpRef::Put(&message)));
        let theirs = InternalRaftRequest {
            header: Some(header.clone()),
            put: Some(put),
            ..InternalRaftRequest::default()
        };
        let bytes = ours.encode_to_vec();
        prop_assert_eq!(&bytes, &theirs.encode_to_vec());
        prop_assert_eq!(ours.encoded_len(), bytes.len());
        prop_assert_eq!(InternalRequestRef::decode(&bytes), Ok(ours));

        let version = ClusterVersionSetRequest { ver };
        let message = version.encode_to_vec();
        let ours = to_ref(&header, Some(OpRef::ClusterVersionSet(&message)));
        let theirs = InternalRaftRequest {
            header: Some(header.clone()),
            cluster_version_set: Some(version),
            ..InternalRaftRequest::default()
        };
        prop_assert_eq!(ours.encode_to_vec(), theirs.encode_to_vec());
    }

    #[test]
    fn hostile_bytes_are_read_as_prost_reads_them(
        bytes in prop_oneof![
            sample::hostile_bytes(),
            sample::damaged((header(), sample::put_request()).prop_map(|(header, put)| {
                let message = put.encode_to_vec();
                to_ref(&header, Some(OpRef::Put(&message))).encode_to_vec()
            })),
        ]
    ) {
        let ours = InternalRequestRef::decode(&bytes);
        let theirs = InternalRaftRequest::decode(bytes.as_slice());
        if let Ok(theirs) = theirs && ours != Err(DecodeError::Ambiguous) {
            let ours = ours.expect("prost reads it");
            let header = theirs.header.clone().unwrap_or_default();
            let id = if theirs.id == 0 { header.id } else { theirs.id };
            let header = RequestHeader { id, ..header };
            prop_assert_eq!(ours, to_ref(&header, ours.op));
            let header = Some(header);
            let normalised = InternalRaftRequest { id: 0, header, ..theirs };
            prop_assert_eq!(InternalRaftRequest::decode(ours.encode_to_vec().as_slice()), Ok(normalised));
        }
    }
}

#[test]
fn an_entry_is_gos() {
    let put = PutRequest { key: "foo".into(), value: "bar".into(), ..PutRequest::default() };
    let message = put.encode_to_vec();
    let entry = InternalRequestRef {
        id: 0x81,
        username: "root",
        auth_revision: 3,
        op: Some(OpRef::Put(&message)),
    };
    let expected = b"\x22\x0a\x0a\x03foo\x12\x03bar\xa2\x06\x0b\x08\x81\x01\x12\x04root\x18\x03";
    assert_eq!(entry.encode_to_vec(), expected);
    let enable =
        InternalRequestRef { id: 5, op: Some(OpRef::AuthEnable(b"")), ..Default::default() };
    assert_eq!(enable.encode_to_vec(), b"\xa2\x06\x02\x08\x05\xc2\x3e\x00");
    assert_eq!(InternalRequestRef::decode(b"\xa2\x06\x02\x08\x05\xc2\x3e\x00"), Ok(enable));
}

#[test]
fn every_operation_stands_under_its_number() {
    assert_eq!(numbers().count(), 30);
    for number in numbers() {
        let op = OpRef::new(number, b"").expect("filtered");
        assert_eq!((op.number(), op.message()), (number, &b""[..]));
        let entry = InternalRequestRef { id: 1, op: Some(op), ..Default::default() };
        let bytes = entry.encode_to_vec();
        assert_eq!(InternalRequestRef::decode(&bytes), Ok(entry));
        // prost knows the field too, or it would drop it here.
        let theirs = InternalRaftRequest::decode(bytes.as_slice()).expect("well-formed");
        assert_eq!(theirs.encode_to_vec(), bytes, "field {number}");
    }
}

#[test]
fn what_no_member_writes_is_refused() {
    let check = |bytes: &[u8], error| assert_eq!(InternalRequestRef::decode(bytes), Err(error));
    check(b"\x22\x00\x22\x00", DecodeError::Ambiguous);
    check(b"\x1a\x00\x22\x00", DecodeError::Ambiguous);
    check(b"\xa2\x06\x00\xa2\x06\x00", DecodeError::Ambiguous);
    check(b"\xa2\x06\x03\x12\x01\xff", DecodeError::Utf8);
    check(b"\x22\x05", DecodeError::Truncated);
}

#[test]
fn unknown_operations_are_left_to_the_caller() {
    let decoded = InternalRequestRef::decode(b"\xa2\x06\x02\x08\x05\x8a\x7d\x02hi");
    assert_eq!(decoded, Ok(InternalRequestRef { id: 5, ..Default::default() }));
    let legacy = InternalRequestRef::decode(b"\x08\x09\xa2\x06\x02\x08\x05\x22\x00");
    let op = Some(OpRef::Put(b""));
    assert_eq!(legacy, Ok(InternalRequestRef { id: 9, op, ..Default::default() }));
}
