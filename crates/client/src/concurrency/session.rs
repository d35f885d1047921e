//! A lease that is kept alive as long as its program runs.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::client::Client;
use crate::error::Result;

/// Seconds (clientv3's).
const DEFAULT_TTL_S: i64 = 60;

/// A lease that is kept alive. Clones share it. When the last one is dropped it is kept alive no longer, and ends
/// after its time; [`Session::close`] ends it at once.
///
/// ```
/// # async fn example(client: client::Client) -> client::Result<()> {
/// let session = client.session().ttl(10).await?;
/// client.put("worker/7", "alive").lease(session.lease()).await?;
/// session.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    client: Client,
    lease: i64,
    ttl_s: i64,
    keeper: Arc<Keeper>,
}

/// The task that keeps the lease alive, and whether it still does.
#[derive(Debug)]
struct Keeper {
    task: AbortHandle,
    done: watch::Receiver<bool>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins a [`Session`].
#[derive(Clone, Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct SessionBuilder {
    client: Client,
    ttl_s: i64,
    lease: Option<i64>,
}

impl SessionBuilder {
    /// How long the lease lives without a sign of life, in seconds; 60 if it isn't set.
    pub fn ttl(mut self, seconds: i64) -> Self {
        self.ttl_s = seconds;
        self
    }

    /// With a lease that was granted before.
    pub fn lease(mut self, id: i64) -> Self {
        self.lease = Some(id);
        self
    }

    async fn begin(self) -> Result<Session> {
        let lease = match self.lease {
            Some(lease) => lease,
            None => self.client.lease_grant(self.ttl_s).await?.id,
        };
        let mut keep_alive = self.client.lease_keep_alive(lease);
        let (sender, done) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Some(Ok(_)) = keep_alive.next().await {}
            // Nobody may want to know.
            let _ = sender.send(true);
        });
        let keeper = Arc::new(Keeper { task: task.abort_handle(), done });
        Ok(Session { client: self.client, lease, ttl_s: self.ttl_s, keeper })
    }
}

impl IntoFuture for SessionBuilder {
    type Output = Result<Session>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Session>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.begin())
    }
}

impl Client {
    /// Begins a session.
    pub fn session(&self) -> SessionBuilder {
        SessionBuilder { client: self.clone(), ttl_s: DEFAULT_TTL_S, lease: None }
    }
}

impl Session {
    /// The client that it was begun with.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its lease.
    #[must_use]
    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// Returns when the lease is kept alive no longer: it has ended or was orphaned, or nobody answers.
    pub async fn done(&self) {
        let mut done = self.keeper.done.clone();
        // If the sender is gone the task is, too.
        let _ = done.wait_for(|is_done| *is_done).await;
    }

    /// Whether the lease is kept alive no longer.
    #[must_use]
    pub fn is_done(&self) -> bool {
        *self.keeper.done.borrow() || self.keeper.task.is_finished()
    }

    /// Keeps the lease alive no longer, in all clones; it ends after its time.
    pub fn orphan(&self) {
        self.keeper.task.abort();
    }

    /// Ends the lease, and with it its keys.
    ///
    /// # Errors
    /// If the call fails: the lease then ends after its time.
    pub async fn close(self) -> Result<()> {
        self.orphan();
        // After that time it has ended anyway.
        let ttl = Duration::from_secs(u64::try_from(self.ttl_s).unwrap_or(1));
        self.client.with_timeout(ttl).lease_revoke(self.lease).await?;
        Ok(())
    }
}
