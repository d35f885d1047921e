use std::io::{Read as _, Write as _};
use std::time::Duration;

use api::etcdserverpb as pb;
use bytes::{BufMut, Bytes, BytesMut};

use crate::client::{Client, frame};
use crate::member::Member;

const RANGE: &str = "/etcdserverpb.KV/Range";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

fn get() -> pb::RangeRequest {
    pb::RangeRequest { key: "k".into(), serializable: true, ..Default::default() }
}

async fn assert_serves(member: &Member) {
    let client = Client::connect(member.address).await;
    assert_eq!(client.call(RANGE, &get()).await.code, 0);
}

/// The payload of the first GOAWAY in what a server wrote.
fn go_away(bytes: &[u8]) -> Option<(u32, String)> {
    let mut rest = bytes;
    while let Some((head, after)) = rest.split_at_checked(9) {
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (payload, after) = after.split_at_checked(len)?;
        if head[3] == 7 {
            let code = u32::from_be_bytes(payload[4..8].try_into().ok()?);
            return Some((code, String::from_utf8_lossy(&payload[8..]).into_owned()));
        }
        rest = after;
    }
    None
}

fn ping() -> Vec<u8> {
    [b"\0\0\x08\x06\0\0\0\0\0".as_slice(), &[7; 8]].concat()
}

#[tokio::test]
async fn too_many_pings_end_the_connection() {
    let member = Member::start();
    let mut socket = member.connect();
    socket.write_all(&[PREFACE, SETTINGS, &ping().repeat(4)].concat()).expect("open");
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).expect("closed in good order");
    assert_eq!(go_away(&bytes), Some((0xb, "too_many_pings".to_owned())));
    assert_serves(&member).await;
}

#[tokio::test]
async fn garbage_ends_its_connection_only() {
    let member = Member::start();
    for garbage in [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".as_slice(),
        b"GARBAGE\r\n\r\n",
        &[0; 1000],
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        let mut socket = member.connect();
        socket.write_all(garbage).expect("open");
        socket.shutdown(std::net::Shutdown::Write).expect("open");
        let mut bytes = Vec::new();
        let _ = socket.read_to_end(&mut bytes);
    }
    let mut socket = member.connect();
    socket.write_all(&[PREFACE, b"\xff\xff\xff\0\0\0\0\0\0garbage"].concat()).expect("open");
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).expect("closed in good order");
    assert!(go_away(&bytes).is_some());
    assert_serves(&member).await;
}

#[tokio::test]
async fn idle_connections_cost_nobody_anything() {
    let member = Member::start();
    let half_said: Vec<_> = (0..300)
        .map(|n| {
            let mut socket = member.connect();
            socket.write_all(&PREFACE[..n % PREFACE.len()]).expect("open");
            socket
        })
        .collect();
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(Client::connect(member.address).await);
    }
    assert_serves(&member).await;
    drop(half_said);
    assert_eq!(idle[99].call(RANGE, &get()).await.code, 0);
}

#[tokio::test]
async fn streams_that_are_opened_and_left() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let mut left = Vec::new();
    for n in 0..2000 {
        let mut call = client.open(RANGE, &[]).await;
        // Half a prefix, or half a message.
        let half: &'static [u8] = if n % 2 == 0 { b"\0\0" } else { b"\0\0\0\0\x09abc" };
        call.send_bytes(Bytes::from_static(half), false);
        left.push(call);
    }
    assert_eq!(client.call(RANGE, &get()).await.code, 0);
    for call in left {
        call.reset();
    }
    assert_eq!(client.call(RANGE, &get()).await.code, 0);
}

#[tokio::test]
async fn the_number_of_streams_is_limited() {
    let limits = rpc::Limits { max_concurrent_streams: 10, ..rpc::Limits::default() };
    let member = Member::with_limits(limits);
    let client = Client::connect(member.address).await;
    assert_eq!(client.call(RANGE, &get()).await.code, 0);
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(client.open(RANGE, &[]).await);
    }
    // The eleventh is held back by the client until one of the ten ends.
    let eleventh = tokio::spawn({
        let client = client.clone();
        async move { client.call(RANGE, &get()).await.code }
    });
    tokio::task::yield_now().await;
    assert!(!eleventh.is_finished());
    open.pop().expect("open").reset();
    assert_eq!(eleventh.await.expect("no panic"), 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_gets_what_it_asked_for_later() {
    let member = Member::start();
    let writer = Client::connect(member.address).await;
    let value = vec![b'x'; 1 << 20];
    let put = pb::PutRequest { key: "k".into(), value: value.clone().into(), ..Default::default() };
    assert_eq!(writer.call("/etcdserverpb.KV/Put", &put).await.code, 0);
    let slow = Client::connect(member.address).await;
    let mut calls = Vec::new();
    for n in 0..80 {
        let mut call = slow.open(RANGE, &[]).await;
        let mut get = get();
        get.serializable = n % 2 == 0;
        call.send_bytes(frame(&get), true);
        calls.push(call);
    }
    assert_serves(&member).await;
    // All at once: what lies unread on one stream counts against the window of all.
    let answers: Vec<_> = calls.into_iter().map(|call| tokio::spawn(call.answer())).collect();
    for answer in answers {
        let response: pb::RangeResponse = answer.await.expect("no panic").ok();
        assert_eq!(response.kvs[0].value, value);
    }
}

#[tokio::test]
async fn a_message_in_one_byte_pieces() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    let mut call = client.open(RANGE, &[]).await;
    for byte in frame(&get()) {
        let mut piece = BytesMut::new();
        piece.put_u8(byte);
        call.send_bytes(piece.freeze(), false);
        tokio::task::yield_now().await;
    }
    call.half_close();
    assert_eq!(call.answer().await.code, 0);
}

#[tokio::test]
async fn rapid_resets_are_survived() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    for _ in 0..3000 {
        let mut call = client.open(RANGE, &[]).await;
        call.send(&get());
        call.reset();
    }
    assert_serves(&member).await;
}

#[tokio::test]
async fn a_connection_that_vanishes_leaves_nothing_behind() {
    let member = Member::with_limits(rpc::Limits::default());
    member.machine.pause();
    for _ in 0..10 {
        let client = Client::connect(member.address).await;
        let mut watch = client.open("/etcdserverpb.Watch/Watch", &[]).await;
        watch.send(&pb::WatchRequest::default());
        let mut put = client.open("/etcdserverpb.KV/Put", &[]).await;
        put.send(&pb::PutRequest { key: "a".into(), ..Default::default() });
    }
    member.machine.resume();
    assert_serves(&member).await;
    // Without open calls the core ends at once and not after the drain timeout.
    let stopped = tokio::task::spawn_blocking(move || member.join());
    let stopped = tokio::time::timeout(Duration::from_secs(5), stopped).await;
    stopped.expect("in time").expect("no panic");
}
