//! Keys that are read again and again without asking: a cache that is never behind.
//!
//! Who reads a key takes a lease on it, which is a key of its own, and may then answer further reads by itself. Who
//! writes a key that somebody else has a lease on asks for it back first, and waits. So each read sees the last
//! write, as if all had gone to the cluster. It pays for keys that are read much and written seldom, and only if all
//! who write them go through a [`Leasing`] with the same prefix (Go programs through etcd's `leasing`).
//!
//! ```
//! # async fn example(client: client::Client) -> client::Result<()> {
//! use client::leasing::Leasing;
//!
//! let leasing = Leasing::new(&client, "leases/");
//! leasing.put("config", "1").await?;
//! for _ in 0..1000 {
//!     // The first of them asks the cluster.
//!     leasing.get("config").await?;
//! }
//! leasing.close().await?;
//! # Ok(()) }
//! ```

mod cache;

use std::sync::Arc;

use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::response_op::Response;
use api::etcdserverpb::{
    DeleteRangeRequest, RangeRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest,
};
use api::mvccpb::KeyValue;
use api::mvccpb::event::EventType;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::debug;

use crate::client::Client;
use crate::concurrency::Session;
use crate::error::{Error, Result};
use crate::op::{
    Compare, Comparison, Delete, Get, GetResponse, Kv, NO_END, Op, OpResponse, Put, Txn,
    TxnResponse,
};
use cache::{Cache, Held};

/// What is written to the lease of a key by who wants it back.
const REVOKE: &str = "REVOKE";

/// The lifetime of leases without a sign of life, in seconds (that of sessions).
const TTL_S: i64 = 60;

/// A client whose reads are answered here where that is as good. Clones share what is known.
#[derive(Clone, Debug)]
pub struct Leasing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keys: Arc<Keys>,
    session: watch::Receiver<Option<Session>>,
    keeper: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// What is known, and the way to the cluster.
#[derive(Debug)]
struct Keys {
    client: Client,
    prefix: Bytes,
    cache: Cache,
}

impl Leasing {
    /// With leases on keys under this prefix, which must be that of all who write the same keys.
    #[must_use]
    pub fn new(client: &Client, prefix: impl Into<Vec<u8>>) -> Self {
        let (client, prefix) = (client.clone(), prefix.into().into());
        let keys = Arc::new(Keys { client: client.clone(), prefix, cache: Cache::default() });
        let (sender, session) = watch::channel(None);
        let keeper = tokio::spawn(keep_session(Arc::clone(&keys), sender)).abort_handle();
        Self(Arc::new(Inner { keys, session, keeper }))
    }

    /// Reads a key. Ranges and earlier revisions are always asked for.
    pub fn get(&self, key: impl Into<Vec<u8>>) -> Get<Self> {
        Get::to(key, self.clone())
    }

    /// Sets a key.
    pub fn put(&self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Put<Self> {
        Put::to(key, value, self.clone())
    }

    /// Deletes a key, or a range of keys.
    pub fn delete(&self, key: impl Into<Vec<u8>>) -> Delete<Self> {
        Delete::to(key, self.clone())
    }

    /// Begins a transaction. Transactions are always sent.
    pub fn txn(&self) -> Txn<Self> {
        Txn::to(self.clone())
    }

    /// Gives all leases back, in all clones.
    ///
    /// # Errors
    /// If the call fails: the leases then end after their time.
    pub async fn close(self) -> Result<()> {
        self.0.keeper.abort();
        self.0.keys.cache.clear();
        let session = self.0.session.borrow().clone();
        match session {
            Some(session) => session.close().await,
            None => Ok(()),
        }
    }

    /// The session that holds the leases, as soon as there is one.
    async fn session(&self) -> Result<Session> {
        let mut session = self.0.session.clone();
        let found = session.wait_for(Option::is_some).await;
        found.ok().and_then(|session| session.clone()).ok_or(Error::SessionExpired)
    }

    async fn read(&self, get: Get) -> Result<GetResponse> {
        let Inner { keys, session, .. } = &*self.0;
        let request = &get.request;
        let session = session.borrow().clone().filter(|session| !session.is_done());
        let (Some(session), true) =
            (session, request.range_end.is_empty() && request.revision == 0)
        else {
            return keys.ask(get).await;
        };
        let ask = || keys.ask(Get::new(request.key.clone()));
        if let Some(answer) = keys.cache.get(request, ask).await {
            return answer;
        }
        if request.serializable || !keys.cache.may_acquire(&request.key) {
            return keys.ask(get).await;
        }
        keys.acquire(get.request, session.lease()).await
    }

    async fn write(&self, request: TxnRequest) -> Result<TxnResponse> {
        self.session().await?;
        self.0.keys.write(request).await
    }
}

impl Kv for Leasing {
    async fn execute(&self, op: Op) -> Result<OpResponse> {
        let txn = match op {
            Op::Get(get) => return Ok(OpResponse::Get(self.read(get).await?)),
            Op::Txn(txn) => return Ok(OpResponse::Txn(self.write(txn.request).await?)),
            Op::Put(_) | Op::Delete(_) => Txn::new().then(op),
        };
        let answer = self.write(txn.request).await?;
        let header = answer.header;
        match answer.responses.into_iter().next().and_then(|op| op.response) {
            Some(Response::ResponsePut(mut put)) => {
                put.header = header;
                Ok(OpResponse::Put(put))
            }
            Some(Response::ResponseDeleteRange(mut delete)) => {
                delete.header = header;
                Ok(OpResponse::Delete(delete))
            }
            _ => Err(Error::Unexpected("the answer to another operation")),
        }
    }
}

/// Begins a session, and another when it has ended: what was known is worth nothing then.
async fn keep_session(keys: Arc<Keys>, sender: watch::Sender<Option<Session>>) {
    loop {
        match keys.client.session().ttl(TTL_S).await {
            Ok(session) => {
                sender.send_replace(Some(session.clone()));
                session.done().await;
                sender.send_replace(None);
                keys.cache.clear();
            }
            Err(error) => {
                debug!(%error, "no session for leases on keys");
                tokio::time::sleep(cache::RETRY_WAIT).await;
            }
        }
    }
}

impl Keys {
    fn lease_key(&self, key: &[u8]) -> Bytes {
        [&self.prefix, key].concat().into()
    }

    /// The leases on the keys of a range, as a range.
    fn lease_range(&self, key: &[u8], range_end: &[u8]) -> (Bytes, Bytes) {
        let end = match range_end {
            [] => Bytes::new(),
            NO_END => crate::op::prefix_end(&self.prefix),
            end => self.lease_key(end),
        };
        (self.lease_key(key), end)
    }

    async fn ask(&self, get: Get) -> Result<GetResponse> {
        Get { request: get.request, to: self.client.clone() }.await
    }

    /// Reads a key and takes a lease on it, if nobody has one.
    async fn acquire(self: &Arc<Self>, request: RangeRequest, lease: i64) -> Result<GetResponse> {
        let (key, lease_key) = (request.key.clone(), self.lease_key(&request.key));
        // What is known must not depend on what is asked for this time.
        let get = || Get::new(key.clone());
        let answer: TxnResponse = self
            .client
            .txn()
            .when(Compare::create_revision(lease_key.clone(), Comparison::Equal, 0))
            .when(Compare::lease(key.clone(), Comparison::Equal, 0))
            .then(get())
            .then(Put::new(lease_key.clone(), "").lease(lease))
            .otherwise(get())
            .otherwise(Get::new(lease_key))
            .await?;
        let header = answer.header.unwrap_or_default();
        let mut ranges = answer.responses.into_iter().map(|op| match op.response {
            Some(Response::ResponseRange(range)) => range,
            _ => GetResponse::default(),
        });
        let mut found = ranges.next().unwrap_or_default();
        let holder = ranges.next().and_then(|range| range.kvs.into_iter().next());
        let is_ours = |holder: KeyValue| holder.lease == lease && holder.value.is_empty();
        found.header = Some(header);
        let shown = cache::select(&found, &request);
        if answer.succeeded || holder.is_some_and(is_ours) {
            self.cache.add(key.clone(), found, header.revision);
            tokio::spawn(monitor(Arc::clone(self), key, header.revision));
        }
        Ok(shown)
    }

    /// Sends a transaction on the condition that nobody else has leases on what it writes.
    ///
    /// DIFF(etcd): a write is sent once, also on a key without a lease, and is not repeated after a failure.
    async fn write(&self, request: TxnRequest) -> Result<TxnResponse> {
        let mut writes = Vec::new();
        gather(&request.success, &mut writes);
        gather(&request.failure, &mut writes);
        loop {
            // Nobody is to read here what changes there.
            let held = self.cache.hold(&writes).await;
            let mut txn = self.client.txn();
            for (key, range_end) in &writes {
                txn = txn.when(self.unleased(key, range_end, &held));
                let (start, end) = self.lease_range(key, range_end);
                txn = txn.otherwise(if end.is_empty() {
                    Get::new(start)
                } else {
                    Get::new(start).range(end)
                });
            }
            let user = Op::Txn(Txn { request: request.clone(), to: () });
            let answer = match txn.then(user).await {
                Ok(answer) if answer.succeeded => {
                    Cache::release(held);
                    answer
                }
                Ok(refused) => {
                    self.cache.forget(held);
                    self.revoke_all(refused).await?;
                    continue;
                }
                Err(error) => {
                    // Nobody knows what has happened.
                    Cache::release(held);
                    return Err(error);
                }
            };
            let Some(ResponseOp { response: Some(Response::ResponseTxn(mut inner)) }) =
                answer.responses.into_iter().next()
            else {
                return Err(Error::Unexpected("the answer to another operation"));
            };
            inner.header = answer.header;
            return Ok(inner);
        }
    }

    /// Asks for all leases that were in the way.
    async fn revoke_all(&self, refused: TxnResponse) -> Result<()> {
        for op in refused.responses {
            let Some(Response::ResponseRange(range)) = op.response else { continue };
            for holder in range.kvs {
                self.revoke(&holder).await?;
            }
        }
        Ok(())
    }

    /// The condition that the leases on these keys are none but those known here.
    fn unleased(&self, key: &Bytes, range_end: &Bytes, held: &[Held]) -> Compare {
        let (start, end) = self.lease_range(key, range_end);
        let known = if end.is_empty() {
            held.iter().find(|held| held.key == *key).map_or(0, |held| held.revision)
        } else {
            // One revision must do for all of them: only without any is it sure to be.
            0
        };
        let condition = Compare::create_revision(start, Comparison::Less, known.saturating_add(1));
        if end.is_empty() { condition } else { condition.range(end) }
    }

    /// Asks the holder of a lease to give it back, and waits until it has.
    async fn revoke(&self, holder: &KeyValue) -> Result<()> {
        let same =
            Compare::create_revision(holder.key.clone(), Comparison::Equal, holder.create_revision);
        let ask = Put::new(holder.key.clone(), REVOKE).ignore_lease();
        let answer = self.client.txn().when(same).then(ask).await?;
        if !answer.succeeded {
            return Ok(());
        }
        let since = answer.header.map_or(0, |header| header.revision).saturating_add(1);
        let mut watcher = self.client.watch(holder.key.clone()).start_revision(since).await?;
        while let Some(response) = watcher.next().await {
            if response?.events.iter().any(|event| event.r#type() == EventType::Delete) {
                return Ok(());
            }
        }
        Err(Error::Unexpected("lost watcher waiting for a lease on a key"))
    }

    /// Gives a lease back that was asked for at this revision.
    async fn rescind(&self, key: &Bytes, revision: i64) {
        if self.cache.evict(key) > revision {
            return;
        }
        let lease_key = self.lease_key(key);
        loop {
            let older = Compare::create_revision(lease_key.clone(), Comparison::Less, revision);
            let txn = self.client.txn().when(older).then(Delete::new(lease_key.clone()));
            match txn.await {
                Ok(_) => return,
                Err(error) => debug!(%error, "a lease on a key is not given back yet"),
            }
            tokio::time::sleep(cache::RETRY_WAIT).await;
        }
    }
}

/// Gives a lease back when somebody asks for it; ends when it is gone.
async fn monitor(keys: Arc<Keys>, key: Bytes, mut revision: i64) {
    let lease_key = keys.lease_key(&key);
    loop {
        let watch = keys.client.watch(lease_key.clone()).start_revision(revision.saturating_add(1));
        if let Ok(mut watcher) = watch.await {
            while let Some(Ok(response)) = watcher.next().await {
                for event in response.events {
                    let mod_revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                    let is_asked = event.kv.as_ref().is_some_and(|kv| kv.value == REVOKE);
                    if event.r#type() == EventType::Delete {
                        keys.cache.evict_older(&key, mod_revision);
                        return;
                    }
                    if is_asked {
                        return keys.rescind(&key, mod_revision).await;
                    }
                }
            }
        }
        // Something may have been missed: what is known is not worth anything until it is asked for again.
        keys.cache.evict_older(&key, i64::MAX);
        match keys.client.get(lease_key.clone()).await {
            Ok(answer) => {
                revision = answer.header.map_or(0, |header: ResponseHeader| header.revision);
                match answer.kvs.first() {
                    Some(kv) if kv.value == REVOKE => return keys.rescind(&key, revision).await,
                    Some(_) => {}
                    None => return,
                }
            }
            Err(_) => tokio::time::sleep(cache::RETRY_WAIT).await,
        }
    }
}

/// What operations write: keys with the ends of their ranges.
fn gather(ops: &[RequestOp], writes: &mut Vec<(Bytes, Bytes)>) {
    for op in ops {
        match &op.request {
            Some(Request::RequestPut(put)) => writes.push((put.key.clone(), Bytes::new())),
            Some(Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, .. })) => {
                writes.push((key.clone(), range_end.clone()));
            }
            Some(Request::RequestTxn(txn)) => {
                gather(&txn.success, writes);
                gather(&txn.failure, writes);
            }
            Some(Request::RequestRange(_)) | None => {}
        }
    }
}
