//! The watchers of a stream, without the stream: responses and commands in, requests out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use api::etcdserverpb::watch_request::RequestUnion;
use api::etcdserverpb::{
    self as pb, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
};
use api::mvccpb::Event;

use super::queue::Queue;
use super::{Command, WatchResponse};
use crate::error::{Error, Result};

/// What the server calls a watcher that it did not make, and what stands for all watchers.
const NO_ID: i64 = -1;

/// What a stream's watchers are and want.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// By the key of its queue.
    entries: BTreeMap<u64, Entry>,
    /// The watcher behind each id that the server gave.
    by_id: BTreeMap<i64, u64>,
    /// Watchers to be made, in order. One after the other, since an answer does not say whose it is.
    waiting: VecDeque<u64>,
    /// The watcher that the server makes now; it may be gone when the answer comes.
    creating: Option<u64>,
    requests: VecDeque<WatchRequest>,
}

#[derive(Debug)]
struct Entry {
    queue: Arc<Queue>,
    /// With the revision behind the last that was delivered.
    request: WatchCreateRequest,
    id: Option<i64>,
    /// The parts of a response so far.
    parts: Vec<Event>,
}

impl Watches {
    /// Whether nobody watches.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn command(&mut self, command: Command) {
        match command {
            Command::Create(queue, request) => {
                self.waiting.push_back(queue.key());
                let entry = Entry { queue, request, id: None, parts: Vec::new() };
                self.entries.insert(entry.queue.key(), entry);
            }
            Command::Resume(key) => self.waiting.push_back(key),
            Command::Cancel(key) => {
                if let Some(id) = self.remove(key) {
                    self.cancel(id);
                }
            }
            // Without watchers there is nothing to be told.
            Command::Progress if self.entries.is_empty() => {}
            Command::Progress => {
                let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
                self.requests.push_back(WatchRequest { request_union: Some(progress) });
            }
        }
    }

    /// What is to be sent next.
    pub(crate) fn next_request(&mut self) -> Option<WatchRequest> {
        if let Some(request) = self.requests.pop_front() {
            return Some(request);
        }
        while self.creating.is_none() {
            let key = self.waiting.pop_front()?;
            // It may be gone, or be back since the stream broke.
            let entry = self.entries.get(&key).filter(|entry| entry.id.is_none());
            let Some(entry) = entry else { continue };
            let create = RequestUnion::CreateRequest(entry.request.clone());
            self.creating = Some(key);
            return Some(WatchRequest { request_union: Some(create) });
        }
        None
    }

    /// The stream is gone: nothing is under way, and all watchers are to be made again.
    pub(crate) fn broken(&mut self) {
        self.by_id.clear();
        self.creating = None;
        self.requests.clear();
        self.waiting.clear();
        for (&key, entry) in &mut self.entries {
            entry.id = None;
            entry.parts.clear();
            // A paused one comes back when there is room.
            if !entry.queue.is_paused() {
                self.waiting.push_back(key);
            }
        }
    }

    /// Ends all watchers.
    pub(crate) fn fail(&mut self, error: &Error) {
        for entry in std::mem::take(&mut self.entries).into_values() {
            entry.queue.finish(error.clone());
        }
        self.broken();
    }

    /// Takes a response.
    ///
    /// # Errors
    /// If the stream must be opened again, with a new token.
    pub(crate) fn handle(
        &mut self,
        response: pb::WatchResponse,
        wants_login: impl Fn(&Error) -> bool,
    ) -> Result<()> {
        if response.created {
            return self.created(response, wants_login);
        }
        let header = response.header.unwrap_or_default();
        if response.watch_id == NO_ID && !response.canceled {
            for entry in self.entries.values_mut().filter(|entry| entry.id.is_some()) {
                entry.progress(header);
            }
            return Ok(());
        }
        let Some(&key) = self.by_id.get(&response.watch_id) else {
            // One that was just cancelled, or that nobody knows of.
            if !response.canceled {
                self.cancel(response.watch_id);
            }
            return Ok(());
        };
        if response.canceled {
            let error = reason(&response);
            if wants_login(&error) {
                return Err(error);
            }
            self.finish(key, error);
            return Ok(());
        }
        let Some(entry) = self.entries.get_mut(&key) else { return Ok(()) };
        let has_room = if response.events.is_empty() && !response.fragment && entry.parts.is_empty()
        {
            entry.progress(header)
        } else {
            entry.events(header, response.events, response.fragment)
        };
        if !has_room {
            entry.id = None;
            self.by_id.remove(&response.watch_id);
            self.cancel(response.watch_id);
        }
        Ok(())
    }

    fn created(
        &mut self,
        response: pb::WatchResponse,
        wants_login: impl Fn(&Error) -> bool,
    ) -> Result<()> {
        let creating = self.creating.take();
        let is_made = !response.canceled && response.watch_id != NO_ID;
        let Some(key) = creating.filter(|key| self.entries.contains_key(key)) else {
            if is_made {
                self.cancel(response.watch_id);
            }
            return Ok(());
        };
        if !is_made {
            let error = reason(&response);
            if wants_login(&error) {
                return Err(error);
            }
            self.finish(key, error);
            return Ok(());
        }
        let header = response.header.unwrap_or_default();
        self.by_id.insert(response.watch_id, key);
        let Some(entry) = self.entries.get_mut(&key) else { return Ok(()) };
        entry.id = Some(response.watch_id);
        if entry.request.start_revision == 0 {
            // DIFF(etcd): from now on is from behind this revision on, also if the stream breaks before anything has happened.
            entry.request.start_revision = header.revision.saturating_add(1);
        }
        entry.queue.set_created(WatchResponse {
            header,
            created: true,
            ..WatchResponse::default()
        });
        Ok(())
    }

    /// Ends one watcher.
    fn finish(&mut self, key: u64, error: Error) {
        if let Some(entry) = self.entries.get(&key) {
            entry.queue.finish(error);
        }
        self.remove(key);
    }

    /// Forgets a watcher, and returns its id if the server knows it.
    fn remove(&mut self, key: u64) -> Option<i64> {
        let id = self.entries.remove(&key)?.id?;
        self.by_id.remove(&id);
        Some(id)
    }

    fn cancel(&mut self, watch_id: i64) {
        let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
        self.requests.push_back(WatchRequest { request_union: Some(cancel) });
    }
}

impl Entry {
    /// Nothing has happened up to the revision in the header. Says whether there is room for more.
    fn progress(&mut self, header: pb::ResponseHeader) -> bool {
        let start = &mut self.request.start_revision;
        *start = (*start).max(header.revision.saturating_add(1));
        self.queue.push(WatchResponse { header, ..WatchResponse::default() })
    }

    /// Says whether there is room for more.
    fn events(&mut self, header: pb::ResponseHeader, events: Vec<Event>, is_part: bool) -> bool {
        let start = self.request.start_revision;
        let mod_revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        self.parts.extend(events.into_iter().filter(|event| mod_revision(event) >= start));
        if is_part {
            return true;
        }
        let events = std::mem::take(&mut self.parts);
        let Some(last) = events.last() else { return true };
        self.request.start_revision = mod_revision(last).saturating_add(1);
        self.queue.push(WatchResponse { header, events, created: false })
    }
}

/// Why the server ended a watcher, or did not make it.
fn reason(response: &pb::WatchResponse) -> Error {
    if response.compact_revision != 0 {
        return Error::Compacted { revision: response.compact_revision };
    }
    let reason = response.cancel_reason.as_str();
    let text = reason.split_once("desc = ").map_or(reason, |(_, text)| text);
    match api::Error::from_message(text) {
        Some(error) => error.into(),
        None => Error::WatchCanceled(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests;
