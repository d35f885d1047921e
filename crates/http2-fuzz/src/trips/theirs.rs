//! h2's server and client with their applications.

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::server::{self, Handshake, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

use super::{Call, Header, Limits, Message, Side, check, known, number_of};
use crate::theirs::Wire;

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn fields_of(map: &HeaderMap) -> Result<Vec<Header>, String> {
    let mut fields = Vec::new();
    for (name, value) in map {
        let name = known(name.as_str()).ok_or_else(|| format!("nobody has sent {name}"))?;
        fields.push((name, value.as_bytes().to_vec()));
    }
    Ok(fields)
}

fn map_of(fields: &[Header]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let value = HeaderValue::from_bytes(value).expect("values are drawn so");
        map.append(HeaderName::from_static(name), value);
    }
    map
}

/// A message that comes in.
struct Incoming {
    stream: RecvStream,
    message: Message,
    ended: bool,
}

impl Incoming {
    fn new(head: &HeaderMap, stream: RecvStream) -> Result<Self, String> {
        let message = Message { fields: fields_of(head)?, ..Message::default() };
        Ok(Self { stream, message, ended: false })
    }

    /// Reads what is there.
    fn read(&mut self) -> Result<(), String> {
        let cx = &mut context();
        while !self.ended {
            match self.stream.poll_data(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(data)) => {
                    let data = data.map_err(|error| error.to_string())?;
                    self.message.body.extend_from_slice(&data);
                    let released = self.stream.flow_control().release_capacity(data.len());
                    released.map_err(|error| error.to_string())?;
                }
                Poll::Ready(None) => {
                    let Poll::Ready(trailers) = self.stream.poll_trailers(cx) else {
                        return Ok(());
                    };
                    let trailers = trailers.map_err(|error| error.to_string())?;
                    self.message.trailers = trailers.as_ref().map(fields_of).transpose()?;
                    self.ended = true;
                }
            }
        }
        Ok(())
    }
}

/// The rest of a message that goes out.
struct Outgoing {
    stream: SendStream<Bytes>,
    body: Bytes,
    trailers: Option<HeaderMap>,
    done: bool,
}

impl Outgoing {
    fn new(mut stream: SendStream<Bytes>, message: &Message) -> Self {
        let body = Bytes::copy_from_slice(&message.body);
        stream.reserve_capacity(body.len());
        let trailers = message.trailers.as_deref().map(map_of);
        let done = body.is_empty() && trailers.is_none();
        Self { stream, body, trailers, done }
    }

    /// Sends what there is room for.
    fn write(&mut self) -> Result<(), String> {
        while !self.body.is_empty() {
            let Poll::Ready(capacity) = self.stream.poll_capacity(&mut context()) else {
                return Ok(());
            };
            let capacity =
                capacity.ok_or("the stream is closed")?.map_err(|error| error.to_string())?;
            let piece = self.body.split_to(capacity.min(self.body.len()));
            let end = self.body.is_empty() && self.trailers.is_none();
            self.stream.send_data(piece, end).map_err(|error| error.to_string())?;
            self.done = end;
        }
        if let Some(trailers) = self.trailers.take() {
            self.stream.send_trailers(trailers).map_err(|error| error.to_string())?;
        }
        self.done = true;
        Ok(())
    }
}

enum Listening {
    Shaking(Pin<Box<Handshake<Wire, Bytes>>>),
    Open(Box<server::Connection<Wire, Bytes>>),
}

pub(super) struct TheirServer {
    wire: Wire,
    state: Listening,
    calls: Vec<Call>,
    asked: Vec<(usize, Incoming, SendResponse<Bytes>)>,
    answers: Vec<Outgoing>,
    done: usize,
}

impl TheirServer {
    pub(super) fn new(limits: Limits, calls: Vec<Call>) -> Self {
        let wire = Wire::default();
        let handshake = server::Builder::new()
            .initial_window_size(limits.window)
            .initial_connection_window_size(limits.connection_window)
            .max_frame_size(limits.frame)
            .header_table_size(limits.table)
            .max_concurrent_streams(limits.streams)
            .data_frame_budget(usize::MAX)
            .handshake(wire.clone());
        let state = Listening::Shaking(Box::pin(handshake));
        Self { wire, state, calls, asked: Vec::new(), answers: Vec::new(), done: 0 }
    }

    fn accept(&mut self) -> Result<(), String> {
        let cx = &mut context();
        if let Listening::Shaking(handshake) = &mut self.state {
            let Poll::Ready(connection) = handshake.as_mut().poll(cx) else { return Ok(()) };
            let connection = connection.map_err(|error| error.to_string())?;
            self.state = Listening::Open(Box::new(connection));
        }
        let Listening::Open(connection) = &mut self.state else { return Ok(()) };
        while let Poll::Ready(next) = connection.poll_accept(cx) {
            let (request, respond) = next.ok_or("closed")?.map_err(|error| error.to_string())?;
            let number = number_of(request.uri().path().as_bytes()).ok_or("no such path")?;
            let (head, body) = request.into_parts();
            self.asked.push((number, Incoming::new(&head.headers, body)?, respond));
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<(), String> {
        for (_, incoming, _) in &mut self.asked {
            incoming.read()?;
        }
        while let Some(at) = self.asked.iter().position(|(_, incoming, _)| incoming.ended) {
            let (number, incoming, mut respond) = self.asked.swap_remove(at);
            let call = self.calls.get(number).ok_or("no such call")?;
            check("request", number, &incoming.message, &call.request)?;
            self.done += 1;
            let mut response = Response::new(());
            *response.status_mut() = http::StatusCode::from_u16(call.status).expect("a good one");
            *response.headers_mut() = map_of(&call.answer.fields);
            let end = call.answer.body.is_empty() && call.answer.trailers.is_none();
            let stream = respond.send_response(response, end).map_err(|error| error.to_string())?;
            self.answers.push(Outgoing::new(stream, &call.answer));
        }
        for outgoing in self.answers.iter_mut().filter(|outgoing| !outgoing.done) {
            outgoing.write()?;
        }
        Ok(())
    }
}

impl Side for TheirServer {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.wire.feed(bytes);
        Ok(())
    }

    fn work(&mut self) -> Result<(), String> {
        self.accept()?;
        self.answer()?;
        // What was said now is to be written, too.
        self.accept()
    }

    fn take(&mut self, most: usize, out: &mut Vec<u8>) {
        self.wire.take_some(most, out);
    }

    fn done(&self) -> usize {
        self.done
    }
}

pub(super) struct TheirClient {
    wire: Wire,
    connection: client::Connection<Wire, Bytes>,
    more: SendRequest<Bytes>,
    calls: Vec<Call>,
    opened: usize,
    open: Vec<Asked>,
    done: usize,
}

struct Asked {
    number: usize,
    request: Outgoing,
    answer: Answer,
}

enum Answer {
    Head(ResponseFuture),
    Body(u16, Incoming),
}

impl TheirClient {
    pub(super) fn new(limits: Limits, calls: Vec<Call>) -> Self {
        let wire = Wire::default();
        let handshake = client::Builder::new()
            .initial_window_size(limits.window)
            .initial_connection_window_size(limits.connection_window)
            .max_frame_size(limits.frame)
            .header_table_size(limits.table)
            .data_frame_budget(usize::MAX)
            .handshake(wire.clone());
        let Poll::Ready(Ok((more, connection))) = pin!(handshake).poll(&mut context()) else {
            panic!("h2's client waits for nothing before it speaks");
        };
        Self { wire, connection, more, calls, opened: 0, open: Vec::new(), done: 0 }
    }

    fn poll(&mut self) -> Result<(), String> {
        match Pin::new(&mut self.connection).poll(&mut context()) {
            Poll::Ready(Ok(())) => Err("closed".to_owned()),
            Poll::Ready(Err(error)) => Err(error.to_string()),
            Poll::Pending => Ok(()),
        }
    }

    fn ask(&mut self) -> Result<(), String> {
        while self.opened < self.calls.len() && self.more.poll_ready(&mut context()).is_ready() {
            let number = self.opened;
            let message = &self.calls[number].request;
            let uri = format!("http://pipe/{number}");
            let mut request = Request::post(uri).body(()).expect("a good request");
            *request.headers_mut() = map_of(&message.fields);
            let end = message.body.is_empty() && message.trailers.is_none();
            let sent = self.more.send_request(request, end).map_err(|error| error.to_string())?;
            let request = Outgoing::new(sent.1, message);
            self.open.push(Asked { number, request, answer: Answer::Head(sent.0) });
            self.opened += 1;
        }
        Ok(())
    }
}

impl Asked {
    /// Whether the answer is complete.
    fn go_on(&mut self) -> Result<bool, String> {
        if !self.request.done {
            self.request.write()?;
        }
        if let Answer::Head(answer) = &mut self.answer {
            let Poll::Ready(answer) = Pin::new(answer).poll(&mut context()) else {
                return Ok(false);
            };
            let (head, body) = answer.map_err(|error| error.to_string())?.into_parts();
            let incoming = Incoming::new(&head.headers, body)?;
            self.answer = Answer::Body(head.status.as_u16(), incoming);
        }
        let Answer::Body(_, incoming) = &mut self.answer else { return Ok(false) };
        incoming.read()?;
        Ok(incoming.ended)
    }
}

impl Side for TheirClient {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.wire.feed(bytes);
        self.poll()?;
        let mut ended = Vec::new();
        for (at, asked) in self.open.iter_mut().enumerate() {
            if asked.go_on()? {
                ended.push(at);
            }
        }
        for at in ended.into_iter().rev() {
            let Asked { number, answer, .. } = self.open.swap_remove(at);
            let Answer::Body(status, incoming) = answer else { continue };
            let call = &self.calls[number];
            check("answer", number, &incoming.message, &call.answer)?;
            if status != call.status {
                return Err(format!("status {status}"));
            }
            self.done += 1;
        }
        Ok(())
    }

    fn work(&mut self) -> Result<(), String> {
        self.ask()?;
        for asked in &mut self.open {
            if !asked.request.done {
                asked.request.write()?;
            }
        }
        self.poll()
    }

    fn take(&mut self, most: usize, out: &mut Vec<u8>) {
        self.wire.take_some(most, out);
    }

    fn done(&self) -> usize {
        self.done
    }
}
