//! A disk that measures how long its writes and syncs take. The storage crates know no clock, and
//! what they spend on the disk is what operators look at first.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use env::{Call, Clock, Layer, Layered};

/// Clones share the sums.
pub(crate) type MeteredDisk<D, C> = Layered<D, Metered<C>>;

/// What was spent on a disk.
#[derive(Clone, Debug)]
pub(crate) struct Metered<C> {
    clock: C,
    sums: Arc<Sums>,
}

/// Nanoseconds since the disk was made.
#[derive(Debug, Default)]
struct Sums {
    writes: AtomicU64,
    syncs: AtomicU64,
}

/// Reads what was spent since it was read last. The threads that write have a disk each.
#[derive(Debug)]
pub(crate) struct Meter {
    sums: Arc<Sums>,
    last: Spent,
}

/// Time spent in system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) writes: Duration,
    pub(crate) syncs: Duration,
}

impl<C: Clock> Metered<C> {
    pub(crate) fn new(clock: C) -> Self {
        Self { clock, sums: Arc::default() }
    }

    /// Begins to count from now.
    pub(crate) fn meter(&self) -> Meter {
        let mut meter = Meter { sums: Arc::clone(&self.sums), last: Spent::default() };
        meter.take();
        meter
    }
}

impl Meter {
    /// What was spent since the last call.
    pub(crate) fn take(&mut self) -> Spent {
        let load = |sum: &AtomicU64| Duration::from_nanos(sum.load(Ordering::Relaxed));
        let now = Spent { writes: load(&self.sums.writes), syncs: load(&self.sums.syncs) };
        let last = std::mem::replace(&mut self.last, now);
        Spent { writes: now.writes - last.writes, syncs: now.syncs - last.syncs }
    }
}

impl<C: Clock> Layer for Metered<C> {
    fn around<T>(
        &self,
        _: &Path,
        call: Call<'_>,
        go: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let sum = match call {
            Call::WriteAllAt { .. } => &self.sums.writes,
            Call::SyncData | Call::SyncAll | Call::SyncDir => &self.sums.syncs,
            _ => return go(),
        };
        let begin = self.clock.now_mono();
        let result = go();
        let took = self.clock.now_mono().saturating_sub(begin);
        sum.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        result
    }
}
