//! Visiting every page that a bucket uses, whatever the bytes are.

use crate::Error;
use crate::layout::{BucketHeader, Page};
use crate::read::Pages;

/// A set of page ids.
#[derive(Debug)]
pub(crate) struct PageSet {
    words: Vec<u64>,
}

impl PageSet {
    /// An empty set for the ids below `high_water`.
    pub(crate) fn new(high_water: u64) -> Self {
        Self { words: vec![0; (high_water / 64) as usize + 1] }
    }

    /// Adds an id; `false` if it was there.
    pub(crate) fn insert(&mut self, id: u64) -> bool {
        let (word, bit) = (&mut self.words[(id / 64) as usize], 1 << (id % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.words[(id / 64) as usize] & (1 << (id % 64)) != 0
    }
}

/// Calls `visit` with id and length in pages of every page of the trees under `roots`, buckets
/// inside buckets included, a page before what is under it. Ends on a tree with a cycle if `visit`
/// fails for a page that it has seen.
pub(crate) fn walk(
    pages: &Pages,
    roots: Vec<u64>,
    mut visit: impl FnMut(u64, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut ahead = roots;
    while let Some(id) = ahead.pop() {
        let (header, bytes) = pages.raw(id)?;
        visit(id, u64::from(header.overflow) + 1)?;
        let page = Page::new(id, bytes).map_err(|what| pages.damaged(id, what))?;
        children(pages, page, &mut ahead)?;
    }
    Ok(())
}

/// Adds the pages right under `page` to `out`.
pub(crate) fn children(pages: &Pages, page: Page<'_>, out: &mut Vec<u64>) -> Result<(), Error> {
    for index in 0..page.count() {
        if !page.is_leaf() {
            let row = page.branch_row(index).ok_or_else(|| pages.bad_row(page.id, index))?;
            out.push(row.1);
            continue;
        }
        let row = pages.leaf_row(page, index)?;
        if row.bucket {
            out.extend(bucket_root(pages, page.id, row.value)?);
        }
    }
    Ok(())
}

/// The root page of the bucket that a row's value describes; `None` if the bucket lies inline.
pub(crate) fn bucket_root(pages: &Pages, page: u64, value: &[u8]) -> Result<Option<u64>, Error> {
    let header =
        BucketHeader::decode(value).ok_or_else(|| pages.damaged(page, "bucket is cut short"))?;
    if header.root != 0 {
        return Ok(Some(header.root));
    }
    let inline = Page::inline(page, value).map_err(|what| pages.damaged(page, what))?;
    for index in 0..inline.count() {
        if pages.leaf_row(inline, index)?.bucket {
            return Err(pages.damaged(page, "bucket inside an inline bucket"));
        }
    }
    Ok(None)
}
