//! The endpoints of a client: a connection to each is kept, and calls go to those that are connected in turn.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::debug;

use crate::channel::{Channel, Options};
use crate::endpoint::Target;
use crate::error::Result;
use crate::jitter::jitter;

/// By how much the wait grows from one failure to the next, and the share of chance in it (grpc-go's).
const GROWTH: (f64, f64) = (1.6, 0.2);

/// Endpoints with their connections.
#[derive(Debug)]
pub(crate) struct Balancer {
    shared: Arc<Shared>,
    options: Options,
    wait: (Duration, Duration),
}

/// What the tasks that connect write, and calls read. A lock, since both are at home on any thread; it is held for
/// a look only.
#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    /// Counts connections made.
    connected: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    /// Where the search for the next connection begins.
    next: usize,
    last_error: Option<String>,
}

/// An endpoint, and the task that keeps it connected.
#[derive(Debug)]
struct Slot {
    endpoint: String,
    channel: Option<Channel>,
    keeper: JoinHandle<()>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Balancer {
    /// Begins to connect to all of them, and waits for none.
    ///
    /// # Errors
    /// If one can never be used.
    pub(crate) fn new(
        endpoints: &[String],
        options: Options,
        wait: (Duration, Duration),
    ) -> Result<Self> {
        let shared = Shared { table: Mutex::default(), connected: watch::Sender::new(0) };
        let balancer = Self { shared: Arc::new(shared), options, wait };
        balancer.set_endpoints(endpoints)?;
        Ok(balancer)
    }

    /// The endpoints, as they were given.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.shared.table().slots.iter().map(|slot| slot.endpoint.clone()).collect()
    }

    /// How many endpoints there are.
    pub(crate) fn len(&self) -> usize {
        self.shared.table().slots.len()
    }

    /// Takes other endpoints. Connections to those that stay are kept.
    ///
    /// # Errors
    /// If one can never be used. Nothing has changed then.
    pub(crate) fn set_endpoints(&self, endpoints: &[String]) -> Result<()> {
        let targets =
            endpoints.iter().map(|endpoint| Target::parse(endpoint)).collect::<Result<Vec<_>>>()?;
        let mut table = self.shared.table();
        let mut old = std::mem::take(&mut table.slots);
        for (endpoint, target) in endpoints.iter().zip(targets) {
            let kept = old.iter().position(|slot| slot.endpoint == *endpoint);
            let slot = match kept {
                Some(index) => old.swap_remove(index),
                None => Slot {
                    endpoint: endpoint.clone(),
                    channel: None,
                    keeper: tokio::spawn(keep_connected(
                        Arc::downgrade(&self.shared),
                        endpoint.clone(),
                        target,
                        self.options,
                        self.wait,
                    )),
                },
            };
            table.slots.push(slot);
        }
        Ok(())
    }

    /// The next connection, as soon as there is one.
    pub(crate) async fn pick(&self) -> Channel {
        let mut connected = self.shared.connected.subscribe();
        loop {
            connected.mark_unchanged();
            if let Some(channel) = self.shared.table().next_channel() {
                return channel;
            }
            // The sender is in `self`.
            let _ = connected.changed().await;
        }
    }

    /// Why the last try to connect failed, if nothing is connected.
    pub(crate) fn connection_error(&self) -> Option<String> {
        let mut table = self.shared.table();
        if table.next_channel().is_some() { None } else { table.last_error.clone() }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn next_channel(&mut self) -> Option<Channel> {
        let count = self.slots.len();
        let start = self.next;
        let usable = |slot: &Slot| slot.channel.clone().filter(|channel| !channel.is_closed());
        let found = (0..count).map(|offset| (start + offset) % count).find_map(|index| {
            let channel = usable(self.slots.get(index)?)?;
            Some((index, channel))
        });
        let (index, channel) = found?;
        self.next = index + 1;
        Some(channel)
    }

    fn set(&mut self, endpoint: &str, channel: Option<Channel>) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.endpoint == endpoint) {
            slot.channel = channel;
        }
    }
}

/// Connects, and connects again when the connection ends; after a failure only after a wait.
async fn keep_connected(
    shared: Weak<Shared>,
    endpoint: String,
    target: Target,
    options: Options,
    (first_wait, max_wait): (Duration, Duration),
) {
    let mut wait = first_wait;
    loop {
        let result = Channel::connect(&target, options).await;
        let begun = Instant::now();
        match result {
            Ok(channel) => {
                let Some(now) = shared.upgrade() else { return };
                now.table().set(&endpoint, Some(channel.clone()));
                now.connected.send_modify(|count| *count += 1);
                drop(now);
                channel.wait_closed().await;
                let Some(now) = shared.upgrade() else { return };
                now.table().set(&endpoint, None);
                debug!(endpoint, "connection closed");
            }
            Err(reason) => {
                debug!(endpoint, reason, "connection failed");
                let Some(now) = shared.upgrade() else { return };
                now.table().last_error = Some(reason);
            }
        }
        // One that held is connected again at once; one that is closed as it begins has failed.
        if begun.elapsed() >= first_wait {
            wait = first_wait;
            continue;
        }
        tokio::time::sleep(jitter(wait, GROWTH.1)).await;
        wait = wait.mul_f64(GROWTH.0).min(max_wait);
    }
}
