//! The operating system's disk.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::NonNull;

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::mm::{MapFlags, ProtFlags};

use crate::{Disk, File, Map, Open};

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

/// A file of the operating system.
#[derive(Debug)]
pub struct OsFile {
    file: fs::File,
}

/// A read-only shared memory map of a file.
#[derive(Debug)]
pub struct OsMap {
    start: NonNull<u8>,
    len: u64,
}

// SAFETY: the map is read-only memory that belongs to this value until it is dropped; the contract
// of `Map::slice` keeps writers away from the ranges that are borrowed.
unsafe impl Send for OsMap {}
// SAFETY: as above; `&OsMap` gives out only shared slices.
unsafe impl Sync for OsMap {}

impl Disk for OsDisk {
    type File = OsFile;

    fn open(&self, path: &Path, how: Open) -> io::Result<OsFile> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => {}
            Open::ReadWrite => {
                options.write(true);
            }
            Open::Create(mode) => {
                options.write(true).create(true).truncate(false).mode(mode);
            }
            Open::Truncate(mode) => {
                options.write(true).create(true).truncate(true).mode(mode);
            }
        }
        Ok(OsFile { file: options.open(path)? })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(mode).create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }
}

impl File for OsFile {
    type Map = OsMap;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buf, offset) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // Not every file system can reserve space; a longer file is what matters.
            Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS) => {
                if self.len()? < len {
                    self.set_len(len)
                } else {
                    Ok(())
                }
            }
            Err(err) => Err(err.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(err) => Err(err.into()),
        }
    }

    fn map(&self, len: u64) -> io::Result<OsMap> {
        let size = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if size == 0 {
            return Ok(OsMap { start: NonNull::dangling(), len: 0 });
        }
        // SAFETY: a fresh shared read-only mapping at an address of the kernel's choice; it is
        // unmapped once, when the value is dropped.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size,
                ProtFlags::READ,
                MapFlags::SHARED,
                &self.file,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(OsMap { start, len })
    }
}

impl Map for OsMap {
    fn len(&self) -> u64 {
        self.len
    }

    fn slice(&self, offset: u64, len: usize) -> &[u8] {
        let end = offset.checked_add(len as u64).expect("map range overflows");
        assert!(end <= self.len, "map range {offset}..{end} outside {} bytes", self.len);
        // SAFETY: the range is inside the mapping, which lives as long as `self`; the caller keeps
        // to written, quiescent ranges of the file, as the contract of `Map::slice` says.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset as usize), len) }
    }
}

impl Drop for OsMap {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: made by `mmap` with this address and length, and unmapped only here.
            let unmapped =
                unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len as usize) };
            debug_assert!(unmapped.is_ok());
        }
    }
}
