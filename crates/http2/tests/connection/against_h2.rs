//! The `h2` crate's client judges: random calls over an in-memory pipe, with windows from one byte up, large bodies
//! both ways, resets, pings and trailers. Each call says in its head what the server is to do.

use std::{collections::HashMap, future::poll_fn};

use bytes::{Buf, Bytes};
use h2::{Ping, client};
use http::{Request, StatusCode};
use http2::{Config, ErrorCode, Event, Field, Name, Server, StreamId};
use proptest::{collection::vec, prelude::*};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// What one call does.
#[derive(Clone, Debug)]
struct Call {
    /// Length of the request's body, and of its pieces.
    sent: usize,
    piece: usize,
    /// The request ends with trailers.
    trailers: bool,
    /// What the server answers with, besides the request's checksum.
    answer: Answer,
    /// Length of the answer's body.
    length: usize,
    /// The server takes the request's window in its own hands.
    hold: bool,
    /// The client gives up once it has the answer's head.
    cancel: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// One copied piece.
    Data,
    /// Shared pieces.
    Bytes,
    /// Pieces as the queue becomes short, as a watch stream would.
    Stream,
    /// A head that is also the end.
    TrailersOnly,
    /// RST_STREAM after the head.
    Reset,
    /// The answer comes before the request is read.
    Early,
}

fn any_call() -> impl Strategy<Value = Call> {
    let length = || prop_oneof![Just(0usize), 1usize..300, 1usize..20_000, 60_000usize..200_000];
    let answer = prop_oneof![
        4 => Just(Answer::Data),
        4 => Just(Answer::Bytes),
        3 => Just(Answer::Stream),
        1 => Just(Answer::TrailersOnly),
        1 => Just(Answer::Reset),
        1 => Just(Answer::Early),
    ];
    let weights = (prop::bool::weighted(0.2), prop::bool::weighted(0.3), prop::bool::weighted(0.1));
    (length(), 1usize..40_000, answer, length(), weights).prop_map(
        |(sent, piece, answer, length, (trailers, hold, cancel))| Call {
            sent,
            piece,
            trailers,
            answer,
            length,
            hold,
            cancel,
        },
    )
}

#[derive(Clone, Debug)]
struct Scene {
    calls: Vec<Call>,
    client_window: u32,
    client_connection_window: u32,
    client_frame: u32,
    client_table: u32,
    config: Config,
    pipe: usize,
    read: usize,
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let window = || prop_oneof![1u32..100, 1000u32..65_535, Just(1u32 << 20)];
    let client = (window(), 65_535u32..200_000, 16_384u32..40_000, 0u32..5000);
    let server = (window(), 65_535u32..200_000, 16_384u32..40_000, 0u32..5000, 1usize..300_000);
    (vec(any_call(), 1..12), client, server, (100usize..100_000, 1usize..70_000)).prop_map(
        |(mut calls, client, server, (pipe, read))| {
            // A window of a few bytes makes a frame of each: enough is enough.
            for call in &mut calls {
                call.sent = call.sent.min(server.0 as usize * 2000);
                call.length = call.length.min(client.0 as usize * 2000);
            }
            let config = Config {
                initial_window: server.0,
                connection_window: server.1,
                max_frame_size: server.2,
                header_table_size: server.3,
                output_mark: server.4,
                writable_mark: 1000,
                // One-byte windows are updated byte by byte, which is what the budget is against.
                idle_frame_burst: u32::MAX,
                // Time stands still here.
                linger_ms: 0,
                ..Config::default()
            };
            Scene {
                calls,
                client_window: client.0,
                client_connection_window: client.1,
                client_frame: client.2,
                client_table: client.3,
                config,
                pipe,
                read,
            }
        },
    )
}

/// The byte at a place of a body: a wrong order shows.
fn body(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 251) as u8).collect()
}

fn is_body(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(place, byte)| *byte == (place % 251) as u8)
}

/// A call as the server knows it.
struct Served {
    answer: u8,
    length: usize,
    hold: bool,
    received: Vec<u8>,
    /// What a `Stream` answer has still to send.
    rest: Bytes,
}

struct Application {
    calls: HashMap<StreamId, Served>,
    heads_seen: usize,
}

const TRAILER: Field<'static> = Field::indexed("grpc-status", b"0");

impl Application {
    fn open(&mut self, head: &http2::HeaderList, stream: StreamId) -> bool {
        assert_eq!((head.method(), head.scheme()), (&b"POST"[..], &b"http"[..]));
        assert_eq!(head.authority(), b"pipe");
        assert_eq!(head.get(Name::Te), Some(&b"trailers"[..]));
        let path = std::str::from_utf8(head.path()).expect("ascii");
        let mut parts = path.trim_start_matches('/').split('/');
        let mut number =
            || parts.next().and_then(|part| part.parse::<usize>().ok()).expect("a number");
        let (answer, length, hold) = (number() as u8, number(), number() == 1);
        assert_eq!(head.find("x-length"), Some(length.to_string().as_bytes()));
        let served =
            Served { answer, length, hold, received: Vec::new(), rest: Bytes::from(body(length)) };
        self.calls.insert(stream, served);
        self.heads_seen += 1;
        hold
    }

    fn answer(&mut self, server: &mut Server, stream: StreamId) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        assert!(is_body(&call.received));
        let sum = call.received.len().to_string();
        let head = [
            Field::indexed("content-type", b"application/grpc"),
            Field::literal("x-sum", sum.as_bytes()),
        ];
        let end = call.answer == Answer::TrailersOnly as u8;
        server.send_headers(stream, 200, &head, end);
        match call.answer {
            answer if answer == Answer::Data as u8 => {
                server.send_data(stream, &body(call.length), false);
                server.send_trailers(stream, &[TRAILER, Field::literal("x-t", b"1")]);
            }
            answer if answer == Answer::Stream as u8 => {
                self.stream_on(server, stream);
                return;
            }
            answer if answer == Answer::TrailersOnly as u8 => {}
            answer if answer == Answer::Reset as u8 => server.reset(stream, ErrorCode::CANCEL),
            _ => {
                let whole = Bytes::from(body(call.length));
                let third = whole.len() / 3;
                server.send_bytes(stream, [whole.slice(..third), whole.slice(third..)], false);
                server.send_trailers(stream, &[TRAILER]);
            }
        }
        self.calls.remove(&stream);
    }

    fn stream_on(&mut self, server: &mut Server, stream: StreamId) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        while !call.rest.is_empty() {
            let piece = call.rest.split_to(call.rest.len().min(700));
            server.send_data(stream, &piece, false);
            if server.unsent(stream) > 1000 {
                return;
            }
        }
        server.send_trailers(stream, &[TRAILER]);
        self.calls.remove(&stream);
    }
}

enum Todo {
    Nothing,
    Hold(StreamId, bool),
    Release(StreamId, usize),
    Answer(StreamId),
    Stream(StreamId),
}

/// Serves one connection until the client closes it.
async fn serve(mut pipe: DuplexStream, config: Config, read: usize) -> usize {
    let mut server = Server::new(&config);
    let mut application = Application { calls: HashMap::new(), heads_seen: 0 };
    let mut buffer = vec![0; read];
    loop {
        let mut input = &[][..];
        while turn(&mut server, &mut application, &mut input) {}
        loop {
            let output = server.output();
            if !output.has_remaining() {
                break;
            }
            let Ok(count) = pipe.write(output.chunk()).await else { return application.heads_seen };
            server.output().advance(count);
            while turn(&mut server, &mut application, &mut input) {}
        }
        let count = pipe.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return application.heads_seen;
        }
        let mut input = buffer.get(..count).unwrap_or_default();
        while turn(&mut server, &mut application, &mut input) {}
    }
}

/// Takes one event; false when there is none.
fn turn(server: &mut Server, application: &mut Application, input: &mut &[u8]) -> bool {
    let event = server.receive(0, input).expect("h2 keeps to the protocol");
    let todo = match event {
        None => return false,
        Some(Event::Headers { stream, head, end }) => {
            let hold = application.open(head, stream);
            let early =
                application.calls.get(&stream).is_some_and(|c| c.answer == Answer::Early as u8);
            if end || early { Todo::Answer(stream) } else { Todo::Hold(stream, hold) }
        }
        Some(Event::Data { stream, data, end }) => match application.calls.get_mut(&stream) {
            Some(call) => {
                call.received.extend(data);
                match (end, call.hold) {
                    (true, _) => Todo::Answer(stream),
                    (false, true) => Todo::Release(stream, data.len()),
                    (false, false) => Todo::Nothing,
                }
            }
            None => Todo::Nothing,
        },
        Some(Event::Trailers { stream, trailers }) => {
            assert_eq!(trailers.find("x-end"), Some(&b"yes"[..]));
            Todo::Answer(stream)
        }
        Some(Event::Writable { stream }) => Todo::Stream(stream),
        Some(Event::Reset { stream, by_peer, .. }) => {
            assert!(by_peer, "h2 breaks no rule");
            application.calls.remove(&stream);
            Todo::Nothing
        }
        Some(_) => Todo::Nothing,
    };
    match todo {
        Todo::Nothing => {}
        Todo::Hold(stream, true) => server.hold_window(stream),
        Todo::Hold(_, false) => {}
        Todo::Release(stream, bytes) => server.release(stream, bytes),
        Todo::Answer(stream) => application.answer(server, stream),
        Todo::Stream(stream) => application.stream_on(server, stream),
    }
    true
}

/// Makes one call and checks its answer.
async fn make(mut h2: client::SendRequest<Bytes>, call: Call) {
    poll_fn(|cx| h2.poll_ready(cx)).await.expect("ready");
    let path = format!("/{}/{}/{}", call.answer as u8, call.length, u8::from(call.hold));
    let request = Request::post(format!("http://pipe{path}"))
        .header("te", "trailers")
        .header("x-length", call.length.to_string())
        .body(())
        .expect("a good request");
    let empty = call.sent == 0 && !call.trailers;
    let (response, mut send) = h2.send_request(request, empty).expect("room for a stream");
    let early = call.answer == Answer::Early;
    if !empty {
        let mut rest = Bytes::from(body(call.sent));
        while !rest.is_empty() {
            send.reserve_capacity(rest.len().min(call.piece));
            let capacity = match poll_fn(|cx| send.poll_capacity(cx)).await {
                Some(Ok(capacity)) => capacity,
                // The server answered and closed the stream: no more is wanted.
                _ if early => break,
                other => panic!("no capacity: {other:?}"),
            };
            let end = capacity >= rest.len() && !call.trailers;
            let piece = rest.split_to(capacity.min(rest.len()));
            let sent = send.send_data(piece, end);
            assert!(sent.is_ok() || early, "{sent:?}");
        }
        if call.trailers && (rest.is_empty() || early) {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-end", http::HeaderValue::from_static("yes"));
            let sent = send.send_trailers(trailers);
            assert!(sent.is_ok() || early, "{sent:?}");
        }
    }
    let response = match response.await {
        Ok(response) => response,
        Err(error) => {
            assert!(call.answer == Answer::Reset, "{call:?}: {error}");
            assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
            return;
        }
    };
    assert_eq!(response.status(), StatusCode::OK);
    let sum = response.headers().get("x-sum").expect("a sum").to_str().expect("ascii");
    if !early {
        assert_eq!(sum, call.sent.to_string());
    }
    if call.cancel {
        return;
    }
    read_answer(response.into_body(), &call).await;
}

async fn read_answer(mut answer: h2::RecvStream, call: &Call) {
    let mut received = Vec::new();
    while let Some(piece) = answer.data().await {
        match piece {
            Ok(piece) => {
                let _ = answer.flow_control().release_capacity(piece.len());
                received.extend(piece);
            }
            Err(error) => {
                assert_eq!(call.answer, Answer::Reset, "{error}");
                return;
            }
        }
    }
    let wanted = if call.answer == Answer::TrailersOnly { 0 } else { call.length };
    assert_eq!(received.len(), wanted, "{call:?}");
    assert!(is_body(&received));
    if call.answer != Answer::TrailersOnly {
        let trailers = answer.trailers().await.expect("no reset").expect("trailers");
        assert_eq!(trailers.get("grpc-status").map(http::HeaderValue::as_bytes), Some(&b"0"[..]));
    }
}

async fn play(scene: Scene) {
    let (ours, theirs) = tokio::io::duplex(scene.pipe);
    let served = tokio::spawn(serve(ours, scene.config.clone(), scene.read));
    let (h2, mut connection) = client::Builder::new()
        .initial_window_size(scene.client_window)
        .initial_connection_window_size(scene.client_connection_window)
        .max_frame_size(scene.client_frame)
        .header_table_size(scene.client_table)
        .handshake::<_, Bytes>(theirs)
        .await
        .expect("a handshake");
    let mut ping_pong = connection.ping_pong().expect("the first to ask");
    let driver = tokio::spawn(async move { connection.await.expect("no connection error") });
    let calls: Vec<_> =
        scene.calls.iter().map(|call| tokio::spawn(make(h2.clone(), call.clone()))).collect();
    ping_pong.ping(Ping::opaque()).await.expect("an answer to a ping");
    for call in calls {
        call.await.expect("a call went as it should");
    }
    drop(h2);
    driver.await.expect("the driver ended well");
    assert_eq!(served.await.expect("the server ended well"), scene.calls.len());
}

fn run(scene: Scene) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(play(scene));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn random_calls(scene in any_scene()) {
        run(scene);
    }
}

#[test]
fn windows_of_one_byte() {
    let call = |answer| Call {
        sent: 300,
        piece: 7,
        trailers: true,
        answer,
        length: 300,
        hold: true,
        cancel: false,
    };
    run(Scene {
        calls: vec![call(Answer::Data), call(Answer::Stream), call(Answer::Bytes)],
        client_window: 1,
        client_connection_window: 65_535,
        client_frame: 16_384,
        client_table: 0,
        config: Config {
            initial_window: 1,
            connection_window: 65_535,
            header_table_size: 0,
            idle_frame_burst: u32::MAX,
            ..Config::default()
        },
        pipe: 64,
        read: 1,
    });
}
