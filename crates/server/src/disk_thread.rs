//! The disk thread: one sync for all appends that came meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use env::{Clock, Disk};
use replica::{Event, LogStep, LogWriter, Persist};
use rpc::Metrics;
use tracing::{info, warn};
use wal::SnapshotRecord;

use crate::failpoint::reach;
use crate::fatal::fatal;
use crate::metered_disk::{Meter, Spent};
use crate::queues::DISK_BATCH_MAX;

/// A sync that takes longer is worth a warning, as in etcd.
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// How often files beyond their number are removed, as in etcd.
const PURGE_INTERVAL: Duration = Duration::from_secs(30);

/// What the thread is asked to do, in order.
#[derive(Debug)]
pub(crate) enum DiskInput {
    /// Append.
    Persist(Persist),
    /// Save a snapshot file and record it.
    SaveSnapshot(raft::Snapshot),
}

/// What the thread owns.
pub(crate) struct DiskWriter<D: Disk, C> {
    pub(crate) disk: D,
    pub(crate) meter: Meter,
    pub(crate) writer: LogWriter<D>,
    pub(crate) wal_dir: PathBuf,
    pub(crate) max_wals: usize,
    pub(crate) max_snapshots: usize,
    pub(crate) clock: C,
    pub(crate) inputs: Receiver<DiskInput>,
    pub(crate) consensus: SyncSender<Event>,
    pub(crate) metrics: Arc<Metrics>,
}

impl<D: Disk, C: Clock> DiskWriter<D, C> {
    /// Runs until consensus has ended, then closes the log.
    pub(crate) fn run(mut self) {
        let mut purge_at = self.clock.now_mono() + PURGE_INTERVAL;
        let mut batch = Vec::new();
        loop {
            let wait = purge_at.saturating_sub(self.clock.now_mono());
            match self.inputs.recv_timeout(wait) {
                Ok(input) => batch.push(input),
                Err(RecvTimeoutError::Timeout) => {
                    self.purge();
                    purge_at = self.clock.now_mono() + PURGE_INTERVAL;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while batch.len() < DISK_BATCH_MAX
                && let Ok(input) = self.inputs.try_recv()
            {
                batch.push(input);
            }
            self.write(&mut batch);
            if let Err(err) = self.writer.log.prepare_next() {
                fatal("failed to prepare the next log segment", &err);
            }
            // That is nobody's wait.
            self.meter.take();
        }
        if let Err(err) = self.writer.log.close() {
            fatal("failed to close the log", &err);
        }
    }

    /// Appends that came together are one append with one sync.
    fn write(&mut self, batch: &mut Vec<DiskInput>) {
        let mut merged = Persist::default();
        for input in batch.drain(..) {
            match input {
                DiskInput::Persist(persist) => {
                    if let Some(alone) = merged.merge(persist) {
                        self.append(std::mem::replace(&mut merged, alone));
                    }
                }
                DiskInput::SaveSnapshot(snapshot) => {
                    self.append(std::mem::take(&mut merged));
                    self.save_snapshot(&snapshot);
                }
            }
        }
        self.append(merged);
    }

    fn append(&mut self, persist: Persist) {
        let must_sync = persist.must_sync;
        let written = self.writer.log.bytes_written();
        if let Err(err) = self.perform(&persist) {
            fatal("failed to save hard state and entries", &err);
        }
        let responses = persist.responses;
        let written = self.writer.log.bytes_written() - written;
        let spent = self.meter.take();
        if written > 0 || must_sync {
            self.measure(spent, must_sync, written);
        }
        if !responses.is_empty() {
            // Consensus may have ended: then nobody waits for this.
            let _ = self.consensus.send(Event::Persisted(responses));
        }
    }

    fn perform(&mut self, persist: &Persist) -> Result<(), wal::Error> {
        for step in persist.steps() {
            match step {
                LogStep::RecordSnapshot(_) => {
                    reach!(raftBeforeSaveSnap);
                    self.writer.perform(step)?;
                    reach!(raftAfterSaveSnap);
                }
                LogStep::Save { .. } => self.writer.perform(step)?,
                LogStep::Release(_) => {
                    // Raft's own memory has taken the snapshot already.
                    reach!(raftBeforeApplySnap, raftAfterApplySnap);
                    self.writer.perform(step)?;
                    reach!(raftAfterWALRelease);
                }
            }
        }
        Ok(())
    }

    fn measure(&self, spent: Spent, was_synced: bool, bytes: u64) {
        self.metrics.disk_wal_write_bytes_total.add(bytes as i64);
        self.metrics.disk_wal_write_duration_seconds.observe(spent.writes.as_secs_f64());
        if !was_synced {
            return;
        }
        self.metrics.disk_wal_fsync_duration_seconds.observe(spent.syncs.as_secs_f64());
        if spent.syncs > SLOW_SYNC {
            warn!(
                took = format!("{:?}", spent.syncs),
                "expected-duration" = format!("{SLOW_SYNC:?}"),
                "slow fdatasync"
            );
        }
    }

    /// The file first, then its record: a record without a file could not be opened.
    fn save_snapshot(&mut self, snapshot: &raft::Snapshot) {
        let begin = self.clock.now_mono();
        self.meter.take();
        if let Err(err) = self.writer.snapshotter.save(snapshot) {
            fatal("failed to save snapshot", &err);
        }
        let (took, spent) = (self.clock.now_mono() - begin, self.meter.take());
        let marshalling = took.saturating_sub(spent.writes + spent.syncs).as_secs_f64();
        self.metrics.debugging_snap_save_marshalling_duration_seconds.observe(marshalling);
        self.metrics.snap_fsync_duration_seconds.observe(spent.syncs.as_secs_f64());
        let metadata = &snapshot.metadata;
        let record = SnapshotRecord {
            index: metadata.index,
            term: metadata.term,
            conf_state: Some(metadata.conf_state.clone()),
        };
        reach!(raftBeforeWALSaveSnaphot);
        if let Err(err) = self.writer.log.save_snapshot(&record) {
            fatal("failed to record snapshot", &err);
        }
        self.writer.log.release(metadata.index);
        self.meter.take();
        let seconds = (self.clock.now_mono() - begin).as_secs_f64();
        self.metrics.debugging_snap_save_total_duration_seconds.observe(seconds);
        info!("snapshot-index" = metadata.index, "saved snapshot to disk");
    }

    fn purge(&self) {
        let wals = match self.max_wals {
            0 => Ok(Vec::new()),
            keep => wal::purge(&self.disk, &self.wal_dir, keep),
        };
        let snaps = match self.max_snapshots {
            0 => Ok(Vec::new()),
            keep => {
                let recorded = self.writer.log.snapshot_index();
                self.writer.snapshotter.purge(keep, recorded)
            }
        };
        for result in [wals, snaps] {
            match result {
                Ok(names) => names.iter().for_each(|name| info!(path = %name, "purged")),
                Err(err) => warn!(error = %err, "failed to purge files"),
            }
        }
    }
}
