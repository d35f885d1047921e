//! More connections than a server has descriptors for, and as many as it has.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::attacks::{be_honest, usage, wait_until};
use crate::frames::{PREFACE, settings};
use crate::support::{Launch, Scratch, http};

/// Connections that are wanted.
const CROWD: usize = 20_000;
/// What a server of which nobody asks anything may hold for each, in a build without optimisation.
const BYTES_EACH: usize = 12 << 10;
/// Descriptors that etcd does not give to clients.
const RESERVED: usize = 150;
/// Descriptors that this process leaves to other tests.
const OURS: usize = 500;
/// Where a part of the crowd is told whom to meet and how many it is.
const PART: &str = "QUORATE_CROWD";

/// The limit of descriptors, raised as far as this machine permits.
fn descriptors() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let wanted = (CROWD + OURS) as u64;
    let raised = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum });
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize)
}

/// Opens connections, and says what HTTP/2 begins with on each.
fn gather(address: &str, count: usize) -> Vec<TcpStream> {
    let greeting = [PREFACE, &settings(&[])].concat();
    (0..count)
        .map(|_| {
            let mut socket = TcpStream::connect(address).expect("connect");
            // It ends with a reset, lest the ports of a whole crowd be taken for another minute.
            set_socket_linger(&socket, Some(Duration::ZERO)).expect("TCP");
            socket.write_all(&greeting).expect("open");
            socket
        })
        .collect()
}

/// Whether the server has greeted back.
fn is_served(socket: &mut TcpStream, patience: Duration) -> bool {
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    socket.read_exact(&mut [0; 9]).is_ok()
}

/// A part of the crowd, in a process of its own: two ends of a connection are two descriptors.
struct Part(Child);

impl Part {
    fn start(address: &str, count: usize) -> Self {
        let program = std::env::current_exe().expect("this test");
        let mut command = Command::new(program);
        command.args(["--exact", "crowd::a_part_of_the_crowd", "--nocapture"]);
        command.env(PART, format!("{address} {count}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().expect("start"))
    }

    /// Waits until all connections of the part are open.
    fn wait(&mut self) {
        let stdout = BufReader::new(self.0.stdout.as_mut().expect("piped"));
        let gathered = stdout.lines().map_while(Result::ok).any(|line| line.contains("gathered"));
        assert!(gathered, "a part of the crowd did not come together");
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What [`Part`] runs. As a test of its own it is a small crowd.
#[test]
fn a_part_of_the_crowd() {
    if let Ok(part) = std::env::var(PART) {
        let (address, count) = part.split_once(' ').expect("two words");
        descriptors();
        let crowd = gather(address, count.parse().expect("a number"));
        eprintln!("{} connections", crowd.len());
        std::io::stdout().write_all(b"gathered\n").expect("written");
        // Until this process is killed.
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let scratch = Scratch::new("small-crowd");
    let server = Launch::new(&scratch.data()).start();
    let mut crowd = gather(&server.address, 50);
    assert!(crowd.iter_mut().all(|socket| is_served(socket, Duration::from_secs(60))));
    server.terminate();
}

#[test]
fn twenty_thousand_connections() {
    let limit = descriptors();
    let room = limit - RESERVED;
    if room < CROWD {
        eprintln!(
            "skipped: {CROWD} connections at a time, since a process has {limit} descriptors here: {room}, and the others wait"
        );
    }
    let scratch = Scratch::new("crowd");
    let server = Launch::new(&scratch.data()).start();
    let before = usage(server.pid());
    let served = room.min(CROWD);
    // One place is for the honest client, who has up to two connections, and one for the pages.
    let mut parts: Vec<Part> =
        (0..2).map(|_| Part::start(&server.address, (served - 10) / 2)).collect();
    parts.iter_mut().for_each(Part::wait);
    wait_until("the crowd is not let in", || {
        usage(server.pid()).descriptors >= before.descriptors + served - 11
    });
    let grown = (usage(server.pid()).memory_mib - before.memory_mib) as usize;
    eprintln!("{served} connections: +{grown} MiB");
    assert!(grown << 20 <= served * BYTES_EACH, "{grown} MiB for {served} connections");
    let calls = AtomicUsize::new(0);
    be_honest(&server.address, &calls, &AtomicBool::new(true));
    assert!(calls.into_inner() > 0);
    drop(parts);
    wait_until("connections are left over", || {
        usage(server.pid()).descriptors <= before.descriptors
    });
    server.terminate();
}

/// A server with 256 descriptors.
fn short_of_descriptors(scratch: &Scratch) -> Launch {
    Launch::new(&scratch.data()).under(&["sh", "-c", "ulimit -n 256; exec \"$0\" \"$@\""])
}

#[test]
fn connections_beyond_the_limit_wait() {
    let scratch = Scratch::new("limit");
    let server = short_of_descriptors(&scratch).start();
    let room = 256 - RESERVED;
    // More wait than the standard library would leave room for.
    let mut crowd = gather(&server.address, room + 300);
    for socket in &mut crowd[..room] {
        assert!(is_served(socket, Duration::from_secs(60)));
    }
    assert!(!is_served(&mut crowd[room], Duration::from_millis(300)), "one too many");
    // One goes, and the next comes in.
    crowd.remove(0);
    assert!(is_served(&mut crowd[room - 1], Duration::from_secs(60)));
    drop(crowd);
    server.client().put(b"a", b"b").expect("served after");
    // Connections that come and go in each state.
    for turn in 0..1000 {
        let mut socket = TcpStream::connect(&server.address).expect("connect");
        let said = &PREFACE[..turn % PREFACE.len()];
        socket.write_all(said).expect("open");
    }
    assert_eq!(server.client().get(b"a").expect("served after").as_deref(), Some(&b"b"[..]));
    server.terminate();
}

#[test]
fn too_few_descriptors_are_told() {
    let scratch = Scratch::new("few");
    let launch =
        Launch::new(&scratch.data()).under(&["sh", "-c", "ulimit -n 150; exec \"$0\" \"$@\""]);
    let end = launch.end();
    assert_ne!(end.code(), 0);
    let text = "file descriptor limit of etcd process is too low; please set higher";
    assert!(end.log().contains(text), "{}", end.log());
}

#[test]
fn whoever_takes_all_places_of_the_peers_does_not_stop_the_member() {
    let scratch = Scratch::new("probes");
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("an address").port()
    };
    let peer = format!("127.0.0.1:{port}");
    let server = short_of_descriptors(&scratch)
        .flags(&["--listen-peer-urls", &format!("http://{peer}"), "--snapshot-count", "10"])
        .start();
    let probes: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(&peer).expect("connect")).collect();
    let client = server.client();
    // The log, the snapshots and the database go on opening files.
    for turn in 0..40 {
        client.put(b"key", format!("{turn}").as_bytes()).expect("a put");
    }
    drop(probes);
    wait_until("the peer port is dead", || {
        thread::sleep(Duration::from_millis(10));
        http(&peer, "GET /version").0 == 200
    });
    server.terminate();
}
