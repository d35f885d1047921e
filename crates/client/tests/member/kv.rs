//! Keys.

use client::{
    Client, Code, Compare, Comparison, Config, Delete, Error, EtcdError, Get, Op, Put, SortOrder,
    SortTarget, Txn,
};

use crate::support::{Cluster, alone, run};

/// The keys of an answer, in its order.
fn keys(answer: &client::GetResponse) -> String {
    let keys = answer.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned());
    keys.collect::<Vec<_>>().join(" ")
}

/// The code and the text of what must have failed.
fn failure<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.expect_err("it fails");
    format!("{}: {error}", error.code())
}

#[test]
fn puts_and_their_options() {
    run(async {
        let (_cluster, client) = alone().await;
        let first = client.put("k", "1").await.expect("put");
        assert_eq!(first.prev_kv, None);
        let lease = client.lease_grant(60).await.expect("grant").id;
        let second = client.put("k", "2").lease(lease).prev_kv().await.expect("put");
        assert_eq!(second.prev_kv.expect("was there").value, "1");
        client.put("k", "3").ignore_lease().await.expect("put");
        client.put("k", "").ignore_value().lease(lease).await.expect("put");
        let kv = client.get("k").await.expect("get").kvs.remove(0);
        assert_eq!((&*kv.value, kv.lease, kv.version), (&b"3"[..], lease, 4));
        let table = [
            (
                failure(client.put("", "1").await),
                "InvalidArgument: etcdserver: key is not provided",
            ),
            (
                failure(client.put("k", "1").ignore_value().await),
                "InvalidArgument: etcdserver: value is provided",
            ),
            (
                failure(client.put("k", "1").lease(77).await),
                "NotFound: etcdserver: requested lease not found",
            ),
        ];
        for (found, expected) in table {
            assert_eq!(found, expected);
        }
    });
}

#[test]
fn ranges_and_their_options() {
    run(async {
        let (_cluster, client) = alone().await;
        let mut revisions = Vec::new();
        for (key, value) in [("a", "3"), ("b/1", "2"), ("b/2", "1"), ("c", "0"), ("b/1", "9")] {
            let header = client.put(key, value).await.expect("put").header;
            revisions.push(header.expect("a header").revision);
        }
        let table: [(Get<Client>, &str); 14] = [
            (client.get("a"), "a"),
            (client.get("none"), ""),
            (client.get("b/").prefix(), "b/1 b/2"),
            (client.get("").prefix(), "a b/1 b/2 c"),
            (client.get("b/2").from_key(), "b/2 c"),
            (client.get("a").range("b/2"), "a b/1"),
            (client.get("").prefix().limit(2), "a b/1"),
            (client.get("").prefix().sort(SortTarget::Value, SortOrder::Ascend), "c b/2 a b/1"),
            (client.get("").prefix().sort(SortTarget::Key, SortOrder::Descend), "c b/2 b/1 a"),
            (client.get("").last_by(SortTarget::Mod), "b/1"),
            (client.get("").first_by(SortTarget::Create), "a"),
            (client.get("").prefix().min_mod_revision(revisions[3]), "b/1 c"),
            (client.get("").prefix().max_create_revision(revisions[1]), "a b/1"),
            (client.get("").prefix().serializable().keys_only().revision(revisions[0]), "a"),
        ];
        for (get, expected) in table {
            assert_eq!(keys(&get.await.expect("get")), expected);
        }
        let cut = client.get("").prefix().limit(1).await.expect("get");
        assert_eq!((cut.more, cut.count), (true, 4));
        let counted = client.get("").prefix().count_only().await.expect("get");
        assert_eq!((counted.kvs.len(), counted.count), (0, 4));
        let old = client.get("b/1").revision(revisions[1]).await.expect("get");
        assert_eq!(old.kvs[0].value, "2");
    });
}

#[test]
fn compaction_and_its_errors() {
    run(async {
        let (_cluster, client) = alone().await;
        for value in ["1", "2", "3"] {
            client.put("k", value).await.expect("put");
        }
        client.compact(3, true).await.expect("compact");
        let compacted = client.get("k").revision(2).await.expect_err("forgotten");
        assert!(compacted.is(EtcdError::Compacted));
        assert_eq!(compacted.code(), Code::OutOfRange);
        let future = "OutOfRange: etcdserver: mvcc: required revision is a future revision";
        assert_eq!(failure(client.get("k").revision(99).await), future);
        assert_eq!(failure(client.compact(99, false).await), future);
    });
}

#[test]
fn deletions_tell_what_was() {
    run(async {
        let (_cluster, client) = alone().await;
        for key in ["a", "b/1", "b/2", "c"] {
            client.put(key, "v").await.expect("put");
        }
        assert_eq!(client.delete("none").await.expect("delete").deleted, 0);
        let answer = client.delete("b/").prefix().prev_kv().await.expect("delete");
        assert_eq!((answer.deleted, answer.prev_kvs.len()), (2, 2));
        assert_eq!(client.delete("a").range("b").await.expect("delete").deleted, 1);
        assert_eq!(client.delete("").from_key().await.expect("delete").deleted, 1);
    });
}

#[test]
fn transactions_have_all_kinds_of_conditions_and_operations() {
    run(async {
        let (_cluster, client) = alone().await;
        let lease = client.lease_grant(60).await.expect("grant").id;
        let revision = client.put("k", "5").lease(lease).await.expect("put").header;
        let revision = revision.expect("a header").revision;
        let hold = [
            Compare::value("k", Comparison::Greater, "4"),
            Compare::version("k", Comparison::Equal, 1),
            Compare::create_revision("k", Comparison::Equal, revision),
            Compare::mod_revision("k", Comparison::Less, revision + 1),
            Compare::lease("k", Comparison::Equal, lease),
            Compare::value("k", Comparison::NotEqual, "6").prefix(),
            Compare::version("k", Comparison::Greater, 0).range("l"),
        ];
        for condition in hold {
            let answer = client.txn().when(condition.clone()).await.expect("txn");
            assert!(answer.succeeded, "{condition:?}");
        }
        // All conditions are looked at before anything is done.
        let inner = Txn::new().when(Compare::version("new", Comparison::Equal, 0));
        let answer = client
            .txn()
            .when(Compare::version("new", Comparison::Equal, 0))
            .then(Put::new("new", "1"))
            .then(Get::new("k"))
            .then(Delete::new("k").prev_kv())
            .then(inner.then(Get::new("new")))
            .otherwise(Op::from(Get::new("never")))
            .await
            .expect("txn");
        assert!(answer.succeeded);
        let kinds = answer.responses.iter().map(|op| {
            use api::etcdserverpb::response_op::Response;
            match op.response.as_ref().expect("one") {
                Response::ResponseRange(range) => format!("range {}", keys(range)),
                Response::ResponsePut(_) => "put".to_owned(),
                Response::ResponseDeleteRange(delete) => format!("delete {}", delete.deleted),
                Response::ResponseTxn(txn) => format!("txn {}", txn.succeeded),
            }
        });
        assert_eq!(kinds.collect::<Vec<_>>(), ["put", "range k", "delete 1", "txn true"]);
        let again = client.txn().when(Compare::version("new", Comparison::Equal, 0));
        let again = again.otherwise(Get::new("new")).await.expect("txn");
        assert!(!again.succeeded);
    });
}

#[test]
fn a_large_range_comes_in_parts() {
    run(async {
        let (_cluster, client) = alone().await;
        let value = vec![7; 30 << 10];
        for number in 0..12 {
            client.put(format!("k{number}"), value.clone()).await.expect("put");
        }
        let mut stream = client.get("k").prefix().stream().await.expect("a stream");
        let (mut parts, mut found, mut count) = (0, 0, 0);
        while let Some(part) = stream.next().await.expect("a part") {
            parts += 1;
            found += part.kvs.len();
            count += part.count;
        }
        assert_eq!((found, count), (12, 12));
        assert!(parts > 1, "it came in one part");
        let sorted = client.get("k").last_by(SortTarget::Mod).stream().await;
        let error = match sorted {
            Ok(mut stream) => stream.next().await.expect_err("refused"),
            Err(error) => error,
        };
        assert!(error.is(EtcdError::RangeStreamSort), "{error}");
    });
}

#[test]
fn sizes_have_limits_on_both_sides() {
    run(async {
        let cluster = Cluster::start(1).await;
        let config = cluster.config().send_bytes_max(1000).receive_bytes_max(1500);
        let client = Client::connect(config).await.expect("a client");
        for key in ["a", "b"] {
            client.put(key, vec![0; 900]).await.expect("put");
        }
        assert_eq!(
            failure(client.put("k", vec![0; 1000]).await),
            "ResourceExhausted: rpc error: code = ResourceExhausted desc = trying to send message \
             larger than max (1006 vs. 1000)"
        );
        let text = failure(client.get("").prefix().await);
        assert!(text.contains("desc = grpc: received message larger than max (18"), "{text}");
        let large = cluster.client().await.put("k", vec![0; 1_600_000]).await;
        assert_eq!(failure(large), "InvalidArgument: etcdserver: request is too large");
    });
}

#[test]
fn a_namespace_looks_like_everything() {
    run(async {
        let (_cluster, client) = alone().await;
        let inside = client.with_namespace("app/").with_namespace("one/");
        client.put("app/other", "not seen").await.expect("put");
        let lease = inside.lease_grant(60).await.expect("grant").id;
        client.put("outside", "not seen").lease(lease).await.expect("put");
        inside.put("k", "1").lease(lease).await.expect("put");
        assert_eq!(
            keys(&client.get("").prefix().await.expect("get")),
            "app/one/k app/other outside"
        );
        assert_eq!(keys(&inside.get("").prefix().await.expect("get")), "k");
        let held = inside.lease_time_to_live(lease, true).await.expect("lease").keys;
        assert_eq!(held, ["k"]);
        let txn = inside.txn().when(Compare::value("k", Comparison::Equal, "1"));
        let txn = txn.then(Get::new("").from_key()).then(Put::new("k", "2").prev_kv());
        let answer = format!("{:?}", txn.await.expect("txn"));
        assert!(answer.contains("key: b\"k\""), "{answer}");
        assert!(!answer.contains("app/"), "{answer}");
        let gone = inside.delete("").from_key().prev_kv().await.expect("delete");
        assert_eq!((gone.deleted, &*gone.prev_kvs[0].key), (1, &b"k"[..]));
        let mut stream = inside.get("").prefix().stream().await.expect("a stream");
        assert_eq!(stream.next().await.expect("a part").expect("a part").count, 0);
        let empty = failure(inside.get("").await);
        assert_eq!(empty, "InvalidArgument: etcdserver: key is not provided");
    });
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    run(async {
        let refuse = async |config: Config| failure(Client::connect(config).await);
        assert_eq!(
            refuse(Config::new(Vec::<String>::new())).await,
            "InvalidArgument: etcdclient: no available endpoints"
        );
        assert_eq!(
            refuse(Config::new(["https://127.0.0.1:2379"])).await,
            "InvalidArgument: endpoint https://127.0.0.1:2379: https is not supported: this client \
             has no TLS yet"
        );
        assert_eq!(
            refuse(Config::new(["127.0.0.1:1"]).send_bytes_max(2).receive_bytes_max(1)).await,
            "InvalidArgument: gRPC message recv limit (1 bytes) must be greater than send limit (2 \
             bytes)"
        );
    });
}
