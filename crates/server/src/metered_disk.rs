//! A disk that measures how long its writes and syncs take. The storage crates know no clock, and
//! what they spend on the disk is what operators look at first.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use env::{Clock, Disk, File, Open};

/// A disk and what was spent on it. Clones share the sums.
#[derive(Clone, Debug)]
pub(crate) struct MeteredDisk<D, C> {
    disk: D,
    clock: C,
    sums: Arc<Sums>,
}

/// A file of such a disk.
#[derive(Debug)]
pub(crate) struct MeteredFile<F, C> {
    file: F,
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

impl<D: Disk, C: Clock> MeteredDisk<D, C> {
    pub(crate) fn new(disk: D, clock: C) -> Self {
        Self { disk, clock, sums: Arc::default() }
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

fn timed<T>(clock: &impl Clock, sum: &AtomicU64, call: impl FnOnce() -> T) -> T {
    let begin = clock.now_mono();
    let result = call();
    let took = clock.now_mono().saturating_sub(begin);
    sum.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    result
}

impl<D: Disk, C: Clock> Disk for MeteredDisk<D, C> {
    type File = MeteredFile<D::File, C>;

    fn open(&self, path: &Path, how: Open) -> io::Result<Self::File> {
        let file = self.disk.open(path, how)?;
        Ok(MeteredFile { file, clock: self.clock.clone(), sums: Arc::clone(&self.sums) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.disk.create_dir_all(path, mode)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        timed(&self.clock, &self.sums.syncs, || self.disk.sync_dir(path))
    }
}

impl<F: File, C: Clock> File for MeteredFile<F, C> {
    type Map = F::Map;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        timed(&self.clock, &self.sums.writes, || self.file.write_all_at(buf, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.file.preallocate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        timed(&self.clock, &self.sums.syncs, || self.file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        timed(&self.clock, &self.sums.syncs, || self.file.sync_all())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn map(&self, len: u64) -> io::Result<Self::Map> {
        self.file.map(len)
    }
}
