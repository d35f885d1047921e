//! The known attacks: each is answered with GOAWAY(ENHANCE_YOUR_CALM) once its allowance is used up, and memory
//! stays small until then.

use http2::{Config, Event, StreamId};

use crate::wire::{
    ACK, CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PRIORITY, Peer, SETTINGS,
    block, call, data, frame, parameters, reset, window_update,
};

fn config() -> Config {
    Config {
        reset_burst: 100,
        resets_per_second: 10,
        idle_frame_burst: 200,
        idle_frames_per_second: 10,
        control_queue_max: 500,
        ..Config::default()
    }
}

/// Feeds the same thing again and again: how many times it was taken, and the error that ended it.
fn flood(peer: &mut Peer, times: u32, mut bytes: impl FnMut(u32) -> Vec<u8>) -> (u32, String) {
    for turn in 0..times {
        let text = peer.feed(&bytes(turn));
        peer.take();
        assert!(peer.server.memory() < 300 << 10, "memory {}", peer.server.memory());
        if let Some(error) = text.lines().find(|line| line.starts_with('!')) {
            assert!(peer.server.wants_close());
            return (turn, error.to_owned());
        }
    }
    (times, String::new())
}

const RESETS: &str = "! 11 too many resets";
const IDLE: &str = "! 11 too many frames that move nothing";

#[test]
fn rapid_reset() {
    let mut peer = Peer::new(&config(), &[]);
    let (taken, error) = flood(&mut peer, 10_000, |turn| {
        [call(turn * 2 + 1, END_STREAM), reset(turn * 2 + 1, 8)].concat()
    });
    assert_eq!((taken, error.as_str()), (100, RESETS));
}

#[test]
fn resets_at_the_allowed_rate_go_on_for_ever() {
    let mut peer = Peer::new(&config(), &[]);
    let (taken, _) = flood(&mut peer, 5000, |turn| {
        [call(turn * 2 + 1, END_STREAM), reset(turn * 2 + 1, 8)].concat()
    });
    assert_eq!(taken, 100);
    let mut peer = Peer::new(&config(), &[]);
    for turn in 0..5000 {
        peer.now_ms += 100;
        let text = peer.feed(&[call(turn * 2 + 1, 0), reset(turn * 2 + 1, 8)].concat());
        assert!(!text.contains('!'), "{text}");
    }
}

#[test]
fn answered_streams_give_the_allowance_back() {
    let mut peer = Peer::new(&config(), &[]);
    for turn in 0..5000 {
        let (answered, cancelled) = (turn * 4 + 1, turn * 4 + 3);
        let input = [call(answered, END_STREAM), call(cancelled, END_STREAM)].concat();
        assert!(!peer.feed(&input).contains('!'));
        peer.server.send_headers(StreamId(answered), 200, &[], true);
        assert!(!peer.feed(&reset(cancelled, 8)).contains('!'));
        peer.take();
    }
}

#[test]
fn resets_that_the_peer_provokes() {
    let provocations: [fn(u32) -> Vec<u8>; 5] = [
        |id| [call(id, END_STREAM), data(id, 0, b"x")].concat(),
        |id| [call(id, 0), window_update(id, 0)].concat(),
        |id| [call(id, 0), window_update(id, 0x7fff_ffff)].concat(),
        |id| frame(HEADERS, END_HEADERS, id, &block(&[("Upper", "x")])),
        |id| [call(id, 0), call(id, 0)].concat(),
    ];
    for provoke in provocations {
        let mut peer = Peer::new(&config(), &[]);
        let (taken, error) = flood(&mut peer, 10_000, |turn| provoke(turn * 2 + 1));
        assert_eq!((taken, error.as_str()), (100, RESETS));
    }
}

#[test]
fn refused_streams() {
    let config = Config { max_concurrent_streams: 1, ..config() };
    let mut peer = Peer::new(&config, &[]);
    let (taken, error) = flood(&mut peer, 10_000, |turn| call(turn * 2 + 1, 0));
    assert_eq!((taken, error.as_str()), (101, RESETS));
}

#[test]
fn memory_of_open_streams_is_bounded() {
    let config = Config { stream_memory_max: 64 << 10, ..config() };
    let mut peer = Peer::new(&config, &[]);
    let (taken, error) = flood(&mut peer, 100_000, |turn| call(turn * 2 + 1, 0));
    assert_eq!(error, RESETS);
    assert!((200..1000).contains(&taken), "{taken}");
}

#[test]
fn frames_that_move_nothing() {
    let floods: [fn(u32) -> Vec<u8>; 11] = [
        |_| frame(PING, 0, 0, b"12345678"),
        |_| frame(PING, ACK, 0, b"12345678"),
        |_| frame(SETTINGS, 0, 0, &[]),
        |_| frame(SETTINGS, ACK, 0, &[]),
        |_| frame(PRIORITY, 0, 1, &[0; 5]),
        |_| frame(0xbe, 0, 0, &[]),
        |_| window_update(0, 1),
        |_| window_update(1, 1),
        |_| data(1, 0, b""),
        |_| data(1, PADDED, &[255; 256]),
        |_| reset(3, 8),
    ];
    for bytes in floods {
        let mut peer = Peer::new(&config(), &[]);
        peer.feed(&[call(1, 0), call(3, 0), reset(3, 8)].concat());
        let (taken, error) = flood(&mut peer, 10_000, bytes);
        assert_eq!(error, IDLE);
        assert!((60..=210).contains(&taken), "{taken} of {:?}", bytes(0));
    }
}

#[test]
fn continuation_without_end() {
    for part in [&[][..], &[0], &[0; 1000]] {
        let mut peer = Peer::new(&config(), &[]);
        peer.feed(&frame(HEADERS, 0, 1, &[]));
        let (taken, error) = flood(&mut peer, 10_000, |_| frame(CONTINUATION, 0, 1, part));
        assert!(error == IDLE || error == "! 11 header block too long", "{error}");
        assert!(taken <= 200, "{taken}");
    }
}

#[test]
fn a_small_block_that_expands_is_not_kept() {
    let mut peer = Peer::new(&config(), &[]);
    let large = [&[0x83, 0x86, 0x40, 1, b'a', 0x7f, 0x80, 0x1e][..], &[b'x'; 127 + 3840]].concat();
    assert!(peer.feed(&frame(HEADERS, END_HEADERS, 1, &large)).is_empty(), "no path: reset");
    // 16,000 references to a value of 4 kB are a list of 64 MB.
    let bomb = [0xbe; 16_000];
    peer.feed(&frame(HEADERS, END_HEADERS, 3, &bomb));
    assert!(peer.server.memory() < 600 << 10, "{}", peer.server.memory());
    assert!(peer.written().ends_with("< RST_STREAM 3 6"), "too large");
}

#[test]
fn a_peer_that_asks_and_does_not_read() {
    let config = Config { idle_frame_burst: u32::MAX, ..config() };
    let mut peer = Peer::new(&config, &[]);
    let pings = frame(PING, 0, 0, b"12345678").repeat(1000);
    let text = peer.feed(&pings);
    assert!(text.ends_with("! 11 too many frames to answer, and none is read"), "{text}");
    assert_eq!(text.matches("> ping").count(), 501);
}

#[test]
fn many_settings_in_one_frame_cost_one_pass() {
    let mut peer = Peer::new(&config(), &[]);
    for turn in 0..90u32 {
        peer.feed(&call(turn * 2 + 1, 0));
    }
    let many: Vec<(u16, u32)> = (0..2700).map(|turn| (4, turn % 2 * 1000)).collect();
    assert_eq!(peer.turn(&frame(SETTINGS, 0, 0, &parameters(&many))), "< SETTINGS 0 ACK");
}

#[test]
fn pings_with_data_beside_them_are_no_flood() {
    let mut peer = Peer::new(&config(), &[]);
    for turn in 0..10_000 {
        let id = turn * 2 + 1;
        let input =
            [call(id, 0), data(id, END_STREAM, b"body"), frame(PING, 0, 0, b"bdp-ping")].concat();
        let mut input = &input[..];
        while let Some(event) = peer.server.receive(0, &mut input).expect("no flood") {
            if let Event::Data { stream, end: true, .. } = event {
                peer.server.send_headers(stream, 200, &[], true);
            }
        }
        peer.take();
    }
    assert!(peer.server.memory() < 64 << 10);
}

#[test]
fn window_updates_for_each_frame_that_we_send_are_no_flood() {
    let mut peer = Peer::new(&config(), &[]);
    peer.feed(&call(1, END_STREAM));
    peer.server.send_headers(StreamId(1), 200, &[], false);
    for _ in 0..10_000 {
        peer.server.send_data(StreamId(1), b"event", false);
        peer.take();
        let read = [window_update(1, 5), window_update(0, 5), frame(PING, 0, 0, b"bdp-ping")];
        assert!(!peer.feed(&read.concat()).contains('!'));
    }
}

#[test]
fn an_idle_connection_is_small() {
    let mut peer = Peer::new(&config(), &[]);
    assert!(peer.server.memory() < 2048, "{}", peer.server.memory());
    peer.feed(&call(1, END_STREAM));
    peer.server.send_headers(StreamId(1), 200, &[], true);
    peer.take();
    assert!(peer.server.memory() < 4096, "{}", peer.server.memory());
}
