//! Where a build with the feature `failpoints` can be made to wait, to fail or to end. Points are on the threads of the
//! server and in the disk that the storage is given: what happens inside the deterministic crates is seen there, as
//! the batch that comes out and as the calls that go to the disk.

/// Passes points with these names, for as long as they say. Nothing in a normal build.
macro_rules! reach {
    ($($name:ident),+) => {
        $(
            #[cfg(feature = "failpoints")]
            let _ = failpoints::points::$name.reach();
        )+
    };
}

/// The same in a task, where only the task may wait.
macro_rules! reach_in_task {
    ($name:ident) => {
        #[cfg(feature = "failpoints")]
        let _ = tokio::task::spawn_blocking(|| failpoints::points::$name.reach()).await;
    };
}

pub(crate) use {reach, reach_in_task};

/// The system's disk, in a build for tests with points in it.
#[cfg(not(feature = "failpoints"))]
pub(crate) type SystemDisk = env::OsDisk;
#[cfg(feature = "failpoints")]
pub(crate) type SystemDisk = crate::failpoint_disk::FailpointDisk<env::OsDisk>;

/// What a batch has to do with compactions. etcd commits after each step of one; here a step travels with what else is
/// in the batch, so its points are before and after that is committed.
#[cfg(feature = "failpoints")]
#[derive(Debug)]
pub(crate) struct CompactionSteps {
    is_scheduled: bool,
    removes: bool,
    is_finished: bool,
}

#[cfg(feature = "failpoints")]
impl CompactionSteps {
    pub(crate) fn of(batch: &backend::Batch) -> Self {
        use backend::Bucket;
        Self {
            is_scheduled: batch.sets(Bucket::Meta, mvcc::SCHEDULED_COMPACT_KEY),
            // A revision's row is removed by a compaction and by nothing else.
            removes: batch.removes_from(Bucket::Key),
            is_finished: batch.sets(Bucket::Meta, mvcc::FINISHED_COMPACT_KEY),
        }
    }

    pub(crate) fn before_commit(&self) {
        if self.is_scheduled {
            reach!(compactBeforeCommitScheduledCompact);
        }
        if self.removes {
            reach!(compactBeforeCommitBatch);
        }
        if self.is_finished {
            reach!(compactBeforeSetFinishedCompact);
        }
    }

    pub(crate) fn after_commit(&self) {
        if self.is_scheduled {
            reach!(compactAfterCommitScheduledCompact);
        }
        if self.removes {
            reach!(compactAfterCommitBatch);
        }
        if self.is_finished {
            reach!(compactAfterSetFinishedCompact);
        }
    }
}
