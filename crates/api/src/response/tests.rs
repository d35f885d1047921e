//! Each response must be the bytes prost writes for the same message.

use super::{
    DeleteRangeResponseRef, EventRef, LeaseKeepAliveResponseRef, PutResponseRef, RangeResponseRef,
    RangeStreamResponseRef, ResponseOpRef, TxnResponseRef, WatchResponseRef,
};
use crate::etcdserverpb::response_op::Response;
use crate::etcdserverpb::{
    DeleteRangeResponse, LeaseKeepAliveResponse, PutResponse, RangeResponse, RangeStreamResponse,
    ResponseHeader, ResponseOp, TxnResponse, WatchResponse,
};
use crate::frame::encode_spliced;
use crate::mvccpb::event::EventType;
use crate::mvccpb::{Event, KeyValue};
use crate::sample;
use crate::splice::{SPLICE_MIN, Splices};
use crate::wire::Encode;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
use prost::Message;

/// A message's fields in both forms.
type Kvs = (Vec<KeyValue>, Vec<Bytes>);

fn same(
    ours: &impl Encode,
    theirs: &impl Message,
) -> Result<(), proptest::test_runner::TestCaseError> {
    prop_assert_eq!(ours.encode_to_vec(), theirs.encode_to_vec());
    prop_assert_eq!(ours.encoded_len(), theirs.encoded_len());
    Ok(())
}

#[test]
fn long_rows_are_written_from_where_they_lie() {
    let row = |len: usize| Bytes::from(vec![b'r'; len]);
    let kvs = [row(10), row(SPLICE_MIN), row(SPLICE_MIN - 1), row(9000), row(0)];
    let event = EventRef { event_type: EventType::Put, kv: &kvs[3], prev_kv: Some(&kvs[1]) };
    let range = RangeResponseRef { kvs: &kvs, more: true, count: 9, ..Default::default() };
    let events = WatchResponseRef { events: [event, event].into_iter(), ..Default::default() };
    let long = |message: &dyn Fn(&mut Vec<u8>, &mut Splices) -> Vec<u8>| {
        let (mut buffer, mut splices) = (Vec::new(), Splices::default());
        let whole = message(&mut buffer, &mut splices);
        let pieces: Vec<&[u8]> = splices.pieces(&buffer, 0).collect();
        assert!(pieces.concat() == whole, "the same bytes");
        let places = kvs.each_ref().map(|row| row.as_ptr());
        let shared = pieces.iter().filter_map(|piece| {
            places.iter().position(|place| !piece.is_empty() && *place == piece.as_ptr())
        });
        shared.collect::<Vec<_>>()
    };
    let shared = long(&|buffer, splices| {
        encode_spliced(buffer, splices, &RangeStreamResponseRef { range_response: range })
            .expect("not too large");
        let mut whole = Vec::new();
        crate::frame::encode(&mut whole, &RangeStreamResponseRef { range_response: range })
            .expect("not too large");
        whole
    });
    assert_eq!(shared, [1, 3]);
    let shared = long(&|buffer, splices| {
        encode_spliced(buffer, splices, &events).expect("not too large");
        let mut whole = Vec::new();
        crate::frame::encode(&mut whole, &events).expect("not too large");
        whole
    });
    assert_eq!(shared, [3, 1, 3, 1]);
}

fn first(kvs: &Kvs) -> (Option<KeyValue>, Option<&Bytes>) {
    (kvs.0.first().cloned(), kvs.1.first())
}

/// One event in both forms.
fn event() -> impl Strategy<Value = (Event, Bytes, Option<Bytes>)> {
    (any::<bool>(), sample::key_value(), option::of(sample::key_value())).prop_map(
        |(delete, kv, prev_kv)| {
            let encoded = Bytes::from(kv.encode_to_vec());
            let prev_encoded = prev_kv.as_ref().map(|kv| Bytes::from(kv.encode_to_vec()));
            let r#type = i32::from(delete);
            (Event { r#type, kv: Some(kv), prev_kv }, encoded, prev_encoded)
        },
    )
}

proptest! {
    #[test]
    fn range(
        header in sample::header(),
        kvs in sample::key_values(),
        more in any::<bool>(),
        count in sample::int64(),
    ) {
        let theirs = RangeResponse { header, kvs: kvs.0, more, count };
        let ours = RangeResponseRef { header, kvs: &kvs.1, more, count };
        same(&ours, &theirs)?;
        let chunk = RangeStreamResponse { range_response: Some(theirs) };
        same(&RangeStreamResponseRef { range_response: ours }, &chunk)?;
    }

    #[test]
    fn put(header in sample::header(), kvs in sample::key_values()) {
        let (kv, raw) = first(&kvs);
        let theirs = PutResponse { header, prev_kv: kv };
        same(&PutResponseRef { header, prev_kv: raw }, &theirs)?;
    }

    #[test]
    fn delete_range(
        header in sample::header(),
        kvs in sample::key_values(),
        deleted in sample::int64(),
    ) {
        let theirs = DeleteRangeResponse { header, deleted, prev_kvs: kvs.0 };
        same(&DeleteRangeResponseRef { header, deleted, prev_kvs: &kvs.1 }, &theirs)?;
    }

    #[test]
    fn txn(
        header in sample::header(),
        kvs in sample::key_values(),
        succeeded in any::<bool>(),
        depth in 0..4usize,
    ) {
        let (mut theirs, mut ours) = flat_txn(header, &kvs, succeeded);
        for _ in 0..depth {
            // As etcd answers a nested transaction: a header that is there and empty.
            theirs.header = Some(ResponseHeader::default());
            ours.header = Some(ResponseHeader::default());
            let (mut outer, mut outer_ref) = flat_txn(header, &kvs, !succeeded);
            outer.responses.push(ResponseOp { response: Some(Response::ResponseTxn(theirs)) });
            outer_ref.responses.push(ResponseOpRef::Txn(ours));
            (theirs, ours) = (outer, outer_ref);
        }
        same(&ours, &theirs)?;
    }

    #[test]
    fn watch(
        header in sample::header(),
        ids in (sample::int64(), sample::int64()),
        flags in (any::<bool>(), any::<bool>(), any::<bool>()),
        cancel_reason in any::<String>(),
        events in vec(event(), 0..4),
    ) {
        let (watch_id, compact_revision) = ids;
        let (created, canceled, fragment) = flags;
        let ours = WatchResponseRef {
            header,
            watch_id,
            created,
            canceled,
            compact_revision,
            cancel_reason: &cancel_reason,
            fragment,
            events: events.iter().map(|(event, kv, prev_kv)| EventRef {
                event_type: event.r#type(),
                kv,
                prev_kv: prev_kv.as_ref(),
            }),
        };
        let theirs = WatchResponse {
            header,
            watch_id,
            created,
            canceled,
            compact_revision,
            cancel_reason: cancel_reason.clone(),
            fragment,
            events: events.iter().map(|(event, _, _)| event.clone()).collect(),
        };
        same(&ours, &theirs)?;
    }

    #[test]
    fn lease_keep_alive(header in sample::header(), id in sample::int64(), ttl in sample::int64()) {
        let theirs = LeaseKeepAliveResponse { header, id, ttl };
        same(&LeaseKeepAliveResponseRef { header, id, ttl }, &theirs)?;
    }
}

/// A transaction with one response of each kind but a transaction, in both forms.
fn flat_txn(
    header: Option<ResponseHeader>,
    kvs: &Kvs,
    succeeded: bool,
) -> (TxnResponse, TxnResponseRef<'_>) {
    let (kv, raw) = first(kvs);
    let range = RangeResponse { header, kvs: kvs.0.clone(), more: succeeded, count: 3 };
    let delete = DeleteRangeResponse { header, deleted: 2, prev_kvs: kvs.0.clone() };
    let responses = [
        Response::ResponseRange(range),
        Response::ResponsePut(PutResponse { header, prev_kv: kv }),
        Response::ResponseDeleteRange(delete),
    ];
    let responses = responses.map(|response| ResponseOp { response: Some(response) }).to_vec();
    let refs = vec![
        ResponseOpRef::Range(RangeResponseRef { header, kvs: &kvs.1, more: succeeded, count: 3 }),
        ResponseOpRef::Put(PutResponseRef { header, prev_kv: raw }),
        ResponseOpRef::DeleteRange(DeleteRangeResponseRef { header, deleted: 2, prev_kvs: &kvs.1 }),
    ];
    (
        TxnResponse { header, succeeded, responses },
        TxnResponseRef { header, succeeded, responses: refs },
    )
}

#[test]
fn a_delete_event_is_gos() {
    let kv = Bytes::from_static(b"\x0a\x01k\x18\x07");
    let event = EventRef { event_type: EventType::Delete, kv: &kv, prev_kv: None };
    assert_eq!(event.encode_to_vec(), b"\x08\x01\x12\x05\x0a\x01k\x18\x07");
}
