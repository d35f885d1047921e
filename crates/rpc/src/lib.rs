//! What it is: the front door of a member: gRPC on our own HTTP/2 engine, and over HTTP/1.1 the JSON gateway and pages.
//! What it never does: write state, evaluate a write, or know of raft's roles; it asks consensus, apply and the watch hub.
//! Entry types: [`Core`], [`Inbox`] with [`Delivery`] and [`Tally`], [`Link`], [`State`], [`Limits`], [`Metrics`].
//! Owner: one thread for each [`Core`]; [`State`] and [`Metrics`] are shared by all threads of the member.
//! How to test it: `cargo test -p rpc`; a member is faked by threads that answer the queues.
//!
//! ```text
//!            +------------------------- Core: one thread, one current-thread runtime -----------------------+
//!  socket -> | connection task -> http2::Server -> call -> handler -+-> answer at once                     |
//!            |                                                      +-> proposals of the turn -+           |
//!            |                                                      +-> reads of the turn -----+-> turn end --> consensus
//!            |                                                      +-> command, watch request --------------> apply, hub
//!            | Inbox (replies, reads, answers, watch responses) -> the call that waits -> http2::Server    |
//!  socket <- | turn end: every connection with output is written once                                      |
//!            +---------------------------------------------------------------------------------------------+
//! ```
//!
//! A turn is everything between two polls of the sockets. What its requests ask of consensus goes there as one
//! batch of proposals and one read index; what its answers make ready leaves each connection in one write.
//!
//! HTTP/1.1 is hyper's, on a task for each connection. The gateway's requests, and the steps of locks and elections, are
//! calls that tasks make (`inside`): they come in between two turns, and meet the same handlers.

mod answer;
mod call;
mod connection;
mod core;
mod desk;
mod gateway;
mod grpc;
mod id;
mod inbox;
mod inside;
mod keepalive;
mod limits;
mod link;
mod message;
mod metadata;
mod metrics;
mod pages;
mod service;
mod state;
mod task;
mod transport;

pub use connection::FIELDS_TARGET;
pub use core::Core;
pub use id::{PEER_CORE, RequestIds, SERVER_CORE, core_of};
pub use inbox::{Delivery, Inbox, Socket, Tally};
pub use limits::Limits;
pub use link::{AskLeader, LeaderAnswer, LeaderRequest, Link, WatchInput};
pub use metrics::Metrics;
pub use service::cluster::may_promote;
pub use state::State;
