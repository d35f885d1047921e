//! Compaction in steps: first the index, then the rows.
//!
//! It needs no list of what to keep: pruning the index tells what goes, and the rows are then
//! walked in the order of revisions beside that list. The walk sees all rows up to the compact
//! revision, for the hash that the members compare.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::ControlFlow;

use backend::{Backend, Bucket};

use crate::hash::{HASHES_MAX, Hasher, parse};
use crate::index::Cursor;
use crate::shared::{Grace, WALK_KEYS};
use crate::store::{FINISHED_COMPACT_KEY, put_compact_mark};
use crate::{Error, KvHash, Reader, Rev};

/// How often a step takes the index for [`WALK_KEYS`] keys: it lasts a millisecond or two.
const WALKS_PER_STEP: usize = 16;

/// How many revisions are sorted at once.
const RUN_REVS: usize = 16 * 1024;

/// What a call of [`crate::Store::compaction_step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionProgress {
    /// There is nothing to compact.
    Idle,
    /// There is more to do.
    Working,
    /// The compaction to `revision` has removed its last row. There may be another one waiting.
    Finished {
        /// The compact revision that was asked for.
        revision: i64,
        /// Its hash, `None` if the compaction before was not finished when it was asked for.
        hash: Option<KvHash>,
        /// How many rows it has removed since it was asked for or since the start.
        rows: u64,
    },
}

/// The compactions asked for, and how far the first of them has come.
#[derive(Debug)]
pub(crate) struct Compactor {
    scheduled: Option<i64>,
    finished: Option<i64>,
    /// In the order in which they were asked for.
    jobs: VecDeque<Job>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    revision: i64,
    /// The compact revision before.
    compact_before: i64,
    /// Whether the hash covers all that happened since the compaction before, see etcd's #15919.
    hash_counts: bool,
}

/// The state of the first job.
#[derive(Debug)]
enum Phase {
    /// Reads may be under way that don't know of it.
    Wait(Grace),
    Index {
        cursor: Cursor,
        removed: Removed,
        kept: bool,
    },
    Rows(RowWalk),
}

/// A walk over the rows up to the compact revision.
#[derive(Debug)]
struct RowWalk {
    next: Rev,
    end: Rev,
    removed: Removed,
    /// Whether any revision up to the end stays.
    kept: bool,
    hasher: Hasher,
    rows_removed: u64,
}

/// The revisions that go: collected in the order of keys, asked for in the order of revisions. They
/// are sorted in runs, since sorting them all would hold up the owner.
#[derive(Debug, Default)]
struct Removed {
    runs: Vec<Vec<Rev>>,
    /// The first revision of each run that is left, and the run's number.
    heads: BinaryHeap<Reverse<(Rev, usize)>>,
    /// How many runs are sorted, from the first on.
    sorted: usize,
}

impl Compactor {
    pub(crate) fn new(scheduled: Option<i64>, finished: Option<i64>) -> Self {
        Self { scheduled, finished, jobs: VecDeque::new(), phase: Phase::default() }
    }

    /// Takes a compaction that reads know of by now.
    pub(crate) fn schedule(&mut self, revision: i64, compact_before: i64) {
        let hash_counts = self.scheduled == self.finished;
        self.scheduled = Some(revision);
        self.jobs.push_back(Job { revision, compact_before, hash_counts });
    }

    pub(crate) fn step(
        &mut self,
        reader: &Reader,
        backend: &mut Backend,
        batch_limit: usize,
    ) -> Result<CompactionProgress, Error> {
        let Some(job) = self.jobs.front().copied() else {
            return Ok(CompactionProgress::Idle);
        };
        // Where nobody has to wait and there is little to do, it is done in one step: another compaction may be asked for a
        // moment later, and then the hash of this one does not count.
        loop {
            let next = match &mut self.phase {
                Phase::Wait(grace) => grace.poll(&reader.shared).then(Phase::index),
                Phase::Index { cursor, removed, kept } => {
                    prune(reader, &job, cursor, removed, kept);
                    cursor.is_done().then(|| Phase::rows(&job, std::mem::take(removed), *kept))
                }
                Phase::Rows(walk) => {
                    if walk.step(reader, backend, batch_limit.max(1))? {
                        let (hash, rows) = (walk.hasher.finish(), walk.rows_removed);
                        return Ok(self.finish(reader, backend, job, hash, rows));
                    }
                    None
                }
            };
            match next {
                Some(next) => self.phase = next,
                None => return Ok(CompactionProgress::Working),
            }
        }
    }

    fn finish(
        &mut self,
        reader: &Reader,
        backend: &mut Backend,
        job: Job,
        hash: KvHash,
        rows: u64,
    ) -> CompactionProgress {
        put_compact_mark(backend, FINISHED_COMPACT_KEY, job.revision);
        self.finished = Some(job.revision);
        self.jobs.pop_front();
        self.phase = Phase::default();
        let hash = job.hash_counts.then_some(hash);
        if let Some(hash) = hash {
            let mut hashes = reader.shared.hashes.write();
            hashes.push(hash);
            let surplus = hashes.len().saturating_sub(HASHES_MAX);
            hashes.drain(..surplus);
        }
        CompactionProgress::Finished { revision: job.revision, hash, rows }
    }
}

impl Default for Phase {
    fn default() -> Self {
        Self::Wait(Grace::default())
    }
}

impl Phase {
    fn index() -> Self {
        Self::Index { cursor: Cursor::default(), removed: Removed::default(), kept: false }
    }

    fn rows(job: &Job, mut removed: Removed, kept: bool) -> Self {
        removed.seal();
        Self::Rows(RowWalk {
            next: Rev::default(),
            end: Rev::first_of(job.revision.saturating_add(1)),
            removed,
            kept,
            hasher: Hasher::new(job.compact_before, job.revision),
            rows_removed: 0,
        })
    }
}

/// Removes revisions from some thousand keys of the index.
fn prune(reader: &Reader, job: &Job, cursor: &mut Cursor, removed: &mut Removed, kept: &mut bool) {
    for _ in 0..WALKS_PER_STEP {
        if cursor.is_done() {
            return;
        }
        let mut index = reader.shared.index.write();
        let kept_now = index.compact(cursor, job.revision, WALK_KEYS, |rev| removed.push(rev));
        drop(index);
        removed.sort_full();
        *kept |= kept_now > 0;
    }
}

impl RowWalk {
    /// Looks at `batch_limit` rows and deletes those that go; returns whether they were the last.
    fn step(
        &mut self,
        reader: &Reader,
        backend: &mut Backend,
        batch_limit: usize,
    ) -> Result<bool, Error> {
        let (from, end) = (self.next.to_key(), self.end.to_key());
        let mut gone: Vec<Vec<u8>> = Vec::new();
        let mut rows = 0;
        let mut looked = Ok(());
        reader.backend.scan(Bucket::Key, &from, &end, batch_limit, |key, value| {
            rows += 1;
            looked = self.look(key, value).map(|goes| {
                if goes {
                    gone.push(key.to_vec());
                }
            });
            if looked.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        looked?;
        let mut writer = backend.write();
        for key in &gone {
            writer.delete(Bucket::Key, key);
        }
        self.rows_removed += gone.len() as u64;
        Ok(rows < batch_limit)
    }

    /// Whether the row goes.
    fn look(&mut self, key: &[u8], value: &[u8]) -> Result<bool, Error> {
        let (rev, _) = parse(key)?;
        self.next = Rev { sub: rev.sub + 1, ..rev };
        let goes = self.removed.contains(rev);
        let kept = !self.kept || !goes;
        self.hasher.write(key, value, |_| kept)?;
        Ok(goes)
    }
}

impl Removed {
    fn push(&mut self, rev: Rev) {
        match self.runs.last_mut() {
            Some(run) if run.len() < run.capacity() => run.push(rev),
            _ => {
                let mut run = Vec::with_capacity(RUN_REVS);
                run.push(rev);
                self.runs.push(run);
            }
        }
    }

    /// Sorts the runs that are full.
    fn sort_full(&mut self) {
        while let Some(run) = self.runs.get_mut(self.sorted)
            && run.len() == run.capacity()
        {
            sort_descending(run);
            self.sorted += 1;
        }
    }

    /// Ends the collecting.
    fn seal(&mut self) {
        for run in &mut self.runs[self.sorted..] {
            sort_descending(run);
        }
        for (number, run) in self.runs.iter_mut().enumerate() {
            if let Some(first) = run.pop() {
                self.heads.push(Reverse((first, number)));
            }
        }
    }

    /// Whether `rev` is among them; asked for in ascending order.
    fn contains(&mut self, rev: Rev) -> bool {
        while let Some(Reverse((head, number))) = self.heads.peek().copied() {
            if head > rev {
                return false;
            }
            self.heads.pop();
            if let Some(next) = self.runs[number].pop() {
                self.heads.push(Reverse((next, number)));
            }
            if head == rev {
                return true;
            }
        }
        false
    }
}

/// So that taking the lowest is a pop.
fn sort_descending(run: &mut [Rev]) {
    run.sort_unstable_by(|a, b| b.cmp(a));
}
