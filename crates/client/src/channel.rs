//! One connection to one endpoint. This is the one place that knows which library speaks gRPC.
//!
//! The library is given one socket and no way to another, so that a broken connection stays broken and a failed
//! call says whether its request can have gone out: whoever keeps the connections decides what follows.

use std::error::Error as StdError;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use api::error::transport::streaming_message_larger_than_max;
use api::{Code, Status};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::AsciiMetadataValue;

use crate::endpoint::Target;

/// How long a connection may take until the server has said that it speaks HTTP/2 (grpc-go's minimum).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What may be under way to this client before it has read anything: of one call, and of all.
const WINDOW_BYTES: (u32, u32) = (4 << 20, 16 << 20);

/// The type byte of the frame that a server begins with.
const SETTINGS: u8 = 4;

/// How connections are made and what they carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) keep_alive: Option<(Duration, Duration)>,
    pub(crate) keep_alive_while_idle: bool,
    pub(crate) send_bytes_max: usize,
    pub(crate) receive_bytes_max: usize,
}

/// What goes with a call beside its message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) token: Option<String>,
    pub(crate) require_leader: bool,
}

/// How a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    /// Whether it is certain that the server has not begun with the request.
    pub(crate) is_unsent: bool,
}

/// A connection; ends when the last clone and all calls have ended.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    inner: tonic::transport::Channel,
    options: Options,
    closed: Arc<watch::Sender<bool>>,
}

impl Channel {
    /// Connects, and waits for the server to begin to speak HTTP/2.
    ///
    /// # Errors
    /// Why not, as text.
    pub(crate) async fn connect(target: &Target, options: Options) -> Result<Self, String> {
        if let Target::Nowhere(address, why) = target {
            let address =
                if address.is_empty() { String::new() } else { format!("address {address}: ") };
            return Err(format!("{address}{why}"));
        }
        tokio::time::timeout(CONNECT_TIMEOUT, Self::open(target, options))
            .await
            .unwrap_or_else(|_| Err("timed out".to_owned()))
            .map_err(|reason| format!("{}: {reason}", target.shown()))
    }

    async fn open(target: &Target, options: Options) -> Result<Self, String> {
        let socket = Socket::connect(target).await.map_err(|error| format!("connect: {error}"))?;
        let closed = Arc::new(watch::Sender::new(false));
        let (began, has_begun) = oneshot::channel();
        let guarded = Guarded {
            socket,
            head: Vec::with_capacity(PREFACE_BYTES),
            began: Some(began),
            closed: Arc::clone(&closed),
        };
        let mut endpoint =
            tonic::transport::Endpoint::from_shared(format!("http://{}", target.authority()))
                .map_err(|error| error.to_string())?
                .initial_stream_window_size(WINDOW_BYTES.0)
                .initial_connection_window_size(WINDOW_BYTES.1);
        if let Some((time, timeout)) = options.keep_alive {
            endpoint = endpoint
                .http2_keep_alive_interval(time)
                .keep_alive_timeout(timeout)
                .keep_alive_while_idle(options.keep_alive_while_idle);
        }
        let only = Arc::new(Mutex::new(Some(guarded)));
        let connector = tower::service_fn(move |_| {
            let socket = only.lock().ok().and_then(|mut only| only.take());
            let socket = socket.map(TokioIo::new).ok_or(io::ErrorKind::NotConnected);
            std::future::ready(socket.map_err(io::Error::from))
        });
        let inner = endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|error| root_cause(&error).to_string())?;
        match has_begun.await {
            Ok(Ok(())) => Ok(Self { inner, options, closed }),
            Ok(Err(reason)) => Err(reason),
            Err(_) => {
                Err("the server closed the connection before it had said anything".to_owned())
            }
        }
    }

    /// Whether the connection is of no use any more.
    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Waits until the connection is of no use any more.
    pub(crate) async fn wait_closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender is in `self`.
        let _ = closed.wait_for(|is_closed| *is_closed).await;
    }

    /// Takes no further calls.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// A call with one request and one response.
    pub(crate) async fn unary<Q, A>(
        &self,
        path: &'static str,
        metadata: &Metadata,
        message: Q,
    ) -> Result<A, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.check_length(&message)?;
        let mut grpc = self.ready().await?;
        let request = request(metadata, message)?;
        let codec = Prost::<Q, A>::new(self.options.receive_bytes_max);
        let response = grpc.unary(request, PathAndQuery::from_static(path), codec).await;
        response.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    /// A call with any number of messages either way. Returns when the server has begun to answer, which may be
    /// only with its first message.
    pub(crate) async fn streaming<Q, A>(
        &self,
        path: &'static str,
        metadata: &Metadata,
        messages: mpsc::UnboundedReceiver<Q>,
    ) -> Result<Answers<A>, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.ready().await?;
        let request = request(metadata, UnboundedReceiverStream::new(messages))?;
        let codec = Prost::<Q, A>::new(self.options.receive_bytes_max);
        let response = grpc.streaming(request, PathAndQuery::from_static(path), codec).await?;
        Ok(Answers(response.into_inner()))
    }

    async fn ready(&self) -> Result<tonic::client::Grpc<tonic::transport::Channel>, Failure> {
        let mut grpc =
            tonic::client::Grpc::new(self.inner.clone()).max_decoding_message_size(usize::MAX);
        match grpc.ready().await {
            Ok(()) => Ok(grpc),
            Err(error) => {
                let status = Status::new(Code::Unavailable, root_cause(&error).to_string());
                Err(Failure { status, is_unsent: true })
            }
        }
    }

    fn check_length(&self, message: &impl Message) -> Result<(), Failure> {
        let (length, max) = (message.encoded_len(), self.options.send_bytes_max);
        if length <= max {
            return Ok(());
        }
        let status = streaming_message_larger_than_max(length as u64, max as u64);
        Err(Failure { status, is_unsent: false })
    }
}

/// The messages that a server sends.
#[derive(Debug)]
pub(crate) struct Answers<A>(tonic::Streaming<A>);

impl<A> Answers<A> {
    /// The next one, or `None` at an orderly end. May be given up and called again.
    pub(crate) async fn next(&mut self) -> Result<Option<A>, Status> {
        self.0.message().await.map_err(|status| Failure::from(status).status)
    }
}

/// A request with its metadata.
fn request<T>(metadata: &Metadata, content: T) -> Result<tonic::Request<T>, Failure> {
    let mut request = tonic::Request::new(content);
    let fields = request.metadata_mut();
    fields.insert("client-api-version", AsciiMetadataValue::from_static(crate::API_VERSION));
    if metadata.require_leader {
        fields.insert("hasleader", AsciiMetadataValue::from_static("true"));
    }
    if let Some(token) = &metadata.token {
        let value = AsciiMetadataValue::try_from(token.as_str()).map_err(|_| Failure {
            status: Status::fixed(Code::Internal, "a token with characters that can't be sent"),
            is_unsent: false,
        })?;
        fields.insert("token", value);
    }
    Ok(request)
}

/// What the library calls an error is either the server's status, or has its reason among its sources.
impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let code = Code::from_number(status.code() as u64);
        let Some(source) = status.source() else {
            let status = Status::new(code, status.message().to_owned());
            return Self { status, is_unsent: false };
        };
        let is_unsent = chain(source).any(|error| {
            error.is::<tonic::ConnectError>()
                || error.downcast_ref().is_some_and(hyper::Error::is_canceled)
                || error.downcast_ref().is_some_and(is_untouched)
        });
        let code = match chain(source).find_map(reset) {
            _ if is_unsent => Code::Unavailable,
            Some(h2::Reason::CANCEL) => Code::Canceled,
            Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
            Some(_) => Code::Internal,
            None => Code::Unavailable,
        };
        let message = format!("error reading from server: {}", root_cause(source));
        Self { status: Status::new(code, message), is_unsent }
    }
}

/// Whether the server has said that it has not looked at the stream: it refused it, or it is beyond the last one
/// that it takes before it goes away.
fn is_untouched(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// The reason of a reset of the stream alone; the end of the connection is another matter.
fn reset(error: &(dyn StdError + 'static)) -> Option<h2::Reason> {
    let error = error.downcast_ref::<h2::Error>()?;
    if error.is_reset() && error.is_remote() { error.reason() } else { None }
}

fn root_cause<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    chain(error).last().unwrap_or(error)
}

/// An error, and what it comes from.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Protocol buffers in gRPC's frames.
struct Prost<Q, A> {
    receive_bytes_max: usize,
    types: PhantomData<fn(Q) -> A>,
}

impl<Q, A> Prost<Q, A> {
    fn new(receive_bytes_max: usize) -> Self {
        Self { receive_bytes_max, types: PhantomData }
    }
}

impl<Q: Message + 'static, A: Message + Default + 'static> Codec for Prost<Q, A> {
    type Encode = Q;
    type Decode = A;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::new(self.receive_bytes_max)
    }

    fn decoder(&mut self) -> Self {
        Self::new(self.receive_bytes_max)
    }
}

impl<Q: Message, A> Encoder for Prost<Q, A> {
    type Item = Q;
    type Error = tonic::Status;

    fn encode(&mut self, message: Q, out: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        message.encode(out).map_err(|error| tonic::Status::internal(error.to_string()))
    }
}

impl<Q, A: Message + Default> Decoder for Prost<Q, A> {
    type Item = A;
    type Error = tonic::Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<A>, tonic::Status> {
        use bytes::Buf as _;
        let (length, max) = (bytes.remaining(), self.receive_bytes_max);
        if length > max {
            return Err(tonic::Status::resource_exhausted(format!(
                "grpc: received message larger than max ({length} vs. {max})"
            )));
        }
        let message = A::decode(bytes).map_err(|error| {
            tonic::Status::internal(format!(
                "grpc: failed to unmarshal the received message: {error}"
            ))
        })?;
        Ok(Some(message))
    }
}

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

/// The head of a frame, up to its type.
const PREFACE_BYTES: usize = 4;

/// A socket that tells when the server has begun to speak, and when the connection is given up.
#[derive(Debug)]
struct Guarded {
    socket: Socket,
    /// The first bytes from the server, until it is known what they are.
    head: Vec<u8>,
    began: Option<oneshot::Sender<Result<(), String>>>,
    closed: Arc<watch::Sender<bool>>,
}

impl Guarded {
    fn look(&mut self, bytes: &[u8]) {
        if self.began.is_none() {
            return;
        }
        self.head.extend(bytes.iter().take(PREFACE_BYTES - self.head.len()));
        let verdict = match *self.head {
            [_, _, _, SETTINGS] => Ok(()),
            [b'H', b'T', b'T', b'P'] => Err("the server speaks HTTP/1 and not gRPC".to_owned()),
            [0x15, 3, ..] => Err("the server wants TLS".to_owned()),
            [_, _, _, _] => Err("the server does not speak HTTP/2".to_owned()),
            _ => return,
        };
        if let Some(began) = self.began.take() {
            // Nobody waits any more if it took too long.
            let _ = began.send(verdict);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.closed.send_replace(true);
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        self.look(buffer.filled().get(before..).unwrap_or_default());
        result
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
