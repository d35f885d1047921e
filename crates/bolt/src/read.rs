//! Reading transactions.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use env::{File, Map};

use crate::cursor::Cursor;
use crate::layout::{BucketHeader, LeafRow, META_BYTES, Meta, Page, PageHeader};
use crate::{Error, Item};

/// How many branch pages may lie above a leaf. A tree of the largest file has far fewer; more are
/// a cycle.
pub(crate) const DEPTH_MAX: usize = 64;

/// A file and its memory map, without their types.
pub(crate) trait Source: Send + Sync + std::fmt::Debug {
    fn map(&self) -> &dyn Map;
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A [`Source`] on a disk's file.
#[derive(Debug)]
pub(crate) struct Mapped<F: File> {
    pub(crate) file: Arc<F>,
    pub(crate) map: F::Map,
}

impl<F: File> Source for Mapped<F> {
    fn map(&self) -> &dyn Map {
        &self.map
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}

/// The pages up to a high-water mark.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) path: Arc<PathBuf>,
    /// Invariant: up to [`Meta::size`] the bytes are in the file and in the map.
    pub(crate) meta: Meta,
}

impl Pages {
    /// The page `id` with its overflow pages, as far as its own header can be trusted.
    pub(crate) fn raw(&self, id: u64) -> Result<(PageHeader, &[u8]), Error> {
        if !(2..self.meta.high_water).contains(&id) {
            return Err(self.damaged(id, "page out of range"));
        }
        let page_size = u64::from(self.meta.page_size);
        let first = self.source.map().slice(id * page_size, self.meta.page_size as usize);
        let header = PageHeader::decode(first).ok_or_else(|| self.damaged(id, "cut short"))?;
        if header.id != id {
            return Err(self.damaged(id, format!("page calls itself {}", header.id)));
        }
        if header.overflow == 0 {
            return Ok((header, first));
        }
        let pages = u64::from(header.overflow) + 1;
        if pages > self.meta.high_water - id {
            return Err(self.damaged(id, "overflow pages out of range"));
        }
        let len = usize::try_from(pages * page_size)
            .map_err(|_| self.damaged(id, "overflow pages out of range"))?;
        Ok((header, self.source.map().slice(id * page_size, len)))
    }

    /// The branch or leaf page `id`.
    pub(crate) fn page(&self, id: u64) -> Result<Page<'_>, Error> {
        let (_, bytes) = self.raw(id)?;
        Page::new(id, bytes).map_err(|what| self.damaged(id, what))
    }

    pub(crate) fn damaged(&self, page: u64, what: impl Into<String>) -> Error {
        Error::damaged(&self.path, page, what)
    }

    pub(crate) fn bad_row(&self, page: u64, index: usize) -> Error {
        self.damaged(page, format!("row {index} lies outside the page"))
    }

    /// The `index`-th row of a leaf.
    pub(crate) fn leaf_row<'a>(&self, page: Page<'a>, index: usize) -> Result<LeafRow<'a>, Error> {
        page.leaf_row(index).ok_or_else(|| self.bad_row(page.id, index))
    }

    /// The row of `key` in the tree under `page`.
    pub(crate) fn find<'a>(
        &'a self,
        mut page: Page<'a>,
        key: &[u8],
    ) -> Result<Option<LeafRow<'a>>, Error> {
        for _ in 0..DEPTH_MAX {
            let broken = || self.damaged(page.id, "a row lies outside the page");
            if page.is_leaf() {
                return match page.search(key).ok_or_else(broken)? {
                    Ok(at) => self.leaf_row(page, at).map(Some),
                    Err(_) => Ok(None),
                };
            }
            let at = page.search_branch(key).ok_or_else(broken)?;
            let (_, child) = page.branch_row(at).ok_or_else(broken)?;
            page = self.page(child)?;
        }
        Err(self.damaged(page.id, "tree too deep"))
    }

    /// The bucket that the value of a bucket's row describes.
    pub(crate) fn open_bucket<'a>(
        &'a self,
        page: u64,
        value: &'a [u8],
    ) -> Result<Bucket<'a>, Error> {
        let header =
            BucketHeader::decode(value).ok_or_else(|| self.damaged(page, "bucket is cut short"))?;
        let root = if header.root == 0 {
            Page::inline(page, value).map_err(|what| self.damaged(page, what))?
        } else {
            self.page(header.root)?
        };
        Ok(Bucket { pages: self, header, root })
    }
}

/// What a committed transaction left behind.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) pages: Pages,
    /// Pages known to be free for the next write transaction.
    pub(crate) free_pages: u64,
}

/// A consistent view of one committed state. Cheap to clone, and may be shared by threads. While it
/// lives, the pages that it can see are not reused.
#[derive(Clone, Debug)]
pub struct ReadTx {
    snapshot: Arc<Snapshot>,
}

impl ReadTx {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot }
    }

    pub(crate) fn pages(&self) -> &Pages {
        &self.snapshot.pages
    }

    /// The value of `key` in the top-level bucket `bucket`; `None` if either is missing.
    pub fn get(&self, bucket: &[u8], key: &[u8]) -> Result<Option<&[u8]>, Error> {
        match self.bucket(bucket)? {
            Some(bucket) => bucket.get(key),
            None => Ok(None),
        }
    }

    /// The top-level bucket `name`.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'_>>, Error> {
        self.root()?.bucket(name)
    }

    /// A cursor over the top-level bucket `name`, before its first row.
    pub fn cursor(&self, name: &[u8]) -> Result<Option<Cursor<'_>>, Error> {
        Ok(self.bucket(name)?.map(|bucket| bucket.cursor()))
    }

    /// The names of the top-level buckets, ascending.
    pub fn buckets(&self) -> Result<Vec<&[u8]>, Error> {
        let mut cursor = self.root()?.cursor();
        let mut names = Vec::new();
        while let Some(Item { key, is_bucket, .. }) = cursor.next()? {
            if is_bucket {
                names.push(key);
            }
        }
        Ok(names)
    }

    /// The bucket that holds the top-level buckets.
    pub fn root(&self) -> Result<Bucket<'_>, Error> {
        let pages = self.pages();
        let header = pages.meta.root;
        Ok(Bucket { pages, header, root: pages.page(header.root)? })
    }

    /// A value that this transaction gave out, without a copy. While the bytes live, so does the transaction, and the
    /// pages that it can see are not reused: whoever keeps them for long makes the file grow.
    ///
    /// # Panics
    /// If the value does not lie in the map.
    #[must_use]
    pub fn lend(&self, value: &[u8]) -> Bytes {
        let map = self.pages().source.map().slice(0, 0);
        let offset = value.as_ptr().addr().checked_sub(map.as_ptr().addr());
        let offset = offset.expect("a value of this map") as u64;
        Bytes::from_owner(Lent { tx: self.clone(), offset, len: value.len() })
    }

    /// The file that is read.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.pages().path
    }

    /// The transaction that left this state.
    #[must_use]
    pub fn txid(&self) -> u64 {
        self.pages().meta.txid
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> u32 {
        self.pages().meta.page_size
    }

    /// High-water mark times page size, in bytes: etcd's `dbSize`, and the length of a copy. Not
    /// the length of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.pages().meta.size()
    }

    /// [`ReadTx::size`] without the free pages: etcd's `dbSizeInUse`. Until the first commit after
    /// opening it is not known which pages are free, and none are taken off. Pages that the last
    /// commit itself replaced still count.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        self.size() - self.snapshot.free_pages * u64::from(self.page_size())
    }

    /// Reads the bytes from `offset` on of a copy of this state that is a database of its own,
    /// [`ReadTx::size`] bytes long; returns how many, 0 only at the end.
    ///
    /// Both meta pages are made anew for this state, so that later commits do not matter. Pages
    /// that this state does not use have whatever bytes the file has at this moment.
    pub fn read_copy_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Error> {
        let page_size = u64::from(self.page_size());
        let left = usize::try_from(self.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let rest = &mut buf[done..len];
            let (id, within) = (at / page_size, (at % page_size) as usize);
            if id >= 2 {
                // From the file and not from the map: a page that is free in this state may be
                // written at this moment, which the map's contract excludes.
                self.snapshot
                    .pages
                    .source
                    .read_exact_at(rest, at)
                    .map_err(Error::disk("read", self.path()))?;
                return Ok(len);
            }
            let take = rest.len().min(page_size as usize - within);
            self.meta_page(id, within, &mut rest[..take]);
            done += take;
        }
        Ok(done)
    }

    /// Fills `out` with the bytes of the copy's meta page `id` from `within` on.
    fn meta_page(&self, id: u64, within: usize, out: &mut [u8]) {
        // The second one is older, so that both are valid and the first one wins.
        let mut meta = self.pages().meta;
        meta.txid = meta.txid.saturating_sub(id);
        let page = meta.encode(id);
        assert_eq!(page.len(), META_BYTES, "a meta page has a fixed length");
        let used = &page[within.min(page.len())..];
        let used = &used[..used.len().min(out.len())];
        out.fill(0);
        out[..used.len()].copy_from_slice(used);
    }
}

/// A part of the map, and what keeps it.
struct Lent {
    tx: ReadTx,
    offset: u64,
    len: usize,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.tx.pages().source.map().slice(self.offset, self.len)
    }
}

/// A bucket of a [`ReadTx`].
#[derive(Clone, Copy, Debug)]
pub struct Bucket<'tx> {
    pages: &'tx Pages,
    header: BucketHeader,
    root: Page<'tx>,
}

impl<'tx> Bucket<'tx> {
    /// The value of `key`; `None` if there is none or if it is a bucket.
    pub fn get(&self, key: &[u8]) -> Result<Option<&'tx [u8]>, Error> {
        let row = self.pages.find(self.root, key)?;
        Ok(row.and_then(|row| (!row.bucket).then_some(row.value)))
    }

    /// The bucket `name` inside this one; `None` if there is none or if it is a value.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Self>, Error> {
        match self.pages.find(self.root, name)? {
            Some(row) if row.bucket => self.pages.open_bucket(self.root.id, row.value).map(Some),
            _ => Ok(None),
        }
    }

    /// A cursor before the first row.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'tx> {
        Cursor::new(self.pages, self.root)
    }

    /// The bucket's sequence number.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.header.sequence
    }
}
