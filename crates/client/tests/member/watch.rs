//! Watches.

use std::time::Duration;

use client::{Client, Config, Error, EtcdError, EventType, Watcher};

use crate::support::{Wire, alone, run};

/// The next events, as text.
async fn events(watcher: &mut Watcher) -> String {
    let response = watcher.next().await.expect("a response").expect("events");
    let text = response.events.iter().map(|event| {
        let kv = event.kv.as_ref().expect("a key");
        let key = String::from_utf8_lossy(&kv.key);
        let before = event.prev_kv.as_ref().map_or_else(String::new, |kv| {
            format!("<{}={}", String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value))
        });
        match event.r#type() {
            EventType::Put => format!("{key}={}{before}", String::from_utf8_lossy(&kv.value)),
            EventType::Delete => format!("{key}!{before}"),
        }
    });
    text.collect::<Vec<_>>().join(" ")
}

#[test]
fn watchers_hear_what_they_asked_for() {
    run(async {
        let (_cluster, client) = alone().await;
        client.put("a", "0").await.expect("put");
        let mut one = client.watch("a").prev_kv().await.expect("a watcher");
        let mut past = client.watch("a").start_revision(1).await.expect("a watcher");
        let mut prefix = client.watch("b/").prefix().no_delete().await.expect("a watcher");
        let mut behind = client.watch("b").from_key().no_put().await.expect("a watcher");
        let inside = client.with_namespace("b/");
        let error = inside.watch("").await.map(drop).expect_err("no key");
        assert!(error.is(EtcdError::EmptyKey));
        let mut named = inside.watch("1").range("2").prev_kv().await.expect("a watcher");
        let mut created = client.watch("a").created_notify().await.expect("a watcher");
        let response = created.next().await.expect("a response").expect("created");
        assert!(response.created && !response.is_progress_notify());
        client.put("a", "1").await.expect("put");
        client.put("b/1", "x").await.expect("put");
        client.delete("b/1").await.expect("delete");
        client.put("b/2", "y").await.expect("put");
        assert_eq!(events(&mut one).await, "a=1<a=0");
        assert_eq!(events(&mut created).await, "a=1");
        let mut heard = events(&mut past).await;
        if heard == "a=0" {
            heard = format!("a=0 {}", events(&mut past).await);
        }
        assert_eq!(heard, "a=0 a=1");
        assert_eq!(events(&mut prefix).await, "b/1=x");
        assert_eq!(events(&mut prefix).await, "b/2=y");
        assert_eq!(events(&mut behind).await, "b/1!");
        assert_eq!(events(&mut named).await, "1=x");
        assert_eq!(events(&mut named).await, "1!<1=x");
    });
}

/// Puts keys while the connection is cut again and again; returns when all were put.
async fn put_and_cut(direct: &Client, wire: &Wire, count: usize) {
    for number in 0..count {
        direct.put(format!("k{}", number % 7), number.to_string()).await.expect("put");
        if number % 20 == 5 {
            wire.cut();
        }
    }
}

#[test]
fn nothing_is_lost_or_repeated_when_connections_break() {
    run(async {
        const PUTS: usize = 400;
        let (cluster, direct) = alone().await;
        let wire = Wire::to(cluster.servers[0].address()).await;
        let config = Config::new([wire.endpoint()])
            .reconnect_wait(Duration::from_millis(1), Duration::from_millis(5));
        let client = Client::connect(config).await.expect("a client");
        let mut watchers = Vec::new();
        for _ in 0..3 {
            watchers.push(client.watch("k").prefix().fragment().await.expect("a watcher"));
        }
        // One that is idle until the end must not go back to where it was made.
        let mut idle = client.watch("end").await.expect("a watcher");
        put_and_cut(&direct, &wire, PUTS).await;
        direct.put("end", "").await.expect("put");
        for watcher in &mut watchers {
            let mut heard = Vec::new();
            while heard.len() < PUTS {
                let response = watcher.next().await.expect("a response").expect("events");
                heard.extend(response.events.into_iter().map(|event| event.kv.expect("a key")));
            }
            let values: Vec<usize> = heard
                .iter()
                .map(|kv| String::from_utf8_lossy(&kv.value).parse().expect("a number"))
                .collect();
            assert!(values.iter().copied().eq(0..PUTS), "{values:?}");
        }
        assert_eq!(events(&mut idle).await, "end=");
    });
}

#[test]
fn what_is_forgotten_cannot_be_watched() {
    run(async {
        let (_cluster, client) = alone().await;
        for _ in 0..4 {
            client.put("k", "v").await.expect("put");
        }
        client.compact(4, true).await.expect("compact");
        let mut watcher = client.watch("k").start_revision(2).await.expect("a watcher");
        match watcher.next().await.expect("an end") {
            Err(error @ Error::Compacted { revision: 4 }) => {
                assert!(error.is(EtcdError::Compacted))
            }
            other => panic!("{other:?}"),
        }
        assert!(watcher.next().await.is_none());
        let empty = client.watch("b").range("a").await.map(drop).expect_err("no such range");
        assert_eq!(empty.to_string(), "etcdserver: watch canceled: mvcc: watcher range is empty");
    });
}

#[test]
fn progress_is_told_when_it_is_asked_for() {
    run(async {
        let (_cluster, client) = alone().await;
        let mut watcher = client.watch("k").await.expect("a watcher");
        let header = client.put("other", "v").await.expect("put").header.expect("a header");
        loop {
            // A watcher that isn't in step yet keeps the server from answering.
            client.request_progress();
            let next = tokio::time::timeout(Duration::from_millis(200), watcher.next()).await;
            let Ok(response) = next else { continue };
            let response = response.expect("a response").expect("progress");
            assert!(response.is_progress_notify());
            if response.header.revision >= header.revision {
                break;
            }
        }
    });
}

#[test]
fn who_does_not_read_holds_up_nobody_and_loses_nothing() {
    run(async {
        const PUTS: usize = 24;
        let (_cluster, client) = alone().await;
        let mut slow = client.watch("k").prefix().fragment().await.expect("a watcher");
        let mut quick = client.watch("k").prefix().await.expect("a watcher");
        let mut last = 0;
        // More than a watcher may hold.
        for number in 0..PUTS {
            let put = client.put(format!("k{number}"), vec![0; 1 << 20]).await.expect("put");
            last = put.header.expect("a header").revision;
            quick.next().await.expect("a response").expect("events");
        }
        let mut revisions = Vec::new();
        while revisions.last() != Some(&last) {
            let response = slow.next().await.expect("a response").expect("events");
            revisions.extend(
                response.events.iter().map(|event| event.kv.as_ref().expect("a key").mod_revision),
            );
        }
        assert!(revisions.iter().copied().eq(last + 1 - PUTS as i64..=last), "{revisions:?}");
    });
}
