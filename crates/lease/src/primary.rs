//! The part that counts time, on raft's leader.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::Lessor;
use crate::lessor::Lease;

/// How often expired leases are looked for.
const TICK_INTERVAL: Duration = Duration::from_millis(500);
/// How many leases are revoked in a second at most.
const REVOKE_RATE: usize = 1000;
/// When the revocation of a lease is proposed again if it was not applied.
const REVOKE_RETRY_INTERVAL: Duration = Duration::from_secs(3);
/// How many checkpoints travel in one proposal.
const CHECKPOINT_BATCH_MAX: usize = 1000;

/// Why a lease was not renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenewError {
    /// Another member's lessor counts the time: ask that one.
    #[error("not a primary lessor")]
    NotPrimary,
    /// There is no such lease.
    #[error("lease not found")]
    NotFound,
    /// It has run out and its revocation is on the way. It may yet fail, if the leader changes: ask
    /// again after the next entry was applied or the lessor was demoted.
    #[error("lease expired")]
    Expired,
    /// A checkpoint would cut the lease short on the next leader: propose one that sets its
    /// remaining TTL to 0, and ask again when that was applied.
    #[error("lease has a checkpoint")]
    Checkpointed,
}

/// What is due when.
#[derive(Debug, Default)]
pub(crate) struct Primary {
    /// Time at which to look at a lease, and the lease. Invariant: holds exactly the `wake_at` of
    /// all leases.
    expiries: BTreeSet<(Duration, i64)>,
    /// Time of the next checkpoint. Invariant: holds exactly the `checkpoint_at` of all leases.
    checkpoints: BTreeSet<(Duration, i64)>,
    ticked_at: Option<Duration>,
}

impl Primary {
    /// Drops a lease that is no more.
    pub(crate) fn forget(&mut self, id: i64, lease: &Lease) {
        if let Some(at) = lease.wake_at {
            self.expiries.remove(&(at, id));
        }
        if let Some(at) = lease.checkpoint_at {
            self.checkpoints.remove(&(at, id));
        }
    }

    fn wake(&mut self, id: i64, lease: &mut Lease, at: Duration) {
        if let Some(old) = lease.wake_at.replace(at) {
            self.expiries.remove(&(old, id));
        }
        self.expiries.insert((at, id));
    }

    /// Leases that are due are looked at in the order in which they expired.
    fn take_due(queue: &mut BTreeSet<(Duration, i64)>, now: Duration) -> Option<i64> {
        let &(at, id) = queue.first()?;
        if at > now {
            return None;
        }
        queue.pop_first();
        Some(id)
    }
}

impl Lessor {
    /// Whether this lessor counts the time.
    pub fn is_primary(&self) -> bool {
        self.primary.is_some()
    }

    /// Makes this lessor the primary, with all leases renewed and prolonged by `extend`, the
    /// election timeout, as there was nobody to renew them with meanwhile.
    ///
    /// Leases that would then expire in one pile are spread out.
    pub fn promote(&mut self, extend: Duration, now: Duration) {
        self.demote();
        self.primary = Some(Primary::default());
        let ids: Vec<i64> = self.leases.keys().copied().collect();
        for &id in &ids {
            self.refresh(id, extend, now);
            self.schedule_checkpoint(id, now);
        }
        if ids.len() >= REVOKE_RATE {
            self.spread(extend, now);
        }
    }

    /// Ceases to be the primary: no lease expires here any more.
    pub fn demote(&mut self) {
        self.primary = None;
        for lease in self.leases.values_mut() {
            lease.expiry = None;
            lease.wake_at = None;
            lease.checkpoint_at = None;
        }
    }

    /// Gives a lease its whole TTL again. Returns that, in seconds.
    ///
    /// # Errors
    /// See [`RenewError`].
    pub fn renew(&mut self, id: i64, now: Duration) -> Result<i64, RenewError> {
        if !self.is_primary() {
            return Err(RenewError::NotPrimary);
        }
        let lease = self.leases.get(&id).ok_or(RenewError::NotFound)?;
        if lease.expiry.is_some_and(|expiry| expiry <= now) {
            return Err(RenewError::Expired);
        }
        if self.options.checkpoint_interval.is_some() && lease.remaining_ttl > 0 {
            return Err(RenewError::Checkpointed);
        }
        let ttl = lease.ttl;
        self.refresh(id, Duration::ZERO, now);
        Ok(ttl)
    }

    /// The leases whose revocation is to be proposed: at most 500, and none if the last call that
    /// looked is less than 500 ms ago. A lease is named again after 3 s if it is still there.
    pub fn tick(&mut self, now: Duration) -> Vec<i64> {
        let mut expired = Vec::new();
        let Some(primary) = &mut self.primary else { return expired };
        if primary.ticked_at.is_some_and(|at| now < at + TICK_INTERVAL) {
            return expired;
        }
        primary.ticked_at = Some(now);
        while expired.len() < REVOKE_RATE / 2 {
            let Some(id) = Primary::take_due(&mut primary.expiries, now) else { break };
            let lease = self.leases.get_mut(&id).expect("a lease in the queue is there");
            lease.wake_at = None;
            primary.wake(id, lease, now + REVOKE_RETRY_INTERVAL);
            expired.push(id);
        }
        expired
    }

    /// The checkpoints that are due, as lease and remaining seconds: at most 1000, which go into
    /// one proposal. There may be more while the answer is that long.
    pub fn checkpoint(&mut self, now: Duration) -> Vec<(i64, i64)> {
        let mut due = Vec::new();
        let Some(primary) = &mut self.primary else { return due };
        while due.len() < CHECKPOINT_BATCH_MAX {
            let Some(id) = Primary::take_due(&mut primary.checkpoints, now) else { break };
            let lease = self.leases.get_mut(&id).expect("a lease in the queue is there");
            lease.checkpoint_at = None;
            let left = lease.expiry.and_then(|expiry| expiry.checked_sub(now));
            let Some(left) = left.filter(|left| !left.is_zero()) else { continue };
            let remaining = left.as_nanos().div_ceil(1_000_000_000) as i64;
            if remaining < lease.ttl {
                due.push((id, remaining));
            }
        }
        due
    }

    /// On the primary, lets a lease begin anew.
    pub(crate) fn refresh(&mut self, id: i64, extend: Duration, now: Duration) {
        let Some(primary) = &mut self.primary else { return };
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let ttl = Duration::from_secs(lease.initial_ttl().max(0).cast_unsigned());
        let expiry = now.saturating_add(extend).saturating_add(ttl);
        lease.expiry = Some(expiry);
        primary.wake(id, lease, expiry);
    }

    /// On the primary, sets the next checkpoint of a lease that is long enough for one.
    pub(crate) fn schedule_checkpoint(&mut self, id: i64, now: Duration) {
        let Some(primary) = &mut self.primary else { return };
        let Some(interval) = self.options.checkpoint_interval else { return };
        let Some(lease) = self.leases.get_mut(&id) else { return };
        if lease.initial_ttl() <= interval.as_secs().cast_signed() {
            return;
        }
        let at = now.saturating_add(interval);
        if let Some(old) = lease.checkpoint_at.replace(at) {
            primary.checkpoints.remove(&(old, id));
        }
        primary.checkpoints.insert((at, id));
    }

    /// Moves expiries apart, so that no second has more than three quarters of what can be revoked
    /// in one.
    fn spread(&mut self, extend: Duration, now: Duration) {
        const TARGET_PER_SECOND: u64 = (3 * REVOKE_RATE / 4) as u64;
        const SECOND: Duration = Duration::from_secs(1);
        let remaining = |lease: &Lease| {
            lease.expiry.map_or(Duration::ZERO, |expiry| expiry.saturating_sub(now))
        };
        let mut order: Vec<_> =
            self.leases.iter().map(|(&id, lease)| (remaining(lease), id)).collect();
        order.sort_unstable();
        let Some(&(mut base, _)) = order.first() else { return };
        let mut next = base.saturating_add(SECOND);
        let mut expires = 0;
        for (remaining, id) in order {
            if remaining > next {
                base = remaining;
                next = base.saturating_add(SECOND);
                expires = 1;
                continue;
            }
            expires += 1;
            if expires <= TARGET_PER_SECOND {
                continue;
            }
            // A lease that is n seconds ahead of the window anyway needs n seconds less.
            let wanted = Duration::from_nanos(expires * 1_000_000_000 / TARGET_PER_SECOND);
            let delay = wanted.saturating_sub(remaining.saturating_sub(base));
            next = base.saturating_add(delay);
            self.refresh(id, delay.saturating_add(extend), now);
        }
    }
}
