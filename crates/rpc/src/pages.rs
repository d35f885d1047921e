//! HTTP/1.1 on the client port: the pages for version, health and metrics, and the way to the JSON gateway.

mod access;
mod checks;
mod io;
mod vars;
mod websocket;

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};

use crate::desk::{Desk, Local};
use crate::gateway::{self, Body, Gateway};
use crate::transport::Transport;
use crate::{Limits, Metrics, State};

type Page = Response<Body>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Serves pages on connections that speak HTTP/1.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    shared: Arc<Shared>,
}

/// What the pages show.
#[derive(Debug)]
struct Shared {
    state: Arc<State>,
    metrics: Arc<Metrics>,
    /// Of the state in force: a snapshot replaces it, and what it replaces must not be kept.
    reader: RwLock<mvcc::Reader>,
    core: mpsc::UnboundedSender<Local>,
    limits: Arc<Limits>,
    gateway: Gateway,
}

impl Pages {
    pub(crate) fn new(desk: &Desk) -> Self {
        let link = &desk.link;
        let limits = Arc::clone(&link.limits);
        let shared = Shared {
            state: Arc::clone(&link.state),
            metrics: Arc::clone(&link.metrics),
            reader: RwLock::new(link.reader.clone()),
            core: desk.local.clone(),
            gateway: Gateway { caller: desk.caller.clone(), limits: Arc::clone(&limits) },
            limits,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The state was replaced; connections that are open see the new one, too.
    pub(crate) fn restored(&self, reader: mvcc::Reader) {
        *self.shared.reader.write() = reader;
    }

    /// Serves a connection of which `prefix` was read, on a task of its own.
    pub(crate) fn serve(&self, transport: Transport, prefix: Vec<u8>) {
        let shared = Arc::clone(&self.shared);
        let header_timeout = shared.limits.header_timeout;
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(shared.answer(request).await) }
            });
            let served = http1::Builder::new()
                .timer(io::Timer)
                .title_case_headers(true)
                .header_read_timeout(header_timeout)
                .serve_connection(io::Stream::new(transport, prefix), service)
                .with_upgrades();
            if let Err(error) = served.await {
                tracing::debug!(%error, "closing a client's HTTP/1 connection");
            }
        });
    }
}

impl Shared {
    /// What comes before any page, in etcd's order.
    async fn answer(&self, request: Request<Incoming>) -> Page {
        let Some(path) = unescape(request.uri().path()) else { return bad_request() };
        if let Some(refusal) = access::refuse_missing_host(&request) {
            return refusal;
        }
        let is_of_server = request.uri().path() == "*";
        if is_of_server && request.method() == Method::OPTIONS {
            // Go's server says this by itself.
            return Response::new(Body::default());
        }
        if let Some(refusal) = access::refuse_host(&self.limits, request.uri(), request.headers()) {
            return refusal;
        }
        let headers = request.headers().clone();
        let mut page = if request.method() == Method::OPTIONS {
            Response::new(Body::default())
        } else if is_of_server {
            no_page(request.version())
        } else {
            self.find(request, &path).await
        };
        if page.status() != StatusCode::SWITCHING_PROTOCOLS {
            access::allow_origin(&self.limits, &headers, &mut page);
        }
        page
    }

    /// The page, or the gateway's answer, at `unescaped`, or where to find it.
    async fn find(&self, request: Request<Incoming>, unescaped: &str) -> Page {
        let path = stable(request.uri().path());
        let query = request.uri().query();
        let root = gateway::PREFIX.trim_end_matches('/');
        let sent_on = if self.limits.enable_gateway && path == root {
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            Some(format!("{}{query}", gateway::PREFIX))
        } else if request.method() == Method::CONNECT {
            // What it names is no path.
            None
        } else {
            api::path::redirect(&path, query)
        };
        if let Some(location) = sent_on {
            return redirect(&request, &location);
        }
        let path = stable(unescaped);
        if !self.limits.enable_gateway || !path.starts_with(gateway::PREFIX) {
            return self.page(&request).await;
        }
        if websocket::is_wanted(request.headers()) {
            return websocket::accept(&self.gateway, path.into_owned(), request);
        }
        let (head, body) = request.into_parts();
        let (method, headers, path) = (head.method, head.headers, path.into_owned());
        self.gateway.serve(gateway::Request { method, path, headers, body }).await
    }

    async fn page(&self, request: &Request<Incoming>) -> Page {
        let query = request.uri().query().unwrap_or_default();
        match request.uri().path() {
            "/metrics" => self.metrics(),
            "/version" if is_get(request) => self.version(),
            "/debug/vars" => vars::page(&self.state),
            "/health" if is_get(request) => checks::health(self, query).await,
            "/version" | "/health" => method_not_allowed(),
            path => match checks::find(path) {
                Some(_) if !is_get(request) => method_not_allowed(),
                Some(found) => checks::page(self, found, query).await,
                None => error(StatusCode::NOT_FOUND, "404 page not found"),
            },
        }
    }

    fn version(&self) -> Page {
        let cluster = self.state.cluster_version.read().clone();
        let storage = self.state.storage_version.read().clone();
        // Before the first cluster version is decided, the backend is as 3.5 left it.
        let storage_default = if cluster.is_none() { "3.5.0" } else { "unknown" };
        let text = format!(
            r#"{{"etcdserver":"{}","etcdcluster":"{}","storage":"{}"}}"#,
            self.state.version,
            cluster.as_deref().unwrap_or("not_decided"),
            storage.as_deref().unwrap_or(storage_default),
        );
        page(StatusCode::OK, JSON, text)
    }

    fn metrics(&self) -> Page {
        let metrics = &self.metrics;
        metrics.promhttp_metric_handler_requests_in_flight.inc();
        let text = metrics.render();
        metrics.promhttp_metric_handler_requests_in_flight.dec();
        metrics.promhttp_metric_handler_requests_total.with_label_values(&["200"]).inc();
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        page(StatusCode::OK, kind, text)
    }

    /// Waits until a linearizable read could be served; the error is its text.
    async fn linearizable_read(&self) -> Result<(), api::Error> {
        let (sender, receiver) = oneshot::channel();
        if self.core.send(Local::PageRead(sender)).is_err() {
            return Err(api::Error::Stopped);
        }
        receiver.await.unwrap_or(Err(api::Error::Stopped))
    }
}

fn is_get(request: &Request<Incoming>) -> bool {
    request.method() == Method::GET
}

fn page(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Body::from(body.into()));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, kind);
    page
}

/// An error as Go's `http.Error` writes it.
fn error(status: StatusCode, text: &str) -> Page {
    nosniff(page(status, TEXT, format!("{text}\n")))
}

fn redirect(request: &Request<Incoming>, location: &str) -> Page {
    let mut page = match *request.method() {
        Method::GET => page(StatusCode::OK, HTML, api::path::redirect_page(location)),
        Method::HEAD => page(StatusCode::OK, HTML, ""),
        _ => Response::new(Body::default()),
    };
    *page.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::from_str(location) {
        page.headers_mut().insert(LOCATION, location);
    }
    page
}

/// What Go's server says of a request that it cannot read.
fn bad_request() -> Page {
    let mut page = page(StatusCode::BAD_REQUEST, TEXT, "400 Bad Request");
    page.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    page
}

/// What Go's server says of a request that it can read, but does not take.
fn bad_request_for(why: &str) -> Page {
    let mut page = bad_request();
    let phrase = format!("Bad Request: {why}");
    *page.body_mut() = Body::from(Bytes::from(format!("400 {phrase}")));
    if let Ok(phrase) = ReasonPhrase::try_from(phrase.into_bytes()) {
        page.extensions_mut().insert(phrase);
    }
    page
}

/// The answer to a request for `*`, which is no path.
fn no_page(version: Version) -> Page {
    let mut page = Response::new(Body::default());
    *page.status_mut() = StatusCode::BAD_REQUEST;
    if version >= Version::HTTP_11 {
        page.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    page
}

fn nosniff(mut page: Page) -> Page {
    let name = HeaderName::from_static("x-content-type-options");
    page.headers_mut().insert(name, HeaderValue::from_static("nosniff"));
    page
}

fn method_not_allowed() -> Page {
    let mut page = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    page
}

/// Where something is now that was served under `/v3beta/` before it was stable.
fn stable(path: &str) -> Cow<'_, str> {
    match path.strip_prefix("/v3beta/") {
        Some(rest) => format!("{}{rest}", gateway::PREFIX).into(),
        None => path.into(),
    }
}

/// A path with its `%xx` undone; `None` if one of them is none.
fn unescape(path: &str) -> Option<String> {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high << 4 | low).unwrap_or(b'?'));
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// The values of a parameter in a query, with `%xx` and `+` undone.
fn parameters<'q>(query: &'q str, name: &'q str) -> impl Iterator<Item = String> + 'q {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let mut ahead = bytes.clone();
                let mut digit = || ahead.next().and_then(|byte| char::from(byte).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => {
                        out.push(u8::try_from(high << 4 | low).unwrap_or(b'?'));
                        bytes = ahead;
                    }
                    _ => out.push(b'%'),
                }
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_unescaped() {
        assert_eq!(unescape("/v3/%6bv"), Some("/v3/kv".to_owned()));
        assert_eq!(unescape("/+"), Some("/+".to_owned()));
        assert_eq!(unescape("/%zz"), None);
        assert_eq!(unescape("/%4"), None);
    }

    #[test]
    fn queries() {
        let read = |query: &str, name: &str| parameters(query, name).collect::<Vec<_>>();
        assert_eq!(read("exclude=A&x=1&exclude=B", "exclude"), ["A", "B"]);
        assert_eq!(read("verbose", "verbose"), [""]);
        assert_eq!(read("a%62=%41%2", "ab"), ["A%2"]);
        assert_eq!(read("a=b+c", "a"), ["b c"]);
        assert!(read("", "a").is_empty());
    }
}
