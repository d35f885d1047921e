//! What it is: etcd's raftexample: a key-value store over HTTP, replicated by the crates `raft`, `wal` and `transport`.
//! What it never does: more than it takes to show how those three fit together.
//! Entry types: `Member` (one member and its order of work), `Api` (what clients see), `Pair` (what is in the log).
//! Owner: `Member` and all files belong to the thread `raft`; the API runs on the main thread; peers have theirs.
//! How to test it: `cargo test -p raftexample`; `cargo xtask conformance raftexample` with Go's beside it.
//!
//! ```text
//! PUT /key ------> Api --Proposal--> Member --messages--> Transport <--> other members
//! GET /key <-- Store <-- committed entries --+-- entries, snapshots --> wal
//! ```

mod api;
mod files;
mod gob;
mod member;
mod options;
mod store;

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cobra::goflag::UsageError;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use transport::{
    Config, DEFAULT_IO_TIMEOUT, Event, Metrics, Owner, Pace, PeerUrl, Request, Socket, Transport,
};

use crate::api::Api;
use crate::member::{Ended, Inbox, Member};
use crate::options::Options;
use crate::store::Store;

const CLUSTER_ID: u64 = 0x1000;
/// What members tell each other that they are.
const VERSION: &str = "3.7.3";
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Proposals and events that wait for the member.
const PROPOSALS_MAX: usize = 256;
const EVENTS_MAX: usize = 4096;

/// Tells the operator.
#[expect(clippy::print_stderr, reason = "the log of an example")]
fn log(text: &str) {
    eprintln!("{text}");
}

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let options = match Options::parse(&arguments) {
        Ok(options) => options,
        Err(UsageError::Help) => {
            log(options::usage(&program).trim_end());
            return ExitCode::SUCCESS;
        }
        Err(UsageError::Message(why)) => {
            log(&format!("{why}\n{}", options::usage(&program).trim_end()));
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(Ended::Removed) => {
            log(&Ended::Removed.to_string());
            ExitCode::SUCCESS
        }
        Ok(ended) => {
            log(&ended.to_string());
            ExitCode::FAILURE
        }
        Err(why) => {
            log(&format!("raftexample: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs the member until it ends.
fn run(options: &Options) -> Result<Ended, String> {
    let url = options.own_url().ok_or_else(|| {
        format!("no member {} among the {} of -cluster", options.id, options.cluster.len())
    })?;
    let peers = listen_for_peers(url)?;
    let opened = files::open(options.id).map_err(|e| e.to_string())?;

    let (proposer, proposals) = mpsc::channel(PROPOSALS_MAX);
    let (reporter, events) = mpsc::channel(EVENTS_MAX);
    let config = Config {
        id: options.id,
        cluster_id: CLUSTER_ID,
        urls: vec![url.to_owned()],
        version: VERSION.to_owned(),
        dial_timeout: DIAL_TIMEOUT,
        read_timeout: DEFAULT_IO_TIMEOUT,
        write_timeout: DEFAULT_IO_TIMEOUT,
        pace: Pace::default(),
        tls: None,
    };
    let snapshotter = opened.files.snapshotter.clone();
    let metrics = Metrics::new().map_err(|e| e.to_string())?;
    let owner = Arc::new(Mailbox(reporter));
    let transport =
        Transport::start(config, owner, snapshotter, metrics).map_err(|e| e.to_string())?;
    let transport = Arc::new(transport);
    for (id, url) in (1..).zip(&options.cluster) {
        transport
            .add_peer(id, std::slice::from_ref(url))
            .map_err(|e| format!("member {id}: {e}"))?;
    }
    let accepted = Arc::clone(&transport);
    spawn("accept", move || accept(&peers, &accepted))?;

    let store = Arc::new(Store::default());
    let founders = (!options.join).then_some(options.cluster.len() as u64);
    let seed = RandomState::new().hash_one(options.id);
    let member = Member::new(options.id, seed, founders, opened, transport, Arc::clone(&store));
    let member = member.map_err(|e| e.to_string())?;
    let ended = start(member, Inbox { proposals, events })?;
    serve(options.port, Api { store, proposals: proposer }, ended)
}

fn listen_for_peers(url: &str) -> Result<TcpListener, String> {
    let urls = PeerUrl::parse_all(&[url]).map_err(|e| format!("Failed parsing URL ({e})"))?;
    let address = urls.first().map(PeerUrl::address).unwrap_or_default();
    TcpListener::bind(address).map_err(|e| format!("Failed to listen rafthttp ({address}: {e})"))
}

fn accept(listener: &TcpListener, transport: &Transport) {
    for socket in listener.incoming() {
        match socket {
            Ok(socket) => transport.serve(Socket::Tcp(socket), ()),
            // Most of all: too many open files. Others will be closed.
            Err(err) => {
                log(&format!("accept: {err}"));
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(drop).map_err(|e| e.to_string())
}

fn runtime() -> Result<Runtime, String> {
    Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())
}

/// Gives the member a thread of its own. The receiver hears why it ended.
fn start(member: Member, inbox: Inbox) -> Result<oneshot::Receiver<Ended>, String> {
    let (sender, ended) = oneshot::channel();
    let runtime = runtime()?;
    spawn("raft", move || {
        // Nobody listens any more if the API could not be served.
        let _ = sender.send(runtime.block_on(member.run(inbox)));
    })?;
    Ok(ended)
}

fn serve(port: u16, api: Api, ended: oneshot::Receiver<Ended>) -> Result<Ended, String> {
    runtime()?.block_on(async {
        // Both families where the system has both.
        let everywhere = tokio::net::TcpListener::bind(("::", port)).await;
        let listener = match everywhere {
            Ok(listener) => Ok(listener),
            Err(_) => tokio::net::TcpListener::bind(("0.0.0.0", port)).await,
        };
        let listener = listener.map_err(|e| format!("listen tcp :{port}: {e}"))?;
        tokio::select! {
            ended = ended => ended.map_err(|_| "the member's thread has panicked".to_owned()),
            Err(err) = api.serve(listener) => Err(err.to_string()),
        }
    })
}

/// Takes what peers say to the member.
struct Mailbox(mpsc::Sender<Event>);

impl Owner for Mailbox {
    fn event(&self, event: Event) -> Option<Event> {
        match self.0.try_send(event) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(event)) => Some(event),
        }
    }

    /// These are questions to an etcd. Whoever asks gets an error.
    fn request(&self, request: Request) {
        drop(request);
    }
}
