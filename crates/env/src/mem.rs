//! A disk in memory that knows what has been made durable, and that can be told to fail.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::mm::{MapFlags, ProtFlags};

use self::loss::Fate;
pub use self::loss::Losses;
pub use self::moment::{Moment, Unsynced};
use crate::{Disk, File, Map, Open};

mod loss;
mod moment;

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

/// A kind of operation of a [`MemDisk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading a file.
    Read,
    /// Writing a file, or changing its length.
    Write,
    /// Syncing a file or a folder.
    Sync,
    /// Making, renaming or removing a file or folder.
    Name,
}

/// What a power failure leaves of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// Everything.
    All,
    /// Of the names, those changed first. Of the contents any changes, in any order, and of a write
    /// any of its sectors.
    Some,
}

/// The bytes that a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;
/// The bytes that the system takes from a write whole or not at all.
const PAGE_BYTES: u64 = 4096;

/// A whole path, compared by its bytes: comparing the parts of paths takes several times as long, and a
/// simulated member spends much of its time on names.
type Name = OsString;

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<Name, Node>,
    durable_names: BTreeMap<Name, Node>,
    /// Changes of names since the last sync of their folder, oldest first: the number of the
    /// operation, of which all or none survive, the name, and what it stands for, if anything.
    name_changes: Vec<(u64, Name, Option<Node>)>,
    fault: Option<Fault>,
    failing: Option<(Operation, io::ErrorKind)>,
    /// How much of a failing write is done nevertheless, in percent and whole pages.
    short: u64,
    /// How many bytes all files may have.
    capacity: Option<u64>,
    /// Counts operations that have failed because they were told to, or for lack of room.
    failures: u64,
    /// Counts operations that change the disk: write, set_len, preallocate, sync, rename, remove.
    operations: u64,
    /// The disk before each of them, if that is recorded.
    moments: Option<Vec<Moment>>,
    /// What the power failure has taken from which this disk comes.
    losses: Losses,
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
    /// The bytes until the file is mapped for the first time. Shared with copies of the disk until
    /// somebody writes.
    heap: Arc<Vec<u8>>,
    /// The bytes afterwards, and their length.
    region: Option<(Arc<Region>, usize)>,
    durable: Arc<Vec<u8>>,
    /// What was changed since the last sync, oldest first, by the number of the operation.
    changes: Vec<(u64, Change)>,
    locked: bool,
}

/// A change of a file's content.
#[derive(Clone, Debug)]
enum Change {
    SetLen(usize),
    Write(usize, Arc<[u8]>),
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

    /// Lets all operations of a kind fail from now on; `None` heals the disk.
    pub fn set_failing(&self, failing: Option<(Operation, io::ErrorKind)>) {
        self.state.lock().failing = failing;
    }

    /// How many operations have failed, be it for a fault or for lack of room.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.state.lock().failures
    }

    /// Lets a write that fails, or that finds the disk full, do a part of its work, in percent and whole
    /// pages.
    pub fn set_short(&self, percent: u64) {
        self.state.lock().short = percent;
    }

    /// Limits the bytes of all files together. Who needs more gets [`io::ErrorKind::StorageFull`].
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// The bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state.lock().used()
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
        self.crashed_with(Survival::Nothing, |_| 0)
    }

    /// The disk as a power failure leaves it. `draw(n)` chooses a number below `n`.
    #[must_use]
    pub fn crashed_with(&self, survival: Survival, mut draw: impl FnMut(u64) -> u64) -> Self {
        let state = self.state.lock();
        let mut names = state.durable_names.clone();
        let kept = match survival {
            Survival::Nothing => 0,
            Survival::All => state.name_changes.len(),
            Survival::Some => {
                let at = draw(state.name_changes.len() as u64 + 1) as usize;
                let first_lost = state.name_changes.get(at).map(|(operation, ..)| *operation);
                let survives = |change: &&(u64, Name, Option<Node>)| Some(change.0) != first_lost;
                state.name_changes.iter().take(at).take_while(survives).count()
            }
        };
        for (_, path, node) in &state.name_changes[..kept] {
            match node {
                Some(node) => drop(names.insert(path.clone(), node.clone())),
                None => drop(names.remove(path)),
            }
        }
        let mut fate = Fate::default();
        fate.names(&state.name_changes[kept..]);
        for node in names.values_mut() {
            *node = node.crashed(survival, &mut draw, &mut fate);
        }
        let disk = Self::holding(names);
        disk.state.lock().losses = fate.losses();
        disk
    }

    /// A disk on which all that it holds is durable.
    fn holding(names: BTreeMap<Name, Node>) -> Self {
        let durable_names = names.clone();
        Self { state: Arc::new(Mutex::new(State { durable_names, names, ..State::default() })) }
    }
}

impl Node {
    /// A file with this content, all of it durable.
    fn file(content: Arc<Vec<u8>>) -> Self {
        Self::File(Arc::new(Mutex::new(Content {
            heap: Arc::clone(&content),
            durable: content,
            ..Content::default()
        })))
    }

    /// A copy as a power failure leaves it.
    fn crashed(
        &self,
        survival: Survival,
        draw: &mut impl FnMut(u64) -> u64,
        fate: &mut Fate,
    ) -> Self {
        match self {
            Self::Dir => Self::Dir,
            Self::File(content) => {
                let durable = content.lock().crashed(survival, draw, fate);
                Self::file(Arc::new(durable))
            }
        }
    }
}

impl State {
    fn used(&self) -> u64 {
        let len = |node: &Node| match node {
            Node::Dir => 0,
            Node::File(content) => content.lock().bytes().len() as u64,
        };
        self.names.values().map(len).sum()
    }

    /// Whether files may grow by this much.
    fn expect_room(&mut self, bytes: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if bytes > 0 && self.used() + bytes > capacity => {
                Err(self.failure(io::ErrorKind::StorageFull))
            }
            _ => Ok(()),
        }
    }

    fn failure(&mut self, error: io::ErrorKind) -> io::Error {
        self.failures += 1;
        error.into()
    }

    fn set_name(&mut self, name: Name, node: Option<Node>) -> Option<Node> {
        self.name_changes.push((self.operations, name.clone(), node.clone()));
        match node {
            Some(node) => self.names.insert(name, node),
            None => self.names.remove(&name),
        }
    }

    fn node(&self, path: &Path) -> Option<&Node> {
        self.names.get(path.as_os_str())
    }

    /// What has this name, and all that lies below it, in the order of the names.
    fn below(&self, path: &Path) -> impl Iterator<Item = (&Name, &Node)> {
        let mut prefix = path.as_os_str().to_owned();
        let itself = self.names.get_key_value(path.as_os_str());
        if !prefix.is_empty() && !prefix.as_encoded_bytes().ends_with(b"/") {
            prefix.push("/");
        }
        let from: (Bound<&OsStr>, _) = (Bound::Excluded(&prefix), Bound::Unbounded);
        let rest = self.names.range::<OsStr, _>(from);
        let rest = rest.take_while(move |(name, _)| {
            name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes())
        });
        itself.into_iter().chain(rest)
    }

    fn expect_working(&mut self, operation: Operation) -> io::Result<()> {
        match self.failing {
            Some((failing, error)) if failing == operation => Err(self.failure(error)),
            _ => Ok(()),
        }
    }

    fn change(&mut self, operation: Operation) -> io::Result<()> {
        self.record();
        self.operations += 1;
        self.expect_working(operation)?;
        match &mut self.fault {
            Some(Fault { after: 0, error }) => {
                let error = *error;
                return Err(self.failure(error));
            }
            Some(fault) => fault.after -= 1,
            None => {}
        }
        Ok(())
    }
}

impl Disk for MemDisk {
    type File = MemFile;

    fn open(&self, path: &Path, how: Open) -> io::Result<MemFile> {
        let mut state = self.state.lock();
        let content = match (state.node(path), how) {
            (Some(Node::Dir), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(content)), _) => Arc::clone(content),
            (None, Open::Read | Open::ReadWrite) => return Err(io::ErrorKind::NotFound.into()),
            (None, Open::Create(_) | Open::Truncate(_)) => {
                state.change(Operation::Name)?;
                let content = Arc::new(Mutex::new(Content::default()));
                state.set_name(path.into(), Some(Node::File(Arc::clone(&content))));
                content
            }
        };
        if matches!(how, Open::Truncate(_)) && !content.lock().bytes().is_empty() {
            state.change(Operation::Write)?;
            content.lock().change_len(0, state.operations);
        }
        drop(state);
        Ok(MemFile { disk: Arc::clone(&self.state), content, holds_lock: Mutex::new(false) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(Operation::Name)?;
        let moved: Vec<Name> = state.below(from).map(|(name, _)| name.clone()).collect();
        if moved.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        for name in moved {
            let node = state.set_name(name.clone(), None).expect("listed above");
            let rest = Path::new(&name).strip_prefix(from).expect("below it");
            let target = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            state.set_name(target.into(), Some(node));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(Operation::Name)?;
        if state.node(path).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.set_name(path.into(), None);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(Operation::Name)?;
        let gone: Vec<Name> = state.below(path).map(|(name, _)| name.clone()).collect();
        for name in gone {
            state.set_name(name, None);
        }
        Ok(())
    }

    fn create_dir_all(&self, path: &Path, _mode: u32) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(Operation::Name)?;
        for ancestor in path.ancestors() {
            if state.node(ancestor).is_none() {
                state.set_name(ancestor.into(), Some(Node::Dir));
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        if state.node(path).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let folder = path.as_os_str().len();
        let names = state.below(path).filter_map(|(name, _)| name.to_str()?.get(folder..));
        let names = names.map(|name| name.strip_prefix('/').unwrap_or(name));
        Ok(names
            .filter(|name| !name.is_empty() && !name.contains('/'))
            .map(str::to_owned)
            .collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.state.lock().node(path).is_some())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(Operation::Sync)?;
        let State { durable_names, name_changes, .. } = &mut *state;
        // What is durable and what was changed since make up what is there now.
        name_changes.retain(|(_, name, node)| {
            let is_child = Path::new(name).parent() == Some(path);
            match node {
                Some(node) if is_child => drop(durable_names.insert(name.clone(), node.clone())),
                None if is_child => drop(durable_names.remove(name)),
                _ => {}
            }
            !is_child && !path.starts_with(name)
        });
        for ancestor in path.ancestors() {
            if !durable_names.contains_key(ancestor.as_os_str()) {
                durable_names.insert(ancestor.into(), Node::Dir);
            }
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
            None => Arc::make_mut(&mut self.heap).resize(len, 0),
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

    /// Changes the length, and remembers that.
    fn change_len(&mut self, len: usize, operation: u64) {
        self.changes.push((operation, Change::SetLen(len)));
        self.set_len(len);
    }

    /// Makes durable what was changed.
    fn sync(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        let durable = Arc::make_mut(&mut self.durable);
        for (_, change) in self.changes.drain(..) {
            change.make(durable, |_| true);
        }
    }

    fn crashed(
        &self,
        survival: Survival,
        draw: &mut impl FnMut(u64) -> u64,
        fate: &mut Fate,
    ) -> Vec<u8> {
        let mut bytes = Vec::clone(&self.durable);
        for (operation, change) in &self.changes {
            let way = match survival {
                Survival::Nothing => 0,
                Survival::All => 2,
                Survival::Some => draw(4),
            };
            let (mut kept, mut lost) = (0, u64::from(way == 0));
            if way > 0 {
                change.make(&mut bytes, |_| {
                    let is_kept = way > 1 || draw(2) == 0;
                    kept += u64::from(is_kept);
                    lost += u64::from(!is_kept);
                    is_kept
                });
            }
            fate.change(*operation, kept, lost);
        }
        bytes
    }

    fn write(&mut self, buf: &[u8], offset: usize) {
        let end = offset.checked_add(buf.len()).expect("offset fits in memory");
        if end > self.bytes().len() {
            self.set_len(end);
        }
        match &self.region {
            None => Arc::make_mut(&mut self.heap)[offset..end].copy_from_slice(buf),
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

impl Change {
    /// Makes the change in a copy of the file; of a write the sectors that `keeps` says.
    fn make(&self, bytes: &mut Vec<u8>, mut keeps: impl FnMut(u64) -> bool) {
        let (mut at, buf) = match self {
            Self::SetLen(len) => return bytes.resize(*len, 0),
            Self::Write(offset, buf) => (*offset, &buf[..]),
        };
        let mut rest = buf;
        while !rest.is_empty() {
            let sector = at as u64 / SECTOR_BYTES;
            let end = ((sector + 1) * SECTOR_BYTES) as usize;
            let (part, behind) = rest.split_at(rest.len().min(end - at));
            if keeps(sector) {
                if bytes.len() < at + part.len() {
                    bytes.resize(at + part.len(), 0);
                }
                bytes[at..at + part.len()].copy_from_slice(part);
            }
            at += part.len();
            rest = behind;
        }
    }
}

impl MemFile {
    fn growth(&self, end: u64) -> u64 {
        end.saturating_sub(self.content.lock().bytes().len() as u64)
    }
}

impl File for MemFile {
    type Map = MemMap;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.lock().expect_working(Operation::Read)?;
        let content = self.content.lock();
        let bytes = content.bytes();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let len = buf.len().min(bytes.len() - start);
        buf[..len].copy_from_slice(&bytes[start..start + len]);
        Ok(len)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let growth = self.growth(offset + buf.len() as u64);
        let mut disk = self.disk.lock();
        let result = disk.change(Operation::Write);
        let result = result.and_then(|()| disk.expect_room(growth));
        let done = match result {
            Ok(()) => buf,
            Err(_) => {
                // A system copies a page, and then looks whether it is to go on.
                let end = offset + buf.len() as u64 * disk.short.min(100) / 100;
                let whole = end - end % PAGE_BYTES;
                &buf[..whole.saturating_sub(offset) as usize]
            }
        };
        if result.is_ok() || !done.is_empty() {
            let mut content = self.content.lock();
            content.changes.push((disk.operations, Change::Write(offset as usize, done.into())));
            content.write(done, offset as usize);
        }
        result
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let growth = self.growth(len);
        let mut disk = self.disk.lock();
        disk.change(Operation::Write)?;
        if growth > 0 {
            disk.expect_room(growth)?;
        }
        self.content.lock().change_len(len as usize, disk.operations);
        Ok(())
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        if self.len()? < len { self.set_len(len) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.lock().change(Operation::Sync)?;
        self.content.lock().sync();
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
