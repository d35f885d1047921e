//! Watches.

use etcd_client::{Client, EventType, WatchFilterType, WatchOptions, WatchResponse, WatchStream};

use crate::{Failure, equal, fail};

async fn next(stream: &mut WatchStream) -> Result<WatchResponse, Failure> {
    stream.message().await.map_err(fail)?.ok_or_else(|| "the stream ended".to_owned())
}

async fn created(stream: &mut WatchStream) -> Result<i64, Failure> {
    let response = next(stream).await?;
    equal("created", (response.created(), response.canceled()), (true, false))?;
    Ok(response.watch_id())
}

/// Collects `count` events as text.
async fn events(stream: &mut WatchStream, count: usize) -> Result<Vec<String>, Failure> {
    let mut seen = Vec::new();
    while seen.len() < count {
        for event in next(stream).await?.events() {
            let kv = event.kv().ok_or("an event without a key")?;
            let kind = if event.event_type() == EventType::Put { "put" } else { "delete" };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let previous =
                event.prev_kv().map_or_else(String::new, |kv| format!(" was {}", text(kv.value())));
            seen.push(format!("{kind} {} {}{previous}", text(kv.key()), text(kv.value())));
        }
    }
    Ok(seen)
}

pub(crate) async fn live(mut client: Client) -> Result<(), Failure> {
    let options = WatchOptions::new().with_prefix();
    let mut stream = client.watch("w/", Some(options)).await.map_err(fail)?;
    let id = created(&mut stream).await?;
    client.put("w/a", "1", None).await.map_err(fail)?;
    client.put("x", "1", None).await.map_err(fail)?;
    client.delete("w/a", None).await.map_err(fail)?;
    equal("events", events(&mut stream, 2).await?.join(", ").as_str(), "put w/a 1, delete w/a ")?;
    stream.request_progress().await.map_err(fail)?;
    let progress = next(&mut stream).await?;
    equal("progress", (progress.watch_id(), progress.events().len()), (-1, 0))?;
    stream.cancel(id).await.map_err(fail)?;
    let last = next(&mut stream).await?;
    equal("canceled", (last.watch_id(), last.canceled()), (id, true))
}

pub(crate) async fn past(mut client: Client) -> Result<(), Failure> {
    let put = client.put("p/a", "1", None).await.map_err(fail)?;
    let first = put.header().ok_or("no header")?.revision();
    client.put("p/a", "2", None).await.map_err(fail)?;
    client.delete("p/a", None).await.map_err(fail)?;
    let options = WatchOptions::new().with_start_revision(first);
    let mut stream = client.watch("p/a", Some(options)).await.map_err(fail)?;
    created(&mut stream).await?;
    let seen = events(&mut stream, 3).await?.join(", ");
    equal("events", seen.as_str(), "put p/a 1, put p/a 2, delete p/a ")
}

pub(crate) async fn filters(mut client: Client) -> Result<(), Failure> {
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut all = client.watch("f/", Some(options)).await.map_err(fail)?;
    created(&mut all).await?;
    let options = WatchOptions::new().with_prefix().with_filters([WatchFilterType::NoPut]);
    let mut deletes = client.watch("f/", Some(options)).await.map_err(fail)?;
    created(&mut deletes).await?;
    client.put("f/a", "1", None).await.map_err(fail)?;
    client.put("f/a", "2", None).await.map_err(fail)?;
    client.delete("f/a", None).await.map_err(fail)?;
    let seen = events(&mut all, 3).await?.join(", ");
    equal("all", seen.as_str(), "put f/a 1, put f/a 2 was 1, delete f/a  was 2")?;
    equal("deletes", events(&mut deletes, 1).await?.join(", ").as_str(), "delete f/a ")
}

pub(crate) async fn many(mut client: Client) -> Result<(), Failure> {
    const WATCHES: i64 = 200;
    let options = |id| Some(WatchOptions::new().with_watch_id(id));
    let mut stream = client.watch("n/1", options(1)).await.map_err(fail)?;
    equal("chosen id", created(&mut stream).await?, 1)?;
    for id in 2..=WATCHES {
        stream.watch(format!("n/{id}"), options(id)).await.map_err(fail)?;
        equal("chosen id", created(&mut stream).await?, id)?;
    }
    for id in 1..=WATCHES {
        client.put(format!("n/{id}"), "v", None).await.map_err(fail)?;
        let response = next(&mut stream).await?;
        equal("watch", (response.watch_id(), response.events().len()), (id, 1))?;
    }
    Ok(())
}

pub(crate) async fn compacted(mut client: Client) -> Result<(), Failure> {
    let put = client.put("o/a", "1", None).await.map_err(fail)?;
    let first = put.header().ok_or("no header")?.revision();
    let put = client.put("o/a", "2", None).await.map_err(fail)?;
    let second = put.header().ok_or("no header")?.revision();
    client.compact(second, None).await.map_err(fail)?;
    let options = WatchOptions::new().with_start_revision(first);
    let mut stream = client.watch("o/a", Some(options)).await.map_err(fail)?;
    created(&mut stream).await?;
    let response = next(&mut stream).await?;
    equal("canceled", response.canceled(), true)?;
    equal("compact revision", response.compact_revision(), second)
}
