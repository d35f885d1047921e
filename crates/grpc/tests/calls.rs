//! Calls, answered by our own server half through a wire that cuts what it carries anywhere.

use api::etcdserverpb::RangeRequest;
use api::frame;
use api::{Code, Status};
use bytes::Buf;
use grpc::{CallId, Connection, End, Field, Kind, Next, Unopened};
use http2::{Config, ErrorCode, Event, Server, StreamId};
use proptest::{collection::vec, prelude::*};
use prost::Message;

const OK: Field<'static> = Field::indexed("grpc-status", b"0");
const HEAD: [Field<'static>; 1] = [Field::indexed("content-type", b"application/grpc")];

/// A connection, and the server at its other end.
struct Pair {
    client: Connection,
    server: Server,
    /// How many bytes go over at a time.
    cut: usize,
}

impl Pair {
    fn new(config: &Config, cut: usize) -> Self {
        let mut pair = Self { client: Connection::new("name"), server: Server::new(config), cut };
        pair.settle();
        assert!(pair.client.is_established());
        pair
    }

    /// Carries bytes until there are none; returns what the server heard.
    fn settle(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            let there = cut_off(self.client.output(), self.cut);
            let mut input = &there[..];
            while let Some(event) = self.server.receive(0, &mut input).expect("we keep the rules") {
                heard.push(match event {
                    Event::Headers { stream, head, .. } => {
                        format!("{} {}", stream.0, String::from_utf8_lossy(head.path()))
                    }
                    Event::Data { stream, data, end } => {
                        format!("{} {}{}", stream.0, data.len(), if end { " end" } else { "" })
                    }
                    Event::Reset { stream, code, .. } => format!("{} reset {}", stream.0, code.0),
                    _ => continue,
                });
            }
            let back = cut_off(self.server.output(), self.cut);
            let mut input = &back[..];
            while self.client.receive(0, &mut input).expect("we keep the rules").is_some() {}
            if there.is_empty() && back.is_empty() {
                return heard;
            }
        }
    }

    fn start(&mut self, kind: Kind) -> (CallId, StreamId) {
        let metadata = [Field::indexed("te", b"trailers")];
        let call = self.client.start("/a.B/C", &metadata, kind, 1000).expect("room");
        self.client.send(call, &request(), true);
        let heard = self.settle();
        let stream = heard.first().and_then(|line| line.split(' ').next()?.parse().ok());
        (call, StreamId(stream.expect("a stream")))
    }

    fn answer(&mut self, stream: StreamId, messages: &[&[u8]], trailers: &[Field<'_>]) {
        self.server.send_headers(stream, 200, &HEAD, false);
        for message in messages {
            self.server.send_data(stream, &framed(message), false);
        }
        self.server.send_trailers(stream, trailers);
        self.settle();
    }

    fn end(&mut self, call: CallId) -> End {
        match self.client.next(call) {
            Next::End(end) => end,
            other => panic!("{other:?}"),
        }
    }
}

fn cut_off(output: &mut grpc::Output, most: usize) -> Vec<u8> {
    let count = output.remaining().min(most);
    output.copy_to_bytes(count).to_vec()
}

fn request() -> RangeRequest {
    RangeRequest { key: "key".into(), ..RangeRequest::default() }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode_bytes(&mut out, message).expect("it is short");
    out
}

fn ended(code: Code, text: &str) -> End {
    End { status: Status::new(code, text.to_owned()), is_unsent: false }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn messages_come_as_they_were_sent(
        messages in vec(vec(any::<u8>(), 0..900), 0..20),
        cut in prop_oneof![1usize..20, 1usize..5000],
    ) {
        let mut pair = Pair::new(&Config::default(), cut);
        let (call, stream) = pair.start(Kind::Streaming);
        prop_assert!(!pair.client.has_begun(call));
        let parts: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        pair.answer(stream, &parts, &[OK]);
        prop_assert!(pair.client.has_begun(call));
        for message in &messages {
            prop_assert_eq!(pair.client.next(call), Next::Message(message.clone().into()));
        }
        prop_assert_eq!(pair.end(call), ended(Code::Ok, ""));
        prop_assert_eq!(pair.client.next(call), Next::Pending);
        prop_assert!(pair.client.is_idle());
    }

    #[test]
    fn any_body_is_messages_or_a_status(body in vec(any::<u8>(), 0..60), cut in 1usize..60) {
        let mut pair = Pair::new(&Config::default(), cut);
        let (call, stream) = pair.start(Kind::Streaming);
        pair.server.send_headers(stream, 200, &HEAD, false);
        pair.server.send_data(stream, &body, false);
        pair.server.send_trailers(stream, &[OK]);
        pair.settle();
        while let Next::Message(_) = pair.client.next(call) {}
        prop_assert!(pair.client.is_idle());
    }
}

#[test]
fn a_unary_call() {
    let mut pair = Pair::new(&Config::default(), 7);
    let call = pair.client.start("/a.B/C", &[], Kind::Unary, 1000).expect("room");
    pair.client.send(call, &request(), true);
    let length = frame::PREFIX_BYTES + request().encoded_len();
    let heard = pair.settle();
    assert_eq!(heard.first().map(String::as_str), Some("1 /a.B/C"));
    let sizes = heard.iter().skip(1).map(|line| line.split(' ').nth(1).expect("a size"));
    assert_eq!(sizes.map(|size| size.parse::<usize>().expect("a number")).sum::<usize>(), length);
    pair.answer(StreamId(1), &[b"answer"], &[OK]);
    assert_eq!(pair.client.next(call), Next::Message("answer".into()));
    assert_eq!(pair.end(call).status, Status::OK);
}

#[test]
fn statuses() {
    let status =
        |code, text| [Field::literal("grpc-status", code), Field::literal("grpc-message", text)];
    let malformed = "transport: malformed grpc-status: \"x\"";
    let none = "cardinality violation: received no response message from non-server-streaming RPC";
    let two = "cardinality violation: expected <EOF> for non server-streaming RPCs, but received another message";
    let large = "grpc: received message larger than max (1001 vs. 1000)";
    let message: &[u8] = b"message";
    for (messages, trailers, want) in [
        (&[][..], status(b"5", b"not%20there"), ended(Code::NotFound, "not there")),
        (&[message], status(b"5", b"there was one"), ended(Code::NotFound, "there was one")),
        (&[message], status(b"99", b"new"), ended(Code::Unknown, "new")),
        (&[message], status(b"x", b""), ended(Code::Internal, malformed)),
        (&[], status(b"0", b""), ended(Code::Internal, none)),
        (&[message, message], status(b"0", b""), ended(Code::Internal, two)),
        (&[&[0; 1001]], status(b"0", b""), ended(Code::ResourceExhausted, large)),
    ] {
        let mut pair = Pair::new(&Config::default(), 1 << 20);
        let (call, stream) = pair.start(Kind::Unary);
        pair.answer(stream, messages, &trailers);
        assert_eq!(pair.end(call), want);
        assert!(pair.client.is_idle());
    }
}

#[test]
fn answers_that_are_not_grpc() {
    let text = Field::literal("content-type", b"text/plain");
    for (http_status, fields, code, message) in [
        (
            404,
            vec![HEAD[0]],
            Code::Unimplemented,
            "unexpected HTTP status code received from server: 404 (Not Found)",
        ),
        (
            200,
            vec![text],
            Code::Unknown,
            "transport: received unexpected content-type \"text/plain\"",
        ),
        (
            503,
            vec![],
            Code::Unavailable,
            "unexpected HTTP status code received from server: 503 (Service Unavailable); malformed header: missing HTTP content-type",
        ),
    ] {
        for end in [true, false] {
            let mut pair = Pair::new(&Config::default(), 1 << 20);
            let (call, stream) = pair.start(Kind::Unary);
            pair.server.send_headers(stream, http_status, &fields, end);
            pair.settle();
            assert_eq!(pair.end(call), ended(code, message));
        }
    }
}

#[test]
fn bodies_that_are_not_grpc() {
    for (body, code, message) in [
        (&b"\x02abcd"[..], Code::Internal, "grpc: received unexpected payload format 2"),
        (
            b"\x01\0\0\0\0",
            Code::Internal,
            "grpc: compressed flag set with identity or empty encoding",
        ),
        (
            b"\0\xff\xff\xff\xff",
            Code::ResourceExhausted,
            "grpc: received message larger than max (4294967295 vs. 1000)",
        ),
        (b"\0\0\0\0\x02a", Code::Internal, "unexpected EOF"),
    ] {
        let mut pair = Pair::new(&Config::default(), 1);
        let (call, stream) = pair.start(Kind::Streaming);
        pair.server.send_headers(stream, 200, &HEAD, false);
        pair.server.send_data(stream, body, false);
        pair.server.send_trailers(stream, &[OK]);
        pair.settle();
        assert_eq!(pair.client.take_failure(call), Some(ended(code, message)));
    }
}

#[test]
fn what_was_not_begun_with_can_be_made_again() {
    let config = Config { max_concurrent_streams: 2, ..Config::default() };
    let mut pair = Pair::new(&config, 1 << 20);
    let (first, stream) = pair.start(Kind::Unary);
    let (second, other) = pair.start(Kind::Unary);
    assert_eq!(pair.client.can_start(), Err(Unopened::Full));
    pair.server.reset(stream, ErrorCode::REFUSED_STREAM);
    pair.server.reset(other, ErrorCode::CANCEL);
    pair.settle();
    let text = "stream terminated by RST_STREAM with error code: REFUSED_STREAM";
    let refused = End { status: Status::fixed(Code::Unavailable, text), is_unsent: true };
    assert_eq!(pair.end(first), refused);
    assert_eq!(pair.end(second).status.code, Code::Canceled);

    let (sent, _) = pair.start(Kind::Unary);
    let unsent = pair.client.start("/a.B/C", &[], Kind::Unary, 1000).expect("room");
    assert_eq!(pair.client.close("gone"), [sent, unsent]);
    let end = End { status: Status::fixed(Code::Unavailable, "gone"), is_unsent: false };
    assert_eq!(pair.end(sent), end);
    assert_eq!(pair.end(unsent), End { is_unsent: true, ..end });
    assert_eq!(pair.client.can_start(), Err(Unopened::Ending));
}

#[test]
fn a_server_that_goes_away_answers_what_it_has() {
    let mut pair = Pair::new(&Config::default(), 1 << 20);
    let (call, stream) = pair.start(Kind::Unary);
    pair.server.drain();
    pair.settle();
    assert!(pair.client.is_going_away() && !pair.client.wants_close());
    assert_eq!(pair.client.can_start(), Err(Unopened::Ending));
    pair.answer(stream, &[b"last"], &[OK]);
    assert_eq!(pair.client.next(call), Next::Message("last".into()));
    assert!(pair.client.wants_close());
}

#[test]
fn a_call_that_is_given_up_is_reset() {
    let mut pair = Pair::new(&Config::default(), 1 << 20);
    let (call, stream) = pair.start(Kind::Streaming);
    pair.client.cancel(call);
    assert_eq!(pair.settle(), [format!("{} reset 8", stream.0)]);
    assert_eq!(pair.client.next(call), Next::Pending);
    pair.client.send(call, &request(), false);
    assert!(pair.settle().is_empty());
}

#[test]
fn a_server_is_held_back_while_nobody_takes_its_messages() {
    for (length, count) in [(1000, 8 << 10), (0, 1 << 20)] {
        let mut pair = Pair::new(&Config::default(), 1 << 20);
        let (call, stream) = pair.start(Kind::Streaming);
        pair.server.send_headers(stream, 200, &HEAD, false);
        let many = framed(&vec![7; length]).repeat(count);
        pair.server.send_bytes(stream, [many.into()], false);
        pair.settle();
        assert!(pair.server.unsent(stream) > 0, "it may not send all");
        let mut taken = 0;
        while let Next::Message(message) = pair.client.next(call) {
            assert_eq!(message.len(), length);
            taken += 1;
            if taken % 1000 == 0 {
                pair.settle();
            }
        }
        // What was on its way when the last was taken.
        pair.settle();
        while let Next::Message(_) = pair.client.next(call) {
            taken += 1;
        }
        assert_eq!((taken, pair.server.unsent(stream)), (count, 0));
    }
}
