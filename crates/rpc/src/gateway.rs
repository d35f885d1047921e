//! The JSON gateway: requests under `/v3/` as calls, in the words of etcd's grpc-gateway.

mod body;
mod head;

use std::sync::Arc;

use api::json::{self, Values};
use api::schema::{self, Message, Route};
use api::service::{Kind, Rpc};
use api::{Code, Error, Status};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt as _;

use crate::Limits;
use crate::inside::{Caller, Origin, Requests, Responses};
use body::Lines;
pub(crate) use body::{AbortOnDrop, Body};

/// What all paths of the gateway begin with.
pub(crate) const PREFIX: &str = "/v3/";
/// JSON takes more room than the message that it stands for: so many times what a message may have.
const JSON_FACTOR: usize = 4;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// Header fields of the call behind a response have this prefix.
const CALL_CONTENT_TYPE: HeaderName = HeaderName::from_static("grpc-metadata-content-type");

/// Makes calls of requests.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(crate) caller: Caller,
    pub(crate) limits: Arc<Limits>,
}

/// What is read of a request.
pub(crate) struct Request<B> {
    pub(crate) method: Method,
    /// Without escapes.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: B,
}

/// The bytes of a request, as they come.
pub(crate) trait Source: Send + 'static {
    /// The next piece; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

impl Source for hyper::body::Incoming {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // A body that breaks off is as one that ends there.
            let frame = self.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                return Some(data);
            }
        }
    }
}

impl Gateway {
    /// Answers a request under [`PREFIX`].
    pub(crate) async fn serve(&self, request: Request<impl Source>) -> Response<Body> {
        let method = head::method(&request.method, &request.headers);
        let Some(route) = schema::route(&request.path) else {
            return failure(&Status::fixed(Code::NotFound, "Not Found"));
        };
        if method != "POST" {
            return failure(&Status::fixed(Code::Unimplemented, "Method Not Allowed"));
        }
        let origin = match head::origin(route.rpc, &request.headers) {
            Ok(origin) => origin,
            Err(status) => return failure(&status),
        };
        match route.rpc.method().kind {
            Kind::Unary => self
                .unary(route, origin, request.body)
                .await
                .unwrap_or_else(|status| failure(&status)),
            Kind::ServerStream | Kind::ClientStream => {
                match self.request(route, request.body).await {
                    Ok(message) => {
                        let responses = self.caller.server_stream(origin, message);
                        stream(route.output, responses, None).await
                    }
                    Err(status) => failure(&status),
                }
            }
            Kind::Bidi => self.bidi(route, origin, request.body).await,
        }
    }

    async fn unary(
        &self,
        route: &Route,
        origin: Origin,
        body: impl Source,
    ) -> Result<Response<Body>, Status> {
        let request = self.request(route, body).await?;
        let response = self.caller.unary(origin, request).await?;
        let mut text = String::new();
        json::encode(route.output, &response, false, &mut text)
            .map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        let mut answer = Response::new(Body::from(text));
        answer.headers_mut().insert(CONTENT_TYPE, JSON);
        answer.headers_mut().insert(CALL_CONTENT_TYPE, GRPC);
        Ok(answer)
    }

    /// The first value of a body as a message; without any, the empty one.
    async fn request(&self, route: &Route, mut body: impl Source) -> Result<Bytes, Status> {
        let mut values = self.values();
        let value = loop {
            match body.next().await {
                Some(piece) => values.push(&piece),
                None => break values.finish(),
            }
            if let found @ (Ok(Some(_)) | Err(_)) = values.next_value() {
                break found;
            }
        };
        match value.map_err(|error| refusal(route.rpc, &error))? {
            Some(value) => decode(route, &value),
            None => Ok(Bytes::new()),
        }
    }

    fn values(&self) -> Values {
        Values::new(self.body_max())
    }

    /// The most bytes that a value may have.
    pub(crate) fn body_max(&self) -> usize {
        self.limits.max_receive_bytes().saturating_mul(JSON_FACTOR)
    }

    /// A stream of requests and of responses.
    async fn bidi(
        &self,
        route: &'static Route,
        origin: Origin,
        body: impl Source,
    ) -> Response<Body> {
        let (requests, mut responses) = self.caller.bidi(origin);
        let (refused, refusal) = tokio::sync::oneshot::channel();
        let values = self.values();
        let sender = AbortOnDrop(tokio::spawn(async move {
            if let Err(status) = send_requests(route, values, body, &requests).await {
                let _ = refused.send(status);
            }
        }));
        if route.rpc != Rpc::Watch {
            return stream(route.output, responses, Some(sender)).await;
        }
        // DIFF(etcd): there, a watch whose first request is wrong is not answered at all.
        tokio::select! {
            biased;
            first = responses.next() => respond(route.output, first, responses, Some(sender)),
            Ok(status) = refusal => failure(&status),
        }
    }
}

/// Sends each value of a body as a request. What is wrong with one ends the requests, not the call, unless it is the
/// first.
async fn send_requests(
    route: &Route,
    mut values: Values,
    mut body: impl Source,
    requests: &Requests,
) -> Result<(), Status> {
    let (mut is_over, mut is_first) = (false, true);
    while !is_over {
        match body.next().await {
            Some(piece) => values.push(&piece),
            None => is_over = true,
        }
        loop {
            let value = if is_over { values.finish() } else { values.next_value() };
            let wrong = |status: Status| {
                let text = format!("Failed to decode request: {}", status.message);
                Status::new(status.code, text)
            };
            let request = match value {
                Ok(Some(value)) => decode(route, &value),
                Ok(None) => break,
                Err(error) => Err(refusal(route.rpc, &error)),
            };
            match request {
                Ok(request) => requests.send(request).await,
                Err(status) if is_first => return Err(wrong(status)),
                Err(_) => return Ok(()),
            }
            is_first = false;
        }
    }
    Ok(())
}

fn decode(route: &Route, value: &[u8]) -> Result<Bytes, Status> {
    match json::decode(route.input, value) {
        Ok(message) => Ok(message.into()),
        Err(error) => Err(refusal(route.rpc, &error)),
    }
}

fn refusal(rpc: Rpc, error: &json::Error) -> Status {
    match error {
        json::Error::TooDeep if rpc == Rpc::KvTxn => Error::TooManyOps.into(),
        // DIFF(etcd): there, a value may be of any length.
        json::Error::TooLarge(_) => Status::new(Code::ResourceExhausted, error.to_string()),
        _ => Status::new(Code::InvalidArgument, error.to_string()),
    }
}

/// The answer that is a stream of responses: its first decides what kind of answer it is.
async fn stream(
    output: &'static Message,
    mut responses: Responses,
    requests: Option<AbortOnDrop>,
) -> Response<Body> {
    let first = responses.next().await;
    respond(output, first, responses, requests)
}

fn respond(
    output: &'static Message,
    first: Option<Result<Bytes, Status>>,
    responses: Responses,
    requests: Option<AbortOnDrop>,
) -> Response<Body> {
    match first {
        Some(Ok(first)) => {
            let lines = Lines::new(output, first, responses, requests);
            let mut answer = Response::new(Body::Lines(Box::new(lines)));
            answer.headers_mut().insert(CONTENT_TYPE, JSON);
            answer.headers_mut().insert(CALL_CONTENT_TYPE, GRPC);
            answer
        }
        Some(Err(status)) => {
            let mut answer = Response::new(Body::from(body::error_line(&status)));
            *answer.status_mut() = http_status(&status);
            answer.headers_mut().insert(CONTENT_TYPE, JSON);
            answer
        }
        None => Response::new(Body::Lines(Box::new(Lines::empty(output, responses)))),
    }
}

fn failure(status: &Status) -> Response<Body> {
    let mut text = String::new();
    json::encode_status(status, false, &mut text);
    let mut answer = Response::new(Body::from(text));
    *answer.status_mut() = http_status(status);
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    if status.code == Code::Unauthenticated
        && let Ok(message) = HeaderValue::from_str(&status.message)
    {
        answer.headers_mut().insert(WWW_AUTHENTICATE, message);
    }
    answer
}

fn http_status(status: &Status) -> StatusCode {
    StatusCode::from_u16(status.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
