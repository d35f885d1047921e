//! A lock that one session holds at a time.

use api::etcdserverpb::response_op::Response;
use bytes::Bytes;

use super::Session;
use super::key::{GivenUp, lease_name, revision, wait_deletes};
use crate::error::{Error, Result};
use crate::op::{Compare, Comparison, Get, Put, TxnResponse};
use crate::{ResponseHeader, SortTarget};

/// A lock. Whoever waits is served in the order in which it asked.
///
/// The key of a holder is `<prefix>/<lease in hexadecimal>`. A holder whose session ends has lost the lock without
/// being asked; [`Mutex::is_owner`] is the condition to put into a transaction that must not happen then.
///
/// ```
/// # async fn example(client: client::Client) -> client::Result<()> {
/// use client::{Put, concurrency::Mutex};
///
/// let session = client.session().await?;
/// let mut mutex = Mutex::new(&session, "locks/report");
/// mutex.lock().await?;
/// client.txn().when(mutex.is_owner()).then(Put::new("report", "mine")).await?;
/// mutex.unlock().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Mutex {
    session: Session,
    prefix: String,
    key: Bytes,
    /// The revision at which the key was created; 0 while there is none.
    revision: i64,
    header: ResponseHeader,
}

impl Mutex {
    /// A lock of this name, which is not held yet.
    #[must_use]
    pub fn new(session: &Session, prefix: &str) -> Self {
        let prefix = format!("{prefix}/");
        let key = Bytes::from(format!("{prefix}{}", lease_name(session.lease())));
        let header = ResponseHeader::default();
        Self { session: session.clone(), prefix, key, revision: 0, header }
    }

    /// Takes the lock, and waits for it. If this is given up, so is the place in the queue.
    ///
    /// # Errors
    /// If the session ends, or a call fails.
    pub async fn lock(&mut self) -> Result<()> {
        // Whoever has it already does not lose it by asking again.
        let key = (self.revision == 0).then(|| self.key.clone());
        let given_up = GivenUp::new(&self.session, key);
        if self.acquire().await? {
            given_up.keep();
            return Ok(());
        }
        let mine = self.revision;
        self.revision = 0;
        tokio::select! {
            result = wait_deletes(self.session.client(), &self.prefix, mine.saturating_sub(1)) => result?,
            () = self.session.done() => return Err(Error::SessionExpired),
        }
        // Others are gone, but so may be the session.
        let answer = self.session.client().get(self.key.clone()).await?;
        if answer.kvs.is_empty() {
            return Err(Error::SessionExpired);
        }
        given_up.keep();
        self.revision = mine;
        self.header = answer.header.unwrap_or_default();
        Ok(())
    }

    /// Takes the lock if nobody has it.
    ///
    /// # Errors
    /// [`Error::Locked`] if somebody has it, and if a call fails.
    pub async fn try_lock(&mut self) -> Result<()> {
        if self.acquire().await? {
            return Ok(());
        }
        self.revision = 0;
        self.session.client().delete(self.key.clone()).await?;
        Err(Error::Locked)
    }

    /// Queues up, and says whether there was nobody else.
    async fn acquire(&mut self) -> Result<bool> {
        let first = || Get::new(self.prefix.as_str()).first_by(SortTarget::Create);
        let answer: TxnResponse = self
            .session
            .client()
            .txn()
            .when(Compare::create_revision(self.key.clone(), Comparison::Equal, 0))
            .then(Put::new(self.key.clone(), "").lease(self.session.lease()))
            .then(first())
            .otherwise(Get::new(self.key.clone()))
            .otherwise(first())
            .await?;
        let mut created = answer.responses.iter().map(|op| match &op.response {
            Some(Response::ResponseRange(range)) => {
                range.kvs.first().map_or(0, |kv| kv.create_revision)
            }
            _ => 0,
        });
        let (mine, owner) = (created.next().unwrap_or(0), created.next().unwrap_or(0));
        self.revision = if answer.succeeded { revision(answer.header.as_ref()) } else { mine };
        let is_owner = owner == 0 || owner == self.revision;
        if is_owner {
            self.header = answer.header.unwrap_or_default();
        }
        Ok(is_owner)
    }

    /// Gives the lock to the next.
    ///
    /// # Errors
    /// [`Error::LockReleased`] if it isn't held, and if the call fails.
    pub async fn unlock(&mut self) -> Result<()> {
        if self.revision == 0 {
            return Err(Error::LockReleased);
        }
        self.session.client().delete(self.key.clone()).await?;
        self.revision = 0;
        Ok(())
    }

    /// The condition that the lock is still held.
    #[must_use]
    pub fn is_owner(&self) -> Compare {
        // Where there is no key the revision is 0, which must not pass for a lock that isn't held.
        let revision = if self.revision == 0 { -1 } else { self.revision };
        Compare::create_revision(self.key.clone(), Comparison::Equal, revision)
    }

    /// The key that stands for this holder.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The header of the answer by which the lock was taken.
    #[must_use]
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}
