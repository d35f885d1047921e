//! Watches that go on whatever happens to connections and members.
//!
//! All watchers of a client share one stream. When it breaks, another is opened, and each watcher goes on behind
//! the last revision that it has been given. A watcher whose owner does not keep up is taken off the stream, and
//! comes back when there is room: it holds up no other, and nothing piles up.

mod queue;
mod watches;

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::Code;
use api::Status;
use api::etcdserverpb::watch_create_request::FilterType;
use api::etcdserverpb::{self as pb, WatchCreateRequest, WatchRequest};
use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::debug;

use crate::call::{Caller, Terms};
use crate::channel::Answers;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::namespace;
use crate::op::{to_from_key, to_prefix};
use queue::{Popped, Queue};
use watches::Watches;

pub use api::mvccpb::event::EventType;
pub use api::mvccpb::{Event, KeyValue};

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// The first and the longest wait before a stream that broke is opened again (clientv3's).
const REOPEN_WAIT: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Watchers are told apart by a number, in the order in which they are asked for.
static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

/// What a watcher hears.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchResponse {
    /// Who said so, and how far the watcher has come.
    pub header: pb::ResponseHeader,
    /// What has happened, in the order of revisions; whole revisions only.
    pub events: Vec<Event>,
    /// Whether this tells that the watcher is there; only with [`Watch::created_notify`].
    pub created: bool,
}

impl WatchResponse {
    /// Whether it tells only that nothing has happened up to the revision in the header.
    #[must_use]
    pub fn is_progress_notify(&self) -> bool {
        self.events.is_empty() && !self.created
    }
}

/// Watches a key, or a range of keys.
///
/// ```
/// # async fn example(client: client::Client) -> client::Result<()> {
/// let mut watcher = client.watch("users/").prefix().prev_kv().await?;
/// while let Some(response) = watcher.next().await {
///     for event in response?.events {
///         println!("{:?} {:?}", event.r#type(), event.kv);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is watched until it is awaited"]
pub struct Watch {
    client: Client,
    request: WatchCreateRequest,
    created_notify: bool,
}

impl Watch {
    pub(crate) fn new(client: Client, key: impl Into<Vec<u8>>) -> Self {
        let request =
            WatchCreateRequest { key: key.into().into(), ..WatchCreateRequest::default() };
        Self { client, request, created_notify: false }
    }

    /// All keys that begin with this one.
    pub fn prefix(mut self) -> Self {
        to_prefix(&mut self.request.key, &mut self.request.range_end);
        self
    }

    /// This key and all behind it.
    pub fn from_key(mut self) -> Self {
        to_from_key(&mut self.request.key, &mut self.request.range_end);
        self
    }

    /// The keys from this one to before `end`.
    pub fn range(mut self, end: impl Into<Vec<u8>>) -> Self {
        self.request.range_end = end.into().into();
        self
    }

    /// From this revision on; otherwise from now on.
    pub fn start_revision(mut self, revision: i64) -> Self {
        self.request.start_revision = revision;
        self
    }

    /// Events have the key as it was before.
    pub fn prev_kv(mut self) -> Self {
        self.request.prev_kv = true;
        self
    }

    /// An idle watcher is told from time to time how far it has come.
    pub fn progress_notify(mut self) -> Self {
        self.request.progress_notify = true;
        self
    }

    /// The first response tells that the watcher is there.
    pub fn created_notify(mut self) -> Self {
        self.created_notify = true;
        self
    }

    /// The server may cut large responses into parts; they are put together here.
    pub fn fragment(mut self) -> Self {
        self.request.fragment = true;
        self
    }

    /// Without puts.
    pub fn no_put(mut self) -> Self {
        self.request.filters.push(FilterType::Noput.into());
        self
    }

    /// Without deletions.
    pub fn no_delete(mut self) -> Self {
        self.request.filters.push(FilterType::Nodelete.into());
        self
    }

    async fn start(mut self) -> Result<Watcher> {
        let prefix = self.client.prefix();
        namespace::add(&prefix, &mut self.request.key, &mut self.request.range_end)?;
        let queue =
            Arc::new(Queue::new(NEXT_KEY.fetch_add(1, Ordering::Relaxed), self.created_notify));
        let commands = self.client.watch_stream();
        let create = Command::Create(Arc::clone(&queue), self.request);
        commands.send(create).map_err(|_| stopped())?;
        let watcher = Watcher { queue, commands, prefix };
        watcher.queue.created().await?;
        Ok(watcher)
    }
}

impl IntoFuture for Watch {
    type Output = Result<Watcher>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Watcher>> + Send>>;

    /// Returns when the server has made the watcher: what happens from then on is heard of.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

/// A watch under way; ends when it is dropped.
#[derive(Debug)]
pub struct Watcher {
    queue: Arc<Queue>,
    commands: mpsc::UnboundedSender<Command>,
    prefix: Bytes,
}

impl Watcher {
    /// The next response; an error is the last thing. May be given up and called again without loss.
    pub async fn next(&mut self) -> Option<Result<WatchResponse>> {
        let Popped { response, has_room_again } = self.queue.pop().await?;
        if has_room_again {
            // If the stream is gone, its end follows in the queue.
            let _ = self.commands.send(Command::Resume(self.queue.key()));
        }
        Some(response.map(|mut response| {
            for event in &mut response.events {
                let kvs = event.kv.iter_mut().chain(&mut event.prev_kv);
                kvs.for_each(|kv| namespace::strip(&self.prefix, &mut kv.key));
            }
            response
        }))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Cancel(self.queue.key()));
    }
}

/// What the handles of a client want of a stream.
#[derive(Debug)]
pub(crate) enum Command {
    Create(Arc<Queue>, WatchCreateRequest),
    /// The owner of a watcher that was taken off has caught up.
    Resume(u64),
    Cancel(u64),
    Progress,
}

/// The way to a stream, which is opened when it is needed. A lock, since handles are on any thread.
#[derive(Debug, Default)]
pub(crate) struct Stream(Mutex<Option<mpsc::UnboundedSender<Command>>>);

impl Stream {
    pub(crate) fn commands(
        &self,
        caller: &Arc<Caller>,
        require_leader: bool,
    ) -> mpsc::UnboundedSender<Command> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*stream {
            Some(commands) if !commands.is_closed() => commands.clone(),
            _ => {
                let (sender, commands) = mpsc::unbounded_channel();
                let terms = Terms { timeout: None, require_leader };
                tokio::spawn(run(Arc::clone(caller), terms, commands));
                *stream = Some(sender.clone());
                sender
            }
        }
    }
}

fn stopped() -> Error {
    Status::fixed(Code::Canceled, "the client is stopped").into()
}

/// Why a stream is not served any more.
enum End {
    /// All handles are gone.
    Dropped,
    /// Nobody watches.
    Idle,
    Broken(Error),
}

async fn run(caller: Arc<Caller>, terms: Terms, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut watches = Watches::default();
    let mut wait = REOPEN_WAIT.0;
    loop {
        while watches.is_empty() {
            let Some(command) = commands.recv().await else { return };
            watches.command(command);
        }
        let (error, has_worked) = match serve(&caller, &terms, &mut watches, &mut commands).await {
            (End::Dropped, _) => return,
            (End::Idle, _) => {
                watches.broken();
                continue;
            }
            (End::Broken(error), has_worked) => (error, has_worked),
        };
        debug!(%error, "the watch stream ended");
        watches.broken();
        // A stream that is asked for with a leader ends when there is none, and whoever asked wants to know.
        let is_final = !error.is_transient() || error.is(api::Error::NoLeader);
        if is_final && !caller.wants_login(&error) {
            watches.fail(&error);
        }
        wait = if has_worked { REOPEN_WAIT.0 } else { (wait * 5 / 4).min(REOPEN_WAIT.1) };
        tokio::time::sleep(wait).await;
    }
}

/// Serves one stream to its end, and says whether it has ever worked.
async fn serve(
    caller: &Caller,
    terms: &Terms,
    watches: &mut Watches,
    commands: &mut mpsc::UnboundedReceiver<Command>,
) -> (End, bool) {
    let (requests, receiver) = mpsc::unbounded_channel::<WatchRequest>();
    let opening = caller.streaming(terms, WATCH, receiver);
    let mut opening = std::pin::pin!(opening);
    let mut answers: Option<Answers<pb::WatchResponse>> = None;
    let mut has_worked = false;
    loop {
        while let Some(request) = watches.next_request() {
            // A stream that is gone says so where it is read.
            let _ = requests.send(request);
        }
        if watches.is_empty() {
            return (End::Idle, has_worked);
        }
        let response = tokio::select! {
            command = commands.recv() => {
                let Some(command) = command else { return (End::Dropped, has_worked) };
                watches.command(command);
                continue;
            }
            opened = &mut opening, if answers.is_none() => match opened {
                Ok(opened) => {
                    answers = Some(opened);
                    continue;
                }
                Err(error) => return (End::Broken(error), has_worked),
            },
            response = next(&mut answers) => response,
        };
        match response {
            Ok(Some(response)) => {
                has_worked = true;
                if let Err(error) = watches.handle(response, |error| caller.wants_login(error)) {
                    return (End::Broken(error), has_worked);
                }
            }
            Ok(None) => {
                let status = Status::fixed(Code::Unavailable, "the server closed the watch stream");
                return (End::Broken(status.into()), has_worked);
            }
            Err(status) => return (End::Broken(status.into()), has_worked),
        }
    }
}

/// The next response, which never comes from a stream that is not open yet.
async fn next(
    answers: &mut Option<Answers<pb::WatchResponse>>,
) -> Result<Option<pb::WatchResponse>, Status> {
    match answers {
        Some(answers) => answers.next().await,
        None => std::future::pending().await,
    }
}
