//! Our side of the comparison: a `http2::Server` or `http2::Client` that reads one frame at a time.

use bytes::Buf;
use http2::{Client, Connection, ErrorCode, Event, HeaderList, Request, Server, StreamId};

use crate::plan::{Half, Plan, Policy, REQUESTS};
use crate::step::{self, Step, put_text};

/// Either half.
#[derive(Debug)]
enum Side {
    Server(Server),
    Client(Client),
}

/// Does the same with whichever half it is.
macro_rules! both {
    ($side:expr, $half:ident => $do:expr) => {
        match $side {
            Side::Server($half) => $do,
            Side::Client($half) => $do,
        }
    };
}

#[derive(Debug)]
pub(crate) struct Ours {
    side: Side,
    plan: Plan,
    written: Vec<u8>,
}

impl Ours {
    pub(crate) fn new(plan: Plan) -> Self {
        let config = plan.config();
        let side = match plan.half {
            Half::Server => Side::Server(Server::new(&config)),
            Half::Client => Side::Client(open_all(Client::new(&config), plan)),
        };
        let mut ours = Self { side, plan, written: Vec::new() };
        ours.write();
        ours
    }

    /// Reads the bytes in the plan's pieces.
    pub(crate) fn read(&mut self, bytes: &[u8], gone: &[u32], step: &mut Step) {
        let plan = self.plan;
        for piece in bytes.chunks(plan.cut.min(bytes.len()).max(1)) {
            let error = both!(&mut self.side, half => take_events(half, piece, plan, step));
            if let Some(error) = error {
                step.dead = Some((error.code.0, error.reason));
                break;
            }
        }
        self.write();
        step.read_output(&self.written, gone);
        step.closed = both!(&self.side, half => half.wants_close());
        step.settle();
    }

    /// What a server's application does: it answers, or gives up.
    pub(crate) fn act(&mut self, stream: u32) {
        let Side::Server(server) = &mut self.side else { return };
        match self.plan.policy {
            Policy::Nothing => return,
            Policy::Answer | Policy::Early => server.send_headers(StreamId(stream), 200, &[], true),
            Policy::Reset => server.reset(StreamId(stream), ErrorCode::CANCEL),
        }
        self.write();
    }

    /// Takes what is to be written.
    fn write(&mut self) {
        self.written.clear();
        let output = both!(&mut self.side, half => half.output());
        while output.has_remaining() {
            let chunk = output.chunk();
            let length = chunk.len();
            self.written.extend_from_slice(chunk);
            output.advance(length);
        }
    }
}

fn open_all(mut client: Client, plan: Plan) -> Client {
    for number in 0..REQUESTS {
        let request =
            Request { method: "POST", scheme: "http", authority: "a", path: "/b", fields: &[] };
        let opened = client.open(&request, plan.is_complete(number));
        assert!(opened.is_ok(), "there is room at first");
    }
    client
}

/// The calls of a connection that both halves have.
trait Reads {
    fn next<'s, 'i>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'s, 'i>>, http2::Error>;
    fn hold(&mut self, stream: StreamId);
}

macro_rules! reads {
    ($half:ty) => {
        impl Reads for Connection<$half> {
            fn next<'s, 'i>(
                &'s mut self,
                input: &mut &'i [u8],
            ) -> Result<Option<Event<'s, 'i>>, http2::Error> {
                self.receive(0, input)
            }

            fn hold(&mut self, stream: StreamId) {
                self.hold_window(stream);
            }
        }
    };
}

reads!(http2::ServerHalf);
reads!(http2::ClientHalf);

fn take_events(
    half: &mut impl Reads,
    piece: &[u8],
    plan: Plan,
    step: &mut Step,
) -> Option<http2::Error> {
    let mut input = piece;
    loop {
        let event = match half.next(&mut input) {
            Ok(Some(event)) => event,
            Ok(None) => return None,
            Err(error) => return Some(error),
        };
        match event {
            Event::Headers { stream, head, end } => {
                step.scheme = Some(head.scheme().to_vec());
                step.tell(if end { step::HEAD_END } else { step::HEAD }, stream.0, |out| {
                    put_head(out, head);
                });
                if plan.holds {
                    half.hold(stream);
                }
            }
            Event::Data { stream, data, end } => {
                step.tell_body(stream.0, data);
                if end {
                    step.tell(step::END, stream.0, |_| {});
                }
            }
            Event::Trailers { stream, trailers } => {
                step.tell(step::TRAILERS, stream.0, |out| put_fields(out, trailers));
            }
            Event::Reset { stream, by_peer: true, .. } => {
                step.tell(step::RESET, stream.0, |_| {});
            }
            // Told to the peer as well, where it is looked for.
            Event::Reset { by_peer: false, .. }
            | Event::Writable { .. }
            | Event::Ping { .. }
            | Event::PingAck { .. }
            | Event::GoAway { .. }
            | Event::Drained => {}
        }
    }
}

fn put_head(out: &mut Vec<u8>, head: &HeaderList) {
    if head.status() == 0 {
        put_text(out, head.method());
        put_text(out, head.authority());
        put_text(out, head.path());
    } else {
        let status = head.status();
        let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
        put_text(out, &digits);
    }
    put_fields(out, head);
}

/// The fields, those of one name together, as a map keeps them.
fn put_fields(out: &mut Vec<u8>, head: &HeaderList) {
    for (at, (_, name, _)) in head.fields().enumerate() {
        if head.fields().take(at).any(|(_, earlier, _)| earlier == name) {
            continue;
        }
        for (_, other, value) in head.fields().skip(at) {
            if other == name {
                put_text(out, name.as_bytes());
                put_text(out, value);
            }
        }
    }
}
