//! What the client does when members and connections go.

use std::time::Duration;

use client::{Client, Code, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Cluster, Wire, alone, eventually, run};

/// Soon enough for a test that waits for the error.
const SHORT: Duration = Duration::from_millis(300);

fn quick(config: Config) -> Config {
    config.reconnect_wait(Duration::from_millis(5), Duration::from_millis(50))
}

#[test]
fn a_cluster_goes_on_without_a_member_and_with_it_again() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let client = Client::connect(quick(cluster.config())).await.expect("a client");
        let mut watcher = client.watch("k").await.expect("a watcher");
        let mut heard = Vec::new();
        let mut last = 0;
        for number in 0..3 {
            cluster.servers[number].stop().await;
            // The one that led may be gone: a write fails then, and was perhaps done.
            let put = async || client.put("k", number.to_string()).await.ok();
            let header = eventually(put).await.header.expect("a header");
            for _ in 0..3 {
                let kv = client.get("k").await.expect("get").kvs.remove(0);
                assert_eq!(
                    (kv.mod_revision, &*kv.value),
                    (header.revision, number.to_string().as_bytes())
                );
            }
            last = header.revision;
            cluster.servers[number].start().await;
        }
        while heard.last() != Some(&last) {
            let response = watcher.next().await.expect("a response").expect("events");
            heard.extend(
                response.events.iter().filter_map(|event| Some(event.kv.as_ref()?.mod_revision)),
            );
        }
        let all = client.get("k").await.expect("get").kvs.remove(0);
        assert!(heard.iter().copied().eq(all.create_revision..=last), "{heard:?}");
        let mut members = Vec::new();
        eventually(async || {
            let header = client.get("k").serializable().await.expect("get").header;
            members.push(header.expect("a header").member_id);
            members.sort_unstable();
            members.dedup();
            (members.len() == 3).then_some(())
        })
        .await;
    });
}

#[test]
fn calls_wait_for_a_member_and_say_why() {
    run(async {
        let mut cluster = Cluster::start(1).await;
        cluster.servers[0].stop().await;
        let client = Client::connect(quick(cluster.config())).await.expect("a client");
        let error = client.with_timeout(SHORT).get("k").await.expect_err("nobody there");
        assert_eq!(error.to_string(), "context deadline exceeded");
        assert_eq!(error.code(), Code::DeadlineExceeded);
        let client::Error::DeadlineExceeded { connection: Some(reason) } = error else {
            panic!("{error:?}");
        };
        assert!(reason.contains("onnection refused"), "{reason}");
        let waiting = tokio::spawn(client.put("k", "1").into_future());
        cluster.servers[0].start().await;
        waiting.await.expect("a task").expect("put");
    });
}

#[test]
fn a_write_that_may_have_happened_is_not_repeated() {
    run(async {
        let (cluster, direct) = alone().await;
        let wire = Wire::to(cluster.servers[0].address()).await;
        let client =
            Client::connect(quick(Config::new([wire.endpoint()]))).await.expect("a client");
        client.put("other", "").await.expect("put");
        let mut watcher = direct.watch("k").await.expect("a watcher");
        wire.mute(true);
        let put = tokio::spawn(client.put("k", "1").into_future());
        // The server has it, and its answer is lost.
        watcher.next().await.expect("an event").expect("an event");
        wire.mute(false);
        wire.cut();
        let error = put.await.expect("a task").expect_err("nobody knows");
        assert_eq!(error.code(), Code::Unavailable);
        // A read is repeated.
        assert_eq!(client.get("k").await.expect("get").kvs[0].version, 1);
        wire.mute(true);
        let get = tokio::spawn(client.get("k").into_future());
        let carried = wire.carried();
        eventually(async || (wire.carried() > carried).then_some(())).await;
        wire.mute(false);
        wire.cut();
        assert_eq!(get.await.expect("a task").expect("get").kvs[0].version, 1);
    });
}

#[test]
fn a_write_that_was_not_sent_is() {
    run(async {
        let (cluster, _) = alone().await;
        let wire = Wire::to(cluster.servers[0].address()).await;
        let client =
            Client::connect(quick(Config::new([wire.endpoint()]))).await.expect("a client");
        for round in 1..=5 {
            // The connection is gone, whether or not the client has noticed.
            wire.cut();
            tokio::task::yield_now().await;
            // One that was on its way when the end was noticed is not repeated, and that is right.
            let put = async || client.put("k", round.to_string()).await.ok();
            eventually(put).await;
        }
        let kv = client.get("k").await.expect("get").kvs.remove(0);
        assert_eq!((&*kv.value, kv.version), (&b"5"[..], 5));
    });
}

/// Reads up to the head of the first request.
async fn read_request(socket: &mut TcpStream) {
    const PREFACE_BYTES: usize = 24;
    const HEADERS: u8 = 1;
    socket.read_exact(&mut [0; PREFACE_BYTES]).await.expect("a preface");
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.expect("a frame");
        let [high, middle, low, kind, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        socket.read_exact(&mut payload).await.expect("a frame");
        if kind == HEADERS {
            return;
        }
    }
}

#[test]
fn only_the_server_can_say_that_it_has_not_begun() {
    // Frames with their length, type and flags, stream, and content.
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    const GOES_AWAY_BEFORE_IT: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    const GOES_AWAY_AFTER_IT: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0";
    const REFUSED: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07";
    const INTERNAL_ERROR: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x02";
    let table = [
        (GOES_AWAY_BEFORE_IT, None),
        (REFUSED, None),
        (GOES_AWAY_AFTER_IT, Some(Code::Unavailable)),
        (INTERNAL_ERROR, Some(Code::Internal)),
        (b"", Some(Code::Unavailable)),
    ];
    run(async {
        let (cluster, direct) = alone().await;
        for (reply, expected) in table {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            let target = cluster.servers[0].address();
            let server = tokio::spawn(async move {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                socket.write_all(SETTINGS).await.expect("a frame");
                read_request(&mut socket).await;
                socket.write_all(reply).await.expect("a frame");
                socket.shutdown().await.expect("an end");
                // What is not read would be answered with a reset, which may overtake the reply.
                let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
                // The next connection leads to a real server.
                let (mut socket, _) = listener.accept().await.expect("a connection");
                let mut real = TcpStream::connect(target).await.expect("a server");
                let _ = tokio::io::copy_bidirectional(&mut socket, &mut real).await;
            });
            let client = Client::connect(quick(Config::new([address]))).await.expect("a client");
            let put = client.put("k", "v").await;
            assert_eq!(put.as_ref().err().map(client::Error::code), expected, "{reply:?} {put:?}");
            assert_eq!(direct.delete("k").await.expect("delete").deleted == 1, expected.is_none());
            server.abort();
        }
    });
}

#[test]
fn a_member_that_stops_in_good_order_loses_no_write() {
    run(async {
        let mut cluster = Cluster::start(1).await;
        let client = Client::connect(quick(cluster.config())).await.expect("a client");
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let writers = [(); 8].map(|()| {
            let (client, stopped) = (client.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut count = 0;
                while !*stopped.borrow() {
                    client.put("k", "v").await.expect("put");
                    count += 1;
                }
                count
            })
        });
        for _ in 0..5 {
            let version =
                client.get("k").await.expect("get").kvs.first().map_or(0, |kv| kv.version);
            cluster.servers[0].stop().await;
            cluster.servers[0].start().await;
            eventually(async || {
                let kvs = client.get("k").await.expect("get").kvs;
                (kvs.first()?.version > version + 8).then_some(())
            })
            .await;
        }
        stop.send_replace(true);
        let mut puts = 0;
        for writer in writers {
            puts += writer.await.expect("a writer");
        }
        assert_eq!(client.get("k").await.expect("get").kvs[0].version, puts);
    });
}

#[test]
fn a_server_that_is_silent_is_given_up() {
    run(async {
        let often = |config: server::Config| server::Config {
            keepalive_min_time: Duration::from_millis(1),
            ..config
        };
        let cluster = Cluster::start_with(1, often).await;
        let wire = Wire::to(cluster.servers[0].address()).await;
        let config = quick(Config::new([wire.endpoint()])).keep_alive(SHORT, SHORT);
        let client = Client::connect(config).await.expect("a client");
        client.put("k", "1").await.expect("put");
        wire.mute(true);
        let get = tokio::spawn(client.get("k").into_future());
        // The answer is lost, and nothing says that the connection is of no use.
        eventually(async || (wire.lost() > 0).then_some(())).await;
        wire.mute(false);
        assert_eq!(get.await.expect("a task").expect("get").kvs[0].value, "1");
    });
}

#[test]
fn a_server_that_speaks_something_else_is_named() {
    run(async {
        let replies: [(&[u8], &str); 3] = [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the server speaks HTTP/1 and not gRPC"),
            (b"\x15\x03\x01\0\x02\x02\x46", "the server wants TLS"),
            (b"SSH-2.0-x\r\n", "the server does not speak HTTP/2"),
        ];
        for (reply, expected) in replies {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            let server = tokio::spawn(async move {
                loop {
                    let (mut socket, _) = listener.accept().await.expect("a connection");
                    socket.write_all(reply).await.expect("a reply");
                    // What is not read would be answered with a reset, which may overtake the reply.
                    let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
                }
            });
            let config = quick(Config::new([address.clone()])).timeout(SHORT);
            let client = Client::connect(config).await.expect("a client");
            match client.get("k").await.expect_err("no server") {
                client::Error::DeadlineExceeded { connection: Some(reason) } => {
                    assert_eq!(reason, format!("{address}: {expected}"));
                }
                other => panic!("{other:?}"),
            }
            server.abort();
        }
    });
}

async fn endpoints_come_from(cluster: &Cluster) {
    let client = cluster.servers[0].client().await;
    client.sync().await.expect("sync");
    let mut found = client.endpoints();
    found.sort();
    let mut expected: Vec<String> =
        cluster.servers.iter().map(crate::support::Server::endpoint).collect();
    expected.sort();
    assert_eq!(found, expected);
    let config = Config::new([cluster.servers[0].endpoint()]);
    let config = config.auto_sync_interval(Duration::from_millis(5)).reject_old_cluster();
    let client = Client::connect(config).await.expect("a client");
    eventually(async || (client.endpoints().len() == 3).then_some(())).await;
    client.set_endpoints(["https://x:1"]).expect_err("no TLS");
}

#[test]
fn a_member_without_a_leader_refuses_who_asks_for_one() {
    run(async {
        let restless = |config| server::Config { heartbeat_ms: 20, election_ms: 200, ..config };
        let mut cluster = Cluster::start_with(3, restless).await;
        endpoints_come_from(&cluster).await;
        let client = cluster.servers[0].client().await.with_require_leader();
        client.get("k").await.expect("get");
        cluster.servers[1].stop().await;
        cluster.servers[2].stop().await;
        let none = client.with_timeout(Duration::from_secs(30));
        let error = eventually(async || none.get("k").serializable().await.err()).await;
        assert!(error.is(client::EtcdError::NoLeader), "{error}");
        client.with_timeout(SHORT).get("k").serializable().await.expect_err("no leader");
    });
}

#[test]
fn a_unix_socket_is_an_endpoint() {
    run(async {
        let cluster = Cluster::start(1).await;
        let path = cluster.scratch.join("wire.sock");
        let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
        let target = cluster.servers[0].address();
        let wire = tokio::spawn(async move {
            let (mut local, _) = listener.accept().await.expect("a connection");
            let mut remote = TcpStream::connect(target).await.expect("the server");
            let _ = tokio::io::copy_bidirectional(&mut local, &mut remote).await;
        });
        let endpoint = format!("unix://{}", path.display());
        let client = Client::connect(Config::new([endpoint])).await.expect("a client");
        client.put("k", "v").await.expect("put");
        wire.abort();
    });
}
