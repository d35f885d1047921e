//! Requests to other members: an HTTP/1.1 connection and what is asked over it.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use tokio::task::AbortHandle;

use crate::body::OutBody;
use crate::connect::connect;
use crate::incoming::{Pace, Patience, read_body};
use crate::io::Timed;
use crate::tls::Tls;
use crate::url::PeerUrl;

/// What Go's client calls itself.
const AGENT: HeaderValue = HeaderValue::from_static("Go-http-client/1.1");

/// A connection of ours to a peer. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ClientConnection {
    sender: SendRequest<OutBody>,
    driver: AbortHandle,
    host: HeaderValue,
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl ClientConnection {
    /// Connects to `url`. Must be called within a runtime.
    pub(crate) async fn open(
        url: &PeerUrl,
        tls: Option<&Tls>,
        dial_timeout: Duration,
        write_timeout: Duration,
    ) -> io::Result<Self> {
        let connection = connect(url, tls, dial_timeout).await?;
        let host = if url.is_unix() { "localhost" } else { url.address() };
        let host = HeaderValue::from_str(host).map_err(io::Error::other)?;
        let io = Timed::new(connection, write_timeout);
        let (sender, connection) =
            http1::Builder::new().handshake(io).await.map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            // Whoever sent the request is told the same error.
            let _ = connection.await;
        });
        Ok(Self { sender, driver: driver.abort_handle(), host })
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<OutBody>,
    ) -> io::Result<Response<Incoming>> {
        self.try_send(request).await.map_err(|err| match err {
            SendError::Unsent(err) | SendError::Lost(err) => err,
        })
    }

    /// The same, for who sends again what never went out.
    pub(crate) async fn try_send(
        &mut self,
        mut request: Request<OutBody>,
    ) -> Result<Response<Incoming>, SendError> {
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().insert(USER_AGENT, AGENT);
        self.sender.ready().await.map_err(|err| SendError::Unsent(to_io(err)))?;
        self.sender.try_send_request(request).await.map_err(|mut err| {
            // hyper gives back what it had not begun to write.
            let is_unsent = err.take_message().is_some();
            let err = to_io(err.into_error());
            if is_unsent { SendError::Unsent(err) } else { SendError::Lost(err) }
        })
    }

    /// Whether another request can go over it.
    pub(crate) fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The connection had ended before a byte of it was written.
    Unsent(io::Error),
    /// The other side may have it.
    Lost(io::Error),
}

/// hyper's error, as that of the connection where it is one.
pub(crate) fn to_io(err: hyper::Error) -> io::Error {
    let mut cause = std::error::Error::source(&err);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return io::Error::new(io.kind(), io.to_string());
        }
        cause = inner.source();
    }
    if err.is_incomplete_message() || err.is_closed() || err.is_canceled() {
        return io::Error::new(io::ErrorKind::UnexpectedEof, "EOF");
    }
    io::Error::other(err.to_string())
}

/// Fails with etcd's text when `future` takes longer than `timeout`.
pub(crate) async fn within<T>(
    timeout: Duration,
    future: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match tokio::time::timeout(timeout, future).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")),
    }
}

/// A request to a page of another member, beside raft's.
#[derive(Clone, Debug)]
pub struct Call {
    /// `GET` or `POST`.
    pub method: Method,
    /// A peer URL of the member.
    pub url: PeerUrl,
    /// What is needed if the URL wants TLS.
    pub tls: Option<Tls>,
    /// The page, like `/members`.
    pub path: String,
    /// Headers beside those that every request has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Content type and content, if there is any.
    pub content: Option<(&'static str, Bytes)>,
    /// Bytes that the answer may have.
    pub answer_bytes_max: usize,
    /// From the connection to the last byte of the answer.
    pub timeout: Duration,
}

impl Call {
    /// A `GET` whose answer is short.
    #[must_use]
    pub fn get(url: PeerUrl, path: &str, timeout: Duration) -> Self {
        Self {
            method: Method::GET,
            url,
            tls: None,
            path: path.to_owned(),
            headers: Vec::new(),
            content: None,
            answer_bytes_max: 1 << 20,
            timeout,
        }
    }

    /// The same, with TLS where the URL wants it.
    #[must_use]
    pub fn with_tls(self, tls: Option<&Tls>) -> Self {
        Self { tls: tls.cloned(), ..self }
    }
}

/// What another member answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code. A redirection is not followed.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The content.
    pub body: Bytes,
}

impl Call {
    /// Asks, over a connection of its own. Must be awaited within a runtime of tokio.
    ///
    /// # Errors
    /// If the member can't be reached, or the answer is too long or takes too long.
    pub async fn send(self) -> io::Result<Answer> {
        let timeout = self.timeout;
        within(timeout, self.exchange()).await
    }

    /// As [`Call::send`], on a thread without a runtime: for the time before a member has threads.
    ///
    /// # Errors
    /// As [`Call::send`].
    pub fn send_blocking(self) -> io::Result<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.send())
    }

    async fn exchange(self) -> io::Result<Answer> {
        let mut connection =
            ClientConnection::open(&self.url, self.tls.as_ref(), self.timeout, self.timeout)
                .await?;
        let mut request = Request::new(OutBody::empty());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path.parse().map_err(io::Error::other)?;
        request.headers_mut().extend(self.headers);
        if let Some((content_type, content)) = self.content {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            *request.body_mut() = OutBody::full(content);
        }
        let (head, mut body) = connection.send(request).await?.into_parts();
        // All of it has a deadline.
        let patience = Patience { silence: self.timeout, pace: Pace::default() };
        let body = read_body(&mut body, self.answer_bytes_max, patience)
            .await
            .map_err(io::Error::other)?;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }
}
