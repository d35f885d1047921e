//! `watch-latency`: from the answer to a put until each watcher has heard of it.

use std::time::Instant;

use tokio::task::JoinSet;

use crate::keys;
use crate::load::{Pace, Progress};
use crate::report::{Record, Watch};
use crate::session::{Failure, Session};

pub(crate) async fn watch_latency(session: &Session) -> Result<(), Failure> {
    let key = keys::random(session.size("key-size")?);
    let value = keys::random(session.size("val-size")?);
    let (total, rate) = (session.number("put-total")?, session.number("put-rate")?);
    let (streams, each) = (session.number("streams")?, session.number("watchers-per-stream")?);
    let clients = session.clients().await?;
    let mut watchers = Vec::new();
    for stream in 0..streams as usize {
        let client = clients[stream % clients.len()].with_watch_stream();
        for _ in 0..each {
            let watch = client.watch(key.clone());
            let watch = if session.input.bool("prevkv") { watch.prev_kv() } else { watch };
            watchers.push(watch.await.map_err(Failure::new)?);
        }
    }
    let putter = session.connections(1).await?.remove(0);
    let progress = Progress::new(total * watchers.len() as u64);
    let mut tasks = JoinSet::new();
    for mut watcher in watchers {
        let progress = progress.clone();
        tasks.spawn(async move {
            let mut heard = Vec::new();
            while (heard.len() as u64) < total {
                let Some(response) = watcher.next().await else { break };
                let now = Instant::now();
                let count = response?.events.len();
                heard.extend(std::iter::repeat_n(now, count));
                progress.add(count as u64);
            }
            Ok::<_, client::Error>(heard)
        });
    }
    let (mut puts, mut events) = (Record::new(session.samples()), Record::new(session.samples()));
    let measured = Watch::start();
    let work = async {
        let mut put_at = Vec::new();
        let pace = Pace::new(rate);
        for number in 0..total {
            pace.wait(number).await;
            let begun = Instant::now();
            putter.put(key.clone(), value.clone()).await.map_err(|e| {
                Failure::new(format!("Failed to Put for watch latency benchmark: {e}"))
            })?;
            puts.add(begun.elapsed());
            put_at.push(Instant::now());
        }
        let mut heard = Vec::new();
        while let Some(task) = tasks.join_next().await {
            heard.push(task.map_err(Failure::new)?.map_err(Failure::new)?);
        }
        Ok::<_, Failure>((put_at, heard))
    };
    let (put_at, heard) = progress.until(work).await?;
    for at in heard {
        // An event may come before the answer to its put.
        at.iter().zip(&put_at).for_each(|(event, put)| events.add(event.duration_since(*put)));
    }
    session.report("\nPut summary:\n", "watch-latency-put", &measured.stop(puts));
    session.report("\nWatch events summary:\n", "watch-latency", &measured.stop(events));
    Ok(())
}
