//! `watch`: many watchers of some keys, and puts to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use client::{Client, Watcher};
use tokio::task::JoinSet;

use crate::keys;
use crate::load::{Pace, Progress, Shared};
use crate::report::Watch;
use crate::session::{Failure, Session};

/// A watcher, and which of the keys it watches.
type Watching = (Watcher, usize);

pub(crate) async fn watch(session: &Session) -> Result<(), Failure> {
    let space = session.positive("key-space-size")?;
    let size = session.size("key-size")?;
    let is_sequential = session.input.bool("sequential-keys");
    let watched: Vec<Vec<u8>> = (0..session.positive("watched-key-total")?)
        .map(|number| keys::key(keys::pick(number, space, is_sequential), size))
        .collect();
    let watched = Arc::new(watched);
    let clients = session.clients().await?;
    let watchers = create(session, &clients, &watched).await?;
    events(session, &clients, &watched, watchers).await
}

/// Creates all watchers, those of a stream one after the other.
async fn create(
    session: &Session,
    clients: &[Client],
    watched: &Arc<Vec<Vec<u8>>>,
) -> Result<Vec<Watching>, Failure> {
    let (streams, each) = (session.number("streams")?, session.number("watch-per-stream")?);
    let record = Shared::new(session.samples());
    let progress = Progress::new(streams * each);
    let measured = Watch::start();
    let mut tasks = JoinSet::new();
    for stream in 0..streams as usize {
        let client = clients[stream % clients.len()].with_watch_stream();
        let (watched, record, progress) = (Arc::clone(watched), record.clone(), progress.clone());
        tasks.spawn(async move {
            let mut watchers = Vec::new();
            for number in 0..each as usize {
                let key = (stream * each as usize + number) % watched.len();
                let begun = Instant::now();
                let watcher = client.watch(watched[key].clone()).await?;
                record.with(stream, |record| record.add(begun.elapsed()));
                watchers.push((watcher, key));
                progress.add(1);
            }
            Ok::<_, client::Error>(watchers)
        });
    }
    let all = progress.until(async {
        let mut all = Vec::new();
        while let Some(task) = tasks.join_next().await {
            all.extend(task.map_err(Failure::new)?.map_err(Failure::new)?);
        }
        Ok::<_, Failure>(all)
    });
    let all = all.await?;
    let report = measured.stop(record.collect(session.samples()));
    session.report("Watch creation summary:\n", "watch-create", &report);
    Ok(all)
}

/// Puts to the keys until every watcher has heard of every put that concerns it.
async fn events(
    session: &Session,
    clients: &[Client],
    watched: &Arc<Vec<Vec<u8>>>,
    watchers: Vec<Watching>,
) -> Result<(), Failure> {
    let (total, rate) = (session.number("put-total")?, session.number("put-rate")?);
    // Keys may be the same: a watcher hears of all puts to its key's text.
    let puts_to = |key: usize| {
        let same = (0..watched.len()).filter(|other| watched[*other] == watched[key]);
        same.map(|other| (total + watched.len() as u64 - 1 - other as u64) / watched.len() as u64)
            .sum::<u64>()
    };
    let expected: Vec<u64> = (0..watched.len()).map(puts_to).collect();
    let record = Shared::new(session.samples());
    let progress = Progress::new(watchers.iter().map(|(_, key)| expected[*key]).sum());
    let measured = Watch::start();
    let mut hearing = JoinSet::new();
    for (number, (mut watcher, key)) in watchers.into_iter().enumerate() {
        let (record, progress, mut left) = (record.clone(), progress.clone(), expected[key]);
        hearing.spawn(async move {
            while left > 0 {
                let Some(response) = watcher.next().await else { break };
                let begun = Instant::now();
                let count = response?.events.len() as u64;
                record.with(number, |record| (0..count).for_each(|_| record.add(begun.elapsed())));
                left = left.saturating_sub(count);
                progress.add(count);
            }
            Ok::<_, client::Error>(())
        });
    }
    let next = Arc::new(AtomicU64::new(0));
    let pace = Pace::new(rate);
    for client in clients {
        let (client, next, watched) = (client.clone(), Arc::clone(&next), Arc::clone(watched));
        hearing.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return Ok(());
                }
                pace.wait(number).await;
                let key = watched[number as usize % watched.len()].clone();
                client.put(key, "data").await?;
            }
        });
    }
    let ended = progress.until(async {
        while let Some(task) = hearing.join_next().await {
            task.map_err(Failure::new)?.map_err(Failure::new)?;
        }
        Ok::<_, Failure>(())
    });
    ended.await?;
    let report = measured.stop(record.collect(session.samples()));
    session.report("Watch events received summary:\n", "watch-events", &report);
    Ok(())
}
