//! A gRPC client that never repeats a call: what it cannot say for certain, it does not say.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The window of a stream and of a connection: nobody here reads slowly.
const WINDOW_BYTES: u32 = 4 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server has said so.
    Status(String),
    /// The connection ended, or never was.
    Broken(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Status(text) | Self::Broken(text)) = self;
        out.write_str(text)
    }
}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A connection to one server; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Channel {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Channel {
    pub(crate) async fn connect(address: &str) -> Result<Self, Failure> {
        let broken = |error: std::io::Error| Failure::Broken(error.to_string());
        let socket = TcpStream::connect(address).await.map_err(broken)?;
        socket.set_nodelay(true).map_err(broken)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (sender, connection) = builder.handshake(socket).await?;
        let driver = tokio::spawn(async move {
            // Each call hears of it.
            let _ = connection.await;
        });
        Ok(Self { sender, driver })
    }

    /// A call with one answer.
    pub(crate) async fn unary<Q: Message, A: Message + Default>(
        &self,
        path: &str,
        request: &Q,
    ) -> Result<A, Failure> {
        let mut stream = self.stream::<Q, A>(path).await?;
        stream.send(request, true)?;
        let answer = stream.next().await?;
        // The answer counts when the status says so.
        match stream.next().await {
            Err(Failure::Status(text)) if text.is_empty() => Ok(answer),
            Err(failure) => Err(failure),
            Ok(_) => Err(Failure::Broken("two answers".to_owned())),
        }
    }

    /// Opens a call with any number of messages either way.
    pub(crate) async fn stream<Q: Message, A: Message + Default>(
        &self,
        path: &str,
    ) -> Result<Stream<Q, A>, Failure> {
        let head = Request::post(format!("http://etcd{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|error| Failure::Broken(error.to_string()))?;
        let mut sender = self.sender.clone().ready().await?;
        let (response, send) = sender.send_request(head, false)?;
        let side = Side::Waiting(response);
        Ok(Stream { send, side, buffer: BytesMut::new(), messages: PhantomData })
    }
}

#[derive(Debug)]
enum Side {
    Waiting(h2::client::ResponseFuture),
    Reading(HeaderMap, RecvStream),
}

/// A call under way. A message that was begun is not lost when [`Stream::next`] is given up.
#[derive(Debug)]
pub(crate) struct Stream<Q, A> {
    send: SendStream<Bytes>,
    side: Side,
    buffer: BytesMut,
    messages: PhantomData<(Q, A)>,
}

impl<Q: Message, A: Message + Default> Stream<Q, A> {
    pub(crate) fn send(&mut self, message: &Q, is_last: bool) -> Result<(), Failure> {
        let length = message.encoded_len();
        let mut frame = BytesMut::with_capacity(5 + length);
        frame.put_u8(0);
        frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        frame.put(message.encode_to_vec().as_slice());
        Ok(self.send.send_data(frame.freeze(), is_last)?)
    }

    /// The next message. The end of the call is an error, with no text if all went well.
    pub(crate) async fn next(&mut self) -> Result<A, Failure> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            match &mut self.side {
                Side::Waiting(response) => {
                    let (head, body) = response.await?.into_parts();
                    self.side = Side::Reading(head.headers, body);
                }
                Side::Reading(head, body) => {
                    let Some(data) = body.data().await else {
                        let trailers = body.trailers().await?.unwrap_or_default();
                        return Err(end(head, &trailers));
                    };
                    let data = data?;
                    body.flow_control().release_capacity(data.len())?;
                    self.buffer.extend_from_slice(&data);
                }
            }
        }
    }

    fn buffered(&mut self) -> Result<Option<A>, Failure> {
        let Some((head, rest)) = self.buffer.split_at_checked(5) else { return Ok(None) };
        let length = (&head[1..]).get_u32() as usize;
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(5);
        let bytes = self.buffer.split_to(length);
        A::decode(bytes).map(Some).map_err(|error| Failure::Broken(error.to_string()))
    }
}

fn end(head: &HeaderMap, trailers: &HeaderMap) -> Failure {
    let text = |name| {
        let value = trailers.get(name).or_else(|| head.get(name));
        value.and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    match text("grpc-status").as_deref() {
        Some("0") => Failure::Status(String::new()),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default();
            Failure::Status(if message.is_empty() { format!("status {code}") } else { message })
        }
        None => Failure::Broken("no status".to_owned()),
    }
}
