//! Messages as single requests: for when there is no stream, and to members that are not peers yet.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use raft::{Message, MessageType, SnapshotStatus};
use tokio::sync::{Mutex, mpsc};
use tracing::{error, info};

use crate::Config;
use crate::body::OutBody;
use crate::client::{ClientConnection, SendError, within};
use crate::event::Event;
use crate::headers::{self, CLUSTER_ID_MISMATCH, INCOMPATIBLE_VERSION};
use crate::hex;
use crate::incoming::read_body;
use crate::shared::Shared;
use crate::status::{Failure, Status};
use crate::url::{PeerUrl, Picker};

/// Requests at a time to one peer.
const CONNECTIONS: usize = 4;
/// Messages that wait for one of them.
pub const PIPELINE_MESSAGES_MAX: usize = 64;
/// From the connection to the end of the answer. DIFF(etcd): it waits for ever; a peer that is silent for this long
/// has lost the message.
const POST_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers are empty or a line of text.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why a post has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    #[error("{INCOMPATIBLE_VERSION}")]
    IncompatibleVersion,
    #[error("{CLUSTER_ID_MISMATCH}")]
    ClusterIdMismatch,
    #[error("unhandled error {0:?} when precondition failed")]
    PreconditionFailed(String),
    #[error("unexpected http status {status} while posting to {url:?}")]
    Status { status: String, url: String },
    /// Nothing of it went out.
    #[error("{0}")]
    Unsent(io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<SendError> for PostError {
    fn from(err: SendError) -> Self {
        match err {
            SendError::Unsent(err) => Self::Unsent(err),
            SendError::Lost(err) => Self::Io(err),
        }
    }
}

/// What the workers of one pipeline share.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) shared: Arc<Shared>,
    pub(crate) to: u64,
    pub(crate) picker: Arc<Picker>,
    pub(crate) status: Arc<Status>,
}

impl Pipeline {
    /// Starts the workers; they end when the sender is dropped.
    pub(crate) fn start(self) -> mpsc::Sender<Message> {
        let (sender, messages) = mpsc::channel(PIPELINE_MESSAGES_MAX);
        let messages = Arc::new(Mutex::new(messages));
        let pipeline = Arc::new(self);
        for _ in 0..CONNECTIONS {
            let worker = Arc::clone(&pipeline).work(Arc::clone(&messages));
            pipeline.shared.handle.spawn(worker);
        }
        info!(
            "local-member-id" = hex(pipeline.shared.config.id),
            "remote-peer-id" = hex(pipeline.to),
            "started HTTP pipelining with remote peer"
        );
        sender
    }

    async fn work(self: Arc<Self>, messages: Arc<Mutex<mpsc::Receiver<Message>>>) {
        let mut connection = None;
        loop {
            let Some(message) = messages.lock().await.recv().await else { return };
            let is_snapshot = message.msg_type == MessageType::Snap;
            let body = Bytes::from(message.encode_to_vec());
            let len = body.len() as u64;
            let result = self.post(&mut connection, body).await;
            let to = hex(self.to);
            if let Err(err) = &result {
                connection = None;
                self.status.deactivate(Failure { source: "pipeline", action: "write" }, err);
                self.shared.report(Event::Unreachable(self.to));
                self.shared.metrics.peer_sent_failures_total.with_label_values(&[&to]).inc();
            } else {
                self.status.activate();
                self.shared.metrics.peer_sent_bytes_total.with_label_values(&[&to]).inc_by(len);
            }
            if is_snapshot {
                let status = match result {
                    Ok(()) => SnapshotStatus::Finish,
                    Err(_) => SnapshotStatus::Failure,
                };
                self.shared.report(Event::Snapshot { to: self.to, status });
            }
        }
    }

    async fn post(
        &self,
        connection: &mut Option<ClientConnection>,
        body: Bytes,
    ) -> Result<(), PostError> {
        let url = self.picker.pick();
        let mut result = self.try_post(connection, &url, body.clone()).await;
        if matches!(result, Err(PostError::Unsent(_))) {
            // The other side closes what is idle, at times just now. What may have arrived is not sent again: a
            // proposal that comes twice is applied twice.
            *connection = None;
            result = self.try_post(connection, &url, body).await;
        }
        if let Err(err) = &result {
            self.picker.unreachable(&url);
            if matches!(err, PostError::Removed) {
                self.shared.report(Event::Removed);
            }
        }
        result
    }

    async fn try_post(
        &self,
        connection: &mut Option<ClientConnection>,
        url: &PeerUrl,
        body: Bytes,
    ) -> Result<(), PostError> {
        let config = &self.shared.config;
        let request = post_request(config, "/raft", "application/protobuf", OutBody::full(body))?;
        let opened = match connection.take().filter(ClientConnection::is_usable) {
            Some(open) => open,
            None => {
                ClientConnection::open(
                    url,
                    config.tls.as_ref(),
                    config.dial_timeout,
                    config.write_timeout,
                )
                .await?
            }
        };
        let open = connection.insert(opened);
        let answer = within(POST_TIMEOUT, async { Ok(open.try_send(request).await) }).await??;
        let (head, mut body) = answer.into_parts();
        let text = read_body(&mut body, ANSWER_BYTES_MAX, config.patience())
            .await
            .map_err(io::Error::other)?;
        check_answer(config, self.to, url, "/raft", head.status, &head.headers, &text)
    }
}

/// A request that carries messages.
pub(crate) fn post_request(
    config: &Config,
    path: &'static str,
    content_type: &'static str,
    body: OutBody,
) -> io::Result<Request<OutBody>> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(io::Error::other)?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers::identify(config, request.headers_mut());
    Ok(request)
}

/// What the answer to a [`post_request`] means.
pub(crate) fn check_answer(
    config: &Config,
    to: u64,
    url: &PeerUrl,
    path: &str,
    status: StatusCode,
    answer: &HeaderMap,
    text: &[u8],
) -> Result<(), PostError> {
    match status {
        StatusCode::NO_CONTENT => Ok(()),
        // DIFF(etcd): it takes any such answer for its own removal, also that from a wrong address.
        StatusCode::FORBIDDEN if contains(text, b"removed member") => Err(PostError::Removed),
        StatusCode::PRECONDITION_FAILED => {
            let text = String::from_utf8_lossy(text);
            match text.trim_end_matches('\n') {
                INCOMPATIBLE_VERSION => {
                    error!("remote-peer-id" = hex(to), "request sent was ignored by peer");
                    Err(PostError::IncompatibleVersion)
                }
                CLUSTER_ID_MISMATCH => {
                    error!(
                        "remote-peer-id" = hex(to),
                        "remote-peer-cluster-id" = headers::text(answer, &headers::CLUSTER_ID),
                        "local-member-cluster-id" = hex(config.cluster_id),
                        "request sent was ignored due to cluster ID mismatch"
                    );
                    Err(PostError::ClusterIdMismatch)
                }
                _ => Err(PostError::PreconditionFailed(text.into_owned())),
            }
        }
        other => Err(PostError::Status {
            status: other.canonical_reason().unwrap_or_default().to_owned(),
            url: format!("{url}{path}"),
        }),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
