//! A gRPC client on `h2` that blocks: one connection, one call at a time.

use api::etcdserverpb as pb;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use prost::Message;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// Largest range answer that the tests expect.
const WINDOW_BYTES: u32 = 64 << 20;

/// A connection.
pub(crate) struct Client {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
}

/// Why a call failed: the server's status, or that the connection broke.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Status(i32, String),
    Broken,
}

impl From<h2::Error> for Failure {
    fn from(_: h2::Error) -> Self {
        Self::Broken
    }
}

/// A call whose responses come one by one.
pub(crate) struct Stream<'a> {
    client: &'a Client,
    _request: SendStream<Bytes>,
    body: RecvStream,
    buffer: BytesMut,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("runtime");
        let sender = runtime.block_on(async {
            let socket = TcpStream::connect(address).await.expect("connect");
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
            let (sender, connection) = builder.handshake(socket).await.expect("handshake");
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender }
    }

    /// A call with one request and one response.
    pub(crate) fn call<A: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<A, Failure> {
        let mut stream = self.open(method, request, true)?;
        let answer = stream.next()?;
        match stream.next::<A>() {
            Err(Failure::Status(0, _)) => Ok(answer),
            Err(failure) => Err(failure),
            Ok(_) => panic!("two answers to {method}"),
        }
    }

    /// A call with one request and many responses. The request stays open, as a watch needs it.
    pub(crate) fn stream(&self, method: &str, request: &impl Message) -> Stream<'_> {
        self.open(method, request, false).expect("a stream")
    }

    fn open(
        &self,
        method: &str,
        request: &impl Message,
        is_last: bool,
    ) -> Result<Stream<'_>, Failure> {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(request.encoded_len()).expect("small"));
        request.encode(&mut frame).expect("room");
        self.runtime.block_on(async {
            let head = http::Request::post(format!("http://etcd/etcdserverpb.{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .expect("a request");
            let mut sender = self.sender.clone().ready().await?;
            let (response, mut send) = sender.send_request(head, false)?;
            send.send_data(frame.freeze(), is_last)?;
            let (head, body) = response.await?.into_parts();
            match status(&head.headers) {
                Some(failure) => Err(failure),
                None => Ok(Stream { client: self, _request: send, body, buffer: BytesMut::new() }),
            }
        })
    }

    pub(crate) fn put(&self, key: &[u8], value: &[u8]) -> Result<i64, Failure> {
        let request = pb::PutRequest {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            ..Default::default()
        };
        Ok(revision(self.call::<pb::PutResponse>("KV/Put", &request)?.header))
    }

    pub(crate) fn delete(&self, key: &[u8]) -> Result<i64, Failure> {
        let request =
            pb::DeleteRangeRequest { key: Bytes::copy_from_slice(key), ..Default::default() };
        Ok(revision(self.call::<pb::DeleteRangeResponse>("KV/DeleteRange", &request)?.header))
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Failure> {
        let request = pb::RangeRequest { key: Bytes::copy_from_slice(key), ..Default::default() };
        let response: pb::RangeResponse = self.call("KV/Range", &request)?;
        Ok(response.kvs.into_iter().next().map(|kv| kv.value))
    }

    /// The store's revision and all its keys.
    pub(crate) fn all(&self) -> Result<(i64, Vec<api::mvccpb::KeyValue>), Failure> {
        let request = pb::RangeRequest {
            key: Bytes::from_static(&[0]),
            range_end: Bytes::from_static(&[0]),
            ..Default::default()
        };
        let response: pb::RangeResponse = self.call("KV/Range", &request)?;
        Ok((revision(response.header), response.kvs))
    }

    pub(crate) fn status(&self) -> pb::StatusResponse {
        self.call("Maintenance/Status", &pb::StatusRequest::default()).expect("status")
    }
}

impl Stream<'_> {
    /// The next message. [`Failure::Status`] with code 0 is the good end.
    pub(crate) fn next<A: Message + Default>(&mut self) -> Result<A, Failure> {
        let Self { client, body, buffer, .. } = self;
        client.runtime.block_on(async {
            loop {
                if let Some(len) = buffer.get(1..5) {
                    let len = u32::from_be_bytes(len.try_into().expect("four bytes")) as usize;
                    if buffer.len() >= 5 + len {
                        buffer.advance(5);
                        return Ok(A::decode(buffer.split_to(len)).expect("a message"));
                    }
                }
                let Some(data) = body.data().await else { break };
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                buffer.extend_from_slice(&data);
            }
            let trailers = body.trailers().await?.unwrap_or_default();
            Err(status(&trailers).unwrap_or(Failure::Broken))
        })
    }
}

fn status(headers: &http::HeaderMap) -> Option<Failure> {
    let text = |name| headers.get(name).map(|value| value.to_str().expect("text"));
    let code = text("grpc-status")?.parse().expect("a code");
    Some(Failure::Status(code, text("grpc-message").unwrap_or_default().to_owned()))
}

pub(crate) fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.expect("a header").revision
}
