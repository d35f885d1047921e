//! What it is: etcd's protocol buffers, codecs for the hot ones, the table of services and of errors.
//! What it never does: open a socket, know of HTTP/2, or trust the bytes it decodes.
//! Entry types: [`etcdserverpb`] and its sisters, [`service::lookup`], [`Error`], [`wire::Encode`].
//! Owner: none; all of it is plain data and pure functions.
//! How to test it: `cargo test -p api`; `PROPTEST_CASES=20000` for a long run.
//!
//! The `.proto` files under `proto/` are our own text with etcd's packages, names and numbers, and
//! `build.rs` makes the messages and the table of services from them. One module stands for one
//! package.
//!
//! A put or a range does not pass through the generated messages. Its bytes are read in place
//! ([`request`], [`txn`]), spliced into the log entry ([`internal`]), and what the backend stored
//! ([`key_value`]) is spliced into the response ([`response`], [`frame`]):
//!
//! ```text
//! PutRequest bytes -> PutRequestRef (checks) -> InternalRequestRef { op: Put(bytes) } -> entry
//! entry -> InternalRequestRef -> PutRequestRef -> KeyValueRef -> stored bytes
//! stored bytes -> RangeResponseRef / EventRef -> frame
//! ```
//!
//! Left out: requests that are not hot, which use prost. A `TxnRequest`, also inside an entry, must
//! be read by [`txn`]: prost refuses nesting that etcd accepts.

pub mod error;
pub mod frame;
pub mod internal;
pub mod json;
pub mod key_value;
pub mod path;
pub mod range;
pub mod reflection;
pub mod request;
pub mod response;
pub mod schema;
pub mod service;
pub mod splice;
pub mod txn;
pub mod wire;

pub use error::{Code, Error, Status};
pub use wire::DecodeError;

#[cfg(test)]
mod sample;

/// A module of what `build.rs` makes of a package.
macro_rules! generated {
    ($(#[$attribute:meta])* $name:ident, $package:literal) => {
        $(#[$attribute])*
        pub mod $name {
            #![allow(
                clippy::all,
                clippy::use_self,
                missing_docs,
                unused_qualifications,
                reason = "generated"
            )]
            include!(concat!(env!("OUT_DIR"), "/", $package, ".rs"));
        }
    };
}

generated! {
    /// The client API and the requests that travel through raft.
    etcdserverpb, "etcdserverpb"
}

generated! {
    /// Stored keys and events.
    mvccpb, "mvccpb"
}

generated! {
    /// Users, roles and permissions as stored.
    authpb, "authpb"
}

generated! {
    /// Members and the cluster version, as stored and as proposed.
    membershippb, "membershippb"
}

generated! {
    /// Leases as stored, and the request for a lease between peers.
    leasepb, "leasepb"
}

generated! {
    /// Raft messages, entries and states.
    raftpb, "raftpb"
}

generated! {
    /// Records of the write-ahead log.
    walpb, "walpb"
}

generated! {
    /// The envelope of a snapshot file.
    snappb, "snappb"
}

generated! {
    /// The lock service.
    v3lockpb, "v3lockpb"
}

generated! {
    /// The election service.
    v3electionpb, "v3electionpb"
}

generated! {
    /// The service by which a server tells of itself, package `grpc.reflection.v1`.
    reflectionpb, "grpc.reflection.v1"
}

generated! {
    /// The health service, package `grpc.health.v1`.
    health, "grpc.health.v1"
}

generated! {
    /// The service by which gRPC's implementations judge each other, in builds for tests.
    #[cfg(feature = "interop")]
    grpc_testing, "grpc.testing"
}
