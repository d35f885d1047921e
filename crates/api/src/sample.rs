//! Random messages and hostile bytes for the tests of the codecs.

use crate::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
    compare::TargetUnion, request_op::Request,
};
use crate::mvccpb::KeyValue;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use prost::Message;

/// Keys and values: often empty, sometimes longer than one byte of length can say.
pub(crate) fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        2 => Just(Bytes::new()),
        4 => vec(any::<u8>(), 1..12).prop_map(Bytes::from),
        1 => vec(any::<u8>(), 120..140).prop_map(Bytes::from),
    ]
}

/// Integers around every length of a varint, and zero and -1 often.
pub(crate) fn int64() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(0),
        Just(-1),
        Just(i64::MIN),
        (0..63u32, -1..=1i64).prop_map(|(bit, by)| (1i64 << bit).wrapping_add(by)),
        any::<i64>(),
    ]
}

/// The same without a sign.
pub(crate) fn uint64() -> impl Strategy<Value = u64> {
    int64().prop_map(i64::cast_unsigned)
}

pub(crate) fn header() -> impl Strategy<Value = Option<ResponseHeader>> {
    let fields = (uint64(), uint64(), int64(), uint64());
    option::of(fields.prop_map(|(cluster_id, member_id, revision, raft_term)| ResponseHeader {
        cluster_id,
        member_id,
        revision,
        raft_term,
    }))
}

pub(crate) fn key_value() -> impl Strategy<Value = KeyValue> {
    (bytes(), int64(), int64(), int64(), bytes(), int64()).prop_map(
        |(key, create_revision, mod_revision, version, value, lease)| KeyValue {
            key,
            create_revision,
            mod_revision,
            version,
            value,
            lease,
        },
    )
}

/// Messages and their encodings, in the same order.
pub(crate) fn key_values() -> impl Strategy<Value = (Vec<KeyValue>, Vec<Bytes>)> {
    vec(key_value(), 0..4).prop_map(|kvs| {
        let encoded = kvs.iter().map(|kv| Bytes::from(kv.encode_to_vec())).collect();
        (kvs, encoded)
    })
}

pub(crate) fn range_request() -> impl Strategy<Value = RangeRequest> {
    let keys = (bytes(), bytes(), int64(), int64());
    let options = (any::<i32>(), any::<i32>(), any::<bool>(), any::<bool>(), any::<bool>());
    (keys, options, [int64(), int64(), int64(), int64()]).prop_map(|(keys, options, bounds)| {
        let (key, range_end, limit, revision) = keys;
        let (sort_order, sort_target, serializable, keys_only, count_only) = options;
        let [min_mod_revision, max_mod_revision, min_create_revision, max_create_revision] = bounds;
        RangeRequest {
            key,
            range_end,
            limit,
            revision,
            sort_order,
            sort_target,
            serializable,
            keys_only,
            count_only,
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        }
    })
}

pub(crate) fn put_request() -> impl Strategy<Value = PutRequest> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (bytes(), bytes(), int64(), flags).prop_map(|(key, value, lease, flags)| {
        let (prev_kv, ignore_value, ignore_lease) = flags;
        PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease }
    })
}

pub(crate) fn delete_range_request() -> impl Strategy<Value = DeleteRangeRequest> {
    (bytes(), bytes(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let union = prop_oneof![
        int64().prop_map(TargetUnion::Version),
        int64().prop_map(TargetUnion::CreateRevision),
        int64().prop_map(TargetUnion::ModRevision),
        bytes().prop_map(TargetUnion::Value),
        int64().prop_map(TargetUnion::Lease),
    ];
    (any::<i32>(), any::<i32>(), bytes(), bytes(), option::of(union)).prop_map(
        |(result, target, key, range_end, target_union)| Compare {
            result,
            target,
            key,
            range_end,
            target_union,
        },
    )
}

pub(crate) fn txn_request() -> impl Strategy<Value = TxnRequest> {
    let flat = vec(compare(), 0..3).prop_map(|compare| TxnRequest {
        compare,
        success: Vec::new(),
        failure: Vec::new(),
    });
    flat.boxed().prop_recursive(3, 24, 3, |inner| {
        let request = prop_oneof![
            range_request().prop_map(Request::RequestRange).boxed(),
            put_request().prop_map(Request::RequestPut).boxed(),
            delete_range_request().prop_map(Request::RequestDeleteRange).boxed(),
            inner.prop_map(Request::RequestTxn).boxed(),
        ]
        .boxed();
        let ops = vec(option::of(request).prop_map(|request| RequestOp { request }), 0..3).boxed();
        (vec(compare(), 0..3).boxed(), ops.clone(), ops)
            .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
    })
}

/// `count` transactions inside one another, encoded without recursion.
pub(crate) fn nested_txns(count: usize) -> Bytes {
    let mut message = Vec::new();
    for _ in 1..count {
        for tag in [0x22, 0x12] {
            let mut outer = vec![tag];
            prost::encoding::encode_varint(message.len() as u64, &mut outer);
            outer.append(&mut message);
            message = outer;
        }
    }
    message.into()
}

/// Bytes that nobody should send: noise, fields of any number and type, nested or cut short.
pub(crate) fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let noise = vec(any::<u8>(), 0..40).boxed();
    let number = prop_oneof![4 => 1..15u32, 1 => Just(64), 1 => Just(100), 1 => any::<u32>()];
    let field = (number, 0..8u32, noise.clone()).prop_map(|(number, wire_type, payload)| {
        let mut out = Vec::new();
        prost::encoding::encode_varint(u64::from(number.wrapping_shl(3) | wire_type), &mut out);
        if wire_type == 2 {
            prost::encoding::encode_varint(payload.len() as u64, &mut out);
        }
        out.extend(payload);
        out
    });
    let fields = vec(field, 0..6).prop_map(|fields| fields.concat()).boxed();
    let nested = (vec(0..8u8, 1..6), fields.clone()).prop_map(|(numbers, inner)| {
        numbers.into_iter().fold(inner, |inner, number| {
            let mut outer = vec![number << 3 | 2];
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            outer.extend(inner);
            outer
        })
    });
    prop_oneof![noise, fields, nested]
}

/// A valid encoding with one byte changed, removed or doubled, or cut short, or doubled whole.
pub(crate) fn damaged(message: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (message, any::<proptest::sample::Index>(), any::<u8>(), 0..5u8).prop_map(
        |(mut bytes, index, byte, how)| {
            if bytes.is_empty() {
                return bytes;
            }
            let at = index.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                3 => bytes.truncate(at),
                _ => bytes.extend_from_within(..),
            }
            bytes
        },
    )
}
