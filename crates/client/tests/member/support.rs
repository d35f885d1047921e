//! Members in this process, and links to them that can be cut.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Client, Config};
use server::{Member, Url};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What takes longer than this hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something that must come.
const PAUSE: Duration = Duration::from_millis(5);

thread_local! {
    /// Members whose test is over. They wait for the end of connections, which end with the runtime.
    static DONE: RefCell<Vec<Member>> = const { RefCell::new(Vec::new()) };
    /// Directories that can be removed then.
    static LEFT: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

/// Runs a test; it fails if it hangs.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("hangs") });
    drop(runtime);
    DONE.take().into_iter().for_each(Member::stop);
    for directory in LEFT.take() {
        fs::remove_dir_all(directory).expect("remove");
    }
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        match ask().await {
            Some(answer) => return answer,
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn url(text: &str) -> Vec<Url> {
    vec![Url::parse(text).expect("a URL")]
}

/// A directory for one test; it stays if the test fails.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("client-{process}-{number}"));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        LEFT.with_borrow_mut(|left| left.push(std::mem::take(&mut self.0)));
    }
}

/// A member, which can be stopped and started again at the same address.
pub(crate) struct Server {
    config: server::Config,
    member: Option<Member>,
}

impl Server {
    fn new(config: server::Config) -> Self {
        let member = Some(Member::start(&config).expect("a member"));
        let mut server = Self { config, member };
        server.config.listen_client_urls = url(&format!("http://{}", server.address()));
        server
    }

    pub(crate) fn address(&self) -> String {
        self.member.as_ref().expect("it runs").client_addresses()[0].clone()
    }

    pub(crate) fn endpoint(&self) -> String {
        self.config.listen_client_urls[0].to_string()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(Config::new([self.endpoint()])).await.expect("a client")
    }

    pub(crate) async fn stop(&mut self) {
        let member = self.member.take().expect("it runs");
        tokio::task::spawn_blocking(move || member.stop()).await.expect("stops");
    }

    pub(crate) async fn start(&mut self) {
        let config = self.config.clone();
        let member = tokio::task::spawn_blocking(move || Member::start(&config).expect("a member"));
        self.member = Some(member.await.expect("starts"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        DONE.with_borrow_mut(|done| done.extend(self.member.take()));
    }
}

/// Members that run, with their data.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    pub(crate) scratch: Scratch,
}

impl Cluster {
    pub(crate) async fn start(size: usize) -> Self {
        Self::start_with(size, |config| config).await
    }

    pub(crate) async fn start_with(
        size: usize,
        change: fn(server::Config) -> server::Config,
    ) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let scratch = Scratch::new();
        // 127.0.0.0/8 is this machine; no two tests that run at a time share an address.
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let host = format!("127.{}.{}.{}", 160 + number % 64, process >> 8 & 255, process & 255);
        let peer = |number: usize| format!("http://{host}:{}", 2380 + number);
        let list: Vec<String> =
            (0..size).map(|number| format!("n{number}={}", peer(number))).collect();
        let starting: Vec<_> = (0..size)
            .map(|number| {
                let config = change(server::Config {
                    name: format!("n{number}"),
                    data_dir: scratch.join(&format!("n{number}")),
                    listen_peer_urls: url(&peer(number)),
                    advertise_peer_urls: url(&peer(number)),
                    listen_client_urls: url(&format!("http://{host}:{}", 12380 + number)),
                    advertise_client_urls: url(&format!("http://{host}:{}", 12380 + number)),
                    initial_cluster: list.join(","),
                    unsafe_no_fsync: true,
                    front_door_threads: 1,
                    ..server::Config::default()
                });
                tokio::task::spawn_blocking(move || Server::new(config))
            })
            .collect();
        let mut servers = Vec::new();
        for server in starting {
            servers.push(server.await.expect("starts"));
        }
        Self { servers, scratch }
    }

    pub(crate) fn config(&self) -> Config {
        Config::new(self.servers.iter().map(Server::endpoint))
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.config()).await.expect("a client")
    }
}

/// A member alone, and a client of it.
pub(crate) async fn alone() -> (Cluster, Client) {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    (cluster, client)
}

/// Carries bytes between a client and a server, as long as it may.
#[derive(Debug)]
pub(crate) struct Wire {
    address: String,
    shared: Arc<Shared>,
    acceptor: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    target: String,
    connections: Mutex<Vec<AbortHandle>>,
    /// Whether what the server says gets lost.
    is_mute: AtomicBool,
    /// Bytes that were carried to the server.
    carried: AtomicUsize,
    /// Bytes from the server that got lost.
    lost: AtomicUsize,
}

impl Wire {
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared {
            target,
            connections: Mutex::default(),
            is_mute: AtomicBool::new(false),
            carried: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("a connection");
                let connection = tokio::spawn(carry(socket, Arc::clone(&accepting)));
                accepting.connections.lock().expect("a list").push(connection.abort_handle());
            }
        });
        Self { address, shared, acceptor: acceptor.abort_handle() }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        for connection in self.shared.connections.lock().expect("a list").drain(..) {
            connection.abort();
        }
    }

    /// From now on what the server says gets lost, or no longer.
    pub(crate) fn mute(&self, is_mute: bool) {
        self.shared.is_mute.store(is_mute, Ordering::Relaxed);
    }

    /// Bytes from the server that got lost.
    pub(crate) fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Bytes that were carried to the server.
    pub(crate) fn carried(&self) -> usize {
        self.shared.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.cut();
    }
}

async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(&shared.target).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            if to_server.write_all(&buffer[..count]).await.is_err() {
                return;
            }
            shared.carried.fetch_add(count, Ordering::Relaxed);
        }
    };
    let down = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            if shared.is_mute.load(Ordering::Relaxed) {
                shared.lost.fetch_add(count, Ordering::Relaxed);
            } else if to_client.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
