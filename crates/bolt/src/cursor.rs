//! Walking a bucket in order.

use crate::Error;
use crate::layout::Page;
use crate::read::{DEPTH_MAX, Pages};

/// A row as a cursor gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'tx> {
    /// The key, or the name of a bucket.
    pub key: &'tx [u8],
    /// The value; empty for a bucket.
    pub value: &'tx [u8],
    /// Whether the row holds a bucket.
    pub is_bucket: bool,
}

/// A position in a bucket: on a row, before the first, or behind the last.
///
/// Ends on any bytes: a walk visits keys in ascending or descending order only, and stops with an
/// error where a damaged tree would lead it round.
#[derive(Clone, Debug)]
pub struct Cursor<'tx> {
    pages: &'tx Pages,
    root: Page<'tx>,
    /// From the root to a leaf; empty before the first and behind the last row.
    stack: Vec<Frame<'tx>>,
    /// Where the cursor is if `stack` is empty.
    behind: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frame<'tx> {
    page: Page<'tx>,
    index: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl<'tx> Cursor<'tx> {
    pub(crate) fn new(pages: &'tx Pages, root: Page<'tx>) -> Self {
        Self { pages, root, stack: Vec::new(), behind: false }
    }

    /// Goes to the first row.
    pub fn first(&mut self) -> Result<Option<Item<'tx>>, Error> {
        self.edge(Direction::Up)
    }

    /// Goes to the last row.
    pub fn last(&mut self) -> Result<Option<Item<'tx>>, Error> {
        self.edge(Direction::Down)
    }

    /// Goes to the first row whose key is at least `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<Option<Item<'tx>>, Error> {
        self.stack.clear();
        let mut page = self.root;
        loop {
            let broken = || self.pages.damaged(page.id, "a row lies outside the page");
            if page.is_leaf() {
                let index = match page.search(key).ok_or_else(broken)? {
                    Ok(at) | Err(at) => at,
                };
                self.stack.push(Frame { page, index });
                break;
            }
            let index = page.search_branch(key).ok_or_else(broken)?;
            self.stack.push(Frame { page, index });
            page = self.child(page, index)?;
        }
        let Some(top) = self.stack.last() else { return Ok(None) };
        if top.index < top.page.count() {
            return self.item();
        }
        self.next_leaf(Direction::Up, None)
    }

    /// Goes to the row behind this one; from before the first row, to the first.
    #[expect(clippy::should_implement_trait, reason = "it can fail")]
    pub fn next(&mut self) -> Result<Option<Item<'tx>>, Error> {
        let Some(top) = self.stack.last_mut() else {
            return if self.behind { Ok(None) } else { self.first() };
        };
        if top.index + 1 < top.page.count() {
            top.index += 1;
            return self.item();
        }
        let here = top.page.key(top.index);
        self.next_leaf(Direction::Up, here)
    }

    /// Goes to the row before this one; from behind the last row, to the last.
    pub fn prev(&mut self) -> Result<Option<Item<'tx>>, Error> {
        let Some(top) = self.stack.last_mut() else {
            return if self.behind { self.last() } else { Ok(None) };
        };
        if top.index > 0 {
            top.index -= 1;
            return self.item();
        }
        let here = top.page.key(top.index);
        self.next_leaf(Direction::Down, here)
    }

    fn edge(&mut self, direction: Direction) -> Result<Option<Item<'tx>>, Error> {
        self.stack.clear();
        self.descend(self.root, direction)?;
        match self.stack.last() {
            Some(top) if top.page.count() > 0 => self.item(),
            _ => self.next_leaf(direction, None),
        }
    }

    /// Goes to the nearest row in another leaf. Leaves may be empty: bbolt leaves such pages behind
    /// within a transaction. `here` is the key that the cursor comes from.
    fn next_leaf(
        &mut self,
        direction: Direction,
        here: Option<&'tx [u8]>,
    ) -> Result<Option<Item<'tx>>, Error> {
        for _ in 0..self.pages.meta.high_water {
            if !self.turn(direction)? {
                self.stack.clear();
                self.behind = direction == Direction::Up;
                return Ok(None);
            }
            let Some(Frame { page, .. }) = self.stack.last().copied() else { return Ok(None) };
            if page.count() == 0 {
                continue;
            }
            let item = self.item()?;
            let in_order = match (here, &item, direction) {
                (Some(here), Some(item), Direction::Up) => here < item.key,
                (Some(here), Some(item), Direction::Down) => here > item.key,
                _ => true,
            };
            return if in_order {
                Ok(item)
            } else {
                Err(self.pages.damaged(page.id, "keys are not in order across pages"))
            };
        }
        Err(self.pages.damaged(self.root.id, "more leaves than pages"))
    }

    /// Leaves the leaf for the next one; `false` if there is none.
    fn turn(&mut self, direction: Direction) -> Result<bool, Error> {
        self.stack.pop();
        while let Some(frame) = self.stack.last_mut() {
            let next = match direction {
                Direction::Up => frame.index + 1,
                Direction::Down => frame.index.wrapping_sub(1),
            };
            if next < frame.page.count() {
                frame.index = next;
                let page = frame.page;
                let child = self.child(page, next)?;
                self.descend(child, direction)?;
                return Ok(true);
            }
            self.stack.pop();
        }
        Ok(false)
    }

    /// Pushes the way from `page` to the leaf at its near edge.
    fn descend(&mut self, mut page: Page<'tx>, direction: Direction) -> Result<(), Error> {
        loop {
            let index = match direction {
                Direction::Up => 0,
                Direction::Down => page.count().saturating_sub(1),
            };
            self.stack.push(Frame { page, index });
            if page.is_leaf() {
                return Ok(());
            }
            page = self.child(page, index)?;
        }
    }

    fn child(&self, page: Page<'tx>, index: usize) -> Result<Page<'tx>, Error> {
        if self.stack.len() > DEPTH_MAX {
            return Err(self.pages.damaged(page.id, "tree too deep"));
        }
        let (_, id) = page.branch_row(index).ok_or_else(|| self.pages.bad_row(page.id, index))?;
        self.pages.page(id)
    }

    /// The row that the cursor is on.
    fn item(&self) -> Result<Option<Item<'tx>>, Error> {
        let Some(top) = self.stack.last() else { return Ok(None) };
        let row = self.pages.leaf_row(top.page, top.index)?;
        let value = if row.bucket { &[] } else { row.value };
        Ok(Some(Item { key: row.key, value, is_bucket: row.bucket }))
    }

    /// The bucket that the cursor is on, if it is on one.
    pub fn bucket(&self) -> Result<Option<crate::Bucket<'tx>>, Error> {
        let Some(top) = self.stack.last() else { return Ok(None) };
        match self.pages.leaf_row(top.page, top.index)? {
            row if row.bucket => self.pages.open_bucket(top.page.id, row.value).map(Some),
            _ => Ok(None),
        }
    }
}
