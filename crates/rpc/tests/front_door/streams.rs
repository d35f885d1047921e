use std::time::Duration;

use api::etcdserverpb as pb;
use api::mvccpb::event::EventType;
use pb::watch_request::RequestUnion;
use sha2::{Digest, Sha256};

use crate::client::{Call, Client, End};
use crate::member::Member;

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

async fn put(client: &Client, key: &str, value: &str) -> i64 {
    let request = pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    };
    let response: pb::PutResponse = client.call("/etcdserverpb.KV/Put", &request).await.ok();
    response.header.map_or(0, |header| header.revision)
}

fn create(key: &str, edit: impl FnOnce(&mut pb::WatchCreateRequest)) -> pb::WatchRequest {
    let mut create = pb::WatchCreateRequest { key: key.to_owned().into(), ..Default::default() };
    edit(&mut create);
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

fn cancel(watch_id: i64) -> pb::WatchRequest {
    let cancel = pb::WatchCancelRequest { watch_id };
    pb::WatchRequest { request_union: Some(RequestUnion::CancelRequest(cancel)) }
}

fn progress() -> pb::WatchRequest {
    let progress = pb::WatchProgressRequest {};
    pb::WatchRequest { request_union: Some(RequestUnion::ProgressRequest(progress)) }
}

fn show(response: &pb::WatchResponse) -> String {
    let mut text =
        format!("{}@{}", response.watch_id, response.header.map_or(-1, |header| header.revision));
    for (is_set, word) in [
        (response.created, " created"),
        (response.canceled, " canceled"),
        (response.fragment, " fragment"),
    ] {
        if is_set {
            text.push_str(word);
        }
    }
    if response.compact_revision != 0 {
        text.push_str(&format!(" compacted {}", response.compact_revision));
    }
    if !response.cancel_reason.is_empty() {
        text.push_str(&format!(" ({})", response.cancel_reason));
    }
    for event in &response.events {
        let kv = event.kv.clone().unwrap_or_default();
        let kind = if event.r#type() == EventType::Put { "put" } else { "delete" };
        let key = String::from_utf8_lossy(&kv.key);
        text.push_str(&format!(" {kind} {key}={}", String::from_utf8_lossy(&kv.value)));
        if let Some(prev) = &event.prev_kv {
            text.push_str(&format!(" was {}", String::from_utf8_lossy(&prev.value)));
        }
    }
    text
}

async fn next(watch: &mut Call) -> String {
    match watch.next::<pb::WatchResponse>().await {
        Ok(response) => show(&response),
        Err(End { code, message }) => format!("end {code} {message}"),
    }
}

#[tokio::test]
async fn a_watch_hears_of_changes() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let mut watch = client.open(WATCH, &[]).await;
    watch.send(&create("a", |create| create.prev_kv = true));
    assert_eq!(next(&mut watch).await, "0@1 created");
    put(&client, "a", "1").await;
    assert_eq!(next(&mut watch).await, "0@2 put a=1");
    put(&client, "b", "1").await;
    put(&client, "a", "2").await;
    assert_eq!(next(&mut watch).await, "0@4 put a=2 was 1");
    watch.send(&progress());
    assert_eq!(next(&mut watch).await, "-1@4");
    watch.send(&cancel(7));
    watch.send(&cancel(0));
    assert_eq!(next(&mut watch).await, "0@4 canceled");
}

#[tokio::test]
async fn watches_are_numbered_and_refused() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let mut watch = client.open(WATCH, &[]).await;
    watch.send(&create("a", |_| ()));
    assert_eq!(next(&mut watch).await, "0@1 created");
    watch.send(&create("a", |create| create.watch_id = -5));
    assert_eq!(next(&mut watch).await, "-5@1 created");
    watch.send(&create("a", |create| create.watch_id = -5));
    assert_eq!(
        next(&mut watch).await,
        "-1@1 created canceled (mvcc: duplicate watch ID provided on the WatchStream)"
    );
    watch.send(&create("b", |create| create.range_end = "a".into()));
    assert_eq!(next(&mut watch).await, "-1@1 created canceled (mvcc: watcher range is empty)");
    watch.send(&create("b", |create| create.start_revision = -1));
    assert_eq!(
        next(&mut watch).await,
        "-1@1 created canceled (etcdserver: mvcc: required revision has been compacted)"
    );
    watch.send(&pb::WatchRequest::default());
    watch.send(&create("", |create| create.range_end = "\0".into()));
    assert_eq!(next(&mut watch).await, "1@1 created");
}

#[tokio::test]
async fn a_watch_goes_on_when_the_client_says_no_more() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let mut watch = client.open(WATCH, &[]).await;
    watch.send(&create("a", |_| ()));
    watch.half_close();
    assert_eq!(next(&mut watch).await, "0@1 created");
    put(&client, "a", "1").await;
    assert_eq!(next(&mut watch).await, "0@2 put a=1");
}

#[tokio::test]
async fn a_watch_catches_up_and_is_told_of_compactions() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    for value in ["1", "2", "3"] {
        put(&client, "a", value).await;
    }
    let mut watch = client.open(WATCH, &[]).await;
    watch.send(&create("a", |create| create.start_revision = 3));
    assert_eq!(next(&mut watch).await, "0@4 created");
    assert_eq!(next(&mut watch).await, "0@4 put a=2 put a=3");
    let compact = pb::CompactionRequest { revision: 4, physical: false };
    let _: pb::CompactionResponse = client.call("/etcdserverpb.KV/Compact", &compact).await.ok();
    watch.send(&create("a", |create| create.start_revision = 2));
    assert_eq!(next(&mut watch).await, "1@4 created");
    assert_eq!(next(&mut watch).await, "1@0 canceled compacted 4");
}

#[tokio::test]
async fn big_responses_are_cut_on_request() {
    let limits = rpc::Limits { max_request_bytes: 1 << 20, ..rpc::Limits::default() };
    let member = Member::with_limits(limits);
    let client = Client::connect(member.address).await;
    let value = "x".repeat(900 << 10);
    for key in ["a", "b", "c"] {
        put(&client, key, &value).await;
    }
    let mut watch = client.open(WATCH, &[]).await;
    watch.send(&create("a", |create| {
        create.range_end = "z".into();
        create.start_revision = 2;
        create.fragment = true;
    }));
    assert_eq!(next(&mut watch).await, "0@4 created");
    let mut shapes = Vec::new();
    for _ in 0..3 {
        let response: pb::WatchResponse = watch.next().await.expect("a piece");
        shapes.push((response.events.len(), response.fragment));
    }
    assert_eq!(shapes, [(1, true), (1, true), (1, false)]);
}

#[tokio::test]
async fn a_watch_that_is_not_read_does_not_fill_the_memory() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let reader = Client::connect(member.address).await;
    let mut watch = client.open(WATCH, &[]).await;
    watch.send(&create("a", |_| ()));
    assert_eq!(next(&mut watch).await, "0@1 created");
    // The client's window is 64 KiB; what is more than that and what the hub may have under way
    // has to wait in the store.
    let value = "x".repeat(100 << 10);
    for _ in 0..300 {
        put(&reader, "a", &value).await;
    }
    let mut seen = 0;
    let mut last = 1;
    while seen < 300 {
        let response: pb::WatchResponse = watch.next().await.expect("events");
        for event in response.events {
            let revision = event.kv.map_or(0, |kv| kv.mod_revision);
            assert_eq!(revision, last + 1);
            last = revision;
            seen += 1;
        }
    }
}

#[tokio::test]
async fn what_waits_for_a_slow_client_comes_in_order_on_each_stream() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let writer = Client::connect(member.address).await;
    let mut watches = Vec::new();
    for _ in 0..20 {
        let mut watch = client.open(WATCH, &[]).await;
        watch.send(&create("a", |_| ()));
        assert_eq!(next(&mut watch).await, "0@1 created");
        watches.push(watch);
    }
    // Far more than the windows of the streams and of the connection, and than what may be unsent on either.
    let value = "x".repeat(200 << 10);
    for _ in 0..40 {
        put(&writer, "a", &value).await;
    }
    let mut readers = tokio::task::JoinSet::new();
    for mut watch in watches {
        readers.spawn(async move {
            let mut revisions = Vec::new();
            while revisions.len() < 40 {
                let response: pb::WatchResponse = watch.next().await.expect("events");
                let of = |event: api::mvccpb::Event| event.kv.map(|kv| kv.mod_revision);
                revisions.extend(response.events.into_iter().map(of));
            }
            revisions
        });
    }
    for revisions in readers.join_all().await {
        assert!(revisions.into_iter().eq((2..42).map(Some)));
    }
}

#[tokio::test]
async fn many_watches_on_one_stream() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let mut watch = client.open(WATCH, &[]).await;
    for _ in 0..20_000 {
        watch.send(&create("a", |_| ()));
    }
    for n in 0..20_000 {
        assert_eq!(next(&mut watch).await, format!("{n}@1 created"));
    }
    put(&client, "a", "1").await;
    let mut ids: Vec<i64> = Vec::new();
    while ids.len() < 20_000 {
        ids.push(watch.next::<pb::WatchResponse>().await.expect("events").watch_id);
    }
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..20_000));
}

#[tokio::test]
async fn leases_are_kept_alive() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let grant = pb::LeaseGrantRequest { id: 5, ttl: 60 };
    let _: pb::LeaseGrantResponse =
        client.call("/etcdserverpb.Lease/LeaseGrant", &grant).await.ok();
    let mut renewals = client.open(KEEP_ALIVE, &[]).await;
    for (id, ttl) in [(5, 60), (6, 0), (5, 60)] {
        renewals.send(&pb::LeaseKeepAliveRequest { id });
        let response: pb::LeaseKeepAliveResponse = renewals.next().await.expect("an answer");
        assert_eq!((response.id, response.ttl), (id, ttl));
        assert_eq!(response.header.map(|header| header.revision), Some(1));
    }
    renewals.half_close();
    let end = renewals.next_bytes().await.expect_err("the end");
    assert_eq!(end, End { code: 0, message: String::new() });
}

#[tokio::test]
async fn endless_renewals_are_all_answered() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let mut renewals = client.open(KEEP_ALIVE, &[]).await;
    for id in 0..3000 {
        renewals.send(&pb::LeaseKeepAliveRequest { id });
    }
    renewals.half_close();
    for id in 0..3000 {
        let response: pb::LeaseKeepAliveResponse = renewals.next().await.expect("an answer");
        assert_eq!((response.id, response.ttl), (id, 0));
    }
    assert_eq!(renewals.next_bytes().await.map_err(|end| end.code), Err(0));
}

#[tokio::test]
async fn a_range_stream_equals_a_range() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    for n in 0..64 {
        put(&client, &format!("k{n:02}"), "v").await;
    }
    for (limit, range_end, count_only) in
        [(0, "z", false), (20, "z", false), (0, "", false), (0, "a", false), (0, "z", true)]
    {
        let request = pb::RangeRequest {
            key: "k00".into(),
            range_end: range_end.to_owned().into(),
            limit,
            count_only,
            ..Default::default()
        };
        let mut whole = pb::RangeResponse::default();
        let mut stream = client.open("/etcdserverpb.KV/RangeStream", &[]).await;
        stream.send(&request);
        stream.half_close();
        let mut chunks = Vec::new();
        while let Ok(chunk) = stream.next::<pb::RangeStreamResponse>().await {
            let chunk = chunk.range_response.expect("a chunk");
            assert!(whole.header.is_none(), "only the last has a header");
            chunks.push(chunk.kvs.len());
            whole.kvs.extend(chunk.kvs);
            (whole.header, whole.more, whole.count) = (chunk.header, chunk.more, chunk.count);
        }
        let expected: pb::RangeResponse =
            client.call("/etcdserverpb.KV/Range", &request).await.ok();
        assert_eq!(whole, expected, "{request:?} in {chunks:?}");
    }
    let sorted = pb::RangeRequest { key: "k".into(), sort_order: 2, ..Default::default() };
    let refused = client.call("/etcdserverpb.KV/RangeStream", &sorted).await;
    assert_eq!(refused.error(), "12 RangeStream does not support custom sort orders");
    let by_value = pb::RangeRequest { sort_order: 1, sort_target: 4, ..sorted };
    let refused = client.call("/etcdserverpb.KV/RangeStream", &by_value).await;
    assert_eq!(refused.error(), "12 RangeStream does not support custom sort orders");
    let filtered = pb::RangeRequest { key: "k".into(), min_mod_revision: 2, ..Default::default() };
    let refused = client.call("/etcdserverpb.KV/RangeStream", &filtered).await;
    assert_eq!(refused.error(), "12 RangeStream does not support revision filters");
}

#[tokio::test]
async fn a_target_without_an_order_sorts_each_chunk_of_a_range_stream() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    for n in 0..25 {
        put(&client, &format!("k{n:02}"), &format!("{}", 99 - n)).await;
    }
    let by_value = pb::RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        sort_target: pb::range_request::SortTarget::Value as i32,
        ..Default::default()
    };
    for (limit, keys_only) in [(0, false), (0, true), (8, false)] {
        let request = pb::RangeRequest { limit, keys_only, ..by_value.clone() };
        let mut stream = client.open("/etcdserverpb.KV/RangeStream", &[]).await;
        stream.send(&request);
        stream.half_close();
        let mut chunks = Vec::new();
        let mut count = 0;
        while let Ok(chunk) = stream.next::<pb::RangeStreamResponse>().await {
            let chunk = chunk.range_response.expect("a chunk");
            assert!(chunk.kvs.iter().all(|kv| kv.value.is_empty() == keys_only));
            let keys = chunk.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned());
            chunks.push(keys.collect::<Vec<_>>());
            count = chunk.count;
        }
        let descending = |from, to| (from..to).rev().map(|n| format!("k{n:02}")).collect();
        let expected: Vec<Vec<_>> = if limit > 0 {
            vec![descending(0, limit)]
        } else {
            vec![descending(0, 10), descending(10, 25)]
        };
        assert_eq!((chunks, count), (expected, 25), "{limit} {keys_only}");
    }
}

#[tokio::test]
async fn a_snapshot_is_the_backend_and_its_hash() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let value = "x".repeat(200 << 10);
    for n in 0..10 {
        put(&client, &format!("k{n}"), &value).await;
    }
    let mut snapshot = client.open("/etcdserverpb.Maintenance/Snapshot", &[]).await;
    snapshot.send(&pb::SnapshotRequest {});
    snapshot.half_close();
    let mut messages = Vec::new();
    let end = loop {
        match snapshot.next::<pb::SnapshotResponse>().await {
            Ok(message) => messages.push(message),
            Err(end) => break end,
        }
    };
    assert_eq!(end, End { code: 0, message: String::new() });
    let hash = messages.pop().expect("a hash");
    assert_eq!((hash.blob.len(), hash.remaining_bytes), (32, 0));
    let mut sha = Sha256::new();
    let size: usize = messages.iter().map(|message| message.blob.len()).sum();
    let mut sent = 0;
    for message in &messages {
        assert!(message.blob.len() <= 32 << 10 && message.header.is_none());
        assert_eq!(message.version, "3.7.0");
        sha.update(&message.blob);
        sent += message.blob.len();
        assert_eq!(message.remaining_bytes, (size - sent) as u64);
    }
    assert!(size > 10 * (200 << 10), "{size} bytes");
    assert_eq!(hash.blob, sha.finalize().as_slice());
}

#[tokio::test]
async fn streams_that_need_a_leader_end_without_one() {
    let limits = rpc::Limits { election_timeout: Duration::from_millis(10), ..Default::default() };
    let member = Member::with_limits(limits);
    let client = Client::connect(member.address).await;
    let mut needs = client.open(WATCH, &[("hasleader", "true")]).await;
    let mut waits = client.open(WATCH, &[]).await;
    for watch in [&mut needs, &mut waits] {
        watch.send(&create("a", |_| ()));
        assert_eq!(next(watch).await, "0@1 created");
    }
    member.state.leader.store(0, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(next(&mut needs).await, "end 14 etcdserver: no leader");
    waits.send(&cancel(0));
    assert_eq!(next(&mut waits).await, "0@1 canceled");
    let refused = client.open(WATCH, &[("hasleader", "true")]).await.answer().await;
    assert_eq!(refused.error(), "14 etcdserver: no leader");
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_lets_calls_finish() {
    let member = Member::with_limits(rpc::Limits::default());
    let client = Client::connect(member.address).await;
    let mut watch = client.open(WATCH, &[]).await;
    watch.send(&create("a", |_| ()));
    assert_eq!(next(&mut watch).await, "0@1 created");
    member.machine.pause();
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { put(&client, "a", "1").await })
    };
    // The watch proves that the put, sent before, has arrived.
    tokio::task::yield_now().await;
    watch.send(&cancel(0));
    assert_eq!(next(&mut watch).await, "0@1 canceled");
    member.begin_shutdown();
    assert_eq!(next(&mut watch).await, "end 14 etcdserver: server stopped");
    member.machine.resume();
    assert_eq!(waiting.await.expect("no panic"), 2);
    drop(client);
    member.join();
}
