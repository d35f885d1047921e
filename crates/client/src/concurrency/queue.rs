//! Queues that many fill and many empty; each thing is taken once.

use api::mvccpb::event::EventType;
use bytes::Bytes;

use super::key::{delete_at, put_unique, revision, wait_event};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::op::{Compare, Comparison, Get, Put};
use crate::{GetResponse, SortTarget};

/// First in, first out.
#[derive(Clone, Debug)]
pub struct Queue {
    client: Client,
    prefix: String,
}

impl Queue {
    /// The queue of this name.
    #[must_use]
    pub fn new(client: &Client, prefix: &str) -> Self {
        Self { client: client.clone(), prefix: prefix.to_owned() }
    }

    /// Puts something in.
    ///
    /// # Errors
    /// If the call fails. It may be in the queue then.
    pub async fn enqueue(&self, value: impl Into<Vec<u8>>) -> Result<()> {
        put_unique(&self.client, &self.prefix, value, 0).await?;
        Ok(())
    }

    /// Takes the oldest thing out, and waits if there is none.
    ///
    /// # Errors
    /// If a call fails. Something may be out of the queue then.
    pub async fn dequeue(&self) -> Result<Bytes> {
        let first = || self.client.get(self.prefix.as_str()).first_by(SortTarget::Mod);
        dequeue(&self.client, &self.prefix, first).await
    }
}

/// The thing with the lowest number comes first; of equal ones the first in.
#[derive(Clone, Debug)]
pub struct PriorityQueue {
    client: Client,
    prefix: String,
}

impl PriorityQueue {
    /// The queue of this name.
    #[must_use]
    pub fn new(client: &Client, prefix: &str) -> Self {
        Self { client: client.clone(), prefix: format!("{prefix}/") }
    }

    /// Puts something in.
    ///
    /// # Errors
    /// If the call fails. It may be in the queue then.
    pub async fn enqueue(&self, value: impl Into<Vec<u8>>, priority: u16) -> Result<()> {
        let prefix = format!("{}{priority:05}", self.prefix);
        put_in_sequence(&self.client, &prefix, value.into()).await
    }

    /// Takes the first thing out, and waits if there is none.
    ///
    /// # Errors
    /// If a call fails. Something may be out of the queue then.
    pub async fn dequeue(&self) -> Result<Bytes> {
        let first = || self.client.get(self.prefix.as_str()).first_by(SortTarget::Key);
        dequeue(&self.client, &self.prefix, first).await
    }
}

/// Takes what `first` finds, or what comes.
async fn dequeue(client: &Client, prefix: &str, first: impl Fn() -> Get<Client>) -> Result<Bytes> {
    loop {
        let answer: GetResponse = first().await?;
        let kv = match answer.kvs.into_iter().next() {
            Some(kv) => kv,
            None => {
                let since = revision(answer.header.as_ref()).saturating_add(1);
                let watch = client.watch(prefix).prefix().start_revision(since);
                let event = wait_event(watch, EventType::Put).await?;
                event.kv.ok_or(Error::Unexpected("an event without a key"))?
            }
        };
        // Somebody else may be quicker.
        if delete_at(client, &kv.key, kv.mod_revision).await? {
            return Ok(kv.value);
        }
    }
}

/// Puts a key behind the prefix, with the number behind the highest there.
async fn put_in_sequence(client: &Client, prefix: &str, value: Vec<u8>) -> Result<()> {
    // Changed with each number given, so that a number that was given and deleted is not given again by one who
    // looked before.
    let base = format!("__{prefix}");
    loop {
        let answer = client.get(prefix).last_by(SortTarget::Key).await?;
        let number = match answer.kvs.first() {
            None => 0,
            Some(kv) => {
                let name = kv.key.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
                let number =
                    std::str::from_utf8(name).ok().and_then(|name| name.parse::<u64>().ok());
                let number = number.and_then(|number| number.checked_add(1));
                number.ok_or(Error::Unexpected("a key in a queue without a number"))?
            }
        };
        let since = revision(answer.header.as_ref()).saturating_add(1);
        let answer = client
            .txn()
            .when(Compare::mod_revision(base.as_str(), Comparison::Less, since))
            .then(Put::new(base.as_str(), ""))
            .then(Put::new(format!("{prefix}/{number:016}"), value.clone()))
            .await?;
        if answer.succeeded {
            return Ok(());
        }
    }
}
