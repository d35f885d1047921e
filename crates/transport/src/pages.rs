//! Pages of the peer port that only the server can answer: it is asked, and its answer is put as etcd's.

use std::sync::Arc;

use api::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveResponse, ResponseHeader,
};
use api::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;
use prost::Message as _;
use tokio::sync::oneshot;
use tracing::warn;

use crate::event::{HashKv, LeaseRefusal, Request};
use crate::handler::{
    Early, Page, await_reply, check_cluster_if_given, content, early, error, is_too_long, json,
    with_cluster_id, wrong_method,
};
use crate::hex;
use crate::incoming::read_body;
use crate::shared::Shared;

/// Requests about leases, and of hashes, are a few bytes.
const REQUEST_BYTES_MAX: usize = 64 << 10;
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/protobuf");

/// Asks the server; `make` gets the way back.
async fn ask<T>(
    shared: &Shared,
    make: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<T, Early> {
    let (sender, reply) = oneshot::channel();
    shared.owner.request(make(sender));
    await_reply(reply).await
}

/// The page that either way leads to.
fn either(result: Result<Page, Early>) -> Page {
    result.unwrap_or_else(|page| *page)
}

pub(crate) async fn version(shared: &Shared, method: &Method) -> Page {
    if method != Method::GET {
        return wrong_method(Some("GET"));
    }
    let versions = match ask(shared, |reply| Request::Version { reply }).await {
        Ok(versions) => versions,
        Err(page) => return *page,
    };
    json(format!(
        "{{\"etcdserver\":\"{}\",\"etcdcluster\":\"{}\",\"storage\":\"{}\"}}",
        shared.config.version,
        versions.cluster.as_deref().unwrap_or("not_decided"),
        versions.storage.as_deref().unwrap_or("unknown"),
    ))
}

pub(crate) async fn members(shared: &Shared, method: &Method) -> Page {
    if method != Method::GET {
        return wrong_method(Some("GET"));
    }
    let members = ask(shared, |reply| Request::Members { reply }).await;
    with_cluster_id(shared, either(members.map(|members| json(members + "\n"))))
}

pub(crate) async fn promote(
    shared: &Shared,
    method: &Method,
    id_text: &str,
    token: Option<&HeaderValue>,
) -> Page {
    if method != Method::POST {
        return wrong_method(Some("POST"));
    }
    with_cluster_id(shared, either(promote_id(shared, id_text, token).await))
}

async fn promote_id(
    shared: &Shared,
    id_text: &str,
    token: Option<&HeaderValue>,
) -> Result<Page, Early> {
    let is_number = !id_text.is_empty() && id_text.bytes().all(|b| b.is_ascii_digit());
    let id = is_number.then(|| id_text.parse::<u64>().ok()).flatten();
    let Some(id) = id else {
        let text = format!("member {id_text} not found in cluster");
        return Err(early(StatusCode::NOT_FOUND, &text));
    };
    let token = token.and_then(|token| token.to_str().ok()).map(str::to_owned);
    match ask(shared, |reply| Request::Promote { id, token, reply }).await? {
        Ok(members) => Ok(json(members + "\n")),
        Err(refusal) => {
            warn!("member-id" = hex(id), error = refusal.text, "failed to promote a member");
            let status = StatusCode::from_u16(refusal.status);
            Err(early(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &refusal.text))
        }
    }
}

/// `HashKVResponse` as Go's JSON has it: zeros are left out.
#[derive(Debug, serde::Deserialize)]
struct HashKvResponse {
    #[serde(default)]
    header: HashKvHeader,
    #[serde(default)]
    hash: u32,
    #[serde(default)]
    compact_revision: i64,
    #[serde(default)]
    hash_revision: i64,
}

#[derive(Debug, Default, serde::Deserialize)]
struct HashKvHeader {
    #[serde(default)]
    revision: i64,
}

impl HashKv {
    /// Reads the answer of another member to `/members/hashkv`.
    ///
    /// # Errors
    /// If it is not what a member answers.
    pub fn from_json(bytes: &[u8]) -> Result<Self, impl std::error::Error + use<>> {
        serde_json::from_slice(bytes).map(|answer: HashKvResponse| Self {
            revision: answer.header.revision,
            hash: answer.hash,
            compact_revision: answer.compact_revision,
            hash_revision: answer.hash_revision,
        })
    }

    fn to_json(self) -> String {
        let mut fields = vec![match self.revision {
            0 => "\"header\":{}".to_owned(),
            revision => format!("\"header\":{{\"revision\":{revision}}}"),
        }];
        let mut field = |name: &str, value: i64| {
            if value != 0 {
                fields.push(format!("\"{name}\":{value}"));
            }
        };
        field("hash", i64::from(self.hash));
        field("compact_revision", self.compact_revision);
        field("hash_revision", self.hash_revision);
        format!("{{{}}}", fields.join(","))
    }
}

/// `HashKVRequest` as Go's JSON has it.
#[derive(Debug, serde::Deserialize)]
struct HashKvRequest {
    #[serde(default)]
    revision: i64,
}

pub(crate) async fn hash_kv(
    shared: &Shared,
    method: &Method,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Page {
    if method != Method::GET {
        return wrong_method(Some("GET"));
    }
    either(hash_kv_at(shared, headers, body).await)
}

async fn hash_kv_at(
    shared: &Shared,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Page, Early> {
    check_cluster_if_given(shared, headers)?;
    let bytes = read_body(body, REQUEST_BYTES_MAX, shared.config.patience())
        .await
        .map_err(|_| early(StatusCode::BAD_REQUEST, "error reading body"))?;
    let request: HashKvRequest = serde_json::from_slice(&bytes).map_err(|err| {
        warn!(error = %err, "failed to unmarshal request");
        early(StatusCode::BAD_REQUEST, "error unmarshalling request")
    })?;
    let revision = request.revision;
    match ask(shared, |reply| Request::HashKv { revision, reply }).await? {
        Ok(answer) => Ok(with_cluster_id(shared, json(answer.to_json()))),
        Err(text) => {
            warn!("requested-revision" = revision, error = text, "failed to get hashKV");
            Err(early(StatusCode::BAD_REQUEST, &text))
        }
    }
}

pub(crate) async fn downgrade_enabled(shared: &Shared, method: &Method) -> Page {
    if method != Method::GET {
        return wrong_method(Some("GET"));
    }
    let page = match ask(shared, |reply| Request::DowngradeEnabled { reply }).await {
        Ok(Ok(enabled)) => content(HeaderValue::from_static("text/plain"), enabled.to_string()),
        Ok(Err(text)) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, &format!("failed linearized read: {text}"))
        }
        Err(page) => *page,
    };
    with_cluster_id(shared, page)
}

/// The body of a request about a lease.
async fn lease_request<M: prost::Message + Default>(
    shared: &Shared,
    method: &Method,
    body: &mut Incoming,
) -> Result<M, Early> {
    if method != Method::POST {
        return Err(Box::new(wrong_method(None)));
    }
    let bytes = read_body(body, REQUEST_BYTES_MAX, shared.config.patience()).await;
    let bytes = bytes.map_err(|err| {
        if is_too_long(&err) {
            return early(StatusCode::PAYLOAD_TOO_LARGE, "request body too large");
        }
        early(StatusCode::BAD_REQUEST, "error reading body")
    })?;
    M::decode(bytes).map_err(|_| early(StatusCode::BAD_REQUEST, "error unmarshalling request"))
}

fn lease_refused(refusal: LeaseRefusal, not_primary: StatusCode) -> Page {
    let status = match refusal {
        LeaseRefusal::NotFound => StatusCode::NOT_FOUND,
        LeaseRefusal::NotPrimary => not_primary,
        LeaseRefusal::Timeout => StatusCode::REQUEST_TIMEOUT,
    };
    error(status, &refusal.to_string())
}

pub(crate) async fn lease_renew(
    shared: &Arc<Shared>,
    method: &Method,
    body: &mut Incoming,
) -> Page {
    let request: LeaseKeepAliveRequest = match lease_request(shared, method, body).await {
        Ok(request) => request,
        Err(page) => return *page,
    };
    let id = request.id;
    match ask(shared, |reply| Request::LeaseRenew { id, reply }).await {
        Ok(Ok(ttl)) => {
            let answer = LeaseKeepAliveResponse { header: None, id, ttl };
            content(PROTOBUF, Bytes::from(answer.encode_to_vec()))
        }
        Ok(Err(refusal)) => lease_refused(refusal, StatusCode::BAD_REQUEST),
        Err(page) => *page,
    }
}

pub(crate) async fn lease_time_to_live(
    shared: &Arc<Shared>,
    method: &Method,
    body: &mut Incoming,
) -> Page {
    let request: LeaseInternalRequest = match lease_request(shared, method, body).await {
        Ok(request) => request,
        Err(page) => return *page,
    };
    let request = request.lease_time_to_live_request.unwrap_or_default();
    let (id, keys) = (request.id, request.keys);
    match ask(shared, |reply| Request::LeaseTimeToLive { id, keys, reply }).await {
        Ok(Ok(found)) => {
            let answer = LeaseInternalResponse {
                lease_time_to_live_response: Some(LeaseTimeToLiveResponse {
                    header: Some(ResponseHeader::default()),
                    id,
                    ttl: found.ttl,
                    granted_ttl: found.granted_ttl,
                    keys: found.keys.into_iter().map(Into::into).collect(),
                }),
            };
            content(PROTOBUF, Bytes::from(answer.encode_to_vec()))
        }
        Ok(Err(refusal)) => lease_refused(refusal, StatusCode::INTERNAL_SERVER_ERROR),
        Err(page) => *page,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_written_as_go_writes_them() {
        let all = HashKv { revision: 9, hash: 7, compact_revision: -1, hash_revision: 8 };
        for (hash, json) in [
            (all, r#"{"header":{"revision":9},"hash":7,"compact_revision":-1,"hash_revision":8}"#),
            (HashKv::default(), r#"{"header":{}}"#),
        ] {
            assert_eq!(hash.to_json(), json);
            assert_eq!(HashKv::from_json(json.as_bytes()).ok(), Some(hash));
        }
        // 3.5 tells no revision of the hash.
        let old = br#"{"header":{"revision":9},"hash":7,"compact_revision":-1}"#;
        let expected = HashKv { hash_revision: 0, ..all };
        assert_eq!(HashKv::from_json(old).ok(), Some(expected));
        for wrong in [&b""[..], b"7", b"{\"hash\":-1}", b"{\"hash\":4294967296}", b"\xff"] {
            assert!(HashKv::from_json(wrong).is_err());
        }
    }
}
