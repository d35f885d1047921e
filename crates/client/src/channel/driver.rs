//! The task of a connection: it owns the socket.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use grpc::Connection;
use rustc_hash::FxHashMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::{Channel, Handle, Options, Shared, State};
use crate::endpoint::Target;

/// What is read and written at a time.
const READ_BYTES: usize = 64 << 10;
const WRITE_BYTES: usize = 256 << 10;

/// Why a connection ended that nobody had use for.
const ABANDONED: &str = "the connection was closed";

/// The head of a frame, up to its type.
const GREETING_BYTES: usize = 4;
/// The type byte of the frame that a server begins with.
const SETTINGS: u8 = 4;

/// A connected socket.
#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    async fn connect(target: &Target) -> io::Result<Self> {
        match target {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Target::Unix(path) => Ok(Self::Unix(UnixStream::connect(path).await?)),
            Target::Nowhere(_, why) => Err(io::Error::new(io::ErrorKind::InvalidInput, *why)),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Connects, waits for the server's first words, and leaves the connection to a task of its own.
pub(super) async fn open(target: &Target, options: Options) -> Result<Channel, String> {
    let mut socket = Socket::connect(target).await.map_err(|error| format!("connect: {error}"))?;
    let mut connection = Connection::new(target.authority());
    greet(&mut socket, &mut connection).await?;
    let state = State {
        connection,
        waiting: FxHashMap::default(),
        crowded_out: Vec::new(),
        task: None,
        ended: None,
        is_abandoned: false,
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), closed: watch::Sender::new(false) });
    let now = Instant::now();
    tokio::spawn(Driver {
        socket,
        shared: Arc::clone(&shared),
        buffer: vec![0; READ_BYTES].into(),
        unwritten: BytesMut::new(),
        has_yielded: false,
        begun: now,
        pulse: options.keep_alive.map(|_| Pulse {
            heard: now,
            asked: None,
            alarm: Box::pin(tokio::time::sleep_until(now)),
        }),
        options,
    });
    Ok(Channel { handle: Arc::new(Handle(shared)), options })
}

/// Says the first words, and waits for the server's.
async fn greet(socket: &mut Socket, connection: &mut Connection) -> Result<(), String> {
    let lost = |error: io::Error| format!("error reading from server: {error}");
    let mut said = Vec::new();
    while !connection.is_established() {
        let output = connection.output();
        let words = output.copy_to_bytes(output.remaining());
        socket.write_all(&words).await.map_err(lost)?;
        let before = said.len();
        let count = socket.read_buf(&mut said).await.map_err(lost)?;
        if count == 0 {
            let text = "the server closed the connection before it had said anything";
            return Err(text.to_owned());
        }
        match said.first_chunk::<GREETING_BYTES>() {
            None if said.len() < GREETING_BYTES => {}
            Some([_, _, _, SETTINGS]) | None => {}
            Some(b"HTTP") => return Err("the server speaks HTTP/1 and not gRPC".to_owned()),
            Some([0x15, 3, ..]) => return Err("the server wants TLS".to_owned()),
            Some(_) => return Err("the server does not speak HTTP/2".to_owned()),
        }
        let mut input = said.get(before..).unwrap_or_default();
        while connection.receive(0, &mut input).map_err(|error| error.to_string())?.is_some() {}
    }
    Ok(())
}

/// The task.
#[derive(Debug)]
struct Driver {
    socket: Socket,
    shared: Arc<Shared>,
    buffer: Box<[u8]>,
    unwritten: BytesMut,
    /// Others were let go first, so that what they say is written with the rest.
    has_yielded: bool,
    begun: Instant,
    pulse: Option<Pulse>,
    options: Options,
}

/// Whether the server is alive.
#[derive(Debug)]
struct Pulse {
    heard: Instant,
    /// Since when an answer is due.
    asked: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let driver = self.get_mut();
        let reason = ready!(driver.turn(context));
        driver.end(&reason);
        Poll::Ready(())
    }
}

impl Driver {
    /// Reads and writes what can be. Ready with the reason when the connection has ended.
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<String> {
        if let Poll::Ready(reason) = self.read(context) {
            // What is still to be said is the reason, for the server.
            let _ = self.write(context);
            return Poll::Ready(reason);
        }
        if let Poll::Ready(reason) = self.feel_pulse(context) {
            return Poll::Ready(reason);
        }
        self.write(context)
    }

    fn read(&mut self, context: &mut Context<'_>) -> Poll<String> {
        loop {
            let mut buffer = ReadBuf::new(&mut self.buffer);
            let result = ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer));
            let input = match result {
                Ok(()) if buffer.filled().is_empty() => {
                    return Poll::Ready("error reading from server: EOF".to_owned());
                }
                Ok(()) => buffer.filled(),
                Err(error) => return Poll::Ready(format!("error reading from server: {error}")),
            };
            let now = Instant::now();
            if let Some(pulse) = &mut self.pulse {
                (pulse.heard, pulse.asked) = (now, None);
            }
            let now_ms = now.duration_since(self.begun).as_millis();
            let now_ms = u64::try_from(now_ms).unwrap_or(u64::MAX);
            if let Err(reason) = take_news(&self.shared, now_ms, input) {
                return Poll::Ready(reason);
            }
        }
    }

    /// Asks for a sign of life when there was none for long.
    fn feel_pulse(&mut self, context: &mut Context<'_>) -> Poll<String> {
        let (Some(pulse), Some((time, timeout))) = (&mut self.pulse, self.options.keep_alive)
        else {
            return Poll::Pending;
        };
        loop {
            let due = pulse.asked.map_or(pulse.heard + time, |asked| asked + timeout);
            if pulse.alarm.deadline() != due {
                pulse.alarm.as_mut().reset(due);
            }
            ready!(pulse.alarm.as_mut().poll(context));
            if pulse.asked.is_some() {
                let text = "keepalive ping failed to receive ACK within timeout";
                return Poll::Ready(text.to_owned());
            }
            let mut state = self.shared.state();
            if self.options.keep_alive_while_idle || !state.connection.is_idle() {
                state.connection.ping();
                pulse.asked = Some(due);
            } else {
                pulse.heard = due;
            }
        }
    }

    /// Writes what callers and the connection have to say, when all who can have said it.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<String> {
        loop {
            if self.unwritten.is_empty()
                && let Err(reason) = ready!(self.take_output(context))
            {
                return Poll::Ready(reason);
            }
            let Poll::Ready(result) =
                Pin::new(&mut self.socket).poll_write(context, &self.unwritten)
            else {
                // Whoever has no use for the connection any more ends the wait.
                self.shared.state().task = Some(context.waker().clone());
                return Poll::Pending;
            };
            match result {
                Ok(0) => return Poll::Ready("error writing to server: EOF".to_owned()),
                Ok(count) => self.unwritten.advance(count),
                Err(error) => return Poll::Ready(format!("error writing to server: {error}")),
            }
        }
    }

    /// Takes over what is to be written. Pending if there is nothing, or others may add to it first.
    fn take_output(&mut self, context: &mut Context<'_>) -> Poll<Result<(), String>> {
        let mut state = self.shared.state();
        if state.is_abandoned {
            state.connection.close(ABANDONED);
        }
        if !state.connection.has_output() {
            if state.is_abandoned || state.connection.wants_close() {
                return Poll::Ready(Err(ABANDONED.to_owned()));
            }
            state.task = Some(context.waker().clone());
            return Poll::Pending;
        }
        if !self.has_yielded {
            self.has_yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_yielded = false;
        let output = state.connection.output();
        let count = output.remaining().min(WRITE_BYTES);
        self.unwritten.put(output.take(count));
        Poll::Ready(Ok(()))
    }

    /// All calls fail, and there will be no others.
    fn end(&mut self, reason: &str) {
        let mut state = self.shared.state();
        if state.ended.is_none() {
            state.ended = Some(reason.to_owned());
            for call in state.connection.close(reason) {
                state.tell(call);
            }
            for waker in state.crowded_out.drain(..) {
                waker.wake();
            }
        }
        drop(state);
        self.shared.closed.send_replace(true);
    }
}

impl Drop for Driver {
    /// The runtime ends, if nothing else has.
    fn drop(&mut self) {
        self.end(ABANDONED);
    }
}

/// Hands what came to the calls, and wakes who waits for it.
fn take_news(shared: &Shared, now_ms: u64, mut input: &[u8]) -> Result<(), String> {
    let mut state = shared.state();
    let result = loop {
        match state.connection.receive(now_ms, &mut input) {
            Ok(Some(call)) => state.tell(call),
            Ok(None) => break Ok(()),
            Err(error) => break Err(format!("error reading from server: {error}")),
        }
    };
    let is_going_away = state.connection.is_going_away();
    drop(state);
    if is_going_away {
        shared.closed.send_replace(true);
    }
    result
}
