//! `grpc.testing.TestService`, by which gRPC's implementations judge each other; in builds for tests only.
//!
//! Its calls go the way of etcd's: the same connections, heads, frames, windows and statuses. Calls with many requests
//! are worked off by a task each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::grpc_testing as pb;
use api::service::Rpc;
use api::{Code, Status, json};
use http2::{Field, HeaderList};
use tokio::sync::mpsc;

use super::{Result, answer, decode};
use crate::call::{Step, Stream};
use crate::desk::{CallInfo, CallKey, Desk, Next};
use crate::task::{self, Messages, TaskStream};

const INITIAL: &str = "x-grpc-test-echo-initial";
const TRAILING: &str = "x-grpc-test-echo-trailing-bin";

/// Metadata that the answer repeats: a text in its head, and bytes at its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Echo {
    initial: Option<Vec<u8>>,
    /// As base64.
    trailing: Option<String>,
}

impl Echo {
    /// What the head of a request that was accepted asks for.
    pub(crate) fn of(head: &HeaderList) -> Self {
        let trailing = head.find(TRAILING).and_then(|value| {
            let mut bytes = Vec::new();
            json::decode_base64(std::str::from_utf8(value).ok()?, &mut bytes)?;
            let mut text = String::new();
            json::encode_base64(&bytes, &mut text);
            // As grpc-go sends it.
            Some(text.trim_end_matches('=').to_owned())
        });
        Self { initial: head.find(INITIAL).map(<[u8]>::to_vec), trailing }
    }

    /// The fields of the answer's head.
    pub(crate) fn head<'a>(&'a self, fields: &[Field<'a>]) -> Vec<Field<'a>> {
        let initial = self.initial.iter().map(|value| Field::literal(INITIAL, value));
        fields.iter().copied().chain(initial).collect()
    }

    /// The fields of the answer's end.
    pub(crate) fn trailers<'a>(&'a self, fields: &[Field<'a>]) -> Vec<Field<'a>> {
        let trailing = self.trailing.iter().map(|value| Field::literal(TRAILING, value.as_bytes()));
        fields.iter().copied().chain(trailing).collect()
    }
}

/// `EmptyCall`.
pub(crate) fn empty_call(desk: &mut Desk, request: &[u8]) -> Result<Next> {
    let request: pb::Empty = decode(request)?;
    answer(desk, &request)
}

/// `UnaryCall`.
pub(crate) fn unary_call(desk: &mut Desk, request: &[u8]) -> Result<Next> {
    let request: pb::SimpleRequest = decode(request)?;
    wanted_status(request.response_status)?;
    let payload = Some(payload(request.response_size)?);
    let id = request.fill_server_id.then(|| format!("{:x}", desk.link.state.member_id));
    answer(desk, &pb::SimpleResponse { payload, server_id: id.unwrap_or_default() })
}

/// `StreamingOutputCall`.
pub(crate) fn streaming_output_call(desk: &Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let request: pb::StreamingOutputCallRequest = decode(request)?;
    let responses = task::messages(desk, call.key, move |messages| async move {
        if let Err(status) = respond(request, &messages).await {
            messages.fail(status).await;
        }
    });
    Ok(Next::Stream(Stream::Task(responses)))
}

/// A call with many requests.
#[derive(Debug)]
pub(crate) struct Duplex {
    /// `None`: there are no more.
    requests: Option<mpsc::UnboundedSender<Vec<u8>>>,
    /// Requests that the task has not taken.
    waiting: Arc<AtomicUsize>,
    responses: TaskStream,
}

/// A task's end of a [`Duplex`].
struct Requests {
    receiver: mpsc::UnboundedReceiver<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    messages: Messages,
}

impl Duplex {
    /// Begins `FullDuplexCall` or `StreamingInputCall`.
    pub(crate) fn open(desk: &Desk, rpc: Rpc, call: CallKey) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let taken = Arc::clone(&waiting);
        let responses = task::messages(desk, call, move |messages| async move {
            let mut requests = Requests { receiver, waiting: taken, messages };
            let result = if rpc == Rpc::TestServiceStreamingInputCall {
                requests.count().await
            } else {
                requests.answer().await
            };
            if let Err(status) = result {
                requests.messages.fail(status).await;
            }
        });
        Self { requests: Some(requests), waiting, responses }
    }

    /// A request came.
    pub(crate) fn request(&self, message: &[u8]) {
        if let Some(requests) = &self.requests {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            // An error means that the task has ended, which its responses tell.
            let _ = requests.send(message.to_vec());
        }
    }

    /// There will be no more requests.
    pub(crate) fn half_closed(&mut self) {
        self.requests = None;
    }

    /// Whether requests wait for the task, so that the client is to wait, too.
    pub(crate) fn is_behind(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Puts the next response into the desk's frame, if there is one.
    pub(crate) fn advance(&mut self, desk: &mut Desk) -> Result<Step> {
        self.responses.advance(desk)
    }
}

impl Requests {
    async fn next<M: prost::Message + Default>(&mut self) -> Option<Result<M>> {
        let request = self.receiver.recv().await?;
        if self.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.messages.pump();
        }
        Some(decode(&request))
    }

    async fn count(&mut self) -> Result<()> {
        let mut sum = 0_usize;
        while let Some(request) = self.next::<pb::StreamingInputCallRequest>().await {
            sum += request?.payload.map_or(0, |payload| payload.body.len());
        }
        let aggregated_payload_size = i32::try_from(sum).unwrap_or(i32::MAX);
        self.messages.send(&pb::StreamingInputCallResponse { aggregated_payload_size }).await;
        Ok(())
    }

    async fn answer(&mut self) -> Result<()> {
        while let Some(request) = self.next::<pb::StreamingOutputCallRequest>().await {
            let mut request = request?;
            wanted_status(request.response_status.take())?;
            respond(request, &self.messages).await?;
        }
        Ok(())
    }
}

async fn respond(request: pb::StreamingOutputCallRequest, messages: &Messages) -> Result<()> {
    for wanted in request.response_parameters {
        let interval = u64::try_from(wanted.interval_us).unwrap_or(0);
        if interval > 0 {
            tokio::time::sleep(Duration::from_micros(interval)).await;
        }
        let payload = Some(payload(wanted.size)?);
        messages.send(&pb::StreamingOutputCallResponse { payload }).await;
    }
    Ok(())
}

fn payload(size: i32) -> Result<pb::Payload> {
    match usize::try_from(size) {
        Ok(size) if size <= api::frame::MESSAGE_BYTES_MAX / 4 => {
            Ok(pb::Payload { body: vec![0; size].into() })
        }
        _ => Err(Status::fixed(Code::InvalidArgument, "requested a response of invalid length")),
    }
}

fn wanted_status(wanted: Option<pb::EchoStatus>) -> Result<()> {
    let Some(wanted) = wanted.filter(|wanted| wanted.code != 0) else { return Ok(()) };
    let code = Code::ALL.into_iter().find(|code| *code as i32 == wanted.code);
    Err(Status::new(code.unwrap_or(Code::Unknown), wanted.message))
}
