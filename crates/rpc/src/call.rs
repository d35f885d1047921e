//! One call on one stream of a connection.

use api::service::{Kind, Rpc};
use tokio::time::Instant;

use crate::desk::{CallInfo, CallKey};
use crate::grpc::Head;
use crate::message::Input;
use crate::service::{health, kv, lease, maintenance, watch};

/// A call from its head to its status.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) info: CallInfo,
    pub(crate) input: Input,
    pub(crate) state: State,
    pub(crate) proto_subtype: bool,
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
}

impl Call {
    pub(crate) fn new(key: CallKey, head: &Head, now: Instant, state: State) -> Self {
        let deadline = head.timeout.and_then(|timeout| now.checked_add(timeout));
        Self {
            info: CallInfo { key, rpc: head.rpc, begun: now, deadline },
            input: Input::new(head.allows_gzip),
            state,
            proto_subtype: head.proto_subtype,
            head_sent: false,
            requires_leader: head.requires_leader,
            held: 0,
            parked_bytes: 0,
            partial_counted: 0,
        }
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
