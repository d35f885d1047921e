//! RFC 9113, rule by rule.

use http2::{Config, Server};

use crate::wire::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY,
    PUSH_PROMISE, Peer, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, call, call_block, check, data,
    frame, frames, handshake, parameters, preface, reset, window_update,
};

/// A connection error: nothing but this and its GOAWAY.
#[track_caller]
fn check_fatal(bytes: &[Vec<u8>], code: u32, reason: &str) {
    let got = Peer::new(&Config::default(), &[]).turn(&bytes.concat());
    let tail = format!("! {code} {reason}");
    let error = got.lines().find(|line| line.starts_with('!')).unwrap_or("no error");
    assert_eq!(error, tail);
    let go_away = got.lines().last().unwrap_or_default();
    assert!(go_away.starts_with("< GOAWAY 0 last="), "{got}");
    assert!(go_away.contains(&format!(" code={code} {reason:?}")), "{got}");
}

#[test]
fn section_3_4_the_server_speaks_first_and_acknowledges() {
    let config = Config { max_concurrent_streams: 7, ..Config::default() };
    let mut peer = Peer { server: Server::new(&config), now_ms: 0 };
    let first = peer.take();
    let want = parameters(&[(3, 7), (4, 1 << 20), (6, 64 << 10)]);
    assert_eq!(first.first().map(|frame| &frame.payload), Some(&want));
    assert_eq!(first.len(), 2, "SETTINGS, and a larger window for the connection");
    assert_eq!(peer.turn(&handshake(&[])), "< SETTINGS 0 ACK");
}

#[test]
fn section_3_4_a_bad_preface() {
    let mut peer = Peer { server: Server::new(&Config::default()), now_ms: 0 };
    assert_eq!(peer.feed(b"GET / HTTP/1.1\r\n"), "! 1 not the HTTP/2 preface");
    assert!(peer.server.wants_close());
    assert_eq!(peer.feed(&handshake(&[])), "", "what comes later is dropped");
}

#[test]
fn section_3_4_settings_come_first() {
    for first in [frame(PING, 0, 0, b"12345678"), frame(SETTINGS, ACK, 0, &[]), call(1, 0)] {
        let mut peer = Peer { server: Server::new(&Config::default()), now_ms: 0 };
        assert_eq!(peer.feed(&[preface(), first].concat()), "! 1 the first frame is not SETTINGS");
    }
}

#[test]
fn section_4_2_frame_size() {
    check_fatal(&[frame(DATA, 0, 1, &[0; 16_385])], 6, "frame too long");
    check_fatal(&[frame(99, 0, 1, &[0; 16_385])], 6, "frame too long");
}

#[test]
fn section_4_3_a_block_that_does_not_decode() {
    check_fatal(&[frame(HEADERS, END_HEADERS, 1, &[0x80])], 9, "index outside the tables");
}

#[test]
fn section_5_1_idle_streams_take_only_headers_and_priority() {
    check_fatal(&[data(1, 0, b"a")], 1, "DATA on a stream that is not open");
    check_fatal(&[reset(1, 8)], 1, "RST_STREAM on a stream that was never open");
    check_fatal(&[window_update(1, 1)], 1, "WINDOW_UPDATE on a stream that was never open");
    check(&[frame(PRIORITY, 0, 1, &[0; 5])], &[]);
}

#[test]
fn section_5_1_half_closed_streams_take_no_more() {
    check(
        &[call(1, END_STREAM), data(1, 0, b"a")],
        &["> headers 1 POST /a END", "> reset 1 5 by us", "< RST_STREAM 1 5"],
    );
    check(
        &[call(1, END_STREAM), call(1, END_STREAM)],
        &["> headers 1 POST /a END", "> reset 1 5 by us", "< RST_STREAM 1 5"],
    );
}

#[test]
fn section_5_1_closed_streams() {
    let closed = [call(1, 0), reset(1, 8)];
    check(
        &[&closed[..], &[data(1, 0, b"a")]].concat(),
        &["> headers 1 POST /a", "> reset 1 8 by peer", "< RST_STREAM 1 5"],
    );
    check_fatal(&[&closed[..], &[call(1, END_STREAM)]].concat(), 5, "HEADERS on a closed stream");
    check(
        &[&closed[..], &[window_update(1, 1), reset(1, 8), frame(PRIORITY, 0, 1, &[0; 5])]]
            .concat(),
        &["> headers 1 POST /a", "> reset 1 8 by peer"],
    );
}

#[test]
fn section_5_1_frames_on_their_way_to_a_stream_we_ended_are_no_fault() {
    let mut peer = Peer::new(&Config::default(), &[]);
    assert_eq!(peer.feed(&call(1, 0)), "> headers 1 POST /a");
    peer.server.reset(http2::StreamId(1), http2::ErrorCode::CANCEL);
    assert_eq!(peer.written(), "< RST_STREAM 1 8");
    let late = [
        data(1, 0, b"abc"),
        window_update(1, 5),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("a", "b")])),
        reset(1, 8),
    ];
    assert_eq!(peer.turn(&late.concat()), "");
}

#[test]
fn section_5_1_1_stream_ids() {
    check_fatal(&[call(2, 0)], 1, "HEADERS on a stream that is not the client's");
    check_fatal(&[call(0, 0)], 1, "HEADERS on a stream that is not the client's");
    check_fatal(&[call(5, 0), call(3, 0)], 1, "stream ids go up");
    check(
        &[call(5, 0), call(0x7fff_ffff, 0)],
        &["> headers 5 POST /a", "> headers 2147483647 POST /a"],
    );
}

#[test]
fn section_5_1_2_too_many_streams_are_refused() {
    let config = Config { max_concurrent_streams: 1, ..Config::default() };
    let mut peer = Peer::new(&config, &[]);
    assert_eq!(
        peer.turn(&[call(1, 0), call(3, 0), data(3, 0, b"late"), reset(1, 0), call(5, 0)].concat()),
        "> headers 1 POST /a\n> reset 1 0 by peer\n> headers 5 POST /a\n< RST_STREAM 3 7"
    );
}

#[test]
fn section_5_5_unknown_frames_are_ignored() {
    check(
        &[frame(0xbe, 0xff, 7, b"whatever"), frame(PING, 0, 0, b"12345678")],
        &["> ping \"12345678\"", "< PING 0 \"12345678\" ACK"],
    );
}

#[test]
fn section_6_1_padding() {
    check(
        &[call(1, 0), data(1, PADDED | END_STREAM, b"\x03abc\0\0\0")],
        &["> headers 1 POST /a", "> data 1 \"abc\" END"],
    );
    check(&[call(1, 0), data(1, PADDED, b"\x03\0\0\0")], &["> headers 1 POST /a"]);
    check(
        &[call(1, 0), data(1, PADDED | END_STREAM, b"\x00")],
        &["> headers 1 POST /a", "> data 1 \"\" END"],
    );
    let mut peer = Peer::new(&Config::default(), &[]);
    let bytes = [call(1, 0), data(1, PADDED | END_STREAM, b"\x02abc\0\0")].concat();
    let (first, last) = bytes.split_at(bytes.len() - 1);
    assert_eq!(peer.feed(first), "> headers 1 POST /a\n> data 1 \"abc\" END");
    assert_eq!(peer.turn(last), "", "the end is told once");
    check_fatal(&[call(1, 0), data(1, PADDED, b"\x03\0\0")], 1, "padding longer than its frame");
    check_fatal(&[call(1, 0), data(1, PADDED, b"")], 6, "DATA frame too short");
    check_fatal(&[data(0, 0, b"a")], 1, "DATA on a stream that is not open");
}

#[test]
fn section_6_2_headers() {
    let padded = [&[2][..], &call_block(), &[0, 0]].concat();
    check(&[frame(HEADERS, END_HEADERS | PADDED, 1, &padded)], &["> headers 1 POST /a"]);
    let prioritised = [&[0, 0, 0, 0, 9][..], &call_block()].concat();
    check(&[frame(HEADERS, END_HEADERS | 0x20, 1, &prioritised)], &["> headers 1 POST /a"]);
    check_fatal(
        &[frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0x83])],
        1,
        "padding longer than its frame",
    );
}

#[test]
fn section_6_3_priority() {
    check_fatal(&[frame(PRIORITY, 0, 1, &[0; 4])], 6, "frame of the wrong length");
    check_fatal(&[frame(PRIORITY, 0, 0, &[0; 5])], 1, "PRIORITY on stream 0");
}

#[test]
fn section_6_4_rst_stream() {
    check(&[call(1, 0), reset(1, 77)], &["> headers 1 POST /a", "> reset 1 77 by peer"]);
    check_fatal(&[call(1, 0), frame(RST_STREAM, 0, 1, &[0; 5])], 6, "frame of the wrong length");
    check_fatal(&[reset(0, 8)], 1, "RST_STREAM on a stream that was never open");
}

#[test]
fn section_6_5_settings() {
    check(&[frame(SETTINGS, 0, 0, &parameters(&[(0xabcd, 1), (2, 0)]))], &["< SETTINGS 0 ACK"]);
    check(&[frame(SETTINGS, ACK, 0, &[])], &[]);
    check_fatal(&[frame(SETTINGS, 0, 1, &[])], 1, "SETTINGS on a stream");
    check_fatal(&[frame(SETTINGS, 0, 0, &[0; 5])], 6, "SETTINGS of the wrong length");
    check_fatal(&[frame(SETTINGS, ACK, 0, &[0; 6])], 6, "SETTINGS of the wrong length");
    for (parameter, code, reason) in [
        ((2, 2), 1, "ENABLE_PUSH is neither 0 nor 1"),
        ((4, 1 << 31), 3, "INITIAL_WINDOW_SIZE too large"),
        ((5, 16_383), 1, "MAX_FRAME_SIZE out of range"),
        ((5, 1 << 24), 1, "MAX_FRAME_SIZE out of range"),
    ] {
        check_fatal(&[frame(SETTINGS, 0, 0, &parameters(&[parameter]))], code, reason);
    }
}

#[test]
fn section_6_6_nobody_may_push() {
    check_fatal(&[call(1, 0), frame(PUSH_PROMISE, 4, 1, &[0; 4])], 1, "nobody may push");
}

#[test]
fn section_6_7_ping() {
    check(
        &[frame(PING, 0, 0, b"12345678"), frame(PING, ACK, 0, b"abcdefgh")],
        &["> ping \"12345678\"", "> ping-ack \"abcdefgh\"", "< PING 0 \"12345678\" ACK"],
    );
    check_fatal(&[frame(PING, 0, 1, b"12345678")], 1, "PING on a stream");
    check_fatal(&[frame(PING, 0, 0, b"1234567")], 6, "frame of the wrong length");
}

#[test]
fn section_6_8_goaway() {
    check(
        &[frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x05bye"), call(1, 0)],
        &["> go-away 5", "> headers 1 POST /a"],
    );
    check_fatal(&[frame(GOAWAY, 0, 1, &[0; 8])], 1, "GOAWAY on a stream");
    check_fatal(&[frame(GOAWAY, 0, 0, &[0; 7])], 6, "GOAWAY frame too short");
}

#[test]
fn section_6_9_window_update() {
    check_fatal(&[window_update(0, 0)], 1, "WINDOW_UPDATE of nothing");
    check_fatal(&[frame(WINDOW_UPDATE, 0, 0, &[0; 3])], 6, "frame of the wrong length");
    check_fatal(&[window_update(0, 0x7fff_ffff)], 3, "the connection's window overflows");
    check(
        &[call(1, 0), window_update(1, 0)],
        &["> headers 1 POST /a", "> reset 1 1 by us", "< RST_STREAM 1 1"],
    );
    check(
        &[call(1, 0), window_update(1, 0x7fff_ffff)],
        &["> headers 1 POST /a", "> reset 1 3 by us", "< RST_STREAM 1 3"],
    );
    check_fatal(
        &[
            call(1, 0),
            window_update(1, 0x7fff_ffff - 65_535),
            frame(SETTINGS, 0, 0, &parameters(&[(4, 65_536)])),
        ],
        3,
        "a stream's window overflows",
    );
}

#[test]
fn section_6_9_1_more_than_the_window() {
    let config = Config { initial_window: 10, ..Config::default() };
    let mut peer = Peer::new(&config, &[]);
    assert_eq!(
        peer.turn(&[call(1, 0), data(1, 0, &[b'x'; 11])].concat()),
        "> headers 1 POST /a\n> reset 1 3 by us\n< RST_STREAM 1 3"
    );
    let config = Config { connection_window: 0, initial_window: 1 << 20, ..Config::default() };
    let mut peer = Peer::new(&config, &[]);
    peer.feed(&call(1, 0));
    peer.server.hold_window(http2::StreamId(1));
    for _ in 0..4 {
        peer.feed(&data(1, 0, &[b'x'; 16_000]));
    }
    let last = peer.feed(&data(1, 0, &[b'x'; 1536]));
    assert_eq!(last, "! 3 more than the connection's window");
}

#[test]
fn section_6_9_2_before_the_acknowledgement_the_default_window_holds() {
    let config = Config { initial_window: 10, ..Config::default() };
    let mut peer = Peer { server: Server::new(&config), now_ms: 0 };
    let early = [preface(), frame(SETTINGS, 0, 0, &[]), call(1, 0), data(1, 0, b"more than ten")];
    assert_eq!(peer.feed(&early.concat()), "> headers 1 POST /a\n> data 1 \"more than ten\"");
    let settled = [frame(SETTINGS, ACK, 0, &[]), data(1, 0, b"x")].concat();
    assert_eq!(peer.feed(&settled), "> data 1 \"x\"", "what was returned may be sent");
}

#[test]
fn section_6_10_continuation() {
    let block = call_block();
    let (first, rest) = block.split_at(3);
    let (second, third) = rest.split_at(1);
    check(
        &[
            frame(HEADERS, END_STREAM, 1, first),
            frame(CONTINUATION, 0, 1, second),
            frame(CONTINUATION, 0, 1, &[]),
            frame(CONTINUATION, END_HEADERS, 1, third),
        ],
        &["> headers 1 POST /a END"],
    );
    const MISPLACED: &str = "CONTINUATION missing or misplaced";
    check_fatal(&[frame(CONTINUATION, END_HEADERS, 1, &block)], 1, MISPLACED);
    check_fatal(&[call(1, 0), frame(CONTINUATION, END_HEADERS, 1, &[])], 1, MISPLACED);
    for intruder in [
        data(1, 0, b"a"),
        frame(PING, 0, 0, b"12345678"),
        frame(0xbe, 0, 0, &[]),
        frame(CONTINUATION, END_HEADERS, 3, third),
        call(3, 0),
    ] {
        check_fatal(&[frame(HEADERS, 0, 1, first), intruder], 1, MISPLACED);
    }
}

#[test]
fn section_8_1_trailers() {
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x", "y")]));
    check(
        &[call(1, 0), data(1, 0, b"a"), trailers],
        &["> headers 1 POST /a", "> data 1 \"a\"", "> trailers 1 x=y"],
    );
    let reset = ["> headers 1 POST /a", "> reset 1 1 by us", "< RST_STREAM 1 1"];
    check(&[call(1, 0), frame(HEADERS, END_HEADERS, 1, &block(&[("x", "y")]))], &reset);
    check(&[call(1, 0), call(1, END_STREAM)], &reset);
}

#[test]
fn section_8_1_1_malformed_requests_are_reset_and_never_seen() {
    let base = [(":method", "POST"), (":scheme", "http"), (":path", "/a")];
    for more in [
        ("Upper", "case"),
        ("connection", "close"),
        ("te", "gzip"),
        (":path", "/b"),
        ("a", "b\r\n"),
        ("content-length", "-1"),
    ] {
        let list = block(&[&base[..], &[more]].concat());
        check(
            &[frame(HEADERS, END_HEADERS, 1, &list), data(1, 0, b"late"), call(3, 0)],
            &["> headers 3 POST /a", "< RST_STREAM 1 1"],
        );
    }
}

#[test]
fn section_8_1_1_the_body_is_as_long_as_content_length_says() {
    let head = |flags| {
        let fields =
            [(":method", "POST"), (":scheme", "http"), (":path", "/a"), ("content-length", "3")];
        frame(HEADERS, END_HEADERS | flags, 1, &block(&fields))
    };
    let opened = "> headers 1 POST /a content-length=3";
    check(
        &[head(0), data(1, 0, b"ab"), data(1, END_STREAM, b"c")],
        &[opened, "> data 1 \"ab\"", "> data 1 \"c\" END"],
    );
    let reset = ["> reset 1 1 by us", "< RST_STREAM 1 1"];
    check(&[head(0), data(1, END_STREAM, b"ab")], &[opened, reset[0], reset[1]]);
    check(&[head(0), data(1, 0, b"abcd")], &[opened, reset[0], reset[1]]);
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[]));
    check(&[head(0), trailers], &[opened, reset[0], reset[1]]);
    check(&[head(END_STREAM)], &[reset[1]]);
}

#[test]
fn a_header_list_above_the_limit_is_answered_as_grpc_go_does() {
    let config = Config { max_header_list: 200, ..Config::default() };
    let mut peer = Peer::new(&config, &[]);
    let long = [call_block(), block(&[("a", &"x".repeat(100))])].concat();
    assert_eq!(
        peer.turn(&[frame(HEADERS, END_HEADERS, 1, &long), call(3, 0)].concat()),
        "> headers 3 POST /a\n< RST_STREAM 1 6"
    );
}

#[test]
fn a_repeated_head_is_decoded_anew_when_the_table_changed() {
    // Entry 62 is the newest of the dynamic table: the same block means another path after an insertion.
    let insert = |path: &str| [&[0x83, 0x86, 0x44, 2][..], path.as_bytes()].concat();
    let same = [0x83, 0x86, 0xbe];
    let mut peer = Peer::new(&Config::default(), &[]);
    let mut seen = String::new();
    for (id, block) in
        [&insert("/x")[..], &same, &same, &insert("/y"), &same, &same].iter().enumerate()
    {
        let id = id as u32 * 2 + 1;
        seen.push_str(&peer.feed(&frame(HEADERS, END_HEADERS, id, block)));
        seen.push('\n');
    }
    let paths: Vec<&str> = seen.lines().map(|line| line.rsplit(' ').next().unwrap_or("")).collect();
    assert_eq!(paths, ["/x", "/x", "/x", "/y", "/y", "/y"]);
}

#[test]
fn the_output_is_whole_frames() {
    let mut server = Server::new(&Config::default());
    let bytes = bytes::Buf::chunk(server.output()).to_vec();
    assert_eq!(frames(&bytes).len(), 2);
}
