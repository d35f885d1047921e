//! Locks and elections, which the server has for clients that do not make their own.

use std::time::Duration;

use etcd_client::{Client, GetOptions, LockOptions, ObserveStream, ProclaimOptions, ResignOptions};

use crate::{Failure, equal, fail};

/// Waits until so many stand in the queue of a lock or an election.
async fn queued(client: &mut Client, name: &str, count: i64) -> Result<(), Failure> {
    loop {
        let options = GetOptions::new().with_prefix().with_count_only();
        if client.get(name, Some(options)).await.map_err(fail)?.count() == count {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn lease(client: &mut Client) -> Result<i64, Failure> {
    Ok(client.lease_grant(600, None).await.map_err(fail)?.id())
}

pub(crate) async fn locks(mut client: Client) -> Result<(), Failure> {
    let (first, second) = (lease(&mut client).await?, lease(&mut client).await?);
    let options = |lease| Some(LockOptions::new().with_lease(lease));
    let held = client.lock("lock", options(first)).await.map_err(fail)?;
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.lock("lock", options(second)).await });
    queued(&mut client, "lock", 2).await?;
    equal("it waits", waiting.is_finished(), false)?;
    client.unlock(held.key()).await.map_err(fail)?;
    let next = waiting.await.map_err(|err| err.to_string())?.map_err(fail)?;
    let owner = client.get(next.key(), None).await.map_err(fail)?;
    equal("its lease", owner.kvs().first().map(etcd_client::KeyValue::lease), Some(second))?;
    // A holder whose lease ends holds it no longer.
    client.lease_revoke(second).await.map_err(fail)?;
    let again = client.lock("lock", options(first)).await.map_err(fail)?;
    client.unlock(again.key()).await.map_err(fail)?;
    client.lease_revoke(first).await.map_err(fail).map(drop)
}

async fn observed(stream: &mut ObserveStream, value: &str) -> Result<(), Failure> {
    let leader = stream.message().await.map_err(fail)?.ok_or("the stream ended")?;
    equal("observed", leader.kv().map(etcd_client::KeyValue::value), Some(value.as_bytes()))
}

pub(crate) async fn elections(mut client: Client) -> Result<(), Failure> {
    let (first, second) = (lease(&mut client).await?, lease(&mut client).await?);
    let elected = client.campaign("election", "first", first).await.map_err(fail)?;
    let leader = elected.leader().ok_or("no leader")?.clone();
    equal("its lease", leader.lease(), first)?;
    let mut observer = client.observe("election").await.map_err(fail)?;
    observed(&mut observer, "first").await?;
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.campaign("election", "second", second).await });
    queued(&mut client, "election", 2).await?;
    let options = ProclaimOptions::new().with_leader(leader.clone());
    client.proclaim("first again", Some(options)).await.map_err(fail)?;
    observed(&mut observer, "first again").await?;
    equal("it waits", waiting.is_finished(), false)?;
    client.resign(Some(ResignOptions::new().with_leader(leader))).await.map_err(fail)?;
    let elected = waiting.await.map_err(|err| err.to_string())?.map_err(fail)?;
    equal("the next leader", elected.leader().map(etcd_client::LeaderKey::lease), Some(second))?;
    observed(&mut observer, "second").await?;
    let asked = client.leader("election").await.map_err(fail)?;
    equal("leader", asked.kv().map(etcd_client::KeyValue::value), Some(b"second".as_slice()))?;
    client.lease_revoke(first).await.map_err(fail)?;
    client.lease_revoke(second).await.map_err(fail).map(drop)
}
