//! WebSockets for streams of the gateway: each message is a piece of the request's body, each line of the response's a
//! message.

mod frame;

use api::json;
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, HeaderName, HeaderValue, ORIGIN, REFERER,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use sha1::{Digest, Sha1};
use tokio::sync::mpsc;

use super::io::Stream;
use super::{Page, error};
use crate::gateway::{self, AbortOnDrop, Body, Gateway, Source};
use frame::{Frames, Opcode};

/// What RFC 6455 adds to a key.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Messages that may wait for the gateway to read them.
const MESSAGES_MAX: usize = 4;
const READ_BYTES: usize = 4096;

/// Whether a client wants to go on with a WebSocket.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, "websocket")
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.split(',').any(|word| word.trim().eq_ignore_ascii_case(token))
    })
}

/// Answers the handshake, and serves the WebSocket on a task of its own.
pub(super) fn accept(gateway: &Gateway, path: String, mut request: Request<Incoming>) -> Page {
    let headers = request.headers();
    if request.method() != Method::GET {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()).unwrap_or_default();
    if !has_token(headers, &SEC_WEBSOCKET_VERSION, "13") || !is_key(key) {
        return refuse(StatusCode::BAD_REQUEST, "Bad Request");
    }
    let mut answer = Response::new(Body::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = answer.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accepted) = HeaderValue::from_str(&accepted_key(key)) {
        fields.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    }
    let protocol = headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    if protocol.is_some_and(|protocol| protocol.starts_with("Bearer")) {
        fields.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("Bearer"));
    }
    let (messages, body) = mpsc::channel(MESSAGES_MAX);
    let inner = gateway::Request {
        method: Method::POST,
        path,
        headers: inner_headers(headers),
        body: Messages(body),
    };
    let gateway = gateway.clone();
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(&mut request).await else { return };
        let Ok(parts) = upgraded.downcast::<Stream>() else { return };
        let max = gateway.body_max();
        let (lines, responses) = mpsc::channel(1);
        let _serving = AbortOnDrop(tokio::spawn(async move {
            forward(gateway.serve(inner).await, &lines).await;
        }));
        let frames = Frames::new(max, &parts.read_buf);
        if let Err(error) = serve(parts.io, frames, messages, responses).await {
            tracing::debug!(%error, "closing a WebSocket");
        }
    });
    answer
}

fn refuse(status: StatusCode, text: &str) -> Page {
    let mut page = error(status, text);
    page.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    page
}

/// A key is 16 bytes in base64.
fn is_key(key: &str) -> bool {
    let mut bytes = Vec::new();
    json::decode_base64(key, &mut bytes).is_some() && bytes.len() == 16
}

fn accepted_key(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize();
    let mut accepted = String::new();
    json::encode_base64(&digest, &mut accepted);
    accepted
}

/// What the gateway sees of the handshake. A token is named as a protocol, since browsers let scripts name nothing else.
fn inner_headers(headers: &HeaderMap) -> HeaderMap {
    let mut inner = HeaderMap::new();
    for name in [ORIGIN, REFERER] {
        if let Some(value) = headers.get(&name) {
            inner.insert(name, value.clone());
        }
    }
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let protocol = text(&SEC_WEBSOCKET_PROTOCOL).filter(|protocol| !protocol.is_empty());
    let named = protocol.map(|protocol| match protocol.split_once("Bearer,") {
        Some((_, token)) => format!("Bearer {}", token.trim_matches(' ')),
        None => String::new(),
    });
    let cookie = text(&COOKIE).and_then(|cookies| {
        let pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.into_iter().find(|(name, _)| *name == "token").map(|(_, token)| token)
    });
    let token = cookie.map(|token| format!("Bearer {token}")).or(named);
    if let Some(Ok(token)) = token.as_deref().map(HeaderValue::from_str) {
        inner.insert(AUTHORIZATION, token);
    }
    inner
}

/// The client's messages as a body.
struct Messages(mpsc::Receiver<Bytes>);

impl Source for Messages {
    async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}

/// Passes the lines of a response on.
async fn forward(response: Response<Body>, lines: &mpsc::Sender<Bytes>) {
    let mut body = response.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if lines.send(data.slice_ref(line)).await.is_err() {
                return;
            }
        }
    }
}

/// Carries messages until either side is done.
async fn serve(
    mut io: Stream,
    mut frames: Frames,
    messages: mpsc::Sender<Bytes>,
    mut responses: mpsc::Receiver<Bytes>,
) -> std::io::Result<()> {
    let mut buffer = [0; READ_BYTES];
    let mut waiting: Option<Bytes> = None;
    loop {
        while waiting.is_none() {
            let Some((opcode, payload)) = frames.next_message()? else { break };
            match opcode {
                Opcode::Data => {
                    let mut line = payload;
                    line.push(b'\n');
                    waiting = Some(line.into());
                }
                Opcode::Ping => io.write_all(&frame::encode(frame::PONG, &payload)).await?,
                Opcode::Pong => {}
                Opcode::Close => {
                    let status = payload.get(..2).unwrap_or_default();
                    io.write_all(&frame::encode(frame::CLOSE, status)).await?;
                    return Ok(());
                }
            }
        }
        tokio::select! {
            permit = messages.reserve(), if waiting.is_some() => {
                // Without a permit the gateway reads no more; what it has to say is still to come.
                if let (Ok(permit), Some(message)) = (permit, waiting.take()) {
                    permit.send(message);
                }
            }
            line = responses.recv() => match line {
                Some(line) => io.write_all(&frame::encode(frame::TEXT, &line)).await?,
                None => return Ok(()),
            },
            read = io.read(&mut buffer), if waiting.is_none() => match read? {
                0 => return Ok(()),
                read => frames.push(buffer.get(..read).unwrap_or_default()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_accepted() {
        assert!(is_key("dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(!is_key("dGhlIHNhbXBsZQ=="));
        assert_eq!(accepted_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn tokens_are_protocols_or_cookies() {
        let token = |pairs: &[(HeaderName, &'static str)]| {
            let pairs = pairs.iter().cloned();
            let headers = pairs.map(|(name, value)| (name, HeaderValue::from_static(value)));
            let inner = inner_headers(&headers.collect());
            inner.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default().to_owned())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(token(&[(SEC_WEBSOCKET_PROTOCOL, "Bearer, abc")]), some("Bearer abc"));
        assert_eq!(token(&[(SEC_WEBSOCKET_PROTOCOL, "Bearer,abc")]), some("Bearer abc"));
        assert_eq!(token(&[(SEC_WEBSOCKET_PROTOCOL, "json")]), some(""));
        let cookie = (COOKIE, "a=b; token=def");
        assert_eq!(token(&[(SEC_WEBSOCKET_PROTOCOL, "Bearer, abc"), cookie]), some("Bearer def"));
        assert_eq!(token(&[]), None);
    }
}
