//! Our client talks to our server, through a wire that cuts what it carries anywhere: every call is answered as it
//! was asked to be, or refused and never seen.

use std::collections::{HashMap, VecDeque};

use bytes::{Buf, Bytes};
use http2::{Client, Config, ErrorCode, Event, Field, Name, Request, Server, StreamId, Unopened};
use proptest::{collection::vec, prelude::*};

/// What a call does: lengths of both bodies, and what becomes of it.
#[derive(Clone, Copy, Debug)]
struct Call {
    sent: usize,
    length: usize,
    fate: Fate,
    /// Both sides take the windows in their own hands.
    is_held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// The answer is a head alone.
    TrailersOnly,
    /// The server answers before it has read the request.
    Early,
    ResetByServer,
    /// The client gives up at the answer's head.
    Canceled,
}

#[derive(Clone, Debug)]
struct Scene {
    calls: Vec<Call>,
    client: Config,
    server: Config,
    /// How many bytes go over at a time, either way.
    cuts: Vec<usize>,
    /// After how many turns the server begins to go away.
    drain: Option<usize>,
}

fn any_config() -> impl Strategy<Value = Config> {
    let window = prop_oneof![1u32..100, 1000u32..65_535, Just(1u32 << 20)];
    (window, 65_535u32..200_000, 16_384u32..40_000, 0u32..5000, 1usize..300_000, 1u32..6).prop_map(
        |(window, connection, frame, table, mark, streams)| Config {
            // Time stands still here.
            linger_ms: 0,
            max_concurrent_streams: if streams == 5 { u32::MAX } else { streams },
            initial_window: window,
            connection_window: connection,
            max_frame_size: frame,
            header_table_size: table,
            output_mark: mark,
            writable_mark: 1000,
            // Windows of one byte are updated byte by byte, which is what the budget is against.
            idle_frame_burst: u32::MAX,
            ..Config::default()
        },
    )
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let length = || prop_oneof![Just(0usize), 1usize..300, 1usize..20_000, 60_000usize..120_000];
    let fate = prop_oneof![
        6 => Just(Fate::Answered),
        1 => Just(Fate::TrailersOnly),
        1 => Just(Fate::Early),
        1 => Just(Fate::ResetByServer),
        1 => Just(Fate::Canceled),
    ];
    let call = (length(), length(), fate, any::<bool>())
        .prop_map(|(sent, length, fate, is_held)| Call { sent, length, fate, is_held });
    let cuts = prop_oneof![vec(1usize..40, 1..8), vec(1usize..40_000, 1..8), Just(vec![1 << 20]),];
    let drain = prop::option::weighted(0.3, 0usize..60);
    (vec(call, 1..14), any_config(), any_config(), cuts, drain).prop_map(
        |(mut calls, client, server, cuts, drain)| {
            // A window of a few bytes makes a frame of each, and a small cut a turn: enough is enough.
            let cut = cuts.iter().sum::<usize>() / cuts.len();
            for call in &mut calls {
                call.sent = call.sent.min(server.initial_window as usize * 200).min(cut * 500);
                call.length = call.length.min(client.initial_window as usize * 200).min(cut * 500);
            }
            Scene { calls, client, server, cuts, drain }
        },
    )
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 251) as u8).collect()
}

const TRAILER: Field<'static> = Field::indexed("grpc-status", b"0");

/// What the server knows of a call, and what the client does.
#[derive(Debug)]
struct Seen {
    number: usize,
    received: Vec<u8>,
}

struct Pair {
    scene: Scene,
    client: Client,
    server: Server,
    waiting: VecDeque<usize>,
    asked: HashMap<StreamId, Seen>,
    served: HashMap<StreamId, Seen>,
    /// How often each call reached the server, and how often it ended there was nothing left of it to come.
    reached: Vec<usize>,
    ended: Vec<usize>,
    refused: Vec<usize>,
}

impl Pair {
    fn new(scene: Scene) -> Self {
        let count = scene.calls.len();
        Self {
            client: Client::new(&scene.client),
            server: Server::new(&scene.server),
            waiting: (0..count).collect(),
            asked: HashMap::new(),
            served: HashMap::new(),
            reached: vec![0; count],
            ended: vec![0; count],
            refused: vec![0; count],
            scene,
        }
    }

    fn open_waiting(&mut self) {
        while let Some(number) = self.waiting.pop_front() {
            let call = self.scene.calls[number];
            let path = format!("/{number}");
            let request = Request {
                method: "POST",
                scheme: "http",
                authority: "pipe",
                path: &path,
                fields: &[Field::indexed("te", b"trailers"), Field::literal("x", b"\xff y")],
            };
            match self.client.open(&request, call.sent == 0) {
                Ok(stream) => {
                    assert!(self.client.is_unsent(stream));
                    if call.is_held {
                        self.client.hold_window(stream);
                    }
                    let whole = Bytes::from(body(call.sent));
                    let third = whole.slice(..whole.len() / 3);
                    if call.sent > 0 {
                        self.client.send_data(stream, &third, false);
                        self.client.send_bytes(stream, [whole.slice(third.len()..)], true);
                    }
                    self.asked.insert(stream, Seen { number, received: Vec::new() });
                }
                Err(Unopened::Full) => {
                    self.waiting.push_front(number);
                    return;
                }
                Err(Unopened::Ending) => self.refused[number] += 1,
            }
        }
    }

    fn answer(&mut self, stream: StreamId) {
        let Some(seen) = self.served.get(&stream) else { return };
        let call = self.scene.calls[seen.number];
        if call.fate != Fate::Early {
            assert_eq!(seen.received, body(call.sent));
        }
        let fields = [Field::indexed("content-type", b"application/grpc")];
        self.server.send_headers(stream, 200, &fields, call.fate == Fate::TrailersOnly);
        match call.fate {
            Fate::TrailersOnly => {}
            Fate::ResetByServer => self.server.reset(stream, ErrorCode(99)),
            Fate::Answered | Fate::Early | Fate::Canceled => {
                self.server.send_bytes(stream, [Bytes::from(body(call.length))], false);
                self.server.send_trailers(stream, &[TRAILER]);
            }
        }
        self.served.remove(&stream);
    }

    fn serve(&mut self, mut input: &[u8]) {
        enum Todo {
            Nothing,
            Answer(StreamId),
            Hold(StreamId),
            Release(StreamId, usize),
        }
        loop {
            let event = self.server.receive(0, &mut input).expect("our client keeps to the rules");
            let todo = match event {
                None => return,
                Some(Event::Headers { stream, head, end }) => {
                    assert_eq!((head.method(), head.authority()), (&b"POST"[..], &b"pipe"[..]));
                    assert_eq!(head.get(Name::Te), Some(&b"trailers"[..]));
                    assert_eq!(head.find("x"), Some(&b"\xff y"[..]));
                    let path = std::str::from_utf8(head.path()).expect("ascii");
                    let number: usize = path.trim_start_matches('/').parse().expect("a number");
                    self.reached[number] += 1;
                    self.served.insert(stream, Seen { number, received: Vec::new() });
                    let call = self.scene.calls[number];
                    match call.fate {
                        _ if end => Todo::Answer(stream),
                        Fate::Early => Todo::Answer(stream),
                        _ if call.is_held => Todo::Hold(stream),
                        _ => Todo::Nothing,
                    }
                }
                Some(Event::Data { stream, data, end }) => match self.served.get_mut(&stream) {
                    Some(seen) => {
                        seen.received.extend(data);
                        let is_held = self.scene.calls[seen.number].is_held;
                        match end {
                            true => Todo::Answer(stream),
                            false if is_held => Todo::Release(stream, data.len()),
                            false => Todo::Nothing,
                        }
                    }
                    None => Todo::Nothing,
                },
                Some(Event::Reset { stream, by_peer, .. }) => {
                    assert!(by_peer, "our client breaks no rule");
                    self.served.remove(&stream);
                    Todo::Nothing
                }
                Some(_) => Todo::Nothing,
            };
            match todo {
                Todo::Nothing => {}
                Todo::Answer(stream) => self.answer(stream),
                Todo::Hold(stream) => self.server.hold_window(stream),
                Todo::Release(stream, bytes) => self.server.release(stream, bytes),
            }
        }
    }

    fn take_answers(&mut self, mut input: &[u8]) {
        enum Todo {
            Nothing,
            Cancel(StreamId),
            Release(StreamId, usize),
        }
        loop {
            let event = self.client.receive(0, &mut input).expect("our server keeps to the rules");
            let todo = match event {
                None => return,
                Some(Event::Headers { stream, head, end }) => {
                    assert_eq!(head.status(), 200);
                    let number = self.asked[&stream].number;
                    let fate = self.scene.calls[number].fate;
                    assert_eq!(end, fate == Fate::TrailersOnly);
                    if end {
                        self.ended[number] += 1;
                        self.asked.remove(&stream);
                    }
                    if fate == Fate::Canceled { Todo::Cancel(stream) } else { Todo::Nothing }
                }
                Some(Event::Data { stream, data, end }) => {
                    assert!(!end, "the trailers are the end");
                    let seen = self.asked.get_mut(&stream).expect("a call that goes on");
                    seen.received.extend(data);
                    match self.scene.calls[seen.number].is_held {
                        true => Todo::Release(stream, data.len()),
                        false => Todo::Nothing,
                    }
                }
                Some(Event::Trailers { stream, trailers }) => {
                    let seen = self.asked.remove(&stream).expect("a call that goes on");
                    assert_eq!(trailers.get(Name::GrpcStatus), Some(&b"0"[..]));
                    assert_eq!(seen.received, body(self.scene.calls[seen.number].length));
                    self.ended[seen.number] += 1;
                    Todo::Nothing
                }
                Some(Event::Reset { stream, code, by_peer }) => {
                    assert!(by_peer, "our server breaks no rule");
                    let seen = self.asked.remove(&stream).expect("a call that goes on");
                    match code {
                        ErrorCode::REFUSED_STREAM => self.waiting.push_back(seen.number),
                        _ => {
                            assert_eq!(self.scene.calls[seen.number].fate, Fate::ResetByServer);
                            self.ended[seen.number] += 1;
                        }
                    }
                    Todo::Nothing
                }
                Some(_) => Todo::Nothing,
            };
            match todo {
                Todo::Nothing => {}
                Todo::Cancel(stream) => {
                    self.client.reset(stream, ErrorCode::CANCEL);
                    let seen = self.asked.remove(&stream).expect("it was asked");
                    self.ended[seen.number] += 1;
                }
                Todo::Release(stream, bytes) => self.client.release(stream, bytes),
            }
        }
    }

    fn play(mut self) {
        let cuts = self.scene.cuts.clone();
        let mut turn = 0;
        for cut in cuts.iter().cycle() {
            if self.scene.drain == Some(turn) {
                self.server.drain();
            }
            turn += 1;
            assert!(turn < 2_000_000, "it comes to an end");
            self.open_waiting();
            let part = cut_off(self.client.output(), *cut);
            self.serve(&part);
            let back = cut_off(self.server.output(), *cut);
            self.take_answers(&back);
            if part.is_empty() && back.is_empty() && self.waiting.is_empty() {
                break;
            }
        }
        assert!(self.asked.is_empty() && self.served.is_empty());
        assert_eq!((self.client.open_streams(), self.client.unsent_total()), (0, 0));
        assert_eq!((self.server.open_streams(), self.server.unsent_total()), (0, 0));
        for number in 0..self.scene.calls.len() {
            let counts = [self.reached[number], self.ended[number], self.refused[number]];
            assert!(matches!(counts, [1, 1, 0] | [0, 0, 1]), "call {number}: {counts:?}");
        }
        if self.scene.drain.is_none() {
            assert_eq!(self.refused.iter().sum::<usize>(), 0);
        }
    }
}

fn cut_off(output: &mut http2::Output, most: usize) -> Vec<u8> {
    let count = output.remaining().min(most);
    output.copy_to_bytes(count).to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_call_is_answered_or_never_seen(scene in any_scene()) {
        Pair::new(scene).play();
    }
}
