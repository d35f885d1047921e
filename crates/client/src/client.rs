//! The client: a handle to a cluster, and how calls are made from it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{debug, info};

use crate::call::{Caller, Method, Terms};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::lease::KeepAlives;
use crate::watch;

/// How long the endpoints may take to be asked for.
const SYNC_TIMEOUT: Duration = Duration::from_secs(5);

/// The oldest release that [`Config::reject_old_cluster`] takes.
const OLDEST: (u64, u64) = (3, 6);

/// A client of a cluster. Clones share connections; the last one ends them.
///
/// ```no_run
/// # async fn example() -> client::Result<()> {
/// use client::{Client, Config};
///
/// let client = Client::connect(Config::new(["http://127.0.0.1:2379"])).await?;
/// client.put("greeting", "hello").await?;
/// let answer = client.get("greeting").await?;
/// assert_eq!(answer.kvs[0].value, "hello");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    /// The stream of watchers that don't ask whether there is a leader, and of those that do.
    watches: Arc<[watch::Stream; 2]>,
    terms: Terms,
    prefix: Bytes,
    /// The highest revision that was read, for those who never want to see an earlier one.
    order: Option<Arc<AtomicI64>>,
}

#[derive(Debug)]
struct Shared {
    caller: Arc<Caller>,
    keep_alives: KeepAlives,
    /// The task that asks for the members. A lock, since it starts when the client is there already.
    sync: Mutex<Option<AbortHandle>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let sync = self.sync.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(sync) = sync.take() {
            sync.abort();
        }
    }
}

impl Client {
    /// A client of the cluster at the endpoints of `config`. It starts to connect to all of them, and waits for
    /// none: calls wait until there is one. With a name and a password it logs in first.
    ///
    /// # Errors
    /// If the configuration can't work, or the login fails.
    pub async fn connect(config: Config) -> Result<Self> {
        config.check()?;
        let caller = Arc::new(Caller::new(&config, &config.endpoints)?);
        let shared = Shared { caller, keep_alives: KeepAlives::default(), sync: Mutex::default() };
        let terms = Terms { timeout: config.timeout, require_leader: false };
        let client = Self {
            shared: Arc::new(shared),
            watches: Arc::default(),
            terms,
            prefix: Bytes::new(),
            order: None,
        };
        let first = Terms { timeout: config.dial_timeout, require_leader: false };
        client.shared.caller.within(&first, client.shared.caller.log_in(None)).await?;
        if config.reject_old_cluster {
            client.check_versions(config.dial_timeout).await?;
        }
        if let Some(interval) = config.auto_sync_interval {
            let task = tokio::spawn(auto_sync(Arc::downgrade(&client.shared), interval));
            let mut sync = client.shared.sync.lock().unwrap_or_else(PoisonError::into_inner);
            *sync = Some(task.abort_handle());
        }
        Ok(client)
    }

    /// A handle whose calls take so long at most, all attempts together.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        let terms = Terms { timeout: Some(timeout), ..self.terms.clone() };
        Self { terms, ..self.clone() }
    }

    /// A handle whose calls fail at members that know of no leader, and whose watches end there.
    #[must_use]
    pub fn with_require_leader(&self) -> Self {
        let terms = Terms { require_leader: true, ..self.terms.clone() };
        Self { terms, ..self.clone() }
    }

    /// A handle whose watchers share a stream of their own, over the same connections: with very many watchers
    /// a server can make use of several streams.
    #[must_use]
    pub fn with_watch_stream(&self) -> Self {
        Self { watches: Arc::default(), ..self.clone() }
    }

    /// A handle that knows only keys with this prefix, and knows them without it.
    ///
    /// Operations, watches, leases' keys and all that is built on them go through it.
    ///
    /// ```
    /// # async fn example(client: client::Client) -> client::Result<()> {
    /// client.with_namespace("app/").put("key", "value").await?;
    /// assert_eq!(client.get("app/key").await?.count, 1);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_namespace(&self, prefix: impl AsRef<[u8]>) -> Self {
        Self { prefix: [&self.prefix, prefix.as_ref()].concat().into(), ..self.clone() }
    }

    /// A handle that never shows an earlier state than it has shown before, also where reads are serializable and
    /// go to different members: an answer from the past is asked for again, elsewhere.
    #[must_use]
    pub fn with_ordering(&self) -> Self {
        Self { order: Some(Arc::default()), ..self.clone() }
    }

    /// The endpoints in use, as they were given.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.shared.caller.balancer.endpoints()
    }

    /// Uses other endpoints from now on, in all clones.
    ///
    /// # Errors
    /// If one can never be used. Nothing has changed then.
    pub fn set_endpoints<E: Into<String>>(
        &self,
        endpoints: impl IntoIterator<Item = E>,
    ) -> Result<()> {
        let endpoints: Vec<String> = endpoints.into_iter().map(Into::into).collect();
        if endpoints.is_empty() {
            return Err(Error::NoEndpoints);
        }
        self.shared.caller.balancer.set_endpoints(&endpoints)
    }

    /// Asks the cluster for its members, and uses the client URLs of those that have started and may vote.
    ///
    /// # Errors
    /// As [`Client::member_list`], and if an endpoint can't be used.
    pub async fn sync(&self) -> Result<()> {
        let members = self.member_list().await?.members;
        let started = members.into_iter().filter(|it| !it.name.is_empty() && !it.is_learner);
        let endpoints: Vec<String> = started.flat_map(|member| member.client_urls).collect();
        debug!(?endpoints, "set etcd endpoints");
        self.set_endpoints(endpoints)
    }

    async fn check_versions(&self, timeout: Option<Duration>) -> Result<()> {
        let terms = Terms { timeout, require_leader: false };
        for endpoint in self.endpoints() {
            let client = Self { terms: terms.clone(), ..self.clone() };
            let version = client.status(&endpoint).await?.version;
            let mut numbers = version.split('.').map(|number| number.parse::<u64>().ok());
            let (major, minor) = (numbers.next().flatten(), numbers.next().flatten());
            if major.zip(minor).is_none_or(|version| version < OLDEST) {
                return Err(Error::OldCluster);
            }
        }
        Ok(())
    }

    pub(crate) fn caller(&self) -> &Arc<Caller> {
        &self.shared.caller
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    pub(crate) fn prefix(&self) -> Bytes {
        self.prefix.clone()
    }

    pub(crate) fn keep_alives(&self) -> &KeepAlives {
        &self.shared.keep_alives
    }

    /// The way to the stream of watchers that this handle uses.
    pub(crate) fn watch_stream(&self) -> mpsc::UnboundedSender<watch::Command> {
        let [plain, with_leader] = &*self.watches;
        let stream = if self.terms.require_leader { with_leader } else { plain };
        stream.commands(&self.shared.caller, self.terms.require_leader)
    }

    /// A call with one request and one response.
    pub(crate) async fn unary<Q, A>(&self, method: Method, request: Q) -> Result<A>
    where
        Q: prost::Message + Clone + 'static,
        A: prost::Message + Default + 'static,
    {
        self.shared.caller.unary(&self.terms, method, request).await
    }

    /// The highest revision that was read so far, or `None` if nobody cares.
    pub(crate) fn order(&self) -> Option<&AtomicI64> {
        self.order.as_deref()
    }

    /// Whether an answer of this revision may be shown after what was shown before `asked`.
    pub(crate) fn is_in_order(order: &AtomicI64, asked: i64, revision: i64) -> bool {
        order.fetch_max(revision, Ordering::Relaxed);
        revision >= asked
    }
}

async fn auto_sync(shared: Weak<Shared>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(shared) = shared.upgrade() else { return };
        let terms = Terms { timeout: Some(SYNC_TIMEOUT), require_leader: false };
        let watches = Arc::default();
        let client = Client { shared, watches, terms, prefix: Bytes::new(), order: None };
        if let Err(error) = client.sync().await {
            info!(%error, "Auto sync endpoints failed.");
        }
    }
}
