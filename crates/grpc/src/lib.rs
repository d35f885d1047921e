//! What it is: the client's half of gRPC as a state machine over [`http2::Client`]: calls in, messages and statuses out.
//! What it never does: open a socket, read a clock, spawn, lock, try again, or know what a message means.
//! Entry types: [`Connection`], whose calls are [`CallId`]s; [`Next`] is what a call has to say, [`End`] how it ended.
//! Owner: whichever owns the connection's socket; a `Connection` is plain data and belongs to one thread at a time.
//! How to test it: `cargo test -p grpc`; our own server half answers, in pieces of any size.
//!
//! ```text
//!   start, send, half_close --> frames --output()--> socket bytes
//!   socket bytes --receive()--> CallId with news --next()--> Message, Message, ..., End
//! ```
//!
//! Statuses have grpc-go's codes and texts, also those that the client makes itself, of a stream that was reset or an
//! answer that is not gRPC. An [`End`] tells whether the request is certain not to have been begun with, so that it can
//! be made again whatever it was.
//!
//! What a server can make grow is bounded: a message by the limit that the call was started with, messages that nobody
//! has taken by [`UNTAKEN_MAX`] and a window. A call with one answer takes one.
//!
//! Left out: compression (not offered, so no server uses it), deadlines on the wire (whoever waits cancels the call).

mod assembly;
mod call;
mod connection;
mod status;

pub use call::{End, Kind, Next};
pub use connection::{CallId, Connection, UNTAKEN_MAX};
pub use http2::{Field, Output, Unopened};
