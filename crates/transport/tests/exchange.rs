//! Transports over the loopback, and requests to one that no honest member makes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use env::{Disk, File, MemDisk, Open};
use raft::{Entry, Message, MessageType, Snapshot, SnapshotMetadata, SnapshotStatus};
use transport::{
    Config, DEFAULT_IO_TIMEOUT, Event, HashKv, LeaseRefusal, LeaseTtl, Metrics, OutSnapshot, Owner,
    Refusal, Request, Socket, Transport, Versions,
};
use wal::snap::Snapshotter;

const CLUSTER: u64 = 0xc1;
const LIMIT: Duration = Duration::from_secs(30);
const SNAP: &str = "/member/snap";

/// Passes events on, and answers requests like a member would.
struct Recorder {
    events: Sender<Event>,
    is_full: AtomicBool,
}

impl Owner for Recorder {
    fn event(&self, event: Event) -> Option<Event> {
        if self.is_full.load(Ordering::Relaxed) {
            return Some(event);
        }
        self.events.send(event).err().map(|err| err.0)
    }

    fn request(&self, request: Request) {
        match request {
            Request::Members { reply } => drop(reply.send("[]".to_owned())),
            Request::Version { reply } => {
                let cluster = Some("3.7.0".to_owned());
                drop(reply.send(Versions { cluster, storage: None }));
            }
            Request::Promote { id: 7, token, reply } => {
                drop(reply.send(Ok(format!("[{}]", token.unwrap_or_default()))));
            }
            Request::Promote { reply, .. } => {
                let text = "membership: ID not found".to_owned();
                drop(reply.send(Err(Refusal { status: 404, text })));
            }
            Request::HashKv { revision: 5, reply } => {
                let hash = HashKv { revision: 9, hash: 77, compact_revision: -1, hash_revision: 5 };
                drop(reply.send(Ok(hash)));
            }
            Request::HashKv { reply, .. } => {
                let text = "mvcc: required revision is a future revision";
                drop(reply.send(Err(text.to_owned())));
            }
            // As a server that stops: nobody answers.
            Request::DowngradeEnabled { .. } => {}
            Request::LeaseRenew { id: 1, reply } => drop(reply.send(Ok(60))),
            Request::LeaseRenew { reply, .. } => drop(reply.send(Err(LeaseRefusal::NotFound))),
            Request::LeaseTimeToLive { reply, keys: true, .. } => {
                let ttl = LeaseTtl { ttl: 3, granted_ttl: 60, keys: vec![b"k".to_vec()] };
                drop(reply.send(Ok(ttl)));
            }
            Request::LeaseTimeToLive { reply, .. } => {
                drop(reply.send(Err(LeaseRefusal::NotPrimary)));
            }
        }
    }
}

/// A transport with a port, and what it tells.
struct Node {
    id: u64,
    address: String,
    transport: Arc<Transport>,
    owner: Arc<Recorder>,
    events: Receiver<Event>,
    disk: MemDisk,
    metrics: Metrics,
    is_stopped: Arc<AtomicBool>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Node {
    fn start(id: u64) -> Self {
        Self::start_in(id, CLUSTER)
    }

    fn start_in(id: u64, cluster_id: u64) -> Self {
        Self::start_with(id, cluster_id, DEFAULT_IO_TIMEOUT)
    }

    fn start_with(id: u64, cluster_id: u64, read_timeout: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (sender, events) = channel();
        let owner = Arc::new(Recorder { events: sender, is_full: AtomicBool::new(false) });
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new(SNAP), 0o700).expect("a folder");
        let config = Config {
            id,
            cluster_id,
            urls: vec![format!("http://{address}")],
            version: "3.7.3".to_owned(),
            dial_timeout: Duration::from_secs(2),
            read_timeout,
            write_timeout: DEFAULT_IO_TIMEOUT,
            tls: None,
        };
        let metrics = Metrics::new().expect("metrics");
        let transport = Transport::start(
            config,
            Arc::clone(&owner) as Arc<dyn Owner>,
            Snapshotter::new(disk.clone(), Path::new(SNAP)),
            metrics.clone(),
        );
        let transport = Arc::new(transport.expect("a transport"));
        let is_stopped = Arc::new(AtomicBool::new(false));
        let acceptor = {
            let (transport, is_stopped) = (Arc::clone(&transport), Arc::clone(&is_stopped));
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if is_stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    transport.serve(Socket::Tcp(stream.expect("a connection")));
                }
            })
        };
        let acceptor = Some(acceptor);
        Self { id, address, transport, owner, events, disk, metrics, is_stopped, acceptor }
    }

    fn urls(&self) -> Vec<String> {
        vec![format!("http://{}", self.address)]
    }

    fn add(&self, other: &Self) {
        self.transport.add_peer(other.id, &other.urls()).expect("a URL");
    }

    /// The next event that `pick` makes something of.
    fn wait<T>(&self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).expect("an event in time");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    }

    fn wait_message(&self) -> Message {
        self.wait(|event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        })
    }

    fn wait_no_message(&self) {
        while let Ok(event) = self.events.try_recv() {
            assert!(!matches!(event, Event::Message(_)), "{event:?}");
        }
    }

    /// Waits until the other one listens to both streams.
    fn reach(&self, other: &Self) {
        let deadline = Instant::now() + LIMIT;
        while self.streams_to(other) < 2 {
            assert!(Instant::now() < deadline, "no streams from {} to {}", self.id, other.id);
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// How many streams the other one has open from here.
    fn streams_to(&self, other: &Self) -> usize {
        self.transport.open_streams(other.id)
    }

    /// Sends a raw request and returns the answer, head and body.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        String::from_utf8(answer).expect("text")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn pair() -> (Node, Node) {
    let (one, two) = (Node::start(1), Node::start(2));
    one.add(&two);
    two.add(&one);
    one.reach(&two);
    two.reach(&one);
    (one, two)
}

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

fn database(len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    bytes[16..20].copy_from_slice(&0xED0C_DAED_u32.to_le_bytes());
    bytes
}

fn snapshot(from: u64, to: u64, index: u64) -> Message {
    let metadata = SnapshotMetadata { index, term: 2, ..SnapshotMetadata::default() };
    let snapshot = Snapshot { data: Bytes::from_static(b"{}"), metadata };
    let snapshot = Some(Box::new(snapshot));
    Message { msg_type: MessageType::Snap, from, to, term: 2, snapshot, ..Message::default() }
}

fn read(disk: &MemDisk, path: &str) -> Vec<u8> {
    let file = disk.open(Path::new(path), Open::Read).expect("a file");
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("bytes");
    bytes
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
    let deadline = Instant::now() + LIMIT;
    while !two.disk.list(Path::new(SNAP)).expect("a folder").is_empty() {
        assert!(Instant::now() < deadline, "{:?}", two.disk.list(Path::new(SNAP)));
        thread::sleep(Duration::from_millis(2));
    }
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
    let one = Node::start_with(1, CLUSTER, Duration::from_millis(300));
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

/// A request's first line, its headers and its body, and what the answer begins and ends with.
struct Case {
    line: &'static str,
    headers: &'static str,
    body: &'static str,
    answer: &'static [&'static str],
}

const fn case(
    line: &'static str,
    headers: &'static str,
    body: &'static str,
    answer: &'static [&'static str],
) -> Case {
    Case { line, headers, body, answer }
}

/// Headers of an honest member 2 of the cluster.
const HONEST: &str = "X-Server-From: 2\r\nX-Server-Version: 3.6.0\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: c1\r\n";

const CASES: &[Case] = &[
    case(
        "GET /raft",
        "",
        "",
        &["HTTP/1.1 405 ", "allow: POST\r\n", "\r\n\r\nMethod Not Allowed\n"],
    ),
    case("POST /raft/stream/msgapp/2", "", "", &["HTTP/1.1 405 ", "allow: GET\r\n"]),
    case("GET /raft/snapshot", "", "", &["HTTP/1.1 405 ", "allow: POST\r\n"]),
    case(
        "POST /raft",
        "",
        "",
        &["HTTP/1.1 412 ", "x-etcd-cluster-id: c1\r\n", "\r\n\r\nincompatible version\n"],
    ),
    case(
        "POST /raft",
        "X-Server-Version: 3.7.3\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: c2\r\n",
        "",
        &[
            "HTTP/1.1 412 ",
            "x-etcd-cluster-id: c1\r\n",
            "content-type: text/plain; charset=utf-8\r\n",
            "\r\n\r\ncluster ID mismatch\n",
        ],
    ),
    case(
        "POST /raft",
        "X-Server-Version: 2.3.8\r\nX-Min-Cluster-Version: 2.1.0\r\nX-Etcd-Cluster-ID: c1\r\n",
        "",
        &["HTTP/1.1 412 ", "\r\n\r\nincompatible version\n"],
    ),
    case(
        "POST /raft",
        "X-Server-Version: 4.0.0\r\nX-Min-Cluster-Version: 3.8.0\r\nX-Etcd-Cluster-ID: c1\r\n",
        "",
        &["HTTP/1.1 412 ", "\r\n\r\nincompatible version\n"],
    ),
    case(
        "POST /raft",
        "X-Server-Version: junk\r\nX-Etcd-Cluster-ID: c1\r\n",
        "",
        &["HTTP/1.1 412 "],
    ),
    case(
        "POST /raft",
        HONEST,
        "\x0f",
        &["HTTP/1.1 400 ", "\r\n\r\nerror unmarshalling raft message\n"],
    ),
    // MsgVote to 9, and from 5, which was removed.
    case(
        "POST /raft",
        HONEST,
        "\x08\x05\x10\x09\x18\x02",
        &["HTTP/1.1 500 ", "\r\n\r\nerror processing raft message\n"],
    ),
    case("POST /raft", HONEST, "\x08\x05\x10\x01\x18\x05", &["HTTP/1.1 500 "]),
    case("POST /raft", HONEST, "\x08\x05\x10\x01\x18\x02", &["HTTP/1.1 204 "]),
    case(
        "GET /raft/stream/msgapp/2",
        "",
        "",
        &["HTTP/1.1 412 ", "x-server-version: 3.7.3\r\n", "incompatible version\n"],
    ),
    case("GET /raft/stream/other/2", HONEST, "", &["HTTP/1.1 404 ", "\r\n\r\ninvalid path\n"]),
    case("GET /raft/stream/msgapp", HONEST, "", &["HTTP/1.1 404 ", "\r\n\r\ninvalid path\n"]),
    case("GET /raft/stream/msgapp/2/3", HONEST, "", &["HTTP/1.1 404 ", "\r\n\r\ninvalid path\n"]),
    case("GET /raft/stream/msgapp/xyz", HONEST, "", &["HTTP/1.1 404 ", "\r\n\r\ninvalid from\n"]),
    case("GET /raft/stream/msgapp/+2", HONEST, "", &["HTTP/1.1 404 ", "\r\n\r\ninvalid from\n"]),
    case("GET /raft/stream/msgapp/5", HONEST, "", &["HTTP/1.1 410 ", "\r\n\r\nremoved member\n"]),
    case(
        "GET /raft/stream/msgapp/6",
        HONEST,
        "",
        &["HTTP/1.1 404 ", "\r\n\r\nerror sender not found\n"],
    ),
    case(
        "GET /raft/stream/message/2",
        HONEST,
        "",
        &["HTTP/1.1 412 ", "\r\n\r\nto field mismatch\n"],
    ),
    case(
        "POST /raft/snapshot",
        HONEST,
        "\0\0\0\0\x7f\0\0\0",
        &[
            "HTTP/1.1 400 ",
            "\r\n\r\nfailed to decode raft message (rafthttp: error limit exceeded)\n",
        ],
    ),
    case(
        "POST /raft/snapshot",
        HONEST,
        "\0\0\0\0\0\0\0\x09\x08",
        &["HTTP/1.1 400 ", "\r\n\r\nfailed to decode raft message (unexpected EOF)\n"],
    ),
    case(
        "POST /raft/snapshot",
        HONEST,
        "\0\0\0\0\0\0\0\x02\x08\x05",
        &["HTTP/1.1 400 ", "\r\n\r\nwrong raft message type\n"],
    ),
    case(
        "POST /raft/snapshot",
        HONEST,
        "\0\0\0\0\0\0\0\x02\x08\x07",
        &["HTTP/1.1 400 ", "failed to decode raft message"],
    ),
    case("GET /raft/probing", "", "", &["HTTP/1.1 200 ", "\r\n\r\n{\"OK\":true,\"Now\":\"20"]),
    case(
        "GET /version",
        "",
        "",
        &[
            "HTTP/1.1 200 ",
            "content-type: application/json\r\n",
            "\r\n\r\n{\"etcdserver\":\"3.7.3\",\"etcdcluster\":\"3.7.0\",\"storage\":\"unknown\"}",
        ],
    ),
    case("GET /members", "", "", &["HTTP/1.1 200 ", "x-etcd-cluster-id: c1\r\n", "\r\n\r\n[]\n"]),
    case("PUT /members", "", "", &["HTTP/1.1 405 ", "allow: GET\r\n"]),
    case(
        "POST /members/promote/7",
        "Authorization: tok\r\n",
        "",
        &["HTTP/1.1 200 ", "\r\n\r\n[tok]\n"],
    ),
    case(
        "POST /members/promote/8",
        "",
        "",
        &["HTTP/1.1 404 ", "\r\n\r\nmembership: ID not found\n"],
    ),
    case(
        "POST /members/promote/x7",
        "",
        "",
        &["HTTP/1.1 404 ", "\r\n\r\nmember x7 not found in cluster\n"],
    ),
    case(
        "GET /members/hashkv",
        "",
        "{\"revision\":5}",
        &[
            "HTTP/1.1 200 ",
            "\r\n\r\n{\"header\":{\"revision\":9},\"hash\":77,\"compact_revision\":-1,\"hash_revision\":5}",
        ],
    ),
    case(
        "GET /members/hashkv",
        "",
        "{}",
        &["HTTP/1.1 400 ", "\r\n\r\nmvcc: required revision is a future revision\n"],
    ),
    case(
        "GET /members/hashkv",
        "",
        "{",
        &["HTTP/1.1 400 ", "\r\n\r\nerror unmarshalling request\n"],
    ),
    case(
        "GET /members/hashkv",
        "X-Etcd-Cluster-ID: c2\r\n",
        "{}",
        &["HTTP/1.1 412 ", "\r\n\r\ncluster ID mismatch\n"],
    ),
    case("GET /downgrade/enabled", "", "", &["HTTP/1.1 500 "]),
    case("GET /leases", "", "", &["HTTP/1.1 405 ", "Method Not Allowed\n"]),
    case(
        "POST /leases",
        "",
        "\x08\x01",
        &["HTTP/1.1 200 ", "content-type: application/protobuf\r\n", "\r\n\r\n\x10\x01\x18\x3c"],
    ),
    case("POST /leases", "", "\x08\x02", &["HTTP/1.1 404 ", "\r\n\r\nlease not found\n"]),
    case("POST /leases", "", "\x0f", &["HTTP/1.1 400 ", "\r\n\r\nerror unmarshalling request\n"]),
    case(
        "POST /leases/internal",
        "",
        "\x0a\x04\x08\x01\x10\x01",
        &["HTTP/1.1 200 ", "\r\n\r\n\x0a\x0b\x0a\0\x10\x01\x18\x03\x20\x3c\x2a\x01k"],
    ),
    case(
        "POST /leases/internal",
        "",
        "\x0a\x02\x08\x01",
        &["HTTP/1.1 500 ", "\r\n\r\nnot a primary lessor\n"],
    ),
    case("GET /", "", "", &["HTTP/1.1 404 ", "\r\n\r\n404 page not found\n"]),
    case("GET /v3/kv/range", "", "", &["HTTP/1.1 404 "]),
];

#[test]
fn requests_are_answered_as_by_etcd() {
    let one = Node::start(1);
    one.transport.remove_peer(5);
    one.transport.add_peer(2, &["http://127.0.0.1:1".to_owned()]).expect("a URL");
    for Case { line, headers, body, answer } in CASES {
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        let got = one.ask(&request);
        for part in *answer {
            assert!(got.contains(part), "{line} {headers:?} {body:?}\nwithout {part:?}:\n{got}");
        }
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
