//! h2's client, with some requests open.

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::Request;

use super::pipe::Wire;
use super::{Body, Broken, context, put_fields, tell_broken};
use crate::frame::Frame;
use crate::plan::{Plan, REQUESTS, WINDOW};
use crate::step::{self, Step, put_text};

pub(crate) struct TheirClient {
    wire: Wire,
    connection: Connection<Wire, Bytes>,
    /// While it is there, there may be more requests.
    _more: SendRequest<Bytes>,
    calls: Vec<Call>,
    holds: bool,
}

struct Call {
    id: u32,
    answer: Answer,
    /// Keeps a request that is not complete from being given up.
    _send: SendStream<Bytes>,
}

enum Answer {
    Head(ResponseFuture),
    Body(Body),
}

fn builder(plan: &Plan) -> Builder {
    let mut builder = Builder::new();
    builder.enable_push(false);
    if plan.holds {
        builder.initial_window_size(WINDOW);
    }
    if let Some(table) = plan.table {
        builder.header_table_size(table);
    }
    if let Some(list) = plan.list {
        builder.max_header_list_size(list);
    }
    // As for the server.
    builder
        .max_local_error_reset_streams(None)
        .max_concurrent_reset_streams(usize::MAX)
        .reset_stream_duration(Duration::MAX)
        .data_frame_budget(usize::MAX);
    builder
}

impl TheirClient {
    pub(crate) fn new(plan: Plan) -> Self {
        let wire = Wire::default();
        let cx = &mut context();
        let handshake = pin!(builder(&plan).handshake::<_, Bytes>(wire.clone()));
        let Poll::Ready(Ok((mut more, mut connection))) = handshake.poll(cx) else {
            panic!("h2's client waits for nothing before it speaks");
        };
        let mut calls = Vec::new();
        for number in 0..REQUESTS {
            assert!(more.poll_ready(cx).is_ready(), "there is room at first");
            let request = Request::post("http://a/b").body(()).expect("a good request");
            let end = plan.is_complete(number);
            let (answer, send) = more.send_request(request, end).expect("there is room at first");
            let id = send.stream_id().as_u32();
            calls.push(Call { id, answer: Answer::Head(answer), _send: send });
            // What waits for its turn is not open yet.
            let _ = Pin::new(&mut connection).poll(cx);
        }
        wire.take(|_| {});
        Self { wire, connection, _more: more, calls, holds: plan.holds }
    }

    pub(crate) fn read(&mut self, frame: &Frame<'_>, gone: &[u32], step: &mut Step) {
        self.feed(frame.bytes, step);
        self.wire.take(|written| step.read_output(written, gone));
        if step.dead.is_none() {
            let mut over = Vec::new();
            for call in &mut self.calls {
                // GOAWAY concerns many; all others one.
                if frame.stream != 0 && frame.stream != call.id {
                    continue;
                }
                match call.read(self.holds, step) {
                    Ok(true) => over.push(call.id),
                    Ok(false) => {}
                    Err(broken) => {
                        tell_broken(&broken, call.id, step);
                        over.push(call.id);
                    }
                }
            }
            if let Some((id, _)) = step.failed {
                over.push(id);
            }
            self.calls.retain(|call| !over.contains(&call.id));
            if !step.closed {
                // It says that calls are given up, which is no news.
                let mut unheard = Step::default();
                self.feed(&[], &mut unheard);
                step.closed |= unheard.closed;
                self.wire.take(|_| {});
            }
        }
        step.settle();
    }

    pub(crate) fn feed(&mut self, bytes: &[u8], step: &mut Step) {
        self.wire.feed(bytes);
        match Pin::new(&mut self.connection).poll(&mut context()) {
            Poll::Ready(Ok(())) => step.closed = true,
            // That the peer went away with an error, and nothing is open.
            Poll::Ready(Err(error)) if error.is_go_away() && error.is_remote() => {
                step.closed = true
            }
            Poll::Ready(Err(error)) => {
                step.dead = Some((error.reason().map_or(0, u32::from), "h2"));
            }
            Poll::Pending => {}
        }
    }
}

impl Call {
    /// Tells what is there; whether it was all.
    fn read(&mut self, holds: bool, step: &mut Step) -> Result<bool, Broken> {
        if let Answer::Head(answer) = &mut self.answer {
            let Poll::Ready(answer) = Pin::new(answer).poll(&mut context()) else {
                return Ok(false);
            };
            let (head, body) = answer?.into_parts();
            let body = Body::new(body, holds);
            step.tell(if body.ended { step::HEAD_END } else { step::HEAD }, self.id, |out| {
                put_text(out, head.status.as_str().as_bytes());
                put_fields(out, &head.headers);
            });
            self.answer = Answer::Body(body);
        }
        let Answer::Body(body) = &mut self.answer else { return Ok(false) };
        body.read(self.id, step)?;
        Ok(body.ended)
    }
}
