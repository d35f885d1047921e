//! A member whose data is not that of the others: it is found, and nobody writes any more.

use std::path::Path;

use api::etcdserverpb as pb;
use api::etcdserverpb::alarm_request::AlarmAction;
use api::mvccpb::KeyValue;
use env::OsDisk;
use prost::Message as _;

use crate::client::Failure;
use crate::cluster::{Cluster, eventually};

const CORRUPT: i32 = pb::AlarmType::Corrupt as i32;
const COMPACTIONS: [&str; 2] =
    ["--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=200ms"];

/// Changes the value of each key in a database that nobody has open.
fn alter(data: &Path) {
    let path = data.join("member/snap/db");
    let mut db = bolt::Db::open(OsDisk, &path, bolt::Options::default()).expect("a database");
    let mut rows = Vec::new();
    {
        let tx = db.begin_read();
        let mut cursor = tx.cursor(b"key").expect("read").expect("a bucket");
        let mut next = cursor.first().expect("read");
        while let Some(item) = next {
            let mut kv = KeyValue::decode(item.value).expect("a row");
            kv.value = kv.value.iter().map(|byte| byte.wrapping_add(1)).collect();
            rows.push((item.key.to_vec(), kv.encode_to_vec()));
            next = cursor.next().expect("read");
        }
    }
    assert!(!rows.is_empty(), "nothing to alter in {}", path.display());
    let mut tx = db.begin_write().expect("write");
    let mut bucket = tx.bucket(b"key").expect("read").expect("a bucket");
    for (key, value) in rows {
        bucket.put(&key, &value).expect("write");
    }
    tx.commit().expect("commit");
}

/// A cluster that has some keys, with one member stopped and its database altered.
fn altered(
    name: &str,
    flags: &[&'static str],
    which: impl Fn(&Cluster) -> usize,
) -> (Cluster, usize) {
    let mut cluster = Cluster::start(name, 3, flags);
    for number in 0..10 {
        cluster.put(number % 3, &format!("k{number}"));
    }
    assert_eq!(cluster.agree(), 10);
    let altered = which(&cluster);
    let end = cluster.take(altered).terminate();
    assert_eq!(end.signal(), Some(15), "{}", end.log());
    alter(&cluster.data(altered));
    (cluster, altered)
}

pub(crate) fn alarms(cluster: &Cluster, through: usize) -> Vec<(u64, i32)> {
    let request = pb::AlarmRequest { action: AlarmAction::Get.into(), ..Default::default() };
    let response: pb::AlarmResponse = cluster
        .server(through)
        .client()
        .call("Maintenance/Alarm", &request)
        .expect("the list of alarms");
    response.alarms.into_iter().map(|alarm| (alarm.member_id, alarm.alarm)).collect()
}

/// The alarm is known to all, all refuse to write, and all write again when any of them has ended it.
fn corrupt(cluster: &Cluster, id: u64) {
    for through in 0..3 {
        eventually("alarm", || (alarms(cluster, through) == [(id, CORRUPT)]).then_some(()));
        let client = cluster.server(through).client();
        let refused = Failure::Status(15, "etcdserver: corrupt cluster".to_owned());
        assert_eq!(client.put(b"k", b"v"), Err(refused));
        assert!(client.get(b"k1").expect("a read").is_some());
        assert_eq!(client.status().errors, [format!("memberID:{id} alarm:CORRUPT")]);
    }
}

#[test]
fn a_member_with_other_data_does_not_start() {
    let gate = ["--feature-gates=InitialCorruptCheck=true"];
    let (mut cluster, altered) = altered("corrupt-start", &gate, Cluster::follower);
    let other = cluster.running()[0];
    let id = eventually("id", || {
        let list = cluster.list(other);
        list.into_iter().find(|member| member.name == format!("n{altered}")).map(|m| m.id)
    });
    let end = cluster.launch(altered, 3, "existing").end();
    assert_eq!(end.code(), 1);
    let text = format!("{id:x} found data inconsistency with peers");
    assert_eq!(end.errors(), [text.as_str(), text.as_str()], "{}", end.log());
    for message in [
        "starting initial corruption check",
        "found different hash values from remote peer",
        "checkInitialHashKV failed",
        "discovery failed",
    ] {
        assert!(end.log().contains(message), "no {message:?} in {}", end.log());
    }
    // Who has the same data passes.
    let server = cluster.take(other);
    assert_eq!(server.terminate().signal(), Some(15));
    cluster.run(other, 3);
    let end = cluster.take(other).kill();
    assert!(end.log().contains("initial corruption checking passed; no corruption"));
}

#[test]
fn a_member_with_other_data_is_found_from_time_to_time() {
    let flags = ["--corrupt-check-time=200ms"];
    let (mut cluster, altered) = altered("corrupt-periodic", &flags, Cluster::follower);
    cluster.run(altered, 3);
    let id = cluster.id(altered);
    corrupt(&cluster, id);
    assert!(cluster.server(altered).page_with("/health", 503).contains("ALARM CORRUPT"));
    let leader = cluster.leader();
    let end = cluster.take(leader).kill();
    for message in ["enabled corruption checking", "same compact revision then hashes must match"] {
        assert!(end.log().contains(message), "no {message:?} in {}", end.log());
    }
}

#[test]
fn a_member_with_other_data_is_found_by_what_a_compaction_leaves() {
    // Whoever leads: most have the right hash.
    for leads in [false, true] {
        let (mut cluster, altered) = altered("corrupt-compaction", &COMPACTIONS, Cluster::follower);
        cluster.run(altered, 3);
        let id = cluster.id(altered);
        if leads {
            let request = pb::MoveLeaderRequest { target_id: id };
            let leader = cluster.server(cluster.leader()).client();
            let moved: Result<pb::MoveLeaderResponse, _> =
                leader.call("Maintenance/MoveLeader", &request);
            moved.expect("another leader");
            assert_eq!(cluster.leader(), altered);
        }
        let request = pb::CompactionRequest { revision: 5, physical: true };
        let client = cluster.server(altered).client();
        let _: pb::CompactionResponse = client.call("KV/Compact", &request).expect("compacted");
        corrupt(&cluster, id);
        let request = pb::AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: id,
            alarm: CORRUPT,
        };
        // It is raised again when the leader looks again: until one is in between, all refuse.
        let _: pb::AlarmResponse = client.call("Maintenance/Alarm", &request).expect("ended");
        eventually("second alarm", || (alarms(&cluster, 0) == [(id, CORRUPT)]).then_some(()));
        let leader = cluster.leader();
        let end = cluster.take(leader).kill();
        for message in ["starting compact hash check", "Detected compaction hash mismatch"] {
            assert!(end.log().contains(message), "no {message:?} in {}", end.log());
        }
    }
}

#[test]
fn equal_members_are_found_equal() {
    let flags = ["--corrupt-check-time=100ms", COMPACTIONS[0], COMPACTIONS[1]];
    let cluster = Cluster::start("not-corrupt", 3, &flags);
    // Compared while there are writes and compactions, and members don't have all of them yet.
    let mut revision = 0;
    for number in 0..200 {
        let client = cluster.server(number % 3).client();
        let key = format!("k{}", number % 7);
        revision = client.put(key.as_bytes(), b"v").expect("a write");
        if number % 20 == 19 {
            let request = pb::CompactionRequest { revision: revision - 5, physical: false };
            let _: pb::CompactionResponse = client.call("KV/Compact", &request).expect("compacted");
        }
    }
    let request = pb::CompactionRequest { revision, physical: true };
    let client = cluster.server(0).client();
    let _: pb::CompactionResponse = client.call("KV/Compact", &request).expect("compacted");
    let leader = cluster.leader();
    let mut cluster = cluster;
    let server = cluster.servers[leader].as_mut().expect("it runs");
    server.wait_for("successfully checked hash on whole cluster");
    server.wait_for("finished peer corruption check");
    for through in 0..3 {
        assert_eq!(alarms(&cluster, through), []);
    }
    assert_eq!(cluster.agree(), 7);
}
