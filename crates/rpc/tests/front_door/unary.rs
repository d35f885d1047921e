use api::etcdserverpb as pb;
use api::mvccpb::KeyValue;
use pb::request_op::Request;
use pb::response_op::Response;

use crate::client::Client;
use crate::member::Member;

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

fn show(kvs: &[KeyValue]) -> String {
    let kvs = kvs.iter().map(|kv| {
        let text = |bytes: &bytes::Bytes| String::from_utf8_lossy(bytes).into_owned();
        format!("{}={}@{}", text(&kv.key), text(&kv.value), kv.mod_revision)
    });
    kvs.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_key_is_put_read_and_deleted() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let answer = client.call("/etcdserverpb.KV/Put", &put("a", "1")).await;
    assert_eq!((answer.http_status, answer.content_type.as_str()), (200, "application/grpc"));
    let response: pb::PutResponse = answer.ok();
    let header = pb::ResponseHeader { cluster_id: 7, member_id: 1, revision: 2, raft_term: 2 };
    assert_eq!(response.header, Some(header));
    assert_eq!(response.prev_kv, None);

    let mut again = put("a", "2");
    again.prev_kv = true;
    let response: pb::PutResponse = client.call("/etcdserverpb.KV/Put", &again).await.ok();
    assert_eq!(show(&response.prev_kv.into_iter().collect::<Vec<_>>()), "a=1@2");

    let response: pb::RangeResponse = client.call("/etcdserverpb.KV/Range", &get("a")).await.ok();
    assert_eq!((show(&response.kvs).as_str(), response.count, response.more), ("a=2@3", 1, false));
    assert_eq!(response.header.map(|header| header.revision), Some(3));

    let delete = pb::DeleteRangeRequest { key: "a".into(), range_end: "z".into(), prev_kv: true };
    let response: pb::DeleteRangeResponse =
        client.call("/etcdserverpb.KV/DeleteRange", &delete).await.ok();
    assert_eq!((response.deleted, show(&response.prev_kvs).as_str()), (1, "a=2@3"));

    let response: pb::RangeResponse = client.call("/etcdserverpb.KV/Range", &get("a")).await.ok();
    assert_eq!((response.kvs.len(), response.count), (0, 0));
    assert_eq!(member.machine.asked(), (3, 2));
}

#[tokio::test]
async fn a_serializable_read_asks_nobody() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let _: pb::PutResponse = client.call("/etcdserverpb.KV/Put", &put("a", "1")).await.ok();
    let mut read = get("a");
    read.serializable = true;
    let response: pb::RangeResponse = client.call("/etcdserverpb.KV/Range", &read).await.ok();
    assert_eq!(show(&response.kvs), "a=1@2");
    assert_eq!(member.machine.asked(), (1, 0));
}

#[tokio::test]
async fn ranges_show_limits_and_counts() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    for n in 0..5 {
        let _: pb::PutResponse =
            client.call("/etcdserverpb.KV/Put", &put(&format!("k{n}"), "v")).await.ok();
    }
    let mut range = get("k");
    range.range_end = "l".into();
    range.limit = 2;
    let response: pb::RangeResponse = client.call("/etcdserverpb.KV/Range", &range).await.ok();
    assert_eq!(
        (show(&response.kvs).as_str(), response.count, response.more),
        ("k0=v@2 k1=v@3", 5, true)
    );
    range.count_only = true;
    let response: pb::RangeResponse = client.call("/etcdserverpb.KV/Range", &range).await.ok();
    assert_eq!((response.kvs.len(), response.count, response.more), (0, 5, false));
}

#[tokio::test]
async fn a_range_of_many_keys_is_read_elsewhere() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    for n in 0..95 {
        let puts = (0..128).map(|m| op(Request::RequestPut(put(&format!("k{n:02}{m:03}"), "v"))));
        let txn = pb::TxnRequest { success: puts.collect(), ..Default::default() };
        let _: pb::TxnResponse = client.call("/etcdserverpb.KV/Txn", &txn).await.ok();
    }
    let mut range = get("k");
    range.range_end = "l".into();
    for (limit, expected, more) in [
        (0, 12_160, false),
        (10_001, 10_001, true),
        (10_000, 10_000, true),
        (20_000, 12_160, false),
    ] {
        range.limit = limit;
        let response: pb::RangeResponse = client.call("/etcdserverpb.KV/Range", &range).await.ok();
        assert_eq!((response.kvs.len(), response.count, response.more), (expected, 12_160, more));
        assert!(response.kvs.is_sorted_by(|a, b| a.key < b.key));
        assert_eq!(response.header.map(|header| header.revision), Some(96));
    }
}

#[tokio::test]
async fn a_large_value_comes_back_whole() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let value: String = "0123456789abcdef".repeat(64 << 10);
    let _: pb::PutResponse = client.call("/etcdserverpb.KV/Put", &put("big", &value)).await.ok();
    let response: pb::RangeResponse = client.call("/etcdserverpb.KV/Range", &get("big")).await.ok();
    assert_eq!(response.kvs[0].value, value.as_bytes());
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

#[tokio::test]
async fn a_transaction_answers_each_operation() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let nested = pb::TxnRequest {
        success: vec![op(Request::RequestPut(put("b", "2")))],
        ..Default::default()
    };
    let txn = pb::TxnRequest {
        success: vec![
            op(Request::RequestPut(put("a", "1"))),
            op(Request::RequestRange(get("a"))),
            op(Request::RequestTxn(nested)),
        ],
        ..Default::default()
    };
    let response: pb::TxnResponse = client.call("/etcdserverpb.KV/Txn", &txn).await.ok();
    assert!(response.succeeded);
    assert_eq!(response.header.map(|header| header.revision), Some(2));
    let responses: Vec<Response> =
        response.responses.into_iter().filter_map(|op| op.response).collect();
    let [Response::ResponsePut(put), Response::ResponseRange(range), Response::ResponseTxn(txn)] =
        responses.as_slice()
    else {
        panic!("{responses:?}");
    };
    let at_2 = Some(pb::ResponseHeader { revision: 2, ..Default::default() });
    assert_eq!(put.header, at_2);
    assert_eq!((range.header, show(&range.kvs).as_str()), (at_2, "a=1@2"));
    assert_eq!(txn.header, Some(pb::ResponseHeader::default()));
}

#[tokio::test]
async fn a_transaction_that_reads_makes_no_proposal() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let mut read = get("a");
    let mut txn = pb::TxnRequest {
        success: vec![op(Request::RequestRange(read.clone()))],
        ..Default::default()
    };
    let _: pb::TxnResponse = client.call("/etcdserverpb.KV/Txn", &txn).await.ok();
    assert_eq!(member.machine.asked(), (0, 1));
    read.serializable = true;
    txn.success = vec![op(Request::RequestRange(read))];
    let _: pb::TxnResponse = client.call("/etcdserverpb.KV/Txn", &txn).await.ok();
    let _: pb::TxnResponse =
        client.call("/etcdserverpb.KV/Txn", &pb::TxnRequest::default()).await.ok();
    assert_eq!(member.machine.asked(), (0, 1));
}

#[tokio::test]
async fn compaction_and_its_errors() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    for n in 0..3 {
        let _: pb::PutResponse =
            client.call("/etcdserverpb.KV/Put", &put("a", &n.to_string())).await.ok();
    }
    let compact = |revision| pb::CompactionRequest { revision, physical: true };
    let response: pb::CompactionResponse =
        client.call("/etcdserverpb.KV/Compact", &compact(3)).await.ok();
    assert_eq!(response.header.map(|header| header.revision), Some(4));
    let again = client.call("/etcdserverpb.KV/Compact", &compact(3)).await;
    assert_eq!(again.error(), "11 etcdserver: mvcc: required revision has been compacted");
    let future = client.call("/etcdserverpb.KV/Compact", &compact(9)).await;
    assert_eq!(future.error(), "11 etcdserver: mvcc: required revision is a future revision");
    let mut read = get("a");
    read.revision = 2;
    let old = client.call("/etcdserverpb.KV/Range", &read).await;
    assert_eq!(old.error(), "11 etcdserver: mvcc: required revision has been compacted");
}

#[tokio::test]
async fn leases() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let grant = |id, ttl| pb::LeaseGrantRequest { id, ttl };
    let response: pb::LeaseGrantResponse =
        client.call("/etcdserverpb.Lease/LeaseGrant", &grant(0, 100)).await.ok();
    assert!(response.id > 0 && response.ttl == 100, "{response:?}");
    let id = response.id;
    let taken = client.call("/etcdserverpb.Lease/LeaseGrant", &grant(id, 100)).await;
    assert_eq!(taken.error(), "9 etcdserver: lease already exists");
    let (proposals, _) = member.machine.asked();
    let long = client.call("/etcdserverpb.Lease/LeaseGrant", &grant(5, 9_000_000_001)).await;
    assert_eq!(long.error(), "11 etcdserver: too large lease TTL");
    assert_eq!(member.machine.asked().0, proposals + 1, "etcd proposes it all the same");

    let mut attached = put("a", "1");
    attached.lease = id;
    let _: pb::PutResponse = client.call("/etcdserverpb.KV/Put", &attached).await.ok();
    let request = pb::LeaseTimeToLiveRequest { id, keys: true };
    let response: pb::LeaseTimeToLiveResponse =
        client.call("/etcdserverpb.Lease/LeaseTimeToLive", &request).await.ok();
    assert_eq!((response.granted_ttl, response.keys.as_slice()), (100, &["a".into()][..]));
    assert!((98..=100).contains(&response.ttl), "{response:?}");

    let response: pb::LeaseLeasesResponse = client
        .call("/etcdserverpb.Lease/LeaseLeases", &pb::LeaseLeasesRequest::default())
        .await
        .ok();
    assert_eq!(response.leases, [pb::LeaseStatus { id }]);

    let revoke = pb::LeaseRevokeRequest { id };
    let response: pb::LeaseRevokeResponse =
        client.call("/etcdserverpb.Lease/LeaseRevoke", &revoke).await.ok();
    assert_eq!(response.header.map(|header| header.revision), Some(3));
    let gone = client.call("/etcdserverpb.Lease/LeaseRevoke", &revoke).await;
    assert_eq!(gone.error(), "5 etcdserver: requested lease not found");
    let response: pb::LeaseTimeToLiveResponse =
        client.call("/etcdserverpb.Lease/LeaseTimeToLive", &request).await.ok();
    assert_eq!((response.ttl, response.granted_ttl), (-1, 0));
}

#[tokio::test]
async fn members_status_and_hashes() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let one = cluster::Member { id: 1, name: "n1".to_owned(), ..Default::default() };
    member.add(&one, None);
    let one = pb::Member { id: 1, name: "n1".to_owned(), ..Default::default() };
    for linearizable in [false, true] {
        let request = pb::MemberListRequest { linearizable };
        let response: pb::MemberListResponse =
            client.call("/etcdserverpb.Cluster/MemberList", &request).await.ok();
        assert_eq!(response.members, std::slice::from_ref(&one));
        assert_eq!(response.header.map(|header| header.revision), Some(0));
    }
    assert_eq!(member.machine.asked(), (0, 1));

    let response: pb::StatusResponse =
        client.call("/etcdserverpb.Maintenance/Status", &pb::StatusRequest::default()).await.ok();
    assert_eq!((response.version.as_str(), response.leader), ("3.7.3", 1));
    assert!(response.errors.is_empty() && response.downgrade_info.is_some());

    let hash_kv = |revision| pb::HashKvRequest { revision };
    let response: pb::HashKvResponse =
        client.call("/etcdserverpb.Maintenance/HashKV", &hash_kv(0)).await.ok();
    assert_eq!((response.compact_revision, response.hash_revision), (-1, 1));
    let future = client.call("/etcdserverpb.Maintenance/HashKV", &hash_kv(9)).await;
    assert_eq!(future.error(), "11 etcdserver: mvcc: required revision is a future revision");
    let response: pb::HashResponse =
        client.call("/etcdserverpb.Maintenance/Hash", &pb::HashRequest::default()).await.ok();
    assert_eq!(response.header.map(|header| header.revision), Some(1));
    let response: pb::DefragmentResponse = client
        .call("/etcdserverpb.Maintenance/Defragment", &pb::DefragmentRequest::default())
        .await
        .ok();
    assert_eq!(response.header, None);
}

#[tokio::test]
async fn alarms() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let alarm = |action: i32| pb::AlarmRequest { action, member_id: 1, alarm: 1 };
    let path = "/etcdserverpb.Maintenance/Alarm";
    let response: pb::AlarmResponse = client.call(path, &alarm(1)).await.ok();
    assert_eq!(response.alarms, [pb::AlarmMember { member_id: 1, alarm: 1 }]);
    let refused = client.call("/etcdserverpb.KV/Put", &put("a", "1")).await;
    assert_eq!(refused.error(), "8 etcdserver: mvcc: database space exceeded");
    let response: pb::AlarmResponse = client.call(path, &alarm(2)).await.ok();
    assert_eq!(response.alarms.len(), 1);
    let _: pb::PutResponse = client.call("/etcdserverpb.KV/Put", &put("a", "1")).await.ok();
    let unknown = client.call(path, &alarm(7)).await;
    assert_eq!(unknown.error(), "2 etcdserver: unknown method");
}

#[tokio::test]
async fn requests_that_are_wrong_reach_nobody() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let error = async |path: &str, message: &dyn Fn() -> Vec<u8>| {
        let mut body = vec![0];
        let message = message();
        body.extend_from_slice(&u32::try_from(message.len()).expect("small").to_be_bytes());
        body.extend_from_slice(&message);
        client.call_with(path, &[], body.into()).await.error()
    };
    use prost::Message as _;
    let range = |edit: &dyn Fn(&mut pb::RangeRequest)| {
        let mut range = get("a");
        edit(&mut range);
        range.encode_to_vec()
    };
    let empty = "3 etcdserver: key is not provided";
    assert_eq!(error("/etcdserverpb.KV/Range", &|| Vec::new()).await, empty);
    assert_eq!(error("/etcdserverpb.KV/Put", &|| Vec::new()).await, empty);
    assert_eq!(error("/etcdserverpb.KV/DeleteRange", &|| Vec::new()).await, empty);
    let sort = "3 etcdserver: invalid sort option";
    for edit in [
        &(|range: &mut pb::RangeRequest| range.sort_order = 9) as &dyn Fn(&mut _),
        &|range: &mut pb::RangeRequest| range.sort_target = -1,
    ] {
        assert_eq!(error("/etcdserverpb.KV/Range", &|| range(edit)).await, sort);
    }
    let mut ignoring = put("a", "1");
    ignoring.ignore_value = true;
    assert_eq!(
        error("/etcdserverpb.KV/Put", &|| ignoring.encode_to_vec()).await,
        "3 etcdserver: value is provided"
    );
    let mut ignoring = put("a", "1");
    (ignoring.ignore_lease, ignoring.lease) = (true, 1);
    assert_eq!(
        error("/etcdserverpb.KV/Put", &|| ignoring.encode_to_vec()).await,
        "3 etcdserver: lease is provided"
    );
    let wide = pb::TxnRequest {
        success: vec![op(Request::RequestRange(get("a"))); 129],
        ..Default::default()
    };
    assert_eq!(
        error("/etcdserverpb.KV/Txn", &|| wide.encode_to_vec()).await,
        "3 etcdserver: too many operations in txn request"
    );
    let deep = (0..1000).fold(pb::TxnRequest::default(), |inner, _| pb::TxnRequest {
        success: vec![op(Request::RequestTxn(inner))],
        ..Default::default()
    });
    assert_eq!(
        error("/etcdserverpb.KV/Txn", &|| deep.encode_to_vec()).await,
        "3 etcdserver: too many operations in txn request"
    );
    assert_eq!(
        error("/etcdserverpb.KV/Put", &|| vec![0xff; 3]).await,
        "13 grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"
    );
    assert_eq!(
        error("/etcdserverpb.Lease/LeaseRevoke", &|| vec![0xff; 3]).await,
        "13 grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"
    );
    assert_eq!(member.machine.asked(), (0, 0));
}
