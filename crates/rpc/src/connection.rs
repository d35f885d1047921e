//! One connection: its socket, what it turned out to speak, and its calls.

mod http2;

use std::io::IoSlice;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Buf;
use tokio::time::Instant;

use crate::desk::{ConnectionKey, Desk};
use crate::transport::Transport;
pub use http2::FIELDS_TARGET;
pub(crate) use http2::Http2;

/// What an HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest first line of a request of HTTP/1.
const FIRST_LINE_MAX: usize = 4096;
/// How long a closed connection is read on, lest unread input make the kernel drop our last words.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// Reads of one connection in one turn.
const READS_MAX: usize = 16;
/// Rounds of writing and of filling up of one connection in one turn.
const WRITES_MAX: usize = 64;

/// Whether the first line is that of an HTTP/1 request; `None` as long as it is not whole. etcd hangs up without a word
/// on whoever begins otherwise.
fn speaks_http1(prefix: &[u8]) -> Option<bool> {
    let Some(end) = prefix.iter().position(|byte| *byte == b'\n') else {
        return (prefix.len() >= FIRST_LINE_MAX).then_some(false);
    };
    let line = prefix.get(..end).unwrap_or_default().trim_ascii_end();
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let version = words.nth(2).unwrap_or_default();
    Some(end < FIRST_LINE_MAX && matches!(version, b"HTTP/1.0" | b"HTTP/1.1"))
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) key: ConnectionKey,
    /// Puts this connection on the core's list of ready ones.
    pub(crate) waker: Waker,
    transport: Transport,
    pub(crate) phase: Phase,
    /// It is on the core's list of connections to be written.
    pub(crate) is_dirty: bool,
}

/// What the connection is about.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Nothing but these bytes came, which are the beginning of HTTP/2's preface.
    Sniff {
        prefix: Vec<u8>,
        deadline: Instant,
    },
    Http2(Box<Http2>),
    /// Everything is said; the rest of the input is dropped.
    Linger {
        deadline: Instant,
    },
}

/// What becomes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on, when its waker says so.
    Waits,
    /// It goes on in the next turn.
    Ready,
    /// What it has to write goes out at the end of the next turn.
    WritesLater,
    /// It is over.
    Gone,
    /// It speaks HTTP/1: the socket and these bytes go to the pages.
    Http1(Vec<u8>),
}

impl Connection {
    pub(crate) fn new(key: ConnectionKey, waker: Waker, transport: Transport, desk: &Desk) -> Self {
        let deadline = desk.now + desk.link.limits.handshake_timeout;
        let phase = Phase::Sniff { prefix: Vec::new(), deadline };
        Self { key, waker, transport, phase, is_dirty: false }
    }

    /// The socket, for somebody else.
    pub(crate) fn into_transport(self) -> Transport {
        self.transport
    }

    /// The calls, if it speaks HTTP/2.
    pub(crate) fn http2(&mut self) -> Option<&mut Http2> {
        match &mut self.phase {
            Phase::Http2(http2) => Some(http2),
            Phase::Sniff { .. } | Phase::Linger { .. } => None,
        }
    }

    /// Reads what there is, and works it off.
    pub(crate) fn read(&mut self, buffer: &mut [u8], desk: &mut Desk) -> Fate {
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..READS_MAX {
            if let Phase::Http2(http2) = &mut self.phase
                && http2.pauses_reading()
            {
                return Fate::Waits;
            }
            let read = match self.transport.poll_read(&mut cx, buffer) {
                Poll::Pending => return Fate::Waits,
                Poll::Ready(Ok(0) | Err(_)) => return Fate::Gone,
                Poll::Ready(Ok(read)) => read,
            };
            let data = buffer.get(..read).unwrap_or_default();
            match self.take(data, desk) {
                Fate::Ready => {}
                fate => return fate,
            }
        }
        Fate::Ready
    }

    fn take(&mut self, data: &[u8], desk: &mut Desk) -> Fate {
        match &mut self.phase {
            Phase::Http2(http2) => http2.receive(data, desk),
            Phase::Linger { .. } => {}
            Phase::Sniff { prefix, deadline } => {
                prefix.extend_from_slice(data);
                let seen = prefix.len().min(PREFACE.len());
                if prefix.get(..seen) != PREFACE.get(..seen) {
                    return match speaks_http1(prefix) {
                        None => Fate::Ready,
                        Some(true) => Fate::Http1(std::mem::take(prefix)),
                        Some(false) => Fate::Gone,
                    };
                }
                if seen < PREFACE.len() {
                    return Fate::Ready;
                }
                let (prefix, deadline) = (std::mem::take(prefix), *deadline);
                let mut http2 = Box::new(Http2::new(self.key, deadline, desk));
                http2.receive(&prefix, desk);
                self.phase = Phase::Http2(http2);
            }
        }
        Fate::Ready
    }

    /// Writes what there is, and lets streams that wait for room fill it up.
    pub(crate) fn write(&mut self, desk: &mut Desk) -> Fate {
        let fate = if let Phase::Http2(http2) = &mut self.phase
            && http2.may_write_later(desk)
        {
            Fate::WritesLater
        } else {
            self.write_some(desk)
        };
        if let Phase::Http2(http2) = &mut self.phase {
            http2.own_lent();
            http2.count_unwritten(desk);
        }
        fate
    }

    fn write_some(&mut self, desk: &mut Desk) -> Fate {
        let Phase::Http2(http2) = &mut self.phase else { return Fate::Waits };
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..WRITES_MAX {
            if !http2.output().has_remaining() {
                http2.refill(desk);
            }
            let output = http2.output();
            if !output.has_remaining() {
                return self.written(desk);
            }
            let mut slices = [IoSlice::new(&[]); 32];
            let filled = output.chunks_vectored(&mut slices);
            match self.transport.poll_write(&mut cx, slices.get(..filled).unwrap_or_default()) {
                Poll::Pending => {
                    http2.refill(desk);
                    return Fate::Waits;
                }
                Poll::Ready(Ok(0) | Err(_)) => return Fate::Gone,
                Poll::Ready(Ok(written)) => {
                    output.advance(written);
                    http2.written(desk);
                }
            }
        }
        Fate::Ready
    }

    /// All output is written.
    fn written(&mut self, desk: &mut Desk) -> Fate {
        let Phase::Http2(http2) = &mut self.phase else { return Fate::Waits };
        if http2.wants_close() {
            let waker = self.waker.clone();
            http2.abandon(desk);
            self.phase = Phase::Linger { deadline: desk.now + LINGER_TIMEOUT };
            return match self.transport.poll_shutdown(&mut Context::from_waker(&waker)) {
                Poll::Ready(Err(_)) => Fate::Gone,
                // Reads on until the client closes too.
                Poll::Ready(Ok(())) | Poll::Pending => Fate::Ready,
            };
        }
        if http2.resumes_reading() { Fate::Ready } else { Fate::Waits }
    }

    /// Looks after deadlines and keep-alive; to be called about once a second.
    pub(crate) fn tick(&mut self, desk: &mut Desk) -> Fate {
        match &mut self.phase {
            Phase::Sniff { deadline, .. } | Phase::Linger { deadline } => {
                if *deadline <= desk.now {
                    Fate::Gone
                } else {
                    Fate::Waits
                }
            }
            Phase::Http2(http2) => http2.tick(desk),
        }
    }

    /// Begins the graceful end.
    pub(crate) fn drain(&mut self, desk: &mut Desk) -> Fate {
        match &mut self.phase {
            Phase::Sniff { .. } => Fate::Gone,
            Phase::Linger { .. } => Fate::Waits,
            Phase::Http2(http2) => {
                http2.drain(desk);
                Fate::Waits
            }
        }
    }

    /// The socket is gone: so are all calls.
    pub(crate) fn abandon(&mut self, desk: &mut Desk) {
        if let Phase::Http2(http2) = &mut self.phase {
            http2.abandon(desk);
        }
    }
}
