//! Answers: order, flow control, turns, back-pressure, windows returned, and the end of a connection.

use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use http2::{Config, ErrorCode, Field, StreamId};

use crate::wire::{
    ACK, END_STREAM, Frame, HEADERS, PING, Peer, SETTINGS, call, check, data, frame, parameters,
    reset, window_update,
};

const ONE: StreamId = StreamId(1);
const OK: [Field<'static>; 1] = [Field::indexed("grpc-status", b"0")];

fn peer_with_window(window: u32) -> Peer {
    let mut peer = Peer::new(&Config::default(), &[(4, window)]);
    assert_eq!(peer.feed(&call(1, END_STREAM)), "> headers 1 POST /a END");
    peer
}

#[test]
fn a_small_answer_is_three_frames_in_one_write() {
    let mut peer = peer_with_window(65_535);
    peer.server.send_headers(ONE, 200, &[], false);
    peer.server.send_data(ONE, b"abc", false);
    peer.server.send_trailers(ONE, &OK);
    assert!(!peer.server.is_open(ONE));
    assert_eq!(peer.written(), "< HEADERS 1\n< DATA 1 \"abc\"\n< HEADERS 1 END");
    assert!(peer.server.is_idle());
}

#[test]
fn an_answer_may_end_with_its_head_or_its_body() {
    let mut peer = peer_with_window(65_535);
    peer.server.send_headers(ONE, 200, &OK, true);
    assert_eq!(peer.written(), "< HEADERS 1 END");
    peer.feed(&call(3, END_STREAM));
    peer.server.send_headers(StreamId(3), 200, &[], false);
    peer.server.send_data(StreamId(3), b"x", true);
    peer.feed(&call(5, END_STREAM));
    peer.server.send_headers(StreamId(5), 200, &[], false);
    peer.server.send_bytes(StreamId(5), [], true);
    assert_eq!(peer.written(), "< HEADERS 3\n< DATA 3 \"x\" END\n< HEADERS 5\n< DATA 5 \"\" END");
}

fn turn_at(peer: &mut Peer, now_ms: u64, bytes: &[u8]) -> String {
    peer.now_ms = now_ms;
    peer.turn(bytes)
}

#[test]
fn a_request_that_goes_on_behind_its_answer_is_reset_after_a_while() {
    let mut peer = Peer::new(&Config { linger_ms: 1000, ..Config::default() }, &[]);
    peer.feed(&call(1, 0));
    peer.server.send_headers(ONE, 200, &OK, true);
    assert_eq!(peer.written(), "< HEADERS 1 END");
    assert_eq!(turn_at(&mut peer, 999, &data(1, 0, b"late")), "");
    assert_eq!(turn_at(&mut peer, 1000, &[]), "< RST_STREAM 1 0");
    assert_eq!(turn_at(&mut peer, 1001, &data(1, END_STREAM, b"later")), "");
}

#[test]
fn a_request_that_ends_behind_its_answer_is_not_reset() {
    for end in [data(1, END_STREAM, b"late"), reset(1, 8)] {
        let mut peer = Peer::new(&Config { linger_ms: 1000, ..Config::default() }, &[]);
        peer.feed(&call(1, 0));
        peer.server.send_headers(ONE, 200, &OK, true);
        assert_eq!(peer.written(), "< HEADERS 1 END");
        assert_eq!((peer.turn(&end), peer.server.open_streams()), (String::new(), 0));
        assert_eq!(turn_at(&mut peer, 5000, &[]), "");
    }
}

#[test]
fn mistakes_behind_an_answer_are_told() {
    let mistakes = [
        (window_update(1, 0), "< RST_STREAM 1 1"),
        (call(1, 0), "< RST_STREAM 1 1"),
        ([reset(1, 8), data(1, 0, b"late")].concat(), "< RST_STREAM 1 5"),
    ];
    for (mistake, answer) in mistakes {
        let mut peer = Peer::new(&Config { linger_ms: 1000, ..Config::default() }, &[]);
        peer.feed(&call(1, 0));
        peer.server.send_headers(ONE, 200, &OK, true);
        assert_eq!(peer.written(), "< HEADERS 1 END");
        assert_eq!(peer.turn(&mistake), answer);
    }
}

#[test]
fn few_requests_go_on_behind_their_answers() {
    let mut peer = Peer::new(&Config { linger_ms: 1000, ..Config::default() }, &[]);
    let calls = (1..400).step_by(2);
    let resets: usize = calls
        .map(|id| {
            peer.feed(&call(id, 0));
            peer.server.send_headers(StreamId(id), 200, &OK, true);
            peer.written().matches("RST_STREAM").count()
        })
        .sum();
    assert_eq!((resets, peer.server.open_streams()), (200 - 64, 64));
}

#[test]
fn sends_to_a_stream_that_is_gone_do_nothing() {
    let mut peer = peer_with_window(65_535);
    peer.feed(&reset(1, 8));
    peer.server.send_headers(ONE, 200, &[], false);
    peer.server.send_data(ONE, b"abc", false);
    peer.server.send_bytes(ONE, [Bytes::from_static(b"abc")], false);
    peer.server.send_trailers(ONE, &OK);
    peer.server.reset(ONE, ErrorCode::CANCEL);
    peer.server.release(ONE, 5);
    assert_eq!((peer.server.unsent(ONE), peer.written().as_str()), (0, ""));
}

#[test]
fn data_waits_for_the_streams_window_and_trailers_for_the_data() {
    let mut peer = peer_with_window(4);
    peer.server.send_headers(ONE, 200, &[], false);
    peer.server.send_data(ONE, b"abcdef", false);
    peer.server.send_data(ONE, b"gh", false);
    peer.server.send_trailers(ONE, &OK);
    assert_eq!(peer.server.unsent(ONE), 4);
    assert!(!peer.server.is_open(ONE), "the answer is complete");
    peer.server.send_data(ONE, b"ignored", false);
    assert_eq!(peer.written(), "< HEADERS 1\n< DATA 1 \"abcd\"");
    assert_eq!(peer.turn(&window_update(1, 1)), "< DATA 1 \"e\"");
    assert_eq!(peer.turn(&window_update(1, 100)), "< DATA 1 \"fgh\"\n< HEADERS 1 END");
    assert_eq!((peer.server.open_streams(), peer.server.unsent_total()), (0, 0));
}

#[test]
fn data_waits_for_the_connections_window() {
    let mut peer = peer_with_window(1 << 20);
    peer.server.send_headers(ONE, 200, &[], false);
    peer.server.send_bytes(ONE, [Bytes::from(vec![b'x'; 65_540])], true);
    let sizes: Vec<usize> = peer.take().iter().map(|frame| frame.payload.len()).collect();
    assert_eq!(sizes.get(1..), Some(&[16_384, 16_384, 16_384, 16_383][..]));
    assert_eq!(peer.turn(&window_update(0, 3)), "< DATA 1 \"xxx\"");
    assert_eq!(peer.turn(&window_update(0, 3)), "< DATA 1 \"xx\" END");
}

/// Memory that counts, for as long as it is referred to.
struct Lent {
    _count: Arc<()>,
    bytes: Vec<u8>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[test]
fn lent_memory_is_written_from_where_it_lies_and_given_back_when_asked_for() {
    let mut peer = peer_with_window(30_000);
    peer.server.send_headers(ONE, 200, &[], false);
    let count = Arc::new(());
    let body: Vec<u8> = (0..40_000u32).map(|n| (n % 251) as u8).collect();
    let lent = Bytes::from_owner(Lent { _count: Arc::clone(&count), bytes: body.clone() });
    let place = lent.as_ptr();
    peer.server.send_bytes(ONE, [lent.slice(..100), lent.slice(100..)], false);
    peer.server.send_trailers(ONE, &OK);
    drop(lent);
    let output = peer.server.output();
    let mut slices = [IoSlice::new(&[]); 8];
    let filled = output.chunks_vectored(&mut slices);
    let places: Vec<_> = slices.iter().take(filled).map(|slice| slice.as_ptr()).collect();
    assert!(places.contains(&place.wrapping_add(100)), "without a copy");
    assert_eq!(Arc::strong_count(&count), 2);
    peer.server.own_unwritten([ONE]);
    assert_eq!((Arc::strong_count(&count), peer.server.unsent(ONE)), (1, 10_000));
    let mut frames = peer.take();
    peer.feed(&window_update(1, 10_000));
    frames.extend(peer.take());
    let got: Vec<u8> =
        frames.iter().filter(|f| f.kind == 0).flat_map(|f| f.payload.iter().copied()).collect();
    assert!(got == body, "the body is as it was");
    assert_eq!(peer.server.open_streams(), 0);
}

#[test]
fn the_initial_window_changes_open_streams_and_may_go_negative() {
    let mut peer = peer_with_window(10);
    peer.server.send_headers(ONE, 200, &[], false);
    peer.server.send_data(ONE, b"0123456789abcdef", true);
    assert_eq!(peer.written(), "< HEADERS 1\n< DATA 1 \"0123456789\"");
    let set = |window| frame(SETTINGS, 0, 0, &parameters(&[(4, window)]));
    assert_eq!(peer.turn(&set(4)), "< SETTINGS 0 ACK");
    assert_eq!(peer.turn(&window_update(1, 6)), "", "minus six, plus six");
    assert_eq!(peer.turn(&set(6)), "< SETTINGS 0 ACK\n< DATA 1 \"ab\"");
    assert_eq!(peer.turn(&window_update(1, 9)), "< DATA 1 \"cdef\" END");
}

#[test]
fn streams_take_turns() {
    let mut peer = Peer::new(&Config::default(), &[(4, 1 << 20)]);
    peer.feed(&window_update(0, 2 << 20));
    for id in [1, 3, 5] {
        peer.feed(&call(id, END_STREAM));
    }
    for id in [1, 3, 5] {
        peer.server.send_headers(StreamId(id), 200, &[], false);
        peer.server.send_bytes(StreamId(id), [Bytes::from(vec![0; 400_000])], true);
    }
    let order: Vec<u32> = peer.take().iter().filter(|f| f.kind == 0).map(|f| f.stream).collect();
    // The first stream was alone until the mark was reached; then all three have work for 24 frames.
    let shared = order.get(17..40).unwrap_or_default();
    assert!(
        shared.windows(3).all(|turn| [1, 3, 5].iter().all(|id| turn.contains(id))),
        "{order:?}"
    );
    assert_eq!(order.len(), 75, "25 frames each");
}

#[test]
fn the_smallest_mark_still_lets_one_frame_through() {
    let config = Config { output_mark: 0, ..Config::default() };
    let mut peer = Peer::new(&config, &[]);
    peer.feed(&call(1, END_STREAM));
    peer.server.send_headers(ONE, 200, &[], false);
    peer.server.send_data(ONE, b"abc", true);
    assert_eq!(peer.written(), "< HEADERS 1\n< DATA 1 \"abc\" END");
}

#[test]
fn a_small_answer_does_not_wait_behind_large_ones_for_long() {
    let mut peer = Peer::new(&Config::default(), &[(4, 1 << 30)]);
    peer.feed(&window_update(0, 1 << 30));
    for id in [1, 3, 5, 7] {
        peer.feed(&call(id, END_STREAM));
        peer.server.send_headers(StreamId(id), 200, &[], false);
    }
    for id in [1, 3, 5] {
        peer.server.send_bytes(StreamId(id), [Bytes::from(vec![0; 10 << 20])], true);
    }
    peer.server.send_data(StreamId(7), b"small", true);
    let frames = peer.take();
    let before: usize = frames
        .iter()
        .take_while(|f| !(f.stream == 7 && f.kind == 0))
        .map(|f| f.payload.len())
        .sum();
    assert!(before < 400_000, "{before} bytes ahead");
}

#[test]
fn a_long_queue_reports_when_it_is_short_again() {
    let config = Config { writable_mark: 10, ..Config::default() };
    let mut peer = Peer::new(&config, &[(4, 0)]);
    peer.feed(&call(1, END_STREAM));
    peer.server.send_headers(ONE, 200, &[], false);
    peer.server.send_data(ONE, &[b'x'; 12], false);
    assert_eq!(peer.written(), "< HEADERS 1");
    assert_eq!(peer.turn(&window_update(1, 1)), "< DATA 1 \"x\"");
    assert_eq!(peer.feed(&window_update(1, 1)), "");
    assert_eq!(peer.written(), "< DATA 1 \"x\"");
    assert_eq!(peer.feed(&[]), "> writable 1");
    assert_eq!(peer.turn(&window_update(1, 1)), "< DATA 1 \"x\"", "once");
}

#[test]
fn received_data_is_returned_by_halves_of_the_window() {
    let config = Config { initial_window: 100, connection_window: 65_535, ..Config::default() };
    let mut peer = Peer::new(&config, &[]);
    peer.feed(&call(1, 0));
    peer.feed(&data(1, 0, &[0; 49]));
    assert_eq!(peer.written(), "");
    peer.feed(&data(1, 0, &[0; 1]));
    assert_eq!(peer.written(), "< WINDOW_UPDATE 1 50");
    peer.feed(&data(1, END_STREAM, &[0; 90]));
    assert_eq!(peer.written(), "", "a stream that ended needs no window");
}

#[test]
fn held_data_is_returned_when_released_or_when_the_stream_ends() {
    let config = Config { initial_window: 40_000, connection_window: 65_535, ..Config::default() };
    let mut peer = Peer::new(&config, &[]);
    peer.feed(&call(1, 0));
    peer.server.hold_window(ONE);
    for _ in 0..4 {
        peer.feed(&data(1, 0, &[0; 10_000]));
    }
    assert_eq!(peer.written(), "");
    peer.server.release(ONE, 19_999);
    assert_eq!(peer.written(), "");
    peer.server.release(ONE, 1);
    assert_eq!(peer.written(), "< WINDOW_UPDATE 1 20000");
    peer.server.release(ONE, 1_000_000);
    assert_eq!(peer.written(), "< WINDOW_UPDATE 1 20000\n< WINDOW_UPDATE 0 40000");
    peer.feed(&data(1, 0, &[0; 16_000]));
    peer.feed(&data(1, 0, &[0; 16_000]));
    peer.feed(&data(1, 0, &[0; 1_000]));
    assert_eq!(peer.written(), "");
    assert_eq!(peer.turn(&reset(1, 8)), "> reset 1 8 by peer\n< WINDOW_UPDATE 0 33000");
}

#[test]
fn data_for_nobody_is_returned_to_the_connection() {
    let config = Config { connection_window: 65_535, ..Config::default() };
    let mut peer = Peer::new(&config, &[]);
    peer.feed(&call(1, 0));
    peer.server.reset(ONE, ErrorCode::CANCEL);
    peer.feed(
        &[data(1, 0, &[0; 16_384]), data(1, 8, &[&[200][..], &[0; 16_383]].concat())].concat(),
    );
    assert_eq!(peer.written(), "< RST_STREAM 1 8\n< WINDOW_UPDATE 0 32768");
}

#[test]
fn a_reset_in_the_middle_of_a_frame_drops_the_rest_of_it() {
    let mut peer = Peer::new(&Config::default(), &[]);
    let bytes = [call(1, 0), data(1, 0, b"abcdef"), call(3, END_STREAM)].concat();
    let (first, second) = bytes.split_at(bytes.len() - call(3, 0).len() - 3);
    assert_eq!(peer.feed(first), "> headers 1 POST /a\n> data 1 \"abc\"");
    peer.server.reset(ONE, ErrorCode::CANCEL);
    assert_eq!(peer.turn(second), "> headers 3 POST /a END\n< RST_STREAM 1 8");
}

#[test]
fn a_long_head_is_cut_to_the_peers_frame_size() {
    let mut peer = peer_with_window(65_535);
    let value = vec![b'\\'; 40_000];
    peer.server.send_headers(ONE, 200, &[Field::literal("x", &value)], true);
    let frames = peer.take();
    let shape: Vec<(u8, u8, usize)> =
        frames.iter().map(|f| (f.kind, f.flags, f.payload.len())).collect();
    assert_eq!(shape.get(..2), Some(&[(HEADERS, 1, 16_384), (9, 0, 16_384)][..]));
    assert_eq!(shape.get(2).map(|(kind, flags, _)| (*kind, *flags)), Some((9, 4)));
    assert_eq!(shape.len(), 3);
}

#[test]
fn a_graceful_drain() {
    let mut peer = Peer::new(&Config::default(), &[]);
    peer.feed(&call(1, END_STREAM));
    peer.server.drain();
    peer.server.drain();
    let ping = frame(PING, ACK, 0, b"drain\0\0\0");
    assert_eq!(
        peer.written(),
        "< GOAWAY 0 last=2147483647 code=0 \"\"\n< PING 0 \"drain\\0\\0\\0\""
    );
    assert_eq!(peer.turn(&call(3, END_STREAM)), "> headers 3 POST /a END", "crossed the first");
    assert_eq!(peer.turn(&ping), "< GOAWAY 0 last=3 code=0 \"\"");
    assert_eq!(peer.turn(&[call(5, 0), data(5, END_STREAM, b"x")].concat()), "", "ignored");
    assert!(!peer.server.wants_close());
    peer.server.send_headers(ONE, 200, &OK, true);
    peer.server.send_headers(StreamId(3), 200, &OK, true);
    assert_eq!(peer.turn(&[]), "> drained\n< HEADERS 1 END\n< HEADERS 3 END");
    assert!(peer.server.wants_close());
}

#[test]
fn a_drain_without_an_answer_to_its_ping() {
    let mut peer = Peer::new(&Config::default(), &[]);
    peer.server.drain();
    peer.written();
    assert!(!peer.server.wants_close());
    peer.server.drain_now();
    peer.server.drain_now();
    assert_eq!(peer.turn(&[]), "> drained\n< GOAWAY 0 last=0 code=0 \"\"");
    assert!(peer.server.wants_close());
}

#[test]
fn go_away_ends_all() {
    let mut peer = peer_with_window(0);
    peer.server.send_headers(ONE, 200, &[], false);
    peer.server.send_data(ONE, b"abc", false);
    peer.server.go_away(ErrorCode::ENHANCE_YOUR_CALM, b"too_many_pings");
    peer.server.go_away(ErrorCode::NO_ERROR, b"again");
    assert_eq!(peer.written(), "< HEADERS 1\n< GOAWAY 0 last=1 code=11 \"too_many_pings\"");
    assert_eq!(peer.turn(&call(3, 0)), "");
    assert!(peer.server.wants_close() && peer.server.is_idle());
}

#[test]
fn values_cannot_smuggle_control_bytes() {
    let mut peer = peer_with_window(65_535);
    let fields = [Field::literal("x", b"\\a\r\nb\0\\")];
    peer.server.send_headers(ONE, 200, &fields, true);
    let payload =
        peer.take().first().map(|frame: &Frame| frame.payload.clone()).unwrap_or_default();
    assert!(payload.ends_with(b"\\a  b \\"), "{payload:?}");
}

#[test]
fn a_ping_of_ours_is_answered() {
    let mut peer = Peer::new(&Config::default(), &[]);
    peer.server.ping(*b"01234567");
    assert_eq!(peer.written(), "< PING 0 \"01234567\"");
    check(&[frame(PING, ACK, 0, b"01234567")], &["> ping-ack \"01234567\""]);
}
