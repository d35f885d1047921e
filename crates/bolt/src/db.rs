//! Opening a file, and what a commit does to it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::{Disk, File, Open};
use mutant::mutant;

use crate::Error;
use crate::freelist::Freelist;
use crate::layout::{
    BucketHeader, FLAG_FREELIST, FLAG_LEAF, META_BYTES, Meta, PAGE_BYTES_MAX, PAGE_BYTES_MIN,
    PageHeader,
};
use crate::read::{Mapped, Pages, ReadTx, Snapshot};
use crate::write::WriteTx;

/// How many bytes are gathered for one write where pages adjacent in the file are not in memory.
const GATHER_BYTES_MAX: usize = 1 << 20;
/// How much of the memory for pages of a commit is kept for the next.
const BUFFER_BYTES_KEPT_MAX: usize = 16 << 20;
/// The pages of a file that has just been made.
const PAGES_AT_FIRST: u64 = 4;

/// How a [`Db`] treats its file. [`Options::default`] is what etcd's server sets.
#[derive(Clone, Debug)]
pub struct Options {
    /// The page size of a file that is made, in bytes: a power of two, bbolt takes that of the
    /// operating system. A file that is there tells its own.
    pub page_size: u32,
    /// Never sync the file: for one that is thrown away after a crash.
    pub no_sync: bool,
    /// How many bytes of address space the first map takes, so that the file can grow under it.
    pub map_bytes: u64,
    /// How many bytes the file grows beyond the pages in use, when it must grow.
    pub alloc_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { page_size: 4096, no_sync: false, map_bytes: 10 << 30, alloc_bytes: 16 << 20 }
    }
}

/// An open database, locked against other processes until it and all its readers are gone.
#[derive(Debug)]
pub struct Db<D: Disk> {
    disk: D,
    options: Options,
    path: Arc<PathBuf>,
    file: Arc<D::File>,
    file_len: u64,
    /// Ascending; the last one is the last commit, those before it have readers.
    snapshots: Vec<Arc<Snapshot>>,
    /// Found by the first write transaction.
    freelist: Option<Freelist>,
    /// Memory for the pages of a commit, kept from one to the next.
    buffer: Vec<u8>,
    /// Set while a commit changes the file; stays so if that fails.
    failed: bool,
}

impl<D: Disk> Db<D> {
    /// Opens the database at `path`, or makes it. Reads only its meta pages.
    pub fn open(disk: D, path: &Path, options: Options) -> Result<Self, Error> {
        let file = disk.open(path, Open::Create(0o600)).map_err(Error::disk("open", path))?;
        lock(&file, path)?;
        if is_unused(&file, path)? {
            initialise(&file, path, &options)?;
            let parent = path.parent().unwrap_or(Path::new("."));
            disk.sync_dir(parent).map_err(Error::disk("sync folder", parent))?;
        }
        let path = Arc::new(path.to_owned());
        let file = Arc::new(file);
        let (pages, file_len) = open_pages(&file, &path, options.map_bytes)?;
        Ok(Self {
            disk,
            options,
            path,
            file,
            file_len,
            snapshots: vec![Arc::new(Snapshot { pages, free_pages: 0 })],
            freelist: None,
            buffer: Vec::new(),
            failed: false,
        })
    }

    /// A view of the last committed state.
    #[must_use]
    pub fn begin_read(&self) -> ReadTx {
        ReadTx::new(Arc::clone(self.last()))
    }

    /// The transaction that may change the database. The first one after opening walks the whole
    /// tree to find the free pages, and fails if the tree is damaged.
    pub fn begin_write(&mut self) -> Result<WriteTx<'_, D>, Error> {
        if self.failed {
            return Err(Error::Failed(self.path.to_path_buf()));
        }
        let last = Arc::clone(self.last());
        // `get_mut`, unlike a look at the count, also orders what a reader on another thread did
        // before it let go, before the writes that reuse its pages.
        self.snapshots.retain_mut(|snapshot| Arc::get_mut(snapshot).is_none());
        let readers: Vec<u64> = self.snapshots.iter().map(|s| s.pages.meta.txid).collect();
        let freelist = match &mut self.freelist {
            Some(freelist) => freelist,
            none => none.insert(Freelist::rebuild(&last.pages)?),
        };
        freelist.release(&readers);
        Ok(WriteTx::new(self, last.pages.clone()))
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the file is treated.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Makes durable what commits under [`Options::no_sync`] have left, and has later commits sync
    /// themselves.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.options.no_sync = false;
        self.file.sync_all().map_err(Error::disk("sync", &self.path))
    }

    /// Makes durable what an earlier process has written and not synced before it was killed. It is
    /// in the system's cache, so this process has read it, and a power failure would take it back.
    pub fn sync_inherited(&self) -> Result<(), Error> {
        if self.options.no_sync {
            return Ok(());
        }
        self.file.sync_all().map_err(Error::disk("sync", &self.path))?;
        let parent = self.path.parent().unwrap_or(Path::new("."));
        self.disk.sync_dir(parent).map_err(Error::disk("sync folder", parent))
    }

    /// Gives the file another name in the same folder, replacing a file of that name, and makes
    /// that durable. The database stays open, and refuses to write if the new name may be lost.
    pub fn rename(&mut self, to: &Path) -> Result<(), Error> {
        self.disk.rename(&self.path, to).map_err(Error::disk("rename", &self.path))?;
        self.path = Arc::new(to.to_owned());
        let last = self.last();
        let pages = Pages { path: Arc::clone(&self.path), ..last.pages.clone() };
        let renamed = Snapshot { pages, free_pages: last.free_pages };
        self.snapshots.push(Arc::new(renamed));
        let parent = to.parent().unwrap_or(Path::new("."));
        self.failed = true;
        self.disk.sync_dir(parent).map_err(Error::disk("sync folder", parent))?;
        self.failed = false;
        Ok(())
    }

    fn last(&self) -> &Arc<Snapshot> {
        self.snapshots.last().expect("the last commit is always there")
    }

    /// Hands out what a commit needs. The database has failed until [`Db::end_commit`].
    pub(crate) fn begin_commit(&mut self) -> (&mut Freelist, Vec<u8>) {
        self.failed = true;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        (self.freelist.as_mut().expect("made by begin_write"), buffer)
    }

    pub(crate) fn end_commit(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() <= BUFFER_BYTES_KEPT_MAX {
            self.buffer = buffer;
        }
        self.failed = false;
    }

    /// Writes data pages, then, when those are durable, the meta page.
    pub(crate) fn write_pages(
        &mut self,
        data: &[u8],
        mut written: Vec<(u64, Range<usize>)>,
        meta: &Meta,
    ) -> Result<(), Error> {
        let page_size = u64::from(meta.page_size);
        let needed = meta.size() + page_size;
        if needed > self.file_len {
            let len = needed + self.options.alloc_bytes;
            self.file.set_len(len).map_err(Error::disk("grow", &self.path))?;
            self.file_len = len;
        }
        written.sort_unstable_by_key(|(id, _)| *id);
        let mut gathered = Vec::new();
        let mut rest = written.as_slice();
        while let Some(((first, place), mut tail)) = rest.split_first() {
            let mut in_memory = place.clone();
            gathered.clear();
            let mut next = first + place.len() as u64 / page_size;
            while let Some(((id, place), more)) = tail.split_first() {
                let len = in_memory.len() + gathered.len();
                if *id != next {
                    break;
                }
                if gathered.is_empty() && place.start == in_memory.end {
                    in_memory.end = place.end;
                } else if len + place.len() <= GATHER_BYTES_MAX {
                    if gathered.is_empty() {
                        gathered.extend_from_slice(&data[in_memory.clone()]);
                        in_memory = 0..0;
                    }
                    gathered.extend_from_slice(&data[place.clone()]);
                } else {
                    break;
                }
                next += place.len() as u64 / page_size;
                tail = more;
            }
            let bytes = if gathered.is_empty() { &data[in_memory] } else { &gathered };
            self.write_at(bytes, first * page_size)?;
            rest = tail;
        }
        if !mutant!("B11") {
            self.sync_data()?;
        }
        let mut page = meta.encode(meta.slot());
        page.resize(meta.page_size as usize, 0);
        self.write_at(&page, meta.slot() * page_size)?;
        self.sync_data()
    }

    /// Makes a committed state the one that new transactions see.
    pub(crate) fn adopt(&mut self, meta: Meta, freed: BTreeMap<u64, u64>) -> Result<(), Error> {
        let before = Arc::clone(self.last());
        let mut source = Arc::clone(&before.pages.source);
        if meta.size() > source.map().len() {
            let map = map_file(&*self.file, &self.path, meta.size(), self.options.map_bytes)?;
            source = Arc::new(Mapped { file: Arc::clone(&self.file), map });
        }
        let freelist = self.freelist.as_mut().expect("made by begin_write");
        let freed: Vec<(u64, u64)> = freed.into_iter().collect();
        freelist.free(&freed, meta.txid, before.pages.meta.txid);
        let free_pages = freelist.free_pages();
        let pages = Pages { source, path: Arc::clone(&self.path), meta };
        self.snapshots.push(Arc::new(Snapshot { pages, free_pages }));
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.file.write_all_at(bytes, offset).map_err(Error::disk("write", &self.path))
    }

    fn sync_data(&self) -> Result<(), Error> {
        if self.options.no_sync {
            return Ok(());
        }
        self.file.sync_data().map_err(Error::disk("sync", &self.path))
    }
}

/// A view of the database at `path`, which must be there and is not changed. The file stays locked
/// while the view or a clone of it lives.
pub fn open_read_only<D: Disk>(disk: &D, path: &Path) -> Result<ReadTx, Error> {
    let file = disk.open(path, Open::Read).map_err(Error::disk("open", path))?;
    lock(&file, path)?;
    let (pages, _) = open_pages(&Arc::new(file), &Arc::new(path.to_owned()), 0)?;
    Ok(ReadTx::new(Arc::new(Snapshot { pages, free_pages: 0 })))
}

fn lock<F: File>(file: &F, path: &Path) -> Result<(), Error> {
    if file.try_lock().map_err(Error::disk("lock", path))? {
        Ok(())
    } else {
        Err(Error::Locked(path.to_owned()))
    }
}

fn open_pages<F: File>(
    file: &Arc<F>,
    path: &Arc<PathBuf>,
    map_bytes: u64,
) -> Result<(Pages, u64), Error> {
    let meta = read_meta(&**file, path)?;
    let file_len = file.len().map_err(Error::disk("measure", path))?;
    if file_len < meta.size() {
        // Reading behind the end of a map's file kills the process.
        let what = format!("file has {file_len} bytes, its pages {}", meta.size());
        return Err(Error::damaged(path, meta.slot(), what));
    }
    let map = map_file(&**file, path, meta.size(), map_bytes)?;
    let source = Arc::new(Mapped { file: Arc::clone(file), map });
    Ok((Pages { source, path: Arc::clone(path), meta }, file_len))
}

/// Maps at least `needed` bytes: as bbolt, doubling up to 1 GiB and then in steps of that, but not
/// less than `map_bytes` if there is so much address space.
fn map_file<F: File>(file: &F, path: &Path, needed: u64, map_bytes: u64) -> Result<F::Map, Error> {
    const STEP: u64 = 1 << 30;
    let rounded = if needed <= STEP {
        needed.next_power_of_two().max(1 << 15)
    } else {
        needed.checked_next_multiple_of(STEP).unwrap_or(needed)
    };
    if map_bytes > rounded
        && let Ok(map) = file.map(map_bytes)
    {
        return Ok(map);
    }
    file.map(rounded).map_err(Error::disk("map", path))
}

/// Whether the file is empty, or was being made when that was cut off: its first two pages are
/// written last, and nothing but a commit makes it longer than four.
fn is_unused<F: File>(file: &F, path: &Path) -> Result<bool, Error> {
    let len = file.len().map_err(Error::disk("measure", path))?;
    if len == 0 || len > PAGES_AT_FIRST * u64::from(PAGE_BYTES_MAX) {
        return Ok(len == 0);
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).map_err(Error::disk("read", path))?;
    let Some(zeros) = bytes.iter().position(|byte| *byte != 0) else { return Ok(true) };
    // Page 2 is the first one that is written: what calls itself so tells the page size.
    let page_size = zeros / 2;
    let new = page_size.is_power_of_two()
        && page_size >= PAGE_BYTES_MIN as usize
        && len <= PAGES_AT_FIRST * page_size as u64;
    Ok(new)
}

/// Writes an empty database: the bytes that bbolt writes, in an order that leaves no valid meta
/// page if it is cut off.
fn initialise<F: File>(file: &F, path: &Path, options: &Options) -> Result<(), Error> {
    let page_size = options.page_size;
    let sizes = PAGE_BYTES_MIN..=PAGE_BYTES_MAX;
    assert!(page_size.is_power_of_two() && sizes.contains(&page_size), "page size {page_size}");
    let sync = || match options.no_sync {
        true => Ok(()),
        false => file.sync_data().map_err(Error::disk("sync", path)),
    };
    let page = |mut bytes: Vec<u8>| {
        bytes.resize(page_size as usize, 0);
        bytes
    };
    let mut bytes = Vec::new();
    for (id, flags) in [(2, FLAG_FREELIST), (3, FLAG_LEAF)] {
        let mut header = Vec::new();
        PageHeader { id, flags, count: 0, overflow: 0 }.encode(&mut header);
        bytes.extend(page(header));
    }
    let write = Error::disk("write", path);
    file.write_all_at(&bytes, 2 * u64::from(page_size)).map_err(write)?;
    sync()?;
    bytes.clear();
    for txid in [0, 1] {
        let root = BucketHeader { root: 3, sequence: 0 };
        let meta = Meta { page_size, root, freelist: 2, high_water: PAGES_AT_FIRST, txid };
        bytes.extend(page(meta.encode(txid)));
    }
    file.write_all_at(&bytes, 0).map_err(Error::disk("write", path))?;
    sync()
}

/// The valid meta page with the higher transaction id. The second page says where it is only if the
/// first can be read; else it is looked for at every possible place.
fn read_meta<F: File>(file: &F, path: &Path) -> Result<Meta, Error> {
    let read = |offset: u64| -> Result<Result<Meta, &'static str>, Error> {
        let mut bytes = [0; META_BYTES];
        let mut len = 0;
        while len < META_BYTES {
            let offset = offset + len as u64;
            match file.read_at(&mut bytes[len..], offset).map_err(Error::disk("read", path))? {
                0 => break,
                read => len += read,
            }
        }
        Ok(Meta::decode(&bytes[..len]))
    };
    let what = match read(0)? {
        Ok(first) => {
            let second = read(u64::from(first.page_size))?;
            let newer = second
                .ok()
                .filter(|second| second.page_size == first.page_size && second.txid > first.txid);
            return Ok(newer.unwrap_or(first));
        }
        Err(what) => what,
    };
    let mut page_size = PAGE_BYTES_MIN;
    while page_size <= PAGE_BYTES_MAX {
        match read(u64::from(page_size))? {
            Ok(second) if second.page_size == page_size => return Ok(second),
            _ => page_size *= 2,
        }
    }
    Err(Error::damaged(path, 0, format!("{what}, and neither is there a second meta page")))
}
