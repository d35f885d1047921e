//! Calls: which connection they go to, and whether they are tried again.
//!
//! A read is tried again while the cluster is unavailable. A write is tried again only when it is certain that no
//! server has begun with it: one that may have happened is never repeated.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};
use api::{Code, Status};
use prost::Message;
use tokio::sync::mpsc;

use crate::balancer::Balancer;
use crate::channel::{Answers, Failure, Metadata, Options};
use crate::config::{Config, Credentials};
use crate::error::{Error, Result};
use crate::jitter::jitter;

/// The share of chance in the wait between attempts.
const JITTER: f64 = 0.1;

/// A method of the API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method {
    path: &'static str,
    is_repeatable: bool,
}

impl Method {
    /// One that may happen twice: reads, and what leads to the same however often it is done.
    pub(crate) const fn repeatable(path: &'static str) -> Self {
        Self { path, is_repeatable: true }
    }

    /// One that must not happen twice.
    pub(crate) const fn once(path: &'static str) -> Self {
        Self { path, is_repeatable: false }
    }
}

const AUTHENTICATE: Method = Method::once("/etcdserverpb.Auth/Authenticate");

/// How calls are made from a handle of the client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// For all attempts of a call together.
    pub(crate) timeout: Option<Duration>,
    pub(crate) require_leader: bool,
}

/// Connections, and who the client is to the server.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) balancer: Balancer,
    config: Config,
    /// The token in use. Calls on any thread read it; the lock is held for a look only.
    token: Mutex<Option<String>>,
    /// Held by whoever logs in, so that many calls with an old token lead to one login.
    login: tokio::sync::Mutex<()>,
}

impl Caller {
    /// Begins to connect to the endpoints.
    pub(crate) fn new(config: &Config, endpoints: &[String]) -> Result<Self> {
        let options = Options {
            keep_alive: config.keep_alive,
            keep_alive_while_idle: config.keep_alive_while_idle,
            send_bytes_max: config.send_bytes_max,
            receive_bytes_max: config.receive_bytes_max,
        };
        let token = match &config.credentials {
            Some(Credentials::Token(token)) => Some(token.clone()),
            _ => None,
        };
        Ok(Self {
            balancer: Balancer::new(endpoints, options, config.reconnect_wait)?,
            config: config.clone(),
            token: Mutex::new(token),
            login: tokio::sync::Mutex::default(),
        })
    }

    /// The same client to one endpoint alone.
    pub(crate) fn alone(&self, endpoint: &str) -> Result<Self> {
        let alone = Self::new(&self.config, &[endpoint.to_owned()])?;
        alone.set_token(self.token());
        Ok(alone)
    }

    /// A call with one request and one response.
    pub(crate) async fn unary<Q, A>(&self, terms: &Terms, method: Method, request: Q) -> Result<A>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.within(terms, self.attempts(terms, method, request)).await
    }

    /// Gives up what takes longer than the terms allow.
    pub(crate) async fn within<T>(
        &self,
        terms: &Terms,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Some(timeout) = terms.timeout else { return work.await };
        tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
            Err(Error::DeadlineExceeded { connection: self.balancer.connection_error() })
        })
    }

    async fn attempts<Q, A>(&self, terms: &Terms, method: Method, request: Q) -> Result<A>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let mut attempt = 0;
        loop {
            let metadata = self.metadata(terms);
            let failure = match self.send(method, &metadata, request.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let code = failure.status.code;
            let error = Error::from(failure.status);
            attempt += 1;
            if attempt >= self.config.attempts_max {
                return Err(error);
            }
            if self.wants_login(&error) {
                self.log_in(metadata.token.as_deref()).await?;
                continue;
            }
            // DIFF(etcd): a write that the server gave up is not repeated, since it may have happened.
            let elsewhere = error.is(api::Error::NotSupportedForLearner) && self.balancer.len() > 1;
            let again = method.is_repeatable && code == Code::Unavailable;
            if !elsewhere && !again && !failure.is_unsent {
                return Err(error);
            }
            self.wait(attempt).await;
        }
    }

    /// One attempt, at the next endpoint that takes it.
    async fn send<Q, A>(
        &self,
        method: Method,
        metadata: &Metadata,
        request: Q,
    ) -> Result<A, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let channel = self.balancer.pick().await;
        let result = channel.unary(method.path, metadata, request).await;
        if result.as_ref().is_err_and(|failure| failure.is_unsent) {
            channel.close();
        }
        result
    }

    /// Opens a call with any number of messages either way, without further attempts: whoever needs the stream
    /// knows how to go on with another one.
    pub(crate) async fn streaming<Q, A>(
        &self,
        terms: &Terms,
        path: &'static str,
        requests: mpsc::UnboundedReceiver<Q>,
    ) -> Result<Answers<A>>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        // A token may have ended since the last stream was opened, and a stream is not refused at once.
        self.log_in(self.token().as_deref()).await?;
        let channel = self.balancer.pick().await;
        let result = channel.streaming(path, &self.metadata(terms), requests).await;
        result.map_err(|failure| {
            if failure.is_unsent {
                channel.close();
            }
            failure.status.into()
        })
    }

    /// A call with one request and any number of responses. Tried again as long as nothing was answered.
    pub(crate) async fn server_streaming<Q, A>(
        &self,
        terms: &Terms,
        method: Method,
        request: Q,
    ) -> Result<Answers<A>>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let mut attempt = 0;
        loop {
            let (sender, requests) = mpsc::unbounded_channel();
            // The receiver is here.
            let _ = sender.send(request.clone());
            drop(sender);
            let error = match self.streaming(terms, method.path, requests).await {
                Ok(answers) => return Ok(answers),
                Err(error) => error,
            };
            attempt += 1;
            let again = method.is_repeatable && error.code() == Code::Unavailable;
            if !again || attempt >= self.config.attempts_max {
                return Err(error);
            }
            self.wait(attempt).await;
        }
    }

    /// Waits after each round over a quorum of endpoints.
    async fn wait(&self, attempt: u32) {
        let quorum = u32::try_from(self.balancer.len() / 2 + 1).unwrap_or(u32::MAX);
        if attempt.is_multiple_of(quorum) {
            tokio::time::sleep(jitter(self.config.retry_wait, JITTER)).await;
        }
    }

    fn metadata(&self, terms: &Terms) -> Metadata {
        Metadata { token: self.token(), require_leader: terms.require_leader }
    }

    fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_token(&self, token: Option<String>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Whether a new token may help. A token that the user has given is never replaced.
    pub(crate) fn wants_login(&self, error: &Error) -> bool {
        let is_old =
            error.is(api::Error::InvalidAuthToken) || error.is(api::Error::AuthOldRevision);
        match &self.config.credentials {
            Some(Credentials::Token(_)) => false,
            // Nothing of the token may have reached a server that lost it.
            Some(Credentials::Password { .. }) => is_old || error.is(api::Error::UserEmpty),
            None => error.is(api::Error::AuthOldRevision),
        }
    }

    /// Gets a token, if the client has a name and a password and the token is still `old`.
    pub(crate) async fn log_in(&self, old: Option<&str>) -> Result<()> {
        let Some(Credentials::Password { name, password }) = &self.config.credentials else {
            return Ok(());
        };
        let _only = self.login.lock().await;
        if self.token().as_deref() != old {
            return Ok(());
        }
        let request = AuthenticateRequest { name: name.clone(), password: password.clone() };
        let mut attempt = 0;
        loop {
            let result = self.send(AUTHENTICATE, &Metadata::default(), request.clone()).await;
            match result {
                Ok(AuthenticateResponse { token, .. }) => {
                    self.set_token(Some(token));
                    return Ok(());
                }
                Err(Failure { is_unsent: true, .. }) => {
                    attempt += 1;
                    self.wait(attempt).await;
                }
                Err(Failure { status, .. }) => return self.not_logged_in(status),
            }
        }
    }

    fn not_logged_in(&self, status: Status) -> Result<()> {
        match Error::from(status) {
            error if error.is(api::Error::AuthNotEnabled) => {
                self.set_token(None);
                Ok(())
            }
            error => Err(error),
        }
    }
}
