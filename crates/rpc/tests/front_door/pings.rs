//! When a ping is answered that comes beside a request.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use api::etcdserverpb as pb;

use crate::client::frame;
use crate::member::Member;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// So many times in sequence both answers must come at once: now and then a slow reader sees two writes as one ...
const IN_SEQUENCE: u32 = 20;
/// ... and a stalled thread makes two of one.
const TRIES: u32 = 2000;

fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A ping and a whole put, as grpc-go writes them: at once.
fn ping_and_put(stream: u32) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/etcdserverpb.KV/Put"),
        (":authority", "etcd"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // A literal with a new name that enters no table.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    let put = frame(&pb::PutRequest { key: "k".into(), ..Default::default() });
    [
        http2_frame(PING, 0, 0, &[7; 8]),
        http2_frame(HEADERS, END_HEADERS, stream, &block),
        http2_frame(DATA, END_STREAM, stream, &put),
    ]
    .concat()
}

/// A connection on which both sides have said what one begins with.
fn open(member: &Member) -> TcpStream {
    let mut socket = member.connect();
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("TCP");
    socket.set_nodelay(true).expect("TCP");
    let settings = http2_frame(SETTINGS, 0, 0, &[]);
    let greeting = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings].concat();
    socket.write_all(&greeting).expect("open");
    let mut bytes = Vec::new();
    while !kinds(&bytes).contains(&(SETTINGS, ACK)) {
        read(&mut socket, &mut bytes);
    }
    let ack = http2_frame(SETTINGS, ACK, 0, &[]);
    socket.write_all(&ack).expect("open");
    socket
}

fn read(socket: &mut TcpStream, bytes: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    let read = socket.read(&mut buffer).expect("an answer");
    assert!(read > 0, "closed behind {bytes:?}");
    bytes.extend_from_slice(&buffer[..read]);
}

/// Kind and flags of each whole frame.
fn kinds(mut bytes: &[u8]) -> Vec<(u8, u8)> {
    let mut kinds = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some(rest) = rest.get(length..) else { break };
        kinds.push((head[3], head[4]));
        bytes = rest;
    }
    kinds
}

#[test]
fn a_ping_is_answered_with_the_request_beside_it() {
    let member = Member::start();
    let mut socket = open(&member);
    let mut in_sequence = 0;
    for number in 0..TRIES {
        socket.write_all(&ping_and_put(2 * number + 1)).expect("open");
        let mut bytes = Vec::new();
        read(&mut socket, &mut bytes);
        let first = kinds(&bytes);
        assert_eq!(first[0], (PING, ACK));
        // The end of the answer: trailers.
        while kinds(&bytes).iter().filter(|kind| kind.0 == HEADERS).count() < 2 {
            read(&mut socket, &mut bytes);
        }
        in_sequence = if first.len() > 1 { in_sequence + 1 } else { 0 };
        if in_sequence == IN_SEQUENCE {
            return;
        }
    }
    panic!("two writes for most of {TRIES}");
}

#[test]
fn a_ping_is_answered_though_the_request_beside_it_waits() {
    let member = Member::start();
    let mut socket = open(&member);
    member.machine.pause();
    socket.write_all(&ping_and_put(1)).expect("open");
    let mut bytes = Vec::new();
    read(&mut socket, &mut bytes);
    assert_eq!(kinds(&bytes), [(PING, ACK)]);
    member.machine.resume();
    while !kinds(&bytes).iter().any(|kind| kind.0 == HEADERS) {
        read(&mut socket, &mut bytes);
    }
}
