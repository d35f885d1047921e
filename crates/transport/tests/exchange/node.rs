//! A transport with a port, whatever owns it, and things to send.

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
use raft::{Message, MessageType, Snapshot, SnapshotMetadata};
use transport::{
    Config, DEFAULT_IO_TIMEOUT, Event, HashKv, LeaseRefusal, LeaseTtl, Metrics, Owner, Pace,
    Refusal, Request, Socket, Transport, Versions,
};
use wal::snap::Snapshotter;

pub(crate) const CLUSTER: u64 = 0xc1;
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const SNAP: &str = "/member/snap";

/// Passes events on, and answers requests like a member would.
pub(crate) struct Recorder {
    events: Sender<Event>,
    pub(crate) is_full: AtomicBool,
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
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) address: String,
    pub(crate) transport: Arc<Transport>,
    pub(crate) owner: Arc<Recorder>,
    pub(crate) events: Receiver<Event>,
    pub(crate) disk: MemDisk,
    pub(crate) metrics: Metrics,
    pub(crate) is_stopped: Arc<AtomicBool>,
    pub(crate) acceptor: Option<thread::JoinHandle<()>>,
}

impl Node {
    pub(crate) fn start(id: u64) -> Self {
        Self::start_in(id, CLUSTER)
    }

    pub(crate) fn start_in(id: u64, cluster_id: u64) -> Self {
        Self::start_with(id, cluster_id, DEFAULT_IO_TIMEOUT, Pace::default())
    }

    pub(crate) fn start_with(id: u64, cluster_id: u64, read_timeout: Duration, pace: Pace) -> Self {
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
            pace,
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
                    transport.serve(Socket::Tcp(stream.expect("a connection")), ());
                }
            })
        };
        let acceptor = Some(acceptor);
        Self { id, address, transport, owner, events, disk, metrics, is_stopped, acceptor }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        vec![format!("http://{}", self.address)]
    }

    pub(crate) fn add(&self, other: &Self) {
        self.transport.add_peer(other.id, &other.urls()).expect("a URL");
    }

    /// The next event that `pick` makes something of.
    pub(crate) fn wait<T>(&self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).expect("an event in time");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    }

    pub(crate) fn wait_message(&self) -> Message {
        self.wait(|event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        })
    }

    pub(crate) fn wait_no_message(&self) {
        while let Ok(event) = self.events.try_recv() {
            assert!(!matches!(event, Event::Message(_)), "{event:?}");
        }
    }

    /// Waits until the other one listens to both streams.
    pub(crate) fn reach(&self, other: &Self) {
        let deadline = Instant::now() + LIMIT;
        while self.streams_to(other) < 2 {
            assert!(Instant::now() < deadline, "no streams from {} to {}", self.id, other.id);
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the folder of snapshots has these files and no others.
    pub(crate) fn wait_files(&self, names: &[&str]) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let found = self.disk.list(Path::new(SNAP)).expect("a folder");
            if found == names {
                return;
            }
            assert!(Instant::now() < deadline, "{found:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// How many streams the other one has open from here.
    pub(crate) fn streams_to(&self, other: &Self) -> usize {
        self.transport.open_streams(other.id)
    }

    /// Sends a raw request and returns the answer, head and body.
    pub(crate) fn ask(&self, request: &str) -> String {
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

pub(crate) fn pair() -> (Node, Node) {
    let (one, two) = (Node::start(1), Node::start(2));
    join(&one, &two);
    (one, two)
}

pub(crate) fn join(one: &Node, two: &Node) {
    one.add(two);
    two.add(one);
    one.reach(two);
    two.reach(one);
}

pub(crate) fn database(len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    bytes[16..20].copy_from_slice(&0xED0C_DAED_u32.to_le_bytes());
    bytes
}

pub(crate) fn snapshot(from: u64, to: u64, index: u64) -> Message {
    let metadata = SnapshotMetadata { index, term: 2, ..SnapshotMetadata::default() };
    let snapshot = Snapshot { data: Bytes::from_static(b"{}"), metadata };
    let snapshot = Some(Box::new(snapshot));
    Message { msg_type: MessageType::Snap, from, to, term: 2, snapshot, ..Message::default() }
}

pub(crate) fn read(disk: &MemDisk, path: &str) -> Vec<u8> {
    let file = disk.open(Path::new(path), Open::Read).expect("a file");
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("bytes");
    bytes
}

/// Headers of an honest member 2 of the cluster.
pub(crate) const HONEST: &str = "X-Server-From: 2\r\nX-Server-Version: 3.6.0\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: c1\r\n";
