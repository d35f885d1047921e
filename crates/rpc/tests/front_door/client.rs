//! A gRPC client on `h2`, which knows nothing of the server's code.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;

/// A connection.
#[derive(Clone)]
pub(crate) struct Client {
    send: SendRequest<Bytes>,
}

/// A unary call's end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) http_status: u16,
    pub(crate) content_type: String,
    pub(crate) encoding: String,
    /// What an answer says that is not gRPC's.
    pub(crate) words: String,
    pub(crate) messages: Vec<Bytes>,
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl Answer {
    /// The response of a call that succeeded.
    pub(crate) fn ok<M: Message + Default>(&self) -> M {
        assert_eq!((self.code, self.message.as_str()), (0, ""));
        assert_eq!(self.messages.len(), 1);
        M::decode(self.messages[0].clone()).expect("a message")
    }

    /// Code and text of a call that failed.
    pub(crate) fn error(&self) -> String {
        format!("{} {}", self.code, self.message)
    }
}

/// A message in its frame.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).expect("small"));
    message.encode(&mut frame).expect("room");
    frame.freeze()
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        // With a smaller window `h2` takes many small messages, which it has not read, for a flood.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(16 << 20);
        let socket = TcpStream::connect(address).await.expect("the member listens");
        socket.set_nodelay(true).expect("TCP");
        let (send, connection) = builder.handshake::<_, Bytes>(socket).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self { send }
    }

    /// Opens a call without sending anything.
    pub(crate) async fn open(&self, path: &str, headers: &[(&str, &str)]) -> Call {
        let uri = format!("http://etcd{path}");
        let mut request = Request::post(uri);
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc").header("te", "trailers");
        }
        for (name, value) in headers {
            request = request
                .header(*name, http::HeaderValue::from_bytes(value.as_bytes()).expect("value"));
        }
        let request = request.body(()).expect("a request");
        let mut send = self.send.clone().ready().await.expect("the connection is open");
        let (response, body) = send.send_request(request, false).expect("a stream");
        Call { body: Some(body), response: Some(response), received: None, buffer: BytesMut::new() }
    }

    pub(crate) async fn call(&self, path: &str, message: &impl Message) -> Answer {
        self.call_with(path, &[], frame(message)).await
    }

    pub(crate) async fn call_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let mut call = self.open(path, headers).await;
        call.send_bytes(body, true);
        call.answer().await
    }
}

/// What a client says first, with the settings as they are by default.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A whole unary call, as bytes.
pub(crate) fn raw_call(stream: u32, path: &str, message: &impl Message) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (":path", path),
        (":authority", "etcd"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend(text.as_bytes());
        }
    }
    let message = frame(message);
    let mut bytes = Vec::new();
    for (kind, flags, payload) in [(1, 4, &block[..]), (0, 1, &message[..])] {
        bytes.extend([0, 0, u8::try_from(payload.len()).expect("short"), kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
    }
    bytes
}

/// A call under way.
pub(crate) struct Call {
    body: Option<SendStream<Bytes>>,
    response: Option<ResponseFuture>,
    received: Option<RecvStream>,
    buffer: BytesMut,
}

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl Call {
    pub(crate) fn send(&mut self, message: &impl Message) {
        self.send_bytes(frame(message), false);
    }

    pub(crate) fn send_bytes(&mut self, bytes: Bytes, end: bool) {
        let body = self.body.as_mut().expect("the request is open");
        // An error means that the server has answered and reset already, which the answer tells.
        let _ = body.send_data(bytes, end);
    }

    pub(crate) fn half_close(&mut self) {
        self.send_bytes(Bytes::new(), true);
    }

    pub(crate) fn reset(mut self) {
        self.body.take().expect("the request is open").send_reset(h2::Reason::CANCEL);
    }

    /// The reset that ended the call; `None` if there was an answer.
    pub(crate) async fn ended(mut self) -> Option<h2::Reason> {
        let response = self.response.take().expect("not yet answered");
        response.await.err().and_then(|err| err.reason())
    }

    /// The next message, or the end.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<M, End> {
        self.next_bytes().await.map(|message| M::decode(message).expect("a message"))
    }

    pub(crate) async fn next_bytes(&mut self) -> Result<Bytes, End> {
        if let Some(response) = self.response.take() {
            let response = response.await.expect("an answer");
            let (head, body) = response.into_parts();
            if head.headers.contains_key("grpc-status") {
                return Err(end(&head.headers));
            }
            self.received = Some(body);
        }
        let body = self.received.as_mut().expect("answered");
        loop {
            if let Some(message) = take_message(&mut self.buffer) {
                return Ok(message);
            }
            match body.data().await {
                Some(data) => {
                    let data = data.expect("data");
                    let _ = body.flow_control().release_capacity(data.len());
                    self.buffer.extend_from_slice(&data);
                }
                None => {
                    assert!(self.buffer.is_empty(), "half a message");
                    let trailers = body.trailers().await.expect("trailers").expect("trailers");
                    return Err(end(&trailers));
                }
            }
        }
    }

    /// Everything until the end.
    pub(crate) async fn answer(mut self) -> Answer {
        let response = self.response.take().expect("not yet answered");
        let (head, mut body) = response.await.expect("an answer").into_parts();
        let field = |name: &str| head.headers.get(name).map_or("", |v| v.to_str().unwrap_or(""));
        let mut answer = Answer {
            http_status: head.status.as_u16(),
            content_type: field("content-type").to_owned(),
            encoding: field("grpc-encoding").to_owned(),
            words: String::new(),
            messages: Vec::new(),
            code: -1,
            message: String::new(),
        };
        let ended = if head.headers.contains_key("grpc-status") {
            while let Some(data) = body.data().await {
                answer.words += std::str::from_utf8(&data.expect("data")).expect("UTF-8");
            }
            end(&head.headers)
        } else {
            self.received = Some(body);
            loop {
                match self.next_bytes().await {
                    Ok(message) => answer.messages.push(message),
                    Err(end) => break end,
                }
            }
        };
        (answer.code, answer.message) = (ended.code, ended.message);
        answer
    }
}

fn take_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let (prefix, _) = buffer.split_first_chunk::<5>()?;
    let [format, len @ ..] = *prefix;
    let len = u32::from_be_bytes(len) as usize;
    if buffer.len() < 5 + len {
        return None;
    }
    buffer.advance(5);
    let message = buffer.split_to(len).freeze();
    if format == 0 {
        return Some(message);
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*message).read_to_end(&mut plain).expect("gzip");
    Some(plain.into())
}

fn end(fields: &HeaderMap) -> End {
    let text = |name: &str| fields.get(name).map_or("", |v| v.to_str().expect("ASCII")).to_owned();
    End {
        code: text("grpc-status").parse().expect("a number"),
        message: percent_decode(&text("grpc-message")),
    }
}

fn percent_decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or("").as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        out.push(u8::from_str_radix(digits, 16).expect("hex"));
        out.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(out).expect("UTF-8")
}

/// The values of metrics, by name and labels as they are written.
pub(crate) fn metrics(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}
