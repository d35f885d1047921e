//! Watchers of all keys through the faults: each goes on behind the last revision it has heard of, with whatever member it
//! is told to ask.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use api::etcdserverpb as pb;
use bytes::Bytes;
use pb::watch_request::RequestUnion;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::calls;
use super::history::{Heard, Watched};
use crate::grpc::{Channel, Failure, Stream};

/// Before a member that could not be reached is called again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// How a watcher chooses its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Always the same one.
    Stays(usize),
    /// Another one from time to time.
    Moves(Duration),
}

/// A watcher at work.
#[derive(Debug)]
pub(super) struct Watcher {
    name: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Everything up to here has been heard.
    heard: AtomicI64,
    watched: Mutex<Watched>,
    wrong: Mutex<Vec<String>>,
}

impl Watcher {
    /// Watches from the first revision on.
    pub(super) fn start(
        name: String,
        addresses: &[String],
        habit: Habit,
        with_previous: bool,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let eyes = Eyes { shared: Arc::clone(&shared), with_previous };
        let task = tokio::spawn(eyes.watch(addresses.to_vec(), habit));
        Self { name, shared, task }
    }

    /// Everything up to this revision has been heard.
    pub(super) fn heard(&self) -> i64 {
        self.shared.heard.load(Ordering::Relaxed)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it has heard, and what no server may say.
    pub(super) fn stop(self) -> (Watched, Vec<String>) {
        self.task.abort();
        let watched = self.shared.watched.lock().map(|watched| watched.clone());
        let wrong = self.shared.wrong.lock().map(|wrong| wrong.clone());
        (Watched { name: self.name, ..watched.unwrap_or_default() }, wrong.unwrap_or_default())
    }
}

type Responses = Stream<pb::WatchRequest, pb::WatchResponse>;

struct Eyes {
    shared: Arc<Shared>,
    with_previous: bool,
}

impl Eyes {
    async fn watch(self, addresses: Vec<String>, habit: Habit) {
        let mut member = match habit {
            Habit::Stays(member) => member,
            Habit::Moves(_) => 0,
        };
        loop {
            let stay = async {
                if let Ok((_channel, mut responses)) = self.open(&addresses[member]).await {
                    while let Ok(response) = responses.next().await {
                        if !self.hear(&response) {
                            break;
                        }
                    }
                }
                sleep(RECONNECT_PAUSE).await;
            };
            match habit {
                Habit::Stays(_) => stay.await,
                Habit::Moves(pace) => {
                    // Whether it ends by itself or in time, another is next.
                    let _ = timeout(pace, stay).await;
                    member = (member + 1) % addresses.len();
                }
            }
        }
    }

    async fn open(&self, address: &str) -> Result<(Channel, Responses), Failure> {
        let channel = Channel::connect(address).await?;
        let mut responses = channel.stream("/etcdserverpb.Watch/Watch").await?;
        let create = pb::WatchCreateRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            start_revision: self.shared.heard.load(Ordering::Relaxed) + 1,
            progress_notify: true,
            prev_kv: self.with_previous,
            ..pb::WatchCreateRequest::default()
        };
        let union = Some(RequestUnion::CreateRequest(create));
        responses.send(&pb::WatchRequest { request_union: union }, false)?;
        Ok((channel, responses))
    }

    /// Takes a response. Whether the watcher goes on.
    fn hear(&self, response: &pb::WatchResponse) -> bool {
        if response.created {
            return true;
        }
        match self.read(response) {
            Ok(heard) => {
                let last = heard.events.last().map_or(heard.header, |(change, _)| change.revision);
                self.shared.heard.fetch_max(last, Ordering::Relaxed);
                if let Ok(mut watched) = self.shared.watched.lock() {
                    watched.messages.push(heard);
                }
                true
            }
            Err(why) => {
                if let Ok(mut wrong) = self.shared.wrong.lock() {
                    wrong.push(why);
                }
                false
            }
        }
    }

    fn read(&self, response: &pb::WatchResponse) -> Result<Heard, String> {
        if response.canceled || response.fragment {
            return Err(format!("canceled or in pieces: {}", response.cancel_reason));
        }
        let header = response.header.as_ref().ok_or("a response without a header")?.revision;
        let mut events = Vec::new();
        for event in &response.events {
            let kv = event.kv.as_ref().ok_or("an event without a key")?;
            let is_deletion = event.r#type == api::mvccpb::event::EventType::Delete as i32;
            let change = calls::row(kv, is_deletion)?;
            let previous = match (&event.prev_kv, self.with_previous) {
                (Some(_), false) => return Err(format!("a row before {change} that nobody wants")),
                (Some(kv), true) => Some(calls::row(kv, false)?.value),
                (None, true) => Some(None),
                (None, false) => None,
            };
            events.push((change, previous));
        }
        Ok(Heard { header, events })
    }
}

/// Waits until all have heard of `revision`.
pub(super) async fn wait_for(
    watchers: &[Watcher],
    revision: i64,
    limit: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    while let Some(late) = watchers.iter().find(|watcher| watcher.heard() < revision) {
        if Instant::now() > deadline {
            return Err(format!("{} has heard {}, not {revision}", late.name(), late.heard()));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
