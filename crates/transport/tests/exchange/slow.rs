//! Bodies that come too slowly.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use raft::{Message, MessageType, SnapshotStatus};
use transport::codec::MessageEncoder;
use transport::{Event, OutSnapshot, Pace};

use crate::node::{CLUSTER, HONEST, LIMIT, Node, database, join, snapshot};

/// Sends a request, and then one byte of its body after the other until there is an answer, which it returns.
fn trickle(address: &str, path: &str, begin: &[u8]) -> thread::JoinHandle<String> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n{HONEST}\r\n");
    stream.write_all(head.as_bytes()).expect("a request");
    stream.write_all(begin).expect("the begin of a body");
    let mut receiver = stream.try_clone().expect("a socket");
    let answered = thread::spawn(move || {
        let mut answer = Vec::new();
        // Who refuses to read on resets the connection behind its answer.
        let _ = receiver.read_to_end(&mut answer);
        String::from_utf8(answer).expect("text")
    });
    thread::spawn(move || {
        while !answered.is_finished() && stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
        answered.join().expect("an answer")
    })
}

#[test]
fn who_sends_one_byte_now_and_then_is_given_up() {
    let pace = Pace { bytes: 16, window: Duration::from_millis(500) };
    // Silence alone would not end it.
    let (one, two) = (Node::start(1), Node::start_with(2, CLUSTER, 2 * LIMIT, pace));
    join(&one, &two);
    let mut database_head = Vec::new();
    MessageEncoder::encode(&snapshot(1, 2, 7), &mut database_head);
    database_head.extend_from_slice(&database(5000));
    let slow = [
        ("/raft/snapshot", database_head.as_slice()),
        // Within the message that precedes a database.
        ("/raft/snapshot", b"\0\0\0\0\0\0\x10\0\x08\x07"),
        ("/raft", b"\x08\x05\x10"),
        ("/leases", b"\x08"),
    ];
    let slow = slow.map(|(path, begin)| trickle(&two.address, path, begin));
    let deadline = Instant::now() + LIMIT;
    let failures = two.metrics.snapshot_receive_failures.with_label_values(&["1"]);
    let arriving = two.metrics.snapshot_receive_inflights_total.with_label_values(&["1"]);
    while arriving.get() == 0 && failures.get() == 0 {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(2));
    }
    // Who is fast is served meanwhile.
    let (message, db) = (snapshot(1, 2, 0x1234), database(300_000));
    one.transport.send_snapshot(OutSnapshot {
        message: message.clone(),
        db: Box::new(std::io::Cursor::new(db.clone())),
        db_bytes: db.len() as u64,
    });
    assert_eq!(two.wait_message(), message);
    let answers = slow.map(|slow| slow.join().expect("an answer"));
    for (answer, parts) in answers.iter().zip([
        ["HTTP/1.1 500 ", "failed to save KV snapshot (the body comes too slowly)\n"],
        ["HTTP/1.1 400 ", "failed to decode raft message (the body comes too slowly)\n"],
        ["HTTP/1.1 400 ", "error reading raft message\n"],
        ["HTTP/1.1 400 ", "error reading body\n"],
    ]) {
        assert!(parts.iter().all(|part| answer.contains(part)), "{parts:?}: {answer}");
    }
    two.wait_files(&["0000000000001234.snap.db"]);
    assert_eq!((arriving.get(), failures.get()), (0, 1));
    two.wait_no_message();
    // And the member goes on.
    let vote = Message { msg_type: MessageType::Vote, from: 1, to: 2, ..Message::default() };
    one.transport.send([vote.clone()]);
    assert_eq!(two.wait_message(), vote);
}

#[test]
fn who_answers_one_byte_now_and_then_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut head = [0; 2048];
                let _ = connection.read(&mut head);
                let mut part = b"HTTP/1.1 500 \r\nContent-Length: 1000000\r\n\r\n".as_slice();
                while connection.write_all(part).is_ok() {
                    part = b"x";
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
    });
    let pace = Pace { bytes: 16, window: Duration::from_millis(500) };
    let one = Node::start_with(1, CLUSTER, 2 * LIMIT, pace);
    one.transport.add_peer(2, &[url]).expect("a URL");
    one.transport.send_snapshot(OutSnapshot {
        message: snapshot(1, 2, 7),
        db: Box::new(std::io::empty()),
        db_bytes: 0,
    });
    let status = one.wait(|event| match event {
        Event::Snapshot { status, .. } => Some(status),
        _ => None,
    });
    assert_eq!(status, SnapshotStatus::Failure);
}
