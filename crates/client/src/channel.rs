//! One connection to one endpoint. This is the one place that knows how gRPC is spoken.
//!
//! A connection has one socket and no way to another, so that a broken connection stays broken and a failed
//! call says whether its request can have gone out: whoever keeps the connections decides what follows.
//!
//! Callers queue what they have to say in the state that they share with the connection's task (`driver`), which owns
//! the socket. It reads what there is, wakes those whose calls have news, and writes what they said meanwhile at once.

mod driver;

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use api::error::transport::streaming_message_larger_than_max;
use api::{Code, Status};
use bytes::Bytes;
use grpc::{CallId, Connection, End, Field, Kind, Next, Unopened};
use prost::Message;
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::endpoint::Target;

/// How long a connection may take until the server has said that it speaks HTTP/2 (grpc-go's minimum).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How this client presents itself.
const USER_AGENT: &str = concat!("quorate/", env!("CARGO_PKG_VERSION"));

/// How connections are made and what they carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) keep_alive: Option<(Duration, Duration)>,
    pub(crate) keep_alive_while_idle: bool,
    pub(crate) send_bytes_max: usize,
    pub(crate) receive_bytes_max: usize,
}

/// What goes with a call beside its message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) token: Option<String>,
    pub(crate) require_leader: bool,
}

/// How a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    /// Whether it is certain that the server has not begun with the request.
    pub(crate) is_unsent: bool,
}

impl From<End> for Failure {
    fn from(end: End) -> Self {
        Self { status: end.status, is_unsent: end.is_unsent }
    }
}

/// A connection; ends when the last clone and all calls have ended.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    handle: Arc<Handle>,
    options: Options,
}

/// What keeps the connection's task alive.
#[derive(Debug)]
struct Handle(Arc<Shared>);

/// What callers and the connection's task share. A lock, since both are at home on any thread; it is held to queue
/// and to look, never while the socket is read or written.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    closed: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    connection: Connection,
    /// Who waits for news of a call.
    waiting: FxHashMap<CallId, Waker>,
    /// Who waits for the server to allow one more call.
    crowded_out: Vec<Waker>,
    /// The connection's task, if it is not awake already.
    task: Option<Waker>,
    /// Why there is no connection any more.
    ended: Option<String>,
    /// Nobody has use for the connection any more.
    is_abandoned: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// There is something to write.
    fn wake_task(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    fn wait_for_news(&mut self, call: CallId, context: &Context<'_>) {
        match self.waiting.get_mut(&call) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                self.waiting.insert(call, context.waker().clone());
            }
        }
    }

    fn tell(&mut self, call: CallId) {
        if let Some(waker) = self.waiting.remove(&call) {
            waker.wake();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_abandoned = true;
        state.wake_task();
    }
}

impl Channel {
    /// Connects, and waits for the server to begin to speak HTTP/2.
    ///
    /// # Errors
    /// Why not, as text.
    pub(crate) async fn connect(target: &Target, options: Options) -> Result<Self, String> {
        if let Target::Nowhere(address, why) = target {
            let address =
                if address.is_empty() { String::new() } else { format!("address {address}: ") };
            return Err(format!("{address}{why}"));
        }
        tokio::time::timeout(CONNECT_TIMEOUT, driver::open(target, options))
            .await
            .unwrap_or_else(|_| Err("timed out".to_owned()))
            .map_err(|reason| format!("{}: {reason}", target.shown()))
    }

    /// Whether the connection is of no use any more.
    pub(crate) fn is_closed(&self) -> bool {
        *self.handle.0.closed.borrow()
    }

    /// Waits until the connection is of no use any more.
    pub(crate) async fn wait_closed(&self) {
        let mut closed = self.handle.0.closed.subscribe();
        // The sender is in `self`.
        let _ = closed.wait_for(|is_closed| *is_closed).await;
    }

    /// Takes no further calls.
    pub(crate) fn close(&self) {
        self.handle.0.closed.send_replace(true);
    }

    /// A call with one request and one response.
    pub(crate) async fn unary<Q, A>(
        &self,
        path: &'static str,
        metadata: &Metadata,
        message: Q,
    ) -> Result<A, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let (length, max) = (message.encoded_len(), self.options.send_bytes_max);
        if length > max {
            let status = streaming_message_larger_than_max(length as u64, max as u64);
            return Err(Failure { status, is_unsent: false });
        }
        let mut call = self
            .start(path, metadata, Kind::Unary, |connection, call| {
                connection.send(call, &message, true);
            })
            .await?;
        let Some(answer) = call.next().await? else {
            let status = Status::fixed(Code::Internal, "an answer without a message");
            return Err(Failure { status, is_unsent: false });
        };
        decode(answer).map_err(|status| Failure { status, is_unsent: false })
    }

    /// A call with any number of messages either way. Returns when the server has begun to answer, which may be
    /// only with its first message.
    pub(crate) async fn streaming<Q, A>(
        &self,
        path: &'static str,
        metadata: &Metadata,
        messages: mpsc::UnboundedReceiver<Q>,
    ) -> Result<Answers<A>, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut call = self.start(path, metadata, Kind::Streaming, |_, _| {}).await?;
        let pump = tokio::spawn(pump(Arc::clone(&self.handle.0), call.id, messages));
        call.pump = Some(pump.abort_handle());
        call.begun().await?;
        Ok(Answers { call, types: PhantomData })
    }

    /// Begins a call, and says first what `first` says; waits while as many are under way as the server allows.
    async fn start(
        &self,
        path: &'static str,
        metadata: &Metadata,
        kind: Kind,
        first: impl Fn(&mut Connection, CallId),
    ) -> Result<Call, Failure> {
        let fields = Fields::new(metadata)?;
        let length_max = self.options.receive_bytes_max;
        let id = std::future::poll_fn(|context| {
            let mut state = self.handle.0.state();
            match state.connection.start(path, fields.list(), kind, length_max) {
                Ok(id) => {
                    first(&mut state.connection, id);
                    state.wake_task();
                    Poll::Ready(Ok(id))
                }
                Err(Unopened::Full) => {
                    state.crowded_out.push(context.waker().clone());
                    Poll::Pending
                }
                Err(Unopened::Ending) => {
                    let reason = state.ended.clone();
                    let reason = reason.unwrap_or_else(|| "the server is going away".to_owned());
                    let status = Status::new(Code::Unavailable, reason);
                    Poll::Ready(Err(Failure { status, is_unsent: true }))
                }
            }
        });
        Ok(Call { id: id.await?, handle: Arc::clone(&self.handle), pump: None, has_ended: false })
    }
}

/// Sends a stream's messages as they come.
async fn pump<Q: Message>(
    shared: Arc<Shared>,
    call: CallId,
    mut messages: mpsc::UnboundedReceiver<Q>,
) {
    while let Some(message) = messages.recv().await {
        let mut state = shared.state();
        state.connection.send(call, &message, false);
        // The call may have failed over it.
        state.tell(call);
        state.wake_task();
    }
    let mut state = shared.state();
    state.connection.half_close(call);
    state.wake_task();
}

/// A call under way. Given up when dropped before its end.
#[derive(Debug)]
struct Call {
    id: CallId,
    handle: Arc<Handle>,
    /// The task that sends the messages of a stream.
    pump: Option<AbortHandle>,
    has_ended: bool,
}

impl Call {
    /// Waits for the server to begin to answer.
    ///
    /// # Errors
    /// If it answers with nothing but a status that is not OK.
    async fn begun(&mut self) -> Result<(), Failure> {
        std::future::poll_fn(|context| {
            let mut state = self.handle.0.state();
            if state.connection.has_begun(self.id) {
                return Poll::Ready(());
            }
            state.wait_for_news(self.id, context);
            Poll::Pending
        })
        .await;
        let failure = self.handle.0.state().connection.take_failure(self.id);
        match failure {
            Some(end) => {
                self.has_ended = true;
                Err(end.into())
            }
            None => Ok(()),
        }
    }

    /// The next message, or `None` at an orderly end. May be given up and called again.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.has_ended {
            return Ok(None);
        }
        let next = std::future::poll_fn(|context| {
            let mut state = self.handle.0.state();
            match state.connection.next(self.id) {
                Next::Message(message) => {
                    // Room that was made is told to the server.
                    if state.connection.has_output() {
                        state.wake_task();
                    }
                    Poll::Ready(Ok(message))
                }
                Next::End(end) => Poll::Ready(Err(end)),
                Next::Pending => {
                    state.wait_for_news(self.id, context);
                    Poll::Pending
                }
            }
        });
        match next.await {
            Ok(message) => Ok(Some(message)),
            Err(end) => {
                self.has_ended = true;
                self.stop_pump();
                if end.status.code == Code::Ok { Ok(None) } else { Err(end.into()) }
            }
        }
    }

    fn stop_pump(&mut self) {
        if let Some(pump) = self.pump.take() {
            pump.abort();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.stop_pump();
        let mut state = self.handle.0.state();
        state.connection.cancel(self.id);
        state.waiting.remove(&self.id);
        for waker in state.crowded_out.drain(..) {
            waker.wake();
        }
        if !self.has_ended {
            state.wake_task();
        }
    }
}

/// The messages that a server sends.
#[derive(Debug)]
pub(crate) struct Answers<A> {
    call: Call,
    types: PhantomData<fn() -> A>,
}

impl<A: Message + Default> Answers<A> {
    /// The next one, or `None` at an orderly end. May be given up and called again.
    pub(crate) async fn next(&mut self) -> Result<Option<A>, Status> {
        match self.call.next().await {
            Ok(message) => message.map(decode).transpose(),
            Err(failure) => Err(failure.status),
        }
    }
}

fn decode<A: Message + Default>(message: Bytes) -> Result<A, Status> {
    A::decode(message).map_err(|error| {
        let message = format!("grpc: failed to unmarshal the received message: {error}");
        Status::new(Code::Internal, message)
    })
}

/// The fields of a request's head: those of every call, and the metadata behind them.
struct Fields<'a> {
    fields: [Field<'a>; 6],
    count: usize,
}

impl<'a> Fields<'a> {
    fn new(metadata: &'a Metadata) -> Result<Self, Failure> {
        const NONE: Field<'static> = Field::literal("", b"");
        let mut fields = [
            Field::indexed("content-type", b"application/grpc"),
            Field::indexed("user-agent", USER_AGENT.as_bytes()),
            Field::indexed("te", b"trailers"),
            Field::indexed("client-api-version", crate::API_VERSION.as_bytes()),
            NONE,
            NONE,
        ];
        let mut count = 4;
        let mut add = |field| {
            if let Some(place) = fields.get_mut(count) {
                *place = field;
            }
            count += 1;
        };
        if metadata.require_leader {
            add(Field::indexed("hasleader", b"true"));
        }
        if let Some(token) = &metadata.token {
            if !token.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                let text = "a token with characters that can't be sent";
                let status = Status::fixed(Code::Internal, text);
                return Err(Failure { status, is_unsent: false });
            }
            add(Field::indexed("token", token.as_bytes()));
        }
        Ok(Self { fields, count })
    }

    fn list(&self) -> &[Field<'a>] {
        self.fields.get(..self.count).unwrap_or_default()
    }
}
