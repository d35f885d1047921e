//! The `h2` crate's server judges our client: random calls over an in-memory pipe, all at once, with windows from one
//! byte up. The server sends back what it was sent.

use std::collections::HashMap;

use bytes::{Buf, Bytes};
use h2::server;
use http2::{Client, Config, ErrorCode, Event, Field, Request, StreamId};
use proptest::{collection::vec, prelude::*};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A stream's window before SETTINGS say otherwise.
const WINDOW_DEFAULT: u32 = 65_535;

#[derive(Clone, Debug)]
struct Scene {
    /// How much each call sends, and whether it is given up when it is answered.
    calls: Vec<(usize, bool)>,
    config: Config,
    window: u32,
    frame: u32,
    table: u32,
    streams: u32,
    pipe: usize,
    read: usize,
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let window = || prop_oneof![1u32..100, 1000u32..65_535, Just(1u32 << 20)];
    let length = prop_oneof![Just(0usize), 1usize..300, 1usize..20_000, 60_000usize..200_000];
    let ours = (window(), 65_535u32..200_000, 16_384u32..40_000, 0u32..5000);
    let theirs = (window(), 16_384u32..40_000, 0u32..5000, 1u32..5);
    let wire = (100usize..100_000, 1usize..70_000);
    let call = (length, prop::bool::weighted(0.1));
    (vec(call, 1..12), ours, theirs, wire).prop_map(
        |(mut calls, ours, (window, frame, table, streams), (pipe, read))| {
            for (length, _) in &mut calls {
                *length = (*length).min(window.min(ours.0) as usize * 2000);
            }
            let config = Config {
                initial_window: ours.0,
                connection_window: ours.1,
                max_frame_size: ours.2,
                header_table_size: ours.3,
                idle_frame_burst: u32::MAX,
                ..Config::default()
            };
            Scene { calls, config, window, frame, table, streams, pipe, read }
        },
    )
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 251) as u8).collect()
}

/// Sends back what it is sent, until the connection ends.
async fn serve(pipe: DuplexStream, scene: Scene) {
    let mut connection = server::Builder::new()
        .initial_window_size(scene.window)
        .max_frame_size(scene.frame)
        .header_table_size(scene.table)
        .max_concurrent_streams(scene.streams)
        .handshake::<_, Bytes>(pipe)
        .await
        .expect("a handshake");
    while let Some(call) = connection.accept().await {
        let (request, respond) = call.expect("no connection error");
        tokio::spawn(echo(request, respond));
    }
}

/// Ends early if the client gives up.
async fn echo(
    request: http::Request<h2::RecvStream>,
    mut respond: server::SendResponse<Bytes>,
) -> Option<()> {
    assert_eq!(request.uri().path(), "/echo");
    assert_eq!(
        request.headers().get("te").map(http::HeaderValue::as_bytes),
        Some(&b"trailers"[..])
    );
    let mut received = request.into_body();
    let answer = http::Response::builder().header("x-a", "b").body(()).expect("a good answer");
    let mut send = respond.send_response(answer, false).ok()?;
    while let Some(piece) = received.data().await {
        let mut piece = piece.ok()?;
        received.flow_control().release_capacity(piece.len()).ok()?;
        while !piece.is_empty() {
            send.reserve_capacity(piece.len());
            let capacity = std::future::poll_fn(|cx| send.poll_capacity(cx)).await?.ok()?;
            send.send_data(piece.split_to(capacity.min(piece.len())), false).ok()?;
        }
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    send.send_trailers(trailers).ok()
}

struct Caller {
    client: Client,
    waiting: Vec<(usize, bool)>,
    open: HashMap<StreamId, (usize, bool, Vec<u8>)>,
    answered: usize,
}

impl Caller {
    /// Opens what there is room for.
    fn open(&mut self) {
        while let Some((length, is_given_up)) = self.waiting.pop() {
            let fields = [Field::indexed("te", b"trailers")];
            let request = Request {
                method: "POST",
                scheme: "http",
                authority: "pipe",
                path: "/echo",
                fields: &fields,
            };
            let Ok(stream) = self.client.open(&request, length == 0) else {
                self.waiting.push((length, is_given_up));
                return;
            };
            if length > 0 {
                self.client.send_bytes(stream, [Bytes::from(body(length))], true);
            }
            self.open.insert(stream, (length, is_given_up, Vec::new()));
        }
    }

    fn receive(&mut self, mut input: &[u8]) {
        loop {
            let given_up = match self.client.receive(0, &mut input).expect("h2 keeps to the rules")
            {
                None => return,
                Some(Event::Headers { stream, head, .. }) => {
                    assert_eq!((head.status(), head.find("x-a")), (200, Some(&b"b"[..])));
                    self.open[&stream].1.then_some(stream)
                }
                Some(Event::Data { stream, data, .. }) => {
                    self.open.get_mut(&stream).expect("a call").2.extend(data);
                    None
                }
                Some(Event::Trailers { stream, .. }) => {
                    let (length, _, received) = self.open.remove(&stream).expect("a call");
                    assert_eq!(received, body(length));
                    self.answered += 1;
                    None
                }
                Some(Event::Reset { stream, code, by_peer }) => {
                    assert!(by_peer && code == ErrorCode::REFUSED_STREAM, "{code:?}");
                    let (length, is_given_up, _) = self.open.remove(&stream).expect("a call");
                    self.waiting.push((length, is_given_up));
                    None
                }
                Some(_) => None,
            };
            if let Some(stream) = given_up {
                self.client.reset(stream, ErrorCode::CANCEL);
                self.open.remove(&stream);
                self.answered += 1;
            }
        }
    }
}

async fn play(scene: Scene) {
    let (pipe, theirs) = tokio::io::duplex(scene.pipe);
    let (mut from_server, mut to_server) = tokio::io::split(pipe);
    let served = tokio::spawn(serve(theirs, scene.clone()));
    let mut caller = Caller {
        client: Client::new(&scene.config),
        waiting: scene.calls.clone(),
        open: HashMap::new(),
        answered: 0,
    };
    let mut buffer = vec![0; scene.read];
    while caller.answered < scene.calls.len() {
        // What came before a smaller window was acknowledged h2 may never return (its threshold for that is half of the
        // larger one), so that both would wait.
        if scene.window >= WINDOW_DEFAULT || caller.client.is_established() {
            caller.open();
        }
        let output = caller.client.output();
        // Both ends may have more to say than the pipe holds: whichever can goes on.
        tokio::select! {
            count = from_server.read(&mut buffer) => {
                let count = count.expect("the server is there");
                assert!(count > 0, "the server goes on");
                caller.receive(buffer.get(..count).unwrap_or_default());
            }
            count = to_server.write(output.chunk()), if output.has_remaining() => {
                output.advance(count.expect("the server is there"));
            }
        }
    }
    caller.client.go_away(ErrorCode::NO_ERROR, b"");
    let output = caller.client.output();
    let last = output.copy_to_bytes(output.remaining());
    let _ = to_server.write_all(&last).await;
    let _ = to_server.shutdown().await;
    // The server may have something to say still, such as of calls that were given up.
    while from_server.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    served.await.expect("the server ended well");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn random_calls(scene in any_scene()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(play(scene));
    }
}
