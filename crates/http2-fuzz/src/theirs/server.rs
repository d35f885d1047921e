//! h2's server.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, SendStream};
use http::{Request, Response};

use super::pipe::Wire;
use super::{Body, Broken, context, put_fields, tell_broken};
use crate::frame::{self, Frame};
use crate::plan::{Plan, Policy, WINDOW};
use crate::step::{self, Step, put_text};

/// Before the preface has come, and after.
enum State {
    Shaking(Pin<Box<Handshake<Wire, Bytes>>>),
    Open(Box<Connection<Wire, Bytes>>),
    Dead,
}

pub(crate) struct TheirServer {
    wire: Wire,
    state: State,
    streams: Vec<Stream>,
    plan: Plan,
}

struct Stream {
    id: u32,
    respond: SendResponse<Bytes>,
    /// Keeps an answer that is complete from being taken for one that is given up.
    _sent: Option<SendStream<Bytes>>,
    body: Body,
    /// It is answered: what comes is checked, and nobody is told.
    mute: bool,
}

fn builder(plan: &Plan) -> Builder {
    let mut builder = Builder::new();
    if plan.holds {
        builder.initial_window_size(WINDOW);
    }
    if let Some(streams) = plan.streams {
        builder.max_concurrent_streams(streams);
    }
    if let Some(table) = plan.table {
        builder.header_table_size(table);
    }
    if let Some(list) = plan.list {
        builder.max_header_list_size(list);
    }
    // Limits against floods are no matter here, and time stands still.
    builder
        .max_local_error_reset_streams(None)
        .max_concurrent_reset_streams(usize::MAX)
        .max_pending_accept_reset_streams(usize::MAX)
        .reset_stream_duration(Duration::MAX)
        .data_frame_budget(usize::MAX);
    builder
}

impl TheirServer {
    pub(crate) fn new(plan: Plan) -> Self {
        let wire = Wire::default();
        let handshake = builder(&plan).handshake(wire.clone());
        let state = State::Shaking(Box::pin(handshake));
        Self { wire, state, streams: Vec::new(), plan }
    }

    pub(crate) fn read(&mut self, frame: &Frame<'_>, gone: &[u32], step: &mut Step) {
        self.feed(frame.bytes, step);
        if step.dead.is_none() {
            self.read_stream(frame, step);
        }
        self.wire.take(|written| step.read_output(written, gone));
        step.settle();
        let over = |id: u32| {
            step.failed.is_some_and(|(stream, _)| stream == id)
                || step.records().any(|(what, stream, _)| what == step::RESET && stream == id)
        };
        self.streams.retain(|stream| !over(stream.id));
    }

    /// Gives it bytes, and takes the requests that they amount to.
    pub(crate) fn feed(&mut self, bytes: &[u8], step: &mut Step) {
        self.wire.feed(bytes);
        let cx = &mut context();
        if let State::Shaking(handshake) = &mut self.state {
            self.state = match handshake.as_mut().poll(cx) {
                Poll::Ready(Ok(connection)) => State::Open(Box::new(connection)),
                Poll::Ready(Err(_)) => State::Dead,
                Poll::Pending => return,
            };
        }
        let State::Open(connection) = &mut self.state else {
            step.dead = Some((1, "the preface"));
            return;
        };
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let stream = accept(request, respond, &self.plan, step);
                    self.streams.push(stream);
                }
                // That the peer went away with an error, and nothing is open.
                Poll::Ready(Some(Err(error))) if error.is_go_away() && error.is_remote() => {
                    step.closed = true;
                    return;
                }
                Poll::Ready(Some(Err(error))) => {
                    step.dead = Some((error.reason().map_or(0, u32::from), "h2"));
                    return;
                }
                Poll::Ready(None) => {
                    step.closed = true;
                    return;
                }
                Poll::Pending => return,
            }
        }
    }

    /// What the frame did to its stream.
    fn read_stream(&mut self, frame: &Frame<'_>, step: &mut Step) {
        let Some(at) = self.streams.iter().position(|stream| stream.id == frame.stream) else {
            return;
        };
        let stream = &mut self.streams[at];
        if stream.mute {
            // Only faults and the end matter: nothing holds the stream then.
            let mut unheard = Step::default();
            let broken = stream.body.read(stream.id, &mut unheard).err();
            if let Some(Broken::Failed(code)) = broken {
                step.failed.get_or_insert((stream.id, code));
            }
            if broken.is_some() || stream.body.ended {
                self.streams.remove(at);
            }
            return;
        }
        let id = stream.id;
        let had_ended = stream.body.ended;
        let broken = stream.body.read(id, step).err();
        if let Some(broken) = broken {
            tell_broken(&broken, id, step);
        } else if had_ended
            && frame.kind == frame::RST_STREAM
            && let Poll::Ready(Ok(_)) = stream.respond.poll_reset(&mut context())
        {
            step.tell(step::RESET, id, |_| {});
        }
    }

    /// What the application does.
    pub(crate) fn act(&mut self, id: u32) {
        let Some(at) = self.streams.iter().position(|stream| stream.id == id) else { return };
        match self.plan.policy {
            Policy::Nothing => return,
            Policy::Answer | Policy::Early => {
                let stream = &mut self.streams[at];
                stream._sent = stream.respond.send_response(Response::new(()), true).ok();
                stream.mute = true;
                if stream.body.ended {
                    self.streams.remove(at);
                }
            }
            Policy::Reset => {
                self.streams.remove(at).respond.send_reset(Reason::CANCEL);
            }
        }
        if let State::Open(connection) = &mut self.state {
            let _ = connection.poll_closed(&mut context());
        }
        self.wire.take(|_| {});
    }
}

fn accept(
    request: Request<h2::RecvStream>,
    respond: SendResponse<Bytes>,
    plan: &Plan,
    step: &mut Step,
) -> Stream {
    let id = respond.stream_id().as_u32();
    let (head, body) = request.into_parts();
    let body = Body::new(body, plan.holds);
    let host = head.headers.get("host").map(http::HeaderValue::as_bytes);
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    step.scheme = head.uri.scheme_str().map(|scheme| scheme.as_bytes().to_vec());
    step.tell(if body.ended { step::HEAD_END } else { step::HEAD }, id, |out| {
        put_text(out, head.method.as_str().as_bytes());
        put_text(out, authority.or(host).unwrap_or_default());
        put_text(out, path.as_bytes());
        put_fields(out, &head.headers);
    });
    Stream { id, respond, _sent: None, body, mute: false }
}
