//! Servers that are killed while clients write, and what must be there afterwards.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

use api::etcdserverpb as pb;
use api::mvccpb::KeyValue;
use bytes::Bytes;

use crate::client::Client;
use crate::support::{Launch, Scratch};

const WRITERS: usize = 6;
const ROUNDS: usize = 4;
/// A round's server is killed after so many acknowledgements.
const ACKNOWLEDGEMENTS: usize = 150;

/// An acknowledged write.
struct Written {
    key: Vec<u8>,
    value: Vec<u8>,
    revision: i64,
}

/// Writes keys of its own until the connection breaks, and overwrites every third of them.
fn write(address: &str, writer: usize, round: usize, acknowledged: &mpsc::Sender<Written>) -> i64 {
    let client = Client::connect(address);
    let mut last = 0;
    for number in 0.. {
        let key = format!("{writer}/{}", if number % 3 == 2 { 0 } else { number }).into_bytes();
        let value = format!("{round}.{number}").into_bytes();
        let Ok(revision) = client.put(&key, &value) else { break };
        assert!(revision > last, "revision {revision} after {last}");
        last = revision;
        if acknowledged.send(Written { key, value, revision }).is_err() {
            break;
        }
    }
    last
}

#[test]
fn acknowledged_writes_survive_kills_under_load() {
    let scratch = Scratch::new("kills");
    // Snapshots and a slow backend, so that the kills meet all kinds of files half way.
    let launch = Launch::new(&scratch.data()).flags(&[
        "--snapshot-count=100",
        "--snapshot-catchup-entries=20",
        "--backend-batch-interval=20ms",
    ]);
    let mut newest: BTreeMap<Vec<u8>, Written> = BTreeMap::new();
    let mut revision_max = 0;
    for round in 0..ROUNDS {
        let server = launch.start();
        verify(&server.client(), &newest, revision_max);
        let (sender, acknowledged) = mpsc::channel();
        let address = server.address.clone();
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (sender, address) = (sender.clone(), &address);
                scope.spawn(move || write(address, writer, round, &sender));
            }
            drop(sender);
            let mut server = Some(server);
            for (count, written) in acknowledged.iter().enumerate() {
                if count == ACKNOWLEDGEMENTS {
                    let end = server.take().expect("killed once").kill();
                    assert_eq!(end.signal(), Some(9));
                }
                revision_max = revision_max.max(written.revision);
                newest.insert(written.key.clone(), written);
            }
        });
    }
    let server = launch.start();
    verify(&server.client(), &newest, revision_max);
    assert_eq!(server.terminate().signal(), Some(15));
    let server = launch.start();
    verify(&server.client(), &newest, revision_max);
}

/// Every acknowledged write is there, or a later one to its key.
fn verify(client: &Client, newest: &BTreeMap<Vec<u8>, Written>, revision_max: i64) {
    let (revision, kvs) = client.all().expect("range");
    assert!(revision >= revision_max, "revision {revision}, {revision_max} was acknowledged");
    let found: BTreeMap<&[u8], &KeyValue> = kvs.iter().map(|kv| (&*kv.key, kv)).collect();
    for written in newest.values() {
        let key = String::from_utf8_lossy(&written.key);
        let kv = found.get(&*written.key).unwrap_or_else(|| panic!("lost {key}"));
        assert!(kv.mod_revision >= written.revision, "{key} is older than acknowledged");
        if kv.mod_revision == written.revision {
            assert_eq!(kv.value, written.value, "{key}");
        }
    }
    // No revision was given twice.
    let mut revisions: Vec<i64> = kvs.iter().map(|kv| kv.mod_revision).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), kvs.len());
}

#[test]
fn a_watch_goes_on_after_a_restart_where_it_ended() {
    let scratch = Scratch::new("watch");
    let server = Launch::new(&scratch.data()).start();
    let address = server.address.clone();
    let client = server.client();
    let first = client.put(b"k", b"0").expect("put");
    let mut seen = Vec::new();
    let mut events = client.stream("Watch/Watch", &watch(first));
    let created: pb::WatchResponse = events.next().expect("created");
    assert!(created.created);
    let writer = server.client();
    writer.put(b"k", b"1").expect("put");
    while seen.len() < 2 {
        let response: pb::WatchResponse = events.next().expect("events");
        seen.extend(response.events.into_iter().map(value));
    }
    writer.put(b"k", b"2").expect("put");
    server.kill();
    while let Ok(response) = events.next::<pb::WatchResponse>() {
        seen.extend(response.events.into_iter().map(value));
    }
    // The same port again, and the watch from behind the last event that came.
    let server = Launch::at(&scratch.data(), &address).start();
    let client = server.client();
    client.put(b"k", b"3").expect("put");
    let mut events = client.stream("Watch/Watch", &watch(first + seen.len() as i64));
    while seen.len() < 4 {
        let response: pb::WatchResponse = events.next().expect("events");
        seen.extend(response.events.into_iter().map(value));
    }
    assert_eq!(seen, ["0", "1", "2", "3"]);
}

fn watch(start_revision: i64) -> pb::WatchRequest {
    let request = pb::WatchCreateRequest {
        key: Bytes::from_static(b"k"),
        start_revision,
        ..Default::default()
    };
    pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(request)),
    }
}

fn value(event: api::mvccpb::Event) -> String {
    String::from_utf8_lossy(&event.kv.expect("a key").value).into_owned()
}

#[test]
fn leases_and_compaction_survive_a_kill() {
    let scratch = Scratch::new("leases");
    let launch = Launch::new(&scratch.data());
    let server = launch.start();
    let client = server.client();
    let grant = pb::LeaseGrantRequest { ttl: 600, id: 7 };
    client.call::<pb::LeaseGrantResponse>("Lease/LeaseGrant", &grant).expect("grant");
    let put = pb::PutRequest { key: Bytes::from_static(b"k"), lease: 7, ..Default::default() };
    client.call::<pb::PutResponse>("KV/Put", &put).expect("put");
    let revision = client.put(b"other", b"1").expect("put");
    let compact = pb::CompactionRequest { revision, physical: false };
    client.call::<pb::CompactionResponse>("KV/Compact", &compact).expect("compact");
    server.kill();

    let server = launch.start();
    let client = server.client();
    let ask = pb::LeaseTimeToLiveRequest { id: 7, keys: true };
    let lease: pb::LeaseTimeToLiveResponse =
        client.call("Lease/LeaseTimeToLive", &ask).expect("time to live");
    assert_eq!((lease.granted_ttl, lease.keys), (600, vec![Bytes::from_static(b"k")]));
    assert!((595..=600).contains(&lease.ttl), "{}", lease.ttl);
    let old = pb::RangeRequest {
        key: Bytes::from_static(b"k"),
        revision: revision - 1,
        ..Default::default()
    };
    let failure = client.call::<pb::RangeResponse>("KV/Range", &old).expect_err("compacted");
    let text = "etcdserver: mvcc: required revision has been compacted".to_owned();
    assert_eq!(failure, crate::client::Failure::Status(11, text));
    let revoke = pb::LeaseRevokeRequest { id: 7 };
    client.call::<pb::LeaseRevokeResponse>("Lease/LeaseRevoke", &revoke).expect("revoke");
    assert_eq!(client.get(b"k").expect("get"), None);
    server.kill();

    let server = launch.start();
    assert_eq!(server.client().get(b"k").expect("get"), None);
    assert_eq!(server.client().get(b"other").expect("get"), Some(Bytes::from_static(b"1")));
}
