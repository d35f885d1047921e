//! Waiting for one, and waiting for each other.

use api::mvccpb::event::EventType;
use bytes::Bytes;

use super::Session;
use super::key::{put_new, put_unique, revision, wait_event};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::watch::KeyValue;
use crate::{GetResponse, SortOrder, SortTarget};

/// A barrier: whoever comes waits, until the one who holds it lets go.
#[derive(Clone, Debug)]
pub struct Barrier {
    client: Client,
    key: Bytes,
}

impl Barrier {
    /// The barrier that is down while this key is there.
    #[must_use]
    pub fn new(client: &Client, key: impl Into<Vec<u8>>) -> Self {
        Self { client: client.clone(), key: key.into().into() }
    }

    /// Lets it down.
    ///
    /// # Errors
    /// [`Error::KeyExists`] if it is down already, and if the call fails.
    pub async fn hold(&self) -> Result<()> {
        put_new(&self.client, &self.key, "", 0).await?;
        Ok(())
    }

    /// Lifts it: all who wait go on.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn release(&self) -> Result<()> {
        self.client.delete(self.key.clone()).await?;
        Ok(())
    }

    /// Waits until it is lifted.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn wait(&self) -> Result<()> {
        let answer = self.client.get(self.key.clone()).await?;
        if answer.kvs.is_empty() {
            return Ok(());
        }
        let since = revision(answer.header.as_ref()).saturating_add(1);
        wait_event(self.client.watch(self.key.clone()).start_revision(since), EventType::Delete)
            .await?;
        Ok(())
    }
}

/// A barrier for so many, who begin together and end together.
#[derive(Debug)]
pub struct DoubleBarrier {
    session: Session,
    key: String,
    count: usize,
    /// The key of this one, while it is inside.
    mine: Option<Bytes>,
}

impl DoubleBarrier {
    /// For `count` participants.
    #[must_use]
    pub fn new(session: &Session, key: &str, count: usize) -> Self {
        Self { session: session.clone(), key: key.to_owned(), count, mine: None }
    }

    fn waiters(&self) -> String {
        format!("{}/waiters", self.key)
    }

    fn ready(&self) -> String {
        format!("{}/ready", self.key)
    }

    /// Who is inside, in the order of coming.
    async fn inside(&self) -> Result<GetResponse> {
        let waiters = self.session.client().get(self.waiters()).prefix();
        waiters.sort(SortTarget::Create, SortOrder::Ascend).await
    }

    /// Enters, and waits until all are there.
    ///
    /// # Errors
    /// [`Error::TooManyClients`] if all are there already, and if a call fails.
    pub async fn enter(&mut self) -> Result<()> {
        let client = self.session.client().clone();
        if self.inside().await?.kvs.len() >= self.count {
            return Err(Error::TooManyClients);
        }
        let (mine, created) =
            put_unique(&client, &self.waiters(), "", self.session.lease()).await?;
        self.mine = Some(mine.clone());
        let inside = self.inside().await?;
        if let Some(last) = inside.kvs.get(self.count.saturating_sub(1)) {
            if created > last.create_revision {
                // Without an answer the key ends with the session.
                let _ = client.delete(mine).await;
                self.mine = None;
                return Err(Error::TooManyClients);
            }
            if created == last.create_revision {
                client.put(self.ready(), "").await?;
                return Ok(());
            }
        }
        wait_event(client.watch(self.ready()).start_revision(created), EventType::Put).await?;
        Ok(())
    }

    /// Leaves, and waits until all have left.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn leave(&mut self) -> Result<()> {
        let client = self.session.client().clone();
        loop {
            let inside = self.inside().await?.kvs;
            let by_revision = |kv: &&KeyValue| kv.mod_revision;
            let (lowest, highest) =
                (inside.iter().min_by_key(by_revision), inside.iter().max_by_key(by_revision));
            let (Some(lowest), Some(highest)) = (lowest, highest) else { return Ok(()) };
            let is_lowest = self.mine.as_ref() == Some(&lowest.key);
            if is_lowest && inside.len() == 1 {
                client.delete(self.ready()).await?;
                self.delete_mine(&client).await?;
                return Ok(());
            }
            // The one who came first waits for the last; the others go, and wait for the first.
            let other = if is_lowest { highest } else { lowest };
            if !is_lowest {
                self.delete_mine(&client).await?;
            }
            let watch = client.watch(other.key.clone()).start_revision(other.mod_revision);
            wait_event(watch, EventType::Delete).await?;
        }
    }

    async fn delete_mine(&mut self, client: &Client) -> Result<()> {
        if let Some(mine) = &self.mine {
            client.delete(mine.clone()).await?;
        }
        self.mine = None;
        Ok(())
    }
}
