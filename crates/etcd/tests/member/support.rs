//! Starting, stopping and killing servers, each with a directory and ports of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::client::Client;

/// A server that is silent for this long hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory for one test; it stays if the test fails.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("scratch directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The data directory of the test's server.
    pub(crate) fn data(&self) -> PathBuf {
        self.join("data")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A command line. Ports are left to the system, which no other test can then have.
pub(crate) struct Launch {
    wrapper: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    dir: PathBuf,
}

impl Launch {
    /// A member with its data in a directory, listening for clients at `address`.
    pub(crate) fn at(data: &Path, address: &str) -> Self {
        let data = data.to_str().expect("a path in UTF-8");
        Self::bare(Path::new(env!("CARGO_TARGET_TMPDIR"))).flags(&[
            "--data-dir",
            data,
            "--listen-client-urls",
            &format!("http://{address}"),
            "--advertise-client-urls",
            "http://127.0.0.1:2379",
            "--listen-peer-urls",
            "http://127.0.0.1:0",
        ])
    }

    /// The same at any port.
    pub(crate) fn new(data: &Path) -> Self {
        Self::at(data, "127.0.0.1:0")
    }

    /// No flags at all, in a working directory.
    pub(crate) fn bare(dir: &Path) -> Self {
        Self {
            wrapper: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            dir: dir.to_owned(),
        }
    }

    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Runs it under another program.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    fn spawn(&self) -> Process {
        let mut words = self.wrapper.iter().map(String::as_str);
        let mut command = match words.next() {
            Some(wrapper) => Command::new(wrapper),
            None => Command::new(env!("CARGO_BIN_EXE_etcd")),
        };
        command.args(words);
        if !self.wrapper.is_empty() {
            command.arg(env!("CARGO_BIN_EXE_etcd"));
        }
        command.args(&self.arguments).current_dir(&self.dir);
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("ETCD_")) {
            command.env_remove(key);
        }
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the server");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut stdout = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text);
            text
        });
        Process { child, lines, log: Vec::new(), stdout: Some(stdout) }
    }

    /// Runs it until it serves or has ended.
    pub(crate) fn run(&self) -> Outcome {
        let mut process = self.spawn();
        let is_ready = |line: &Value| line["msg"] == "ready to serve client requests";
        if process.wait_for_line(is_ready).is_none() {
            return Outcome::Ended(process.finish());
        }
        match process.wait_for_line(|line| !line["traffic"].is_null()) {
            None => Outcome::Ended(process.finish()),
            Some(line) => {
                let address = line["address"].as_str().expect("an address").to_owned();
                Outcome::Serving(Server { process, address })
            }
        }
    }

    /// Runs it until it serves, or fails.
    pub(crate) fn start(&self) -> Server {
        match self.run() {
            Outcome::Serving(server) => server,
            Outcome::Ended(end) => panic!("ended with {:?}:\n{}", end.status, end.log()),
        }
    }

    /// Runs it, though it may never serve.
    pub(crate) fn start_waiting(&self) -> Server {
        Server { process: self.spawn(), address: String::new() }
    }

    /// Runs it, and sends a signal when its first line is in the log.
    pub(crate) fn start_and_signal(&self, signal: Signal) -> End {
        let mut process = self.spawn();
        process.wait_for_line(|_| true).expect("a line");
        process.signal(signal);
        process.finish()
    }

    /// Runs it to its end, which must come by itself.
    pub(crate) fn end(&self) -> End {
        match self.run() {
            Outcome::Serving(server) => panic!("serves: {}", server.kill().log()),
            Outcome::Ended(end) => end,
        }
    }
}

/// What became of a start.
pub(crate) enum Outcome {
    Serving(Server),
    Ended(End),
}

struct Process {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    stdout: Option<JoinHandle<String>>,
}

impl Process {
    /// Waits for a log line; `None` if the log ends before.
    fn wait_for_line(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let value = serde_json::from_str(&line).unwrap_or_default();
                    self.log.push(line);
                    if is_wanted(&value) {
                        return Some(value);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("hangs:\n{}", self.log.join("\n")),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("signal the server");
    }

    /// Waits for the end.
    fn finish(&mut self) -> End {
        while self.wait_for_line(|_| false).is_some() {}
        let status = self.child.wait().expect("wait for the server");
        let stdout = self.stdout.take().map(|reader| reader.join().expect("stdout"));
        End { status, lines: std::mem::take(&mut self.log), stdout: stdout.unwrap_or_default() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that serves.
pub(crate) struct Server {
    process: Process,
    /// Where clients connect.
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.address)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> End {
        self.process.signal(Signal::KILL);
        self.process.finish()
    }

    /// SIGTERM.
    pub(crate) fn terminate(self) -> End {
        self.signal(Signal::TERM)
    }

    pub(crate) fn signal(mut self, signal: Signal) -> End {
        self.process.signal(signal);
        self.process.finish()
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(mut self) -> End {
        self.process.finish()
    }

    /// Waits for a message in the log.
    pub(crate) fn wait_for(&mut self, message: &str) {
        let found = self.process.wait_for_line(|line| line["msg"] == message);
        assert!(found.is_some(), "ended without {message:?}:\n{}", self.process.log.join("\n"));
    }

    /// The body of a page.
    pub(crate) fn page(&self, path: &str) -> String {
        self.page_with(path, 200)
    }

    /// The body of a page that is answered with this status.
    pub(crate) fn page_with(&self, path: &str, status: u16) -> String {
        let (found, body) = http(&self.address, &format!("GET {path}"));
        assert_eq!(found, status, "{body}");
        body
    }

    /// Samples of the metrics page without labels.
    pub(crate) fn metrics(&self) -> BTreeMap<String, f64> {
        let page = self.page("/metrics");
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        samples
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect()
    }
}

/// Status and body of the answer to a request without a body, such as `GET /health`.
pub(crate) fn http(address: impl ToSocketAddrs, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connect");
    write!(stream, "{request} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n").expect("send");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("receive");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// A server that has ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    /// What it wrote to stderr.
    pub(crate) lines: Vec<String>,
    pub(crate) stdout: String,
}

impl End {
    pub(crate) fn log(&self) -> String {
        self.lines.join("\n")
    }

    /// The exit code, which it must have.
    pub(crate) fn code(&self) -> i32 {
        let code = self.status.code();
        code.unwrap_or_else(|| panic!("{:?}:\n{}", self.status, self.log()))
    }

    /// The signal that ended it.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// The fields `error` of the log, one a line.
    pub(crate) fn errors(&self) -> Vec<String> {
        let texts = self.lines.iter().filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line["error"].as_str()?.to_owned())
        });
        texts.collect()
    }
}

/// Copies a directory; runs of zeros become holes.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("list");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            copy_file(&entry.path(), &target);
        }
    }
}

fn copy_file(from: &Path, to: &Path) {
    const BLOCK: usize = 64 << 10;
    let source = fs::File::open(from).expect("open");
    let target = fs::File::create(to).expect("create");
    let len = source.metadata().expect("stat").len();
    target.set_len(len).expect("truncate");
    let zeros = vec![0; BLOCK];
    let mut block = vec![0; BLOCK];
    let mut offset = 0;
    while offset < len {
        // The kernel knows where data is; a file system that does not says: everywhere.
        let position = rustix::fs::seek(&source, rustix::fs::SeekFrom::Data(offset));
        let Ok(start) = position else { return };
        offset = start;
        let wanted = (len - offset).min(BLOCK as u64) as usize;
        std::os::unix::fs::FileExt::read_exact_at(&source, &mut block[..wanted], offset)
            .expect("read");
        if block[..wanted] != zeros[..wanted] {
            std::os::unix::fs::FileExt::write_all_at(&target, &block[..wanted], offset)
                .expect("write");
        }
        offset += wanted as u64;
    }
}
