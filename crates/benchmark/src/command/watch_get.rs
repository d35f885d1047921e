//! `watch-get`: serializable reads while many watchers catch up.

use std::time::Instant;

use tokio::task::JoinSet;

use crate::load::Progress;
use crate::report::{Record, Watch};
use crate::session::{Failure, Session};

const KEY: &str = "watchkey";

pub(crate) async fn watch_get(session: &Session) -> Result<(), Failure> {
    let clients = session.clients().await?;
    let reader = session.connections(1).await?.remove(0);
    let events = session.number("events")?;
    let mut first = 0;
    for number in 0..events {
        let answer = clients[0].put(KEY, number.to_string()).await.map_err(Failure::new)?;
        if number == 0 {
            first = answer.header.map_or(0, |header| header.revision);
        }
    }
    let streams: Vec<_> = (0..session.positive("streams")? as usize)
        .map(|at| clients[at % clients.len()].with_watch_stream())
        .collect();
    let watchers = session.number("watchers")?;
    let progress = Progress::new(watchers * events);
    let measured = Watch::start();
    let mut tasks = JoinSet::new();
    for number in 0..watchers as usize {
        let (client, progress) = (streams[number % streams.len()].clone(), progress.clone());
        tasks.spawn(async move {
            let mut watcher = client.watch(KEY).start_revision(first).await?;
            let mut heard = 0;
            while heard < events {
                let Some(response) = watcher.next().await else { break };
                let count = response?.events.len() as u64;
                heard += count;
                progress.add(count);
            }
            Ok::<_, client::Error>(())
        });
    }
    let mut record = Record::new(session.samples());
    let watching = async {
        while let Some(task) = tasks.join_next().await {
            task.map_err(Failure::new)?.map_err(Failure::new)?;
        }
        Ok::<_, Failure>(())
    };
    let reading = async {
        loop {
            let begun = Instant::now();
            match reader.get("abc").serializable().await {
                Ok(_) => record.add(begun.elapsed()),
                Err(why) => record.add_error(&why),
            }
        }
    };
    let both = async {
        tokio::select! {
            biased;
            ended = watching => ended,
            () = reading => Ok(()),
        }
    };
    progress.until(both).await?;
    session.report("Get during watch summary:\n", "watch-get", &measured.stop(record));
    Ok(())
}
