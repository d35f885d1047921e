//! From nodes back to pages: merging what has become small, splitting what has become large.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::Error;
use crate::freelist::Freelist;
use crate::layout::{
    BucketHeader, FLAG_BRANCH, FLAG_LEAF, PAGE_HEADER_BYTES, PageHeader, ROW_BUCKET,
    ROW_HEADER_BYTES,
};
use crate::node::{Node, Rows, Written};
use crate::read::Pages;

/// The least rows that a split leaves on a page.
const SPLIT_ROWS_MIN: usize = 2;

/// The pages that a commit writes and frees.
#[derive(Debug)]
pub(crate) struct Spill<'a> {
    /// The state before this transaction.
    pub(crate) pages: &'a Pages,
    pub(crate) freelist: &'a mut Freelist,
    /// Pages replaced by this transaction: first page to length.
    pub(crate) freed: &'a mut BTreeMap<u64, u64>,
    pub(crate) txid: u64,
    pub(crate) high_water: u64,
    /// The bytes of all pages written, in the order of `written`.
    pub(crate) data: Vec<u8>,
    /// First page, and its place in `data`.
    pub(crate) written: Vec<(u64, Range<usize>)>,
}

/// Merges the nodes under `root` from which rows were taken and that have become too small.
pub(crate) fn rebalance(
    root: &mut Node,
    pages: &Pages,
    freed: &mut BTreeMap<u64, u64>,
) -> Result<(), Error> {
    rebalance_children(root, pages, freed)?;
    while !root.is_leaf() && root.len() <= 1 && root.unbalanced {
        let page = root.page;
        let mut heir = if root.len() == 0 {
            Node::empty_leaf()
        } else {
            root.child_mut(pages, 0)?;
            *root.remove_child(0).expect("loaded above")
        };
        // The heir's own page is freed when it is written; it must be, for its parent is gone.
        heir.dirty = true;
        free_page(page, freed);
        *root = heir;
    }
    Ok(())
}

fn rebalance_children(
    node: &mut Node,
    pages: &Pages,
    freed: &mut BTreeMap<u64, u64>,
) -> Result<(), Error> {
    let Rows::Branch(rows) = &mut node.rows else { return Ok(()) };
    let mut small = false;
    for child in rows.iter_mut().filter_map(|row| row.child.as_deref_mut()) {
        rebalance_children(child, pages, freed)?;
        small |= is_small(child, pages);
    }
    let mut index = 0;
    while small && index < node.len() {
        let child = match &node.rows {
            Rows::Branch(rows) => rows[index].child.as_deref(),
            Rows::Leaf(_) => None,
        };
        match child {
            Some(child) if is_small(child, pages) => {
                if child.len() == 0 {
                    free_page(child.page, freed);
                    node.remove_child(index);
                } else if node.len() > 1 {
                    index = index.saturating_sub(1);
                    merge(node, index, pages, freed)?;
                } else {
                    index += 1;
                }
            }
            _ => index += 1,
        }
    }
    Ok(())
}

/// Whether rows were taken away and what is left should join a neighbour.
fn is_small(node: &Node, pages: &Pages) -> bool {
    let rows_min = if node.is_leaf() { 1 } else { 2 };
    let threshold = pages.meta.page_size as usize / 4;
    node.unbalanced && (node.len() <= rows_min || node.size() <= threshold)
}

/// Moves the rows under row `index + 1` of a branch to the node under row `index`.
fn merge(
    node: &mut Node,
    index: usize,
    pages: &Pages,
    freed: &mut BTreeMap<u64, u64>,
) -> Result<(), Error> {
    let left_is_leaf = node.child_mut(pages, index)?.is_leaf();
    let right = node.child_mut(pages, index + 1)?;
    if right.is_leaf() != left_is_leaf {
        let page = right.page.map_or(0, |(id, _)| id);
        return Err(pages.damaged(page, "a branch and a leaf side by side"));
    }
    let right = *node.remove_child(index + 1).expect("loaded above");
    free_page(right.page, freed);
    let unbalanced = right.unbalanced;
    let left = node.child_mut(pages, index)?;
    let was_unbalanced = left.unbalanced;
    left.append(right);
    assert!(unbalanced || was_unbalanced, "only small nodes are merged");
    Ok(())
}

pub(crate) fn free_page(page: Option<(u64, u64)>, freed: &mut BTreeMap<u64, u64>) {
    if let Some((id, pages)) = page {
        assert!(freed.insert(id, pages).is_none(), "page {id} is freed twice");
    }
}

impl Spill<'_> {
    /// Writes a tree; returns its root page, `None` if nothing has changed.
    pub(crate) fn tree(&mut self, root: Node, fill_percent: f64) -> Result<Option<u64>, Error> {
        let Written::Pages(mut top) = self.node(root, fill_percent)? else { return Ok(None) };
        while top.len() > 1 {
            match self.node(Node::branch(&top), fill_percent)? {
                Written::Pages(pages) => top = pages,
                Written::Unchanged => panic!("a new branch is written"),
            }
        }
        Ok(Some(match top.first() {
            Some((_, id)) => *id,
            None => self.page(&Node::empty_leaf(), 0..0)?,
        }))
    }

    fn node(&mut self, mut node: Node, fill_percent: f64) -> Result<Written, Error> {
        if !node.is_leaf() {
            node.replace_children(|child| self.node(*child, fill_percent))?;
        }
        if !node.dirty {
            return Ok(Written::Unchanged);
        }
        free_page(node.page, self.freed);
        let parts = split(&node, self.pages.meta.page_size as usize, fill_percent);
        let write = |part: Range<usize>| {
            let key = node.key(part.start).to_vec();
            Ok((key, self.page(&node, part)?))
        };
        parts.into_iter().map(write).collect::<Result<_, _>>().map(Written::Pages)
    }

    /// Writes some rows of a node to a page of their own.
    fn page(&mut self, node: &Node, rows: Range<usize>) -> Result<u64, Error> {
        let page_size = self.pages.meta.page_size as usize;
        let size = rows.clone().map(|at| node.row_size(at)).sum::<usize>() + PAGE_HEADER_BYTES;
        if u32::try_from(size).is_err() {
            // Several values of 2 GiB side by side: the format cannot say where they are.
            return Err(Error::ValueTooLarge);
        }
        let pages = size.div_ceil(page_size);
        let id = self.allocate(pages as u64);
        let start = self.data.len();
        encode(node, rows, id, pages as u32 - 1, &mut self.data);
        assert_eq!(self.data.len() - start, size, "a page is as long as its rows");
        self.data.resize(start + pages * page_size, 0);
        self.written.push((id, start..self.data.len()));
        Ok(id)
    }

    fn allocate(&mut self, pages: u64) -> u64 {
        if let Some(id) = self.freelist.allocate(pages, self.txid) {
            return id;
        }
        let id = self.high_water;
        self.high_water += pages;
        self.freelist.note_allocated(id, self.txid);
        id
    }
}

/// The value of a bucket's row, with the bucket's only page in it; `None` if it is too large for
/// that, or holds buckets itself.
pub(crate) fn inline(root: &Node, sequence: u64, page_size: usize) -> Option<Vec<u8>> {
    let Rows::Leaf(rows) = &root.rows else { return None };
    if rows.iter().any(|row| row.bucket) || root.size() > page_size / 4 {
        return None;
    }
    let mut value = BucketHeader { root: 0, sequence }.encode().to_vec();
    encode(root, 0..rows.len(), 0, 0, &mut value);
    Some(value)
}

/// Appends a page without its padding.
fn encode(node: &Node, rows: Range<usize>, id: u64, overflow: u32, out: &mut Vec<u8>) {
    let flags = if node.is_leaf() { FLAG_LEAF } else { FLAG_BRANCH };
    let count = u16::try_from(rows.len()).expect("a split leaves no more rows than fit");
    PageHeader { id, flags, count, overflow }.encode(out);
    // From a row's header to its key: the headers from it on, and the data of the rows before it.
    let mut position = (rows.len() * ROW_HEADER_BYTES) as u32;
    for at in rows.clone() {
        let key_len = node.key(at).len() as u32;
        let value_len = match &node.rows {
            Rows::Leaf(leaf) => {
                let value_len = node.value(leaf[at]).len() as u32;
                let flags = if leaf[at].bucket { ROW_BUCKET } else { 0 };
                for number in [flags, position, key_len, value_len] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                value_len
            }
            Rows::Branch(branch) => {
                out.extend_from_slice(&position.to_le_bytes());
                out.extend_from_slice(&key_len.to_le_bytes());
                out.extend_from_slice(&branch[at].id.to_le_bytes());
                0
            }
        };
        position = position - ROW_HEADER_BYTES as u32 + key_len + value_len;
    }
    for at in rows {
        out.extend_from_slice(node.key(at));
        if let Rows::Leaf(leaf) = &node.rows {
            out.extend_from_slice(node.value(leaf[at]));
        }
    }
}

/// How a node's rows are spread over pages: as bbolt does it, from the left, each page filled up to
/// `fill_percent` and with two rows at least.
fn split(node: &Node, page_size: usize, fill_percent: f64) -> Vec<Range<usize>> {
    let threshold = (page_size as f64 * fill_percent.clamp(0.1, 1.0)) as usize;
    let (mut start, len) = (0, node.len());
    let mut left = node.size();
    let mut parts = Vec::new();
    while start < len {
        let rest = len - start;
        if rest <= 2 * SPLIT_ROWS_MIN || left < page_size {
            parts.push(start..len);
            break;
        }
        let mut size = PAGE_HEADER_BYTES;
        let mut end = start;
        while end < len - SPLIT_ROWS_MIN {
            let row = node.row_size(end);
            if end - start >= SPLIT_ROWS_MIN && size + row > threshold {
                break;
            }
            size += row;
            end += 1;
        }
        left -= size - PAGE_HEADER_BYTES;
        parts.push(start..end);
        start = end;
    }
    parts
}
