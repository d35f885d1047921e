//! What it is: the seams between the deterministic core and the operating system: [`Disk`], [`File`], [`Map`], [`Clock`].
//! What it never does: decide anything. No retry, no cache, no path of its own, no error swallowed.
//! Entry types: [`OsDisk`] and [`OsClock`] in production, [`MemDisk`] in tests and in the simulator, [`Layered`] around either.
//! Owner: none; handles are cheap to clone and may be used from any thread.
//! How to test it: `cargo test -p env`; both disks pass the same behaviour test.
//!
//! This is the only crate that names `std::fs` and `Instant::now`. Storage crates are generic over
//! `D: Disk`, chosen once in `server`, so that the code which runs against a simulated disk is the
//! code which runs in production.
#![expect(unsafe_code, reason = "memory maps, here and nowhere else but in bolt")]

mod clock;
mod layered;
mod mem;
mod os;

use std::io;
use std::path::Path;

pub use clock::{Clock, OsClock};
pub use layered::{Call, Layer, Layered, LayeredFile};
pub use mem::{Fault, Losses, MemDisk, MemFile, MemMap, Moment, Operation, Survival, Unsynced};
pub use os::{OsDisk, OsFile, OsMap};

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// The file must exist; it is only read.
    Read,
    /// The file must exist; it is read and written.
    ReadWrite,
    /// The file is made if it is missing, with these permission bits, and is not truncated.
    Create(u32),
    /// As `Create`, and an existing file is emptied.
    Truncate(u32),
}

/// A file system. Paths are used as given; names in [`Disk::list`] are plain file names.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file of this disk.
    type File: File;

    /// Opens `path` as `how` says.
    fn open(&self, path: &Path, how: Open) -> io::Result<Self::File>;
    /// Renames a file or folder, replacing a file at `to`. Durable only after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all it holds; no error if it is missing.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder and its missing parents, with these permission bits.
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// The names in a folder, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Whether a file or folder is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// An open file. All offsets are absolute; there is no cursor. Calls may come from any thread.
pub trait File: Send + Sync + std::fmt::Debug + 'static {
    /// A view of the file's bytes in memory.
    type Map: Map;

    /// Reads at `offset`; returns how many bytes, 0 only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf` at `offset`, growing the file if need be.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Sets the length; bytes gained read as zero.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space and sets the length to at least `len`; bytes gained read as zero.
    fn preallocate(&self, len: u64) -> io::Result<()>;
    /// Makes the file's data, and the length needed to read it, durable (fdatasync).
    ///
    /// After an error the caller must stop: the kernel may have dropped the dirty pages, and a
    /// second call could succeed without them.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes data and all metadata durable (fsync).
    fn sync_all(&self) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Takes the file's exclusive lock without waiting; `false` if another open file holds it.
    /// The lock goes when the file is closed and its last map is dropped.
    fn try_lock(&self) -> io::Result<bool>;
    /// Maps the first `len` bytes, which may be more than the file has now. Later writes through
    /// [`File::write_all_at`] show in the map.
    fn map(&self, len: u64) -> io::Result<Self::Map>;

    /// Reads exactly `buf.len()` bytes or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            let read = self.read_at(buf, offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buf = &mut buf[read..];
            offset += read as u64;
        }
        Ok(())
    }
}

/// A file seen as memory.
pub trait Map: Send + Sync + std::fmt::Debug + 'static {
    /// How many bytes are mapped.
    fn len(&self) -> u64;
    /// Whether nothing is mapped.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The bytes at `offset`. The caller asks only for ranges that lie inside the file, and that
    /// nobody writes while the slice lives: bolt's copy-on-write gives both.
    ///
    /// # Panics
    /// If the range is outside the map.
    fn slice(&self, offset: u64, len: usize) -> &[u8];
}
