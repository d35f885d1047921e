//! `put` and `txn-put`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use client::{Client, Put};
use cobra::go;
use tokio::time::sleep;

use crate::keys;
use crate::load::drive;
use crate::session::{Failure, Session, print};

/// Before a compaction is given up.
const COMPACT_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn put(session: &Session) -> Result<(), Failure> {
    let space = session.positive("key-space-size")?;
    let (key_size, value) = (session.size("key-size")?, session.size("val-size")?);
    let value = keys::random(value);
    let is_sequential = session.input.bool("sequential-keys");
    let amount = session.amount("total", "rate")?;
    let clients = session.clients().await?;
    let compacting = compact(session, clients.first())?;
    let load = drive(&clients, amount, session.samples(), move |client: Client, number| {
        let key = keys::key(keys::pick(number, space, is_sequential), key_size);
        let put = client.put(key, value.clone());
        async move { put.await.map(drop) }
    });
    let report = tokio::select! {
        report = load => report?,
        Err(why) = compacting => return Err(why),
    };
    session.report("", "put", &report);
    if session.input.bool("check-hashkv") {
        hash_kv(session, clients.first()).await?;
    }
    Ok(())
}

/// Compacts from time to time, if that is wanted; ends only if it cannot.
fn compact(
    session: &Session,
    client: Option<&Client>,
) -> Result<impl Future<Output = Result<(), Failure>> + use<>, Failure> {
    let interval = u64::try_from(session.input.nanos("compact-interval")).unwrap_or(0);
    let delta = session.number("compact-index-delta")?;
    let client = client.map(|client| client.with_timeout(COMPACT_TIMEOUT));
    Ok(async move {
        let Some(client) = client.filter(|_| interval > 0) else {
            return std::future::pending().await;
        };
        loop {
            sleep(Duration::from_nanos(interval)).await;
            let answer = client.get("foo").await.map_err(Failure::new)?;
            let revision = answer.header.map_or(0, |header| header.revision);
            let revision = revision.saturating_sub_unsigned(delta).max(0);
            match client.compact(revision, false).await {
                // There was nothing new.
                Ok(_) | Err(client::Error::Etcd(_)) => {}
                Err(why) => return Err(Failure::new(why)),
            }
        }
    })
}

async fn hash_kv(session: &Session, client: Option<&Client>) -> Result<(), Failure> {
    let endpoint = session.input.list("endpoints").first().cloned().unwrap_or_default();
    let endpoint = endpoint.trim();
    let Some(client) = client else { return Ok(()) };
    let begun = Instant::now();
    let hash = client.hash_kv(endpoint, 0).await;
    let hash = hash.map_err(|e| {
        Failure::new(format!("Failed to get the hashkv of endpoint {endpoint} ({e})"))
    })?;
    let took = begun.elapsed();
    let status = client.status(endpoint).await;
    let status = status.map_err(|e| {
        Failure::new(format!("Failed to get the status of endpoint {endpoint} ({e})"))
    })?;
    let mut text = "HashKV Summary:\n".to_owned();
    let nanos = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
    let _ = writeln!(text, "\tHashKV: {}", hash.hash);
    let _ = writeln!(text, "\tEndpoint: {endpoint}");
    let _ = writeln!(text, "\tTime taken to get hashkv: {}", go::duration(nanos));
    let _ = writeln!(text, "\tDB size: {}", bytes(status.db_size));
    print(&text);
    Ok(())
}

/// As go-humanize writes a size.
fn bytes(size: i64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut size, mut unit) = (size as f64, 0);
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    if unit > 0 && size < 10.0 {
        format!("{size:.1} {}", UNITS[unit])
    } else {
        format!("{size:.0} {}", UNITS[unit])
    }
}

pub(crate) async fn txn_put(session: &Session) -> Result<(), Failure> {
    let space = session.positive("key-space-size")?;
    let (key_size, value) = (session.size("key-size")?, session.size("val-size")?);
    let value = keys::random(value);
    let ops = session.number("txn-ops")?;
    if ops > space {
        return Err(Failure::new(format!(
            "expected --txn-ops no larger than --key-space-size, got txn-ops({ops}) key-space-size({space})"
        )));
    }
    let amount = session.amount("total", "rate")?;
    let clients = session.clients().await?;
    let report = drive(&clients, amount, session.samples(), move |client: Client, number| {
        let puts = (0..ops).map(|n| {
            let key = keys::key((number * ops + n) % space, key_size);
            Put::new(key, value.clone())
        });
        let txn = puts.fold(client.txn(), |txn, put| txn.then(put));
        async move { txn.await.map(drop) }
    });
    session.report("", "txn-put", &report.await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (20_480, "20 kB"),
            (7_654_321, "7.7 MB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }
}
