//! The replicated part: which leases there are and what hangs on them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use backend::{Backend, Bucket};
use bytes::Bytes;
use mutant::mutant;

use crate::codec::{self, Stored};
use crate::primary::Primary;

/// The longest TTL that can be granted, in seconds: what fits into Go's nanoseconds.
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;

/// How a lessor behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The shortest TTL that is granted, in seconds: 1.5 times the election timeout, rounded up,
    /// so that a lease outlives the time without a leader.
    pub ttl_min: i64,
    /// How often the remaining TTL of long leases is recorded; `None` without the feature gate
    /// `LeaseCheckpoint`. etcd takes 5 minutes.
    pub checkpoint_interval: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { ttl_min: 2, checkpoint_interval: None }
    }
}

/// Why a lease was not granted or revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is a lease with this id.
    #[error("lease already exists")]
    Exists,
    /// The TTL is above [`LEASE_TTL_MAX`].
    #[error("too large lease TTL")]
    TtlTooLarge,
    /// There is no such lease; id 0 stands for "no lease".
    #[error("lease not found")]
    NotFound,
}

/// Why the leases could not be read; the caller stops the process.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The database is damaged or the disk failed.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// A row is not a lease.
    #[error("failed to Unmarshal lease proto item; lease ID={0}")]
    Damaged(String),
}

/// What is known of a lease's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// Whole seconds until it expires, rounded towards zero; negative when it is about to be
    /// revoked. `None` if this lessor is not the primary and cannot know.
    pub remaining: Option<i64>,
    /// Seconds that were granted.
    pub granted: i64,
}

/// A lease in memory.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) ttl: i64,
    /// As of the last checkpoint; 0 for none, which means the whole TTL.
    pub(crate) remaining_ttl: i64,
    /// When it expires; `None` while this lessor is not the primary.
    pub(crate) expiry: Option<Duration>,
    /// Its place in the primary's queue of expiries.
    pub(crate) wake_at: Option<Duration>,
    /// Its place in the primary's queue of checkpoints.
    pub(crate) checkpoint_at: Option<Duration>,
}

impl Lease {
    fn new(ttl: i64, remaining_ttl: i64) -> Self {
        Self { ttl, remaining_ttl, expiry: None, wake_at: None, checkpoint_at: None }
    }

    /// What a new primary counts from.
    pub(crate) fn initial_ttl(&self) -> i64 {
        if self.remaining_ttl > 0 { self.remaining_ttl } else { self.ttl }
    }

    fn stored(&self, id: i64) -> Bytes {
        let stored = Stored { id, ttl: self.ttl, remaining_ttl: self.remaining_ttl };
        stored.encode().into()
    }
}

/// All leases of a member.
#[derive(Debug)]
pub struct Lessor {
    pub(crate) options: Options,
    pub(crate) leases: BTreeMap<i64, Lease>,
    /// Lease and key. One ordered set for all leases: most have few keys, and a set each would be
    /// mostly empty nodes. Which lease a key has is kept with the key, in mvcc.
    attachments: BTreeSet<(i64, Box<[u8]>)>,
    /// `Some` on raft's leader.
    pub(crate) primary: Option<Primary>,
}

impl Lessor {
    /// A lessor, not primary, with the leases of the backend. The caller attaches the keys.
    ///
    /// # Errors
    /// If the database is damaged.
    pub fn restore(backend: &Backend, options: Options) -> Result<Self, RestoreError> {
        let mut leases = BTreeMap::new();
        let mut damaged = None;
        backend.reader().scan(Bucket::Lease, &[], &[], 0, |key, value| {
            match Stored::decode(value) {
                Some(stored) if stored.id < 0 && mutant!("12535") => ControlFlow::Continue(()),
                Some(stored) => {
                    let ttl = stored.ttl.max(options.ttl_min);
                    leases.insert(stored.id, Lease::new(ttl, stored.remaining_ttl));
                    ControlFlow::Continue(())
                }
                None => {
                    damaged = Some(key.iter().map(|byte| format!("{byte:02x}")).collect());
                    ControlFlow::Break(())
                }
            }
        })?;
        match damaged {
            Some(id) => Err(RestoreError::Damaged(id)),
            None => Ok(Self { options, leases, attachments: BTreeSet::new(), primary: None }),
        }
    }

    /// Grants a lease of `ttl` seconds, at least the minimum. Returns the seconds granted.
    ///
    /// # Errors
    /// See [`Error`]; nothing has changed then.
    pub fn grant(
        &mut self,
        backend: &mut Backend,
        id: i64,
        ttl: i64,
        now: Duration,
    ) -> Result<i64, Error> {
        if id == 0 {
            return Err(Error::NotFound);
        }
        if ttl > LEASE_TTL_MAX {
            return Err(Error::TtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(Error::Exists);
        }
        let lease = Lease::new(ttl.max(self.options.ttl_min), 0);
        let granted = lease.ttl;
        backend.put(Bucket::Lease, &codec::key(id), lease.stored(id));
        self.leases.insert(id, lease);
        self.refresh(id, Duration::ZERO, now);
        self.schedule_checkpoint(id, now);
        Ok(granted)
    }

    /// Removes a lease and returns its keys in order. The caller deletes them in the same batch of
    /// the backend, at one revision; they are detached already.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn revoke(&mut self, backend: &mut Backend, id: i64) -> Result<Vec<Bytes>, Error> {
        let lease = self.leases.remove(&id).ok_or(Error::NotFound)?;
        if let Some(primary) = &mut self.primary {
            primary.forget(id, &lease);
        }
        backend.delete(Bucket::Lease, &codec::key(id));
        let keys: Vec<_> = self.keys(id).map(Bytes::copy_from_slice).collect();
        for key in &keys {
            self.detach(id, key);
        }
        Ok(keys)
    }

    /// Hangs a key on a lease. Returns whether there is such a lease; if not, nothing happens.
    pub fn attach(&mut self, id: i64, key: &[u8]) -> bool {
        let exists = self.contains(id);
        if exists {
            self.attachments.insert((id, key.into()));
        }
        exists
    }

    /// Takes a key off a lease; nothing happens if it does not hang there.
    pub fn detach(&mut self, id: i64, key: &[u8]) {
        self.attachments.remove(&(id, key.into()));
    }

    /// Whether there is such a lease.
    pub fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// The keys that hang on a lease, in order.
    pub fn keys(&self, id: i64) -> impl Iterator<Item = &[u8]> {
        let from: (i64, Box<[u8]>) = (id, Box::default());
        self.attachments
            .range(from..)
            .take_while(move |(lease, _)| *lease == id)
            .map(|(_, key)| key.as_ref())
    }

    /// The time that a lease has left; `None` if there is no such lease.
    pub fn time_to_live(&self, id: i64, now: Duration) -> Option<TimeToLive> {
        let lease = self.leases.get(&id)?;
        let remaining = lease.expiry.map(|expiry| match expiry.checked_sub(now) {
            Some(left) => left.as_secs().cast_signed(),
            None => -(now - expiry).as_secs().cast_signed(),
        });
        Some(TimeToLive { remaining, granted: lease.ttl })
    }

    /// All leases, the next to expire first; by id where this lessor is not the primary.
    pub fn leases(&self) -> Vec<i64> {
        let mut ids: Vec<_> = self.leases.iter().map(|(&id, lease)| (lease.expiry, id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Applies a checkpoint: a later primary gives the lease this many seconds, 0 for its whole
    /// TTL. The running expiry stays. Nothing happens if there is no such lease.
    ///
    /// `persist`: whether it is written to the backend, which etcd does from cluster version 3.6.
    pub fn apply_checkpoint(
        &mut self,
        backend: &mut Backend,
        id: i64,
        remaining_ttl: i64,
        persist: bool,
        now: Duration,
    ) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        lease.remaining_ttl = remaining_ttl;
        if persist {
            backend.put(Bucket::Lease, &codec::key(id), lease.stored(id));
        }
        self.schedule_checkpoint(id, now);
    }
}
