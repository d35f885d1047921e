//! What writer and readers share.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::KvHash;
use crate::index::Index;

/// How many keys are looked at before the index is given free for others: some 100 us.
pub(crate) const WALK_KEYS: usize = 1024;

/// The state that readers on any thread see.
///
/// The index lies under a lock, the one exception to "no locks below `server`" in this crate: it
/// is the one structure that is too big to copy and that both apply and all readers need for every
/// request. Apply holds it for one key, or for [`WALK_KEYS`] of a bulk operation; readers hold it
/// to collect revisions, never across reading rows. Nothing is called while it is held.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) index: RwLock<Index>,
    /// The hashes of the last compactions, oldest first.
    pub(crate) hashes: RwLock<Vec<KvHash>>,
    /// The revision of the last finished transaction; all its rows are visible before it is set.
    current: AtomicI64,
    compact: AtomicI64,
    epoch: AtomicU64,
    /// Reads under way, by the parity of the epoch they began in.
    reads: [AtomicU64; 2],
}

/// A read under way. While it lasts, no compaction that begins now removes anything.
#[derive(Debug)]
pub(crate) struct ReadGuard<'a> {
    reads: &'a AtomicU64,
}

/// Waits, without blocking, until all reads have ended that may not know of a new compact revision.
///
/// Reads count themselves under the parity of the epoch, and only then look at the compact
/// revision. So after it was raised, a read that matters is either counted under the old parity or
/// was slow to count itself and is left from the epoch before; the one after the other must be
/// seen at zero, with new reads sent to the other side meanwhile (as in sleepable RCU).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Grace {
    #[default]
    Begun,
    Flipped,
    Over,
}

impl Shared {
    pub(crate) fn new(index: Index, current: i64, compact: i64) -> Self {
        Self {
            index: RwLock::new(index),
            hashes: RwLock::default(),
            current: AtomicI64::new(current),
            compact: AtomicI64::new(compact),
            epoch: AtomicU64::new(0),
            reads: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    pub(crate) fn current(&self) -> i64 {
        self.current.load(Ordering::SeqCst)
    }

    pub(crate) fn compact(&self) -> i64 {
        self.compact.load(Ordering::SeqCst)
    }

    pub(crate) fn set_current(&self, revision: i64) {
        self.current.store(revision, Ordering::SeqCst);
    }

    pub(crate) fn set_compact(&self, revision: i64) {
        self.compact.store(revision, Ordering::SeqCst);
    }

    /// Begins a read: what the compact revision allows from now on stays until the guard is gone.
    pub(crate) fn enter(&self) -> ReadGuard<'_> {
        let parity = self.epoch.load(Ordering::SeqCst) & 1;
        let reads = if parity == 0 { &self.reads[0] } else { &self.reads[1] };
        reads.fetch_add(1, Ordering::SeqCst);
        ReadGuard { reads }
    }

    fn reads_at(&self, epoch: u64) -> u64 {
        self.reads[usize::from(epoch & 1 == 1)].load(Ordering::SeqCst)
    }
}

impl Drop for ReadGuard<'_> {
    fn drop(&mut self) {
        self.reads.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Grace {
    /// Whether the wait is over; to be asked again later if not.
    pub(crate) fn poll(&mut self, shared: &Shared) -> bool {
        if matches!(self, Self::Begun) {
            let epoch = shared.epoch.load(Ordering::SeqCst);
            if shared.reads_at(epoch + 1) > 0 {
                return false;
            }
            shared.epoch.store(epoch + 1, Ordering::SeqCst);
            *self = Self::Flipped;
        }
        if matches!(self, Self::Flipped) {
            let epoch = shared.epoch.load(Ordering::SeqCst);
            if shared.reads_at(epoch + 1) > 0 {
                return false;
            }
            *self = Self::Over;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::{Grace, ReadGuard, Shared};
    use crate::index::Index;

    #[test]
    fn a_compaction_waits_for_the_reads_before_it_and_no_others() {
        let shared = Shared::new(Index::default(), 1, -1);
        for _ in 0..3 {
            let early = shared.enter();
            let mut grace = Grace::default();
            assert!(!grace.poll(&shared));
            let late = shared.enter();
            drop(early);
            assert!(grace.poll(&shared), "the late read began after the compaction");
            let mut next = Grace::default();
            assert!(!next.poll(&shared), "the next one waits for it");
            drop(late);
            assert!(next.poll(&shared));
        }
    }

    #[test]
    fn a_read_that_was_slow_to_count_itself_is_waited_for_by_the_next_compaction() {
        let shared = Shared::new(Index::default(), 1, -1);
        assert!(Grace::default().poll(&shared));
        // It had looked at the epoch before that one moved on, and counts itself only now.
        let slow = ReadGuard { reads: &shared.reads[0] };
        shared.reads[0].fetch_add(1, Ordering::SeqCst);
        let mut next = Grace::default();
        assert!(!next.poll(&shared));
        drop(slow);
        assert!(next.poll(&shared));
    }
}
