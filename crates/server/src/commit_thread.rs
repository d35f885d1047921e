//! The commit thread: frozen batches into the backend's file.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use backend::{Batch, Committed, Committer};
use env::{Clock, Disk};
use rpc::Metrics;
use tracing::{error, info};

use crate::fatal::fatal;

/// What the thread is asked to do, in order. At most one batch is on its way at a time, because the
/// backend freezes no other before it has arrived.
#[derive(Debug)]
pub(crate) enum CommitInput {
    /// Write a batch.
    Commit(Batch),
    /// Rewrite the file without holes.
    Defragment,
}

/// What the thread owns.
pub(crate) struct CommitThread<D: Disk, C> {
    pub(crate) committer: Committer<D>,
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
                CommitInput::Commit(batch) => match self.committer.commit(batch) {
                    Ok(done) => {
                        let seconds = (self.clock.now_mono() - begin).as_secs_f64();
                        self.metrics.disk_backend_commit_duration_seconds.observe(seconds);
                        apply::Input::Committed(done)
                    }
                    Err(err) => fatal("failed to commit the backend", &err),
                },
                CommitInput::Defragment => apply::Input::Defragmented(self.defragment(begin)),
            };
            // Apply may have ended without waiting for a defragmentation.
            let _ = self.apply.send(done);
        }
    }

    fn defragment(&mut self, begin: Duration) -> Result<Committed, String> {
        info!("starting defragmentation");
        self.metrics.disk_defrag_inflight.set(1);
        let result = self.committer.defrag();
        self.metrics.disk_defrag_inflight.set(0);
        let took = self.clock.now_mono() - begin;
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
