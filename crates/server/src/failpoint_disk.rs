//! A disk with etcd's failpoints in it: those that lie between two calls that the storage makes.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use env::{Disk, File, Open};
use failpoints::points;

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub(crate) struct FailpointDisk<D> {
    disk: D,
    /// Whether a database from the leader has got its name, which is not durable yet.
    renamed_snapshot_db: Arc<AtomicBool>,
}

/// A file of such a disk.
#[derive(Debug)]
pub(crate) struct FailpointFile<F> {
    file: F,
    purpose: Purpose,
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

impl<D: Disk> Disk for FailpointDisk<D> {
    type File = FailpointFile<D::File>;

    fn open(&self, path: &Path, how: Open) -> io::Result<Self::File> {
        let purpose = Purpose::of(path);
        if purpose == Purpose::Defragmented {
            points::defragOpenFileError.error()?;
        }
        Ok(FailpointFile { file: self.disk.open(path, how)?, purpose })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if Purpose::of(from) == Purpose::Defragmented {
            points::defragBeforeRename.reach();
        }
        self.disk.rename(from, to)?;
        if to.to_string_lossy().ends_with(".snap.db") {
            self.renamed_snapshot_db.store(true, Ordering::Relaxed);
            points::snapDBRenameBeforeDirSync.reach();
        }
        Ok(())
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
        if self.renamed_snapshot_db.swap(false, Ordering::Relaxed) {
            points::snapDBDirSyncError.error()?;
        }
        self.disk.sync_dir(path)
    }
}

impl<F: File> FailpointFile<F> {
    fn synced(&self, sync: impl FnOnce(&F) -> io::Result<()>) -> io::Result<()> {
        if self.purpose != Purpose::Log {
            return sync(&self.file);
        }
        points::walBeforeSync.reach();
        sync(&self.file)?;
        points::walAfterSync.reach();
        Ok(())
    }
}

impl<F: File> File for FailpointFile<F> {
    type Map = F::Map;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if self.purpose == Purpose::Defragmented {
            points::defragdbFail.error()?;
        }
        self.file.write_all_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.file.preallocate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.synced(F::sync_data)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.synced(F::sync_all)
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
