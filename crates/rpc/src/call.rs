//! One call on one stream of a connection.

use api::Status;
use api::service::{Kind, Rpc};
use mvcc::watch::Response;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::desk::{CallInfo, CallKey, Desk, Next, ReadWaiter};
use crate::grpc::Head;
use crate::message::Input;
#[cfg(feature = "interop")]
use crate::service::interop;
use crate::service::maintenance::SnapshotCursor;
use crate::service::{health, kv, lease, maintenance, reflection, watch};
use crate::task::{Leash, TaskStream, Tether};

/// Where calls come from: what they wait for is brought back there. Nothing happens if a call is gone.
pub(crate) trait Calls {
    /// A handler has decided, or what a call waited for is there.
    fn complete(&mut self, call: CallKey, result: Result<Next, Status>, desk: &mut Desk);

    /// A linearizable read may be served.
    fn read_ready(&mut self, waiter: ReadWaiter, arena: &[u8], desk: &mut Desk);

    /// More of a snapshot was read.
    fn snapshot_read(
        &mut self,
        call: CallKey,
        result: Result<Box<SnapshotCursor>, Status>,
        desk: &mut Desk,
    );

    /// The hub has something for a stream.
    fn watch_responses(&mut self, call: CallKey, responses: &[Response], desk: &mut Desk);

    /// A stream has something new to send.
    fn pump(&mut self, call: CallKey, desk: &mut Desk);
}

/// A call from its head to its status.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) info: CallInfo,
    pub(crate) input: Input,
    pub(crate) state: State,
    pub(crate) answer: Answer,
    /// The answer's head is sent.
    pub(crate) head_sent: bool,
    /// The client wants the stream to end when there is no leader.
    pub(crate) requires_leader: bool,
    /// Bytes of the peer's window that are held because the requests in them are not worked off.
    pub(crate) held: usize,
    /// Bytes of a request that waits for earlier responses to be taken.
    pub(crate) parked_bytes: usize,
    /// Bytes of an incomplete or parked request that the connection has counted.
    pub(crate) partial_counted: usize,
}

/// How far a call is.
#[derive(Debug)]
pub(crate) enum State {
    /// Its one request has not arrived.
    Request,
    /// Its one request is with somebody else, who will answer through the desk.
    Waiting,
    /// A task works its one request off.
    Task(#[expect(dead_code, reason = "its drop ends the task")] Leash),
    /// Another thread does.
    Work(#[expect(dead_code, reason = "its drop ends the work")] Tether),
    /// Responses go out, and in some kinds requests come in.
    Stream(Stream),
}

/// A call with many responses.
#[derive(Debug)]
pub(crate) enum Stream {
    Watch(watch::Stream),
    LeaseKeepAlive(lease::KeepAlive),
    Range(Box<kv::RangeStream>),
    Snapshot(maintenance::SnapshotStream),
    HealthWatch(health::Watch),
    Reflection(reflection::Reflection),
    Task(TaskStream),
    #[cfg(feature = "interop")]
    Interop(interop::Duplex),
}

/// What became of an attempt to let a stream go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is a response in the desk's frame.
    Message,
    /// There is a response in the desk's frame, which is the last.
    LastMessage,
    /// The stream is over.
    End,
    /// There is nothing to send for now.
    Idle,
}

impl Step {
    /// Whether there is a response to be sent.
    pub(crate) fn has_message(self) -> bool {
        matches!(self, Self::Message | Self::LastMessage)
    }

    /// Whether the stream is over.
    pub(crate) fn is_last(self) -> bool {
        matches!(self, Self::LastMessage | Self::End)
    }
}

impl Stream {
    /// Makes the next response of a stream that goes on by itself, in the desk's frame.
    pub(crate) fn advance(&mut self, desk: &mut Desk, call: CallKey) -> Result<Step, Status> {
        match self {
            Self::Watch(_) | Self::LeaseKeepAlive(_) | Self::Reflection(_) => Ok(Step::Idle),
            Self::Snapshot(snapshot) => {
                snapshot.read_on(desk, call);
                Ok(Step::Idle)
            }
            Self::Range(range) => {
                Ok(if range.advance(desk)? { Step::LastMessage } else { Step::Message })
            }
            Self::HealthWatch(health) => {
                Ok(if health.advance(desk)? { Step::Message } else { Step::Idle })
            }
            Self::Task(task) => task.advance(desk),
            #[cfg(feature = "interop")]
            Self::Interop(duplex) => duplex.advance(desk),
        }
    }
}

impl Call {
    pub(crate) fn new(key: CallKey, head: &Head, now: Instant, state: State) -> Self {
        let deadline = head.timeout.and_then(|timeout| now.checked_add(timeout));
        Self {
            info: CallInfo { key, rpc: head.rpc, begun: now, deadline },
            input: Input::new(head.allows_gzip),
            state,
            answer: Answer::new(head),
            head_sent: false,
            requires_leader: head.requires_leader,
            held: 0,
            parked_bytes: 0,
            partial_counted: 0,
        }
    }

    /// Takes the bytes of an incomplete request off the desk's count; what they were.
    pub(crate) fn uncount(&mut self, desk: &mut Desk) -> usize {
        let bytes = std::mem::take(&mut self.partial_counted);
        desk.load.count_incomplete(self.info.key, bytes, 0);
        bytes
    }

    /// Whether the call has one request and one response.
    pub(crate) fn is_unary(&self) -> bool {
        is_unary(self.info.rpc)
    }
}

/// Whether a method has one request and one response.
pub(crate) fn is_unary(rpc: Rpc) -> bool {
    rpc.method().kind == Kind::Unary
}
