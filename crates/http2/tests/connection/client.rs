//! The client's half, rule by rule, against frames that are written by hand: what a server may do, and what it may not.

use bytes::Buf;
use http2::{Client, Config, ErrorCode, Field, Request, StreamId, Unopened};
use proptest::{collection::vec, prelude::*};

use crate::wire::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PUSH_PROMISE, SETTINGS, block, data,
    feed, frame, frames, joined, parameters, reset, take, window_update, written,
};

const REQUEST: Request<'static> = Request {
    method: "POST",
    scheme: "http",
    authority: "a",
    path: "/b",
    fields: &[Field::indexed("te", b"trailers")],
};

/// A client with streams that wait for their answers.
fn client(streams: usize) -> Client {
    let mut client = Client::new(&Config::default());
    for _ in 0..streams {
        client.open(&REQUEST, true).expect("room");
    }
    take(&mut client);
    client
}

/// What a server says first.
fn greeting(settings: &[(u16, u32)]) -> Vec<u8> {
    [frame(SETTINGS, 0, 0, &parameters(settings)), frame(SETTINGS, ACK, 0, &[])].concat()
}

fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(fields))
}

const OK: (&str, &str) = (":status", "200");

fn go_away(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// What a client with open streams 1, 3 and 5 makes of a server's words: events first, then frames.
#[track_caller]
fn check(bytes: &[Vec<u8>], want: &[&str]) {
    let mut client = client(3);
    let events = feed(&mut client, 0, &[&greeting(&[]), &bytes.concat()[..]].concat());
    let frames = written(&mut client);
    let got: Vec<&str> =
        events.lines().chain(frames.lines()).filter(|line| *line != "< SETTINGS 0 ACK").collect();
    assert_eq!(got, want);
}

#[test]
fn the_client_speaks_first_and_a_repeated_request_is_short() {
    let mut client = Client::new(&Config::default());
    assert_eq!(client.open(&REQUEST, true), Ok(StreamId(1)));
    assert_eq!(client.open(&REQUEST, false), Ok(StreamId(3)));
    assert_eq!(client.open(&REQUEST, false), Ok(StreamId(5)));
    let output = client.output();
    let bytes = output.copy_to_bytes(output.remaining());
    let rest = bytes.strip_prefix(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]).expect("the preface");
    let got = frames(rest);
    let settings = got.first().expect("SETTINGS");
    assert_eq!(settings.payload, parameters(&[(2, 0), (4, 1 << 20), (6, 64 << 10)]));
    let heads: Vec<_> = got.iter().filter(|frame| frame.kind == HEADERS).collect();
    assert_eq!(heads.iter().map(|head| head.flags).collect::<Vec<_>>(), [5, 4, 4]);
    let lengths: Vec<usize> = heads.iter().map(|head| head.payload.len()).collect();
    assert_eq!(lengths.get(1..), Some(&[5, 5][..]), "one byte a field");
}

#[test]
fn an_answer_without_content_may_speak_of_a_length() {
    for status in ["204", "304"] {
        let fields = [(":status", status), ("content-length", "5")];
        check(&[head(3, END_STREAM, &fields)], &["> headers 3   content-length=5 END"]);
    }
}

#[test]
fn answers() {
    check(
        &[
            head(3, 0, &[(":status", "103"), ("link", "x")]),
            head(3, 0, &[OK, ("a", "b")]),
            data(3, 0, b"abc"),
            head(3, END_STREAM, &[("grpc-status", "0")]),
            head(1, END_STREAM, &[OK, ("grpc-status", "12")]),
            head(5, 0, &[OK]),
            data(5, END_STREAM, b""),
        ],
        &[
            "> headers 3   a=b",
            "> data 3 \"abc\"",
            "> trailers 3 grpc-status=0",
            "> headers 1   grpc-status=12 END",
            "> headers 5  ",
            "> data 5 \"\" END",
        ],
    );
}

#[test]
fn malformed_answers_end_their_stream_alone() {
    for (bytes, code) in [
        (data(3, 0, b"no head"), 1),
        (head(3, 0, &[("a", "b")]), 1),
        (head(3, 0, &[(":status", "20")]), 1),
        (head(3, 0, &[(":status", "2000")]), 1),
        (head(3, 0, &[(":status", "+20")]), 1),
        (head(3, 0, &[(":status", "099")]), 1),
        (head(3, 0, &[(":status", "101")]), 1),
        (head(3, 0, &[OK, OK]), 1),
        (head(3, 0, &[OK, (":path", "/")]), 1),
        (head(3, END_STREAM, &[(":status", "100")]), 1),
        (head(3, END_STREAM, &[OK, ("content-length", "1")]), 1),
        ([head(3, 0, &[OK]), head(3, 0, &[("a", "b")])].concat(), 1),
        ([head(3, 0, &[OK, ("content-length", "1")]), data(3, 0, b"ab")].concat(), 1),
        ([head(3, 0, &[OK]), window_update(3, 0)].concat(), 1),
        (window_update(3, 0x7fff_ffff), 3),
    ] {
        let mut client = client(3);
        let events = feed(&mut client, 0, &[greeting(&[]), bytes.clone()].concat());
        assert!(events.ends_with(&format!("> reset 3 {code} by us")), "{bytes:?}: {events}");
        assert!(written(&mut client).ends_with(&format!("< RST_STREAM 3 {code}")));
        assert_eq!(client.open_streams(), 2);
    }
}

#[test]
fn a_header_list_beyond_the_limit() {
    let config = Config { max_header_list: 100, ..Config::default() };
    let mut client = Client::new(&config);
    client.open(&REQUEST, true).expect("room");
    let list = [OK, ("a", "b"), ("c", "d"), ("e", "f")];
    let events = feed(&mut client, 0, &[greeting(&[]), head(1, 0, &list)].concat());
    assert_eq!(events, "> reset 1 6 by us");
}

#[test]
fn what_a_server_may_not_do_ends_the_connection() {
    for (bytes, code, reason) in [
        (head(7, 0, &[OK]), 1, "HEADERS on a stream that was never opened"),
        (head(2, 0, &[OK]), 1, "HEADERS on a stream that is not the client's"),
        (data(7, 0, b"a"), 1, "DATA on a stream that is not open"),
        (reset(7, 0), 1, "RST_STREAM on a stream that was never open"),
        (window_update(7, 1), 1, "WINDOW_UPDATE on a stream that was never open"),
        (frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), 1, "nobody may push"),
        (frame(SETTINGS, 0, 0, &parameters(&[(2, 1)])), 1, "a server may not push"),
        (frame(HEADERS, END_HEADERS, 1, &[0x80]), 9, "index outside the tables"),
        (frame(GOAWAY, 0, 0, &[0; 7]), 6, "GOAWAY frame too short"),
        (frame(DATA, 0, 1, &[0; 16_385]), 6, "frame too long"),
        (
            [head(1, END_STREAM, &[OK]), head(1, END_STREAM, &[OK])].concat(),
            5,
            "HEADERS on a closed stream",
        ),
    ] {
        let mut client = client(3);
        let events = feed(&mut client, 0, &[greeting(&[]), bytes].concat());
        assert_eq!(events.lines().last(), Some(&*format!("! {code} {reason}")));
        assert!(client.wants_close());
        assert_eq!(client.open(&REQUEST, true), Err(Unopened::Ending));
        let last = written(&mut client);
        assert!(last.ends_with(&format!("< GOAWAY 0 last=0 code={code} {reason:?}")), "{last}");
    }
}

#[test]
fn the_first_frame_is_settings() {
    let mut client = client(1);
    assert!(!client.is_established());
    assert_eq!(feed(&mut client, 0, b"HTTP/1.1 400 Bad Request"), "! 6 frame too long");
    let mut other = self::client(1);
    let ping = frame(PING, 0, 0, b"12345678");
    assert_eq!(feed(&mut other, 0, &ping), "! 1 the first frame is not SETTINGS");
    let mut good = self::client(1);
    feed(&mut good, 0, &greeting(&[]));
    assert!(good.is_established());
}

#[test]
fn no_more_streams_are_opened_than_the_server_allows() {
    let mut client = client(1);
    feed(&mut client, 0, &greeting(&[(3, 2)]));
    assert_eq!(client.open(&REQUEST, true), Ok(StreamId(3)));
    assert_eq!(client.open(&REQUEST, true), Err(Unopened::Full));
    feed(&mut client, 0, &head(1, END_STREAM, &[OK]));
    assert_eq!(client.open(&REQUEST, true), Ok(StreamId(5)));
}

#[test]
fn going_away_tells_which_requests_were_not_begun() {
    let mut client = client(3);
    feed(&mut client, 0, &greeting(&[]));
    let events = feed(&mut client, 0, &go_away(0x7fff_ffff, 0));
    assert_eq!(events, "> go-away 0");
    assert_eq!(client.open(&REQUEST, true), Err(Unopened::Ending));
    let events = feed(&mut client, 0, &go_away(1, 0));
    assert_eq!(events, "> go-away 0\n> reset 3 7 by peer\n> reset 5 7 by peer");
    assert!(!client.wants_close(), "stream 1 is still answered");
    let late = [head(3, 0, &[OK]), data(3, 0, b"late"), go_away(3, 0)].concat();
    assert_eq!(feed(&mut client, 0, &late), "> go-away 0", "what was refused stays refused");
    assert_eq!(feed(&mut client, 0, &head(1, END_STREAM, &[OK])), "> headers 1   END");
    assert!(client.wants_close());
}

#[test]
fn the_end_of_the_answer_is_the_end_of_the_request() {
    let mut client = Client::new(&Config::default());
    let stream = client.open(&REQUEST, false).expect("room");
    client.send_data(stream, b"part", false);
    take(&mut client);
    feed(&mut client, 0, &greeting(&[]));
    feed(&mut client, 0, &head(1, END_STREAM, &[OK]));
    assert!(!client.is_open(stream));
    client.send_data(stream, b"more", true);
    assert_eq!(written(&mut client), "< SETTINGS 0 ACK\n< RST_STREAM 1 0");
    assert_eq!(feed(&mut client, 0, &reset(1, 0)), "");
}

#[test]
fn answers_to_many_calls_that_were_given_up_are_no_fault() {
    let mut client = client(1000);
    feed(&mut client, 0, &greeting(&[]));
    for stream in (1..2000).step_by(2) {
        client.reset(StreamId(stream), ErrorCode::CANCEL);
    }
    for stream in (1..2000).step_by(2) {
        let late = [head(stream, 0, &[OK]), data(stream, 0, b"late")].concat();
        assert_eq!(feed(&mut client, 0, &late), "");
    }
    assert!(!client.wants_close());
}

#[test]
fn a_request_is_unsent_until_its_first_byte_is_taken() {
    let mut client = client(0);
    let first = client.open(&REQUEST, false).expect("room");
    client.send_data(first, &[0; 100], true);
    let second = client.open(&REQUEST, true).expect("room");
    assert!(client.is_unsent(first) && client.is_unsent(second));
    client.output().advance(1);
    assert!(!client.is_unsent(first) && client.is_unsent(second));
    let rest = client.output().remaining();
    client.output().advance(rest);
    assert!(!client.is_unsent(second));
}

#[test]
fn floods_of_a_server_end_the_connection() {
    for bytes in [
        frame(PING, 0, 0, b"12345678"),
        frame(SETTINGS, 0, 0, &[]),
        window_update(1, 1),
        head(1, 0, &[(":status", "100")]),
        frame(99, 0, 0, &[]),
    ] {
        let mut client = client(1);
        feed(&mut client, 0, &greeting(&[]));
        let flood = bytes.repeat(20_000);
        let mut input = &flood[..];
        let error = loop {
            match client.receive(0, &mut input) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{bytes:?} may come 20,000 times"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.code, ErrorCode::ENHANCE_YOUR_CALM);
        assert!(client.memory() < 1 << 20);
    }
}

/// A server's frame that may be good or bad.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = || prop_oneof![8 => (0u32..6).prop_map(|n| n * 2 + 1), 1 => 0u32..20];
    let flags = || prop_oneof![Just(0u8), Just(1), Just(4), Just(5), Just(9), any::<u8>()];
    let number = || prop_oneof![0u32..20, Just(0x7fff_ffff), any::<u32>()];
    let lists = prop_oneof![
        6 => Just(block(&[OK])),
        2 => Just(block(&[OK, ("content-length", "5")])),
        1 => Just(block(&[(":status", "100")])),
        3 => Just(block(&[("grpc-status", "0")])),
        2 => Just(vec![0x88, 0xbe]),
        1 => vec(any::<u8>(), 0..30),
    ];
    prop_oneof![
        8 => (stream(), flags(), lists)
            .prop_map(|(id, flags, block)| frame(HEADERS, flags | 4, id, &block)),
        6 => (stream(), flags(), vec(any::<u8>(), 0..300))
            .prop_map(|(id, flags, body)| frame(DATA, flags, id, &body)),
        2 => (stream(), number()).prop_map(|(id, code)| reset(id, code)),
        2 => (stream(), number()).prop_map(|(id, by)| window_update(id, by)),
        1 => (0u16..8, number())
            .prop_map(|(key, value)| frame(SETTINGS, 0, 0, &parameters(&[(key, value)]))),
        1 => (number(), number()).prop_map(|(last, code)| go_away(last, code)),
        1 => Just(frame(PING, 0, 0, b"12345678")),
        1 => (0u8..12, flags(), stream(), vec(any::<u8>(), 0..40))
            .prop_map(|(kind, flags, id, payload)| frame(kind, flags, id, &payload)),
    ]
}

/// What the application does after each piece of input.
#[derive(Clone, Copy, Debug)]
enum Act {
    Open(bool),
    Data(u32, usize, bool),
    Trailers(u32),
    Reset(u32),
    Hold(u32),
    Release(u32, usize),
    Write(usize),
}

fn any_act() -> impl Strategy<Value = Act> {
    let id = || (0u32..6).prop_map(|n| n * 2 + 1);
    prop_oneof![
        4 => any::<bool>().prop_map(Act::Open),
        3 => (id(), 0usize..30_000, any::<bool>()).prop_map(|(id, n, end)| Act::Data(id, n, end)),
        1 => id().prop_map(Act::Trailers),
        1 => id().prop_map(Act::Reset),
        2 => id().prop_map(Act::Hold),
        2 => (id(), 0usize..500).prop_map(|(id, n)| Act::Release(id, n)),
        3 => (0usize..100_000).prop_map(Act::Write),
    ]
}

fn act(client: &mut Client, act: Act) {
    match act {
        Act::Open(end) => {
            let _ = client.open(&REQUEST, end);
        }
        Act::Data(id, length, end) => client.send_data(StreamId(id), &vec![b'd'; length], end),
        Act::Trailers(id) => client.send_trailers(StreamId(id), &[Field::literal("a", b"b")]),
        Act::Reset(id) => client.reset(StreamId(id), ErrorCode::CANCEL),
        Act::Hold(id) => client.hold_window(StreamId(id)),
        Act::Release(id, bytes) => client.release(StreamId(id), bytes),
        Act::Write(count) => {
            let output = client.output();
            output.advance(count.min(output.remaining()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_cut_means_the_same(frames in vec(any_frame(), 0..30), cuts in vec(0usize..3000, 0..20)) {
        let bytes = [greeting(&[]), frames.concat()].concat();
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let parts: Vec<&[u8]> =
            cuts.windows(2).filter_map(|cut| bytes.get(*cut.first()?..*cut.last()?)).collect();
        prop_assert_eq!(joined(&mut client(4), &parts), joined(&mut client(4), &[&bytes]));
    }

    #[test]
    fn any_server_breaks_nothing(
        chunks in vec(prop_oneof![4 => any_frame(), 1 => vec(any::<u8>(), 0..300)], 0..60),
        acts in vec(any_act(), 0..120),
        shaken in prop::bool::weighted(0.9),
    ) {
        let mut client = client(2);
        let mut acts = acts.into_iter();
        if shaken {
            feed(&mut client, 0, &greeting(&[]));
        }
        for (now_ms, chunk) in chunks.iter().enumerate() {
            let mut input = &chunk[..];
            while let Ok(Some(event)) = client.receive(now_ms as u64, &mut input) {
                let _ = crate::wire::render_event(&event);
            }
            for next in acts.by_ref().take(2) {
                act(&mut client, next);
            }
        }
        prop_assert!(client.memory() < 12 << 20);
    }
}
