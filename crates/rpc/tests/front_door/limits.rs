use std::io::{Read as _, Write as _};
use std::time::Duration;

use api::etcdserverpb as pb;
use bytes::Bytes;
use rpc::Limits;

use crate::client::{Client, PREFACE, frame, raw_call};
use crate::member::Member;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

type Headers = &'static [(&'static str, &'static str)];

fn put(bytes: usize) -> pb::PutRequest {
    pb::PutRequest { key: "k".into(), value: vec![b'x'; bytes].into(), ..Default::default() }
}

fn get() -> pb::RangeRequest {
    pb::RangeRequest { key: "k".into(), ..Default::default() }
}

#[tokio::test]
async fn requests_have_two_limits() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let small = client.call(PUT, &put(1_572_000)).await;
    assert_eq!(small.code, 0);
    let large = client.call(PUT, &put(1_572_864)).await;
    assert_eq!(large.error(), "3 etcdserver: request is too large");
    let huge = client.call(PUT, &put(2_097_146)).await;
    assert_eq!(huge.error(), "8 grpc: received message larger than max (2097153 vs. 2097152)");
    let announced = client.call_with(PUT, &[], Bytes::from_static(b"\0\xff\xff\xff\xff")).await;
    assert_eq!(
        announced.error(),
        "8 grpc: received message larger than max (4294967295 vs. 2097152)"
    );
}

#[tokio::test]
async fn heads_are_checked_as_grpc_go_does() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let cases: &[(&str, Headers, u16, &str)] = &[
        ("/etcdserverpb.KV/Nope", &[], 200, "12 unknown method Nope for service etcdserverpb.KV"),
        ("/foo.Bar/Put", &[], 200, "12 unknown service foo.Bar"),
        ("/foo", &[], 200, "12 malformed method name: \"/foo\""),
        (
            "/etcdserverpb.Maintenance/Downgrade",
            &[],
            200,
            "12 unknown method Downgrade for service etcdserverpb.Maintenance",
        ),
        (
            PUT,
            &[("content-type", "application/json")],
            415,
            "3 invalid gRPC request content-type \"application/json\"",
        ),
        (PUT, &[("content-type", "")], 415, "3 invalid gRPC request content-type \"\""),
        (
            PUT,
            &[("grpc-timeout", "1x")],
            400,
            "13 malformed grpc-timeout: transport: timeout unit is not recognized: \"1x\"",
        ),
        (
            PUT,
            &[("grpc-encoding", "br")],
            200,
            "12 grpc: Decompressor is not installed for grpc-encoding \"br\"",
        ),
        (
            PUT,
            &[("x-bin", "A")],
            400,
            "13 malformed binary metadata \"A\" in header \"x-bin\": illegal base64 data at input byte 0",
        ),
        (PUT, &[("x-bin", "AQ"), ("y-bin", "AQ==")], 200, "0 "),
        (
            PUT,
            &[("host", "a"), ("host", "b")],
            400,
            "13 num values of :authority: 1, num values of host: 2, both must only have 1 value as per HTTP/2 spec",
        ),
        (PUT, &[("grpc-timeout", "0n")], 200, "4 context deadline exceeded"),
        (PUT, &[("hasleader", "false")], 200, "0 "),
        (PUT, &[("client-api-version", "3.7")], 200, "0 "),
        (PUT, &[("content-type", "application/grpc+proto")], 200, "0 "),
    ];
    for (path, headers, http_status, error) in cases {
        let answer = client.call_with(path, headers, frame(&put(1))).await;
        assert_eq!(
            (answer.http_status, answer.error().as_str()),
            (*http_status, *error),
            "{path} {headers:?}"
        );
    }
    let proto = [("content-type", "application/grpc+proto")];
    let answer = client.call_with(PUT, &proto, frame(&put(1))).await;
    assert_eq!(answer.content_type, "application/grpc+proto");
    let answer = client.call_with(PUT, &[("content-type", "text/plain")], frame(&put(1))).await;
    assert_eq!(answer.content_type, "text/plain; charset=utf-8");
    assert_eq!(answer.words, "invalid gRPC request content-type \"text/plain\"\n");
}

#[tokio::test]
async fn answers_are_compressed_for_who_names_gzip() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    assert_eq!(client.call(PUT, &put(100_000)).await.encoding, "");
    let gzip = [("grpc-encoding", "gzip")];
    let answer = client.call_with(RANGE, &gzip, frame(&get())).await;
    assert_eq!(answer.encoding, "gzip");
    assert_eq!(answer.ok::<pb::RangeResponse>().kvs[0].value.len(), 100_000);
    let failed = client.call_with(RANGE, &gzip, Bytes::new()).await;
    assert_eq!((failed.encoding.as_str(), failed.error().as_str()), ("", "2 EOF"));
}

#[tokio::test]
async fn bodies_that_end_early() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    for (body, error) in [("", "2 EOF"), ("\0\0\0\0\x09abc", "2 unexpected EOF")] {
        let answer = client.call_with(PUT, &[], Bytes::from_static(body.as_bytes())).await;
        assert_eq!(answer.error(), error);
    }
}

#[tokio::test]
async fn calls_time_out() {
    let limits = Limits { election_timeout: Duration::ZERO, ..Limits::default() };
    let member = Member::with_limits(limits);
    let client = Client::connect(member.address).await;
    member.machine.pause();
    let short = [("grpc-timeout", "50m")];
    let (put, range) = tokio::join!(
        client.call_with(PUT, &short, frame(&put(1))),
        client.call_with(RANGE, &short, frame(&get())),
    );
    assert_eq!(put.error(), "4 context deadline exceeded");
    assert_eq!(range.error(), "4 context deadline exceeded");
    // 5 s without a client's deadline.
    let (one, key) = (self::put(1), get());
    let (put, range) = tokio::join!(client.call(PUT, &one), client.call(RANGE, &key));
    assert_eq!(put.error(), "14 etcdserver: request timed out");
    assert_eq!(range.error(), "14 etcdserver: request timed out");
}

#[tokio::test]
async fn consensus_may_refuse() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    member.machine.refuse(Some(api::Error::LeaderChanged));
    for (path, body) in [(PUT, frame(&put(1))), (RANGE, frame(&get()))] {
        let answer = client.call_with(path, &[], body).await;
        assert_eq!(answer.error(), "14 etcdserver: leader changed");
    }
    member.machine.refuse(None);
    assert_eq!(client.call(PUT, &put(1)).await.code, 0);
}

#[tokio::test]
async fn a_backlog_refuses_proposals_but_not_reads() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    member.state.committed.store(5001, std::sync::atomic::Ordering::Relaxed);
    let answer = client.call(PUT, &put(1)).await;
    assert_eq!(answer.error(), "2 etcdserver: too many requests");
    assert_eq!(client.call(RANGE, &get()).await.code, 0);
    member.state.committed.store(5000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(client.call(PUT, &put(1)).await.code, 0);
}

#[tokio::test]
async fn requests_that_arrive_together_travel_together() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    member.machine.pause();
    let mut calls = Vec::new();
    for _ in 0..500 {
        let mut call = client.open(PUT, &[]).await;
        call.send(&put(1));
        call.half_close();
        calls.push(call);
    }
    member.machine.resume();
    for call in calls {
        assert_eq!(call.answer().await.code, 0);
    }
    let batches = member.machine.batches();
    assert_eq!(batches.iter().sum::<usize>(), 500);
    assert!(batches.len() < 250, "{batches:?}");
}

#[test]
fn a_turn_is_one_batch_one_wake_up_and_one_write() {
    const CALLS: u32 = 200;
    let member = Member::start();
    let mut socket = member.connect_by_records();
    let calls = (0..CALLS).flat_map(|call| raw_call(2 * call + 1, PUT, &put(1)));
    let bytes: Vec<u8> = PREFACE.iter().copied().chain(calls).collect();
    socket.write_all(&bytes).expect("one write");
    let mut buffer = vec![0; 1 << 20];
    let mut answers = Vec::new();
    while answers.iter().sum::<usize>() < CALLS as usize {
        let length = socket.read(&mut buffer).expect("open");
        assert!(length > 0, "not the end");
        answers.push(ends_of_streams(&buffer[..length]));
    }
    assert_eq!(member.machine.batches(), [CALLS as usize]);
    // The first write is about settings.
    assert_eq!(answers, [0, CALLS as usize]);
}

/// Frames that end a stream.
fn ends_of_streams(mut bytes: &[u8]) -> usize {
    let mut ends = 0;
    while let Some((&[_, high, low, kind, flags, ..], _)) = bytes.split_first_chunk::<9>() {
        ends += usize::from(matches!(kind, 0 | 1) && flags & 1 != 0);
        bytes = &bytes[9 + usize::from(high) * 256 + usize::from(low)..];
    }
    ends
}

#[tokio::test]
async fn a_full_backend_raises_the_alarm() {
    let limits = Limits { quota_bytes: 1000, ..Limits::default() };
    let member = Member::with_limits(limits);
    let client = Client::connect(member.address).await;
    member.state.db_size.store(1000, std::sync::atomic::Ordering::Relaxed);
    let answer = client.call(PUT, &put(1)).await;
    assert_eq!(answer.error(), "8 etcdserver: mvcc: database space exceeded");
    let list = pb::AlarmRequest::default();
    let response: pb::AlarmResponse =
        client.call("/etcdserverpb.Maintenance/Alarm", &list).await.ok();
    assert_eq!(response.alarms, [pb::AlarmMember { member_id: 1, alarm: 1 }]);
    let delete = pb::DeleteRangeRequest { key: "k".into(), ..Default::default() };
    assert_eq!(client.call("/etcdserverpb.KV/DeleteRange", &delete).await.code, 0);
}

#[tokio::test]
async fn learners_serve_little() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    member.state.is_learner.store(true, std::sync::atomic::Ordering::Relaxed);
    let refused = "9 etcdserver: rpc not supported for learner";
    assert_eq!(client.call(PUT, &put(1)).await.error(), refused);
    assert_eq!(client.call(RANGE, &get()).await.error(), refused);
    let watch = client.call("/etcdserverpb.Watch/Watch", &pb::WatchRequest::default()).await;
    assert_eq!(watch.error(), refused);
    let mut serializable = get();
    serializable.serializable = true;
    assert_eq!(client.call(RANGE, &serializable).await.code, 0);
    let status = client.call("/etcdserverpb.Maintenance/Status", &pb::StatusRequest {}).await;
    assert_eq!(status.code, 0);
}

#[tokio::test]
async fn nothing_is_served_before_the_cluster_has_a_version() {
    let member = Member::start();
    *member.state.cluster_version.write() = None;
    let client = Client::connect(member.address).await;
    assert_eq!(client.call(RANGE, &get()).await.error(), "9 etcdserver: not capable");
    *member.state.cluster_version.write() = Some("3.7.0".to_owned());
    assert_eq!(client.call(RANGE, &get()).await.code, 0);
}

#[tokio::test]
async fn calls_without_a_leader() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    member.state.leader.store(0, std::sync::atomic::Ordering::Relaxed);
    let answer = client.call_with(RANGE, &[("hasleader", "true")], frame(&get())).await;
    assert_eq!(answer.error(), "14 etcdserver: no leader");
    let response: pb::StatusResponse =
        client.call("/etcdserverpb.Maintenance/Status", &pb::StatusRequest {}).await.ok();
    assert_eq!(response.errors, ["etcdserver: no leader"]);
}
