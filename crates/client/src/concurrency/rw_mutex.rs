//! A lock that many hold to read, or one to write.

use api::mvccpb::event::EventType;
use bytes::Bytes;

use super::Session;
use super::key::{GivenUp, put_unique, wait_event};
use crate::SortTarget;
use crate::error::{Error, Result};

/// A lock for many readers or one writer, in the order in which they asked.
#[derive(Debug)]
pub struct RwMutex {
    session: Session,
    prefix: String,
    /// The key of this holder.
    mine: Option<Bytes>,
}

impl RwMutex {
    /// The lock of this name.
    #[must_use]
    pub fn new(session: &Session, prefix: &str) -> Self {
        Self { session: session.clone(), prefix: format!("{prefix}/"), mine: None }
    }

    /// Takes the lock to read, behind all writers that asked before.
    ///
    /// # Errors
    /// If the session ends, or a call fails.
    pub async fn read_lock(&mut self) -> Result<()> {
        self.acquire("read", "write").await
    }

    /// Takes the lock to write, behind all that asked before.
    ///
    /// # Errors
    /// If the session ends, or a call fails.
    pub async fn lock(&mut self) -> Result<()> {
        self.acquire("write", "").await
    }

    async fn acquire(&mut self, kind: &str, behind: &str) -> Result<()> {
        let client = self.session.client().clone();
        let own = format!("{}{kind}", self.prefix);
        let (key, created) = put_unique(&client, &own, "", self.session.lease()).await?;
        let given_up = GivenUp::new(&self.session, Some(key.clone()));
        let prefix = format!("{}{behind}", self.prefix);
        let wait = async {
            loop {
                let last = client.get(prefix.as_str()).last_by(SortTarget::Mod);
                let answer = last.max_mod_revision(created.saturating_sub(1)).await?;
                let Some(kv) = answer.kvs.into_iter().next() else { return Ok::<_, Error>(()) };
                wait_event(client.watch(kv.key).start_revision(created), EventType::Delete).await?;
            }
        };
        tokio::select! {
            result = wait => result?,
            () = self.session.done() => return Err(Error::SessionExpired),
        }
        given_up.keep();
        self.mine = Some(key);
        Ok(())
    }

    /// Lets go.
    ///
    /// # Errors
    /// [`Error::LockReleased`] if it isn't held, and if the call fails.
    pub async fn unlock(&mut self) -> Result<()> {
        let mine = self.mine.as_ref().ok_or(Error::LockReleased)?;
        self.session.client().delete(mine.clone()).await?;
        self.mine = None;
        Ok(())
    }
}
