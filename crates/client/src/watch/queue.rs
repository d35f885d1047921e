//! Responses on their way to the owner of a watcher.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::WatchResponse;
use crate::error::{Error, Result};

/// What a watcher holds before it is taken off the stream.
///
/// DIFF(etcd): clientv3 holds all that comes, however much it is.
const QUEUE_BYTES_MAX: usize = 8 << 20;

/// What an event costs beside its key and values.
const EVENT_BYTES: usize = 128;

/// From the stream's task to the owner of a watcher; both hold it.
#[derive(Debug)]
pub(crate) struct Queue {
    key: u64,
    state: Mutex<State>,
    wake: Notify,
    created_notify: bool,
}

#[derive(Debug, Default)]
struct State {
    responses: VecDeque<(WatchResponse, usize)>,
    bytes: usize,
    is_created: bool,
    /// The watcher is off the stream until there is room.
    is_paused: bool,
    /// The last thing, and whether it was taken.
    end: Option<Error>,
    is_over: bool,
}

/// What was next in a queue.
#[derive(Debug)]
pub(crate) struct Popped {
    pub(crate) response: Result<WatchResponse>,
    /// The watcher is to come back to the stream.
    pub(crate) has_room_again: bool,
}

impl Queue {
    pub(crate) fn new(key: u64, created_notify: bool) -> Self {
        Self { key, state: Mutex::default(), wake: Notify::new(), created_notify }
    }

    /// What tells it from the others of its stream; later ones are greater.
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has made the watcher, for the first time or once more.
    pub(crate) fn set_created(&self, response: WatchResponse) {
        let mut state = self.state();
        if !state.is_created {
            state.is_created = true;
            if self.created_notify {
                state.responses.push_back((response, 0));
            }
            self.wake.notify_one();
        }
    }

    /// Adds a response, and says whether there is room for more. Without, the watcher is paused.
    pub(crate) fn push(&self, response: WatchResponse) -> bool {
        let mut state = self.state();
        let bytes = cost(&response);
        state.responses.push_back((response, bytes));
        state.bytes += bytes;
        state.is_paused = state.bytes > QUEUE_BYTES_MAX;
        self.wake.notify_one();
        !state.is_paused
    }

    /// Whether the watcher is off the stream until there is room.
    pub(crate) fn is_paused(&self) -> bool {
        self.state().is_paused
    }

    /// Nothing follows but this.
    pub(crate) fn finish(&self, error: Error) {
        let mut state = self.state();
        if !state.is_over && state.end.is_none() {
            state.end = Some(error);
        }
        self.wake.notify_one();
    }

    /// Waits until the server has made the watcher.
    pub(crate) async fn created(&self) -> Result<()> {
        loop {
            {
                let mut state = self.state();
                if state.is_created {
                    // What woke this may have been meant for the next reader.
                    self.wake.notify_one();
                    return Ok(());
                }
                if let Some(error) = state.end.take() {
                    state.is_over = true;
                    return Err(error);
                }
            }
            self.wake.notified().await;
        }
    }

    /// Waits for the next response; `None` behind the last.
    pub(crate) async fn pop(&self) -> Option<Popped> {
        loop {
            {
                let mut state = self.state();
                if let Some((response, bytes)) = state.responses.pop_front() {
                    state.bytes -= bytes;
                    let has_room_again = state.is_paused && state.bytes <= QUEUE_BYTES_MAX / 2;
                    state.is_paused &= !has_room_again;
                    return Some(Popped { response: Ok(response), has_room_again });
                }
                if let Some(error) = state.end.take() {
                    state.is_over = true;
                    return Some(Popped { response: Err(error), has_room_again: false });
                }
                if state.is_over {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }
}

fn cost(response: &WatchResponse) -> usize {
    let kvs = response.events.iter().flat_map(|event| event.kv.iter().chain(&event.prev_kv));
    let bytes: usize = kvs.map(|kv| kv.key.len() + kv.value.len()).sum();
    bytes + EVENT_BYTES * (1 + response.events.len())
}
