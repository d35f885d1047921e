//! A disk in memory that knows what has been made durable, and that can be told to fail.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::mm::{MapFlags, ProtFlags};

use crate::{Disk, File, Map, Open};

/// The largest file that [`MemFile::map`] can show. Address space is reserved, not memory.
const MAP_BYTES_MAX: usize = 1 << 30;

/// A file system in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

/// An operation of a [`MemDisk`] that is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How many more writing operations succeed before the fault.
    pub after: u64,
    /// What the failing operation, and all after it, answer.
    pub error: io::ErrorKind,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    fault: Option<Fault>,
    /// Counts operations that change the disk: write, set_len, preallocate, sync, rename, remove.
    operations: u64,
}

#[derive(Clone, Debug)]
enum Node {
    Dir,
    File(Arc<Mutex<Content>>),
}

/// An open file of a [`MemDisk`].
#[derive(Debug)]
pub struct MemFile {
    disk: Arc<Mutex<State>>,
    content: Arc<Mutex<Content>>,
    holds_lock: Mutex<bool>,
}

#[derive(Debug, Default)]
struct Content {
    /// The bytes until the file is mapped for the first time.
    heap: Vec<u8>,
    /// The bytes afterwards, and their length.
    region: Option<(Arc<Region>, usize)>,
    durable: Vec<u8>,
    locked: bool,
}

/// Reserved address space that holds a mapped file; never moves.
#[derive(Debug)]
struct Region {
    start: NonNull<u8>,
}

/// A map of a [`MemFile`].
#[derive(Debug)]
pub struct MemMap {
    region: Arc<Region>,
    len: u64,
}

// SAFETY: the region is plain memory owned by this value. Writers hold the lock of `Content`;
// readers keep to ranges that nobody writes, as the contract of `Map::slice` says.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a later writing operation fail, and all after it; `None` heals the disk.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state.lock().fault = fault;
    }

    /// How many writing operations there have been.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// The disk as a power failure leaves it if nothing survives but what was made durable: file
    /// contents at their last sync, names at the last sync of their folder.
    #[must_use]
    pub fn crashed(&self) -> Self {
        let state = self.state.lock();
        let names: BTreeMap<PathBuf, Node> =
            state.durable_names.iter().map(|(path, node)| (path.clone(), node.durable())).collect();
        Self {
            state: Arc::new(Mutex::new(State {
                durable_names: names.clone(),
                names,
                ..State::default()
            })),
        }
    }
}

impl Node {
    /// A copy that holds only what was synced.
    fn durable(&self) -> Self {
        match self {
            Self::Dir => Self::Dir,
            Self::File(content) => {
                let durable = content.lock().durable.clone();
                Self::File(Arc::new(Mutex::new(Content {
                    heap: durable.clone(),
                    durable,
                    ..Content::default()
                })))
            }
        }
    }
}

impl State {
    fn change(&mut self) -> io::Result<()> {
        self.operations += 1;
        if let Some(fault) = &mut self.fault {
            if fault.after == 0 {
                return Err(fault.error.into());
            }
            fault.after -= 1;
        }
        Ok(())
    }
}

impl Disk for MemDisk {
    type File = MemFile;

    fn open(&self, path: &Path, how: Open) -> io::Result<MemFile> {
        let mut state = self.state.lock();
        let content = match (state.names.get(path), how) {
            (Some(Node::Dir), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(content)), _) => Arc::clone(content),
            (None, Open::Read | Open::ReadWrite) => return Err(io::ErrorKind::NotFound.into()),
            (None, Open::Create(_) | Open::Truncate(_)) => {
                state.change()?;
                let content = Arc::new(Mutex::new(Content::default()));
                state.names.insert(path.to_owned(), Node::File(Arc::clone(&content)));
                content
            }
        };
        if matches!(how, Open::Truncate(_)) {
            content.lock().set_len(0);
        }
        drop(state);
        Ok(MemFile { disk: Arc::clone(&self.state), content, holds_lock: Mutex::new(false) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        let moved: Vec<PathBuf> =
            state.names.keys().filter(|path| path.starts_with(from)).cloned().collect();
        if moved.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        for path in moved {
            let node = state.names.remove(&path).expect("listed above");
            let rest = path.strip_prefix(from).expect("filtered above");
            let target = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            state.names.insert(target, node);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.names.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.names.retain(|name, _| !name.starts_with(path));
        Ok(())
    }

    fn create_dir_all(&self, path: &Path, _mode: u32) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        for ancestor in path.ancestors() {
            state.names.entry(ancestor.to_owned()).or_insert(Node::Dir);
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let children = state.names.keys().filter(|name| name.parent() == Some(path));
        Ok(children
            .filter_map(|name| name.file_name())
            .filter_map(|name| name.to_str().map(str::to_owned))
            .collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.state.lock().names.contains_key(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        let State { names, durable_names, .. } = &mut *state;
        durable_names.retain(|name, _| name.parent() != Some(path));
        for ancestor in path.ancestors() {
            durable_names.insert(ancestor.to_owned(), Node::Dir);
        }
        for (name, node) in names.iter().filter(|(name, _)| name.parent() == Some(path)) {
            durable_names.insert(name.clone(), node.clone());
        }
        Ok(())
    }
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match &self.region {
            None => &self.heap,
            // SAFETY: the first `len` bytes of the region are the file; the lock of this content
            // is held, so nobody writes meanwhile.
            Some((region, len)) => unsafe {
                std::slice::from_raw_parts(region.start.as_ptr(), *len)
            },
        }
    }

    fn set_len(&mut self, len: usize) {
        match &mut self.region {
            None => self.heap.resize(len, 0),
            Some((region, old)) => {
                assert!(len <= MAP_BYTES_MAX, "mapped file in memory too large");
                if len < *old {
                    // SAFETY: inside the region; the contract of `Map::slice` says nobody has
                    // borrowed bytes past the new end.
                    unsafe { region.start.as_ptr().add(len).write_bytes(0, *old - len) };
                }
                *old = len;
            }
        }
    }

    fn write(&mut self, buf: &[u8], offset: usize) {
        let end = offset.checked_add(buf.len()).expect("offset fits in memory");
        if end > self.bytes().len() {
            self.set_len(end);
        }
        match &self.region {
            None => self.heap[offset..end].copy_from_slice(buf),
            // SAFETY: inside the file's part of the region (grown above); readers of maps keep
            // away from ranges that are being written.
            Some((region, _)) => unsafe {
                region
                    .start
                    .as_ptr()
                    .add(offset)
                    .copy_from_nonoverlapping(NonNull::from(buf).cast::<u8>().as_ptr(), buf.len());
            },
        }
    }

    fn mapped(&mut self) -> io::Result<Arc<Region>> {
        if let Some((region, _)) = &self.region {
            return Ok(Arc::clone(region));
        }
        let region = Arc::new(Region::reserve()?);
        let heap = std::mem::take(&mut self.heap);
        self.region = Some((Arc::clone(&region), 0));
        self.write(&heap, 0);
        Ok(region)
    }
}

impl File for MemFile {
    type Map = MemMap;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content.lock();
        let bytes = content.bytes();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let len = buf.len().min(bytes.len() - start);
        buf[..len].copy_from_slice(&bytes[start..start + len]);
        Ok(len)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.disk.lock().change()?;
        self.content.lock().write(buf, offset as usize);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.lock().change()?;
        self.content.lock().set_len(len as usize);
        Ok(())
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        if self.len()? < len { self.set_len(len) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.lock().change()?;
        let mut content = self.content.lock();
        content.durable = content.bytes().to_vec();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().bytes().len() as u64)
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut mine = self.holds_lock.lock();
        let mut content = self.content.lock();
        if content.locked && !*mine {
            return Ok(false);
        }
        content.locked = true;
        *mine = true;
        Ok(true)
    }

    fn map(&self, len: u64) -> io::Result<MemMap> {
        if len > MAP_BYTES_MAX as u64 {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(MemMap { region: self.content.lock().mapped()?, len })
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        if *self.holds_lock.lock() {
            self.content.lock().locked = false;
        }
    }
}

impl Region {
    fn reserve() -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                MAP_BYTES_MAX,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        Ok(Self { start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)? })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: made by `mmap_anonymous` with this length, and unmapped only here.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), MAP_BYTES_MAX) };
        debug_assert!(unmapped.is_ok());
    }
}

impl Map for MemMap {
    fn len(&self) -> u64 {
        self.len
    }

    fn slice(&self, offset: u64, len: usize) -> &[u8] {
        let end = offset.checked_add(len as u64).expect("map range overflows");
        assert!(end <= self.len, "map range {offset}..{end} outside {} bytes", self.len);
        // SAFETY: inside the region, which lives as long as `self`; the caller keeps to quiescent
        // ranges, as the contract of `Map::slice` says.
        unsafe { std::slice::from_raw_parts(self.region.start.as_ptr().add(offset as usize), len) }
    }
}
