//! What lies in the backend and in snapshots, to the byte.

use std::ops::ControlFlow;

use backend::{Backend, Bucket};
use bytes::Bytes;
use cluster::{
    Alarms, Attributes, Cluster, Downgrade, Member, Version, conf_state_from_json,
    conf_state_to_json, load_conf_state, load_storage_version, members_from_json, members_to_json,
    promote_context, save_storage_version,
};
use proptest::prelude::{any, prop, prop_assert_eq, proptest};
use raft::{ConfChangeType, ConfState};

use crate::{backend, change, cluster_of, initial, member};

fn rows(backend: &Backend, bucket: Bucket) -> Vec<String> {
    let mut rows = Vec::new();
    let result = backend.reader().scan(bucket, &[], &[], 0, |key, value| {
        rows.push(format!("{} = {}", String::from_utf8_lossy(key), String::from_utf8_lossy(value)));
        ControlFlow::Continue(())
    });
    result.expect("no fault");
    rows
}

/// The rows of a member after its first start.
#[test]
fn a_first_start() {
    let mut backend = backend();
    let first = Cluster::bootstrap(&initial("n1=http://localhost:2380"), "etcd-cluster");
    let first = first.expect("a cluster");
    let members: Vec<Member> = first.members().cloned().collect();
    let mut cluster = cluster_of(&members, &mut backend);
    let attributes =
        Attributes { name: "n1".to_owned(), client_urls: vec!["http://localhost:2379".to_owned()] };
    cluster.update_attributes(0x8e9e_05c5_2164_694d, attributes, &mut backend);
    cluster.set_version(Version::new(3, 7, 0), &mut backend);
    cluster.save_conf_state(&mut backend);
    save_storage_version(Some(Version::new(3, 7, 3)), &mut backend);

    assert_eq!(
        rows(&backend, Bucket::Members),
        ["8e9e05c52164694d = {\"id\":10276657743932975437,\"peerURLs\":\
          [\"http://localhost:2380\"],\"name\":\"n1\",\"clientURLs\":[\"http://localhost:2379\"]}"]
    );
    assert_eq!(rows(&backend, Bucket::Cluster), ["clusterVersion = 3.7.0"]);
    assert_eq!(
        rows(&backend, Bucket::Meta),
        [
            "confState = {\"voters\":[10276657743932975437],\"auto_leave\":false}",
            "storageVersion = 3.7.0",
        ]
    );
    let reader = backend.reader();
    assert_eq!(load_conf_state(&reader).expect("read"), Some(cluster.conf_state()));
    assert_eq!(load_storage_version(&reader).expect("read"), Some(Version::new(3, 7, 0)));
    save_storage_version(None, &mut backend);
    assert_eq!(load_storage_version(&backend.reader()).expect("read"), None);
}

#[test]
fn removed_members_and_downgrades() {
    let mut backend = backend();
    let mut cluster = cluster_of(&[member(1, "a"), member(0xab, "b")], &mut backend);
    let remove = change(ConfChangeType::RemoveNode, 0xab, "");
    cluster.apply_conf_change(&remove, &mut backend).expect("removed");
    assert_eq!(rows(&backend, Bucket::MembersRemoved), ["ab = removed"]);

    let downgrade = Downgrade { target_version: "3.6.0".to_owned(), enabled: true };
    cluster.set_downgrade(downgrade.clone(), &mut backend);
    assert_eq!(
        rows(&backend, Bucket::Cluster),
        ["downgrade = {\"target-version\":\"3.6.0\",\"enabled\":true}"]
    );
    assert_eq!(Cluster::restore(&backend).expect("restored").downgrade(), &downgrade);
    cluster.set_downgrade(Downgrade::default(), &mut backend);
    assert_eq!(
        rows(&backend, Bucket::Cluster),
        ["downgrade = {\"target-version\":\"\",\"enabled\":false}"]
    );

    // A snapshot that begins a new cluster has other members and remembers none.
    let new = Cluster::from_members(7, [member(5, "new")]);
    new.replace_members(&mut backend).expect("replaced");
    assert_eq!(rows(&backend, Bucket::MembersRemoved), Vec::<String>::new());
    assert_eq!(rows(&backend, Bucket::Members).len(), 1);
}

#[test]
fn versions() {
    let mut backend = backend();
    let mut cluster = cluster_of(&[member(1, "a")], &mut backend);
    assert_eq!(cluster.verify_server_version(Version::new(3, 5, 0)), Ok(()));
    cluster.set_version(Version::new(3, 7, 0), &mut backend);
    let restored = Cluster::restore(&backend).expect("restored");
    assert_eq!(restored.version(), Some(Version::new(3, 7, 0)));
    for (server, is_fine) in [((3, 7, 3), true), ((3, 8, 0), true), ((3, 6, 9), false)] {
        let server = Version::new(server.0, server.1, server.2);
        assert_eq!(restored.verify_server_version(server).is_ok(), is_fine, "{server}");
    }
}

#[test]
fn damaged_rows() {
    let cases: [(Bucket, &[u8], &str, &str); 6] = [
        (Bucket::Members, b"xyz", "{}", "couldn't read members from backend: key \"xyz\": "),
        (Bucket::Members, b"1", "{\"id\":", "couldn't read members from backend: key \"1\": "),
        (Bucket::MembersRemoved, b"", "removed", "couldn't read members_removed from backend: "),
        (Bucket::Cluster, b"clusterVersion", "3.x", "couldn't read cluster from backend: "),
        (Bucket::Cluster, b"downgrade", "no", "couldn't read cluster from backend: "),
        (
            Bucket::Cluster,
            b"downgrade",
            "{\"target-version\":\"x\",\"enabled\":true}",
            "couldn't read cluster from backend: ",
        ),
    ];
    for (bucket, key, value, expected) in cases {
        let mut backend = backend();
        backend.put(bucket, key, Bytes::copy_from_slice(value.as_bytes()));
        let err = Cluster::restore(&backend).expect_err(expected).to_string();
        assert!(err.starts_with(expected), "{err}");
    }
    let mut backend = backend();
    backend.put(Bucket::Alarm, b"\x08", Bytes::new());
    assert!(Alarms::restore(&backend).is_err());
    backend.put(Bucket::Meta, b"confState", Bytes::from_static(b"[]x"));
    assert!(load_conf_state(&backend.reader()).is_err());
}

/// etcd issues 13476 and 14272: alarms of one type from several members, and of the right member.
#[test]
fn alarms() {
    const NOSPACE: i32 = 1;
    const CORRUPT: i32 = 2;
    let mut backend = backend();
    let mut alarms = Alarms::restore(&backend).expect("restored");
    assert!(alarms.is_empty());
    assert!(alarms.activate(7, NOSPACE, &mut backend));
    assert!(!alarms.activate(7, NOSPACE, &mut backend), "raised already");
    assert!(alarms.activate(3, NOSPACE, &mut backend));
    assert!(alarms.activate(7, CORRUPT, &mut backend));

    let restored = Alarms::restore(&backend).expect("restored");
    assert_eq!(restored.get(0), [(3, NOSPACE), (7, NOSPACE), (7, CORRUPT)]);
    assert_eq!(restored.get(NOSPACE), [(3, NOSPACE), (7, NOSPACE)]);
    assert_eq!(restored.get(CORRUPT), [(7, CORRUPT)]);
    assert_eq!(restored.get(3), []);

    assert!(!alarms.deactivate(3, CORRUPT, &mut backend), "not raised");
    assert!(alarms.deactivate(7, NOSPACE, &mut backend));
    assert!(alarms.is_raised(NOSPACE), "member 3 has it still");
    assert!(alarms.deactivate(3, NOSPACE, &mut backend));
    assert!(!alarms.is_raised(NOSPACE));
    assert!(alarms.is_raised(CORRUPT));
    assert_eq!(rows(&backend, Bucket::Alarm), ["\u{8}\u{7}\u{10}\u{2} = "]);
}

#[test]
fn json_of_members() {
    let cases = [
        (Member::default(), "{\"id\":0,\"peerURLs\":null}"),
        (member(1, ""), "{\"id\":1,\"peerURLs\":[\"http://10.0.0.1:2380\"]}"),
        (
            Member {
                id: u64::MAX,
                peer_urls: vec!["http://a:1".to_owned(), "http://b:1".to_owned()],
                is_learner: true,
                name: "<n&1>".to_owned(),
                client_urls: vec!["http://c:1".to_owned()],
            },
            "{\"id\":18446744073709551615,\"peerURLs\":[\"http://a:1\",\"http://b:1\"],\
             \"isLearner\":true,\"name\":\"\\u003cn\\u00261\\u003e\",\"clientURLs\":[\"http://c:1\"]}",
        ),
    ];
    for (member, json) in &cases {
        assert_eq!(member.to_json(), *json);
        assert_eq!(&Member::from_json(json.as_bytes()).expect("read"), member);
    }
    let list: Vec<Member> = cases.iter().map(|(member, _)| member.clone()).collect();
    let json = members_to_json(&list);
    assert_eq!(json, format!("[{},{},{}]", cases[0].1, cases[1].1, cases[2].1));
    assert_eq!(members_from_json(json.as_bytes()).expect("read"), list);
    assert_eq!(members_from_json(b"null").expect("read"), []);
    assert_eq!(promote_context(5), "{\"id\":5,\"peerURLs\":null,\"isPromote\":true}");

    let lenient = "{\"name\":null,\"clientURLs\":null,\"isPromote\":false,\"new\":{},\"id\":3}";
    let read = Member::from_json(lenient.as_bytes()).expect("read");
    assert_eq!(read, Member { id: 3, ..Member::default() });
}

#[test]
fn json_of_configurations() {
    let conf_state = ConfState {
        voters: vec![1, 2],
        learners: vec![3],
        voters_outgoing: vec![4],
        learners_next: vec![5],
        auto_leave: Some(true),
    };
    let json = "{\"voters\":[1,2],\"learners\":[3],\"voters_outgoing\":[4],\
                \"learners_next\":[5],\"auto_leave\":true}";
    assert_eq!(conf_state_to_json(&conf_state), json);
    assert_eq!(conf_state_from_json(json.as_bytes()).expect("read"), conf_state);
    assert_eq!(conf_state_to_json(&ConfState::default()), "{}");
    assert_eq!(conf_state_from_json(b"{}").expect("read"), ConfState::default());
}

/// The tree, the history and the counts, as the v2 store writes them.
#[test]
fn v2_snapshot() {
    let mut backend = backend();
    let mut cluster = cluster_of(&[member(1, "n1"), member(0xb, ""), member(3, "x")], &mut backend);
    let attributes =
        Attributes { name: "n1".to_owned(), client_urls: vec!["http://c:2379".to_owned()] };
    cluster.update_attributes(1, attributes, &mut backend);
    let remove = change(ConfChangeType::RemoveNode, 3, "");
    cluster.apply_conf_change(&remove, &mut backend).expect("removed");
    cluster.set_version(Version::new(3, 7, 0), &mut backend);

    let node = |path: &str, index: u64, value: &str, children: &str| {
        format!(
            "{{\"Path\":\"{path}\",\"CreatedIndex\":{index},\"ModifiedIndex\":{index},\
             \"ExpireTime\":\"0001-01-01T00:00:00Z\",\"Value\":\"{value}\",\"Children\":{children}}}"
        )
    };
    let peers = |id: u64| format!("{{\\\"peerURLs\\\":[\\\"http://10.0.0.{id}:2380\\\"]}}");
    let attributes = "{\\\"name\\\":\\\"n1\\\",\\\"clientURLs\\\":[\\\"http://c:2379\\\"]}";
    let one = format!(
        "{{\"attributes\":{},\"raftAttributes\":{}}}",
        node("/0/members/1/attributes", 2, attributes, "null"),
        node("/0/members/1/raftAttributes", 1, &peers(1), "null")
    );
    let eleven = format!(
        "{{\"raftAttributes\":{}}}",
        node("/0/members/b/raftAttributes", 3, &peers(11), "null")
    );
    let members = format!(
        "{{\"1\":{},\"b\":{}}}",
        node("/0/members/1", 1, "", &one),
        node("/0/members/b", 3, "", &eleven)
    );
    let removed = format!("{{\"3\":{}}}", node("/0/removed_members/3", 4, "", "null"));
    let cluster_dir = format!(
        "{{\"members\":{},\"removed_members\":{},\"version\":{}}}",
        node("/0/members", 1, "", &members),
        node("/0/removed_members", 4, "", &removed),
        node("/0/version", 5, "3.7.0", "null")
    );
    let root =
        format!("{{\"0\":{},\"1\":{}}}", node("/0", 0, "", &cluster_dir), node("/1", 0, "", "{}"));
    let event = |action: &str, key: &str, value: &str, index: u64| {
        format!(
            "{{\"action\":\"{action}\",\"node\":{{\"key\":\"{key}\",\"value\":\"{value}\",\
             \"modifiedIndex\":{index},\"createdIndex\":{index}}}}}"
        )
    };
    let mut events = vec![
        event("create", "/0/members/1/raftAttributes", &peers(1), 1),
        event("set", "/0/members/1/attributes", attributes, 2),
        event("create", "/0/members/b/raftAttributes", &peers(11), 3),
        event("create", "/0/removed_members/3", "", 4),
        event("set", "/0/version", "3.7.0", 5),
    ];
    events.resize(1000, "null".to_owned());
    let expected = format!(
        "{{\"Root\":{},\"WatcherHub\":{{\"EventHistory\":{{\"Queue\":{{\"Events\":[{}],\"Size\":5,\
         \"Front\":0,\"Back\":5,\"Capacity\":1000}},\"StartIndex\":1,\"LastIndex\":5}}}},\
         \"CurrentIndex\":5,\"Stats\":{{\"getsSuccess\":0,\"getsFail\":1,\"setsSuccess\":2,\
         \"setsFail\":0,\"deleteSuccess\":0,\"deleteFail\":0,\"updateSuccess\":0,\"updateFail\":0,\
         \"createSuccess\":3,\"createFail\":0,\"compareAndSwapSuccess\":0,\"compareAndSwapFail\":0,\
         \"compareAndDeleteSuccess\":0,\"compareAndDeleteFail\":0,\"expireCount\":0,\"watchers\":0}},\
         \"CurrentVersion\":2}}",
        node("/", 0, "", &root),
        events.join(",")
    );
    let found = cluster.v2_snapshot();
    assert_eq!(String::from_utf8_lossy(&found), expected);
}

/// More removed members than the history has room for: the oldest events are overwritten.
#[test]
fn v2_history_wraps() {
    let mut backend = backend();
    let mut cluster = cluster_of(&[], &mut backend);
    for id in 1..=1203_u64 {
        let url = format!("http://h{id}:1");
        let member = Member { id, peer_urls: vec![url], is_learner: true, ..Member::default() };
        cluster.apply_conf_change(&crate::add(&member), &mut backend).expect("added");
        let remove = change(ConfChangeType::RemoveNode, id, "");
        cluster.apply_conf_change(&remove, &mut backend).expect("removed");
    }
    let found = cluster.v2_snapshot();
    let json: serde_json::Value = serde_json::from_slice(&found).expect("JSON");
    let history = &json["WatcherHub"]["EventHistory"];
    let queue = &history["Queue"];
    assert_eq!(queue["Size"], 1000);
    assert_eq!((&queue["Front"], &queue["Back"]), (&203.into(), &203.into()));
    assert_eq!((&history["StartIndex"], &history["LastIndex"]), (&204.into(), &1203.into()));
    let index = |slot: usize| queue["Events"][slot]["node"]["modifiedIndex"].as_u64();
    assert_eq!(index(0), Some(1001));
    assert_eq!(index(202), Some(1203));
    assert_eq!(index(203), Some(204));
    assert_eq!(index(999), Some(1000));
}

proptest! {
    #[test]
    fn members_round_trip(id: u64, name: String, urls: Vec<String>, is_learner: bool) {
        let member = Member {
            id,
            peer_urls: urls.clone(),
            is_learner,
            name,
            client_urls: urls,
        };
        let read = Member::from_json(member.to_json().as_bytes()).ok();
        prop_assert_eq!(read, Some(member));
    }

    #[test]
    fn hostile_json_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = Member::from_json(&bytes);
        let _ = members_from_json(&bytes);
        let _ = conf_state_from_json(&bytes);
        let _ = Version::parse(&String::from_utf8_lossy(&bytes));
        let _ = cluster::InitialCluster::parse(&String::from_utf8_lossy(&bytes));
    }
}
