//! Requests that no rule forbids, and of which each costs much: answers as large as the database, and watches by the
//! hundred thousand.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use api::etcdserverpb as pb;
use bytes::Bytes;

use crate::attacks::{CPU_BASE, be_honest, calls, range, usage, wait_until, watch_create};
use crate::client::Client;
use crate::frames::{
    Attacker, DATA, END_STREAM, INITIAL_WINDOW_SIZE, call, message, window_update,
};
use crate::support::{Launch, Scratch, Server};

/// What came of something, while somebody honest was served.
struct Cost {
    memory_bytes: u64,
    cpu: Duration,
}

/// Does something to a server while somebody honest has calls answered, and has some more when all of it is there. Then
/// the attackers leave, and nothing may be left over.
fn beside_the_honest(server: &Server, name: &str, act: impl FnOnce(&str) -> Vec<Attacker>) -> Cost {
    let (pid, address) = (server.pid(), &*server.address);
    let before = usage(pid);
    let (done, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let peak_mib = thread::scope(|scope| {
        let honest = scope.spawn(|| be_honest(address, &done, &is_over));
        let peak = scope.spawn(move || {
            let mut peak_mib = 0;
            wait_until(&format!("{name}: the honest client waits"), || {
                peak_mib = peak_mib.max(usage(pid).memory_mib);
                honest.is_finished()
            });
            peak_mib
        });
        let attackers = act(address);
        let enough = done.load(Ordering::Relaxed) + 4;
        wait_until(&format!("{name}: the honest client is not served"), || {
            done.load(Ordering::Relaxed) >= enough || peak.is_finished()
        });
        is_over.store(true, Ordering::Relaxed);
        let peak_mib = peak.join().expect("the honest client is served");
        for attacker in attackers {
            attacker.leave();
        }
        peak_mib
    });
    wait_until(&format!("{name}: connections and calls are left over"), || {
        let (started, handled) = calls(server);
        usage(server.pid()).descriptors <= before.descriptors && started == handled
    });
    let cpu = usage(server.pid()).cpu.saturating_sub(before.cpu);
    let grown_mib = peak_mib.saturating_sub(before.memory_mib);
    eprintln!("{name}: {cpu:?}, +{grown_mib} MiB, {} honest calls", done.into_inner());
    Cost { memory_bytes: grown_mib << 20, cpu }
}

/// Somebody whose windows are open wide, and who reads nothing by himself.
fn open_wide(address: &str) -> Attacker {
    let mut asker = Attacker::deaf(address, &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
    asker.say(&window_update(0, 0x7fff_0000));
    asker
}

/// What nobody reads of an answer is there once.
#[test]
fn answers_of_large_rows() {
    const ROWS: u64 = 64;
    const ASKERS: u64 = 4;
    let scratch = Scratch::new("rows");
    let server = Launch::new(&scratch.data()).start();
    let client = server.client();
    for row in 0..ROWS {
        client.put(format!("large {row:02}").as_bytes(), &vec![b'x'; 1 << 20]).expect("a put");
    }
    drop(client);
    let all = pb::RangeRequest { range_end: "largf".into(), ..range(b"large") };
    let cost = beside_the_honest(&server, "64 MiB for each of 4 who do not read", |address| {
        let askers = (0..ASKERS).map(|_| {
            let mut asker = open_wide(address);
            asker.say(&[call(1, "KV/Range"), message(1, &all, END_STREAM)].concat());
            while !matches!(asker.next_frame(), (DATA, 1, _)) {}
            asker
        });
        askers.collect()
    });
    assert!(cost.memory_bytes <= (ASKERS * ROWS + 32) << 20, "{} bytes", cost.memory_bytes);
    assert!(cost.cpu <= CPU_BASE, "{:?}", cost.cpu);
    let cost = beside_the_honest(&server, "64 MiB again and again for one", |address| {
        let mut asker = open_wide(address);
        asker.flood(20, |turn| {
            [call(2 * turn + 1, "KV/Range"), message(2 * turn + 1, &all, END_STREAM)].concat()
        });
        while !matches!(asker.next_frame(), (DATA, 1, _)) {}
        vec![asker]
    });
    // One may be of any size, and beside it so may be what is begun below the limit of 32 MiB.
    assert!(cost.memory_bytes <= (2 * ROWS + 64) << 20, "{} bytes", cost.memory_bytes);
    assert!(cost.cpu <= CPU_BASE, "{:?}", cost.cpu);
    server.terminate();
}

/// Everybody asks for everything at once.
#[test]
fn answers_of_many_rows() {
    const ROWS: usize = 3000;
    const CLIENTS: usize = 100;
    /// A row as it is in the answer, and as it is copied into it.
    const BYTES_PER_ROW: usize = 300;
    const CPU_PER_ROW: Duration = Duration::from_micros(30);
    let scratch = Scratch::new("many-rows");
    let server = Launch::new(&scratch.data()).start();
    let client = server.client();
    let rows: Vec<usize> = (0..ROWS).collect();
    for rows in rows.chunks(100) {
        let put = |row: &usize| {
            let key = Bytes::from(format!("row {row:04}"));
            let put = pb::PutRequest { key, value: vec![b'x'; 100].into(), ..Default::default() };
            pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
        };
        let txn = pb::TxnRequest { success: rows.iter().map(put).collect(), ..Default::default() };
        client.call::<pb::TxnResponse>("KV/Txn", &txn).expect("a transaction");
    }
    drop(client);
    let cost = beside_the_honest(&server, "3000 rows for each of 100", |address| {
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let (_, rows) = Client::connect(address).all().expect("an answer");
                    assert!(rows.len() >= ROWS, "{} rows", rows.len());
                });
            }
        });
        Vec::new()
    });
    let answers = (CLIENTS * ROWS * BYTES_PER_ROW) as u64;
    assert!(cost.memory_bytes <= answers, "{} bytes", cost.memory_bytes);
    let rows = (CLIENTS * ROWS) as u32;
    assert!(cost.cpu <= CPU_BASE + CPU_PER_ROW * rows, "{:?}", cost.cpu);
    server.terminate();
}

/// Opens streams with watches on each, and reads what is said.
fn watch(address: &str, streams: u32, watches: u32) -> Attacker {
    let mut watcher = Attacker::greet(address, &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
    watcher.be_patient();
    watcher.say(&window_update(0, 0x7fff_0000));
    for stream in (0..streams).map(|turn| 2 * turn + 1) {
        watcher.say(&call(stream, "Watch/Watch"));
        watcher.flood(watches, |_| message(stream, &watch_create(0), 0));
    }
    watcher
}

#[test]
fn watches_by_the_hundred_thousand() {
    const CPU_PER_WATCH: Duration = Duration::from_micros(60);
    let scratch = Scratch::new("watches");
    let server = Launch::new(&scratch.data()).start();
    for (name, streams, watches, bytes_each) in
        [("100,000 watches on a stream", 1, 100_000, 600), ("10,000 streams", 10_000, 1, 3000)]
    {
        let all = streams * watches;
        let cost = beside_the_honest(&server, name, |address| {
            let watcher = watch(address, streams, watches);
            wait_until("watches are missing", || {
                server.metrics()["etcd_debugging_mvcc_watcher_total"] >= f64::from(all)
            });
            vec![watcher]
        });
        let each = cost.memory_bytes / u64::from(all);
        eprintln!("{name}: {each} bytes for each");
        assert!(each <= bytes_each, "{name}: {each} bytes for each");
        assert!(cost.cpu <= CPU_BASE + CPU_PER_WATCH * all, "{name}: {:?}", cost.cpu);
        wait_until("watches are left over", || {
            server.metrics()["etcd_debugging_mvcc_watcher_total"] == 0.0
        });
    }
    server.terminate();
}
