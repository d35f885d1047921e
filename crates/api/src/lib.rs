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

/// The client API and the requests that travel through raft.
pub mod etcdserverpb {
    #![allow(
        clippy::all,
        clippy::use_self,
        missing_docs,
        unused_qualifications,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// Stored keys and events.
pub mod mvccpb {
    #![allow(
        clippy::all,
        clippy::use_self,
        missing_docs,
        unused_qualifications,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Users, roles and permissions as stored.
pub mod authpb {
    #![allow(
        clippy::all,
        clippy::use_self,
        missing_docs,
        unused_qualifications,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

/// Members and the cluster version, as stored and as proposed.
pub mod membershippb {
    #![allow(
        clippy::all,
        clippy::use_self,
        missing_docs,
        unused_qualifications,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/membershippb.rs"));
}

/// Leases as stored, and the request for a lease between peers.
pub mod leasepb {
    #![allow(
        clippy::all,
        clippy::use_self,
        missing_docs,
        unused_qualifications,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/leasepb.rs"));
}

/// Raft messages, entries and states.
pub mod raftpb {
    #![allow(
        clippy::all,
        clippy::use_self,
        missing_docs,
        unused_qualifications,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/raftpb.rs"));
}

/// Records of the write-ahead log.
pub mod walpb {
    #![allow(
        clippy::all,
        clippy::use_self,
        missing_docs,
        unused_qualifications,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/walpb.rs"));
}

/// The envelope of a snapshot file.
pub mod snappb {
    #![allow(
        clippy::all,
        clippy::use_self,
        missing_docs,
        unused_qualifications,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/snappb.rs"));
}

/// The lock service.
pub mod v3lockpb {
    #![allow(
        clippy::all,
        clippy::use_self,
        missing_docs,
        unused_qualifications,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}

/// The election service.
pub mod v3electionpb {
    #![allow(
        clippy::all,
        clippy::use_self,
        missing_docs,
        unused_qualifications,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}

/// The service by which a server tells of itself, package `grpc.reflection.v1`.
pub mod reflectionpb {
    #![allow(
        clippy::all,
        clippy::use_self,
        missing_docs,
        unused_qualifications,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1.rs"));
}

/// The health service, package `grpc.health.v1`.
pub mod health {
    #![allow(
        clippy::all,
        clippy::use_self,
        missing_docs,
        unused_qualifications,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// The service by which gRPC's implementations judge each other, in builds for tests.
#[cfg(feature = "interop")]
pub mod grpc_testing {
    #![allow(
        clippy::all,
        clippy::use_self,
        missing_docs,
        unused_qualifications,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/grpc.testing.rs"));
}
