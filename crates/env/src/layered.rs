//! A disk around another one, for whoever wants to count, measure, note or refuse what is asked of it.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Disk, File, Open};

/// What is asked of a disk or of a file, beside the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// [`Disk::open`].
    Open(Open),
    /// [`Disk::rename`], to this path.
    Rename(&'a Path),
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::remove_dir_all`].
    RemoveDirAll,
    /// [`Disk::create_dir_all`].
    CreateDirAll,
    /// [`Disk::list`].
    List,
    /// [`Disk::exists`].
    Exists,
    /// [`Disk::sync_dir`].
    SyncDir,
    /// [`File::read_at`].
    ReadAt,
    /// [`File::write_all_at`].
    WriteAllAt {
        /// Where.
        offset: u64,
        /// How many bytes.
        len: usize,
    },
    /// [`File::set_len`].
    SetLen(u64),
    /// [`File::preallocate`].
    Preallocate(u64),
    /// [`File::sync_data`].
    SyncData,
    /// [`File::sync_all`].
    SyncAll,
    /// [`File::len`].
    Len,
    /// [`File::try_lock`].
    TryLock,
    /// [`File::map`].
    Map(u64),
}

/// What happens around each call.
pub trait Layer: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Makes the call by `go`, or does not. Of a file, `path` is the one that it was opened by.
    fn around<T>(
        &self,
        path: &Path,
        call: Call<'_>,
        go: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T>;
}

/// A disk inside a layer. Clones share what clones of the layer share.
#[derive(Clone, Debug, Default)]
pub struct Layered<D, L> {
    disk: D,
    layer: L,
}

/// A file of such a disk.
#[derive(Debug)]
pub struct LayeredFile<F, L> {
    file: F,
    layer: L,
    path: PathBuf,
}

impl<D, L> Layered<D, L> {
    /// `disk` inside `layer`.
    pub const fn new(disk: D, layer: L) -> Self {
        Self { disk, layer }
    }

    /// The disk, without the layer.
    pub const fn disk(&self) -> &D {
        &self.disk
    }

    /// The layer.
    pub const fn layer(&self) -> &L {
        &self.layer
    }
}

impl<D: Disk, L: Layer> Disk for Layered<D, L> {
    type File = LayeredFile<D::File, L>;

    fn open(&self, path: &Path, how: Open) -> io::Result<Self::File> {
        let file = self.layer.around(path, Call::Open(how), || self.disk.open(path, how))?;
        Ok(LayeredFile { file, layer: self.layer.clone(), path: path.to_owned() })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.layer.around(from, Call::Rename(to), || self.disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.layer.around(path, Call::Remove, || self.disk.remove(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.layer.around(path, Call::RemoveDirAll, || self.disk.remove_dir_all(path))
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.layer.around(path, Call::CreateDirAll, || self.disk.create_dir_all(path, mode))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.layer.around(path, Call::List, || self.disk.list(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.layer.around(path, Call::Exists, || self.disk.exists(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.layer.around(path, Call::SyncDir, || self.disk.sync_dir(path))
    }
}

impl<F: File, L: Layer> LayeredFile<F, L> {
    fn around<T>(&self, call: Call<'_>, go: impl FnOnce(&F) -> io::Result<T>) -> io::Result<T> {
        self.layer.around(&self.path, call, || go(&self.file))
    }
}

impl<F: File, L: Layer> File for LayeredFile<F, L> {
    type Map = F::Map;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.around(Call::ReadAt, |file| file.read_at(buf, offset))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let call = Call::WriteAllAt { offset, len: buf.len() };
        self.around(call, |file| file.write_all_at(buf, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.around(Call::SetLen(len), |file| file.set_len(len))
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.around(Call::Preallocate(len), |file| file.preallocate(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.around(Call::SyncData, File::sync_data)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.around(Call::SyncAll, File::sync_all)
    }

    fn len(&self) -> io::Result<u64> {
        self.around(Call::Len, File::len)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.around(Call::TryLock, File::try_lock)
    }

    fn map(&self, len: u64) -> io::Result<Self::Map> {
        self.around(Call::Map(len), |file| file.map(len))
    }
}
