//! The peer port: what other members ask, with etcd's checks, codes and texts in etcd's order.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use raft::Message;
use tokio::sync::{oneshot, watch};
use tracing::{debug, warn};

use crate::body::OutBody;
use crate::client::within;
use crate::codec::MESSAGE_BYTES_MAX;
use crate::headers::{self, CLUSTER_ID_MISMATCH};
use crate::hex;
use crate::incoming::{BodyError, read_body};
use crate::io::{Connection, Timed, Timer};
use crate::pages;
use crate::probe;
use crate::shared::{Delivery, Shared};
use crate::snapshot;
use crate::time::Timestamp;
use crate::writer::StreamType;

pub(crate) type Page = Response<OutBody>;
/// A page that ends the work on a request early.
pub(crate) type Early = Box<Page>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
/// How long a connection may be idle, or take to send a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves one connection until it ends or the transport stops.
pub(crate) async fn serve(shared: Arc<Shared>, connection: Box<dyn Connection>) {
    let io = Timed::new(connection, shared.config.write_timeout);
    let mut stopped = shared.stopped.subscribe();
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let serving = http1::Builder::new()
        .timer(Timer)
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(io, service);
    tokio::pin!(serving);
    let result = tokio::select! {
        result = &mut serving => result,
        () = until_stopped(&mut stopped) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(err) = result {
        debug!(error = %err, "a connection of a peer ended");
    }
}

async fn until_stopped(stopped: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, which it is after the stop only.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// etcd's plain errors: a line of text.
pub(crate) fn error(status: StatusCode, text: &str) -> Page {
    let mut page = Response::new(OutBody::full(Bytes::from(format!("{text}\n"))));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, TEXT);
    page.headers_mut().insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    page
}

/// As [`error`], as an early end.
pub(crate) fn early(status: StatusCode, text: &str) -> Early {
    Box::new(error(status, text))
}

/// To the path that the request should have had.
fn redirect(method: &Method, location: &str) -> Page {
    let mut page = match *method {
        Method::GET => content(HTML, api::path::redirect_page(location)),
        Method::HEAD => content(HTML, ""),
        _ => Response::new(OutBody::empty()),
    };
    *page.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::from_str(location) {
        page.headers_mut().insert(LOCATION, location);
    }
    page
}

/// 405, with the method that is allowed where etcd names it.
pub(crate) fn wrong_method(allowed: Option<&'static str>) -> Page {
    let mut page = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    if let Some(allowed) = allowed {
        page.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    }
    page
}

pub(crate) fn content(content_type: HeaderValue, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(OutBody::full(body.into()));
    page.headers_mut().insert(CONTENT_TYPE, content_type);
    page
}

pub(crate) fn json(body: String) -> Page {
    content(JSON, body)
}

/// The `X-Etcd-Cluster-ID` that most answers have.
pub(crate) fn with_cluster_id(shared: &Shared, mut page: Page) -> Page {
    if let Ok(id) = HeaderValue::from_str(&hex(shared.config.cluster_id)) {
        page.headers_mut().insert(headers::CLUSTER_ID, id);
    }
    page
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Page {
    let (head, mut body) = request.into_parts();
    let (method, path) = (&head.method, head.uri.path());
    if let Some(location) = api::path::redirect(path, head.uri.query()) {
        return redirect(method, &location);
    }
    match path {
        "/raft/stream" | "/members/promote" => redirect(method, &format!("{path}/")),
        "/raft" => {
            if method != Method::POST {
                return wrong_method(Some("POST"));
            }
            with_cluster_id(shared, pipeline(shared, &head.headers, &mut body).await)
        }
        "/raft/snapshot" => {
            if method != Method::POST {
                count_unknown_snapshot(shared);
                return wrong_method(Some("POST"));
            }
            with_cluster_id(shared, receive_snapshot(shared, &head.headers, body).await)
        }
        probe::PATH => content(TEXT, probe::page(Timestamp::now())),
        "/version" => pages::version(shared, method).await,
        "/members" => pages::members(shared, method).await,
        "/members/hashkv" => pages::hash_kv(shared, method, &head.headers, &mut body).await,
        "/downgrade/enabled" => pages::downgrade_enabled(shared, method).await,
        "/leases" => pages::lease_renew(shared, method, &mut body).await,
        "/leases/internal" => pages::lease_time_to_live(shared, method, &mut body).await,
        _ => {
            if let Some(rest) = path.strip_prefix("/raft/stream/") {
                return stream(shared, method, &head.headers, rest);
            }
            if let Some(id) = path.strip_prefix("/members/promote/") {
                let token = head.headers.get(AUTHORIZATION);
                return pages::promote(shared, method, id, token).await;
            }
            error(StatusCode::NOT_FOUND, "404 page not found")
        }
    }
}

/// Who asks, and whether it may.
fn check(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<(), Early> {
    headers::check(&shared.config, headers)
        .map_err(|why| early(StatusCode::PRECONDITION_FAILED, &why.to_string()))?;
    if let Some(id) = headers::parse_id(headers::text(headers, &headers::SERVER_FROM))
        && let Some(urls) = headers::peer_urls(headers)
    {
        shared.add_remote(id, &urls);
    }
    Ok(())
}

async fn pipeline(shared: &Arc<Shared>, headers: &HeaderMap, body: &mut Incoming) -> Page {
    if let Err(page) = check(shared, headers) {
        return *page;
    }
    let from = headers::parse_id(headers::text(headers, &headers::SERVER_FROM));
    let from = shared.label(from.unwrap_or(0));
    let fail = || {
        shared.metrics.peer_received_failures_total.with_label_values(&[&from]).inc();
    };
    let limit = usize::try_from(MESSAGE_BYTES_MAX).unwrap_or(usize::MAX);
    let bytes = match read_body(body, limit, shared.config.patience()).await {
        Ok(bytes) => bytes,
        Err(err) => {
            warn!(
                "local-member-id" = hex(shared.config.id),
                error = %err,
                "failed to read Raft message"
            );
            fail();
            return error(StatusCode::BAD_REQUEST, "error reading raft message");
        }
    };
    let len = bytes.len() as u64;
    let message = match Message::decode(bytes) {
        Ok(message) => message,
        Err(err) => {
            warn!(
                "local-member-id" = hex(shared.config.id),
                error = %err,
                "failed to unmarshal Raft message"
            );
            fail();
            return error(StatusCode::BAD_REQUEST, "error unmarshalling raft message");
        }
    };
    let label = shared.label(message.from);
    shared.metrics.peer_received_bytes_total.with_label_values(&[&label]).inc_by(len);
    match shared.deliver(message) {
        Delivery::Done => no_content(),
        Delivery::Refused(why) => not_processed(shared, &why.to_string()),
        Delivery::Full => not_processed(shared, "receiving buffer is full"),
    }
}

fn no_content() -> Page {
    let mut page = Response::new(OutBody::empty());
    *page.status_mut() = StatusCode::NO_CONTENT;
    page
}

/// etcd means to say 403 where the sender was removed or the message is for somebody else, and says this
/// none the less.
fn not_processed(shared: &Shared, why: &str) -> Page {
    warn!("local-member-id" = hex(shared.config.id), error = why, "failed to process Raft message");
    error(StatusCode::INTERNAL_SERVER_ERROR, "error processing raft message")
}

fn count_unknown_snapshot(shared: &Shared) {
    let failures = &shared.metrics.snapshot_receive_failures;
    failures.with_label_values(&["UNKNOWN_SNAPSHOT_SENDER"]).inc();
}

async fn receive_snapshot(shared: &Arc<Shared>, headers: &HeaderMap, body: Incoming) -> Page {
    if let Err(page) = check(shared, headers) {
        count_unknown_snapshot(shared);
        return *page;
    }
    match snapshot::receive(shared, body).await {
        Ok(()) => no_content(),
        Err(err) => error(err.status(), &err.to_string()),
    }
}

/// A peer wants to listen: the answer is a body without an end.
fn stream(shared: &Arc<Shared>, method: &Method, headers: &HeaderMap, rest: &str) -> Page {
    if method != Method::GET {
        return wrong_method(Some("GET"));
    }
    let mut page = open_stream(shared, headers, rest).unwrap_or_else(|page| *page);
    if let Ok(version) = HeaderValue::from_str(&shared.config.version) {
        page.headers_mut().insert(headers::SERVER_VERSION, version);
    }
    with_cluster_id(shared, page)
}

fn open_stream(shared: &Arc<Shared>, headers: &HeaderMap, rest: &str) -> Result<Page, Early> {
    let local = hex(shared.config.id);
    headers::check(&shared.config, headers)
        .map_err(|why| early(StatusCode::PRECONDITION_FAILED, &why.to_string()))?;
    let (stream, from) = match rest.split_once('/') {
        Some(("msgapp", from)) if !from.contains('/') => (StreamType::Append, from),
        Some(("message", from)) if !from.contains('/') => (StreamType::Message, from),
        _ => {
            debug!(
                "local-member-id" = local,
                path = rest,
                "ignored unexpected streaming request path"
            );
            return Err(early(StatusCode::NOT_FOUND, "invalid path"));
        }
    };
    let Some(id) = headers::parse_id(from) else {
        warn!("local-member-id" = local, path = from, "failed to parse path into ID");
        return Err(early(StatusCode::NOT_FOUND, "invalid from"));
    };
    if shared.is_removed(id) {
        warn!(
            "local-member-id" = local,
            "remote-peer-id-stream-handler" = local,
            "remote-peer-id-from" = hex(id),
            "rejected stream from remote peer because it was removed"
        );
        return Err(early(StatusCode::GONE, "removed member"));
    }
    let Some(peer) = shared.peer(id) else {
        // It may have joined after what this member has applied.
        if let Some(urls) = headers::peer_urls(headers) {
            shared.add_remote(id, &urls);
        }
        warn!(
            "local-member-id" = local,
            "remote-peer-id-stream-handler" = local,
            "remote-peer-id-from" = hex(id),
            "cluster-id" = hex(shared.config.cluster_id),
            "failed to find remote peer in cluster"
        );
        return Err(early(StatusCode::NOT_FOUND, "error sender not found"));
    };
    let to = headers::text(headers, &headers::RAFT_TO);
    if to != local {
        warn!(
            "local-member-id" = local,
            "remote-peer-id-stream-handler" = local,
            "remote-peer-id-header" = to,
            "remote-peer-id-from" = hex(id),
            "cluster-id" = hex(shared.config.cluster_id),
            "ignored streaming request; ID mismatch"
        );
        return Err(early(StatusCode::PRECONDITION_FAILED, "to field mismatch"));
    }
    let body = peer.writer(stream).attach(&peer, stream);
    Ok(Response::new(OutBody::Stream(Box::new(body))))
}

/// Checks the cluster's id where it is given.
pub(crate) fn check_cluster_if_given(shared: &Shared, headers: &HeaderMap) -> Result<(), Early> {
    let id = headers::text(headers, &headers::CLUSTER_ID);
    if id.is_empty() || id == hex(shared.config.cluster_id) {
        return Ok(());
    }
    Err(early(StatusCode::PRECONDITION_FAILED, CLUSTER_ID_MISMATCH))
}

/// The answer of the server to a request that only it can answer.
pub(crate) async fn await_reply<T>(reply: oneshot::Receiver<T>) -> Result<T, Early> {
    reply.await.map_err(|_| early(StatusCode::INTERNAL_SERVER_ERROR, "etcdserver: server stopped"))
}

/// Whether a body was too long or could not be read.
pub(crate) fn is_too_long(err: &BodyError) -> bool {
    matches!(err, BodyError::TooLong(_))
}

/// A listener's socket, as `Transport::serve` takes it.
pub(crate) async fn open_socket(
    shared: &Shared,
    socket: crate::Socket,
) -> io::Result<Box<dyn Connection>> {
    let open = |stream: std::net::TcpStream| {
        stream.set_nonblocking(true)?;
        let stream = tokio::net::TcpStream::from_std(stream)?;
        crate::connect::prepare(&stream)?;
        Ok::<_, io::Error>(stream)
    };
    match socket {
        crate::Socket::Tcp(stream) => Ok(Box::new(open(stream)?)),
        crate::Socket::Tls(stream) => {
            let tls = shared.config.tls.as_ref();
            let tls = tls.ok_or_else(|| io::Error::other("no certificate for this listener"))?;
            // As long as for the head of a request.
            within(HEADER_TIMEOUT, tls.accept(open(stream)?)).await
        }
        crate::Socket::Unix(stream) => {
            stream.set_nonblocking(true)?;
            Ok(Box::new(tokio::net::UnixStream::from_std(stream)?))
        }
    }
}
