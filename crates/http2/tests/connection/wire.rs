//! Frames written by hand, and a connection whose events and frames are rendered as text.

use bytes::Buf;
use http2::{Client, Config, Error, Event, Output, Server, StreamId};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

const NAMES: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
];

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a test's frame is short");
    let mut bytes = length.to_be_bytes().get(1..).expect("four bytes").to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub(crate) fn preface() -> Vec<u8> {
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()
}

/// What a client says before its first request.
pub(crate) fn handshake(settings: &[(u16, u32)]) -> Vec<u8> {
    [preface(), frame(SETTINGS, 0, 0, &parameters(settings)), frame(SETTINGS, ACK, 0, &[])].concat()
}

pub(crate) fn parameters(settings: &[(u16, u32)]) -> Vec<u8> {
    settings
        .iter()
        .flat_map(|(key, value)| [&key.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
        .collect()
}

/// A header block of literals that leave the table as it is.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            let length = u8::try_from(text.len()).expect("a test's text is short");
            assert!(length < 127, "one byte of length");
            bytes.push(length);
            bytes.extend(text.bytes());
        }
    }
    bytes
}

/// The block of `POST http /a`.
pub(crate) fn call_block() -> Vec<u8> {
    let mut bytes = vec![0x83, 0x86];
    bytes.extend(block(&[(":path", "/a")]));
    bytes
}

pub(crate) fn call(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &call_block())
}

pub(crate) fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, payload)
}

pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// One frame of the server's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    fn render(&self) -> String {
        let name = NAMES.get(usize::from(self.kind)).expect("a known frame");
        let number = |at: usize| {
            let bytes = self.payload.get(at..at + 4).expect("a payload of numbers");
            u32::from_be_bytes(bytes.try_into().expect("four bytes"))
        };
        let rest = match self.kind {
            DATA if self.payload.len() > 20 => format!(" {} bytes", self.payload.len()),
            DATA => format!(" {:?}", String::from_utf8_lossy(&self.payload)),
            RST_STREAM | WINDOW_UPDATE => format!(" {}", number(0)),
            PING => format!(" {:?}", String::from_utf8_lossy(&self.payload)),
            GOAWAY => {
                let debug = String::from_utf8_lossy(self.payload.get(8..).expect("two numbers"));
                format!(" last={} code={} {debug:?}", number(0), number(4))
            }
            _ => String::new(),
        };
        let flag = match (self.kind, self.flags & 1) {
            (SETTINGS | PING, 1) => " ACK",
            (DATA | HEADERS, 1) => " END",
            _ => "",
        };
        format!("< {name} {}{rest}{flag}", self.stream)
    }
}

/// Cuts output into frames; it must hold whole ones.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, s0, s1, s2, s3, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let (payload, after) = rest.split_at(length);
        frames.push(Frame {
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes([*s0, *s1, *s2, *s3]),
            payload: payload.to_vec(),
        });
        bytes = after;
    }
    assert!(bytes.is_empty(), "a frame is cut");
    frames
}

pub(crate) fn render_event(event: &Event<'_, '_>) -> String {
    let ended = |end: &bool| if *end { " END" } else { "" };
    match event {
        Event::Headers { stream, head, end } => {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let fields: String =
                head.fields().map(|(_, name, value)| format!(" {name}={}", text(value))).collect();
            let (method, path) = (text(head.method()), text(head.path()));
            format!("> headers {} {method} {path}{fields}{}", stream.0, ended(end))
        }
        Event::Data { stream, data, end } => {
            format!("> data {} {:?}{}", stream.0, String::from_utf8_lossy(data), ended(end))
        }
        Event::Trailers { stream, trailers } => {
            let fields: String = trailers
                .fields()
                .map(|(_, name, value)| format!(" {name}={}", String::from_utf8_lossy(value)))
                .collect();
            format!("> trailers {}{fields}", stream.0)
        }
        Event::Reset { stream, code, by_peer } => {
            let by = if *by_peer { "peer" } else { "us" };
            format!("> reset {} {} by {by}", stream.0, code.0)
        }
        Event::Writable { stream } => format!("> writable {}", stream.0),
        Event::Ping { opaque } => format!("> ping {:?}", String::from_utf8_lossy(opaque)),
        Event::PingAck { opaque } => format!("> ping-ack {:?}", String::from_utf8_lossy(opaque)),
        Event::GoAway { code } => format!("> go-away {}", code.0),
        Event::Drained => "> drained".to_owned(),
    }
}

/// Either half of a connection.
pub(crate) trait Side {
    fn next<'i>(
        &mut self,
        now_ms: u64,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'_, 'i>>, Error>;
    fn output(&mut self) -> &mut Output;
}

impl Side for Server {
    fn next<'i>(
        &mut self,
        now_ms: u64,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'_, 'i>>, Error> {
        self.receive(now_ms, input)
    }

    fn output(&mut self) -> &mut Output {
        self.output()
    }
}

impl Side for Client {
    fn next<'i>(
        &mut self,
        now_ms: u64,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'_, 'i>>, Error> {
        self.receive(now_ms, input)
    }

    fn output(&mut self) -> &mut Output {
        self.output()
    }
}

/// Feeds bytes; renders the events, and the error if it comes to one.
pub(crate) fn feed(side: &mut impl Side, now_ms: u64, bytes: &[u8]) -> String {
    let mut input = bytes;
    let mut lines = Vec::new();
    loop {
        match side.next(now_ms, &mut input) {
            Ok(Some(event)) => lines.push(render_event(&event)),
            Ok(None) => break,
            Err(error) => {
                lines.push(format!("! {} {}", error.code.0, error.reason));
                break;
            }
        }
    }
    assert!(input.is_empty(), "input is used up");
    lines.join("\n")
}

/// Feeds bytes in pieces; the events, and the error if it comes to one, with neighbouring pieces of a body joined.
pub(crate) fn joined(side: &mut impl Side, parts: &[&[u8]]) -> Vec<String> {
    let mut events = Vec::new();
    let mut bodies: Vec<(StreamId, Vec<u8>)> = Vec::new();
    for part in parts {
        let mut input = *part;
        loop {
            match side.next(0, &mut input) {
                Ok(Some(Event::Data { stream, data, end })) => {
                    match bodies.iter_mut().find(|(id, _)| *id == stream) {
                        Some((_, body)) => body.extend(data),
                        None => bodies.push((stream, data.to_vec())),
                    }
                    if end {
                        events.push(format!("> end {}", stream.0));
                    }
                }
                Ok(Some(event)) => events.push(render_event(&event)),
                Ok(None) => break,
                Err(error) => {
                    events.push(error.to_string());
                    break;
                }
            }
        }
    }
    bodies.sort_by_key(|(stream, _)| *stream);
    events.extend(bodies.iter().map(|(stream, body)| format!("{stream:?} {body:?}")));
    events
}

/// Takes all output, as frames; a client's preface is left out.
pub(crate) fn take(side: &mut impl Side) -> Vec<Frame> {
    let mut bytes = Vec::new();
    loop {
        let output = side.output();
        if !output.has_remaining() {
            break;
        }
        let part = output.copy_to_bytes(output.remaining());
        bytes.extend(part);
    }
    frames(bytes.strip_prefix(&preface()[..]).unwrap_or(&bytes))
}

/// Takes all output, as text.
pub(crate) fn written(side: &mut impl Side) -> String {
    take(side).iter().map(Frame::render).collect::<Vec<_>>().join("\n")
}

/// A connection past its handshake.
pub(crate) struct Peer {
    pub(crate) server: Server,
    pub(crate) now_ms: u64,
}

impl Peer {
    pub(crate) fn new(config: &Config, settings: &[(u16, u32)]) -> Self {
        let mut peer = Self { server: Server::new(config), now_ms: 0 };
        let shaken = peer.feed(&handshake(settings));
        assert_eq!(shaken, "", "a handshake gives no event");
        peer.written();
        peer
    }

    /// Feeds bytes; renders the events, and the error if it comes to one.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> String {
        feed(&mut self.server, self.now_ms, bytes)
    }

    /// Takes all output, as frames.
    pub(crate) fn take(&mut self) -> Vec<Frame> {
        take(&mut self.server)
    }

    /// Takes all output, as text.
    pub(crate) fn written(&mut self) -> String {
        written(&mut self.server)
    }

    /// Feeds bytes and takes the output: events first, then frames.
    pub(crate) fn turn(&mut self, bytes: &[u8]) -> String {
        let events = self.feed(bytes);
        let frames = self.written();
        [events, frames].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
    }
}

/// One connection with default limits: what it says to `bytes`.
#[track_caller]
pub(crate) fn check(bytes: &[Vec<u8>], want: &[&str]) {
    let got = Peer::new(&Config::default(), &[]).turn(&bytes.concat());
    assert_eq!(got, want.join("\n"));
}
