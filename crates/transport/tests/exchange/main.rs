//! Transports over the loopback.

mod node;
mod requests;
mod slow;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft::{Entry, Message, MessageType, SnapshotStatus};
use transport::{Event, OutSnapshot, Pace};

use crate::node::{CLUSTER, LIMIT, Node, database, pair, read, snapshot};

#[test]
fn all_kinds_of_messages_arrive_in_order() {
    let (one, two) = pair();
    let types = [
        MessageType::Prop,
        MessageType::AppResp,
        MessageType::Vote,
        MessageType::VoteResp,
        MessageType::Heartbeat,
        MessageType::HeartbeatResp,
        MessageType::TransferLeader,
        MessageType::TimeoutNow,
        MessageType::ReadIndex,
        MessageType::ReadIndexResp,
        MessageType::PreVote,
        MessageType::PreVoteResp,
        MessageType::ForgetLeader,
    ];
    let sent: Vec<Message> = types
        .iter()
        .zip(1..)
        .map(|(&msg_type, index)| Message {
            msg_type,
            from: 1,
            to: 2,
            term: 3,
            index,
            ..Message::default()
        })
        .collect();
    one.transport.send(sent.clone());
    let received: Vec<Message> = sent.iter().map(|_| two.wait_message()).collect();
    assert_eq!(received, sent);

    let entry = |index, data: &'static [u8]| Entry {
        term: 3,
        index,
        data: Bytes::from_static(data),
        ..Entry::default()
    };
    let appends: Vec<Message> = (5..105)
        .map(|index| Message {
            msg_type: MessageType::App,
            from: 2,
            to: 1,
            term: 3,
            log_term: 3,
            index,
            entries: vec![entry(index + 1, b"data")],
            commit: index,
            ..Message::default()
        })
        .collect();
    two.transport.send(appends.clone());
    let received: Vec<Message> = appends.iter().map(|_| one.wait_message()).collect();
    assert_eq!(received, appends);
    assert_eq!(one.transport.active_peers(), 1);
    assert!(two.transport.active_since(1).is_some());
    assert!(one.metrics.peer_received_bytes_total.with_label_values(&["2"]).get() > 0);
}

#[test]
fn local_messages_and_those_to_others_do_not_arrive() {
    let (one, two) = pair();
    let to_two = |msg_type| Message { msg_type, from: 1, to: 2, term: 1, ..Message::default() };
    one.transport.send([to_two(MessageType::Hup), to_two(MessageType::StorageAppend)]);
    one.transport.send([to_two(MessageType::Vote)]);
    assert_eq!(two.wait_message().msg_type, MessageType::Vote);
}

#[test]
fn a_snapshot_arrives_with_its_database() {
    let (one, two) = pair();
    let db = database(3_000_000);
    let message = snapshot(1, 2, 0x1234);
    one.transport.send_snapshot(OutSnapshot {
        message: message.clone(),
        db: Box::new(std::io::Cursor::new(db.clone())),
        db_bytes: db.len() as u64,
    });
    assert_eq!(two.wait_message(), message);
    // It is there before raft hears of it.
    assert_eq!(read(&two.disk, "/member/snap/0000000000001234.snap.db"), db);
    let status = one.wait(|event| match event {
        Event::Snapshot { to: 2, status } => Some(status),
        _ => None,
    });
    assert_eq!(status, SnapshotStatus::Finish);
    assert_eq!(one.metrics.snapshot_send_success.with_label_values(&["2"]).get(), 1);
    assert_eq!(two.metrics.snapshot_receive_success.with_label_values(&["1"]).get(), 1);
}

/// A database that can't be read to its end.
struct Broken(usize);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::Error::other("the disk has failed"));
        }
        self.0 -= 1;
        let part = database(buffer.len());
        buffer.copy_from_slice(&part);
        Ok(part.len())
    }
}

#[test]
fn a_broken_snapshot_leaves_nothing() {
    let (one, two) = pair();
    let send = |db: Box<dyn Read + Send>, to| {
        one.transport.send_snapshot(OutSnapshot { message: snapshot(1, to, 7), db, db_bytes: 0 });
        one.wait(|event| match event {
            Event::Snapshot { status, .. } => Some(status),
            _ => None,
        })
    };
    assert_eq!(send(Box::new(Broken(5)), 2), SnapshotStatus::Failure);
    assert_eq!(send(Box::new(std::io::Cursor::new(vec![1; 9000])), 2), SnapshotStatus::Failure);
    assert_eq!(send(Box::new(std::io::empty()), 2), SnapshotStatus::Failure);
    assert_eq!(send(Box::new(std::io::empty()), 99), SnapshotStatus::Failure);
    // What was sent in between arrives, so the snapshots have not.
    one.transport.send([Message {
        msg_type: MessageType::Vote,
        from: 1,
        to: 2,
        ..Message::default()
    }]);
    assert_eq!(two.wait_message().msg_type, MessageType::Vote);
    two.wait_files(&[]);
}

#[test]
fn a_member_that_is_not_known_yet_is_answered_by_the_pipeline() {
    let (one, two) = (Node::start(1), Node::start(2));
    // Two knows one; one learns of two by its requests for streams.
    two.add(&one);
    two.transport.send([Message {
        msg_type: MessageType::Vote,
        from: 2,
        to: 1,
        ..Message::default()
    }]);
    assert_eq!(one.wait_message().msg_type, MessageType::Vote);
    let answer = Message { msg_type: MessageType::VoteResp, from: 1, to: 2, ..Message::default() };
    one.transport.send([answer.clone()]);
    assert_eq!(two.wait_message(), answer);
}

#[test]
fn a_removed_member_is_told() {
    let (one, two) = pair();
    one.transport.remove_peer(2);
    two.wait(|event| matches!(event, Event::Removed).then_some(()));
}

#[test]
fn what_was_sent_before_a_removal_arrives() {
    let (one, two) = pair();
    let message = |index| Message {
        msg_type: MessageType::HeartbeatResp,
        from: 1,
        to: 2,
        index,
        ..Message::default()
    };
    one.transport.send((1..=1000).map(message));
    one.transport.remove_peer(2);
    for index in 1..=1000 {
        assert_eq!(two.wait_message().index, index);
    }
    two.wait(|event| matches!(event, Event::Removed).then_some(()));
}

#[test]
fn a_member_whose_process_ends_is_gone() {
    let (one, two) = pair();
    let mut two = two;
    two.is_stopped.store(true, Ordering::Relaxed);
    let _ = TcpStream::connect(&two.address);
    let acceptor = two.acceptor.take().expect("an acceptor");
    acceptor.join().expect("the end of the acceptor");
    drop(two);
    let gone = one.wait(|event| match event {
        Event::Gone(id) => Some(id),
        _ => None,
    });
    assert_eq!(gone, 2);
    assert_eq!(one.transport.active_peers(), 0);
}

#[test]
fn what_there_is_no_room_for_is_dropped_and_said_so() {
    let one = Node::start(1);
    // A listener that accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    one.transport.add_peer(2, &[url]).expect("a URL");
    let message =
        Message { msg_type: MessageType::Heartbeat, from: 1, to: 2, ..Message::default() };
    one.transport.send(vec![message; transport::PIPELINE_MESSAGES_MAX + 5]);
    let id = one.wait(|event| match event {
        Event::Unreachable(id) => Some(id),
        _ => None,
    });
    assert_eq!(id, 2);
}

#[test]
fn an_owner_without_room_hears_of_a_snapshot_later() {
    let one = Node::start(1);
    one.owner.is_full.store(true, Ordering::Relaxed);
    one.transport.send_snapshot(OutSnapshot {
        message: snapshot(1, 2, 7),
        db: Box::new(std::io::empty()),
        db_bytes: 0,
    });
    one.owner.is_full.store(false, Ordering::Relaxed);
    one.wait(|event| matches!(event, Event::Snapshot { to: 2, .. }).then_some(()));
}

/// A peer that answers requests for streams with `stream`, and then says nothing.
struct Fake {
    url: String,
    requests: Receiver<String>,
}

impl Fake {
    fn start(stream: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, requests) = channel();
        thread::spawn(move || {
            let mut open = Vec::new();
            for mut connection in listener.incoming().flatten() {
                let mut head = [0; 2048];
                let len = connection.read(&mut head).unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..len]).into_owned();
                let line = head.lines().next().unwrap_or_default().to_owned();
                let answer = "HTTP/1.1 200 OK\r\nX-Server-Version: 3.7.3\r\nTransfer-Encoding: chunked\r\n\r\n";
                let _ = connection.write_all(answer.as_bytes());
                let _ = connection.write_all(stream);
                open.push(connection);
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { url, requests }
    }

    /// Waits for as many requests for the stream `name`.
    fn wait(&self, name: &str, mut count: usize) {
        while count > 0 {
            let line = self.requests.recv_timeout(LIMIT).expect("a request");
            count -= usize::from(line.contains(name));
        }
    }
}

#[test]
fn a_silent_stream_is_given_up_and_asked_for_again() {
    let fake = Fake::start(b"");
    let one = Node::start_with(1, CLUSTER, Duration::from_millis(300), Pace::default());
    one.transport.add_peer(2, std::slice::from_ref(&fake.url)).expect("a URL");
    fake.wait("GET /raft/stream/msgapp/1 ", 3);
}

#[test]
fn a_stream_of_garbage_is_given_up_and_asked_for_again() {
    // A message type that there is not, and a message that is none; the other stream gets a length of 2^63.
    for stream in [b"1\r\n\x09\r\n".as_slice(), b"9\r\n\x80\0\0\0\0\0\0\0\0\r\n", b"junk"] {
        let fake = Fake::start(stream);
        let one = Node::start(1);
        one.transport.add_peer(2, std::slice::from_ref(&fake.url)).expect("a URL");
        fake.wait("GET /raft/stream/msgapp/1 ", 2);
        one.wait_no_message();
    }
}

/// Reads a request with a message in it and returns the message, `None` for any other request and at the end.
fn read_post(connection: &mut TcpStream) -> Option<Message> {
    let mut request = Vec::new();
    let mut part = [0; 2048];
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let (_, rest) = head.strip_prefix("post /raft ")?.split_once("content-length: ")?;
            let len: usize = rest.lines().next()?.parse().ok()?;
            let body = request.get(head.len() + 4..).unwrap_or_default();
            if body.len() == len {
                return Message::decode(Bytes::copy_from_slice(body)).ok();
            }
        }
        let len = connection.read(&mut part).ok().filter(|len| *len > 0)?;
        request.extend_from_slice(&part[..len]);
    }
}

/// A proposal that comes twice is applied twice.
#[test]
fn what_may_have_arrived_is_not_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, arrived) = channel();
    // Answers the first message of each connection, and none behind it.
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                for is_answered in [true, false] {
                    let Some(message) = read_post(&mut connection) else { return };
                    if is_answered {
                        let _ = connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
                    }
                    let _ = sender.send((message.index, is_answered));
                }
            });
        }
    });
    let one = Node::start(1);
    one.transport.add_peer(2, &[url]).expect("a URL");
    let mut lost = 0;
    for index in 1..=16 {
        let message =
            Message { msg_type: MessageType::Prop, from: 1, to: 2, index, ..Message::default() };
        one.transport.send(vec![message]);
        let (found, is_answered) = arrived.recv_timeout(LIMIT).expect("a message");
        assert_eq!(found, index);
        if !is_answered {
            lost += 1;
            one.wait(|event| matches!(event, Event::Unreachable(2)).then_some(()));
        }
    }
    assert!(lost > 0);
    assert!(arrived.try_recv().is_err());
}

#[test]
fn many_messages_at_once_arrive_or_are_said_to_be_lost() {
    let (one, two) = pair();
    let data = Bytes::from(vec![7; 10_000]);
    let message = |index| Message {
        msg_type: MessageType::App,
        from: 1,
        to: 2,
        term: 1,
        log_term: 1,
        index,
        entries: vec![Entry { term: 1, index: index + 1, data: data.clone(), ..Entry::default() }],
        ..Message::default()
    };
    let sent = 2 * transport::STREAM_MESSAGES_MAX as u64;
    one.transport.send((0..sent).map(message));
    // Then one that is sent when there is room again.
    let mut last = 0;
    let mut received = 0;
    let deadline = Instant::now() + LIMIT;
    let mut is_over = false;
    while !is_over {
        assert!(Instant::now() < deadline, "{received} of {sent}");
        one.transport.send([message(1_000_000)]);
        while let Ok(event) = two.events.recv_timeout(Duration::from_millis(20)) {
            let Event::Message(message) = event else { continue };
            is_over |= message.index == 1_000_000;
            assert!(message.index >= last, "{} behind {last}", message.index);
            last = message.index;
            received += u64::from(!is_over);
        }
    }
    if received < sent {
        one.wait(|event| matches!(event, Event::Unreachable(2)).then_some(()));
    }
}

#[test]
fn members_of_another_cluster_do_not_talk() {
    let (one, two) = (Node::start_in(1, 0xa), Node::start_in(2, 0xb));
    one.add(&two);
    two.add(&one);
    one.transport.send([Message {
        msg_type: MessageType::Vote,
        from: 1,
        to: 2,
        ..Message::default()
    }]);
    let id = one.wait(|event| match event {
        Event::Unreachable(id) => Some(id),
        _ => None,
    });
    assert_eq!(id, 2);
    assert_eq!((one.streams_to(&two), two.streams_to(&one)), (0, 0));
    assert!(two.events.try_recv().is_err());
}
