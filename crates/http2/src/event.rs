use crate::{ErrorCode, RequestHead};

/// A stream's number on its connection (RFC 9113 5.1.1); never used twice, so a late answer can name a stream that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// What the peer did. `'s` borrows from the [`crate::Server`], `'i` from the bytes given to `receive`.
#[derive(Debug)]
pub enum Event<'s, 'i> {
    /// A request opened `stream`; with `end`, it has no body. The head is valid: pseudo-headers complete, names lowercase.
    Headers { stream: StreamId, head: &'s RequestHead, end: bool },
    /// A piece of the request's body (a DATA frame, or as much of it as has arrived); with `end`, the last.
    /// `data` may be empty only when `end` is set.
    Data { stream: StreamId, data: &'i [u8], end: bool },
    /// Fields after the body; the request is complete. Only `fields()` and `get` of the head are of use.
    Trailers { stream: StreamId, trailers: &'s RequestHead },
    /// The stream is gone: the peer reset it, or (`by_peer` false) broke a rule on it and we did. Sends to it are ignored.
    Reset { stream: StreamId, code: ErrorCode, by_peer: bool },
    /// The queue of a stream that went above [`crate::Config::writable_mark`] is at or below it again.
    Writable { stream: StreamId },
    /// A PING came; its answer is queued already. For the keep-alive policy.
    Ping { opaque: [u8; 8] },
    /// The answer to a PING sent with [`crate::Server::ping`].
    PingAck { opaque: [u8; 8] },
    /// The peer will open no more streams.
    GoAway { code: ErrorCode },
    /// A graceful drain is complete: no stream is open and none will be; flush and close.
    Drained,
}
