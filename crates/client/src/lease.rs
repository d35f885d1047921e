//! Leases, and keeping them alive: all leases of a client share one stream.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::Code;
use api::Status;
use api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::call::{Caller, Method, Terms};
use crate::channel::Answers;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::namespace;

pub use api::etcdserverpb::{
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse,
    LeaseTimeToLiveResponse,
};

const GRANT: Method = Method::repeatable("/etcdserverpb.Lease/LeaseGrant");
const GRANT_WITH_ID: Method = Method::once("/etcdserverpb.Lease/LeaseGrant");
const REVOKE: Method = Method::repeatable("/etcdserverpb.Lease/LeaseRevoke");
const TIME_TO_LIVE: Method = Method::repeatable("/etcdserverpb.Lease/LeaseTimeToLive");
const LEASES: Method = Method::repeatable("/etcdserverpb.Lease/LeaseLeases");
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// How long a lease is taken to live before the server has said so (clientv3's).
const FIRST_TTL: Duration = Duration::from_secs(5);

/// The wait before a stream that broke is opened again, and before a request is repeated (clientv3's).
const RETRY_WAIT: Duration = Duration::from_millis(500);

/// Answers that the owner of a lease has not taken yet; what is beyond is left out.
const ANSWERS_MAX: usize = 16;

/// Grants a lease.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent until it is awaited"]
pub struct LeaseGrant {
    client: Client,
    request: LeaseGrantRequest,
}

impl LeaseGrant {
    /// With this id; otherwise the server chooses one.
    pub fn id(mut self, id: i64) -> Self {
        self.request.id = id;
        self
    }
}

impl IntoFuture for LeaseGrant {
    type Output = Result<LeaseGrantResponse>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        // A lease without a chosen id that nobody hears of ends by itself, so it may be asked for twice.
        let method = if self.request.id == 0 { GRANT } else { GRANT_WITH_ID };
        Box::pin(async move { self.client.unary(method, self.request).await })
    }
}

impl Client {
    /// Grants a lease of so many seconds; the server may make it longer.
    ///
    /// ```
    /// # async fn example(client: client::Client) -> client::Result<()> {
    /// let lease = client.lease_grant(10).await?;
    /// client.put("alive", "yes").lease(lease.id).await?;
    /// let mut renewals = client.lease_keep_alive(lease.id);
    /// while let Some(renewal) = renewals.next().await {
    ///     println!("{} seconds more", renewal?.ttl);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn lease_grant(&self, ttl_s: i64) -> LeaseGrant {
        let request = LeaseGrantRequest { ttl: ttl_s, ..LeaseGrantRequest::default() };
        LeaseGrant { client: self.clone(), request }
    }

    /// Ends a lease, and with it its keys.
    ///
    /// # Errors
    /// If there is no such lease, or the call fails.
    pub async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse> {
        self.unary(REVOKE, LeaseRevokeRequest { id }).await
    }

    /// How long a lease has left; a TTL of -1 if there is no such lease. With `keys`, those that it will take with
    /// it.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn lease_time_to_live(&self, id: i64, keys: bool) -> Result<LeaseTimeToLiveResponse> {
        let request = LeaseTimeToLiveRequest { id, keys };
        let mut response: LeaseTimeToLiveResponse = self.unary(TIME_TO_LIVE, request).await?;
        let prefix = self.prefix();
        response.keys.retain(|key| key.starts_with(&prefix));
        response.keys.iter_mut().for_each(|key| namespace::strip(&prefix, key));
        Ok(response)
    }

    /// All leases.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn leases(&self) -> Result<LeaseLeasesResponse> {
        self.unary(LEASES, LeaseLeasesRequest {}).await
    }

    /// Keeps a lease alive as long as what this returns lives: it is renewed after each third of its time.
    #[must_use = "the lease is kept alive as long as this lives"]
    pub fn lease_keep_alive(&self, id: i64) -> LeaseKeepAlive {
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        let (end_sender, end) = mpsc::unbounded_channel();
        let listener = Listener {
            answers: sender,
            end: end_sender,
            requires_leader: self.terms().require_leader,
        };
        let commands = self.keep_alives().commands(self.caller());
        let stopped = listener.end.clone();
        if commands.send(Command { id, listener }).is_err() {
            // The receiver is here.
            let _ = stopped.send(Error::KeepAliveHalted);
        }
        LeaseKeepAlive { id, answers, end, is_over: false }
    }

    /// Renews a lease once.
    ///
    /// # Errors
    /// If there is no such lease, or the call fails.
    pub async fn lease_keep_alive_once(&self, id: i64) -> Result<LeaseKeepAliveResponse> {
        let work = self.keep_alive_attempts(id);
        let response = self.caller().within(self.terms(), work).await?;
        if response.ttl <= 0 {
            return Err(api::Error::LeaseNotFound.into());
        }
        Ok(response)
    }

    async fn keep_alive_attempts(&self, id: i64) -> Result<LeaseKeepAliveResponse> {
        let mut token_is_new = false;
        loop {
            let error = match self.keep_alive_attempt(id).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            // A stream is opened with a token of that moment: if it doesn't do, another won't, either.
            let may_log_in = self.caller().wants_login(&error) && !token_is_new;
            token_is_new |= may_log_in;
            if !error.is_transient() && !may_log_in {
                return Err(error);
            }
            tokio::time::sleep(RETRY_WAIT / 10).await;
        }
    }

    async fn keep_alive_attempt(&self, id: i64) -> Result<LeaseKeepAliveResponse> {
        let (requests, receiver) = mpsc::unbounded_channel();
        // The receiver is here.
        let _ = requests.send(LeaseKeepAliveRequest { id });
        let mut answers: Answers<LeaseKeepAliveResponse> =
            self.caller().streaming(self.terms(), KEEP_ALIVE, receiver).await?;
        let response = answers.next().await?;
        response.ok_or_else(|| {
            Status::fixed(Code::Unavailable, "the server closed the lease stream").into()
        })
    }
}

/// A lease that is kept alive, until this is dropped.
#[derive(Debug)]
pub struct LeaseKeepAlive {
    id: i64,
    answers: mpsc::Receiver<LeaseKeepAliveResponse>,
    end: mpsc::UnboundedReceiver<Error>,
    is_over: bool,
}

impl LeaseKeepAlive {
    /// The lease.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The next renewal. An error is the last thing: the lease has ended, or was not renewed in time. What is not
    /// taken promptly is left out; the lease is kept alive all the same.
    pub async fn next(&mut self) -> Option<Result<LeaseKeepAliveResponse>> {
        if self.is_over {
            return None;
        }
        if let Some(answer) = self.answers.recv().await {
            return Some(Ok(answer));
        }
        self.is_over = true;
        Some(Err(self.end.recv().await.unwrap_or(Error::KeepAliveHalted)))
    }
}

/// Asks for a lease to be kept alive.
#[derive(Debug)]
pub(crate) struct Command {
    id: i64,
    listener: Listener,
}

/// Who wants a lease to be kept alive.
#[derive(Debug)]
struct Listener {
    answers: mpsc::Sender<LeaseKeepAliveResponse>,
    end: mpsc::UnboundedSender<Error>,
    requires_leader: bool,
}

/// The way to the task that keeps leases alive. A lock, since handles are on any thread.
#[derive(Debug, Default)]
pub(crate) struct KeepAlives(Mutex<Option<mpsc::UnboundedSender<Command>>>);

impl KeepAlives {
    fn commands(&self, caller: &Arc<Caller>) -> mpsc::UnboundedSender<Command> {
        let mut task = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*task {
            Some(commands) if !commands.is_closed() => commands.clone(),
            _ => {
                let (sender, commands) = mpsc::unbounded_channel();
                tokio::spawn(run(Arc::clone(caller), commands));
                *task = Some(sender.clone());
                sender
            }
        }
    }
}

/// The leases of a client that are kept alive.
#[derive(Debug, Default)]
struct Leases(BTreeMap<i64, Lease>);

#[derive(Debug)]
struct Lease {
    listeners: Vec<Listener>,
    /// When the lease has ended, for all that is known here.
    deadline: Instant,
    next_renewal: Instant,
}

impl Leases {
    fn add(&mut self, Command { id, listener }: Command, now: Instant) {
        let fresh =
            || Lease { listeners: Vec::new(), deadline: now + FIRST_TTL, next_renewal: now };
        self.0.entry(id).or_insert_with(fresh).listeners.push(listener);
    }

    /// Forgets those that nobody wants any more, and ends those whose time is up.
    fn clean(&mut self, now: Instant) {
        self.0.retain(|_, lease| {
            lease.listeners.retain(|listener| !listener.answers.is_closed());
            if lease.deadline <= now {
                lease.end(&Error::KeepAliveHalted, |_| true);
            }
            !lease.listeners.is_empty()
        });
    }

    /// What is to be renewed now; asked for again after a while if there is no answer.
    fn due(&mut self, now: Instant) -> Vec<i64> {
        let due = self.0.iter_mut().filter(|(_, lease)| lease.next_renewal <= now);
        due.map(|(&id, lease)| {
            lease.next_renewal = now + RETRY_WAIT;
            id
        })
        .collect()
    }

    /// When there is something to do next.
    fn next_time(&self) -> Option<Instant> {
        self.0.values().map(|lease| lease.next_renewal.min(lease.deadline)).min()
    }

    fn answer(&mut self, answer: LeaseKeepAliveResponse, now: Instant) {
        let Some(lease) = self.0.get_mut(&answer.id) else { return };
        let Some(ttl) = u64::try_from(answer.ttl).ok().filter(|&ttl| ttl > 0) else {
            lease.end(&api::Error::LeaseNotFound.into(), |_| true);
            self.0.remove(&answer.id);
            return;
        };
        let ttl = Duration::from_secs(ttl.min(u64::from(u32::MAX)));
        lease.next_renewal = now + ttl / 3;
        lease.deadline = now + ttl;
        for listener in &lease.listeners {
            // One that does not take its answers goes without.
            let _ = listener.answers.try_send(answer);
        }
    }

    /// There is no leader: those who want to know are told.
    fn no_leader(&mut self) {
        for lease in self.0.values_mut() {
            lease.end(&api::Error::NoLeader.into(), |listener| listener.requires_leader);
        }
    }

    /// The stream is another one: what is due goes there.
    fn reopened(&mut self, now: Instant) {
        for lease in self.0.values_mut() {
            lease.next_renewal = lease.next_renewal.min(now);
        }
    }
}

impl Lease {
    fn end(&mut self, error: &Error, is_meant: impl Fn(&Listener) -> bool) {
        self.listeners.retain(|listener| {
            let ends = is_meant(listener);
            if ends {
                // Whoever dropped it does not want to know.
                let _ = listener.end.send(error.clone());
            }
            !ends
        });
    }
}

async fn run(caller: Arc<Caller>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut leases = Leases::default();
    loop {
        leases.clean(Instant::now());
        while leases.0.is_empty() {
            let Some(command) = commands.recv().await else { return };
            leases.add(command, Instant::now());
        }
        let Some(error) = serve(&caller, &mut leases, &mut commands).await else { continue };
        debug!(%error, "the lease stream ended");
        if error.is(api::Error::NoLeader) {
            leases.no_leader();
        }
        tokio::time::sleep(RETRY_WAIT).await;
        leases.reopened(Instant::now());
    }
}

/// Serves one stream until it breaks, or nobody has a lease any more.
async fn serve(
    caller: &Caller,
    leases: &mut Leases,
    commands: &mut mpsc::UnboundedReceiver<Command>,
) -> Option<Error> {
    let terms = Terms { timeout: None, require_leader: true };
    let (requests, receiver) = mpsc::unbounded_channel();
    let opening = caller.streaming(&terms, KEEP_ALIVE, receiver);
    let mut opening = std::pin::pin!(opening);
    let mut answers: Option<Answers<LeaseKeepAliveResponse>> = None;
    let mut has_handles = true;
    loop {
        let now = Instant::now();
        leases.clean(now);
        for id in leases.due(now) {
            // A stream that is gone says so where it is read.
            let _ = requests.send(LeaseKeepAliveRequest { id });
        }
        // While it opens, what was asked for waits: it must not be asked for again and again.
        let wake = leases.next_time()?;
        tokio::select! {
            command = commands.recv(), if has_handles => match command {
                Some(command) => leases.add(command, Instant::now()),
                // Handles of leases live on.
                None => has_handles = false,
            },
            () = sleep_until(wake) => {}
            opened = &mut opening, if answers.is_none() => match opened {
                Ok(opened) => answers = Some(opened),
                Err(error) => return Some(error),
            },
            answer = next(&mut answers) => match answer {
                Ok(Some(answer)) => leases.answer(answer, Instant::now()),
                Ok(None) => {
                    let text = "the server closed the lease stream";
                    return Some(Status::fixed(Code::Unavailable, text).into());
                }
                Err(status) => return Some(status.into()),
            },
        }
    }
}

/// The next answer, which never comes from a stream that is not open yet.
async fn next(
    answers: &mut Option<Answers<LeaseKeepAliveResponse>>,
) -> Result<Option<LeaseKeepAliveResponse>, Status> {
    match answers {
        Some(answers) => answers.next().await,
        None => std::future::pending().await,
    }
}
