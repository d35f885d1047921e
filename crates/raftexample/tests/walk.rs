//! The walk-through of the README, with processes.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing here takes long, but machines do.
const LIMIT: Duration = Duration::from_secs(120);

/// Asks again until there is an answer.
fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not in time");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A status and a body.
type Answer = (u16, String);

/// One request over a connection of its own.
fn ask(port: u16, request: &str) -> Option<Answer> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn request(method: &str, target: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

struct Member {
    id: usize,
    port: u16,
    child: Child,
    log: PathBuf,
}

impl Member {
    fn ask(&self, method: &str, target: &str, body: &str) -> Answer {
        wait(&format!("{method} {target} of member {}", self.id), || {
            ask(self.port, &request(method, target, body))
        })
    }

    fn put(&self, key: &str, value: &str) {
        assert_eq!(self.ask("PUT", key, value).0, 204);
    }

    fn has(&self, key: &str, value: &str) -> bool {
        let answer = ask(self.port, &request("GET", key, ""));
        answer == Some((200, value.to_owned()))
    }

    /// Waits until the member has the value.
    fn expect(&self, key: &str, value: &str) {
        wait(&format!("{key} of member {}", self.id), || self.has(key, value).then_some(()));
    }

    fn kill(mut self) {
        self.child.kill().expect("a running process");
        self.child.wait().expect("its end");
    }

    /// Waits until the process has ended by itself.
    fn end(mut self) -> ExitStatus {
        wait(&format!("the end of member {}", self.id), || self.child.try_wait().expect("a child"))
    }

    fn wait_log(&self, text: &str) {
        wait(&format!("{text:?} in the log of member {}", self.id), || {
            fs::read_to_string(&self.log).ok()?.contains(text).then_some(())
        });
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder for members, which is removed in the end, and their ports.
struct Cluster {
    folder: PathBuf,
    ports: Vec<(u16, u16)>,
}

impl Cluster {
    fn new(name: &str, count: usize) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("raftexample-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        // All at once, so that no two are the same.
        let listeners: Vec<TcpListener> =
            (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let ports = listeners.chunks(2).map(|pair| (port(&pair[0]), port(&pair[1]))).collect();
        Self { folder, ports }
    }

    fn peer_url(&self, id: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[id - 1].0)
    }

    /// Starts member `id` of the first `count`.
    fn start(&self, id: usize, count: usize, flags: &[&str]) -> Member {
        let urls: Vec<String> = (1..=count).map(|id| self.peer_url(id)).collect();
        let port = self.ports[id - 1].1;
        let log = self.folder.join(format!("{id}.log"));
        let stderr = fs::File::create(&log).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_raftexample"))
            .args(["--id", &id.to_string(), "--cluster", &urls.join(",")])
            .args(["--port", &port.to_string()])
            .args(flags)
            .current_dir(&self.folder)
            .stderr(Stdio::from(stderr))
            .spawn()
            .expect("a process");
        Member { id, port, child, log }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Waits until what the first one is told reaches all. A proposal that was handed to a leader that has gone is lost, and
/// nobody says so.
fn settle(members: &[&Member]) {
    // What an earlier call has put says nothing of now.
    static TRIES: AtomicUsize = AtomicUsize::new(0);
    wait("all work together", || {
        let key = format!("/settled-{}", TRIES.fetch_add(1, Ordering::Relaxed));
        members[0].put(&key, "");
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline {
            if members.iter().all(|member| member.has(&key, "")) {
                return Some(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    });
}

#[test]
fn the_walk_through() {
    let cluster = Cluster::new("walk", 4);
    let one = cluster.start(1, 3, &[]);
    let two = cluster.start(2, 3, &[]);
    let three = cluster.start(3, 3, &[]);
    settle(&[&one, &two, &three]);
    one.put("/my-key", "foo");
    for member in [&one, &two, &three] {
        member.expect("/my-key", "foo");
    }

    two.kill();
    settle(&[&one, &three]);
    one.put("/my-key", "bar");
    three.expect("/my-key", "bar");
    let two = cluster.start(2, 3, &[]);
    two.expect("/my-key", "bar");

    assert_eq!(one.ask("POST", "/4", &cluster.peer_url(4)), (204, String::new()));
    let four = cluster.start(4, 4, &["--join"]);
    four.expect("/my-key", "bar");
    settle(&[&four, &one, &two, &three]);
    four.put("/my-key", "from the fourth");
    three.expect("/my-key", "from the fourth");

    settle(&[&two]);
    assert_eq!(two.ask("DELETE", "/3", ""), (204, String::new()));
    three.wait_log("I've been removed from the cluster! Shutting down.");
    assert_eq!(three.end().code(), Some(0));
    for member in [&one, &two, &four] {
        settle(&[member, &one, &two, &four]);
    }
}

/// Puts `/key-<number>` in long rows of requests, as fast as the member takes them.
fn fill(member: &Member, numbers: std::ops::Range<usize>) {
    let mut requests = String::new();
    for number in numbers.clone() {
        let body = format!("value {number}");
        requests += &format!(
            "PUT /key-{number} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    requests += &request("GET", "/none", "");
    let mut socket = TcpStream::connect(("127.0.0.1", member.port)).expect("a connection");
    let mut writer = socket.try_clone().expect("a handle");
    let writing = thread::spawn(move || writer.write_all(requests.as_bytes()));
    let mut answers = String::new();
    socket.read_to_string(&mut answers).expect("answers");
    writing.join().expect("no panic").expect("written");
    assert_eq!(answers.matches("204 No Content").count(), numbers.len());
}

/// Puts keys until the member has made two snapshots, the second of which is more than a leader keeps for those who are
/// late. Not too many at a time: a follower drops what it has no room for on the way to the leader.
fn fill_two_snapshots(one: &Member, two: &Member) {
    const AT_A_TIME: usize = 1000;
    for round in 0.. {
        fill(one, round * AT_A_TIME..(round + 1) * AT_A_TIME);
        settle(&[one, two]);
        let log = fs::read_to_string(&one.log).expect("a log");
        if log.matches("compacted log at index").count() == 2 {
            return;
        }
    }
}

#[test]
fn snapshots_and_replay() {
    let cluster = Cluster::new("snapshots", 3);
    let one = cluster.start(1, 3, &[]);
    let two = cluster.start(2, 3, &[]);
    let three = cluster.start(3, 3, &[]);
    settle(&[&one, &two, &three]);
    one.put("/first", "1");
    three.expect("/first", "1");

    three.kill();
    settle(&[&one, &two]);
    fill_two_snapshots(&one, &two);
    one.put("/last", "2");
    for member in [&one, &two] {
        member.expect("/last", "2");
    }
    let three = cluster.start(3, 3, &[]);
    three.wait_log("finished publishing snapshot at index");
    three.expect("/last", "2");
    three.expect("/first", "1");

    // From its own snapshot, and what the log has behind it.
    let snapshots = fs::read_dir(cluster.folder.join("raftexample-1-snap")).expect("a folder");
    assert_eq!(snapshots.count(), 2);
    one.kill();
    let one = cluster.start(1, 3, &[]);
    one.wait_log("loading snapshot at term");
    one.expect("/first", "1");
    one.expect("/last", "2");
}

#[test]
fn requests_that_cannot_be_answered() {
    let cluster = Cluster::new("requests", 1);
    let one = cluster.start(1, 1, &[]);
    let text = |text: &str| format!("{text}\n");
    assert_eq!(one.ask("GET", "/none", ""), (404, text("Failed to GET")));
    assert_eq!(one.ask("POST", "/four", "http://127.0.0.1:1"), (400, text("Failed on POST")));
    assert_eq!(one.ask("DELETE", "/", ""), (400, text("Failed on DELETE")));
    assert_eq!(one.ask("PATCH", "/key", ""), (405, text("Method not allowed")));
    // Nobody would be left: refused, and the member goes on.
    assert_eq!(one.ask("DELETE", "/1", "").0, 204);
    one.wait_log("impossible change");
    one.put("/a?b=c", "with a query");
    one.expect("/a?b=c", "with a query");
    let too_long = "PUT /long HTTP/1.1\r\nHost: a\r\nContent-Length: 17000000\r\n\r\n";
    let cut = format!("{too_long}{}", "x".repeat(100));
    let mut socket = TcpStream::connect(("127.0.0.1", one.port)).expect("a connection");
    socket.write_all(cut.as_bytes()).expect("written");
    drop(socket);
    assert_eq!(one.ask("GET", "/long", "").0, 404);
}

#[test]
fn command_lines_that_make_no_member() {
    let cluster = Cluster::new("flags", 1);
    for (flags, code, text) in [
        (&["--id", "2", "--cluster", "http://127.0.0.1:1"][..], 1, "no member 2 among the 1"),
        (&["--cluster", "nowhere"], 1, "Failed parsing URL"),
        (&["--what"], 2, "flag provided but not defined: -what\nUsage of "),
        (&["--help"], 0, "  -join\n    \tjoin an existing cluster\n"),
    ] {
        let end = Command::new(env!("CARGO_BIN_EXE_raftexample"))
            .args(flags)
            .current_dir(&cluster.folder)
            .output()
            .expect("a process");
        let stderr = String::from_utf8_lossy(&end.stderr);
        assert_eq!(end.status.code(), Some(code), "{flags:?}: {stderr}");
        assert!(stderr.contains(text), "{flags:?}: {stderr}");
    }
    assert_eq!(fs::read_dir(&cluster.folder).expect("a folder").count(), 0, "files were made");
}
