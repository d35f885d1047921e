//! Random input: however it is cut, it means the same; whatever it is, nothing breaks and memory stays small.

use bytes::{Buf, Bytes};
use http2::{Config, ErrorCode, Field, Server, StreamId};
use proptest::{collection::vec, prelude::*};

use crate::wire::{self, Frame, WINDOW_UPDATE, block, call_block, handshake, joined, render_event};

/// A frame that may be good or bad, on few streams so that they meet.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![8 => (0u32..8).prop_map(|n| n * 2 + 1), 1 => 0u32..20];
    let flags = prop_oneof![Just(0u8), Just(1), Just(4), Just(5), Just(9), any::<u8>()];
    let blocks = prop_oneof![
        6 => Just(call_block()),
        2 => Just([&[0x83, 0x86, 0x44, 2][..], b"/x"].concat()),
        2 => Just(vec![0x83, 0x86, 0xbe]),
        1 => Just(block(&[("x", "y")])),
        1 => vec(any::<u8>(), 0..30),
    ];
    let number = prop_oneof![0u32..20, Just(0x7fff_ffff), any::<u32>()];
    prop_oneof![
        6 => (stream.clone(), flags.clone(), blocks)
            .prop_map(|(id, flags, block)| wire::frame(wire::HEADERS, flags | 4, id, &block)),
        6 => (stream.clone(), flags.clone(), vec(any::<u8>(), 0..300))
            .prop_map(|(id, flags, body)| wire::frame(wire::DATA, flags, id, &body)),
        2 => (stream.clone(), any::<bool>(), vec(any::<u8>(), 0..20), 0u8..20).prop_map(
            |(id, end, body, padding)| {
                let payload = [&[padding][..], &body, &vec![0; usize::from(padding)]].concat();
                wire::frame(wire::DATA, 8 | u8::from(end), id, &payload)
            }
        ),
        2 => (stream.clone(), number.clone()).prop_map(|(id, code)| wire::reset(id, code)),
        2 => (stream.clone(), number.clone()).prop_map(|(id, by)| wire::window_update(id, by)),
        1 => (0u16..8, number).prop_map(|(key, value)| {
            wire::frame(wire::SETTINGS, 0, 0, &wire::parameters(&[(key, value)]))
        }),
        1 => Just(wire::frame(wire::PING, 0, 0, b"12345678")),
        1 => (0u8..12, flags, stream, vec(any::<u8>(), 0..40))
            .prop_map(|(kind, flags, id, payload)| wire::frame(kind, flags, id, &payload)),
    ]
}

/// What came of some input: the events, and the frames written.
/// WINDOW_UPDATEs are added up, since pieces may cross the half of a window at another place.
fn outcome(parts: &[&[u8]]) -> (Vec<String>, Vec<Frame>) {
    let mut server = Server::new(&Config::default());
    let events = joined(&mut server, parts);
    let output = server.output();
    let bytes = output.copy_to_bytes(output.remaining());
    let frames = wire::frames(&bytes);
    (events, frames.into_iter().filter(|frame| frame.kind != WINDOW_UPDATE).collect())
}

/// What an application might do at any time.
#[derive(Clone, Debug)]
enum Act {
    Head(u32, bool),
    Data(u32, usize, bool),
    Bytes(u32, usize, bool),
    Trailers(u32),
    Reset(u32),
    Hold(u32),
    Release(u32, usize),
    Own(u32),
    Write(usize),
    Ping,
    Drain,
    DrainNow,
}

fn any_act() -> impl Strategy<Value = Act> {
    let id = || (0u32..8).prop_map(|n| n * 2 + 1);
    prop_oneof![
        4 => (id(), any::<bool>()).prop_map(|(id, end)| Act::Head(id, end)),
        3 => (id(), 0usize..300, any::<bool>()).prop_map(|(id, n, end)| Act::Data(id, n, end)),
        3 => (id(), 0usize..90_000, any::<bool>()).prop_map(|(id, n, end)| Act::Bytes(id, n, end)),
        2 => id().prop_map(Act::Trailers),
        1 => id().prop_map(Act::Reset),
        2 => id().prop_map(Act::Hold),
        2 => (id(), 0usize..500).prop_map(|(id, n)| Act::Release(id, n)),
        1 => id().prop_map(Act::Own),
        3 => (0usize..100_000).prop_map(Act::Write),
        1 => Just(Act::Ping),
        1 => prop_oneof![9 => Just(Act::Ping), 1 => Just(Act::Drain), 1 => Just(Act::DrainNow)],
    ]
}

/// Does it, keeping the caller's part of the contract: one head, then the rest.
fn act(server: &mut Server, heads: &mut Vec<u32>, act: &Act) {
    let fields = [Field::indexed("grpc-status", b"0"), Field::literal("grpc-message", b"a b")];
    match *act {
        Act::Head(id, end) if server.is_open(StreamId(id)) && !heads.contains(&id) => {
            heads.push(id);
            server.send_headers(StreamId(id), 200, &fields, end);
        }
        Act::Data(id, length, end) if heads.contains(&id) => {
            server.send_data(StreamId(id), &vec![b'd'; length], end);
        }
        Act::Bytes(id, length, end) if heads.contains(&id) => {
            let (small, large) = (Bytes::from(vec![1; length / 100]), Bytes::from(vec![2; length]));
            server.send_bytes(StreamId(id), [small, large], end);
        }
        Act::Trailers(id) if heads.contains(&id) => server.send_trailers(StreamId(id), &fields),
        Act::Reset(id) => server.reset(StreamId(id), ErrorCode::CANCEL),
        Act::Hold(id) => server.hold_window(StreamId(id)),
        Act::Release(id, bytes) => server.release(StreamId(id), bytes),
        Act::Own(id) => server.own_unwritten([StreamId(id)]),
        Act::Write(count) => {
            let output = server.output();
            output.advance(count.min(output.remaining()));
        }
        Act::Ping => server.ping(*b"ours----"),
        Act::Drain => server.drain(),
        Act::DrainNow => server.drain_now(),
        _ => {}
    }
}

fn drive(chunks: &[Vec<u8>], acts: &[Act]) -> Server {
    let config = Config { connection_window: 65_535, ..Config::default() };
    let mut server = Server::new(&config);
    let mut heads = Vec::new();
    let mut acts = acts.iter();
    for (now_ms, chunk) in chunks.iter().enumerate() {
        let mut input = &chunk[..];
        while let Ok(Some(event)) = server.receive(now_ms as u64, &mut input) {
            let _ = render_event(&event);
            if let Some(next) = acts.next() {
                act(&mut server, &mut heads, next);
            }
        }
        for next in acts.by_ref().take(2) {
            act(&mut server, &mut heads, next);
        }
    }
    for next in acts {
        act(&mut server, &mut heads, next);
    }
    server
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_cut_means_the_same(
        frames in vec(any_frame(), 0..30),
        cuts in vec(0usize..6000, 0..20),
        every_byte in prop::bool::weighted(0.1),
    ) {
        let bytes = [handshake(&[]), frames.concat()].concat();
        let mut cuts: Vec<usize> = if every_byte {
            (0..bytes.len()).collect()
        } else {
            cuts.into_iter().filter(|cut| *cut < bytes.len()).collect()
        };
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let parts: Vec<&[u8]> =
            cuts.windows(2).filter_map(|cut| bytes.get(*cut.first()?..*cut.last()?)).collect();
        prop_assert_eq!(outcome(&parts), outcome(&[&bytes]));
    }

    #[test]
    fn any_frames_and_acts_break_nothing(
        frames in vec(any_frame(), 0..60),
        acts in vec(any_act(), 0..120),
    ) {
        let mut chunks = vec![handshake(&[])];
        chunks.extend(frames);
        let mut server = drive(&chunks, &acts);
        prop_assert!(server.memory() < 12 << 20);
        let mut written = Vec::new();
        loop {
            let output = server.output();
            if !output.has_remaining() {
                break;
            }
            written.extend(output.copy_to_bytes(output.remaining()));
        }
        prop_assert!(server.unsent_total() == 0 || server.open_streams() > 0);
    }

    #[test]
    fn any_bytes_break_nothing(
        chunks in vec(vec(any::<u8>(), 0..600), 0..12),
        acts in vec(any_act(), 0..20),
        shaken in any::<bool>(),
    ) {
        let mut all = if shaken { vec![handshake(&[])] } else { vec![] };
        all.extend(chunks);
        prop_assert!(drive(&all, &acts).memory() < 1 << 20);
    }

    #[test]
    fn a_flipped_byte_breaks_nothing(
        frames in vec(any_frame(), 1..30),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        acts in vec(any_act(), 0..60),
    ) {
        let mut bytes = frames.concat();
        for (place, with) in flips {
            let place = place.index(bytes.len());
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= with;
            }
        }
        prop_assert!(drive(&[handshake(&[]), bytes], &acts).memory() < 12 << 20);
    }
}
