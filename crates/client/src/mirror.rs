//! A copy of keys elsewhere: first all that is there, then each change.
//!
//! ```
//! # async fn example(client: client::Client) -> client::Result<()> {
//! use client::mirror::Syncer;
//!
//! let mut syncer = Syncer::new(&client, "app/");
//! let mut base = syncer.sync_base().await?;
//! while let Some(part) = base.next().await? {
//!     println!("{} keys", part.kvs.len());
//! }
//! let mut updates = syncer.sync_updates().await?;
//! while let Some(update) = updates.next().await {
//!     println!("{:?}", update?.events);
//! }
//! # Ok(()) }
//! ```

use bytes::Bytes;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::op::{Get, GetResponse, prefix_end};
use crate::watch::Watcher;

/// Keys in one part of the base (clientv3's).
const PART_KEYS: i64 = 1000;

/// Reads keys with a prefix as of one revision, and then what changed since.
#[derive(Clone, Debug)]
pub struct Syncer {
    client: Client,
    prefix: Bytes,
    revision: i64,
}

impl Syncer {
    /// Of all keys with this prefix; of all keys if it is empty.
    #[must_use]
    pub fn new(client: &Client, prefix: impl Into<Vec<u8>>) -> Self {
        Self { client: client.clone(), prefix: prefix.into().into(), revision: 0 }
    }

    /// As of this revision; otherwise as of now.
    #[must_use]
    pub fn revision(mut self, revision: i64) -> Self {
        self.revision = revision;
        self
    }

    /// Begins to read all that is there.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn sync_base(&mut self) -> Result<Base> {
        if self.revision == 0 {
            let answer = self.range(Bytes::new()).count_only().await?;
            self.revision = answer.header.map_or(0, |header| header.revision);
        }
        let next = Some(self.prefix.clone());
        Ok(Base { syncer: self.clone(), next })
    }

    /// Watches what changes from there on.
    ///
    /// # Errors
    /// If the base was not begun and no revision was given, and if the watch fails.
    pub async fn sync_updates(&self) -> Result<Watcher> {
        if self.revision == 0 {
            let text = "unexpected revision = 0. Calling SyncUpdates before SyncBase finishes?";
            return Err(Error::Config(text.to_owned()));
        }
        self.client
            .watch(self.prefix.clone())
            .prefix()
            .start_revision(self.revision.saturating_add(1))
            .await
    }

    /// The keys from this one on, if it is not empty.
    fn range(&self, from: Bytes) -> Get<Client> {
        if from.is_empty() {
            return self.client.get(self.prefix.clone()).prefix();
        }
        self.client.get(from).range(prefix_end(&self.prefix))
    }
}

/// What is there, in parts.
#[derive(Debug)]
pub struct Base {
    syncer: Syncer,
    /// Where the next part begins.
    next: Option<Bytes>,
}

impl Base {
    /// The next part, or `None` behind the last.
    ///
    /// # Errors
    /// If the call fails; it may be called again.
    pub async fn next(&mut self) -> Result<Option<GetResponse>> {
        let Some(from) = self.next.clone() else { return Ok(None) };
        let part = self.syncer.range(from).limit(PART_KEYS).revision(self.syncer.revision).await?;
        let behind = |key: &Bytes| Bytes::from([key, &[0][..]].concat());
        let last = part.kvs.last().filter(|_| part.more);
        self.next = last.map(|kv| behind(&kv.key));
        Ok(Some(part))
    }
}
