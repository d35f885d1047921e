//! What it is: HTTP/2 (RFC 9113) and HPACK (RFC 7541) for gRPC as a state machine: bytes in, events out; answers in, bytes out.
//! What it never does: open a socket, read a clock, spawn, lock, draw a random number, or know what a gRPC message is.
//! Entry types: [`Server`] and [`Client`] with [`Config`]; [`Event`] comes out, [`Output`] holds what is to be written.
//! Owner: whichever owns the connection's socket; both are plain data and belong to one thread at a time.
//! How to test it: `cargo test -p http2`; the judges are the RFCs' vectors, properties over random bytes, the `h2` crate
//! on either side, also of bytes that nobody honest writes (`http2-fuzz`), and the two halves each other.
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
//! Both halves are one [`Connection`], which has the frames, tables, windows, queues and budgets. What differs is in
//! `server` and `client`: who opens streams, what a head is, when a stream is done, and how a connection ends.
//!
//! A client [opens](Client::open) streams instead of answering them. A head that repeats the one before it is a few
//! bytes, copied. A server that goes away, or refuses a stream, tells which requests it has not begun with;
//! [`Client::is_unsent`] tells which it can't know of. Both may be made again elsewhere.
//!
//! ```
//! # use bytes::Buf;
//! use http2::{Client, Config, Event, Request, Server};
//!
//! let (mut client, mut server) = (Client::new(&Config::default()), Server::new(&Config::default()));
//! let request =
//!     Request { method: "POST", scheme: "http", authority: "a", path: "/b", fields: &[] };
//! let stream = client.open(&request, true).expect("room for a stream");
//! let take = |output: &mut http2::Output| output.copy_to_bytes(output.remaining());
//! let sent = take(client.output());
//! let mut input = &sent[..];
//! while let Some(event) = server.receive(0, &mut input)? {
//!     if let Event::Headers { stream, .. } = event {
//!         server.send_headers(stream, 200, &[], true);
//!     }
//! }
//! let answer = take(server.output());
//! let event = client.receive(0, &mut &answer[..])?;
//! assert!(matches!(event, Some(Event::Headers { head, end: true, .. }) if head.status() == 200));
//! # Ok::<(), http2::Error>(())
//! ```
//!
//! Left out: push, priorities (read and ignored), CONNECT with `:protocol`, sending 1xx answers, HEAD. What a PING costs
//! a peer that sends too many is the owner's policy: it gets every [`Event::Ping`].

mod budget;
mod client;
mod config;
mod connection;
mod error;
mod event;
mod field;
mod flow;
mod frame;
mod header_list;
mod hpack;
mod output;
mod server;
mod streams;

pub use client::{Client, ClientHalf, Request, Unopened};
pub use config::Config;
pub use connection::Connection;
pub use error::{Error, ErrorCode};
pub use event::{Event, StreamId};
pub use field::{Field, Indexing, Name};
pub use header_list::HeaderList;
pub use output::Output;
pub use server::{Server, ServerHalf};
