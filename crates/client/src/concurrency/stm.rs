//! Transactions that are written as programs: run against what was read, and again if that has changed meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::etcdserverpb::response_op::Response;
use bytes::Bytes;

use super::key::revision;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::op::{Compare, Comparison, Delete, Get, GetResponse, Op, Put, Txn, TxnResponse};

/// What a transaction sees of others, from the strictest on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// As [`Isolation::Serializable`], and nobody else has written what it writes.
    #[default]
    SerializableSnapshot,
    /// All reads are of one revision, and nothing of it has changed when it is committed.
    Serializable,
    /// What is read twice is the same, and has not changed when it is committed.
    RepeatableReads,
    /// What is read was committed at some time.
    ReadCommitted,
}

/// Runs transactions that are programs.
///
/// ```
/// # async fn example(client: client::Client) -> client::Result<()> {
/// use client::concurrency::Stm;
///
/// let count = |value: Option<bytes::Bytes>| {
///     value.and_then(|value| std::str::from_utf8(&value).ok()?.parse::<u64>().ok()).unwrap_or(0)
/// };
/// // Runs again for as long as others are quicker.
/// Stm::new(&client)
///     .run(|txn| async move {
///         let visits = count(txn.get("visits").await?);
///         txn.put("visits", (visits + 1).to_string());
///         Ok(())
///     })
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Stm {
    client: Client,
    isolation: Isolation,
    prefetch: Vec<Bytes>,
}

impl Stm {
    /// With [`Isolation::SerializableSnapshot`].
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self { client: client.clone(), isolation: Isolation::default(), prefetch: Vec::new() }
    }

    /// With another isolation.
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Reads these keys at once before each run, since it will need them.
    #[must_use]
    pub fn prefetch<K: Into<Vec<u8>>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.prefetch.extend(keys.into_iter().map(|key| Bytes::from(key.into())));
        self
    }

    /// Runs `program`, and again as long as what it has read or written was changed by others meanwhile. Returns the
    /// answer by which it was committed.
    ///
    /// # Errors
    /// Those of `program`, which ends the transaction without a trace, and if a call fails.
    pub async fn run<F>(self, mut program: impl FnMut(StmTxn) -> F) -> Result<TxnResponse>
    where
        F: Future<Output = Result<()>>,
    {
        let mut known = BTreeMap::new();
        loop {
            let state = Mutex::new(State { known, ..State::default() });
            let (client, isolation) = (self.client.clone(), self.isolation);
            let txn = StmTxn(Arc::new(Shared { client, isolation, state }));
            txn.fetch(&self.prefetch).await?;
            program(txn.clone()).await?;
            known = match txn.commit().await? {
                Ok(answer) => return Ok(answer),
                Err(found) => found,
            };
        }
    }
}

/// A transaction under way. Clones are the same one.
#[derive(Clone, Debug)]
pub struct StmTxn(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    isolation: Isolation,
    /// A lock, since a program may read several keys at a time; it is held for a look only.
    state: Mutex<State>,
}

/// What a run has read and will write.
#[derive(Debug, Default)]
struct State {
    reads: BTreeMap<Bytes, GetResponse>,
    writes: BTreeMap<Bytes, Op>,
    /// What the last run found at its end, all of one revision.
    known: BTreeMap<Bytes, GetResponse>,
    /// The revision of the first read, at which all others are made.
    base: Option<i64>,
}

impl StmTxn {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of a key as this transaction sees it.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<Bytes>> {
        let key = Bytes::from(key.into());
        match self.state().writes.get(&key) {
            Some(Op::Put(put)) => return Ok(Some(put.request.value.clone())),
            Some(_) => return Ok(None),
            None => {}
        }
        self.fetch(std::slice::from_ref(&key)).await?;
        let state = self.state();
        let found = state.reads.get(&key).and_then(|answer| answer.kvs.first());
        Ok(found.map(|kv| kv.value.clone()))
    }

    /// The revision at which a key was last changed before this transaction; 0 if it isn't there.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn revision(&self, key: impl Into<Vec<u8>>) -> Result<i64> {
        let key = Bytes::from(key.into());
        self.fetch(std::slice::from_ref(&key)).await?;
        Ok(self.state().reads.get(&key).map_or(0, mod_revision))
    }

    /// Sets a key, if the transaction is committed.
    pub fn put(&self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.put_with(Put::new(key, value));
    }

    /// Sets a key with options, if the transaction is committed.
    pub fn put_with(&self, put: Put) {
        self.state().writes.insert(put.request.key.clone(), put.into());
    }

    /// Deletes a key, if the transaction is committed.
    pub fn delete(&self, key: impl Into<Vec<u8>>) {
        let delete = Delete::new(key);
        self.state().writes.insert(delete.request.key.clone(), delete.into());
    }

    fn is_serializable(&self) -> bool {
        matches!(self.0.isolation, Isolation::SerializableSnapshot | Isolation::Serializable)
    }

    /// Reads keys that were not read yet.
    async fn fetch(&self, keys: &[Bytes]) -> Result<()> {
        let (missing, base) = self.state().missing(keys);
        if missing.is_empty() {
            return Ok(());
        }
        let get = |key: &Bytes| {
            let get = Get::new(key.clone());
            match (self.is_serializable(), base) {
                (true, Some(base)) => get.revision(base).serializable(),
                (true, None) => get,
                (false, _) => get.serializable(),
            }
        };
        let mut txn: Txn<Client> = self.0.client.txn();
        for key in &missing {
            txn = txn.then(get(key));
        }
        let answer = txn.await?;
        let mut state = self.state();
        state.base = state.base.or(Some(revision(answer.header.as_ref())));
        for (key, range) in ranges(missing, answer)? {
            // What was read first stays, if it was read twice at a time.
            state.reads.entry(key).or_insert(range);
        }
        Ok(())
    }

    /// Commits, or finds that it must run again, and what has changed.
    async fn commit(&self) -> Result<Result<TxnResponse, BTreeMap<Bytes, GetResponse>>> {
        let mut txn = self.0.client.txn();
        let mut again: Vec<Bytes> = Vec::new();
        {
            let state = self.state();
            for condition in state.conditions(self.0.isolation) {
                txn = txn.when(condition);
            }
            for write in state.writes.values() {
                txn = txn.then(write.clone());
            }
            if self.is_serializable() {
                again.extend(state.reads.keys().cloned());
            }
        }
        for key in &again {
            txn = txn.otherwise(Get::new(key.clone()));
        }
        let answer = txn.await?;
        if answer.succeeded {
            return Ok(Ok(answer));
        }
        Ok(Err(ranges(again, answer)?.into_iter().collect()))
    }
}

impl State {
    /// Those that were not read yet, and the revision to read them at.
    fn missing(&mut self, keys: &[Bytes]) -> (Vec<Bytes>, Option<i64>) {
        for key in keys {
            if let Some(known) = self.known.remove(key) {
                self.base = self.base.or(Some(revision(known.header.as_ref())));
                self.reads.insert(key.clone(), known);
            }
        }
        let missing = keys.iter().filter(|key| !self.reads.contains_key(*key));
        (missing.cloned().collect(), self.base)
    }

    /// What must hold when it is committed.
    fn conditions(&self, isolation: Isolation) -> Vec<Compare> {
        if isolation == Isolation::ReadCommitted {
            return Vec::new();
        }
        let equal = |(key, answer): (&Bytes, &GetResponse)| {
            Compare::mod_revision(key.clone(), Comparison::Equal, mod_revision(answer))
        };
        let mut conditions: Vec<Compare> = self.reads.iter().map(equal).collect();
        let first = self.reads.values().map(|answer| revision(answer.header.as_ref())).min();
        if let (Isolation::SerializableSnapshot, Some(first)) = (isolation, first) {
            conditions.extend(self.writes.keys().map(|key| {
                Compare::mod_revision(key.clone(), Comparison::Less, first.saturating_add(1))
            }));
        }
        conditions
    }
}

/// The answers to reads of these keys.
fn ranges(keys: Vec<Bytes>, answer: TxnResponse) -> Result<Vec<(Bytes, GetResponse)>> {
    let mut found = Vec::with_capacity(keys.len());
    for (key, op) in keys.into_iter().zip(answer.responses) {
        let Some(Response::ResponseRange(range)) = op.response else {
            return Err(Error::Unexpected("the answer to another operation"));
        };
        found.push((key, range));
    }
    Ok(found)
}

fn mod_revision(answer: &GetResponse) -> i64 {
    answer.kvs.first().map_or(0, |kv| kv.mod_revision)
}
