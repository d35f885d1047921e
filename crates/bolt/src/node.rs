//! Pages loaded into memory to be changed.

use crate::Error;
use crate::layout::{PAGE_HEADER_BYTES, Page, ROW_HEADER_BYTES};
use crate::read::{DEPTH_MAX, Pages};

/// A page of a tree in memory, with the nodes under it that have been loaded.
#[derive(Debug)]
pub(crate) struct Node {
    /// The page it was loaded from, and how long that is; `None` if it is new.
    pub(crate) page: Option<(u64, u64)>,
    /// Whether its rows, not counting what is under them, differ from its page.
    pub(crate) dirty: bool,
    /// Whether rows were taken away, so that it may have become too small.
    pub(crate) unbalanced: bool,
    /// The bytes that the rows speak of.
    data: Vec<u8>,
    pub(crate) rows: Rows,
}

/// The rows of a node, ascending.
#[derive(Debug)]
pub(crate) enum Rows {
    Leaf(Vec<LeafRow>),
    Branch(Vec<BranchRow>),
}

/// Where a row's key is, with the value right behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafRow {
    at: usize,
    key_len: u32,
    value_len: u32,
    pub(crate) bucket: bool,
}

/// A key and the page under it.
#[derive(Debug)]
pub(crate) struct BranchRow {
    at: usize,
    key_len: u32,
    /// Means nothing once `child` is there.
    pub(crate) id: u64,
    pub(crate) child: Option<Box<Node>>,
}

impl Node {
    pub(crate) fn empty_leaf() -> Self {
        Self {
            page: None,
            dirty: true,
            unbalanced: false,
            data: Vec::new(),
            rows: Rows::Leaf(Vec::new()),
        }
    }

    /// A new branch over pages with these first keys.
    pub(crate) fn branch(children: &[(Vec<u8>, u64)]) -> Self {
        let mut node = Self { rows: Rows::Branch(Vec::new()), ..Self::empty_leaf() };
        for (key, id) in children {
            node.push_branch(key, *id);
        }
        node
    }

    /// The page `id` of the file.
    pub(crate) fn load(pages: &Pages, id: u64) -> Result<Self, Error> {
        let page = pages.page(id)?;
        let mut node = Self::from_page(pages, page)?;
        node.page = Some((id, page.bytes().len() as u64 / u64::from(pages.meta.page_size)));
        Ok(node)
    }

    /// The rows of a page, as of a node that is not in the file.
    pub(crate) fn from_page(pages: &Pages, page: Page<'_>) -> Result<Self, Error> {
        let start = page.bytes().as_ptr() as usize;
        let place = |bytes: &[u8]| bytes.as_ptr() as usize - start;
        let mut total = PAGE_HEADER_BYTES;
        let rows = if page.is_leaf() {
            let mut rows = Vec::with_capacity(page.count() + 1);
            for index in 0..page.count() {
                let row = pages.leaf_row(page, index)?;
                total += ROW_HEADER_BYTES + row.key.len() + row.value.len();
                rows.push(LeafRow {
                    at: place(row.key),
                    key_len: row.key.len() as u32,
                    value_len: row.value.len() as u32,
                    bucket: row.bucket,
                });
            }
            Rows::Leaf(rows)
        } else {
            let mut rows = Vec::with_capacity(page.count() + 1);
            for index in 0..page.count() {
                let (key, id) =
                    page.branch_row(index).ok_or_else(|| pages.bad_row(page.id, index))?;
                total += ROW_HEADER_BYTES + key.len();
                rows.push(BranchRow { at: place(key), key_len: key.len() as u32, id, child: None });
            }
            Rows::Branch(rows)
        };
        if total > page.bytes().len() {
            return Err(pages.damaged(page.id, "rows overlap"));
        }
        let data = page.bytes().to_vec();
        Ok(Self { page: None, dirty: false, unbalanced: false, data, rows })
    }

    pub(crate) fn len(&self) -> usize {
        match &self.rows {
            Rows::Leaf(rows) => rows.len(),
            Rows::Branch(rows) => rows.len(),
        }
    }

    pub(crate) fn key(&self, index: usize) -> &[u8] {
        let (at, len) = match &self.rows {
            Rows::Leaf(rows) => (rows[index].at, rows[index].key_len),
            Rows::Branch(rows) => (rows[index].at, rows[index].key_len),
        };
        &self.data[at..at + len as usize]
    }

    pub(crate) fn value(&self, row: LeafRow) -> &[u8] {
        let start = row.at + row.key_len as usize;
        &self.data[start..start + row.value_len as usize]
    }

    /// The bytes that a row takes on a page.
    pub(crate) fn row_size(&self, index: usize) -> usize {
        ROW_HEADER_BYTES
            + match &self.rows {
                Rows::Leaf(rows) => rows[index].key_len as usize + rows[index].value_len as usize,
                Rows::Branch(rows) => rows[index].key_len as usize,
            }
    }

    /// The bytes that the node takes on a page.
    pub(crate) fn size(&self) -> usize {
        (0..self.len()).map(|index| self.row_size(index)).sum::<usize>() + PAGE_HEADER_BYTES
    }

    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let len = self.len();
        // Most writes go to the end of a bucket.
        match len.checked_sub(1).map(|last| self.key(last).cmp(key)) {
            None => return Err(0),
            Some(std::cmp::Ordering::Less) => return Err(len),
            Some(std::cmp::Ordering::Equal) => return Ok(len - 1),
            Some(std::cmp::Ordering::Greater) => {}
        }
        let (mut low, mut high) = (0, len - 1);
        while low < high {
            let middle = low.midpoint(high);
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// The row of a branch under which `key` belongs.
    pub(crate) fn search_branch(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(at) => at,
            Err(at) => at.saturating_sub(1),
        }
    }

    /// The row of `key` in the tree under this node, if the way to it has been loaded; else the
    /// page where to look on.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<(bool, &[u8])>, u64> {
        let mut node = self;
        loop {
            match &node.rows {
                Rows::Leaf(rows) => {
                    let row = node.search(key).ok().map(|at| rows[at]);
                    return Ok(row.map(|row| (row.bucket, node.value(row))));
                }
                Rows::Branch(rows) if rows.is_empty() => return Ok(None),
                Rows::Branch(rows) => {
                    let row = &rows[node.search_branch(key)];
                    node = row.child.as_deref().ok_or(row.id)?;
                }
            }
        }
    }

    /// The leaf where `key` belongs, with the way to it loaded.
    pub(crate) fn leaf_mut(&mut self, pages: &Pages, key: &[u8]) -> Result<&mut Self, Error> {
        let mut node = self;
        for _ in 0..DEPTH_MAX {
            if matches!(node.rows, Rows::Leaf(_)) {
                return Ok(node);
            }
            let at = node.search_branch(key);
            node = node.child_mut(pages, at)?;
        }
        let page = node.page.map_or(0, |(id, _)| id);
        Err(pages.damaged(page, "tree too deep"))
    }

    /// The node under the `index`-th row of a branch.
    pub(crate) fn child_mut(&mut self, pages: &Pages, index: usize) -> Result<&mut Self, Error> {
        let Rows::Branch(rows) = &mut self.rows else { panic!("a leaf has no nodes under it") };
        let row = &mut rows[index];
        match &mut row.child {
            Some(child) => Ok(child),
            empty => Ok(empty.insert(Box::new(Self::load(pages, row.id)?))),
        }
    }

    /// Sets a row of this leaf, which must be new or of the same kind.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], bucket: bool) -> Result<(), Error> {
        let found = self.search(key);
        let Rows::Leaf(rows) = &mut self.rows else { panic!("only a leaf has values") };
        let value_len = value.len() as u32;
        if let Ok(index) = found {
            let row = rows[index];
            if row.bucket != bucket {
                return Err(Error::IncompatibleValue);
            }
            if row.value_len == value_len {
                let start = row.at + row.key_len as usize;
                self.data[start..start + value.len()].copy_from_slice(value);
                self.dirty = true;
                return Ok(());
            }
        }
        self.dirty = true;
        let at = self.data.len();
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
        let row = LeafRow { at, key_len: key.len() as u32, value_len, bucket };
        match found {
            Ok(index) => rows[index] = row,
            Err(index) => rows.insert(index, row),
        }
        Ok(())
    }

    /// Removes the row of `key` from this leaf.
    pub(crate) fn delete(&mut self, key: &[u8]) {
        let Ok(index) = self.search(key) else { return };
        let Rows::Leaf(rows) = &mut self.rows else { panic!("only a leaf has values") };
        rows.remove(index);
        (self.dirty, self.unbalanced) = (true, true);
    }

    fn push_branch(&mut self, key: &[u8], id: u64) {
        let Rows::Branch(rows) = &mut self.rows else { panic!("only a branch has pages") };
        let at = self.data.len();
        self.data.extend_from_slice(key);
        rows.push(BranchRow { at, key_len: key.len() as u32, id, child: None });
    }

    /// Replaces the rows of a branch: each by the pages that its node was written to.
    pub(crate) fn replace_children(
        &mut self,
        mut write: impl FnMut(Box<Self>) -> Result<Written, Error>,
    ) -> Result<(), Error> {
        let Rows::Branch(rows) = &mut self.rows else { panic!("only a branch has pages") };
        if rows.iter().all(|row| row.child.is_none()) {
            return Ok(());
        }
        let old = std::mem::take(rows);
        let mut new = Vec::with_capacity(old.len());
        for mut row in old {
            let Some(child) = row.child.take() else {
                new.push(row);
                continue;
            };
            match write(child)? {
                Written::Unchanged => new.push(row),
                Written::Pages(pages) => {
                    self.dirty = true;
                    for (key, id) in pages {
                        let at = self.data.len();
                        self.data.extend_from_slice(&key);
                        new.push(BranchRow { at, key_len: key.len() as u32, id, child: None });
                    }
                }
            }
        }
        self.rows = Rows::Branch(new);
        Ok(())
    }

    /// Removes the `index`-th row of a branch and hands out the node under it.
    pub(crate) fn remove_child(&mut self, index: usize) -> Option<Box<Self>> {
        let Rows::Branch(rows) = &mut self.rows else { panic!("only a branch has pages") };
        (self.dirty, self.unbalanced) = (true, true);
        rows.remove(index).child
    }

    pub(crate) fn is_leaf(&self) -> bool {
        matches!(self.rows, Rows::Leaf(_))
    }

    /// Appends the rows of `other`, which stands right behind this node on the same level.
    pub(crate) fn append(&mut self, mut other: Self) {
        let shift = self.data.len();
        self.data.append(&mut other.data);
        match (&mut self.rows, other.rows) {
            (Rows::Leaf(rows), Rows::Leaf(more)) => {
                rows.extend(more.into_iter().map(|row| LeafRow { at: row.at + shift, ..row }));
            }
            (Rows::Branch(rows), Rows::Branch(more)) => {
                rows.extend(more.into_iter().map(|row| BranchRow { at: row.at + shift, ..row }));
            }
            _ => panic!("neighbours lie on one level"),
        }
        (self.dirty, self.unbalanced) = (true, true);
    }
}

/// What became of a node at commit.
#[derive(Debug)]
pub(crate) enum Written {
    /// It is as it was.
    Unchanged,
    /// These pages hold its rows; first key and page id.
    Pages(Vec<(Vec<u8>, u64)>),
}
