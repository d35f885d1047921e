//! When a ping is answered that comes beside a request.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use api::etcdserverpb as pb;

use crate::client::{PREFACE, raw_call};
use crate::member::Member;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
/// A turn in between makes two writes of one: where a thread stalls, not each time.
const TRIES: u32 = 100;

/// A ping and a whole put, as grpc-go writes them: at once.
fn ping_and_put(stream: u32) -> Vec<u8> {
    let put = pb::PutRequest { key: "k".into(), ..Default::default() };
    let mut bytes = vec![0, 0, 8, PING, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7];
    bytes.extend(raw_call(stream, "/etcdserverpb.KV/Put", &put));
    bytes
}

/// A connection on which both sides have said what one begins with, and on which each read is one write.
fn open(member: &Member) -> UnixStream {
    let mut socket = member.connect_by_records();
    socket.write_all(PREFACE).expect("open");
    let mut bytes = Vec::new();
    while !kinds(&bytes).contains(&(SETTINGS, ACK)) {
        read(&mut socket, &mut bytes);
    }
    socket
}

fn read(socket: &mut UnixStream, bytes: &mut Vec<u8>) {
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
    for number in 0..TRIES {
        socket.write_all(&ping_and_put(2 * number + 1)).expect("open");
        let mut bytes = Vec::new();
        read(&mut socket, &mut bytes);
        let first = kinds(&bytes);
        assert_eq!(first[0], (PING, ACK));
        if first.len() > 1 {
            return;
        }
        // The end of the answer: trailers.
        while kinds(&bytes).iter().filter(|kind| kind.0 == HEADERS).count() < 2 {
            read(&mut socket, &mut bytes);
        }
    }
    panic!("two writes for each of {TRIES}");
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
