//! What it is: HTTP/2 (RFC 9113) and HPACK (RFC 7541) for gRPC as a state machine: bytes in, events out; answers in, bytes out.
//! What it never does: open a socket, read a clock, spawn, lock, draw a random number, or know what a gRPC message is.
//! Entry types: [`Server`] with [`Config`]; [`Event`] comes out, [`Output`] holds what is to be written.
//! Owner: whichever owns the connection's socket; a `Server` is plain data and belongs to one thread at a time.
//! How to test it: `cargo test -p http2`; the judges are the RFCs' vectors, properties over random bytes, and the `h2` crate.
//!
//! ```text
//!   socket bytes --receive(now, &mut input)--> Event, Event, ...      (borrowed: no copy, no allocation)
//!   answers ------send_headers/data/trailers--> per-stream queues --output()--> socket bytes, one write a turn
//! ```
//!
//! One turn of a connection's owner: feed what was read, answer, write all that is due.
//!
//! ```
//! use bytes::Buf;
//! use http2::{Config, Event, Field, Server};
//!
//! fn turn(http2: &mut Server, now_ms: u64, read: &[u8]) -> Result<Vec<u8>, http2::Error> {
//!     let mut input = read;
//!     while let Some(event) = http2.receive(now_ms, &mut input)? {
//!         match event {
//!             // `head` lives until the next call that changes the connection; `data` is a part of `read`.
//!             Event::Headers { stream, head, end } => {
//!                 println!("{stream:?} {:?} {end}", head.path());
//!             }
//!             Event::Data { stream, data, end: true } => {
//!                 println!("{data:?}");
//!                 http2.send_headers(stream, 200, &[], false);
//!                 http2.send_data(stream, b"answer", false);
//!                 http2.send_trailers(stream, &[Field::indexed("grpc-status", b"0")]);
//!             }
//!             _ => {}
//!         }
//!     }
//!     let output = http2.output();
//!     Ok(output.copy_to_bytes(output.remaining()).into())
//! }
//!
//! let mut http2 = Server::new(&Config::default());
//! let written = turn(&mut http2, 0, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
//! assert!(written.ends_with(b"\0\0\0\x04\x01\0\0\0\0"), "SETTINGS are acknowledged");
//! # Ok::<(), http2::Error>(())
//! ```
//!
//! A unary call allocates nothing here: frames are handled where they lie in the caller's buffer, DATA is handed out
//! as it comes (in pieces if a read cut it), heads are decoded into one buffer that the next head overwrites, small
//! answers are framed straight into the output. A head that repeats the one before it, byte for byte and with the
//! same table, is not even decoded.
//!
//! What an attacker could make grow is bounded by [`Config`]: windows, header lists, table, streams, queued replies.
//! Frames that cost us more than they cost the peer draw on two allowances, one for resets and one for frames that
//! move nothing; time and useful frames give back. A flood ends in GOAWAY(ENHANCE_YOUR_CALM).
//!
//! Left out: push, priorities (read and ignored), CONNECT with `:protocol`, 1xx answers, the client's role (`frame`,
//! `hpack`, `flow`, `streams` and `output` know no role; `server` and `head` do). What a PING costs a client that
//! sends too many is the owner's policy: it gets every [`Event::Ping`].

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
