//! Locks, elections and the like.

use std::time::Duration;

use bytes::Bytes;
use client::concurrency::{
    Barrier, DoubleBarrier, Election, Isolation, Mutex, PriorityQueue, Queue, RwMutex, Session, Stm,
};
use client::{Client, Error, Put};

use crate::support::{alone, eventually, run};

async fn session(client: &Client) -> Session {
    client.session().ttl(60).await.expect("a session")
}

/// How many keys have this prefix.
async fn count(client: &Client, prefix: &str) -> i64 {
    client.get(prefix).prefix().count_only().await.expect("get").count
}

async fn value(client: &Client, key: &str) -> String {
    let kvs = client.get(key).await.expect("get").kvs;
    kvs.first().map_or_else(String::new, |kv| String::from_utf8_lossy(&kv.value).into_owned())
}

fn number(value: Option<Bytes>) -> i64 {
    value.map_or(0, |value| String::from_utf8_lossy(&value).parse().expect("a number"))
}

#[test]
fn a_lock_has_one_holder_at_a_time() {
    run(async {
        const TASKS: usize = 8;
        let (_cluster, client) = alone().await;
        let mut tasks = Vec::new();
        for _ in 0..TASKS {
            let client = client.clone();
            tasks.push(tokio::spawn(async move {
                let session = session(&client).await;
                let mut mutex = Mutex::new(&session, "lock");
                for _ in 0..3 {
                    mutex.lock().await.expect("lock");
                    let before =
                        number(client.get("n").await.expect("get").kvs.pop().map(|kv| kv.value));
                    let put = Put::new("n", (before + 1).to_string());
                    let answer = client.txn().when(mutex.is_owner()).then(put).await.expect("txn");
                    assert!(answer.succeeded);
                    mutex.unlock().await.expect("unlock");
                }
                session.close().await.expect("close");
            }));
        }
        for task in tasks {
            task.await.expect("a task");
        }
        assert_eq!(value(&client, "n").await, (3 * TASKS).to_string());
        assert_eq!(count(&client, "lock/").await, 0);
    });
}

#[test]
fn a_lock_is_tried_given_up_and_lost() {
    run(async {
        let (_cluster, client) = alone().await;
        let (first, second) = (session(&client).await, session(&client).await);
        let mut held = Mutex::new(&first, "lock");
        let mut other = Mutex::new(&second, "lock");
        held.lock().await.expect("lock");
        assert_eq!(held.key(), format!("lock/{:x}", first.lease()).as_bytes());
        assert!(held.header().revision > 1);
        held.lock().await.expect("it has it already");
        held.try_lock().await.expect("it has it already");
        let error = other.try_lock().await.expect_err("held");
        assert_eq!(error.to_string(), "mutex: Locked by another session");
        let error = other.unlock().await.expect_err("not held");
        assert_eq!(error.to_string(), "mutex: lock has already been released");
        assert!(!client.txn().when(other.is_owner()).await.expect("txn").succeeded);

        // Who gives up waiting leaves the queue.
        {
            let waiting = other.lock();
            let mut waiting = std::pin::pin!(waiting);
            let seen = client.clone();
            tokio::select! {
                result = &mut waiting => panic!("{result:?}"),
                () = eventually(async || (count(&seen, "lock/").await == 2).then_some(())) => {}
            }
        }
        eventually(async || (count(&client, "lock/").await == 1).then_some(())).await;

        // Who waits gets it when the holder's session ends.
        let waiting = tokio::spawn(async move {
            other.lock().await.expect("lock");
            other
        });
        eventually(async || (count(&client, "lock/").await == 2).then_some(())).await;
        first.close().await.expect("close");
        let mut other = waiting.await.expect("a task");
        assert!(!client.txn().when(held.is_owner()).await.expect("txn").succeeded);
        assert!(client.txn().when(other.is_owner()).await.expect("txn").succeeded);
        other.unlock().await.expect("unlock");
    });
}

#[test]
fn whoever_waits_hears_that_its_own_session_is_over() {
    run(async {
        let (_cluster, client) = alone().await;
        let (first, second) =
            (session(&client).await, client.session().ttl(2).await.expect("a session"));
        Mutex::new(&first, "lock").lock().await.expect("lock");
        let mut waiting = Mutex::new(&second, "lock");
        let lease = second.lease();
        let revoke = async {
            eventually(async || (count(&client, "lock/").await == 2).then_some(())).await;
            client.lease_revoke(lease).await.expect("revoke");
        };
        let (result, ()) = tokio::join!(waiting.lock(), revoke);
        assert!(matches!(result, Err(Error::SessionExpired)), "{result:?}");
        second.done().await;
    });
}

#[test]
fn one_of_many_leads() {
    run(async {
        let (_cluster, client) = alone().await;
        let (first, second) = (session(&client).await, session(&client).await);
        let mut one = Election::new(&first, "lead");
        let mut two = Election::new(&second, "lead");
        let mut observer = one.observe();
        let none = one.leader().await.expect_err("nobody");
        assert_eq!(none.to_string(), "election: no leader");
        let not = two.proclaim("x").await.expect_err("it does not lead");
        assert_eq!(not.to_string(), "election: not leader");
        let (heard, ()) = tokio::join!(observer.next(), async {
            one.campaign("one").await.expect("campaign");
        });
        assert_eq!(heard.expect("a leader").value, "one");
        one.proclaim("one, still").await.expect("proclaim");
        assert_eq!(observer.next().await.expect("a leader").value, "one, still");
        assert_eq!(two.leader().await.expect("a leader").value, "one, still");
        one.campaign("one, again").await.expect("it leads");
        assert_eq!(observer.next().await.expect("a leader").value, "one, again");

        let (key, revision) = one.lead().expect("it leads");
        let mut resumed = Election::resume(&first, "lead", key.clone(), revision);
        resumed.proclaim("resumed").await.expect("proclaim");
        assert_eq!(observer.next().await.expect("a leader").value, "resumed");

        let waiting = tokio::spawn(async move {
            two.campaign("two").await.expect("campaign");
            two
        });
        eventually(async || (count(&client, "lead/").await == 2).then_some(())).await;
        resumed.resign().await.expect("resign");
        let two = waiting.await.expect("a task");
        assert_eq!(observer.next().await.expect("a leader").value, "two");
        assert!(one.proclaim("late").await.is_err());
        assert!(one.lead().is_none());
        assert!(two.lead().is_some());
        one.resign().await.expect("nothing to do");

        // A candidate that gives up is none.
        {
            let campaign = one.campaign("one");
            let mut campaign = std::pin::pin!(campaign);
            tokio::select! {
                result = &mut campaign => panic!("{result:?}"),
                () = eventually(async || (count(&client, "lead/").await == 2).then_some(())) => {}
            }
        }
        eventually(async || (count(&client, "lead/").await == 1).then_some(())).await;
    });
}

#[test]
fn transactions_that_are_programs_keep_sums() {
    run(async {
        let (_cluster, client) = alone().await;
        for isolation in
            [Isolation::SerializableSnapshot, Isolation::Serializable, Isolation::RepeatableReads]
        {
            for key in ["a", "b", "c"] {
                client.put(key, "100").await.expect("put");
            }
            let mut tasks = Vec::new();
            for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "c")] {
                let stm = Stm::new(&client).isolation(isolation).prefetch(["b"]);
                tasks.push(tokio::spawn(async move {
                    for _ in 0..4 {
                        let transfer = stm.clone().run(|txn| async move {
                            let (source, target) =
                                (number(txn.get(from).await?), number(txn.get(to).await?));
                            txn.put(from, (source - 1).to_string());
                            txn.put(to, (target + 1).to_string());
                            Ok(())
                        });
                        transfer.await.expect("a transfer");
                    }
                }));
            }
            for task in tasks {
                task.await.expect("a task");
            }
            let mut values = Vec::new();
            for key in ["a", "b", "c"] {
                values.push(value(&client, key).await);
            }
            assert_eq!(values, ["96", "100", "104"], "{isolation:?}");
        }
    });
}

/// Reads a key, lets somebody else change `changed`, reads another key and writes a third. Tells what was read by
/// each run.
async fn interrupted(client: &Client, isolation: Isolation, changed: &str) -> String {
    for key in ["a", "b", "c"] {
        client.put(key, "old").await.expect("put");
    }
    let runs = std::cell::RefCell::new(Vec::new());
    let so_far = &runs;
    let text =
        |value: Option<Bytes>| String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
    let stm = Stm::new(client).isolation(isolation);
    stm.run(|txn| async move {
        let first = text(txn.get("a").await?);
        if so_far.borrow().is_empty() {
            client.put(changed, "new").await?;
        }
        let (again, other) = (text(txn.get("a").await?), text(txn.get("b").await?));
        so_far.borrow_mut().push(format!("{first} {again} {other}"));
        txn.put("c", "mine");
        Ok(())
    })
    .await
    .expect("committed");
    assert_eq!(value(client, "c").await, "mine");
    runs.into_inner().join(", ")
}

#[test]
fn isolations_differ_in_what_they_let_pass() {
    run(async {
        let (_cluster, client) = alone().await;
        let all = [
            Isolation::SerializableSnapshot,
            Isolation::Serializable,
            Isolation::RepeatableReads,
            Isolation::ReadCommitted,
        ];
        let mut table = String::new();
        for changed in ["a", "b", "c"] {
            for isolation in all {
                let runs = interrupted(&client, isolation, changed).await;
                table.push_str(&format!("{changed} {isolation:?}: {runs}\n"));
            }
        }
        assert_eq!(
            table,
            "a SerializableSnapshot: old old old, new new old\n\
             a Serializable: old old old, new new old\n\
             a RepeatableReads: old old old, new new old\n\
             a ReadCommitted: old old old\n\
             b SerializableSnapshot: old old old, old old new\n\
             b Serializable: old old old, old old new\n\
             b RepeatableReads: old old new\n\
             b ReadCommitted: old old new\n\
             c SerializableSnapshot: old old old, old old old\n\
             c Serializable: old old old\n\
             c RepeatableReads: old old old\n\
             c ReadCommitted: old old old\n"
        );
    });
}

#[test]
fn a_program_sees_what_it_wrote_and_may_fail() {
    run(async {
        let (_cluster, client) = alone().await;
        client.put("gone", "1").await.expect("put");
        let result = Stm::new(&client)
            .run(|txn| async move {
                txn.put("k", "1");
                assert_eq!(txn.get("k").await?.expect("written"), "1");
                txn.delete("gone");
                assert_eq!(txn.get("gone").await?, None);
                assert_eq!(txn.revision("none").await?, 0);
                Ok(())
            })
            .await;
        result.expect("committed");
        assert_eq!(count(&client, "").await, 1);
        let result = Stm::new(&client)
            .run(|txn| async move {
                txn.put("k", "2");
                Err(Error::Locked)
            })
            .await;
        assert!(matches!(result, Err(Error::Locked)));
        assert_eq!(value(&client, "k").await, "1");
    });
}

#[test]
fn barriers_hold_until_they_are_lifted() {
    run(async {
        let (_cluster, client) = alone().await;
        let barrier = Barrier::new(&client, "barrier");
        barrier.wait().await.expect("it is not down");
        barrier.hold().await.expect("hold");
        assert!(matches!(barrier.hold().await, Err(Error::KeyExists)));
        let waiting = [(); 3].map(|()| {
            let barrier = barrier.clone();
            tokio::spawn(async move { barrier.wait().await.expect("wait") })
        });
        barrier.release().await.expect("release");
        for task in waiting {
            task.await.expect("a task");
        }
    });
}

#[test]
fn a_double_barrier_begins_and_ends_together() {
    run(async {
        const COUNT: usize = 3;
        let (_cluster, client) = alone().await;
        let mut tasks = Vec::new();
        for _ in 0..COUNT {
            let client = client.clone();
            tasks.push(tokio::spawn(async move {
                let session = session(&client).await;
                let mut barrier = DoubleBarrier::new(&session, "barrier", COUNT);
                barrier.enter().await.expect("enter");
                // All are inside: none can have left, since that needs all.
                assert_eq!(count(&client, "barrier/ready").await, 1);
                client.put(format!("left/{}", session.lease()), "").await.expect("put");
                barrier.leave().await.expect("leave");
                assert_eq!(count(&client, "left/").await, COUNT as i64);
            }));
        }
        for task in tasks {
            task.await.expect("a task");
        }
        let session = session(&client).await;
        let mut full = DoubleBarrier::new(&session, "full", 0);
        assert!(matches!(full.enter().await, Err(Error::TooManyClients)));
    });
}

#[test]
fn what_is_queued_is_taken_once_and_in_order() {
    run(async {
        let (_cluster, client) = alone().await;
        let queue = Queue::new(&client, "queue");
        for value in ["a", "b", "c"] {
            queue.enqueue(value).await.expect("enqueue");
        }
        for value in ["a", "b", "c"] {
            assert_eq!(queue.dequeue().await.expect("dequeue"), value);
        }
        let (taken, ()) = tokio::join!(queue.dequeue(), async {
            queue.enqueue("late").await.expect("enqueue");
        });
        assert_eq!(taken.expect("dequeue"), "late");
        let takers = [(); 4].map(|()| {
            let queue = queue.clone();
            tokio::spawn(async move {
                [queue.dequeue().await.expect("dequeue"), queue.dequeue().await.expect("dequeue")]
            })
        });
        for number in 0..8 {
            queue.enqueue(number.to_string()).await.expect("enqueue");
        }
        let mut taken = Vec::new();
        for taker in takers {
            taken.extend(taker.await.expect("a task"));
        }
        taken.sort();
        assert_eq!(taken, ["0", "1", "2", "3", "4", "5", "6", "7"]);

        let queue = PriorityQueue::new(&client, "priority");
        for (value, priority) in [("c", 7), ("a", 1), ("d", 7), ("b", 1), ("e", 10_000)] {
            queue.enqueue(value, priority).await.expect("enqueue");
        }
        for value in ["a", "b", "c", "d", "e"] {
            assert_eq!(queue.dequeue().await.expect("dequeue"), value);
        }
    });
}

#[test]
fn readers_share_and_writers_do_not() {
    run(async {
        let (_cluster, client) = alone().await;
        let session = session(&client).await;
        let mutex = || RwMutex::new(&session, "rw");
        let (mut first, mut second) = (mutex(), mutex());
        first.read_lock().await.expect("read");
        second.read_lock().await.expect("read");
        let (mut writer, mut reader) = (mutex(), mutex());
        let writing = tokio::spawn(async move {
            writer.lock().await.expect("write");
            writer
        });
        eventually(async || (count(&client, "rw/write").await == 1).then_some(())).await;
        let reading = tokio::spawn(async move {
            reader.read_lock().await.expect("read");
            reader
        });
        eventually(async || (count(&client, "rw/read").await == 3).then_some(())).await;
        first.unlock().await.expect("unlock");
        assert!(!writing.is_finished());
        second.unlock().await.expect("unlock");
        let mut writer = writing.await.expect("a task");
        assert!(!reading.is_finished());
        writer.unlock().await.expect("unlock");
        reading.await.expect("a task").unlock().await.expect("unlock");
        assert!(matches!(writer.unlock().await, Err(Error::LockReleased)));
        assert_eq!(count(&client, "rw/").await, 0);
    });
}

#[test]
fn sessions_end_with_their_leases() {
    run(async {
        let (_cluster, client) = alone().await;
        let lease = client.lease_grant(60).await.expect("grant").id;
        let held = client.session().lease(lease).await.expect("a session");
        assert_eq!(held.lease(), lease);
        held.orphan();
        held.done().await;
        assert!(client.lease_time_to_live(lease, false).await.expect("lease").ttl > 0);
        held.close().await.expect("close");
        assert_eq!(client.lease_time_to_live(lease, false).await.expect("lease").ttl, -1);
        let short = client.session().ttl(2).await.expect("a session");
        client.lease_revoke(short.lease()).await.expect("revoke");
        tokio::time::timeout(Duration::from_secs(30), short.done()).await.expect("it ends");
    });
}
