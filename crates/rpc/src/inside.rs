//! Calls from inside: tasks of this core make them, for requests of the JSON gateway and for the steps of locks and
//! elections. They meet the same handlers as the calls of connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use api::service::{Kind, Rpc};
use api::{Code, Error, Status};
use bytes::Bytes;
use http2::StreamId;
use mvcc::watch::Response;
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::call::{Calls, State, Step, Stream};
use crate::desk::{CallInfo, CallKey, ConnectionKey, Desk, Local, Next, ReadWaiter};
use crate::grpc::Head;
use crate::service::maintenance::SnapshotCursor;
use crate::service::{self, lease, watch};

/// The place of a connection that no connection has.
const INDEX: u32 = u32::MAX;
/// A call with more bytes than this untaken gets nothing new.
const UNTAKEN_MAX: usize = 64 << 10;
/// Renewals of one stream that may be under way.
const RENEWALS_MAX: usize = 1024;

/// In whose name a call is made.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A client's, that came over the gateway: it is checked and counted like any other.
    Client {
        head: Head,
        /// The version that the client names.
        api_version: Option<Vec<u8>>,
    },
    /// A step of a call that was admitted.
    Step(Rpc),
}

/// What a task asks of its core.
#[derive(Debug)]
pub(crate) enum Order {
    Open {
        id: u64,
        origin: Box<Origin>,
        /// The one request of a method that has one.
        request: Option<Bytes>,
        responses: mpsc::UnboundedSender<Result<Bytes, Status>>,
    },
    /// A further request; `room` is told when there is room for another.
    Request { id: u64, request: Bytes, room: oneshot::Sender<()> },
    /// There will be no more requests.
    HalfClose { id: u64 },
    /// The task has taken a response of so many bytes.
    Taken { id: u64, bytes: usize },
    /// Nobody waits for responses any more.
    Close { id: u64 },
}

/// Makes calls; every task has its own clone.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    core: mpsc::UnboundedSender<Local>,
    last: Arc<AtomicU64>,
}

impl Caller {
    pub(crate) fn new(core: mpsc::UnboundedSender<Local>) -> Self {
        Self { core, last: Arc::default() }
    }

    /// Makes a call with one request and one response, which are given without their frames.
    pub(crate) async fn unary(&self, origin: Origin, request: Bytes) -> Result<Bytes, Status> {
        let mut responses = self.open(origin, Some(request));
        responses.next().await.unwrap_or(Err(Error::Stopped.into()))
    }

    /// Makes a call with one request and many responses.
    pub(crate) fn server_stream(&self, origin: Origin, request: Bytes) -> Responses {
        self.open(origin, Some(request))
    }

    /// Makes a call with many of both.
    pub(crate) fn bidi(&self, origin: Origin) -> (Requests, Responses) {
        let responses = self.open(origin, None);
        (Requests { id: responses.id, caller: self.clone() }, responses)
    }

    fn open(&self, origin: Origin, request: Option<Bytes>) -> Responses {
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let (responses, messages) = mpsc::unbounded_channel();
        self.order(Order::Open { id, origin: Box::new(origin), request, responses });
        Responses { id, caller: self.clone(), messages }
    }

    /// If the core is gone, so is the other end of whatever waits for it.
    fn order(&self, order: Order) {
        let _ = self.core.send(Local::Inside(order));
    }
}

/// The requests of a call that has many.
#[derive(Debug)]
pub(crate) struct Requests {
    id: u64,
    caller: Caller,
}

impl Requests {
    /// Sends a request, and waits until there is room for another.
    pub(crate) async fn send(&self, request: Bytes) {
        let (room, has_room) = oneshot::channel();
        self.caller.order(Order::Request { id: self.id, request, room });
        // An error means that the call is over, which its responses tell.
        let _ = has_room.await;
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.caller.order(Order::HalfClose { id: self.id });
    }
}

/// The responses of a call; it is given up when this is dropped.
#[derive(Debug)]
pub(crate) struct Responses {
    id: u64,
    caller: Caller,
    messages: mpsc::UnboundedReceiver<Result<Bytes, Status>>,
}

impl Responses {
    /// The next response; an error is the last. `None`: the call has ended well.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Responses::next`], for who polls.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Status>>> {
        let message = std::task::ready!(self.messages.poll_recv(cx));
        if let Some(Ok(message)) = &message {
            self.caller.order(Order::Taken { id: self.id, bytes: message.len() });
        }
        Poll::Ready(message)
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.caller.order(Order::Close { id: self.id });
    }
}

/// The calls from inside of one core.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    calls: FxHashMap<u64, Call>,
    /// Watch streams with responses of which the hub does not know that they were taken.
    unacked: Vec<u64>,
}

#[derive(Debug)]
struct Call {
    info: CallInfo,
    state: State,
    responses: mpsc::UnboundedSender<Result<Bytes, Status>>,
    requires_leader: bool,
    /// It is a client's.
    is_counted: bool,
    /// Bytes of responses that the task has not taken.
    untaken: usize,
    /// Tells the task that there is room for another request.
    room: Option<oneshot::Sender<()>>,
}

/// Whether a call is one from inside.
pub(crate) fn is_inside(call: CallKey) -> bool {
    call.connection.index == INDEX
}

fn key_of(id: u64) -> CallKey {
    let generation = u32::try_from(id >> 32).unwrap_or(u32::MAX);
    let stream = StreamId(u32::try_from(id & u64::from(u32::MAX)).unwrap_or(u32::MAX));
    CallKey { connection: ConnectionKey { index: INDEX, generation }, stream }
}

fn id_of(key: CallKey) -> u64 {
    u64::from(key.connection.generation) << 32 | u64::from(key.stream.0)
}

impl Inside {
    /// Does what a task asks for.
    pub(crate) fn take(&mut self, order: Order, desk: &mut Desk) {
        match order {
            Order::Open { id, origin, request, responses } => {
                self.open(id, *origin, responses, desk);
                if let Some(request) = request {
                    self.request(id, &request, desk);
                }
            }
            Order::Request { id, request, room } => {
                let Some(call) = self.calls.get_mut(&id) else { return };
                call.room = Some(room);
                self.request(id, &request, desk);
                self.make_room(id, desk);
            }
            Order::HalfClose { id } => self.half_closed(id, desk),
            Order::Taken { id, bytes } => {
                let Some(call) = self.calls.get_mut(&id) else { return };
                call.untaken = call.untaken.saturating_sub(bytes);
                self.pump_call(id, desk);
                self.make_room(id, desk);
            }
            Order::Close { id } => self.forget(id, Code::Canceled, desk),
        }
    }

    fn open(
        &mut self,
        id: u64,
        origin: Origin,
        responses: mpsc::UnboundedSender<Result<Bytes, Status>>,
        desk: &mut Desk,
    ) {
        let key = key_of(id);
        let is_counted = matches!(origin, Origin::Client { .. });
        let (head, admitted) = match origin {
            Origin::Client { head, api_version } => {
                let admitted = desk.admit(&head, api_version.as_deref());
                (head, admitted)
            }
            Origin::Step(rpc) => (Head::new(rpc), Ok(())),
        };
        let state = match head.rpc {
            Rpc::Watch => {
                State::Stream(Stream::Watch(watch::Stream::new(desk.open_watch_stream(key))))
            }
            Rpc::LeaseKeepAlive => {
                State::Stream(Stream::LeaseKeepAlive(lease::KeepAlive::default()))
            }
            _ => State::Request,
        };
        if is_counted {
            desk.counters.started(head.rpc);
        }
        let deadline = head.timeout.and_then(|timeout| desk.now.checked_add(timeout));
        let info = CallInfo { key, rpc: head.rpc, begun: desk.now, deadline };
        let requires_leader = head.requires_leader;
        let call =
            Call { info, state, responses, requires_leader, is_counted, untaken: 0, room: None };
        self.calls.insert(id, call);
        if let Err(error) = admitted {
            self.finish(id, error.into(), desk);
        } else if !service::is_implemented(head.rpc) {
            self.finish(id, service::unimplemented(head.rpc), desk);
        }
    }

    fn request(&mut self, id: u64, request: &[u8], desk: &mut Desk) {
        let max = desk.link.limits.max_receive_bytes();
        let Some(call) = self.calls.get_mut(&id) else { return };
        if request.len() > max {
            let (len, max) = (request.len() as u64, max as u64);
            let status = api::error::transport::received_message_larger_than_max(len, max);
            return self.finish(id, status, desk);
        }
        if call.is_counted {
            desk.received(call.info.rpc, request.len());
        }
        match &mut call.state {
            State::Request => {
                let result = service::dispatch(desk, &call.info, request);
                self.completed(id, result, desk);
            }
            State::Stream(Stream::Watch(stream)) => {
                if let Err(status) = watch::request(desk, stream, request) {
                    self.finish(id, status, desk);
                }
            }
            State::Stream(Stream::LeaseKeepAlive(keep_alive)) => {
                keep_alive.open += 1;
                if let Err(status) = lease::keep_alive(desk, &call.info, request) {
                    self.finish(id, status, desk);
                }
            }
            State::Waiting | State::Task(_) | State::Work(_) | State::Stream(_) => {}
        }
    }

    fn half_closed(&mut self, id: u64, desk: &mut Desk) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let State::Stream(Stream::LeaseKeepAlive(keep_alive)) = &mut call.state
            && keep_alive.half_closed()
        {
            self.finish(id, Status::OK, desk);
        }
    }

    /// Lets the task send another request, unless too much is under way.
    fn make_room(&mut self, id: u64, desk: &Desk) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let has_room = match &call.state {
            State::Stream(Stream::Watch(_)) => desk.has_room_for_watches(),
            State::Stream(Stream::LeaseKeepAlive(keep_alive)) => keep_alive.open <= RENEWALS_MAX,
            _ => true,
        };
        if has_room
            && call.untaken <= UNTAKEN_MAX
            && let Some(room) = call.room.take()
        {
            let _ = room.send(());
        }
    }

    fn completed(&mut self, id: u64, result: Result<Next, Status>, desk: &mut Desk) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        match result {
            Err(status) => self.finish(id, status, desk),
            Ok(Next::Wait) => {
                if matches!(call.state, State::Request) {
                    call.state = State::Waiting;
                }
            }
            Ok(Next::Task(task)) => call.state = State::Task(task),
            Ok(Next::Work(work)) => call.state = State::Work(work),
            Ok(Next::Answer) if call.info.rpc.method().kind == Kind::Unary => {
                self.send(id, desk);
                self.finish(id, Status::OK, desk);
            }
            Ok(Next::Answer) => {
                self.send(id, desk);
                self.renewed(id, desk);
            }
            Ok(Next::Stream(stream)) => {
                call.state = State::Stream(stream);
                self.pump_call(id, desk);
            }
        }
    }

    fn renewed(&mut self, id: u64, desk: &mut Desk) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let State::Stream(Stream::LeaseKeepAlive(keep_alive)) = &mut call.state else { return };
        if keep_alive.answered() {
            return self.finish(id, Status::OK, desk);
        }
        self.make_room(id, desk);
    }

    /// Hands the response in the desk's frame to the task.
    fn send(&mut self, id: u64, desk: &mut Desk) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.is_counted {
            desk.sent(call.info.rpc);
        }
        let message = desk.frame.take_message();
        call.untaken += message.len();
        let _ = call.responses.send(Ok(message));
    }

    fn finish(&mut self, id: u64, status: Status, desk: &mut Desk) {
        let Some(call) = self.calls.get(&id) else { return };
        let code = status.code;
        if code != Code::Ok {
            let _ = call.responses.send(Err(status));
        }
        self.forget(id, code, desk);
    }

    fn forget(&mut self, id: u64, code: Code, desk: &mut Desk) {
        let Some(call) = self.calls.remove(&id) else { return };
        if call.is_counted {
            desk.handled(&call.info, code);
        }
        match &call.state {
            State::Stream(Stream::Watch(stream)) => desk.close_watch_stream(stream.hub_stream),
            State::Request | State::Waiting | State::Work(_) if call.is_counted => {
                service::warn_if_slow(&call.info, code, desk);
            }
            _ => {}
        }
    }

    /// Lets a stream of responses go on, as far as the task takes them.
    fn pump_call(&mut self, id: u64, desk: &mut Desk) {
        loop {
            let Some(call) = self.calls.get_mut(&id) else { return };
            if call.untaken > UNTAKEN_MAX {
                return;
            }
            let State::Stream(stream) = &mut call.state else { return };
            match stream.advance(desk, call.info.key) {
                Ok(step) => {
                    if step.has_message() {
                        self.send(id, desk);
                    }
                    if step.is_last() {
                        return self.finish(id, Status::OK, desk);
                    }
                    if step == Step::Idle {
                        return;
                    }
                }
                Err(status) => return self.finish(id, status, desk),
            }
        }
    }

    /// Tells the hub which responses were taken, for streams whose task keeps up.
    pub(crate) fn acknowledge(&mut self, desk: &mut Desk) {
        let calls = &mut self.calls;
        self.unacked.retain(|id| {
            let Some(call) = calls.get_mut(id) else { return false };
            let State::Stream(Stream::Watch(watch)) = &mut call.state else { return false };
            if call.untaken > UNTAKEN_MAX {
                return true;
            }
            watch.acknowledge(desk);
            watch.is_listed = false;
            false
        });
    }

    /// Deadlines and leader loss; about once a second.
    pub(crate) fn tick(&mut self, desk: &mut Desk) {
        let ended: Vec<(u64, Error)> = self
            .calls
            .iter()
            .filter_map(|(id, call)| Some((*id, self.reason_to_end(call, desk)?)))
            .collect();
        for (id, error) in ended {
            self.finish(id, error.into(), desk);
        }
        let ids: Vec<u64> = self.calls.keys().copied().collect();
        for id in ids {
            self.make_room(id, desk);
        }
    }

    fn reason_to_end(&self, call: &Call, desk: &Desk) -> Option<Error> {
        let is_late = |deadline: Instant| deadline <= desk.now;
        if call.info.deadline.is_some_and(is_late) {
            return Some(Error::ContextDeadlineExceeded);
        }
        let is_stream = call.info.rpc.method().kind != Kind::Unary;
        (is_stream && call.requires_leader && desk.is_leader_lost()).then_some(Error::NoLeader)
    }

    /// Ends streams, which would never end by themselves.
    pub(crate) fn drain(&mut self, desk: &mut Desk) {
        let endless = |call: &&Call| call.info.rpc.method().kind != Kind::Unary;
        let ids: Vec<u64> =
            self.calls.values().filter(endless).map(|call| id_of(call.info.key)).collect();
        for id in ids {
            self.finish(id, Error::Stopped.into(), desk);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

impl Calls for Inside {
    fn complete(&mut self, call: CallKey, result: Result<Next, Status>, desk: &mut Desk) {
        self.completed(id_of(call), result, desk);
    }

    fn read_ready(&mut self, waiter: ReadWaiter, arena: &[u8], desk: &mut Desk) {
        let id = id_of(waiter.call.key);
        if self.calls.contains_key(&id) {
            let result = service::read_ready(desk, waiter, arena);
            self.completed(id, result, desk);
        }
    }

    fn snapshot_read(
        &mut self,
        call: CallKey,
        result: Result<Box<SnapshotCursor>, Status>,
        desk: &mut Desk,
    ) {
        let id = id_of(call);
        let mut cursor = match result {
            Ok(cursor) => cursor,
            Err(status) => return self.finish(id, status, desk),
        };
        if cursor.respond(desk, |desk| self.send(id, desk)) {
            return self.finish(id, Status::OK, desk);
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let State::Stream(Stream::Snapshot(snapshot)) = &mut call.state {
            snapshot.resume(cursor);
        }
        self.pump_call(id, desk);
    }

    fn watch_responses(&mut self, call: CallKey, responses: &[Response], desk: &mut Desk) {
        let id = id_of(call);
        for response in responses {
            let Some(call) = self.calls.get_mut(&id) else { return };
            let State::Stream(Stream::Watch(watch)) = &mut call.state else { return };
            if !std::mem::replace(&mut watch.is_listed, true) {
                self.unacked.push(id);
            }
            watch.unacked += 1;
            desk.frame.clear();
            if let Err(status) = watch::respond(desk, response, |desk| self.send(id, desk)) {
                self.finish(id, status, desk);
            }
        }
    }

    fn pump(&mut self, call: CallKey, desk: &mut Desk) {
        self.pump_call(id_of(call), desk);
    }
}
