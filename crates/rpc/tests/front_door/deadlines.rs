//! Calls that end while they are worked off: by their deadline, or since the client gives them up. What comes of them later
//! is nobody's answer, and nothing of them is left over.

use api::etcdserverpb as pb;
use pb::watch_request::RequestUnion;

use crate::client::{Client, End, frame, metrics};
use crate::member::Member;
use crate::pages::page;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const LATE: &str = "4 context deadline exceeded";
const SOON: [(&str, &str); 1] = [("grpc-timeout", "50m")];

/// Ranges that were not read to their end.
const FAILED: &str = "etcd_server_range_duration_seconds_count{success=\"false\"}";
/// More rows than are read on the core's own thread.
const ROWS: usize = 12_000;

fn get() -> pb::RangeRequest {
    pb::RangeRequest { key: "k".into(), ..Default::default() }
}

/// Everything from `k` on.
fn get_all() -> pb::RangeRequest {
    pb::RangeRequest { range_end: "l".into(), serializable: true, ..get() }
}

async fn fill(client: &Client) {
    let keys: Vec<usize> = (0..ROWS).collect();
    for keys in keys.chunks(100) {
        let put = |key: &usize| {
            let key = format!("k{key:05}").into();
            let put = pb::PutRequest { key, value: "v".into(), ..Default::default() };
            let request = Some(pb::request_op::Request::RequestPut(put));
            pb::RequestOp { request }
        };
        let txn = pb::TxnRequest { success: keys.iter().map(put).collect(), ..Default::default() };
        assert_eq!(client.call(TXN, &txn).await.code, 0);
    }
}

/// The sum of the values of all metrics whose names begin so.
fn sum(member: &Member, name: &str) -> f64 {
    let (_, _, page) = page(member, "GET", "/metrics");
    let metrics = metrics(&page);
    metrics.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, value)| value).sum()
}

/// Waits until every call that the member has heard of has ended, and nobody waits for consensus.
async fn settle(member: &Member) {
    let is_settled = || {
        sum(member, "grpc_server_started_total") == sum(member, "grpc_server_handled_total")
            && sum(member, "etcd_server_proposals_pending") == 0.0
    };
    while !is_settled() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_consensus_says_too_late_is_no_answer() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let put = pb::PutRequest { key: "k".into(), ..Default::default() };
    let txn = pb::TxnRequest {
        success: vec![pb::RequestOp {
            request: Some(pb::request_op::Request::RequestRange(get())),
        }],
        ..Default::default()
    };
    member.machine.pause();
    let (range, stream, read_only, written) = tokio::join!(
        client.call_with(RANGE, &SOON, frame(&get())),
        client.call_with("/etcdserverpb.KV/RangeStream", &SOON, frame(&get())),
        client.call_with(TXN, &SOON, frame(&txn)),
        client.call_with(PUT, &SOON, frame(&put)),
    );
    for answer in [range, stream, read_only, written] {
        assert_eq!(answer.error(), LATE);
    }
    member.machine.resume();
    settle(&member).await;
    // The put was in the log, and others are answered on the same connection.
    let found: pb::RangeResponse = client.call(RANGE, &get()).await.ok();
    assert_eq!((found.count, member.machine.asked().0), (1, 1));
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    for path in [WATCH, "/etcdserverpb.Lease/LeaseKeepAlive", "/grpc.health.v1.Health/Watch"] {
        let mut call = client.open(path, &SOON).await;
        if path == WATCH {
            call.send(&create);
            let created: pb::WatchResponse = call.next().await.expect("a response");
            assert!(created.created);
        } else if path.contains("Health") {
            call.send(&api::health::HealthCheckRequest::default());
            let first: api::health::HealthCheckResponse = call.next().await.expect("a status");
            assert_eq!(first.status, 1);
        }
        let end = call.next_bytes().await;
        let message = "context deadline exceeded".to_owned();
        assert_eq!(end, Err(End { code: 4, message }), "{path}");
    }
    settle(&member).await;
    while member.machine.watch_streams() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Large ranges, read on other threads, of which there are few: at some time one has a deadline that comes before the answer.
#[tokio::test]
async fn a_large_range_ends_at_its_deadline_and_is_read_no_further() {
    const AT_ONCE: usize = 8;
    let member = Member::start();
    let client = Client::connect(member.address).await;
    fill(&client).await;
    let mut late = 0;
    while late == 0 {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let client = client.clone();
            calls.spawn(async move { client.call_with(RANGE, &SOON, frame(&get_all())).await });
        }
        for answer in calls.join_all().await {
            match answer.code {
                0 => assert_eq!(answer.ok::<pb::RangeResponse>().kvs.len(), ROWS),
                _ => {
                    late += 1;
                    assert_eq!((answer.error().as_str(), answer.messages.len()), (LATE, 0));
                }
            }
        }
    }
    settle(&member).await;
    // Those whose answer was not whole were told, and ended as failures, as in etcd.
    while sum(&member, FAILED) == 0.0 {
        tokio::task::yield_now().await;
    }
    assert!(sum(&member, FAILED) <= f64::from(late));
    let whole: pb::RangeResponse = client.call(RANGE, &get_all()).await.ok();
    assert_eq!(whole.kvs.len(), ROWS);
}

#[tokio::test]
async fn a_large_range_that_is_given_up_is_read_no_further() {
    const AT_ONCE: usize = 8;
    let member = Member::start();
    let client = Client::connect(member.address).await;
    fill(&client).await;
    let asked = || sum(&member, "grpc_server_msg_received_total");
    // Until one was given up in time.
    while sum(&member, FAILED) == 0.0 {
        let before = asked();
        let mut calls = Vec::new();
        for _ in 0..AT_ONCE {
            let mut call = client.open(RANGE, &[]).await;
            call.send(&get_all());
            calls.push(call);
        }
        while asked() < before + AT_ONCE as f64 {
            tokio::task::yield_now().await;
        }
        calls.into_iter().for_each(crate::client::Call::reset);
        settle(&member).await;
    }
    let whole: pb::RangeResponse = client.call(RANGE, &get_all()).await.ok();
    assert_eq!(whole.kvs.len(), ROWS);
}
