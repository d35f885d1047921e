//! The two halves of `http2` with their applications.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use http2::{Client, Config, Event, Field, HeaderList, Output, Request, Server, StreamId};

use super::{Call, Header, Message, Side, check, known, number_of};

fn fields_of(list: &HeaderList) -> Result<Vec<Header>, String> {
    let mut fields = Vec::new();
    for (_, name, value) in list.fields() {
        let name = known(name).ok_or_else(|| format!("nobody has sent {name}"))?;
        fields.push((name, value.to_vec()));
    }
    Ok(fields)
}

fn borrow(fields: &[Header]) -> Vec<Field<'_>> {
    fields
        .iter()
        .enumerate()
        .map(|(at, (name, value))| match at % 2 {
            0 => Field::indexed(name, value),
            _ => Field::literal(name, value),
        })
        .collect()
}

fn take(output: &mut Output, most: usize, out: &mut Vec<u8>) {
    let mut left = most.min(output.remaining());
    while left > 0 {
        let chunk = output.chunk();
        let count = chunk.len().min(left);
        out.extend_from_slice(&chunk[..count]);
        output.advance(count);
        left -= count;
    }
}

pub(super) struct OurClient {
    client: Client,
    calls: Vec<Call>,
    opened: usize,
    open: BTreeMap<StreamId, (usize, u16, Message)>,
    /// h2 may never return what came before a smaller window was acknowledged: its threshold is half of the larger one.
    waits: bool,
    done: usize,
}

impl OurClient {
    pub(super) fn new(config: &Config, calls: Vec<Call>, peer_window: u32) -> Self {
        let client = Client::new(config);
        let waits = peer_window < 65_535;
        Self { client, calls, opened: 0, open: BTreeMap::new(), waits, done: 0 }
    }

    fn end(&mut self, stream: StreamId) -> Result<(), String> {
        let Some((number, status, message)) = self.open.remove(&stream) else {
            return Err(format!("the end of {stream:?}, which is not open"));
        };
        let call = &self.calls[number];
        check("answer", number, &message, &call.answer)?;
        self.done += 1;
        if status == call.status { Ok(()) } else { Err(format!("status {status}")) }
    }
}

impl Side for OurClient {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut input = bytes;
        loop {
            let event = self.client.receive(0, &mut input).map_err(|error| error.to_string())?;
            let (stream, ended) = match event {
                None => return Ok(()),
                Some(Event::Headers { stream, head, end }) => {
                    let (_, status, message) = self.open.get_mut(&stream).ok_or("no such call")?;
                    *status = head.status();
                    message.fields = fields_of(head)?;
                    (stream, end)
                }
                Some(Event::Data { stream, data, end }) => {
                    let (_, _, message) = self.open.get_mut(&stream).ok_or("no such call")?;
                    message.body.extend_from_slice(data);
                    (stream, end)
                }
                Some(Event::Trailers { stream, trailers }) => {
                    let (_, _, message) = self.open.get_mut(&stream).ok_or("no such call")?;
                    message.trailers = Some(fields_of(trailers)?);
                    (stream, true)
                }
                Some(Event::Reset { stream, code, .. }) => {
                    // h2 counts a stream until its answer is sent, and refuses one more.
                    let (number, _, _) = self.open.remove(&stream).ok_or("no such call")?;
                    return Err(format!("call {number} was reset with {}", code.0));
                }
                Some(_) => continue,
            };
            if ended {
                self.end(stream)?;
            }
        }
    }

    fn work(&mut self) -> Result<(), String> {
        if !self.client.is_established() && (self.waits || self.opened > 0) {
            return Ok(());
        }
        while self.opened < self.calls.len() && self.client.can_open().is_ok() {
            let number = self.opened;
            let message = &self.calls[number].request;
            let path = format!("/{number}");
            let fields = borrow(&message.fields);
            let request = Request {
                method: "POST",
                scheme: "http",
                authority: "pipe",
                path: &path,
                fields: &fields,
            };
            let end = message.body.is_empty() && message.trailers.is_none();
            let Ok(stream) = self.client.open(&request, end) else { break };
            self.opened += 1;
            if !message.body.is_empty() {
                let body = Bytes::copy_from_slice(&message.body);
                self.client.send_bytes(stream, [body], message.trailers.is_none());
            }
            if let Some(trailers) = &message.trailers {
                self.client.send_trailers(stream, &borrow(trailers));
            }
            self.open.insert(stream, (number, 0, Message::default()));
            if !self.client.is_established() {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, most: usize, out: &mut Vec<u8>) {
        take(self.client.output(), most, out);
    }

    fn done(&self) -> usize {
        self.done
    }
}

pub(super) struct OurServer {
    server: Server,
    calls: Vec<Call>,
    open: BTreeMap<StreamId, (usize, Message)>,
    done: usize,
}

impl OurServer {
    pub(super) fn new(config: &Config, calls: Vec<Call>) -> Self {
        Self { server: Server::new(config), calls, open: BTreeMap::new(), done: 0 }
    }

    fn answer(&mut self, stream: StreamId) -> Result<(), String> {
        let (number, message) = self.open.remove(&stream).ok_or("no such call")?;
        let call = self.calls.get(number).ok_or("no such call")?;
        check("request", number, &message, &call.request)?;
        self.done += 1;
        let answer = &call.answer;
        let end = answer.body.is_empty() && answer.trailers.is_none();
        self.server.send_headers(stream, call.status, &borrow(&answer.fields), end);
        match &answer.trailers {
            None if end => {}
            None => self.server.send_data(stream, &answer.body, true),
            Some(trailers) => {
                let (first, rest) = answer.body.split_at(answer.body.len() / 3);
                self.server.send_data(stream, first, false);
                self.server.send_bytes(stream, [Bytes::copy_from_slice(rest)], false);
                self.server.send_trailers(stream, &borrow(trailers));
            }
        }
        Ok(())
    }
}

impl Side for OurServer {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut input = bytes;
        loop {
            let event = self.server.receive(0, &mut input).map_err(|error| error.to_string())?;
            let (stream, ended) = match event {
                None => return Ok(()),
                Some(Event::Headers { stream, head, end }) => {
                    let number = number_of(head.path()).ok_or("no such path")?;
                    let message = Message { fields: fields_of(head)?, ..Message::default() };
                    self.open.insert(stream, (number, message));
                    (stream, end)
                }
                Some(Event::Data { stream, data, end }) => {
                    let (_, message) = self.open.get_mut(&stream).ok_or("no such call")?;
                    message.body.extend_from_slice(data);
                    (stream, end)
                }
                Some(Event::Trailers { stream, trailers }) => {
                    let (_, message) = self.open.get_mut(&stream).ok_or("no such call")?;
                    message.trailers = Some(fields_of(trailers)?);
                    (stream, true)
                }
                Some(Event::Reset { stream, code, .. }) => {
                    return Err(format!("{stream:?} was reset with {}", code.0));
                }
                Some(_) => continue,
            };
            if ended {
                self.answer(stream)?;
            }
        }
    }

    fn work(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn take(&mut self, most: usize, out: &mut Vec<u8>) {
        take(self.server.output(), most, out);
    }

    fn done(&self) -> usize {
        self.done
    }
}
