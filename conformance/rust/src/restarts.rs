//! A watch and a lease while the server stops, is killed, and comes back. The crate's streams end with the connection; who
//! uses them begins again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Client, Error, GetOptions, PutOptions, SortOrder, SortTarget, WatchOptions};

use crate::server::Server;
use crate::{Failure, equal, fail};

const PREFIX: &str = "restarts/";
/// How many writes are acknowledged between one restart and the next.
const WRITES: usize = 20;

/// Keys and their revisions.
type Rows = Vec<(Vec<u8>, i64)>;

/// What the tasks of the case share.
#[derive(Debug, Default)]
struct Shared {
    end: AtomicBool,
    acknowledged: AtomicUsize,
    seen: Mutex<Rows>,
    /// How many watches have ended.
    ended: AtomicUsize,
}

impl Shared {
    fn seen(&self) -> Rows {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) async fn watch_and_lease(
    mut client: Client,
    server: &mut Server,
) -> Result<(), Failure> {
    let lease = client.lease_grant(60, None).await.map_err(fail)?.id();
    let options = PutOptions::new().with_lease(lease);
    let put = client.put("restarts-lease", "v", Some(options)).await.map_err(fail)?;
    let first = put.header().ok_or("no header")?.revision() + 1;
    let shared = Arc::new(Shared::default());
    let writer = tokio::spawn(write(client.clone(), Arc::clone(&shared)));
    let watcher = tokio::spawn(watch(client.clone(), Arc::clone(&shared), first));
    let result = restart_twice(server, &shared).await;
    shared.end.store(true, Ordering::Relaxed);
    writer.await.map_err(|err| err.to_string())?;
    result?;

    let options = GetOptions::new().with_prefix().with_sort(SortTarget::Mod, SortOrder::Ascend);
    let range = client.get(PREFIX, Some(options)).await.map_err(fail)?;
    let rows: Rows = range.kvs().iter().map(|kv| (kv.key().to_vec(), kv.mod_revision())).collect();
    while shared.seen().len() < rows.len() {
        pause().await;
    }
    watcher.abort();
    equal("every event once, in order", shared.seen(), rows)?;
    equal("watches that ended", shared.ended.load(Ordering::Relaxed) >= 2, true)?;
    let (mut keeper, mut stream) = client.lease_keep_alive(lease).await.map_err(fail)?;
    keeper.keep_alive().await.map_err(fail)?;
    let renewed = stream.message().await.map_err(fail)?.ok_or("the stream ended")?;
    equal("renewed", renewed.ttl(), 60)?;
    equal("its key", client.get("restarts-lease", None).await.map_err(fail)?.count(), 1)
}

async fn restart_twice(server: &mut Server, shared: &Shared) -> Result<(), Failure> {
    all_seen(shared).await;
    blocking(|| server.stop().and_then(|()| server.start_again()))?;
    all_seen(shared).await;
    blocking(|| server.kill().and_then(|()| server.start_again()))?;
    all_seen(shared).await;
    Ok(())
}

/// Waits for some more writes, and for as many events as there are writes by then.
async fn all_seen(shared: &Shared) {
    let target = shared.acknowledged.load(Ordering::Relaxed) + WRITES;
    while shared.acknowledged.load(Ordering::Relaxed) < target {
        pause().await;
    }
    let target = shared.acknowledged.load(Ordering::Relaxed);
    while shared.seen().len() < target {
        pause().await;
    }
}

/// Writes one key after the other. A write that failed is not tried again, and may have taken effect.
async fn write(mut client: Client, shared: Arc<Shared>) {
    for number in 0.. {
        if shared.end.load(Ordering::Relaxed) {
            return;
        }
        match client.put(format!("{PREFIX}{number}"), "v", None).await {
            Ok(_) => shared.acknowledged.fetch_add(1, Ordering::Relaxed),
            Err(_) => {
                pause().await;
                continue;
            }
        };
    }
}

/// Watches, and begins again behind the last event each time that the stream ends.
async fn watch(client: Client, shared: Arc<Shared>, first: i64) {
    loop {
        let from = shared.seen().last().map_or(first, |(_, revision)| revision + 1);
        if watch_from(client.clone(), &shared, from).await.is_err() {
            pause().await;
        }
    }
}

async fn watch_from(mut client: Client, shared: &Shared, from: i64) -> Result<(), Error> {
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let mut stream = client.watch(PREFIX, Some(options)).await?;
    while let Ok(Some(response)) = stream.message().await {
        let rows = response.events().iter().filter_map(etcd_client::Event::kv);
        let rows = rows.map(|kv| (kv.key().to_vec(), kv.mod_revision()));
        shared.seen.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
    }
    shared.ended.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

/// Other tasks go on beside what blocks.
fn blocking(work: impl FnOnce() -> std::io::Result<()>) -> Result<(), Failure> {
    tokio::task::block_in_place(work).map_err(|err| err.to_string())
}
