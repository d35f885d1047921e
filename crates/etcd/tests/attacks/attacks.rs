//! Attacks on the client port of a real server: what they cost it is read from /proc, and somebody honest has calls answered
//! while they go on. Nothing here depends on how fast anything is.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use api::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use rustix::process::{Pid, Signal, kill_process};

use crate::client::Client;
use crate::frames::{
    ACK, Attacker, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Heard,
    INITIAL_WINDOW_SIZE, PADDED, PING, PREFACE, PRIORITY, SETTINGS, block, call, frame, head,
    message, reset, settings, window_update,
};
use crate::support::{Launch, Scratch, Server};

/// Calls that somebody honest makes during each attack.
const HONEST_CALLS: usize = 6;
/// Connections that attack at a time.
const ATTACKERS: usize = 2;
/// However slow the machine is, an honest call is answered in this time.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the server may need of its processor for honest calls, new connections and the pages.
pub(crate) const CPU_BASE: Duration = Duration::from_secs(2);
/// And for each frame and each byte of an attacker, in a build without optimisation.
const CPU_PER_FRAME: Duration = Duration::from_micros(150);
/// For a call that goes through all of a database of 4 MiB.
const CPU_PER_PASS: Duration = Duration::from_millis(100);
const CPU_PER_BYTE: Duration = Duration::from_micros(1);
const LARGE_BYTES: usize = 256 << 10;
/// What an attack may cost in memory, unless its row says more.
const MEMORY_MIB: u64 = 32;

/// What a process uses.
pub(crate) struct Usage {
    /// Anonymous memory, in MiB.
    pub(crate) memory_mib: u64,
    pub(crate) cpu: Duration,
    pub(crate) descriptors: usize,
}

pub(crate) fn usage(pid: u32) -> Usage {
    let read = |name: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{name}")).expect("the server lives")
    };
    let status = read("status");
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = anonymous.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let stat = read("stat");
    // Behind the name, which may have spaces; times are in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let mut times = fields.split_whitespace().skip(11).map(|text| text.parse::<u64>());
    let mut time = || times.next().expect("a time").expect("a number");
    let cpu = Duration::from_millis(10 * (time() + time()));
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the server lives");
    Usage { memory_mib: kib.expect("RssAnon") >> 10, cpu, descriptors: descriptors.count() }
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Calls of which the server has heard, and which it has ended.
pub(crate) fn calls(server: &Server) -> (f64, f64) {
    let metrics = server.metrics();
    let sum = |name: &str| {
        let found = metrics.iter().filter(|(key, _)| key.starts_with(name));
        found.map(|(_, value)| value).sum()
    };
    (sum("grpc_server_started_total"), sum("grpc_server_handled_total"))
}

/// Somebody honest: puts and gets on one connection, and each second time on a new one.
pub(crate) fn be_honest(address: &str, calls: &AtomicUsize, is_over: &AtomicBool) {
    let mut client = Client::connect(address);
    for turn in 0.. {
        let value = format!("{turn}");
        client.put(b"honest", value.as_bytes()).expect("a put is answered");
        let got = client.get(b"honest").expect("a get is answered");
        assert_eq!(got.as_deref(), Some(value.as_bytes()));
        calls.fetch_add(2, Ordering::Relaxed);
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        if turn % 2 == 1 {
            client = Client::connect(address);
        }
    }
}

/// How the server ends an attacker's connection.
#[derive(Clone, Copy)]
enum End {
    /// With a GOAWAY of this code, and this in its text.
    SentAway(u32, &'static str),
    /// Not at all; its streams, if it resets any, with these codes.
    Stays(&'static [u32]),
}

struct Attack {
    name: &'static str,
    memory_mib: u64,
    /// What one frame may cost of the processor.
    frame_cpu: Duration,
    end: End,
    /// What one connection does.
    act: fn(&str) -> Attacker,
}

/// An attack that the connection outlives.
fn row(name: &'static str, memory_mib: u64, act: fn(&str) -> Attacker) -> Attack {
    Attack { name, memory_mib, frame_cpu: CPU_PER_FRAME, end: End::Stays(&[]), act }
}

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const CALM: u32 = 11;

const RESETS: End = End::SentAway(CALM, "too many resets");
const IDLE: End = End::SentAway(CALM, "too many frames that move nothing");

/// Runs an attack until the honest client has had its calls, and each attacker has done its worst once.
fn withstand(server: &Server, attack: &Attack) {
    let (name, address) = (attack.name, &*server.address);
    let (before, begun) = (usage(server.pid()), Instant::now());
    let (calls_done, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (frames, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut peak_mib = before.memory_mib;
    thread::scope(|scope| {
        let honest = scope.spawn(|| be_honest(address, &calls_done, &is_over));
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let attacker = (attack.act)(address);
                        frames.fetch_add(attacker.frames as usize, Ordering::Relaxed);
                        bytes.fetch_add(attacker.bytes as usize, Ordering::Relaxed);
                        judge(attack, &attacker.leave());
                        if calls_done.load(Ordering::Relaxed) >= HONEST_CALLS {
                            return;
                        }
                    }
                })
            })
            .collect();
        wait_until(&format!("{name}: the honest client waits"), || {
            peak_mib = peak_mib.max(usage(server.pid()).memory_mib);
            let is_done = calls_done.load(Ordering::Relaxed) >= HONEST_CALLS;
            honest.is_finished() || (is_done && attackers.iter().all(|it| it.is_finished()))
        });
        is_over.store(true, Ordering::Relaxed);
    });
    wait_until(&format!("{name}: connections and calls are left over"), || {
        let (started, handled) = calls(server);
        usage(server.pid()).descriptors <= before.descriptors && started == handled
    });
    let (frames, bytes) = (frames.into_inner() as u32, bytes.into_inner() as u32);
    let cpu = usage(server.pid()).cpu.saturating_sub(before.cpu);
    let grown_mib = peak_mib - before.memory_mib;
    let took = begun.elapsed();
    eprintln!("{name}: {frames} frames, {bytes} bytes, {cpu:?} of {took:.1?}, +{grown_mib} MiB");
    assert!(grown_mib <= attack.memory_mib, "{name}: {grown_mib} MiB");
    let allowed = CPU_BASE + attack.frame_cpu * frames + CPU_PER_BYTE * bytes;
    assert!(cpu <= allowed, "{name}: {cpu:?} for {frames} frames and {bytes} bytes");
}

fn judge(attack: &Attack, heard: &Heard) {
    let name = attack.name;
    match (attack.end, &heard.go_away) {
        (End::SentAway(code, text), Some((found, why))) => {
            assert!(*found == code && why.contains(text), "{name}: {found} {why}");
        }
        (End::Stays(codes), None) => {
            assert!(heard.resets.iter().all(|code| codes.contains(code)), "{name}: {heard:?}");
        }
        _ => panic!("{name}: {heard:?}"),
    }
}

pub(crate) fn range(key: &[u8]) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_vec().into(), serializable: true, ..Default::default() }
}

/// A whole call that is answered at once.
fn whole_call(stream: u32) -> Vec<u8> {
    [call(stream, "KV/Range"), message(stream, &range(b"a"), END_STREAM)].concat()
}

/// Asks for an answer of [`LARGE_BYTES`].
fn ask_for_large(stream: u32) -> Vec<u8> {
    [call(stream, "KV/Range"), message(stream, &range(b"large"), END_STREAM)].concat()
}

fn withstand_all(name: &str, attacks: &[Attack]) {
    let scratch = Scratch::new(name);
    let server = Launch::new(&scratch.data()).start();
    server.client().put(b"large", &vec![b'x'; LARGE_BYTES]).expect("a put");
    for attack in attacks {
        withstand(&server, attack);
    }
    server.terminate();
}

/// A flood on a connection that has one stream open, number 1.
macro_rules! flood {
    ($name:literal, $end:expr, $bytes:expr) => {
        flood!($name, 40_000, $end, $bytes)
    };
    ($name:literal, $times:expr, $end:expr, $bytes:expr) => {
        Attack {
            name: $name,
            memory_mib: MEMORY_MIB,
            frame_cpu: CPU_PER_FRAME,
            end: $end,
            act: |address| {
                let mut attacker = Attacker::greet(address, &[]);
                attacker.say(&call(1, "KV/Range"));
                attacker.flood($times, $bytes);
                attacker
            },
        }
    };
}

#[test]
fn streams_that_come_and_go() {
    withstand_all(
        "resets",
        &[
            flood!("rapid reset", RESETS, |turn| {
                let stream = 2 * turn + 3;
                [call(stream, "KV/Range"), reset(stream)].concat()
            }),
            flood!("rapid reset of watches", RESETS, |turn| {
                let stream = 2 * turn + 3;
                [call(stream, "Watch/Watch"), reset(stream)].concat()
            }),
            flood!("resets that the server is made to send: window of nothing", RESETS, |turn| {
                let stream = 2 * turn + 3;
                [call(stream, "KV/Range"), window_update(stream, 0)].concat()
            }),
            flood!("resets that the server is made to send: window too large", RESETS, |turn| {
                let stream = 2 * turn + 3;
                [call(stream, "KV/Range"), window_update(stream, 0x7fff_ffff)].concat()
            }),
            flood!("resets that the server is made to send: a head twice", RESETS, |turn| {
                let stream = 2 * turn + 3;
                [call(stream, "KV/Range"), call(stream, "KV/Range")].concat()
            }),
            flood!("heads with nothing in them", RESETS, |turn| {
                frame(HEADERS, END_HEADERS, 2 * turn + 3, &[])
            }),
            flood!("data on closed streams", RESETS, |turn| {
                [whole_call(2 * turn + 3), frame(DATA, 0, 2 * turn + 3, b"late")].concat()
            }),
            flood!("trailers before data", 4000, End::Stays(&[]), |turn| {
                let stream = 2 * turn + 3;
                let trailers = frame(HEADERS, END_HEADERS | END_STREAM, stream, &[]);
                [call(stream, "KV/Range"), trailers].concat()
            }),
            flood!("data behind trailers", 4000, End::Stays(&[STREAM_CLOSED]), |turn| {
                let stream = 2 * turn + 3;
                let trailers = frame(HEADERS, END_HEADERS | END_STREAM, stream, &[]);
                let late = message(stream, &range(b"a"), END_STREAM);
                [call(stream, "KV/Range"), trailers, late].concat()
            }),
        ],
    );
}

#[test]
fn frames_that_move_nothing() {
    withstand_all(
        "floods",
        &[
            flood!("PING", End::SentAway(CALM, "too_many_pings"), |_| {
                frame(PING, 0, 0, b"12345678")
            }),
            flood!("answers to no PING", IDLE, |_| frame(PING, ACK, 0, b"12345678")),
            flood!("SETTINGS", IDLE, |_| settings(&[])),
            flood!("SETTINGS that move the windows of all streams", IDLE, |turn| {
                settings(&[(INITIAL_WINDOW_SIZE, turn % 2 * 1000)])
            }),
            flood!("answers to no SETTINGS", IDLE, |_| frame(SETTINGS, ACK, 0, &[])),
            flood!("PRIORITY of streams that depend on each other", IDLE, |turn| {
                let (stream, parent) = (turn % 3 * 2 + 1, (turn + 1) % 3 * 2 + 1);
                frame(PRIORITY, 0, stream, &[&parent.to_be_bytes()[..], &[255]].concat())
            }),
            flood!("PRIORITY of a stream that depends on itself", IDLE, |_| {
                frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 255])
            }),
            flood!("WINDOW_UPDATE", IDLE, |_| window_update(1, 1)),
            flood!("WINDOW_UPDATE of the connection", IDLE, |_| window_update(0, 1)),
            flood!("DATA without data", IDLE, |_| frame(DATA, 0, 1, &[])),
            flood!("DATA of padding", IDLE, |_| frame(DATA, PADDED, 1, &[255; 256])),
            flood!("frames of no known kind", IDLE, |_| frame(0xbe, 0, 0, &[0; 8])),
            flood!("resets of a stream that is closed", IDLE, |turn| {
                if turn == 0 { [call(3, "KV/Range"), reset(3)].concat() } else { reset(3) }
            }),
        ],
    );
}

#[test]
fn heads_without_measure() {
    withstand_all(
        "heads",
        &[
            flood!(
                "CONTINUATION without end",
                End::SentAway(CALM, "header block too long"),
                |turn| {
                    let kind = if turn == 0 { HEADERS } else { CONTINUATION };
                    frame(kind, 0, 3, &block(&[("name", &[b'x'; 1000])]))
                }
            ),
            flood!("CONTINUATION of nothing", IDLE, |turn| {
                frame(if turn == 0 { HEADERS } else { CONTINUATION }, 0, 3, &[])
            }),
            flood!("an HPACK bomb", 150, End::Stays(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]), |turn| {
                // A value of 4 kB goes to the table once, and is named 16,000 times by each head.
                let bomb = frame(HEADERS, END_HEADERS, 2 * turn + 3, &[0xbe; 16_000]);
                if turn > 0 {
                    return bomb;
                }
                let entry = [&[0x40, 1, b'a', 0x7f, 0x80, 0x1e][..], &[b'x'; 127 + 3840]].concat();
                frame(HEADERS, END_HEADERS, 3, &entry)
            }),
            flood!("heads of 9,000 fields", 100, End::Stays(&[FRAME_SIZE_ERROR]), |turn| {
                let fields = block(&[("a", b"")]).repeat(3000);
                let stream = 2 * turn + 3;
                let first = [head("KV/Range", &[]), fields.clone()].concat();
                let parts = [
                    frame(HEADERS, 0, stream, &first),
                    frame(CONTINUATION, 0, stream, &fields),
                    frame(CONTINUATION, END_HEADERS, stream, &fields),
                ];
                parts.concat()
            }),
            flood!("paths of 15 kB", 500, End::Stays(&[]), |turn| {
                let path = [b'/'; 15 << 10];
                let stream = 2 * turn + 3;
                let fields: [(&str, &[u8]); 5] = [
                    (":method", b"POST"),
                    (":scheme", b"http"),
                    (":authority", b"etcd"),
                    (":path", &path),
                    ("content-type", b"application/grpc"),
                ];
                frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields))
            }),
        ],
    );
}

#[test]
fn windows_that_overflow_or_stay_shut() {
    withstand_all(
        "windows",
        &[
            row("windows of nothing, and large answers", 200, |address| {
                let mut attacker = Attacker::greet(address, &[(INITIAL_WINDOW_SIZE, 0)]);
                attacker.flood(500, |turn| ask_for_large(2 * turn + 1));
                attacker
            }),
            row("nothing is read of large answers", 200, |address| {
                let mut attacker = Attacker::deaf(address, &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
                attacker.say(&window_update(0, 0x7fff_0000));
                attacker.flood(500, |turn| ask_for_large(2 * turn + 1));
                attacker
            }),
            row("a byte at a time is taken of a large answer", MEMORY_MIB, |address| {
                let mut attacker = Attacker::greet(address, &[(INITIAL_WINDOW_SIZE, 0)]);
                attacker.say(&ask_for_large(1));
                attacker.flood(3000, |_| window_update(1, 1));
                attacker
            }),
            row("a byte at a time is read of a large answer", MEMORY_MIB, |address| {
                let mut attacker = Attacker::deaf(address, &[(INITIAL_WINDOW_SIZE, 1 << 20)]);
                attacker.say(&window_update(0, 1 << 20));
                attacker.say(&ask_for_large(1));
                for _ in 0..5000 {
                    attacker.read_exact(&mut [0]);
                }
                attacker
            }),
            flood!(
                "the connection's window overflows",
                End::SentAway(FLOW_CONTROL_ERROR, "the connection's window overflows"),
                |_| window_update(0, 0x7fff_ffff)
            ),
            flood!(
                "all windows overflow",
                End::SentAway(FLOW_CONTROL_ERROR, "a stream's window overflows"),
                |turn| match turn {
                    0 => window_update(1, 0x7fff_0000),
                    _ => settings(&[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]),
                }
            ),
        ],
    );
}

#[test]
fn what_is_begun_and_left() {
    withstand_all(
        "left",
        &[
            row("100,000 streams opened and left", 400, |address| {
                let mut attacker = Attacker::greet(address, &[]);
                attacker.flood(100_000, |turn| call(2 * turn + 1, "KV/Range"));
                attacker
            }),
            row("10,000 watches opened and left", 100, |address| {
                let mut attacker = Attacker::greet(address, &[]);
                attacker.flood(10_000, |turn| {
                    let stream = 2 * turn + 1;
                    [call(stream, "Watch/Watch"), message(stream, &watch_create(0), 0)].concat()
                });
                attacker
            }),
            row("100 watches of large values, which nobody reads", 150, |address| {
                let mut attacker = Attacker::greet(address, &[(INITIAL_WINDOW_SIZE, 0)]);
                attacker.flood(100, |turn| {
                    let stream = 2 * turn + 1;
                    [call(stream, "Watch/Watch"), message(stream, &watch_create(0), 0)].concat()
                });
                let writer = Client::connect(address);
                for _ in 0..20 {
                    writer.put(b"w", &vec![b'x'; LARGE_BYTES]).expect("a put is answered");
                }
                attacker
            }),
            row("requests that are not finished", 200, |address| {
                let mut attacker = Attacker::greet(address, &[]);
                for stream in (1..80).step_by(2) {
                    attacker.say(&call(stream, "KV/Put"));
                    attacker.say(&frame(DATA, 0, stream, &[0, 0, 0x1f, 0xff, 0xff]));
                    attacker.flood(60, |_| frame(DATA, 0, stream, &[b'x'; 16_000]));
                }
                attacker
            }),
            row("everything in pieces of a byte", MEMORY_MIB, |address| {
                let mut attacker = Attacker::silent(address);
                let greeting = [PREFACE, &settings(&[])].concat();
                let all = [greeting, whole_call(1), whole_call(3)].concat();
                all.iter().for_each(|byte| attacker.say(&[*byte]));
                attacker
            }),
            row("half a preface, and silence", MEMORY_MIB, |address| {
                let mut silent: Vec<_> = (0..100)
                    .map(|count| {
                        let mut attacker = Attacker::silent(address);
                        attacker.say(&PREFACE[..count % PREFACE.len()]);
                        attacker
                    })
                    .collect();
                silent.pop().expect("a hundred")
            }),
        ],
    );
}

pub(crate) fn watch_create(watch_id: i64) -> pb::WatchRequest {
    let create = pb::WatchCreateRequest { key: "w".into(), watch_id, ..Default::default() };
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

fn watch_cancel(watch_id: i64) -> pb::WatchRequest {
    let cancel = pb::WatchCancelRequest { watch_id };
    pb::WatchRequest { request_union: Some(RequestUnion::CancelRequest(cancel)) }
}

fn watch_progress() -> pb::WatchRequest {
    let progress = pb::WatchProgressRequest {};
    pb::WatchRequest { request_union: Some(RequestUnion::ProgressRequest(progress)) }
}

/// Endless requests on one stream, the answers to which nobody reads.
macro_rules! endless {
    ($name:literal, $method:literal, $request:expr) => {
        Attack {
            name: $name,
            // A watch that was created takes some.
            memory_mib: 2 * MEMORY_MIB,
            frame_cpu: CPU_PER_FRAME,
            end: End::Stays(&[]),
            act: |address| {
                let mut attacker = Attacker::deaf(address, &[]);
                attacker.say(&call(1, $method));
                attacker.flood(20_000, |turn| message(1, &$request(i64::from(turn)), 0));
                attacker
            },
        }
    };
}

#[test]
fn streams_of_requests_without_end() {
    withstand_all(
        "streams",
        &[
            endless!("watches are created", "Watch/Watch", |_| watch_create(0)),
            endless!("watches are created and cancelled", "Watch/Watch", |turn| {
                if turn % 2 == 0 { watch_create(7) } else { watch_cancel(7) }
            }),
            endless!("watches are cancelled that are not there", "Watch/Watch", watch_cancel),
            endless!("progress is asked for", "Watch/Watch", |_| watch_progress()),
            endless!("leases are renewed that are not there", "Lease/LeaseKeepAlive", |id| {
                pb::LeaseKeepAliveRequest { id: id + 1 }
            }),
        ],
    );
}

/// Calls that read or rewrite all of the database, 20 at a time, each of them answered or begun to be.
macro_rules! all_of_it {
    ($name:literal, $method:literal, $request:expr, $memory_mib:expr, $parameters:expr) => {
        Attack {
            name: $name,
            memory_mib: $memory_mib,
            frame_cpu: CPU_PER_PASS,
            end: End::Stays(&[]),
            act: |address| {
                const CALLS: u32 = 20;
                let mut attacker = Attacker::deaf(address, $parameters);
                attacker.flood(CALLS, |turn| {
                    let stream = 2 * turn + 1;
                    [call(stream, $method), message(stream, &$request, END_STREAM)].concat()
                });
                let mut answered = BTreeSet::new();
                while answered.len() < CALLS as usize {
                    if let (HEADERS, stream, _) = attacker.next_frame() {
                        answered.insert(stream);
                    }
                }
                attacker
            },
        }
    };
}

#[test]
fn calls_that_go_through_all_of_the_database() {
    let scratch = Scratch::new("all");
    let server = Launch::new(&scratch.data()).start();
    let client = server.client();
    for row in 0..16 {
        client.put(format!("row {row}").as_bytes(), &vec![b'x'; LARGE_BYTES]).expect("a put");
    }
    drop(client);
    for attack in [
        all_of_it!("HashKV", "Maintenance/HashKV", pb::HashKvRequest::default(), MEMORY_MIB, &[]),
        all_of_it!("Hash", "Maintenance/Hash", pb::HashRequest {}, MEMORY_MIB, &[]),
        all_of_it!(
            "Defragment",
            "Maintenance/Defragment",
            pb::DefragmentRequest {},
            2 * MEMORY_MIB,
            &[]
        ),
        all_of_it!("Snapshot", "Maintenance/Snapshot", pb::SnapshotRequest {}, MEMORY_MIB, &[]),
        all_of_it!(
            "snapshots that nobody takes",
            "Maintenance/Snapshot",
            pb::SnapshotRequest {},
            MEMORY_MIB,
            &[(INITIAL_WINDOW_SIZE, 0)]
        ),
    ] {
        withstand(&server, &attack);
    }
    server.terminate();
}

/// A large answer on its way has used up the connection's window when a put is answered beside it. What the window is
/// opened by next is not the large answer's alone.
#[test]
fn a_small_answer_does_not_wait_for_a_large_one() {
    const ROWS: usize = 100;
    const WINDOW: usize = 65_535;
    let scratch = Scratch::new("fair");
    let server = Launch::new(&scratch.data()).start();
    let client = server.client();
    for row in 0..ROWS {
        client.put(format!("large {row:02}").as_bytes(), &vec![b'x'; 1 << 20]).expect("a put");
    }
    let mut asker = Attacker::deaf(&server.address, &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
    let all = pb::RangeRequest { range_end: "largf".into(), ..range(b"large") };
    asker.say(&[call(1, "KV/Range"), message(1, &all, END_STREAM)].concat());
    let mut received = 0;
    while received < WINDOW {
        let (kind, _, payload) = asker.next_frame();
        received += if kind == DATA { payload.len() } else { 0 };
    }
    let put = pb::PutRequest { key: "small".into(), ..Default::default() };
    asker.say(&[call(3, "KV/Put"), message(3, &put, END_STREAM)].concat());
    // Heads need no window.
    while !matches!(asker.next_frame(), (HEADERS, 3, _)) {}
    asker.say(&window_update(0, WINDOW as u32));
    let mut before = 0;
    loop {
        match asker.next_frame() {
            (DATA, 3, _) => break,
            (DATA, _, payload) => before += payload.len(),
            _ => {}
        }
        assert!(before < WINDOW, "the large answer has taken all of the window");
    }
    drop(asker);
    server.terminate();
}

/// It runs for ten milliseconds out of two hundred.
#[test]
fn a_twentieth_of_a_processor_is_enough() {
    let scratch = Scratch::new("starved");
    // Requests may take long.
    let times = ["--heartbeat-interval", "5000", "--election-timeout", "50000"];
    let server = Launch::new(&scratch.data()).flags(&times).start();
    let (calls_done, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let pid = Pid::from_raw(server.pid() as i32).expect("a process");
    let address = &*server.address;
    thread::scope(|scope| {
        let honest = scope.spawn(|| be_honest(address, &calls_done, &is_over));
        while !honest.is_finished() {
            kill_process(pid, Signal::STOP).expect("the server lives");
            thread::sleep(Duration::from_millis(190));
            kill_process(pid, Signal::CONT).expect("the server lives");
            thread::sleep(Duration::from_millis(10));
            is_over.store(calls_done.load(Ordering::Relaxed) >= HONEST_CALLS, Ordering::Relaxed);
        }
    });
    server.terminate();
}
