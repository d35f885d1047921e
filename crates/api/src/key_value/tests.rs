//! The stored form: Go's bytes, and the same message as prost's.

use super::KeyValueRef;
use crate::mvccpb::KeyValue;
use crate::sample;
use crate::wire::{DecodeError, Encode};
use proptest::prelude::{Strategy, prop_assert_eq, prop_oneof, proptest};
use prost::Message;

fn to_ref(kv: &KeyValue) -> KeyValueRef<'_> {
    KeyValueRef {
        key: &kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: &kv.value,
        lease: kv.lease,
    }
}

proptest! {
    #[test]
    fn same_bytes_as_prost(kv in sample::key_value()) {
        let bytes = to_ref(&kv).encode_to_vec();
        prop_assert_eq!(&bytes, &kv.encode_to_vec());
        prop_assert_eq!(to_ref(&kv).encoded_len(), bytes.len());
        prop_assert_eq!(KeyValueRef::decode(&bytes), Ok(to_ref(&kv)));
    }

    #[test]
    fn hostile_bytes_are_read_as_prost_reads_them(
        bytes in prop_oneof![
            sample::hostile_bytes(),
            sample::damaged(sample::key_value().prop_map(|kv| kv.encode_to_vec())),
        ]
    ) {
        let ours = KeyValueRef::decode(&bytes);
        if let Ok(kv) = KeyValue::decode(bytes.as_slice()) {
            prop_assert_eq!(ours, Ok(to_ref(&kv)));
        }
    }
}

#[test]
fn bytes_are_gos() {
    let kv = KeyValueRef {
        key: b"foo",
        create_revision: 2,
        mod_revision: 300,
        version: 1,
        value: b"bar",
        lease: -1,
    };
    let mut expected = b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x01\x2a\x03bar\x30".to_vec();
    expected.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    assert_eq!(kv.encode_to_vec(), expected);
    assert_eq!(KeyValueRef::default().encode_to_vec(), b"");
    assert_eq!(KeyValueRef::tombstone(b"foo").encode_to_vec(), b"\x0a\x03foo");
    assert_eq!(KeyValueRef::deleted(b"foo", 7).encode_to_vec(), b"\x0a\x03foo\x18\x07");
}

#[test]
fn a_field_of_another_type_is_unknown_as_in_go() {
    let kv = KeyValueRef::decode(b"\x08\x01\x12\x03abc\x2a\x01v").expect("well-formed");
    assert_eq!(kv, KeyValueRef { value: b"v", ..KeyValueRef::default() });
    assert_eq!(KeyValueRef::decode(b"\x0a\x05abc"), Err(DecodeError::Truncated));
}
