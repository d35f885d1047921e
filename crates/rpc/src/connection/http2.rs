//! The calls of an HTTP/2 connection: events of the engine in, answers of the handlers out.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::time::Duration;

use api::service::Rpc;
use api::{Code, Error, Status};
use bytes::Buf as _;
use http2::{ErrorCode, Event, Field, HeaderList, Name, Output, Server, StreamId};
use mvcc::watch::Response;
use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::Fate;
use crate::call::{self, Call, Calls, State, Step, Stream};
use crate::desk::{CallKey, ConnectionKey, Desk, Next, ReadWaiter};
use crate::grpc::{self, Head, Refusal, StatusFields};
use crate::keepalive::{Duty, Keepalive};
use crate::message::Input;
use crate::service::maintenance::SnapshotCursor;
use crate::service::{self, lease, reflection, watch};

/// A stream with more than this unsent gets nothing new to send.
const UNSENT_MAX: usize = 64 << 10;
/// So much unsent on a whole connection stops the watch hub from sending it more.
const UNSENT_TOTAL_MAX: usize = 4 << 20;
/// So many bytes of responses of a stream are gathered before they are sent: with one more they fit into a frame of DATA,
/// as a rule.
const GATHERED_MAX: usize = 15 << 10;
/// Bytes of unfinished requests that a connection may make us hold.
const PARTIAL_BYTES_MAX: usize = 128 << 20;
/// A stream of questions about the server with more than this unsent ends.
const REFLECTION_UNSENT_MAX: usize = 4 << 20;
/// Renewals of one stream that may be under way.
const RENEWALS_MAX: usize = 1024;
/// How long a client may take to answer the PING of a graceful end.
const DRAIN_PING_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a client that does not read may hold up the end of its connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// With so much unsent on a connection, beside one answer that may be of any size, its further requests wait, lest a
/// client that does not read fill the memory with responses.
const RESPONSES_MAX: usize = 32 << 20;

/// A PING frame.
const PING_BYTES: usize = 17;

/// The target of the lines about what clients send, which are written under `GODEBUG=http2debug=2` only.
pub const FIELDS_TARGET: &str = "http2";

/// A request, or a read whose state is fresh enough, with its bytes.
#[derive(Debug)]
enum Parked {
    Request(StreamId, Vec<u8>),
    Read(ReadWaiter, Vec<u8>),
}

/// An HTTP/2 connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    key: ConnectionKey,
    engine: Server,
    calls: FxHashMap<StreamId, Call>,
    keepalive: Keepalive,
    /// Watch streams to which more may be sent, or of which the hub is to know what was written. One with much
    /// unsent is not here: it comes back when the client has taken it.
    watches: Vec<StreamId>,
    /// Streams whose requests wait for room in the hub's queue.
    held_up: Vec<StreamId>,
    /// Requests that wait until the client has taken enough of the responses before.
    parked: VecDeque<Parked>,
    /// The stream of an answer that is by itself larger than [`RESPONSES_MAX`]; small calls need not wait for its end.
    giant: Option<StreamId>,
    /// Streams that were given memory which is only lent until the end of the turn.
    lent: Vec<StreamId>,
    /// Bytes of requests that are not complete.
    partial_bytes: usize,
    /// What of the desk's load are this connection's bytes that wait to be written.
    unwritten_counted: usize,
    /// When the client last took something.
    last_written: Instant,
    /// When the client must have begun to speak, until it has.
    greeting_deadline: Option<Instant>,
    /// Pings that came in this turn.
    pings: usize,
    /// Whether a request of this turn waits for somebody else.
    has_asked: bool,
    is_counted: bool,
    is_read_paused: bool,
    drain_deadline: Option<Instant>,
    /// When the last words need not be written any more.
    close_deadline: Option<Instant>,
}

impl Http2 {
    /// A connection on which the client must have said all that one begins with by `deadline`.
    pub(crate) fn new(key: ConnectionKey, deadline: Instant, desk: &mut Desk) -> Self {
        desk.load.connections += 1;
        let config = http2::Config {
            max_concurrent_streams: desk.link.limits.max_concurrent_streams,
            writable_mark: UNSENT_MAX,
            ..http2::Config::default()
        };
        let mut engine = Server::new(&config);
        if desk.is_draining {
            engine.drain();
        }
        Self {
            key,
            engine,
            calls: FxHashMap::default(),
            keepalive: Keepalive::new(desk.now),
            watches: Vec::new(),
            held_up: Vec::new(),
            parked: VecDeque::new(),
            giant: None,
            lent: Vec::new(),
            partial_bytes: 0,
            unwritten_counted: 0,
            last_written: desk.now,
            greeting_deadline: Some(deadline),
            pings: 0,
            has_asked: false,
            is_counted: true,
            is_read_paused: false,
            drain_deadline: None,
            close_deadline: None,
        }
    }

    /// Whether to read no more for now; remembers that something may be unread.
    pub(crate) fn pauses_reading(&mut self) -> bool {
        self.is_read_paused = self.engine.is_congested();
        self.is_read_paused
    }

    /// Whether reading was paused and may go on.
    pub(crate) fn resumes_reading(&mut self) -> bool {
        self.is_read_paused && !self.pauses_reading()
    }

    /// What is to be written.
    pub(crate) fn output(&mut self) -> &mut Output {
        let queued = self.engine.unsent_total();
        // A queue moves on when the client opens its window: that is an answer, too, and what the
        // client measures with its pings.
        if queued > 0 {
            self.engine.output();
            if self.engine.unsent_total() < queued {
                self.keepalive.sent();
            }
        }
        self.engine.output()
    }

    /// Whether the connection ends when all is written.
    pub(crate) fn wants_close(&self) -> bool {
        self.engine.wants_close()
    }

    /// Takes bytes of the client.
    pub(crate) fn receive(&mut self, data: &[u8], desk: &mut Desk) {
        self.keepalive.read(desk.now);
        self.engine.limit_streams(desk.load.streams_max(&desk.link.limits));
        self.take_events(data, desk);
    }

    /// Lets go on what waited for output to be written.
    pub(crate) fn refill(&mut self, desk: &mut Desk) {
        self.take_events(&[], desk);
        if !self.parked.is_empty() {
            self.unpark(desk);
        }
        if !self.watches.is_empty() {
            self.tend_watches(desk);
        }
        if !self.held_up.is_empty() && desk.has_room_for_watches() {
            for stream in std::mem::take(&mut self.held_up) {
                self.release(stream);
            }
        }
    }

    /// Copies what of this turn's answers lies in memory that is only lent and was not written: a client that does not
    /// read must not keep the pages of the file that others want to use again.
    pub(crate) fn own_lent(&mut self) {
        if !self.lent.is_empty() {
            self.engine.own_unwritten(self.lent.drain(..));
        }
    }

    fn take_events(&mut self, mut input: &[u8], desk: &mut Desk) {
        let now_ms = desk.now_ms();
        loop {
            let event = match self.engine.receive(now_ms, &mut input) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "closing a client's connection");
                    return;
                }
            };
            match event {
                Event::Headers { stream, head, end } => {
                    log_fields(head);
                    let accepted = grpc::accept(head, desk.link.limits.enable_reflection);
                    let admitted = match &accepted {
                        Ok(accepted) => desk.admit(accepted, head.get(Name::ClientApiVersion)),
                        Err(_) => Ok(()),
                    };
                    #[cfg(feature = "interop")]
                    let echo = service::interop::Echo::of(head);
                    self.open(stream, accepted, admitted, end, desk);
                    #[cfg(feature = "interop")]
                    if let Some(call) = self.calls.get_mut(&stream) {
                        call.answer.echo = echo;
                    }
                }
                Event::Data { stream, data, end } => self.data(stream, data, end, desk),
                Event::Trailers { stream, .. } => self.data(stream, &[], true, desk),
                Event::Reset { stream, .. } => self.forget(stream, Code::Canceled, desk),
                Event::Writable { stream } => {
                    self.list_watch(stream);
                    self.pump_stream(stream, desk);
                }
                Event::Ping { .. } => self.pinged(desk),
                Event::Drained | Event::PingAck { .. } | Event::GoAway { .. } => {}
            }
        }
    }

    fn pinged(&mut self, desk: &Desk) {
        self.pings += 1;
        let has_calls = self.engine.open_streams() > 0;
        if self.keepalive.is_abused_by_ping(desk.now, has_calls, &desk.link.limits) {
            self.engine.go_away(ErrorCode::ENHANCE_YOUR_CALM, b"too_many_pings");
        }
    }

    /// A request's head came.
    fn open(
        &mut self,
        stream: StreamId,
        accepted: Result<Head, Refusal>,
        admitted: Result<(), Error>,
        end: bool,
        desk: &mut Desk,
    ) {
        let head = match accepted {
            Ok(head) => head,
            Err(refusal) => return self.refuse(stream, &refusal, desk),
        };
        let key = CallKey { connection: self.key, stream };
        let state = match head.rpc {
            Rpc::Watch => {
                State::Stream(Stream::Watch(watch::Stream::new(desk.open_watch_stream(key))))
            }
            Rpc::LeaseKeepAlive => {
                State::Stream(Stream::LeaseKeepAlive(lease::KeepAlive::default()))
            }
            Rpc::ServerReflectionInfo => {
                State::Stream(Stream::Reflection(reflection::Reflection::default()))
            }
            #[cfg(feature = "interop")]
            Rpc::TestServiceStreamingInputCall | Rpc::TestServiceFullDuplexCall => {
                let duplex = service::interop::Duplex::open(desk, head.rpc, key);
                State::Stream(Stream::Interop(duplex))
            }
            _ => State::Request,
        };
        if matches!(state, State::Stream(_)) {
            self.engine.hold_window(stream);
        }
        desk.counters.started(head.rpc);
        desk.load.calls += 1;
        self.engine.limit_streams(desk.load.streams_max(&desk.link.limits));
        self.calls.insert(stream, Call::new(key, &head, desk.now, state));
        if let Err(error) = admitted {
            return self.finish(stream, &error.into(), desk);
        }
        if !service::is_implemented(head.rpc) {
            return self.finish(stream, &service::unimplemented(head.rpc), desk);
        }
        if end {
            self.data(stream, &[], true, desk);
        }
    }

    /// Answers a request that is not a call.
    fn refuse(&mut self, stream: StreamId, refusal: &Refusal, desk: &Desk) {
        if let Some(rpc) = refusal.rpc {
            desk.counters.started(rpc);
            desk.counters.handled(rpc, refusal.status.code);
        }
        let content_type =
            if refusal.in_words { grpc::PLAIN_TEXT } else { grpc::content_type(false) };
        let status = StatusFields::new(&refusal.status);
        let fields: Vec<Field<'_>> = std::iter::once(content_type).chain(status.fields()).collect();
        self.keepalive.sent();
        self.engine.send_headers(stream, refusal.http_status, &fields, !refusal.in_words);
        // DIFF(etcd): grpc-go's answer has no body.
        if refusal.in_words {
            let text = format!("{}\n", refusal.status.message);
            self.engine.send_data(stream, text.as_bytes(), true);
        }
    }

    /// A piece of a request's body came.
    fn data(&mut self, stream: StreamId, mut data: &[u8], end: bool, desk: &mut Desk) {
        let max = desk.link.limits.max_receive_bytes();
        let Some(call) = self.calls.get_mut(&stream) else { return };
        call.held += data.len();
        loop {
            let Some(call) = self.calls.get_mut(&stream) else { return };
            let message = match call.input.next(&mut data, max) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(status) => return self.finish(stream, &status, desk),
            };
            desk.received(call.info.rpc, message.len());
            match &mut call.state {
                State::Request if is_full(&self.engine, self.giant, desk) => {
                    self.parked.push_back(Parked::Request(stream, message.to_vec()));
                    call.state = State::Waiting;
                    call.parked_bytes = message.len();
                    return self.account(stream, desk);
                }
                State::Request => {
                    let result = service::dispatch(desk, &call.info, message);
                    call.input = Input::default();
                    if call.partial_counted > 0 {
                        self.partial_bytes -= call.uncount(desk);
                    }
                    return self.completed(stream, result, desk);
                }
                State::Stream(Stream::Watch(watch)) => {
                    if let Err(status) = watch::request(desk, watch, message) {
                        return self.finish(stream, &status, desk);
                    }
                }
                State::Stream(Stream::LeaseKeepAlive(keep_alive)) => {
                    keep_alive.open += 1;
                    if let Err(status) = lease::keep_alive(desk, &call.info, message) {
                        return self.finish(stream, &status, desk);
                    }
                }
                State::Stream(Stream::Reflection(reflection)) => {
                    match reflection.request(desk, message) {
                        Ok(()) => self.send(stream, desk),
                        Err(status) => return self.finish(stream, &status, desk),
                    }
                    if self.engine.unsent(stream) > REFLECTION_UNSENT_MAX {
                        let text = "too many responses, and none is read";
                        let status = Status::fixed(Code::ResourceExhausted, text);
                        return self.finish(stream, &status, desk);
                    }
                }
                #[cfg(feature = "interop")]
                State::Stream(Stream::Interop(duplex)) => duplex.request(message),
                State::Waiting | State::Task(_) | State::Work(_) | State::Stream(_) => return,
            }
        }
        self.account(stream, desk);
        self.release_worked_off(stream, desk);
        if end {
            self.half_closed(stream, desk);
        }
    }

    /// Counts the bytes of requests that are not complete, and refuses more than a client's share.
    fn account(&mut self, stream: StreamId, desk: &mut Desk) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        let pending = call.input.pending() + call.parked_bytes;
        let before = std::mem::replace(&mut call.partial_counted, pending);
        self.partial_bytes = self.partial_bytes + pending - before;
        desk.load.count_incomplete(call.info.key, before, pending);
        if self.partial_bytes > PARTIAL_BYTES_MAX {
            self.end_incomplete(stream, desk);
        }
    }

    /// The client will send no more on this stream.
    fn half_closed(&mut self, stream: StreamId, desk: &mut Desk) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        match &mut call.state {
            State::Request => {
                let text = if call.input.pending() == 0 { "EOF" } else { "unexpected EOF" };
                self.finish(stream, &Status::fixed(Code::Unknown, text), desk);
            }
            State::Stream(Stream::LeaseKeepAlive(keep_alive)) => {
                if keep_alive.half_closed() {
                    self.finish(stream, &Status::OK, desk);
                }
            }
            State::Stream(Stream::Reflection(_)) => self.finish(stream, &Status::OK, desk),
            #[cfg(feature = "interop")]
            State::Stream(Stream::Interop(duplex)) => duplex.half_closed(),
            // A watch goes on without requests.
            State::Waiting | State::Task(_) | State::Work(_) | State::Stream(_) => {}
        }
    }

    /// Whether the end of a request is still to come.
    pub(crate) fn is_incomplete(&self, stream: StreamId) -> bool {
        self.calls.get(&stream).is_some_and(|call| call.partial_counted > 0)
    }

    /// Ends a request that has been on its way for longer than others, since they hold too much memory.
    pub(crate) fn end_incomplete(&mut self, stream: StreamId, desk: &mut Desk) {
        let status = Status::fixed(Code::ResourceExhausted, "too many incomplete requests");
        self.finish(stream, &status, desk);
    }

    /// Whether there is nothing to write but answers to this turn's pings, beside which a request came that is answered
    /// in a turn soon: one write will do for both. To be asked once in each turn.
    pub(crate) fn may_write_later(&mut self, desk: &Desk) -> bool {
        let pings = std::mem::take(&mut self.pings);
        let has_asked = std::mem::take(&mut self.has_asked);
        has_asked
            && desk.is_waiting()
            && pings > 0
            && self.output().remaining() == pings * PING_BYTES
    }

    /// The client has taken something.
    pub(crate) fn written(&mut self, desk: &Desk) {
        self.last_written = desk.now;
    }

    /// Tells the desk how much waits to be written.
    pub(crate) fn count_unwritten(&mut self, desk: &mut Desk) {
        let now = self.engine.unwritten();
        let before = std::mem::replace(&mut self.unwritten_counted, now);
        desk.load.unwritten_bytes = desk.load.unwritten_bytes + now - before;
    }

    /// Whether the client takes nothing of what waits for it, and memory is short for that.
    fn is_stalled(&self, desk: &Desk) -> bool {
        let limits = &desk.link.limits;
        desk.load.is_unwritten_too_much(limits)
            && self.unwritten_counted > desk.load.unwritten_max(limits, usize::MAX)
            && self.last_written + limits.stall_timeout <= desk.now
    }

    fn holds_requests_back(&self, stream: StreamId) -> bool {
        match self.calls.get(&stream).map(|call| &call.state) {
            Some(State::Stream(Stream::LeaseKeepAlive(_) | Stream::Reflection(_))) => true,
            #[cfg(feature = "interop")]
            Some(State::Stream(Stream::Interop(_))) => true,
            _ => false,
        }
    }

    /// Returns the window of a stream of requests, unless too many of them are under way.
    fn release_worked_off(&mut self, stream: StreamId, desk: &Desk) {
        let Some(call) = self.calls.get(&stream) else { return };
        let unsent = self.engine.unsent(stream);
        match &call.state {
            State::Stream(Stream::Watch(_)) if !desk.has_room_for_watches() => {
                self.held_up.push(stream);
            }
            State::Stream(Stream::LeaseKeepAlive(keep_alive))
                if keep_alive.open > RENEWALS_MAX || unsent > UNSENT_MAX => {}
            State::Stream(Stream::Reflection(_)) if unsent > UNSENT_MAX => {}
            #[cfg(feature = "interop")]
            State::Stream(Stream::Interop(duplex)) if duplex.is_behind() => {}
            State::Stream(_) => self.release(stream),
            State::Request | State::Waiting | State::Task(_) | State::Work(_) => {}
        }
    }

    fn release(&mut self, stream: StreamId) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        let held = std::mem::take(&mut call.held);
        self.engine.release(stream, held);
    }

    fn read_is_ready(&mut self, waiter: ReadWaiter, arena: &[u8], desk: &mut Desk) {
        let stream = waiter.call.key.stream;
        if !self.calls.contains_key(&stream) {
            return;
        }
        if is_full(&self.engine, self.giant, desk) {
            let (waiter, request) = waiter.detach(arena);
            return self.parked.push_back(Parked::Read(waiter, request));
        }
        let result = service::read_ready(desk, waiter, arena);
        self.completed(stream, result, desk);
    }

    /// Goes on with requests that were parked.
    fn unpark(&mut self, desk: &mut Desk) {
        while !is_full(&self.engine, self.giant, desk) {
            match self.parked.pop_front() {
                None => return,
                Some(Parked::Read(waiter, request)) => self.read_is_ready(waiter, &request, desk),
                Some(Parked::Request(stream, request)) => {
                    let Some(call) = self.calls.get_mut(&stream) else { continue };
                    call.parked_bytes = 0;
                    self.partial_bytes -= call.uncount(desk);
                    let result = service::dispatch(desk, &call.info, &request);
                    self.completed(stream, result, desk);
                }
            }
        }
    }

    fn completed(&mut self, stream: StreamId, result: Result<Next, Status>, desk: &mut Desk) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        match result {
            Err(status) => self.finish(stream, &status, desk),
            Ok(Next::Wait) => {
                if matches!(call.state, State::Request) {
                    call.state = State::Waiting;
                    self.has_asked = true;
                }
            }
            Ok(Next::Task(task)) => call.state = State::Task(task),
            Ok(Next::Work(work)) => call.state = State::Work(work),
            Ok(Next::Answer) if call.is_unary() => self.answer(stream, desk),
            Ok(Next::Answer) => {
                self.send(stream, desk);
                self.renewed(stream, desk);
            }
            Ok(Next::Stream(new)) => {
                call.state = State::Stream(new);
                self.pump_stream(stream, desk);
            }
        }
    }

    /// A renewal of a lease was answered.
    fn renewed(&mut self, stream: StreamId, desk: &mut Desk) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        let State::Stream(Stream::LeaseKeepAlive(keep_alive)) = &mut call.state else { return };
        if keep_alive.answered() {
            return self.finish(stream, &Status::OK, desk);
        }
        if call.held > 0 {
            self.release_worked_off(stream, desk);
        }
    }

    /// A unary response: the one in the desk's frame.
    fn answer(&mut self, stream: StreamId, desk: &mut Desk) {
        let Some(call) = self.calls.remove(&stream) else { return };
        desk.load.calls -= 1;
        desk.sent(call.info.rpc);
        desk.handled(&call.info, Code::Ok);
        service::warn_if_slow(&call.info, Code::Ok, desk);
        self.keepalive.sent();
        if desk.frame.message_len() > RESPONSES_MAX
            && self.giant.is_none_or(|giant| self.engine.unsent(giant) == 0)
        {
            self.giant = Some(stream);
        }
        call.answer.send_head(&mut self.engine, stream);
        if desk.frame.is_lent() {
            self.lent.push(stream);
        }
        call.answer.send_message(&mut self.engine, stream, &mut desk.frame);
        call.answer.send_end(&mut self.engine, stream);
        if self.engine.unsent_total() > 0 {
            self.count_unwritten(desk);
        }
    }

    /// A response of a stream: the one in the desk's frame.
    fn send(&mut self, stream: StreamId, desk: &mut Desk) {
        let Some(call) = self.calls.get(&stream) else { return };
        desk.sent(call.info.rpc);
        self.send_frame(stream, desk);
    }

    /// A response of a stream, the last in the desk's frame: sent with those before it when there are enough of them.
    fn gather(&mut self, stream: StreamId, desk: &mut Desk) {
        let Some(call) = self.calls.get(&stream) else { return };
        desk.sent(call.info.rpc);
        if call.answer.compresses() || desk.frame.len() >= GATHERED_MAX {
            self.send_frame(stream, desk);
            desk.frame.clear();
        }
    }

    /// The desk's frame, for a stream.
    fn send_frame(&mut self, stream: StreamId, desk: &mut Desk) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        self.keepalive.sent();
        if !std::mem::replace(&mut call.head_sent, true) {
            call.answer.send_head(&mut self.engine, stream);
        }
        if desk.frame.is_lent() {
            self.lent.push(stream);
        }
        call.answer.send_message(&mut self.engine, stream, &mut desk.frame);
    }

    /// Ends a call with a status.
    pub(crate) fn finish(&mut self, stream: StreamId, status: &Status, desk: &mut Desk) {
        let Some(call) = self.forget_call(stream, status.code, desk) else { return };
        self.keepalive.sent();
        if call.head_sent {
            if status.code == Code::Ok {
                return call.answer.send_end(&mut self.engine, stream);
            }
            let status = StatusFields::new(status);
            let fields: Vec<Field<'_>> = status.fields().collect();
            return self.engine.send_trailers(stream, &fields);
        }
        let status = StatusFields::new(status);
        let content_type = call.answer.content_type();
        let fields: Vec<Field<'_>> = std::iter::once(content_type).chain(status.fields()).collect();
        self.engine.send_headers(stream, 200, &fields, true);
    }

    /// The client gave a call up.
    fn forget(&mut self, stream: StreamId, code: Code, desk: &mut Desk) {
        self.forget_call(stream, code, desk);
    }

    fn forget_call(&mut self, stream: StreamId, code: Code, desk: &mut Desk) -> Option<Call> {
        let mut call = self.calls.remove(&stream)?;
        self.partial_bytes -= call.uncount(desk);
        desk.load.calls -= 1;
        desk.handled(&call.info, code);
        match &call.state {
            State::Stream(Stream::Watch(watch)) => desk.close_watch_stream(watch.hub_stream),
            State::Waiting | State::Work(_) => service::warn_if_slow(&call.info, code, desk),
            // A request that never came took no time; whoever leaves many must not fill the log.
            State::Request | State::Task(_) | State::Stream(_) => {}
        }
        Some(call)
    }

    /// Lets a stream of responses go on, as far as the client takes them.
    fn pump_stream(&mut self, stream: StreamId, desk: &mut Desk) {
        while self.engine.unsent(stream) <= UNSENT_MAX {
            let Some(call) = self.calls.get_mut(&stream) else { return };
            let State::Stream(kind) = &mut call.state else { return };
            let step = match kind.advance(desk, call.info.key) {
                Ok(step) => step,
                Err(status) => return self.finish(stream, &status, desk),
            };
            if step.has_message() {
                self.send(stream, desk);
            }
            if step.is_last() {
                return self.finish(stream, &Status::OK, desk);
            }
            if step == Step::Idle {
                if self.holds_requests_back(stream) {
                    self.release_worked_off(stream, desk);
                }
                return;
            }
        }
    }

    /// Sends what waited on watch streams whose client keeps up, and tells the hub what has left.
    fn tend_watches(&mut self, desk: &mut Desk) {
        if self.engine.unsent_total() > UNSENT_TOTAL_MAX {
            return;
        }
        for stream in std::mem::take(&mut self.watches) {
            self.send_waiting(stream, desk);
            let is_full = self.engine.unsent_total() > UNSENT_TOTAL_MAX;
            let unsent = self.engine.unsent(stream);
            let Some(watch) = self.watch(stream) else { continue };
            if is_full {
                self.watches.push(stream);
                continue;
            }
            watch.is_listed = false;
            if unsent <= UNSENT_MAX {
                watch.acknowledge(desk);
            }
        }
    }

    fn watch(&mut self, stream: StreamId) -> Option<&mut watch::Stream> {
        match &mut self.calls.get_mut(&stream)?.state {
            State::Stream(Stream::Watch(watch)) => Some(watch),
            _ => None,
        }
    }

    /// Sees to it that a watch stream is looked after when there is room.
    fn list_watch(&mut self, stream: StreamId) {
        if let Some(watch) = self.watch(stream)
            && !std::mem::replace(&mut watch.is_listed, true)
        {
            self.watches.push(stream);
        }
    }

    fn has_room_for_events(&self, stream: StreamId) -> bool {
        self.engine.unsent(stream) <= UNSENT_MAX && self.engine.unsent_total() <= UNSENT_TOTAL_MAX
    }

    /// Sends what waits on a stream of watches, as far as there is room.
    fn send_waiting(&mut self, stream: StreamId, desk: &mut Desk) {
        self.send_events(stream, desk, |http2| http2.watch(stream)?.waiting.pop_front());
    }

    /// Makes messages of what the hub says as long as there is room. They leave together.
    fn send_events<R: Borrow<Response>>(
        &mut self,
        stream: StreamId,
        desk: &mut Desk,
        mut next: impl FnMut(&mut Self) -> Option<R>,
    ) {
        desk.frame.clear();
        while (desk.frame.len() > 0 || self.has_room_for_events(stream))
            && let Some(response) = next(self)
        {
            if let Some(watch) = self.watch(stream) {
                watch.unacked += 1;
            }
            let response = response.borrow();
            if let Err(status) = watch::respond(desk, response, |desk| self.gather(stream, desk)) {
                self.send_gathered(stream, desk);
                return self.finish(stream, &status, desk);
            }
        }
        self.send_gathered(stream, desk);
    }

    fn send_gathered(&mut self, stream: StreamId, desk: &mut Desk) {
        if desk.frame.len() > 0 {
            self.send_frame(stream, desk);
        }
    }

    /// Deadlines, leader loss, keep-alive; about once a second.
    pub(crate) fn tick(&mut self, desk: &mut Desk) -> Fate {
        match self.keepalive.duty(desk.now, &desk.link.limits) {
            Duty::None => {}
            Duty::Ping => self.engine.ping(*b"quorate\0"),
            Duty::Close => return Fate::Gone,
        }
        if self.engine.is_greeted() {
            self.greeting_deadline = None;
        }
        if self.greeting_deadline.is_some_and(|deadline| deadline <= desk.now) {
            return Fate::Gone;
        }
        if self.is_stalled(desk) {
            return Fate::Gone;
        }
        if self.engine.wants_close() {
            let deadline = *self.close_deadline.get_or_insert(desk.now + CLOSE_TIMEOUT);
            if deadline <= desk.now {
                return Fate::Gone;
            }
        }
        if self.drain_deadline.is_some_and(|deadline| deadline <= desk.now) {
            self.drain_deadline = None;
            self.engine.drain_now();
        }
        self.refill(desk);
        let is_leader_lost = desk.is_leader_lost();
        let mut ended = Vec::new();
        let mut told = Vec::new();
        for (stream, call) in &self.calls {
            let is_late = call.info.deadline.is_some_and(|deadline| deadline <= desk.now);
            if is_late {
                ended.push((*stream, Error::ContextDeadlineExceeded));
            } else if is_leader_lost && call.requires_leader && !call::is_unary(call.info.rpc) {
                ended.push((*stream, Error::NoLeader));
            } else if matches!(call.state, State::Stream(Stream::HealthWatch(_))) {
                told.push(*stream);
            }
        }
        for (stream, error) in ended {
            self.finish(stream, &error.into(), desk);
        }
        for stream in told {
            self.pump_stream(stream, desk);
        }
        Fate::Waits
    }

    /// Ends streams, which would never end by themselves, and lets the other calls end.
    pub(crate) fn drain(&mut self, desk: &mut Desk) {
        let endless = |call: &&Call| !call.is_unary();
        let streams: Vec<StreamId> =
            self.calls.values().filter(endless).map(|call| call.info.key.stream).collect();
        for stream in streams {
            self.finish(stream, &Error::Stopped.into(), desk);
        }
        self.engine.drain();
        self.drain_deadline = Some(desk.now + DRAIN_PING_TIMEOUT);
    }

    /// The client is gone, with all its calls.
    pub(crate) fn abandon(&mut self, desk: &mut Desk) {
        let streams: Vec<StreamId> = self.calls.keys().copied().collect();
        for stream in streams {
            self.forget(stream, Code::Canceled, desk);
        }
        if std::mem::take(&mut self.is_counted) {
            desk.load.connections -= 1;
            desk.load.unwritten_bytes -= std::mem::take(&mut self.unwritten_counted);
        }
    }
}

impl Calls for Http2 {
    fn complete(&mut self, call: CallKey, result: Result<Next, Status>, desk: &mut Desk) {
        self.completed(call.stream, result, desk);
    }

    fn read_ready(&mut self, waiter: ReadWaiter, arena: &[u8], desk: &mut Desk) {
        self.read_is_ready(waiter, arena, desk);
    }

    fn snapshot_read(
        &mut self,
        call: CallKey,
        result: Result<Box<SnapshotCursor>, Status>,
        desk: &mut Desk,
    ) {
        let stream = call.stream;
        let mut cursor = match result {
            Ok(cursor) => cursor,
            Err(status) => return self.finish(stream, &status, desk),
        };
        if cursor.respond(desk, |desk| self.send(stream, desk)) {
            return self.finish(stream, &Status::OK, desk);
        }
        let Some(call) = self.calls.get_mut(&stream) else { return };
        if let State::Stream(Stream::Snapshot(snapshot)) = &mut call.state {
            snapshot.resume(cursor);
        }
        self.pump_stream(stream, desk);
    }

    fn watch_responses(&mut self, call: CallKey, responses: &[Response], desk: &mut Desk) {
        let stream = call.stream;
        self.list_watch(stream);
        self.send_waiting(stream, desk);
        let mut rest = responses.iter();
        if self.watch(stream).is_some_and(|watch| watch.waiting.is_empty()) {
            self.send_events(stream, desk, |_| rest.next());
        }
        if let Some(watch) = self.watch(stream) {
            watch.waiting.extend(rest.cloned());
        }
    }

    fn pump(&mut self, call: CallKey, desk: &mut Desk) {
        self.pump_stream(call.stream, desk);
    }
}

/// Whether further requests wait until more is sent. As long as memory is not short, one giant answer does not count.
fn is_full(engine: &Server, giant: Option<StreamId>, desk: &Desk) -> bool {
    let max = desk.load.unwritten_max(&desk.link.limits, RESPONSES_MAX);
    let free = if max < RESPONSES_MAX { None } else { giant };
    engine.unsent_total() > max + free.map_or(0, |giant| engine.unsent(giant))
}

/// The words of Go's HTTP/2 library.
fn log_fields(head: &HeaderList) {
    if !tracing::enabled!(target: FIELDS_TARGET, tracing::Level::TRACE) {
        return;
    }
    let pseudo = [
        (":method", head.method()),
        (":scheme", head.scheme()),
        (":path", head.path()),
        (":authority", head.authority()),
    ];
    for (name, value) in
        pseudo.into_iter().chain(head.fields().map(|(_, name, value)| (name, value)))
    {
        let value = String::from_utf8_lossy(value);
        tracing::trace!(
            target: FIELDS_TARGET,
            "http2: decoded hpack field header field {name:?} = {value:?}"
        );
    }
}
