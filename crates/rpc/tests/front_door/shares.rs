//! What clients who do not go on may hold of the member's time and memory, and that others are served meanwhile.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use api::etcdserverpb as pb;
use bytes::Bytes;
use rpc::Limits;

use crate::client::{Call, Client, PREFACE, frame, raw_call};
use crate::member::Member;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

fn get() -> pb::RangeRequest {
    pb::RangeRequest { key: "k".into(), serializable: true, ..Default::default() }
}

fn limits() -> Limits {
    Limits { drain_timeout: Duration::ZERO, ..Limits::default() }
}

async fn put(client: &Client, bytes: usize) {
    let value = vec![b'x'; bytes].into();
    let put = pb::PutRequest { key: "k".into(), value, ..Default::default() };
    assert_eq!(client.call(PUT, &put).await.code, 0);
}

/// A call of which half the message was sent.
async fn half_a_call(client: &Client, bytes: usize) -> Call {
    let mut call = client.open(PUT, &[]).await;
    call.send_bytes(Bytes::from_static(b"\0\0\x1f\xff\xff"), false);
    call.send_bytes(vec![b'x'; bytes].into(), false);
    call
}

#[test]
fn whoever_does_not_begin_is_hung_up_on() {
    let handshake_timeout = Duration::from_millis(1500);
    let member = Member::with_limits(Limits { handshake_timeout, ..limits() });
    let words: [&[u8]; 5] = [
        b"",
        b"P",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0",
        b"GET /version HTTP/1.1",
    ];
    let sockets: Vec<TcpStream> = words
        .iter()
        .map(|words| {
            let mut socket = member.connect();
            socket.write_all(words).expect("open");
            socket
        })
        .collect();
    for mut socket in sockets {
        let mut said = Vec::new();
        let _ = socket.read_to_end(&mut said);
    }
    assert_eq!(member.connections(), 0);
}

#[test]
fn one_byte_after_another_does_not_buy_time() {
    let timeout = Duration::from_millis(1500);
    let member = Member::with_limits(Limits {
        handshake_timeout: timeout,
        header_timeout: timeout,
        ..limits()
    });
    let words: [&[u8]; 2] =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /version HTTP/1.1\r\nHost: "];
    for begin in words {
        let mut socket = member.connect();
        socket.write_all(&begin[..begin.len() - 1]).expect("open");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        // Each of these bytes comes in time.
        for _ in 0.. {
            let _ = socket.write_all(&begin[begin.len() - 1..]);
            match socket.read(&mut [0; 1024]) {
                Ok(0) => break,
                Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(_) => {}
                Err(_) => break,
            }
            if begin[0] == b'P' {
                // Anything behind the preface would be garbage.
                let _ = socket.read_to_end(&mut Vec::new());
            }
        }
    }
}

#[tokio::test]
async fn requests_that_do_not_come_to_their_end_give_way_to_others() {
    const MAX: usize = 4 << 20;
    let member = Member::with_limits(Limits { incomplete_bytes_max: MAX, ..limits() });
    let (hostile, honest) =
        (Client::connect(member.address).await, Client::connect(member.address).await);
    let mut left = Vec::new();
    for _ in 0..8 {
        left.push(half_a_call(&hostile, 900 << 10).await);
    }
    // Four of them fit; the oldest ones are ended.
    for call in left.drain(..4) {
        assert_eq!(call.answer().await.error(), "8 too many incomplete requests");
    }
    // What is there now is older than any request of somebody honest.
    for _ in 0..8 {
        put(&honest, 1_000_000).await;
    }
    assert_eq!(honest.call(RANGE, &get()).await.code, 0);
}

#[tokio::test]
async fn with_too_many_calls_each_connection_has_its_share() {
    let member = Member::with_limits(Limits { calls_max: 100, ..limits() });
    let (hostile, honest) =
        (Client::connect(member.address).await, Client::connect(member.address).await);
    let mut left = Vec::new();
    for _ in 0..100 {
        left.push(half_a_call(&hostile, 1).await);
    }
    // The 101st call is refused to whom has had many, and not to others.
    let refused = half_a_call(&hostile, 1).await.ended().await;
    assert_eq!(refused, Some(h2::Reason::REFUSED_STREAM));
    let mut of_honest = Vec::new();
    for _ in 0..50 {
        of_honest.push(half_a_call(&honest, 1).await);
    }
    assert_eq!(half_a_call(&honest, 1).await.ended().await, Some(h2::Reason::REFUSED_STREAM));
    // Heads may overtake resets on their way out of the client.
    of_honest.pop().expect("fifty").reset();
    while is_refused(&honest).await {}
    left.into_iter().for_each(Call::reset);
    while is_refused(&hostile).await {}
    assert_eq!(hostile.call(RANGE, &get()).await.code, 0);
}

/// Whether a whole call is refused that would be answered otherwise.
async fn is_refused(client: &Client) -> bool {
    let mut call = client.open(RANGE, &[]).await;
    call.send_bytes(frame(&get()), true);
    call.ended().await.is_some()
}

#[tokio::test]
async fn answers_that_nobody_takes_give_way_to_others() {
    let member = Member::with_limits(Limits {
        unwritten_bytes_max: 4 << 20,
        stall_timeout: Duration::ZERO,
        ..limits()
    });
    let honest = Client::connect(member.address).await;
    put(&honest, 1 << 20).await;
    // Its windows are small, and it reads nothing.
    let mut deaf = member.connect();
    deaf.write_all(PREFACE).expect("open");
    for stream in (1..200).step_by(2) {
        deaf.write_all(&raw_call(stream, RANGE, &get())).expect("open");
    }
    for _ in 0..20 {
        let response: pb::RangeResponse = honest.call(RANGE, &get()).await.ok();
        assert_eq!(response.kvs[0].value.len(), 1 << 20);
    }
    // Since that is too much, it is hung up on, and its memory is free again.
    let mut said = Vec::new();
    let _ = deaf.read_to_end(&mut said);
    assert!(said.len() < 1 << 20);
    assert_eq!(honest.call(RANGE, &get()).await.code, 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_keeps_no_pages_of_the_file() {
    const ROWS: i64 = 16;
    let member = Member::with_limits(limits());
    let client = Client::connect(member.address).await;
    for row in 0..ROWS {
        let value = vec![b'x'; 1 << 20].into();
        let put = pb::PutRequest { key: format!("k{row}").into(), value, ..Default::default() };
        assert_eq!(client.call(PUT, &put).await.code, 0);
    }
    // Which waits until the rows are in the file.
    compact(&client, 1 + ROWS).await;
    let all = pb::RangeRequest { range_end: "l".into(), ..get() };
    let mut deaf = member.connect();
    deaf.write_all(PREFACE).expect("open");
    deaf.write_all(&raw_call(1, RANGE, &all)).expect("open");
    // It has its answer as far as its window goes; the turn is over when others are answered.
    deaf.read_exact(&mut [0; 40_000]).expect("the beginning");
    assert_eq!(client.call(RANGE, &get()).await.code, 0);
    let delete =
        pb::DeleteRangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    assert_eq!(client.call("/etcdserverpb.KV/DeleteRange", &delete).await.code, 0);
    compact(&client, 2 + ROWS).await;
    for more in 1..4 {
        put(&client, 1).await;
        compact(&client, 2 + ROWS + more).await;
    }
    let status: pb::StatusResponse =
        client.call("/etcdserverpb.Maintenance/Status", &pb::StatusRequest {}).await.ok();
    assert!(status.db_size > ROWS << 20, "{status:?}");
    assert!(status.db_size_in_use < 1 << 20, "{} bytes in use", status.db_size_in_use);
}

async fn compact(client: &Client, revision: i64) {
    let compact = pb::CompactionRequest { revision, physical: true };
    assert_eq!(client.call("/etcdserverpb.KV/Compact", &compact).await.error(), "0 ");
}
