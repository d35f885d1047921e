//! Child processes with a deadline, free ports, and a member of a cluster as a process.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What a finished command left behind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// Exit code; 128 + n for death by signal n, -1 when the deadline passed and the command was killed.
    pub(crate) code: i32,
}

impl Output {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output of a command that must have succeeded.
    pub(crate) fn success(self, what: &str) -> Result<String, String> {
        if self.code == 0 {
            return Ok(self.text());
        }
        let stderr = String::from_utf8_lossy(&self.stderr);
        Err(format!("{what}: exit {}: {}", self.code, last_lines(&stderr, 5)))
    }
}

/// Runs `command` to its end or to `limit`, whichever comes first; `stdin` is written and closed.
pub(crate) fn run(command: &mut Command, stdin: &[u8], limit: Duration) -> Result<Output, String> {
    run_lines(command, stdin, limit, None)
}

/// Like [`run`], but ends the command once it has written `lines` lines to standard output.
pub(crate) fn run_lines(
    command: &mut Command,
    stdin: &[u8],
    limit: Duration,
    lines: Option<usize>,
) -> Result<Output, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run {name}: {e}"))?;
    let mut input = child.stdin.take().ok_or("no stdin")?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let mut stderr = child.stderr.take().ok_or("no stderr")?;
    let stdin = stdin.to_vec();
    // A command that exits without reading its input breaks the pipe; that is its right.
    let feeder = thread::spawn(move || {
        let _ = input.write_all(&stdin);
        // One that is waited for a few lines alone may take the end of its input for its own end.
        lines.map(|_| input)
    });
    let errors = thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let reader = thread::spawn(move || read_up_to(stdout, lines));

    let deadline = Instant::now() + limit;
    let mut killed = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            break Some(status);
        }
        let enough = lines.is_some() && reader.is_finished();
        if enough || Instant::now() >= deadline {
            killed = !enough;
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let stdout = reader.join().map_err(|_| "reader panicked")?.map_err(|e| e.to_string())?;
    let stderr = errors.join().map_err(|_| "reader panicked")?.map_err(|e| e.to_string())?;
    let _ = feeder.join();
    // A command that gave all lines wanted of it may have been killed, or have met the closed pipe.
    let complete = lines == Some(stdout.iter().filter(|&&byte| byte == b'\n').count());
    let code = match status {
        _ if complete => 0,
        Some(status) => exit_code(status),
        None if killed => -1,
        None => 0,
    };
    Ok(Output { stdout, stderr, code })
}

/// Runs `command` with a standard output that nobody reads. What it says on standard error is kept.
pub(crate) fn run_closed(command: &mut Command, limit: Duration) -> Result<Output, String> {
    let (reader, writer) = std::io::pipe().map_err(|e| e.to_string())?;
    drop(reader);
    let child = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn();
    finish(child.map_err(|e| e.to_string())?, Vec::new(), limit)
}

/// Runs `command`, and interrupts it when it has printed a line.
pub(crate) fn run_interrupted(command: &mut Command, limit: Duration) -> Result<Output, String> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|e| e.to_string())?;
    let mut stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
    let mut bytes = Vec::new();
    stdout.read_until(b'\n', &mut bytes).map_err(|e| e.to_string())?;
    signal(&child, "-INT")?;
    let rest = thread::spawn(move || {
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).map(|_| rest)
    });
    let mut output = finish(child, bytes, limit)?;
    let rest = rest.join().map_err(|_| "reader panicked")?.map_err(|e| e.to_string())?;
    output.stdout.extend(rest);
    Ok(output)
}

/// Sends a signal, by its name behind a dash.
pub(crate) fn signal(child: &Child, name: &str) -> Result<(), String> {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status();
    sent.map(drop).map_err(|e| format!("cannot run kill: {e}"))
}

/// Waits for a child to end, and takes what it has said on standard error, which must be little.
pub(crate) fn finish(mut child: Child, stdout: Vec<u8>, limit: Duration) -> Result<Output, String> {
    let deadline = Instant::now() + limit;
    let code = loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            break exit_code(status);
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            break -1;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let mut stderr = Vec::new();
    if let Some(mut errors) = child.stderr.take() {
        errors.read_to_end(&mut stderr).map_err(|e| e.to_string())?;
    }
    Ok(Output { stdout, stderr, code })
}

fn read_up_to(stdout: impl Read, lines: Option<usize>) -> std::io::Result<Vec<u8>> {
    let mut reader = BufReader::new(stdout);
    let mut bytes = Vec::new();
    let Some(lines) = lines else {
        reader.read_to_end(&mut bytes)?;
        return Ok(bytes);
    };
    for _ in 0..lines {
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
    }
    Ok(bytes)
}

fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A port of the loopback address on which nobody listens. Ports come from below the ephemeral range, so that no
/// outgoing connection takes one between this call and the server's bind; runs side by side look in different blocks.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const BLOCK: u16 = 300;
    const BLOCKS: u32 = 40;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let block = FIRST + (std::process::id() % BLOCKS) as u16 * BLOCK;
    loop {
        let port = block + NEXT.fetch_add(1, Ordering::Relaxed) % BLOCK;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The first of two ports in sequence that are free.
pub(crate) fn two_free_ports() -> u16 {
    loop {
        let first = free_port();
        if free_port() == first + 1 {
            return first;
        }
    }
}

/// The identity of a member: its name, its directory and its ports, which stay the same over restarts and
/// whichever binary runs it (member and cluster ids follow from the peer URL).
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) client_port: u16,
    pub(crate) peer_port: u16,
    /// `http` or `https`.
    pub(crate) peer_scheme: &'static str,
}

impl Member {
    /// The only member of a cluster.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self::named("n1", dir)
    }

    pub(crate) fn named(name: &str, dir: PathBuf) -> Self {
        let (client_port, peer_port) = (free_port(), free_port());
        Self { name: name.to_owned(), dir, client_port, peer_port, peer_scheme: "http" }
    }

    /// The same identity over another directory.
    pub(crate) fn with_dir(&self, dir: PathBuf) -> Self {
        Self { dir, ..self.clone() }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.peer_scheme, self.peer_port)
    }

    /// What it is started with as the only member.
    pub(crate) fn args(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.client_port);
        let peer = self.peer_url();
        let flags = [
            ("name", self.name.clone()),
            ("data-dir", self.dir.display().to_string()),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client),
            ("listen-peer-urls", peer.clone()),
            ("initial-advertise-peer-urls", peer.clone()),
            ("initial-cluster", initial_cluster([self])),
            ("initial-cluster-token", "conformance".to_owned()),
        ];
        flags.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect()
    }
}

/// What members say of all of them.
pub(crate) fn initial_cluster<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    let entry = |member: &Member| format!("{}={}", member.name, member.peer_url());
    members.into_iter().map(entry).collect::<Vec<_>>().join(",")
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    /// Where in the log this process begins: the file is kept over restarts.
    log_from: usize,
    pub(crate) member: Member,
    begun: Instant,
    /// From the start of the process to the first healthy answer.
    pub(crate) started_in: Duration,
}

impl Server {
    /// Starts `binary` and waits until it says it is healthy.
    pub(crate) fn start(binary: &Path, member: &Member, extra: &[&str]) -> Result<Self, String> {
        Self::start_within(binary, member, extra, Duration::from_secs(40))
    }

    pub(crate) fn start_within(
        binary: &Path,
        member: &Member,
        extra: &[&str],
        limit: Duration,
    ) -> Result<Self, String> {
        let mut server = Self::launch(binary, member, extra)?;
        server.wait_healthy(limit)?;
        Ok(server)
    }

    /// Starts a new cluster of `members` and waits until all are healthy.
    pub(crate) fn start_cluster(binary: &Path, members: &[Member]) -> Result<Vec<Self>, String> {
        let flags = ["--initial-cluster", &initial_cluster(members)];
        let launch = |member: &Member| Self::launch(binary, member, &flags);
        let servers: Result<Vec<Self>, String> = members.iter().map(launch).collect();
        let mut servers = servers?;
        for server in &mut servers {
            server.wait_healthy(Duration::from_secs(40))?;
        }
        Ok(servers)
    }

    /// Starts `binary`, which may never become healthy, and does not wait.
    pub(crate) fn launch(binary: &Path, member: &Member, extra: &[&str]) -> Result<Self, String> {
        Self::launch_with(binary, member, extra, &[])
    }

    /// The same with variables in its environment.
    pub(crate) fn launch_with(
        binary: &Path,
        member: &Member,
        extra: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self, String> {
        let log = member.dir.with_extension("log");
        if let Some(parent) = log.parent() {
            fs::create_dir_all(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
        }
        let file = File::options().create(true).append(true).open(&log);
        let file = file.map_err(|e| format!("{}: {e}", log.display()))?;
        let log_from = file.metadata().map_or(0, |metadata| metadata.len() as usize);
        let begun = Instant::now();
        let child = Command::new(binary)
            .args(member.args())
            .args(extra)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(|e| e.to_string())?)
            .stderr(file)
            .spawn()
            .map_err(|e| format!("cannot run {}: {e}", binary.display()))?;
        let member = member.clone();
        Ok(Self { child, log, log_from, member, begun, started_in: Duration::ZERO })
    }

    /// Waits until it says it is healthy, `limit` after its start at most.
    pub(crate) fn wait_healthy(&mut self, limit: Duration) -> Result<(), String> {
        while self.begun.elapsed() < limit {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return Err(format!("server ended with {status}: {}", self.log_tail()));
            }
            if http_get(self.member.client_port, "/health").is_ok_and(|b| b.contains("\"true\"")) {
                self.started_in = self.begun.elapsed();
                return Ok(());
            }
            thread::sleep(Duration::from_millis(3));
        }
        Err(format!("server not healthy after {limit:?}: {}", self.log_tail()))
    }

    /// Waits until `/version` names `version` for the cluster and for the storage. A healthy server may not yet have set
    /// them: etcd moves its storage some time after the cluster's version is known.
    pub(crate) fn wait_version(&self, version: &str) -> Result<(), String> {
        let wanted = format!("\"etcdcluster\":\"{version}\",\"storage\":\"{version}\"");
        let begun = Instant::now();
        let mut last = String::new();
        while begun.elapsed() < Duration::from_secs(40) {
            last = http_get(self.member.client_port, "/version").unwrap_or_default();
            if last.contains(&wanted) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(3));
        }
        Err(format!("the server has not come to version {version}: {last}"))
    }

    pub(crate) fn log_tail(&self) -> String {
        last_lines(&self.log(), 3)
    }

    /// What this process has logged.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let bytes = bytes.get(self.log_from..).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn endpoint(&self) -> String {
        self.member.endpoint()
    }

    /// SIGTERM, then the end of the process; an error when it takes more than 20 s. A shell would see 143 (the signal
    /// raised again after the clean stop, as etcd does) or 0.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        sent.map_err(|e| format!("cannot run kill: {e}"))?;
        match self.wait(Duration::from_secs(20))? {
            0 | 143 => Ok(()),
            code => Err(format!("SIGTERM ended with {code}: {}", self.log_tail())),
        }
    }

    /// The exit code of a process that ends within `limit`, as a shell would see it.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<i32, String> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return Ok(exit_code(status));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("the server still runs after {limit:?}: {}", self.log_tail()))
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Body and head of an HTTP/1.1 answer from the loopback address.
pub(crate) fn http_get(port: u16, path: &str) -> std::io::Result<String> {
    http(port, &format!("GET {path}"), "\r\n", Duration::from_secs(2))
}

/// The same with JSON to send, to somebody who may take a while.
pub(crate) fn http_post(port: u16, path: &str, json: &str) -> std::io::Result<String> {
    let length = json.len();
    let rest = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}");
    http(port, &format!("POST {path}"), &rest, Duration::from_secs(60))
}

/// Sends a request whose head ends in `rest`.
fn http(port: u16, request: &str, rest: &str, limit: Duration) -> std::io::Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{rest}")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
