//! The names of all points, which are etcd's.

use crate::Point;

macro_rules! points {
    ($($name:ident)*) => {
        /// All points, as statics with etcd's names.
        #[expect(non_upper_case_globals, reason = "the names are etcd's, and tests set them by these")]
        pub mod points {
            use crate::Point;

            $(
                #[doc = concat!("etcd's `", stringify!($name), "`.")]
                pub static $name: Point = Point::new(stringify!($name));
            )*
        }

        pub(crate) static ALL: &[&Point] = &[$(&points::$name),*];
    };
}

points! {
    afterCommit
    afterStartDBTxn
    afterWritebackBuf
    applyAfterOpenSnapshot
    applyBeforeOpenSnapshot
    beforeApplyOneConfChange
    beforeApplyOneEntryNormal
    beforeCheckpointInLeaseRenew
    beforeCommit
    beforeLookupWhenForwardLeaseTimeToLive
    beforeLookupWhenLeaseTimeToLive
    beforeMoveVictims
    beforeProgressIfSync
    beforeSendWatchResponse
    beforeServeHTTPLeaseRenew
    beforeStartDBTxn
    beforeSyncWatchers
    beforeWritebackBuf
    commitAfterPreCommitHook
    commitBeforePreCommitHook
    compactAfterCommitBatch
    compactAfterCommitScheduledCompact
    compactAfterSetFinishedCompact
    compactBeforeCommitBatch
    compactBeforeCommitScheduledCompact
    compactBeforeSetFinishedCompact
    defragBeforeCopy
    defragBeforeRename
    defragOpenFileError
    defragdbFail
    raftAfterApplySnap
    raftAfterSave
    raftAfterSaveSnap
    raftAfterWALRelease
    raftBeforeAdvance
    raftBeforeApplySnap
    raftBeforeFollowerSend
    raftBeforeLeaderSend
    raftBeforeSave
    raftBeforeSaveSnap
    raftBeforeWALSaveSnaphot
    snapDBDirSyncError
    snapDBRenameBeforeDirSync
    walAfterSync
    walBeforeSync
}

/// The names of all points, sorted as gofail's page shows them.
pub fn names() -> impl Iterator<Item = &'static str> {
    let mut names: Vec<_> = ALL.iter().map(|point| point.name()).collect();
    names.sort_unstable();
    names.into_iter()
}

/// The point with this name.
pub(crate) fn find(name: &str) -> Option<&'static Point> {
    ALL.iter().copied().find(|point| point.name() == name)
}
