//! The commit thread: frozen batches into the backend's file.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use backend::{Backend, Batch, Committed, Committer};
use env::{Clock, Disk};
use rpc::Metrics;
use tracing::{error, info};
use wal::snap::Snapshotter;

use crate::failpoint::reach;
use crate::fatal::fatal;
use crate::metered_disk::Meter;

/// What the thread is asked to do, in order. At most one batch is on its way at a time, because the
/// backend freezes no other before it has arrived.
#[derive(Debug)]
pub(crate) enum CommitInput {
    /// Write a batch.
    Commit(Batch),
    /// Rewrite the file without holes.
    Defragment,
    /// Put the database that came with a snapshot in place of the file.
    Install(raft::Snapshot),
}

/// What the thread owns.
pub(crate) struct CommitThread<D: Disk, C> {
    pub(crate) committer: Committer<D>,
    /// How the backend was opened.
    pub(crate) options: backend::Options,
    pub(crate) snapshotter: Snapshotter<D>,
    pub(crate) meter: Meter,
    pub(crate) clock: C,
    pub(crate) inputs: Receiver<CommitInput>,
    pub(crate) apply: SyncSender<apply::Input>,
    pub(crate) metrics: Arc<Metrics>,
}

impl<D: Disk, C: Clock> CommitThread<D, C> {
    /// Runs until apply has ended and its last batch is written.
    pub(crate) fn run(mut self) {
        while let Ok(input) = self.inputs.recv() {
            let begin = self.clock.now_mono();
            let done = match input {
                CommitInput::Commit(batch) => apply::Input::Committed(self.commit(batch, begin)),
                CommitInput::Install(snapshot) => {
                    apply::Input::Installed(self.install(snapshot.metadata.index))
                }
                CommitInput::Defragment => apply::Input::Defragmented(self.defragment(begin)),
            };
            // Apply may have ended without waiting for a defragmentation.
            let _ = self.apply.send(done);
        }
    }

    fn commit(&mut self, batch: Batch, begin: Duration) -> Committed {
        #[cfg(feature = "failpoints")]
        let compaction = crate::failpoint::CompactionSteps::of(&batch);
        #[cfg(feature = "failpoints")]
        compaction.before_commit();
        reach!(beforeCommit);
        let done = match self.committer.commit(batch) {
            Ok(done) => done,
            Err(err) => fatal("failed to commit the backend", &err),
        };
        reach!(afterCommit);
        #[cfg(feature = "failpoints")]
        compaction.after_commit();
        self.measure(self.clock.now_mono() - begin);
        // What etcd begins here begins with the next batch: the file has what it had anyway.
        reach!(beforeStartDBTxn, afterStartDBTxn);
        done
    }

    /// Merging and splitting pages is one walk here: both of bbolt's parts of it are counted as
    /// the second one.
    fn measure(&mut self, took: Duration) {
        let spent = self.meter.take();
        let written = spent.writes + spent.syncs;
        let metrics = &self.metrics;
        metrics.disk_backend_commit_duration_seconds.observe(took.as_secs_f64());
        metrics.debugging_disk_backend_commit_write_duration_seconds.observe(written.as_secs_f64());
        metrics
            .debugging_disk_backend_commit_spill_duration_seconds
            .observe(took.saturating_sub(written).as_secs_f64());
        metrics.debugging_disk_backend_commit_rebalance_duration_seconds.observe(0.0);
    }

    fn install(&mut self, index: u64) -> Backend {
        reach!(applyBeforeOpenSnapshot);
        let path = match self.snapshotter.db_path(index) {
            Ok(path) => path,
            Err(err) => fatal("failed to find database snapshot file", &err),
        };
        let installed = self.committer.install(&path, self.options.clone());
        reach!(applyAfterOpenSnapshot);
        self.meter.take();
        match installed {
            Ok(backend) => {
                info!("incoming-leader-snapshot-index" = index, "applied snapshot");
                backend
            }
            Err(err) => fatal("failed to open snapshot backend", &err),
        }
    }

    fn defragment(&mut self, begin: Duration) -> Result<Committed, String> {
        info!("starting defragmentation");
        self.metrics.disk_defrag_inflight.set(1);
        reach!(defragBeforeCopy);
        let result = self.committer.defrag();
        self.metrics.disk_defrag_inflight.set(0);
        let took = self.clock.now_mono() - begin;
        self.meter.take();
        self.metrics.disk_backend_defrag_duration_seconds.observe(took.as_secs_f64());
        match result {
            Ok(done) => {
                info!(took = format!("{took:?}"), "finished defragmentation");
                Ok(done)
            }
            Err(err) => {
                error!(error = %err, "failed to defragment");
                Err(err.to_string())
            }
        }
    }
}
