//! Looking a whole database over.

use crate::layout::{FLAG_FREELIST, FREELIST_NONE, PAGE_HEADER_BYTES, Page, u64_at};
use crate::read::Pages;
use crate::walk::{PageSet, bucket_root};
use crate::{Damage, Error, ReadTx};

/// After so many problems the rest is not reported: a damaged page can hold thousands.
const PROBLEMS_MAX: usize = 10_000;

/// A page that is still to be looked at, and the keys that it may hold.
#[derive(Debug)]
struct Ahead<'a> {
    page: u64,
    /// At least this.
    from: Option<&'a [u8]>,
    /// Less than this.
    to: Option<&'a [u8]>,
}

#[derive(Debug)]
struct Checker<'a> {
    pages: &'a Pages,
    reached: PageSet,
    ahead: Vec<Ahead<'a>>,
    problems: Vec<Damage>,
}

/// Looks for what must not be in a database, as `bbolt check` does: pages reached twice, out of
/// range or of the wrong kind, keys out of order or outside the range that the branch above gives,
/// and, if the file has a list of free pages, pages that are both or neither of free and reached.
///
/// Returns all problems, none if the database is sound; never fails, whatever the bytes are.
#[must_use]
pub fn check(tx: &ReadTx) -> Vec<Damage> {
    let pages = tx.pages();
    let meta = &pages.meta;
    let mut checker = Checker {
        pages,
        reached: PageSet::new(meta.high_water),
        ahead: vec![Ahead { page: meta.root.root, from: None, to: None }],
        problems: Vec::new(),
    };
    let free = (meta.freelist != FREELIST_NONE).then(|| checker.free_pages());
    while let Some(ahead) = checker.ahead.pop() {
        if checker.problems.len() >= PROBLEMS_MAX {
            break;
        }
        let result = checker.page(&ahead);
        checker.note(result);
    }
    if let Some(free) = free {
        checker.compare(&free);
    }
    checker.problems
}

impl<'a> Checker<'a> {
    fn note(&mut self, result: Result<(), Error>) {
        match result {
            Ok(()) => {}
            Err(Error::Damaged(damage)) => self.problems.push(*damage),
            Err(other) => self.problem(0, other.to_string()),
        }
    }

    fn problem(&mut self, page: u64, what: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            let path = self.pages.path.to_path_buf();
            self.problems.push(Damage { path, page, what: what.into() });
        }
    }

    fn page(&mut self, ahead: &Ahead<'a>) -> Result<(), Error> {
        let pages = self.pages;
        let (header, bytes) = pages.raw(ahead.page)?;
        for id in ahead.page..=ahead.page + u64::from(header.overflow) {
            if !self.reached.insert(id) {
                return Err(pages.damaged(id, "page is reached twice"));
            }
        }
        let page = Page::new(ahead.page, bytes).map_err(|what| pages.damaged(ahead.page, what))?;
        self.keys(page, ahead.from, ahead.to)?;
        for index in 0..page.count() {
            if page.is_leaf() {
                let row = pages.leaf_row(page, index)?;
                if !row.bucket {
                    continue;
                }
                match bucket_root(pages, page.id, row.value)? {
                    Some(root) => self.ahead.push(Ahead { page: root, from: None, to: None }),
                    None => {
                        let inline = Page::inline(page.id, row.value)
                            .map_err(|what| pages.damaged(page.id, what))?;
                        self.keys(inline, None, None)?;
                    }
                }
            } else {
                let outside = || pages.bad_row(page.id, index);
                let (from, child) = page.branch_row(index).ok_or_else(outside)?;
                let to = page.branch_row(index + 1).map(|(key, _)| key);
                let to = if index + 1 < page.count() { to } else { ahead.to };
                self.ahead.push(Ahead { page: child, from: Some(from), to });
            }
        }
        Ok(())
    }

    /// Checks the keys of one page.
    fn keys(
        &mut self,
        page: Page<'a>,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
    ) -> Result<(), Error> {
        let mut before: Option<&[u8]> = None;
        for index in 0..page.count() {
            let key = page.key(index).ok_or_else(|| self.pages.bad_row(page.id, index))?;
            if page.is_leaf() && key.is_empty() {
                self.problem(page.id, format!("key {index} is empty"));
            }
            if before.is_some_and(|before| before >= key) {
                self.problem(page.id, format!("key {index} is not above the one before it"));
            }
            if index == 0 && from.is_some_and(|from| key < from) {
                self.problem(page.id, "first key is below the key of the branch above");
            }
            if index + 1 == page.count() && to.is_some_and(|to| key >= to) {
                self.problem(page.id, "last key reaches the next key of the branch above");
            }
            before = Some(key);
        }
        Ok(())
    }

    /// The pages that the file's list names as free, and those of the list itself as reached.
    fn free_pages(&mut self) -> PageSet {
        let mut free = PageSet::new(self.pages.meta.high_water);
        let result = self.read_free_pages(&mut free);
        self.note(result);
        free
    }

    fn read_free_pages(&mut self, free: &mut PageSet) -> Result<(), Error> {
        let pages = self.pages;
        let id = pages.meta.freelist;
        let (header, bytes) = pages.raw(id)?;
        if header.flags != FLAG_FREELIST {
            return Err(pages.damaged(id, "not a list of free pages"));
        }
        for id in id..=id + u64::from(header.overflow) {
            self.reached.insert(id);
        }
        let short = || pages.damaged(id, "list of free pages is cut short");
        // A count that does not fit into the header comes first in the list.
        let (count, start) = match header.count {
            u16::MAX => (u64_at(bytes, PAGE_HEADER_BYTES).ok_or_else(short)?, 1),
            count => (u64::from(count), 0),
        };
        if count > bytes.len() as u64 / 8 {
            return Err(short());
        }
        for index in 0..count as usize {
            let at = PAGE_HEADER_BYTES + (start + index) * 8;
            let page = u64_at(bytes, at).ok_or_else(short)?;
            if !(2..pages.meta.high_water).contains(&page) {
                self.problem(id, format!("free page {page} is out of range"));
            } else if !free.insert(page) {
                self.problem(page, "page is in the list of free pages twice");
            }
        }
        Ok(())
    }

    fn compare(&mut self, free: &PageSet) {
        for id in 2..self.pages.meta.high_water {
            match (self.reached.contains(id), free.contains(id)) {
                (true, true) => self.problem(id, "page is free and reached"),
                (false, false) => self.problem(id, "page is neither free nor reached"),
                _ => {}
            }
        }
    }
}
