//! What stands on top of keys and watches: leasing, ordering, mirror, naming.

use std::fmt::Write as _;

use client::leasing::Leasing;
use client::mirror::Syncer;
use client::naming::{Endpoint, Manager, Update};
use client::{Client, Code, Compare, Comparison, Get, Put};

use crate::support::{Cluster, alone, eventually, run};

async fn value(leasing: &Leasing, key: &str) -> String {
    let kvs = leasing.get(key).await.expect("get").kvs;
    kvs.first().map_or_else(String::new, |kv| String::from_utf8_lossy(&kv.value).into_owned())
}

/// Reads until nobody needs to be asked any more.
async fn own(leasing: &Leasing, client: &Client, key: &str) {
    eventually(async || {
        leasing.get(key).await.expect("get");
        let lease = client.get(format!("leases/{key}")).await.expect("get");
        (lease.count == 1).then_some(())
    })
    .await;
}

#[test]
fn a_key_with_a_lease_is_read_without_asking() {
    run(async {
        let (mut cluster, client) = alone().await;
        let leasing = Leasing::new(&client, "leases/");
        leasing.put("k", "1").await.expect("put");
        own(&leasing, &client, "k").await;
        let changed = leasing.put("k", "2").prev_kv().await.expect("put");
        assert_eq!(changed.prev_kv.expect("was there").value, "1");
        assert_eq!(value(&leasing, "k").await, "2");
        cluster.servers[0].stop().await;
        for _ in 0..10 {
            assert_eq!(value(&leasing, "k").await, "2");
        }
        let keys_only = leasing.get("k").keys_only().await.expect("get").kvs.remove(0);
        assert_eq!((&*keys_only.key, keys_only.value.len()), (&b"k"[..], 0));
        assert_eq!(leasing.get("k").count_only().await.expect("get").count, 1);
        assert_eq!(leasing.get("k").min_mod_revision(99).await.expect("get").kvs, []);
        cluster.servers[0].start().await;
        assert_eq!(leasing.delete("k").await.expect("delete").deleted, 1);
        assert_eq!(value(&leasing, "k").await, "");
        leasing.close().await.expect("close");
        assert_eq!(client.get("leases/").prefix().await.expect("get").count, 0);
    });
}

#[test]
fn no_read_is_older_than_a_write_elsewhere() {
    run(async {
        let (_cluster, client) = alone().await;
        let one = Leasing::new(&client, "leases/");
        let two = Leasing::new(&client, "leases/");
        for round in 0..5 {
            for (writer, reader) in [(&one, &two), (&two, &one)] {
                // Both may have it when the other writes.
                let (first, second) = (value(reader, "k").await, value(writer, "k").await);
                assert_eq!(first, second);
                let expected = format!("{round}{}", first.len());
                writer.put("k", expected.as_str()).await.expect("put");
                assert_eq!(value(reader, "k").await, expected);
            }
        }
        // Deletions of ranges and transactions ask for leases, too.
        client.put("d", "1").await.expect("put");
        own(&two, &client, "d").await;
        assert_eq!(one.delete("c").range("e").await.expect("delete").deleted, 1);
        assert_eq!(value(&two, "d").await, "");
        own(&two, &client, "t").await;
        let condition = Compare::version("t", Comparison::Equal, 0);
        let txn = one.txn().when(condition).then(Put::new("t", "txn")).then(Get::new("t"));
        let answer = txn.await.expect("txn");
        assert!(answer.succeeded && answer.responses.len() == 2, "{answer:?}");
        assert_eq!(value(&two, "t").await, "txn");
        // Both write at the same time.
        let writes = async |leasing: &Leasing, name: &str| {
            for number in 0..5 {
                leasing.put("k", format!("{name}{number}")).await.expect("put");
            }
        };
        tokio::join!(writes(&one, "one"), writes(&two, "two"));
        let last = value(&one, "k").await;
        assert_eq!(value(&two, "k").await, last);
        // Each of them once.
        assert_eq!(client.get("k").await.expect("get").kvs[0].version, 20);
    });
}

#[test]
fn what_was_shown_is_never_taken_back() {
    run(async {
        let cluster = Cluster::start(3).await;
        let client = cluster.client().await;
        let ordered = client.with_ordering();
        let mut shown = 0;
        for number in 0..30 {
            client.put("k", number.to_string()).await.expect("put");
            let header = ordered.get("k").serializable().await.expect("get").header;
            let revision = header.expect("a header").revision;
            assert!(revision >= shown, "{revision} after {shown}");
            shown = revision;
        }
        // With a member that is behind alone there is no answer that may be shown.
        let newest = client.put("k", "newest").await.expect("put").header.expect("a header");
        let told = ordered.get("k").await.expect("get").header.expect("a header");
        assert_eq!(told.revision, newest.revision);
        let old = Cluster::start(1).await;
        ordered.set_endpoints([old.servers[0].endpoint()]).expect("endpoints");
        let error = ordered.get("k").serializable().await.expect_err("nobody is new enough");
        assert_eq!(
            error.to_string(),
            "etcdclient: no cluster members have a revision higher than the previously received \
             revision"
        );
    });
}

#[test]
fn a_mirror_gets_everything_once() {
    run(async {
        const KEYS: usize = 1500;
        let (_cluster, client) = alone().await;
        client.put("other", "").await.expect("put");
        for part in 0..KEYS / 100 {
            let mut txn = client.txn();
            for number in 0..100 {
                txn = txn.then(Put::new(format!("k/{:04}", part * 100 + number), "v"));
            }
            txn.await.expect("txn");
        }
        let mut syncer = Syncer::new(&client, "k/");
        assert!(syncer.sync_updates().await.is_err());
        let mut base = syncer.sync_base().await.expect("a base");
        let first = base.next().await.expect("a part").expect("a part");
        // What comes meanwhile is an update, and not part of the base.
        client.put("k/9999", "later").await.expect("put");
        client.delete("k/0000").await.expect("delete");
        let mut keys = first.kvs.len();
        while let Some(part) = base.next().await.expect("a part") {
            keys += part.kvs.len();
        }
        assert_eq!(keys, KEYS);
        let mut updates = syncer.sync_updates().await.expect("a watcher");
        let mut heard = String::new();
        while heard.lines().count() < 2 {
            for event in updates.next().await.expect("updates").expect("updates").events {
                let key = event.kv.as_ref().expect("a key").key.clone();
                writeln!(heard, "{:?} {}", event.r#type(), String::from_utf8_lossy(&key))
                    .expect("a string");
            }
        }
        assert_eq!(heard, "Put k/9999\nDelete k/0000\n");
        let mut all = Syncer::new(&client, "").sync_base().await.expect("a base");
        assert_eq!(all.next().await.expect("a part").expect("a part").count, KEYS as i64 + 1);
    });
}

#[test]
fn services_are_found_by_name() {
    run(async {
        let (_cluster, client) = alone().await;
        let manager = Manager::new(&client, "svc").expect("a name");
        let session = client.session().await.expect("a session");
        let one = Endpoint::new("10.0.0.1:80");
        let two = Endpoint { metadata: serde_json::json!({"zone": "b"}), ..Endpoint::new("b:80") };
        manager.add_endpoint("svc/1", one.clone(), session.lease()).await.expect("add");
        let mut endpoints = manager.watch().await.expect("a watcher");
        let add = |key: &str, endpoint: &Endpoint| Update::Add {
            key: key.to_owned(),
            endpoint: endpoint.clone(),
            lease: 0,
        };
        let next = async |endpoints: &mut client::naming::Endpoints| {
            endpoints.next().await.expect("updates").expect("updates")
        };
        assert_eq!(next(&mut endpoints).await, [add("svc/1", &one)]);
        client.put("svc/wrong", "not JSON").await.expect("put");
        manager.add_endpoint("svc/2", two.clone(), 0).await.expect("add");
        assert_eq!(next(&mut endpoints).await, [add("svc/2", &two)]);
        let value = client.get("svc/2").await.expect("get").kvs.remove(0).value;
        assert_eq!(value, r#"{"Op":0,"Addr":"b:80","Metadata":{"zone":"b"}}"#);
        let listed = manager.list().await.expect("list");
        assert_eq!(
            listed.into_iter().collect::<Vec<_>>(),
            [("svc/1".to_owned(), one), ("svc/2".to_owned(), two)]
        );
        session.close().await.expect("close");
        assert_eq!(next(&mut endpoints).await, [Update::Delete { key: "svc/1".to_owned() }]);
        manager.delete_endpoint("svc/2").await.expect("delete");
        assert_eq!(next(&mut endpoints).await, [Update::Delete { key: "svc/2".to_owned() }]);
        let error = manager.delete_endpoint("other/2").await.expect_err("not behind the name");
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(Manager::new(&client, "").is_err());
    });
}
