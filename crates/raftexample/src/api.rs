//! The key-value API over HTTP. The key is the request's target as it was sent, with its slash.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use cobra::go;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use raft::{ConfChange, ConfChangeType};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::gob::Pair;
use crate::log;
use crate::member::Proposal;
use crate::store::Store;

/// What a body may have.
const BODY_BYTES_MAX: usize = 16 << 20;
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

type Page = Response<Full<Bytes>>;

/// What the API needs of the member.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) store: Arc<Store>,
    pub(crate) proposals: mpsc::Sender<Proposal>,
}

impl Api {
    /// Serves until the listener fails.
    pub(crate) async fn serve(self, listener: TcpListener) -> std::io::Result<Infallible> {
        loop {
            let (socket, _) = listener.accept().await?;
            tokio::spawn(self.clone().connection(socket));
        }
    }

    async fn connection(self, socket: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request| {
            let api = self.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        // A client that breaks off needs no answer.
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(socket), service);
        let _ = serving.await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Page {
        let (head, body) = request.into_parts();
        let key = head.uri.to_string();
        match head.method {
            Method::PUT => match read(body).await {
                Ok(value) => {
                    let pair = Pair { key: key.into_bytes(), value: value.to_vec() };
                    self.propose(Proposal::Pair(pair.encode().into())).await
                }
                Err(why) => {
                    log(&format!("Failed to read on PUT ({why})"));
                    error(StatusCode::BAD_REQUEST, "Failed on PUT")
                }
            },
            Method::GET => match self.store.get(key.as_bytes()) {
                Some(value) => found(value),
                None => error(StatusCode::NOT_FOUND, "Failed to GET"),
            },
            Method::POST => match read(body).await {
                Ok(url) => self.change(&key, ConfChangeType::AddNode, url, "Failed on POST").await,
                Err(why) => {
                    log(&format!("Failed to read on POST ({why})"));
                    error(StatusCode::BAD_REQUEST, "Failed on POST")
                }
            },
            Method::DELETE => {
                self.change(&key, ConfChangeType::RemoveNode, Bytes::new(), "Failed on DELETE")
                    .await
            }
            _ => wrong_method(),
        }
    }

    async fn change(
        &self,
        key: &str,
        change_type: ConfChangeType,
        context: Bytes,
        refusal: &str,
    ) -> Page {
        match parse_id(key) {
            Some(node_id) => {
                let change = ConfChange { change_type, node_id, context, id: 0 };
                self.propose(Proposal::Change(change)).await
            }
            None => {
                log(&format!("Failed to convert ID for conf change ({key})"));
                error(StatusCode::BAD_REQUEST, refusal)
            }
        }
    }

    /// Hands on, and answers before raft has decided: who reads at once may find what was there before.
    async fn propose(&self, proposal: Proposal) -> Page {
        match self.proposals.send(proposal).await {
            Ok(()) => {
                let mut page = Response::new(Full::default());
                *page.status_mut() = StatusCode::NO_CONTENT;
                page
            }
            Err(_) => error(StatusCode::SERVICE_UNAVAILABLE, "the member is shutting down"),
        }
    }
}

/// The number behind the slash, as Go reads one of base 0.
fn parse_id(key: &str) -> Option<u64> {
    let digits = key.get(1..)?;
    go::parse_uint(digits, 0).ok()
}

async fn read(body: Incoming) -> Result<Bytes, String> {
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|e| e.to_string())?;
    Ok(body.to_bytes())
}

fn found(value: Bytes) -> Page {
    let kind = if std::str::from_utf8(&value).is_ok() { TEXT } else { BINARY };
    let mut page = Response::new(Full::new(value));
    page.headers_mut().insert(CONTENT_TYPE, kind);
    page
}

fn error(status: StatusCode, text: &str) -> Page {
    let mut page = Response::new(Full::from(format!("{text}\n")));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, TEXT);
    page.headers_mut().insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    page
}

fn wrong_method() -> Page {
    let mut page = error(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
    for method in ["PUT", "GET", "POST", "DELETE"] {
        page.headers_mut().append(ALLOW, HeaderValue::from_static(method));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for (key, id) in [
            ("/4", Some(4)),
            ("/0x10", Some(16)),
            ("/010", Some(8)),
            ("/", None),
            ("/-4", None),
            ("/+4", None),
            ("/4/", None),
            ("/four", None),
            ("/18446744073709551616", None),
            ("", None),
            ("*", None),
        ] {
            assert_eq!(parse_id(key), id, "{key}");
        }
    }
}
