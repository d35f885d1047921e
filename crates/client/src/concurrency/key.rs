//! Keys that stand for somebody, and waiting for them to go.

use std::time::{SystemTime, UNIX_EPOCH};

use api::mvccpb::event::EventType;
use bytes::Bytes;

use super::Session;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::op::{Compare, Comparison, Delete, Put};
use crate::watch::{Event, Watch, Watcher};
use crate::{GetResponse, SortTarget};

/// The revision in the header of an answer.
pub(super) fn revision(header: Option<&crate::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// The name of a lease in keys: its id in hexadecimal, as Go prints it.
pub(super) fn lease_name(id: i64) -> String {
    if id < 0 { format!("-{:x}", id.unsigned_abs()) } else { format!("{id:x}") }
}

/// Waits for an event of this kind, and returns it.
pub(super) async fn wait_event(watch: Watch, kind: EventType) -> Result<Event> {
    let mut watcher: Watcher = watch.await?;
    while let Some(response) = watcher.next().await {
        let found = response?.events.into_iter().find(|event| event.r#type() == kind);
        if let Some(event) = found {
            return Ok(event);
        }
    }
    Err(Error::Unexpected("lost watcher waiting for an event"))
}

/// Waits until all keys with this prefix that were created up to a revision are gone. Waits for the youngest of
/// them, so that of many who wait each wakes but one.
pub(super) async fn wait_deletes(
    client: &Client,
    prefix: &str,
    create_revision: i64,
) -> Result<()> {
    loop {
        let youngest = client.get(prefix).last_by(SortTarget::Create);
        let answer: GetResponse = youngest.max_create_revision(create_revision).await?;
        let Some(kv) = answer.kvs.first() else { return Ok(()) };
        let since = revision(answer.header.as_ref());
        let watch = client.watch(kv.key.clone()).start_revision(since);
        wait_event(watch, EventType::Delete).await?;
    }
}

/// Puts a key that must not be there, and returns the revision.
pub(super) async fn put_new(
    client: &Client,
    key: &[u8],
    value: impl Into<Vec<u8>>,
    lease: i64,
) -> Result<i64> {
    let answer = client
        .txn()
        .when(Compare::version(key, Comparison::Equal, 0))
        .then(Put::new(key, value).lease(lease))
        .await?;
    if answer.succeeded { Ok(revision(answer.header.as_ref())) } else { Err(Error::KeyExists) }
}

/// Puts a key behind the prefix that nobody has: named after the time, in nanoseconds.
pub(super) async fn put_unique(
    client: &Client,
    prefix: &str,
    value: impl Into<Vec<u8>>,
    lease: i64,
) -> Result<(Bytes, i64)> {
    let value = value.into();
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let key = Bytes::from(format!("{prefix}/{}", now.as_nanos()));
        match put_new(client, &key, value.clone(), lease).await {
            Ok(revision) => return Ok((key, revision)),
            Err(Error::KeyExists) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Deletes a key if nobody has changed it since, and says whether it did.
pub(super) async fn delete_at(client: &Client, key: &Bytes, mod_revision: i64) -> Result<bool> {
    let unchanged = Compare::mod_revision(key.clone(), Comparison::Equal, mod_revision);
    let answer = client.txn().when(unchanged).then(Delete::new(key.clone())).await?;
    Ok(answer.succeeded)
}

/// Deletes a key when it is dropped, unless it is kept: somebody has given up waiting.
#[derive(Debug)]
pub(super) struct GivenUp {
    client: Client,
    key: Option<Bytes>,
}

impl GivenUp {
    /// Without a key nothing is deleted.
    pub(super) fn new(session: &Session, key: Option<Bytes>) -> Self {
        Self { client: session.client().clone(), key }
    }

    pub(super) fn keep(mut self) {
        self.key = None;
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        if let (Some(key), Ok(runtime)) = (self.key.take(), runtime) {
            let client = self.client.clone();
            // Without an answer the key ends with its lease.
            runtime.spawn(async move { client.delete(key).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::lease_name;

    #[test]
    fn leases_are_named_as_in_go() {
        assert_eq!(lease_name(0x694d), "694d");
        assert_eq!(lease_name(-1), "-1");
    }
}
