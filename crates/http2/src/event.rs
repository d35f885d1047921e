use crate::{ErrorCode, HeaderList};

/// A stream's number on its connection (RFC 9113 5.1.1); never used twice, so a late answer can name a stream that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// What the peer did. `'s` borrows from the [`crate::Connection`], `'i` from the bytes given to `receive`.
#[derive(Debug)]
pub enum Event<'s, 'i> {
    /// A head: to a server it is a request's and opens `stream`, to a client an answer's (not one of 100 to 199,
    /// which are left out). With `end`, there is no body. It is valid: pseudo-headers complete, names lowercase.
    Headers { stream: StreamId, head: &'s HeaderList, end: bool },
    /// A piece of the body (a DATA frame, or as much of it as has arrived); with `end`, the last.
    /// `data` may be empty only when `end` is set.
    Data { stream: StreamId, data: &'i [u8], end: bool },
    /// Fields after the body; what the peer sends is complete. Only `fields()` and `get` of the head are of use.
    Trailers { stream: StreamId, trailers: &'s HeaderList },
    /// The stream is gone: the peer reset it, or (`by_peer` false) broke a rule on it and we did. Sends to it are
    /// ignored. To a client REFUSED_STREAM `by_peer` says that the server has not begun with the request, be it that it
    /// reset the stream or that it goes away and the stream is beyond the last that it handles.
    Reset { stream: StreamId, code: ErrorCode, by_peer: bool },
    /// The queue of a stream that went above [`crate::Config::writable_mark`] is at or below it again.
    Writable { stream: StreamId },
    /// A PING came; its answer is queued already. For the keep-alive policy.
    Ping { opaque: [u8; 8] },
    /// The answer to a PING sent with [`crate::Connection::ping`].
    PingAck { opaque: [u8; 8] },
    /// The peer goes away. A client can open no more streams; those that it still has are answered.
    GoAway { code: ErrorCode },
    /// A server's graceful drain is complete: no stream is open and none will be; flush and close.
    Drained,
}
