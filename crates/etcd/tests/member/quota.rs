//! A member without room: all refuse to write, and any of them ends it.

use api::etcdserverpb as pb;
use api::etcdserverpb::alarm_request::AlarmAction;
use bytes::Bytes;

use crate::client::Failure;
use crate::cluster::{Cluster, eventually};
use crate::corruption::alarms;

const NOSPACE: i32 = pb::AlarmType::Nospace as i32;

#[test]
fn one_member_without_room_stops_all() {
    let mut cluster = Cluster::start("quota", 3, &[]);
    let small = cluster.follower();
    drop(cluster.take(small).kill());
    let launch = cluster.launch(small, 3, "existing").flags(&["--quota-backend-bytes=300000"]);
    cluster.servers[small] = Some(launch.start());
    let id = cluster.id(small);
    let full = || Failure::Status(8, "etcdserver: mvcc: database space exceeded".to_owned());

    let value = vec![b'v'; 16 << 10];
    let client = cluster.server(small).client();
    let refused = (0..1000).find_map(|number| {
        let key = format!("fill{number}");
        client.put(key.as_bytes(), &value).err()
    });
    assert_eq!(refused, Some(full()));
    for through in 0..3 {
        eventually("alarm", || (alarms(&cluster, through) == [(id, NOSPACE)]).then_some(()));
        let server = cluster.server(through);
        let client = server.client();
        assert_eq!(client.put(b"k", b"v"), Err(full()));
        let grant = pb::LeaseGrantRequest { ttl: 60, id: 0 };
        assert_eq!(client.call::<pb::LeaseGrantResponse>("Lease/LeaseGrant", &grant), Err(full()));
        assert!(client.get(b"fill0").expect("a read").is_some());
        client.delete(format!("fill{}", through + 1).as_bytes()).expect("deletes free room");
        assert!(server.page_with("/health", 503).contains("ALARM NOSPACE"));
    }

    let everything = pb::DeleteRangeRequest {
        key: Bytes::from_static(b"fill"),
        range_end: Bytes::from_static(b"film"),
        ..Default::default()
    };
    let deleted: pb::DeleteRangeResponse =
        client.call("KV/DeleteRange", &everything).expect("gone");
    let revision = deleted.header.expect("a header").revision;
    let compaction = pb::CompactionRequest { revision, physical: true };
    let _: pb::CompactionResponse = client.call("KV/Compact", &compaction).expect("compacted");
    let _: pb::DefragmentResponse =
        client.call("Maintenance/Defragment", &pb::DefragmentRequest {}).expect("smaller");
    let other = cluster.server((small + 1) % 3).client();
    let disarm =
        pb::AlarmRequest { action: AlarmAction::Deactivate.into(), member_id: id, alarm: NOSPACE };
    let _: pb::AlarmResponse = other.call("Maintenance/Alarm", &disarm).expect("disarmed");
    for through in 0..3 {
        cluster.put(through, &format!("k{through}"));
        assert_eq!(alarms(&cluster, through), []);
    }
    assert_eq!(cluster.agree(), 3);
}
