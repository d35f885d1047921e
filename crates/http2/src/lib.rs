//! What: HTTP/2 (RFC 9113) and HPACK (RFC 7541) for gRPC as a state machine: bytes in, events out; answers in, bytes out.
//! Never: opens a socket, reads a clock, spawns, locks, draws a random number, or knows what a gRPC message is.
//! Entry: [`Server`] with [`Config`]; [`Event`] comes out, [`Output`] holds what is to be written.
//! Thread: whichever owns the connection's socket; a `Server` is plain data and belongs to one thread at a time.
//! Test: `cargo test -p http2`; the judges are the RFCs' vectors, properties over random bytes, and the `h2` crate.
//!
//! ```text
//!   socket bytes --receive(now, &mut input)--> Event, Event, ...      (borrowed: no copy, no allocation)
//!   answers ------send_headers/data/trailers--> per-stream queues --output()--> socket bytes, one write a turn
//! ```
//!
//! One turn of a connection's owner:
//!
//! ```ignore
//! let mut input = &buffer[..read];
//! while let Some(event) = http2.receive(now_ms, &mut input)? {
//!     match event {
//!         Event::Headers { stream, head, end } => ...,   // `head` lives until the next call of a `&mut` method
//!         Event::Data { stream, data, end } => ...,      // `data` is a part of `buffer`
//!         ...
//!     }
//! }
//! let output = http2.output();                            // frames queued data, fairly, up to a mark
//! while output.has_remaining() { socket.try_write_buf(output)? }
//! ```
//!
//! An `Err` from `receive` is a connection error: GOAWAY is already in the output; flush, then close.

mod budget;
mod config;
mod error;
mod event;
mod field;
mod flow;
mod frame;
mod head;
mod hpack;
mod output;
mod server;
mod streams;

pub use config::Config;
pub use error::{Error, ErrorCode};
pub use event::{Event, StreamId};
pub use field::{Field, Indexing, Name};
pub use head::RequestHead;
pub use output::Output;
pub use server::Server;
