//! Keys.

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, GetOptions, GetResponse,
    PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
};

use crate::{Failure, equal, fail, refused};

fn revision(header: Option<&etcd_client::ResponseHeader>) -> Result<i64, Failure> {
    header.map(etcd_client::ResponseHeader::revision).ok_or_else(|| "no header".to_owned())
}

fn keys(response: &GetResponse) -> String {
    let keys = response.kvs().iter().map(|kv| String::from_utf8_lossy(kv.key()).into_owned());
    keys.collect::<Vec<_>>().join(" ")
}

pub(crate) async fn put_and_get(mut client: Client) -> Result<(), Failure> {
    let first = client.put("a/key", "one", None).await.map_err(fail)?;
    equal("no previous value", first.prev_key().is_none(), true)?;
    let options = PutOptions::new().with_prev_key();
    let second = client.put("a/key", "two", Some(options)).await.map_err(fail)?;
    let previous = second.prev_key().ok_or("no previous value")?;
    equal("previous value", previous.value(), b"one")?;
    let (before, after) = (revision(first.header())?, revision(second.header())?);
    equal("revision", after, before + 1)?;
    let got = client.get("a/key", None).await.map_err(fail)?;
    let kv = got.kvs().first().ok_or("no key")?;
    equal("value", kv.value(), b"two")?;
    equal("version", kv.version(), 2)?;
    equal("create revision", kv.create_revision(), before)?;
    equal("mod revision", kv.mod_revision(), after)?;
    equal("count", got.count(), 1)?;
    let serializable = GetOptions::new().with_serializable();
    let got = client.get("a/key", Some(serializable)).await.map_err(fail)?;
    equal("serializable", got.kvs().len(), 1)?;
    let got = client.get("a/none", None).await.map_err(fail)?;
    equal("no such key", (got.kvs().len(), got.count(), got.more()), (0, 0, false))
}

pub(crate) async fn ranges(mut client: Client) -> Result<(), Failure> {
    for (key, value) in [("r/b", "3"), ("r/a", "1"), ("r/c", "2"), ("r0", "x")] {
        client.put(key, value, None).await.map_err(fail)?;
    }
    let prefix = || GetOptions::new().with_prefix();
    for (what, options, want) in [
        ("prefix", prefix(), "r/a r/b r/c"),
        ("descending", prefix().with_sort(SortTarget::Key, SortOrder::Descend), "r/c r/b r/a"),
        ("by value", prefix().with_sort(SortTarget::Value, SortOrder::Ascend), "r/a r/c r/b"),
        ("by creation", prefix().with_sort(SortTarget::Create, SortOrder::Ascend), "r/b r/a r/c"),
        ("limit", prefix().with_limit(2), "r/a r/b"),
        ("keys only", prefix().with_keys_only(), "r/a r/b r/c"),
        ("count only", prefix().with_count_only(), ""),
    ] {
        let got = client.get("r/", Some(options)).await.map_err(fail)?;
        equal(what, keys(&got).as_str(), want)?;
        equal(what, got.count(), 3)?;
        equal(what, got.more(), what == "limit")?;
        let is_empty = got.kvs().iter().all(|kv| kv.value().is_empty());
        equal(what, is_empty, matches!(what, "keys only" | "count only"))?;
    }
    let range = GetOptions::new().with_range("r/c");
    equal("range", keys(&client.get("r/a", Some(range)).await.map_err(fail)?).as_str(), "r/a r/b")?;
    let from = GetOptions::new().with_from_key().with_limit(2);
    equal("from key", keys(&client.get("r/c", Some(from)).await.map_err(fail)?).as_str(), "r/c r0")
}

pub(crate) async fn range_stream(client: Client) -> Result<(), Failure> {
    let mut kv = client.kv_client();
    let value = vec![b'v'; 4096];
    for i in 0..300 {
        kv.put(format!("s/{i:03}"), value.clone(), None).await.map_err(fail)?;
    }
    let options = GetOptions::new().with_prefix();
    let mut stream = kv.get_stream("s/", Some(options)).await.map_err(fail)?;
    let (mut seen, mut count) = (Vec::new(), 0);
    while let Some(chunk) = stream.message().await.map_err(fail)? {
        seen.extend(chunk.kvs().iter().map(|kv| kv.key().to_vec()));
        count = chunk.count();
    }
    let want: Vec<Vec<u8>> = (0..300).map(|i| format!("s/{i:03}").into_bytes()).collect();
    equal("keys", seen == want, true)?;
    equal("count", count, 300)
}

pub(crate) async fn delete(mut client: Client) -> Result<(), Failure> {
    for key in ["d/a", "d/b", "d/c"] {
        client.put(key, key, None).await.map_err(fail)?;
    }
    let options = DeleteOptions::new().with_prev_key();
    let one = client.delete("d/a", Some(options)).await.map_err(fail)?;
    equal("one", (one.deleted(), one.prev_kvs().len()), (1, 1))?;
    equal("its value", one.prev_kvs()[0].value(), b"d/a")?;
    let rest = client.delete("d/", Some(DeleteOptions::new().with_prefix())).await.map_err(fail)?;
    equal("the rest", (rest.deleted(), rest.prev_kvs().len()), (2, 0))?;
    let none = client.delete("d/", Some(DeleteOptions::new().with_prefix())).await.map_err(fail)?;
    equal("none", none.deleted(), 0)?;
    equal("revision", revision(none.header())?, revision(rest.header())?)
}

pub(crate) async fn transactions(mut client: Client) -> Result<(), Failure> {
    client.put("t/a", "1", None).await.map_err(fail)?;
    let inner = Txn::new()
        .when([Compare::create_revision("t/none", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("t/inner", "yes", None)])
        .or_else([TxnOp::put("t/inner", "no", None)]);
    let txn = Txn::new()
        .when([
            Compare::value("t/a", CompareOp::Equal, "1"),
            Compare::version("t/a", CompareOp::Greater, 0),
        ])
        .and_then([
            TxnOp::put("t/b", "2", Some(PutOptions::new().with_prev_key())),
            TxnOp::get("t/b", None),
            TxnOp::delete("t/a", None),
            TxnOp::txn(inner),
        ])
        .or_else([TxnOp::get("t/a", None)]);
    let done = client.txn(txn.clone()).await.map_err(fail)?;
    equal("succeeded", done.succeeded(), true)?;
    let responses = done.op_responses();
    let [
        TxnOpResponse::Put(_),
        TxnOpResponse::Get(got),
        TxnOpResponse::Delete(deleted),
        TxnOpResponse::Txn(inner),
    ] = &responses[..]
    else {
        return Err(format!("responses: {responses:?}"));
    };
    equal("read of its own write", got.kvs()[0].value(), b"2")?;
    equal("one revision", got.kvs()[0].mod_revision(), revision(done.header())?)?;
    equal("deleted", deleted.deleted(), 1)?;
    equal("inner", inner.succeeded(), true)?;
    let again = client.txn(txn).await.map_err(fail)?;
    equal("the other branch", again.succeeded(), false)?;
    equal("it changes nothing", revision(again.header())?, revision(done.header())?)?;
    let twice = Txn::new().and_then([TxnOp::put("t/c", "1", None), TxnOp::put("t/c", "2", None)]);
    let message = "etcdserver: duplicate key given in txn request";
    refused("a key twice", client.txn(twice).await, message)?;
    let many: Vec<TxnOp> = (0..129).map(|i| TxnOp::put(format!("t/{i}"), "", None)).collect();
    let message = "etcdserver: too many operations in txn request";
    refused("129 operations", client.txn(Txn::new().and_then(many)).await, message)
}

pub(crate) async fn compaction(mut client: Client) -> Result<(), Failure> {
    let first = revision(client.put("c/key", "old", None).await.map_err(fail)?.header())?;
    let second = revision(client.put("c/key", "new", None).await.map_err(fail)?.header())?;
    let at = |revision| Some(GetOptions::new().with_revision(revision));
    let got = client.get("c/key", at(first)).await.map_err(fail)?;
    equal("the past", got.kvs()[0].value(), b"old")?;
    let physical = CompactionOptions::new().with_physical();
    client.compact(second, Some(physical)).await.map_err(fail)?;
    let got = client.get("c/key", at(second)).await.map_err(fail)?;
    equal("the present", got.kvs()[0].value(), b"new")?;
    let message = "etcdserver: mvcc: required revision has been compacted";
    refused("the compacted past", client.get("c/key", at(first)).await, message)?;
    refused("compacted twice", client.compact(second, None).await, message)?;
    let message = "etcdserver: mvcc: required revision is a future revision";
    refused("the future", client.get("c/key", at(second + 1000)).await, message)
}

pub(crate) async fn errors(mut client: Client) -> Result<(), Failure> {
    let message = "etcdserver: key is not provided";
    refused("put without a key", client.put("", "v", None).await, message)?;
    let options = PutOptions::new().with_lease(4711);
    let message = "etcdserver: requested lease not found";
    refused("unknown lease", client.put("e", "v", Some(options)).await, message)?;
    let options = PutOptions::new().with_ignore_value();
    let message = "etcdserver: value is provided";
    refused("value and ignore", client.put("e", "v", Some(options)).await, message)?;
    let options = PutOptions::new().with_ignore_value();
    let message = "etcdserver: key not found";
    refused("no value to keep", client.put("e/none", "", Some(options)).await, message)
}

pub(crate) async fn large_values(mut client: Client) -> Result<(), Failure> {
    let value = vec![7_u8; 1 << 20];
    client.put("l/a", value.clone(), None).await.map_err(fail)?;
    client.put("l/b", value.clone(), None).await.map_err(fail)?;
    let got = client.get("l/", Some(GetOptions::new().with_prefix())).await.map_err(fail)?;
    let is_whole = got.kvs().iter().all(|kv| kv.value() == value);
    equal("two megabytes", (got.kvs().len(), is_whole), (2, true))?;
    let message = "etcdserver: request is too large";
    refused("beyond the limit", client.put("l/c", vec![7_u8; 1_600_000], None).await, message)
}

pub(crate) async fn many_at_once(mut client: Client) -> Result<(), Failure> {
    const TASKS: i64 = 50;
    const PUTS: i64 = 20;
    let before = revision(client.put("m", "", None).await.map_err(fail)?.header())?;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let mut last = 0;
                for i in 0..PUTS {
                    let put = client.put(format!("m/{task}/{i}"), "v", None).await.map_err(fail)?;
                    let revision = revision(put.header())?;
                    equal("revisions ascend", revision > last, true)?;
                    last = revision;
                }
                Ok::<(), Failure>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|err| err.to_string())??;
    }
    let options = GetOptions::new().with_prefix().with_count_only();
    let got = client.get("m/", Some(options)).await.map_err(fail)?;
    equal("keys", got.count(), TASKS * PUTS)?;
    equal("revision", revision(got.header())?, before + TASKS * PUTS)
}
