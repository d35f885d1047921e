//! The way in of a stream: this side asks the peer for it, and reads messages until it breaks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use raft::Message;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::body::OutBody;
use crate::client::{ClientConnection, within};
use crate::codec::{AppendDecoder, CodecError, MessageDecoder, is_link_heartbeat};
use crate::event::Event;
use crate::headers::{self, CLUSTER_ID_MISMATCH, INCOMPATIBLE_VERSION};
use crate::hex;
use crate::incoming::{next_part, read_body};
use crate::peer::Peer;
use crate::shared::Delivery;
use crate::status::Failure;
use crate::url::PeerUrl;
use crate::writer::StreamType;

/// Least time from one attempt to the next.
const DIAL_INTERVAL: Duration = Duration::from_millis(100);
/// A refusal is a line of text.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("unsupported stream type")]
    UnsupportedStreamType,
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    #[error("peer {peer} failed to find local node {local}")]
    NotFound { peer: String, local: String },
    #[error("{INCOMPATIBLE_VERSION}")]
    IncompatibleVersion,
    #[error("{CLUSTER_ID_MISMATCH}")]
    ClusterIdMismatch,
    #[error("unhandled error {0:?} when precondition failed")]
    PreconditionFailed(String),
    #[error("unhandled http status {0}")]
    Status(u16),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ReadError {
    /// Whether the other side has ended it in order, which says nothing about its health.
    fn is_end(&self) -> bool {
        matches!(self, Self::Io(err) if err.kind() == io::ErrorKind::UnexpectedEof)
    }
}

#[derive(Debug)]
enum Decoder {
    Append(AppendDecoder),
    Message(MessageDecoder),
}

impl Decoder {
    fn push(&mut self, part: &[u8]) {
        match self {
            Self::Append(decoder) => decoder.push(part),
            Self::Message(decoder) => decoder.push(part),
        }
    }

    fn next_message(&mut self) -> Result<Option<Message>, CodecError> {
        match self {
            Self::Append(decoder) => decoder.next_message(),
            Self::Message(decoder) => decoder.next_message(),
        }
    }
}

/// Reads one kind of stream from a peer for as long as it is one.
#[derive(Debug)]
pub(crate) struct Reader {
    peer: Arc<Peer>,
    stream: StreamType,
}

impl Reader {
    pub(crate) fn new(peer: Arc<Peer>, stream: StreamType) -> Self {
        Self { peer, stream }
    }

    /// Asks, reads, and asks again. Never returns; the peer ends the task.
    pub(crate) async fn run(self) {
        info!(
            "stream-reader-type" = self.stream.name(),
            "local-member-id" = hex(self.peer.local_id()),
            "remote-peer-id" = hex(self.peer.id),
            "started stream reader with remote peer"
        );
        loop {
            let begun = Instant::now();
            match self.dial().await {
                Ok((connection, body)) => self.read_all(connection, body).await,
                Err(DialError::UnsupportedStreamType) => {}
                Err(err) => {
                    let failure = Failure { source: self.stream.name(), action: "dial" };
                    self.peer.deactivate(failure, &err);
                    if let DialError::Io(err) = err {
                        self.peer.dial_failed(&err);
                    }
                }
            }
            sleep_until(begun + DIAL_INTERVAL).await;
        }
    }

    async fn dial(&self) -> Result<(ClientConnection, Incoming), DialError> {
        let url = self.peer.picker.pick();
        let result = self.request(&url).await;
        if result.is_err() {
            self.peer.picker.unreachable(&url);
        }
        result
    }

    async fn request(&self, url: &PeerUrl) -> Result<(ClientConnection, Incoming), DialError> {
        let config = self.peer.config();
        let path = format!("{}/{}", self.stream.path(), hex(config.id));
        debug!(
            from = hex(config.id),
            to = hex(self.peer.id),
            address = format!("{url}{path}"),
            "dial stream reader"
        );
        let mut connection = ClientConnection::open(
            url,
            config.tls.as_ref(),
            config.dial_timeout,
            config.write_timeout,
        )
        .await?;
        let mut request = Request::new(OutBody::empty());
        *request.uri_mut() = path.parse().map_err(io::Error::other)?;
        headers::identify(config, request.headers_mut());
        let to = hex(self.peer.id).parse().map_err(io::Error::other)?;
        request.headers_mut().insert(headers::RAFT_TO, to);
        let answer = within(config.read_timeout, connection.send(request)).await?;
        let (head, mut body) = answer.into_parts();
        if !headers::has_streams(&head.headers) {
            return Err(DialError::UnsupportedStreamType);
        }
        match head.status {
            StatusCode::OK => Ok((connection, body)),
            StatusCode::GONE => {
                self.peer.shared().report(Event::Removed);
                Err(DialError::Removed)
            }
            StatusCode::NOT_FOUND => {
                let (peer, local) = (hex(self.peer.id), hex(config.id));
                Err(DialError::NotFound { peer, local })
            }
            StatusCode::PRECONDITION_FAILED => {
                let text = read_body(&mut body, REFUSAL_BYTES_MAX, config.patience())
                    .await
                    .map_err(io::Error::other)?;
                let theirs = headers::text(&head.headers, &headers::CLUSTER_ID);
                Err(self.refused(&String::from_utf8_lossy(&text), theirs))
            }
            other => Err(DialError::Status(other.as_u16())),
        }
    }

    fn refused(&self, text: &str, their_cluster: &str) -> DialError {
        let config = self.peer.config();
        match text.trim_end_matches('\n') {
            INCOMPATIBLE_VERSION => {
                warn!(
                    "local-member-id" = hex(config.id),
                    "remote-peer-id" = hex(self.peer.id),
                    error = INCOMPATIBLE_VERSION,
                    "request sent was ignored by remote peer due to server version incompatibility"
                );
                DialError::IncompatibleVersion
            }
            CLUSTER_ID_MISMATCH => {
                warn!(
                    "remote-peer-id" = hex(self.peer.id),
                    "remote-peer-cluster-id" = their_cluster,
                    "local-member-id" = hex(config.id),
                    "local-member-cluster-id" = hex(config.cluster_id),
                    error = CLUSTER_ID_MISMATCH,
                    "request sent was ignored by remote peer due to cluster ID mismatch"
                );
                DialError::ClusterIdMismatch
            }
            _ => DialError::PreconditionFailed(text.to_owned()),
        }
    }

    async fn read_all(&self, connection: ClientConnection, mut body: Incoming) {
        self.peer.status.activate();
        self.peer.arrived();
        info!(
            "stream-reader-type" = self.stream.name(),
            "local-member-id" = hex(self.peer.local_id()),
            "remote-peer-id" = hex(self.peer.id),
            "established TCP streaming connection with remote peer"
        );
        let Err(err) = self.read(&mut body).await;
        drop(connection);
        warn!(
            "stream-reader-type" = self.stream.name(),
            "local-member-id" = hex(self.peer.local_id()),
            "remote-peer-id" = hex(self.peer.id),
            error = %err,
            "lost TCP streaming connection with remote peer"
        );
        if !err.is_end() {
            let failure = Failure { source: self.stream.name(), action: "read" };
            self.peer.deactivate(failure, &err);
        }
    }

    async fn read(&self, body: &mut Incoming) -> Result<std::convert::Infallible, ReadError> {
        let mut decoder = match self.stream {
            StreamType::Append => {
                Decoder::Append(AppendDecoder::new(self.peer.local_id(), self.peer.id))
            }
            StreamType::Message => Decoder::Message(MessageDecoder::stream()),
        };
        let timeout = self.peer.config().read_timeout;
        let from = hex(self.peer.id);
        let received = self.peer.metrics().peer_received_bytes_total.with_label_values(&[&from]);
        loop {
            let Some(part) = within(timeout, next_part(body)).await? else {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF").into());
            };
            received.inc_by(part.len() as u64);
            decoder.push(&part);
            while let Some(message) = decoder.next_message()? {
                if !is_link_heartbeat(&message) {
                    self.deliver(message);
                }
            }
        }
    }

    fn deliver(&self, message: Message) {
        let (msg_type, from, to) = (message.msg_type, message.from, message.to);
        match self.peer.shared().deliver(message) {
            Delivery::Done => {}
            Delivery::Full => {
                let is_active = self.peer.status.is_active();
                warn!(
                    "message-type" = msg_type.name(),
                    "local-member-id" = hex(self.peer.local_id()),
                    from = hex(from),
                    "remote-peer-id" = hex(to),
                    "remote-peer-active" = is_active,
                    "dropped internal Raft message since receiving buffer is full (overloaded network)"
                );
                let from = hex(self.peer.id);
                self.peer.metrics().peer_received_failures_total.with_label_values(&[&from]).inc();
            }
            Delivery::Refused(why) => warn!(error = %why, "failed to process Raft message"),
        }
    }
}
