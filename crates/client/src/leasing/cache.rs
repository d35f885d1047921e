//! What is known of keys on which there is a lease.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::etcdserverpb::RangeRequest;
use api::mvccpb::KeyValue;
use bytes::Bytes;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::time::Instant;

use crate::error::Result;
use crate::op::{GetResponse, NO_END};

/// How long no lease is taken on a key that somebody else wanted to write (clientv3's).
const REVOKE_WAIT: Duration = Duration::from_secs(2);

/// The wait before a call about leases is repeated.
pub(super) const RETRY_WAIT: Duration = Duration::from_millis(100);

/// Keys that are known. A lock, since reads and writes come from any task; it is held for a look only.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Bytes, Arc<Entry>>,
    /// When a lease was last given back.
    revoked: BTreeMap<Bytes, Instant>,
}

/// A key on which there is a lease.
#[derive(Debug)]
struct Entry {
    /// The revision at which it was known that the lease is held.
    revision: i64,
    /// Readers share it; whoever writes the key has it alone, and leaves nothing there.
    answer: Arc<RwLock<Option<GetResponse>>>,
}

/// A known key that nobody can read here.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) key: Bytes,
    pub(super) revision: i64,
    answer: OwnedRwLockWriteGuard<Option<GetResponse>>,
}

impl Cache {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn clear(&self) {
        self.state().entries.clear();
    }

    /// The answer, if there is a lease on the key; `ask` finds it out where it isn't known.
    pub(super) async fn get<F>(
        &self,
        request: &RangeRequest,
        ask: impl Fn() -> F,
    ) -> Option<Result<GetResponse>>
    where
        F: Future<Output = Result<GetResponse>>,
    {
        loop {
            let entry = Arc::clone(self.state().entries.get(&request.key)?);
            let known = entry.answer.read().await.as_ref().map(|known| select(known, request));
            // The lease may have been given back while this waited.
            if !self.is_current(&request.key, &entry) {
                continue;
            }
            if let Some(known) = known {
                return Some(Ok(known));
            }
            let mut answer = entry.answer.write().await;
            if answer.is_some() || !self.is_current(&request.key, &entry) {
                continue;
            }
            return Some(match ask().await {
                Ok(found) => Ok(select(answer.insert(found), request)),
                Err(error) => Err(error),
            });
        }
    }

    fn is_current(&self, key: &Bytes, entry: &Arc<Entry>) -> bool {
        self.state().entries.get(key).is_some_and(|current| Arc::ptr_eq(current, entry))
    }

    pub(super) fn add(&self, key: Bytes, answer: GetResponse, revision: i64) {
        let entry = Entry { revision, answer: Arc::new(RwLock::new(Some(answer))) };
        let mut state = self.state();
        let is_newer = state.entries.get(&key).is_none_or(|current| current.revision < revision);
        if is_newer {
            state.entries.insert(key, Arc::new(entry));
        }
    }

    /// Whether a lease may be taken: not right after somebody wanted to write.
    pub(super) fn may_acquire(&self, key: &Bytes) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        state.revoked.retain(|_, when| now.duration_since(*when) < REVOKE_WAIT);
        !state.revoked.contains_key(key)
    }

    /// Keeps readers away from what is to be written.
    pub(super) async fn hold(&self, writes: &[(Bytes, Bytes)]) -> Vec<Held> {
        let known: Vec<(Bytes, Arc<Entry>)> = {
            let state = self.state();
            let is_written = |key: &Bytes| {
                writes.iter().any(|(start, end)| match &**end {
                    [] => key == start,
                    NO_END => key >= start,
                    _ => key >= start && key < end,
                })
            };
            let entries = state.entries.iter().filter(|(key, _)| is_written(key));
            entries.map(|(key, entry)| (key.clone(), Arc::clone(entry))).collect()
        };
        // In the order of keys, so that no two writers wait for each other.
        let mut held = Vec::with_capacity(known.len());
        for (key, entry) in known {
            let answer = Arc::clone(&entry.answer).write_owned().await;
            held.push(Held { key, revision: entry.revision, answer });
        }
        held
    }

    /// What was held may be anything now; the leases stay.
    pub(super) fn release(held: Vec<Held>) {
        for mut held in held {
            *held.answer = None;
        }
    }

    /// The leases are not what they were taken for.
    pub(super) fn forget(&self, held: Vec<Held>) {
        for held in held {
            self.evict_older(&held.key, held.revision);
        }
    }

    /// Forgets what is known as of this revision or earlier.
    pub(super) fn evict_older(&self, key: &Bytes, revision: i64) {
        let mut state = self.state();
        if state.entries.get(key).is_some_and(|entry| entry.revision <= revision) {
            state.entries.remove(key);
        }
    }

    /// Forgets a key that somebody else wants to write, and returns the revision as of which it was known.
    pub(super) fn evict(&self, key: &Bytes) -> i64 {
        let mut state = self.state();
        state.revoked.insert(key.clone(), Instant::now());
        let entry = state.entries.remove(key);
        entry.map_or(0, |entry| entry.revision)
    }
}

/// What a read of one key shows of all that is known of it.
pub(super) fn select(known: &GetResponse, request: &RangeRequest) -> GetResponse {
    let is_within = |value: i64, min: i64, max: i64| value >= min && (max == 0 || value <= max);
    let is_wanted = |kv: &&KeyValue| {
        !request.count_only
            && is_within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
            && is_within(
                kv.create_revision,
                request.min_create_revision,
                request.max_create_revision,
            )
    };
    let shown = known.kvs.iter().filter(is_wanted).map(|kv| {
        let value = if request.keys_only { Bytes::new() } else { kv.value.clone() };
        KeyValue { value, ..kv.clone() }
    });
    GetResponse { kvs: shown.collect(), ..known.clone() }
}
