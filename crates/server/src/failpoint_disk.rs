//! A disk with etcd's failpoints in it: those that lie between two calls that the storage makes.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use env::{Call, Layer, Layered};
use failpoints::points;

/// See the module's text.
pub(crate) type FailpointDisk<D> = Layered<D, Failpoints>;

/// What such a disk is inside of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failpoints {
    /// Whether a database from the leader has got its name, which is not durable yet.
    renamed_snapshot_db: Arc<AtomicBool>,
}

/// Which points a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// A segment of the log, by its own name or by that of the next one.
    Log,
    /// The copy that a defragmentation makes.
    Defragmented,
    Other,
}

impl Purpose {
    fn of(path: &Path) -> Self {
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let file = name(path).unwrap_or_default();
        let folder = path.parent().and_then(name).unwrap_or_default();
        if file.ends_with(".wal") || folder == "wal" || folder == "wal.tmp" {
            Self::Log
        } else if file.starts_with("db.tmp.") {
            Self::Defragmented
        } else {
            Self::Other
        }
    }
}

impl Layer for Failpoints {
    fn around<T>(
        &self,
        path: &Path,
        call: Call<'_>,
        go: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        match call {
            Call::Open(_) if Purpose::of(path) == Purpose::Defragmented => {
                points::defragOpenFileError.error()?;
            }
            Call::WriteAllAt { .. } if Purpose::of(path) == Purpose::Defragmented => {
                points::defragdbFail.error()?;
            }
            Call::SyncData | Call::SyncAll if Purpose::of(path) == Purpose::Log => {
                points::walBeforeSync.reach();
                let synced = go()?;
                points::walAfterSync.reach();
                return Ok(synced);
            }
            Call::SyncDir if self.renamed_snapshot_db.swap(false, Ordering::Relaxed) => {
                points::snapDBDirSyncError.error()?;
            }
            Call::Rename(to) => {
                if Purpose::of(path) == Purpose::Defragmented {
                    points::defragBeforeRename.reach();
                }
                let renamed = go()?;
                if to.to_string_lossy().ends_with(".snap.db") {
                    self.renamed_snapshot_db.store(true, Ordering::Relaxed);
                    points::snapDBRenameBeforeDirSync.reach();
                }
                return Ok(renamed);
            }
            _ => {}
        }
        go()
    }
}
