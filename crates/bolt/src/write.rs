//! Writing transactions.

use std::collections::BTreeMap;

use env::Disk;

use crate::db::Db;
use crate::layout::{BucketHeader, FREELIST_NONE, Meta, Page};
use crate::node::Node;
use crate::read::Pages;
use crate::spill::{self, Spill};
use crate::walk::walk;
use crate::{Error, KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// How full bbolt leaves pages that it splits, unless told otherwise.
const FILL_PERCENT_DEFAULT: f64 = 0.5;

/// The one transaction that changes the database. Dropping it without [`WriteTx::commit`] leaves no
/// trace: it takes nothing from the free pages and writes nothing before.
#[derive(Debug)]
pub struct WriteTx<'db, D: Disk> {
    db: &'db mut Db<D>,
    root: BucketState,
    before: Before,
}

/// What a transaction starts from, and what it does away with of it.
#[derive(Debug)]
struct Before {
    pages: Pages,
    /// Pages that are not needed any more: first page to length.
    freed: BTreeMap<u64, u64>,
}

/// A bucket as far as this transaction has touched it.
#[derive(Debug)]
struct BucketState {
    /// As in the file; a bucket that is not in it has no root page.
    header: BucketHeader,
    sequence: u64,
    /// Invariant: loaded if the bucket has no root page.
    root: Option<Node>,
    buckets: BTreeMap<Vec<u8>, Self>,
    fill_percent: f64,
}

/// A bucket of a [`WriteTx`].
#[derive(Debug)]
pub struct BucketMut<'tx> {
    state: &'tx mut BucketState,
    before: &'tx mut Before,
}

impl<'db, D: Disk> WriteTx<'db, D> {
    pub(crate) fn new(db: &'db mut Db<D>, pages: Pages) -> Self {
        let root = BucketState::in_file(pages.meta.root);
        Self { db, root, before: Before { pages, freed: BTreeMap::new() } }
    }

    fn root(&mut self) -> BucketMut<'_> {
        BucketMut { state: &mut self.root, before: &mut self.before }
    }

    /// The top-level bucket `name`.
    pub fn bucket(&mut self, name: &[u8]) -> Result<Option<BucketMut<'_>>, Error> {
        self.root().into_bucket(name)
    }

    /// The top-level bucket `name`, made if it is missing.
    pub fn create_bucket_if_missing(&mut self, name: &[u8]) -> Result<BucketMut<'_>, Error> {
        self.root().into_bucket_or_new(name)
    }

    /// Removes the top-level bucket `name` and all it holds; `false` if there is none.
    pub fn delete_bucket(&mut self, name: &[u8]) -> Result<bool, Error> {
        self.root().delete_bucket(name)
    }

    /// Writes the changes and makes them durable. If there are none, writes nothing.
    ///
    /// The data pages are durable before the meta page that leads to them is written. After an
    /// error the database refuses further writes: what is on the disk is not known.
    pub fn commit(self) -> Result<(), Error> {
        let Self { db, mut root, mut before } = self;
        let mut meta = before.pages.meta;
        meta.txid += 1;
        let (freelist, buffer) = db.begin_commit();
        let mut spill = Spill {
            pages: &before.pages,
            freelist,
            freed: &mut before.freed,
            txid: meta.txid,
            high_water: meta.high_water,
            data: buffer,
            written: Vec::new(),
        };
        root.settle(&mut spill)?;
        let header = root.write_tree(&mut spill)?;
        meta.high_water = spill.high_water;
        let Spill { data, written, .. } = spill;
        let Some(header) = header else {
            assert!(before.freed.is_empty(), "what frees a page changes the root");
            db.end_commit(data);
            return Ok(());
        };
        meta.root = header;
        if meta.freelist != FREELIST_NONE {
            let (header, _) = before.pages.raw(meta.freelist)?;
            before.freed.insert(meta.freelist, u64::from(header.overflow) + 1);
            meta.freelist = FREELIST_NONE;
        }
        db.write_pages(&data, written, &meta)?;
        db.adopt(meta, before.freed)?;
        db.end_commit(data);
        Ok(())
    }
}

impl BucketState {
    fn in_file(header: BucketHeader) -> Self {
        Self {
            header,
            sequence: header.sequence,
            root: None,
            buckets: BTreeMap::new(),
            fill_percent: FILL_PERCENT_DEFAULT,
        }
    }

    fn new() -> Self {
        Self { root: Some(Node::empty_leaf()), ..Self::in_file(BucketHeader::default()) }
    }

    fn root_mut(&mut self, pages: &Pages) -> Result<&mut Node, Error> {
        match &mut self.root {
            Some(root) => Ok(root),
            empty => Ok(empty.insert(Node::load(pages, self.header.root)?)),
        }
    }

    fn find<'a>(&'a self, pages: &'a Pages, key: &[u8]) -> Result<Option<(bool, &'a [u8])>, Error> {
        let found = match &self.root {
            Some(root) => root.find(key),
            None => Err(self.header.root),
        };
        match found {
            Ok(row) => Ok(row),
            Err(page) => {
                let row = pages.find(pages.page(page)?, key)?;
                Ok(row.map(|row| (row.bucket, row.value)))
            }
        }
    }

    /// Writes the settled bucket to pages, whatever its size; `None` if it is as it was.
    fn write_tree(self, spill: &mut Spill<'_>) -> Result<Option<BucketHeader>, Error> {
        let Self { header, sequence, root, fill_percent, .. } = self;
        let page = match root {
            Some(root) => spill.tree(root, fill_percent)?,
            None => None,
        };
        let after = BucketHeader { root: page.unwrap_or(header.root), sequence };
        Ok((after != header).then_some(after))
    }

    /// Writes the bucket; returns the value of its row, `None` if that is as it was.
    fn write(mut self, spill: &mut Spill<'_>) -> Result<Option<Vec<u8>>, Error> {
        self.settle(spill)?;
        if self.sequence != self.header.sequence && self.header.root == 0 {
            self.root_mut(spill.pages)?.dirty = true;
        }
        let page_size = spill.pages.meta.page_size as usize;
        if let Some(root) = self.root.as_ref().filter(|root| root.dirty)
            && let Some(value) = spill::inline(root, self.sequence, page_size)
        {
            spill::free_page(root.page, spill.freed);
            return Ok(Some(value));
        }
        Ok(self.write_tree(spill)?.map(|header| header.encode().to_vec()))
    }

    /// Writes the buckets inside this one, and merges what has become small in it.
    fn settle(&mut self, spill: &mut Spill<'_>) -> Result<(), Error> {
        for (name, bucket) in std::mem::take(&mut self.buckets) {
            if let Some(value) = bucket.write(spill)? {
                let root = self.root_mut(spill.pages)?;
                root.leaf_mut(spill.pages, &name)?.put(&name, &value, true)?;
            }
        }
        match &mut self.root {
            Some(root) => spill::rebalance(root, spill.pages, spill.freed),
            None => Ok(()),
        }
    }
}

impl<'tx> BucketMut<'tx> {
    /// How full, from 0.1 to 1, pages are left that must be split: 0.5 suits keys in any order,
    /// more suits ascending ones.
    pub fn set_fill_percent(&mut self, fill_percent: f64) {
        self.state.fill_percent = fill_percent;
    }

    /// Sets a row.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        check_key(key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::ValueTooLarge);
        }
        let pages = &self.before.pages;
        self.state.root_mut(pages)?.leaf_mut(pages, key)?.put(key, value, false)
    }

    /// Removes a row; `false` if there is none.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, Error> {
        let pages = &self.before.pages;
        match self.state.find(pages, key)? {
            None => return Ok(false),
            Some((true, _)) => return Err(Error::IncompatibleValue),
            Some((false, _)) => {}
        }
        self.state.root_mut(pages)?.leaf_mut(pages, key)?.delete(key);
        Ok(true)
    }

    /// The value of `key`; `None` if there is none or if it is a bucket.
    pub fn get(&self, key: &[u8]) -> Result<Option<&[u8]>, Error> {
        let row = self.state.find(&self.before.pages, key)?;
        Ok(row.and_then(|(bucket, value)| (!bucket).then_some(value)))
    }

    /// The bucket's sequence number.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.state.sequence
    }

    /// Sets the bucket's sequence number.
    pub fn set_sequence(&mut self, sequence: u64) {
        self.state.sequence = sequence;
    }

    /// The bucket `name` inside this one.
    pub fn bucket(&mut self, name: &[u8]) -> Result<Option<BucketMut<'_>>, Error> {
        self.reborrow().into_bucket(name)
    }

    /// The bucket `name` inside this one, made if it is missing.
    pub fn create_bucket_if_missing(&mut self, name: &[u8]) -> Result<BucketMut<'_>, Error> {
        self.reborrow().into_bucket_or_new(name)
    }

    /// Removes the bucket `name` inside this one and all it holds; `false` if there is none.
    pub fn delete_bucket(&mut self, name: &[u8]) -> Result<bool, Error> {
        let Before { pages, freed } = &mut *self.before;
        let value = match self.state.find(pages, name)? {
            None => return Ok(false),
            Some((false, _)) => return Err(Error::IncompatibleValue),
            Some((true, value)) => value,
        };
        let root = BucketHeader::decode(value).map_or(0, |header| header.root);
        if root != 0 {
            // Buckets inside it may have been removed before: their pages come up again here.
            walk(pages, vec![root], |id, count| {
                freed.insert(id, count);
                Ok(())
            })?;
        }
        self.state.buckets.remove(name);
        self.state.root_mut(pages)?.leaf_mut(pages, name)?.delete(name);
        Ok(true)
    }

    fn reborrow(&mut self) -> BucketMut<'_> {
        BucketMut { state: self.state, before: self.before }
    }

    /// The bucket `name` inside this one, for a path of names walked in a loop.
    pub fn into_bucket(self, name: &[u8]) -> Result<Option<Self>, Error> {
        let Self { state, before } = self;
        if !state.buckets.contains_key(name) {
            let pages = &before.pages;
            let Some((true, value)) = state.find(pages, name)? else { return Ok(None) };
            let bucket = open(pages, value)?;
            state.buckets.insert(name.to_vec(), bucket);
        }
        Ok(state.buckets.get_mut(name).map(|state| BucketMut { state, before }))
    }

    pub(crate) fn into_bucket_or_new(self, name: &[u8]) -> Result<Self, Error> {
        check_key(name)?;
        let pages = &self.before.pages;
        match self.state.find(pages, name)? {
            Some((true, _)) => {}
            Some((false, _)) => return Err(Error::IncompatibleValue),
            None => {
                let empty = spill::inline(&Node::empty_leaf(), 0, pages.meta.page_size as usize)
                    .expect("an empty bucket lies inline");
                self.state.root_mut(pages)?.leaf_mut(pages, name)?.put(name, &empty, true)?;
                self.state.buckets.insert(name.to_vec(), BucketState::new());
            }
        }
        Ok(self.into_bucket(name)?.expect("found or made above"))
    }
}

/// The bucket that a row's value describes.
fn open(pages: &Pages, value: &[u8]) -> Result<BucketState, Error> {
    let root_page = pages.meta.root.root;
    let header = BucketHeader::decode(value)
        .ok_or_else(|| pages.damaged(root_page, "bucket is cut short"))?;
    let mut state = BucketState::in_file(header);
    if header.root == 0 {
        let page = Page::inline(root_page, value).map_err(|what| pages.damaged(root_page, what))?;
        state.root = Some(Node::from_page(pages, page)?);
    }
    Ok(state)
}

fn check_key(key: &[u8]) -> Result<(), Error> {
    match key.len() {
        0 => Err(Error::KeyRequired),
        len if len > KEY_BYTES_MAX => Err(Error::KeyTooLarge),
        _ => Ok(()),
    }
}

impl Meta {
    /// Which of the two meta pages this state is written to.
    pub(crate) fn slot(&self) -> u64 {
        self.txid % 2
    }
}
