//! What a client is made with.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};

/// The largest request that is sent if nobody says otherwise: what a server takes, with room for its frame.
pub const SEND_BYTES_MAX: usize = 2 << 20;

/// The largest response that is taken if nobody says otherwise: a range may be large.
pub const RECEIVE_BYTES_MAX: usize = i32::MAX as usize;

/// How often a call is tried if nobody says otherwise.
const ATTEMPTS_MAX: u32 = 100;

/// The wait between two rounds of attempts if nobody says otherwise.
const RETRY_WAIT: Duration = Duration::from_millis(25);

/// The first and the longest wait before an endpoint that failed is tried again.
///
/// DIFF(etcd): grpc-go waits for one second to two minutes.
const RECONNECT_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Endpoints and options of a [`Client`](crate::Client).
///
/// ```
/// use std::time::Duration;
///
/// let config = client::Config::new(["http://10.0.0.1:2379", "http://10.0.0.2:2379"])
///     .timeout(Duration::from_secs(5))
///     .keep_alive(Duration::from_secs(30), Duration::from_secs(10));
/// ```
#[derive(Clone)]
pub struct Config {
    pub(crate) endpoints: Vec<String>,
    pub(crate) dial_timeout: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) keep_alive: Option<(Duration, Duration)>,
    pub(crate) keep_alive_while_idle: bool,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) send_bytes_max: usize,
    pub(crate) receive_bytes_max: usize,
    pub(crate) auto_sync_interval: Option<Duration>,
    pub(crate) reject_old_cluster: bool,
    pub(crate) attempts_max: u32,
    pub(crate) retry_wait: Duration,
    pub(crate) reconnect_wait: (Duration, Duration),
}

/// Who the client is.
#[derive(Clone)]
pub(crate) enum Credentials {
    Password { name: String, password: String },
    Token(String),
}

impl Config {
    /// A client of the members at these endpoints: `http://host:port`, `host:port` or `unix://path`.
    #[must_use]
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            dial_timeout: None,
            timeout: None,
            keep_alive: None,
            keep_alive_while_idle: false,
            credentials: None,
            send_bytes_max: SEND_BYTES_MAX,
            receive_bytes_max: RECEIVE_BYTES_MAX,
            auto_sync_interval: None,
            reject_old_cluster: false,
            attempts_max: ATTEMPTS_MAX,
            retry_wait: RETRY_WAIT,
            reconnect_wait: RECONNECT_WAIT,
        }
    }

    /// How long the first log-in and the check of the version may take; forever if it isn't set.
    ///
    /// As in etcd's own client a connection is not waited for: calls wait until an endpoint is there.
    #[must_use]
    pub fn dial_timeout(mut self, timeout: Duration) -> Self {
        self.dial_timeout = Some(timeout);
        self
    }

    /// How long a call may take, all its attempts together; forever if it isn't set. Of a stream only the beginning
    /// is meant. [`Client::with_timeout`](crate::Client::with_timeout) sets it for some calls.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Asks a silent server for a sign of life after `time`, and gives the connection up if there is none within
    /// `timeout`. A server refuses clients that ask too often (etcd: more often than every five seconds).
    #[must_use]
    pub fn keep_alive(mut self, time: Duration, timeout: Duration) -> Self {
        self.keep_alive = Some((time, timeout));
        self
    }

    /// Asks for signs of life also when no call is open. A server may refuse that.
    #[must_use]
    pub fn keep_alive_while_idle(mut self) -> Self {
        self.keep_alive_while_idle = true;
        self
    }

    /// Logs in with a name and a password, again whenever the token isn't valid any more.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials =
            Some(Credentials::Password { name: name.into(), password: password.into() });
        self
    }

    /// Uses a token that was gained elsewhere, such as a JWT.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.credentials = Some(Credentials::Token(token.into()));
        self
    }

    /// The largest request, in bytes.
    #[must_use]
    pub fn send_bytes_max(mut self, bytes: usize) -> Self {
        self.send_bytes_max = bytes;
        self
    }

    /// The largest response, in bytes.
    #[must_use]
    pub fn receive_bytes_max(mut self, bytes: usize) -> Self {
        self.receive_bytes_max = bytes;
        self
    }

    /// Asks the cluster for its members so often, and takes their client URLs for endpoints.
    #[must_use]
    pub fn auto_sync_interval(mut self, interval: Duration) -> Self {
        self.auto_sync_interval = Some(interval);
        self
    }

    /// Refuses a cluster older than the last minor release.
    #[must_use]
    pub fn reject_old_cluster(mut self) -> Self {
        self.reject_old_cluster = true;
        self
    }

    /// How often a call is tried at most, and the wait after each round over a quorum of endpoints.
    #[must_use]
    pub fn retries(mut self, attempts_max: u32, wait: Duration) -> Self {
        self.attempts_max = attempts_max.max(1);
        self.retry_wait = wait;
        self
    }

    /// The first and the longest wait before an endpoint that failed is tried again.
    #[must_use]
    pub fn reconnect_wait(mut self, first: Duration, max: Duration) -> Self {
        self.reconnect_wait = (first, max);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.endpoints.is_empty() {
            return Err(Error::NoEndpoints);
        }
        if self.send_bytes_max > self.receive_bytes_max {
            return Err(Error::Config(format!(
                "gRPC message recv limit ({} bytes) must be greater than send limit ({} bytes)",
                self.receive_bytes_max, self.send_bytes_max
            )));
        }
        Ok(())
    }
}

/// Without the password and the token.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("endpoints", &self.endpoints)
            .field("dial_timeout", &self.dial_timeout)
            .field("timeout", &self.timeout)
            .field("keep_alive", &self.keep_alive)
            .finish_non_exhaustive()
    }
}
