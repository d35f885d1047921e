//! What it is: the way to the other members, equal to etcd's rafthttp: streams, pipeline, snapshots, probes, the peer port.
//! What it never does: look into a message further than its address, wait for its owner, let a peer choose how much memory it takes.
//! Entry types: [`Transport`], [`Config`]; [`Owner`] takes each [`Event`] and [`Request`].
//! Owner: a thread of its own, `peers`; the consensus thread calls [`Transport::send`], which never waits.
//! How to test it: `cargo test -p transport`; `cargo xtask peers` against etcd itself.
//!
//! ```text
//! consensus --send--> Peer -+- msgapp stream (the peer has asked for it) --> MsgApp
//!                           +- message stream (likewise) -----------------> all others
//!                           +- pipeline, POST /raft ----------------------> while there is no stream
//!           --send_snapshot--- POST /raft/snapshot ----------------------> MsgSnap and the database
//!
//! the peer's streams --Reader--> Owner::event    the peer port --handler--> Owner::event, Owner::request
//! ```
//!
//! A stream is opened by who *receives*: a `GET` whose answer never ends. So two members have four streams
//! between them, and a member that can't be reached can still send.
//!
//! [`codec`] is free of sockets. TLS has two places to go to: `connect` for what this side opens, and
//! [`Transport::serve_connection`] for what it accepts.

mod body;
mod client;
pub mod codec;
mod connect;
mod event;
mod handler;
mod headers;
mod incoming;
mod io;
mod metrics;
mod pages;
mod peer;
mod pipeline;
mod probe;
mod reader;
mod shared;
mod snapshot;
mod status;
mod time;
mod tls;
mod transport;
mod url;
mod writer;

use cluster::hex;

pub use client::{Answer, Call};
pub use event::{Event, HashKv, LeaseRefusal, LeaseTtl, Owner, Refusal, Request, Versions};
pub use incoming::Pace;
pub use io::Connection;
pub use metrics::{Collectors, Metrics};
pub use pipeline::PIPELINE_MESSAGES_MAX;
pub use snapshot::OutSnapshot;
pub use tls::{Tls, TlsError, TlsFiles, TlsVersion};
pub use transport::{Config, DEFAULT_IO_TIMEOUT, Socket, Transport};
pub use url::PeerUrl;
pub use writer::STREAM_MESSAGES_MAX;
