//! A database on its way: a message, then the file, as the body of one request.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use hyper::body::Incoming;
use prometheus::IntGauge;
use raft::{Message, MessageType, SnapshotStatus};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};
use wal::snap::{DbFile, Snapshotter};

use crate::body::OutBody;
use crate::client::ClientConnection;
use crate::codec::{CodecError, MessageDecoder, MessageEncoder};
use crate::event::Event;
use crate::hex;
use crate::incoming::{InBody, read_body};
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::pipeline::{PostError, check_answer, post_request};
use crate::shared::{Delivery, Refused, Shared};
use crate::status::Failure;

/// Bytes read from a database at a time, and parts that wait for the socket or the disk.
const PART_BYTES: usize = 128 << 10;
const PARTS_MAX: usize = 4;
/// A part that the socket does not take for this long means that nobody reads. etcd waits for ever.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// bbolt's mark in a meta page, behind the page's header.
const DATABASE_MAGIC: [u8; 4] = 0xED0C_DAED_u32.to_le_bytes();
const DATABASE_HEAD: usize = 20;

/// Where databases that arrive are put.
pub(crate) trait Store: Send + Sync {
    fn create(&self, index: u64) -> Result<Box<dyn Incomplete>, wal::Error>;
}

/// A database of which more will come.
pub(crate) trait Incomplete: Send {
    fn write(&mut self, part: &[u8]) -> Result<(), wal::Error>;
    fn finish(self: Box<Self>) -> Result<u64, wal::Error>;
    fn abort(self: Box<Self>);
}

/// The member's folder of snapshots.
#[derive(Debug)]
pub(crate) struct Folder<D: env::Disk> {
    snapshotter: Snapshotter<D>,
    received: AtomicU64,
}

impl<D: env::Disk> Folder<D> {
    pub(crate) fn new(snapshotter: Snapshotter<D>) -> Self {
        Self { snapshotter, received: AtomicU64::new(0) }
    }
}

impl<D: env::Disk> Store for Folder<D> {
    fn create(&self, index: u64) -> Result<Box<dyn Incomplete>, wal::Error> {
        let unique = self.received.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(self.snapshotter.receive_db(index, unique)?))
    }
}

impl<D: env::Disk> Incomplete for DbFile<D> {
    fn write(&mut self, part: &[u8]) -> Result<(), wal::Error> {
        Self::write(self, part)
    }

    fn finish(self: Box<Self>) -> Result<u64, wal::Error> {
        Self::finish(*self).map(|(_, bytes)| bytes)
    }

    fn abort(self: Box<Self>) {
        Self::abort(*self);
    }
}

/// A snapshot to be sent.
pub struct OutSnapshot {
    /// `MsgSnap`, with the membership as data.
    pub message: Message,
    /// The database; it is read on a thread that may wait.
    pub db: Box<dyn Read + Send>,
    /// Bytes that `db` has, for the log.
    pub db_bytes: u64,
}

impl std::fmt::Debug for OutSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutSnapshot").field("message", &self.message).finish_non_exhaustive()
    }
}

/// A transfer counts until it ends, and also when its task does before.
struct InFlight(IntGauge);

impl InFlight {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn index_of(message: &Message) -> u64 {
    message.snapshot.as_ref().map_or(0, |snapshot| snapshot.metadata.index)
}

/// Sends a snapshot, and says how it ended.
pub(crate) async fn send(peer: Arc<Peer>, snapshot: OutSnapshot) {
    let begun = Instant::now();
    let index = index_of(&snapshot.message);
    let to = hex(peer.id);
    let bytes = snapshot.db_bytes + snapshot.message.encoded_len() as u64;
    let size = humane(bytes);
    info!(
        "snapshot-index" = index,
        "remote-peer-id" = to,
        bytes,
        size,
        "sending database snapshot"
    );
    let metrics = peer.metrics().clone();
    let in_flight = InFlight::new(metrics.snapshot_send_inflights_total.with_label_values(&[&to]));
    let result = post(&peer, snapshot).await;
    drop(in_flight);
    let status = match &result {
        Ok(()) => {
            peer.status.activate();
            info!(
                "snapshot-index" = index,
                "remote-peer-id" = to,
                bytes,
                size,
                "sent database snapshot"
            );
            metrics.peer_sent_bytes_total.with_label_values(&[&to]).inc_by(bytes);
            metrics.snapshot_send_success.with_label_values(&[&to]).inc();
            metrics
                .snapshot_send_total_duration_seconds
                .with_label_values(&[&to])
                .observe(begun.elapsed().as_secs_f64());
            SnapshotStatus::Finish
        }
        Err(err) => {
            warn!(
                "snapshot-index" = index,
                "remote-peer-id" = to,
                bytes,
                size,
                error = %err,
                "failed to send database snapshot"
            );
            if matches!(err, PostError::Removed) {
                peer.shared().report(Event::Removed);
            }
            peer.deactivate(Failure { source: "sendMsgSnap", action: "post" }, err);
            peer.shared().report(Event::Unreachable(peer.id));
            metrics.peer_sent_failures_total.with_label_values(&[&to]).inc();
            metrics.snapshot_send_failures.with_label_values(&[&to]).inc();
            SnapshotStatus::Failure
        }
    };
    peer.shared().report(Event::Snapshot { to: peer.id, status });
}

async fn post(peer: &Peer, snapshot: OutSnapshot) -> Result<(), PostError> {
    let url = peer.picker.pick();
    let config = peer.config();
    let result = async {
        let (sender, parts) = mpsc::channel(PARTS_MAX);
        tokio::task::spawn_blocking(move || read_parts(snapshot, &sender));
        let body = OutBody::Parts(parts);
        let request = post_request(config, "/raft/snapshot", "application/octet-stream", body)?;
        let mut connection =
            ClientConnection::open(&url, config.tls.as_ref(), config.dial_timeout, WRITE_TIMEOUT)
                .await?;
        let (head, mut body) = connection.send(request).await?.into_parts();
        let text = read_body(&mut body, ANSWER_BYTES_MAX, config.patience())
            .await
            .map_err(io::Error::other)?;
        check_answer(config, peer.id, &url, "/raft/snapshot", head.status, &head.headers, &text)
    }
    .await;
    if result.is_err() {
        peer.picker.unreachable(&url);
    }
    result
}

/// Reads the database, for as long as somebody takes it.
fn read_parts(snapshot: OutSnapshot, parts: &mpsc::Sender<io::Result<Bytes>>) {
    let OutSnapshot { message, mut db, .. } = snapshot;
    let mut head = Vec::new();
    MessageEncoder::encode(&message, &mut head);
    if parts.blocking_send(Ok(head.into())).is_err() {
        return;
    }
    loop {
        let mut part = vec![0; PART_BYTES];
        let sent = match db.read(&mut part) {
            Ok(0) => return,
            Ok(len) => {
                part.truncate(len);
                parts.blocking_send(Ok(part.into()))
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => parts.blocking_send(Err(err)),
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Why a snapshot that came is refused, with etcd's text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("failed to decode raft message ({0})")]
    Decode(#[from] DecodeError),
    #[error("wrong raft message type")]
    WrongType,
    #[error("failed to save KV snapshot ({0})")]
    Save(String),
    #[error("failed to process raft message ({0})")]
    Refused(Refused),
    #[error("failed to process raft message (receiving buffer is full)")]
    Full,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("EOF")]
    Eof,
    #[error("unexpected EOF")]
    UnexpectedEof,
    #[error("no snapshot in it")]
    NoSnapshot,
}

impl ReceiveError {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Decode(_) | Self::WrongType => StatusCode::BAD_REQUEST,
            Self::Save(_) | Self::Refused(_) | Self::Full => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Receives a snapshot: the message, the file, and then the message goes to raft.
pub(crate) async fn receive(shared: &Arc<Shared>, mut body: Incoming) -> Result<(), ReceiveError> {
    let begun = Instant::now();
    let metrics = &shared.metrics;
    let mut body = InBody::new(&mut body, shared.config.patience());
    let (message, rest) = match read_message(&mut body).await {
        Ok(both) => both,
        Err(err) => {
            warn!(
                "local-member-id" = hex(shared.config.id),
                error = %err,
                "failed to decode Raft message"
            );
            metrics.peer_received_failures_total.with_label_values(&["unknown"]).inc();
            metrics.snapshot_receive_failures.with_label_values(&["unknown"]).inc();
            return Err(err.into());
        }
    };
    let from = shared.label(message.from);
    let fail = || metrics.snapshot_receive_failures.with_label_values(&[&from]).inc();
    let message_bytes = message.encoded_len() as u64;
    let received = metrics.peer_received_bytes_total.with_label_values(&[&from]);
    received.inc_by(message_bytes);
    if message.msg_type != MessageType::Snap {
        warn!(
            "local-member-id" = hex(shared.config.id),
            "remote-snapshot-sender-id" = hex(message.from),
            "message-type" = message.msg_type.name(),
            "unexpected Raft message type"
        );
        fail();
        return Err(ReceiveError::WrongType);
    }
    let index = index_of(&message);
    if index == 0 {
        fail();
        return Err(DecodeError::NoSnapshot.into());
    }
    let sender = hex(message.from);
    info!(
        "local-member-id" = hex(shared.config.id),
        "remote-snapshot-sender-id" = sender,
        "incoming-snapshot-index" = index,
        "incoming-snapshot-message-size-bytes" = message_bytes,
        "incoming-snapshot-message-size" = humane(message_bytes),
        "receiving database snapshot"
    );
    let in_flight =
        InFlight::new(metrics.snapshot_receive_inflights_total.with_label_values(&[&from]));
    let saved = save(shared, index, rest, &mut body).await;
    drop(in_flight);
    let bytes = match saved {
        Ok(bytes) => bytes,
        Err(err) => {
            warn!(
                "local-member-id" = hex(shared.config.id),
                "remote-snapshot-sender-id" = sender,
                "incoming-snapshot-index" = index,
                error = err,
                "failed to save incoming database snapshot"
            );
            fail();
            return Err(ReceiveError::Save(err));
        }
    };
    received.inc_by(bytes);
    info!(
        "local-member-id" = hex(shared.config.id),
        "remote-snapshot-sender-id" = sender,
        "incoming-snapshot-index" = index,
        "incoming-snapshot-size-bytes" = bytes,
        "incoming-snapshot-size" = humane(bytes),
        "download-took" = ?begun.elapsed(),
        "received and saved database snapshot"
    );
    match shared.deliver(message) {
        Delivery::Done => {
            metrics.snapshot_receive_success.with_label_values(&[&from]).inc();
            metrics
                .snapshot_receive_total_duration_seconds
                .with_label_values(&[&from])
                .observe(begun.elapsed().as_secs_f64());
            Ok(())
        }
        Delivery::Refused(why) => Err(ReceiveError::Refused(why)),
        Delivery::Full => {
            fail();
            Err(ReceiveError::Full)
        }
    }
}

/// The message in front, and what came with it of the file.
async fn read_message(body: &mut InBody<'_>) -> Result<(Message, Bytes), DecodeError> {
    let mut decoder = MessageDecoder::snapshot();
    loop {
        if let Some(message) = decoder.next_message()? {
            return Ok((message, decoder.into_rest()));
        }
        let Some(part) = body.next().await? else {
            let is_between = decoder.is_between();
            return Err(if is_between { DecodeError::Eof } else { DecodeError::UnexpectedEof });
        };
        decoder.push(&part);
    }
}

/// Puts the rest of the body into the store; returns how many bytes. The error is for people.
async fn save(
    shared: &Arc<Shared>,
    index: u64,
    mut part: Bytes,
    body: &mut InBody<'_>,
) -> Result<u64, String> {
    let (parts, received) = mpsc::channel(PARTS_MAX);
    let (done, result) = oneshot::channel();
    let (store, metrics) = (Arc::clone(&shared.store), shared.metrics.clone());
    tokio::task::spawn_blocking(move || {
        // The receiver is gone when the connection is; the file is complete or removed then.
        let _ = done.send(write_parts(&*store, &metrics, index, received));
    });
    let broken = loop {
        // A send fails when the disk has; the result says how.
        if !part.is_empty() && parts.send(Some(part)).await.is_err() {
            break None;
        }
        match body.next().await {
            Ok(Some(next)) => part = next,
            Ok(None) => {
                let _ = parts.send(None).await;
                break None;
            }
            Err(err) => break Some(err),
        }
    };
    drop(parts);
    match result.await {
        _ if broken.is_some() => Err(broken.map_or_else(String::new, |err| err.to_string())),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(err)) => Err(err),
        Err(_) => Err("stopped".to_owned()),
    }
}

/// Writes parts until `None` says that all are there. A channel that closes before is a broken transfer.
fn write_parts(
    store: &dyn Store,
    metrics: &Metrics,
    index: u64,
    mut parts: mpsc::Receiver<Option<Bytes>>,
) -> Result<u64, String> {
    let begun = Instant::now();
    let mut file = store.create(index).map_err(|err| err.to_string())?;
    let mut head = Vec::new();
    while let Some(part) = parts.blocking_recv() {
        let Some(part) = part else {
            if is_database(&head) {
                let complete = Instant::now();
                let bytes = file.finish().map_err(|err| err.to_string())?;
                let (saving, syncing) = (begun.elapsed(), complete.elapsed());
                metrics.snap_db_fsync_duration_seconds.observe(syncing.as_secs_f64());
                metrics.snap_db_save_total_duration_seconds.observe(saving.as_secs_f64());
                return Ok(bytes);
            }
            file.abort();
            return Err("invalid database".to_owned());
        };
        head.extend(part.iter().take(DATABASE_HEAD - head.len()));
        if let Err(err) = file.write(&part) {
            file.abort();
            return Err(err.to_string());
        }
    }
    file.abort();
    Err("unexpected EOF".to_owned())
}

/// Whether a file with this head may be a database: its first page is a meta page. DIFF(etcd): it finds out later, when
/// it opens the file, and stops.
fn is_database(head: &[u8]) -> bool {
    head.get(DATABASE_HEAD - DATABASE_MAGIC.len()..) == Some(DATABASE_MAGIC.as_slice())
}

/// A number of bytes for people, as etcd's log has it: `16 kB`, `1.2 MB`.
fn humane(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = (bytes.ilog10() / 3) as usize;
    let value = (bytes as f64 / 1000_f64.powi(exponent as i32) * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[exponent.min(UNITS.len() - 1)];
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::humane;

    #[test]
    fn sizes_for_people() {
        let cases = [(0, "0 B"), (9, "9 B"), (82, "82 B"), (1000, "1.0 kB"), (20_480, "20 kB")];
        for (bytes, text) in cases {
            assert_eq!(humane(bytes), text);
        }
        assert_eq!(humane(25_100_288), "25 MB");
        assert_eq!(humane(u64::MAX), "18 EB");
    }
}
