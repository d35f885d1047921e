//! Which pages a commit may write to.

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;
use crate::layout::FREELIST_NONE;
use crate::read::Pages;
use crate::walk::{PageSet, walk};

/// The free pages of a file, and those that will be once nobody sees them any more.
#[derive(Debug)]
pub(crate) struct Freelist {
    /// Runs of free pages: first page to length. Invariant: no two runs touch.
    runs: BTreeMap<u64, u64>,
    /// The same runs by length.
    by_length: BTreeSet<(u64, u64)>,
    free: u64,
    /// Pages that a reader of this transaction sees, and that are free otherwise.
    pinned: BTreeMap<u64, Vec<Freed>>,
    /// When a page was allocated, if that is later than the oldest reader: a page that came and
    /// went after a reader began is not held up by it.
    allocated: BTreeMap<u64, u64>,
}

/// A page, with its overflow pages, that a transaction replaced.
#[derive(Clone, Copy, Debug)]
struct Freed {
    id: u64,
    pages: u64,
    allocated_by: u64,
    freed_by: u64,
}

impl Freelist {
    /// Finds the free pages of a file by walking the tree: all that it does not reach.
    pub(crate) fn rebuild(pages: &Pages) -> Result<Self, Error> {
        let high_water = pages.meta.high_water;
        let mut used = PageSet::new(high_water);
        let mut claim = |id: u64, count: u64| {
            let fresh = (id..id + count).all(|page| used.insert(page));
            if fresh { Ok(()) } else { Err(pages.damaged(id, "page is used twice")) }
        };
        if pages.meta.freelist != FREELIST_NONE {
            // Until the first commit is durable, the old meta page speaks of this list.
            let (header, _) = pages.raw(pages.meta.freelist)?;
            claim(pages.meta.freelist, u64::from(header.overflow) + 1)?;
        }
        walk(pages, vec![pages.meta.root.root], claim)?;
        let mut list = Self::empty();
        let mut start = None;
        for id in 2..=high_water {
            match (start, id < high_water && !used.contains(id)) {
                (None, true) => start = Some(id),
                (Some(first), false) => {
                    list.insert_run(first, id - first);
                    start = None;
                }
                _ => {}
            }
        }
        Ok(list)
    }

    fn empty() -> Self {
        Self {
            runs: BTreeMap::new(),
            by_length: BTreeSet::new(),
            free: 0,
            pinned: BTreeMap::new(),
            allocated: BTreeMap::new(),
        }
    }

    /// How many pages could be allocated now.
    pub(crate) fn free_pages(&self) -> u64 {
        self.free
    }

    /// Takes `pages` adjacent pages out of the shortest run that has them.
    pub(crate) fn allocate(&mut self, pages: u64, txid: u64) -> Option<u64> {
        let (length, id) = self.by_length.range((pages, 0)..).next().copied()?;
        self.remove_run(id, length);
        if length > pages {
            self.insert_run(id + pages, length - pages);
        }
        self.allocated.insert(id, txid);
        Some(id)
    }

    /// Notes that transaction `txid` took the page `id` from behind the high-water mark.
    pub(crate) fn note_allocated(&mut self, id: u64, txid: u64) {
        self.allocated.insert(id, txid);
    }

    /// Notes that transaction `txid`, now committed, replaced these pages; `reader` is the view of
    /// the transaction before it, which sees them all.
    pub(crate) fn free(&mut self, freed: &[(u64, u64)], txid: u64, reader: u64) {
        let allocated = &mut self.allocated;
        let freed = freed.iter().map(|&(id, pages)| {
            let allocated_by = allocated.remove(&id).unwrap_or(0);
            Freed { id, pages, allocated_by, freed_by: txid }
        });
        self.pinned.entry(reader).or_default().extend(freed);
    }

    /// Makes pages free that none of the readers sees. `readers` are the transactions that have
    /// one, ascending, and the last commit at the end.
    pub(crate) fn release(&mut self, readers: &[u64]) {
        let gone: Vec<u64> =
            self.pinned.keys().copied().filter(|id| readers.binary_search(id).is_err()).collect();
        for reader in gone {
            for page in self.pinned.remove(&reader).unwrap_or_default() {
                let next = readers.partition_point(|&txid| txid < page.allocated_by);
                match readers.get(next).filter(|&&txid| txid < page.freed_by) {
                    Some(&reader) => self.pinned.entry(reader).or_default().push(page),
                    None => self.give(page),
                }
            }
        }
        if readers.len() == 1 {
            self.allocated.clear();
        }
    }

    fn give(&mut self, page: Freed) {
        let (mut id, mut length) = (page.id, page.pages);
        let before = self.runs.range(..=id).next_back().map(|(&id, &length)| (id, length));
        if let Some((first, pages)) = before {
            assert!(first + pages <= id, "page {id} is freed twice");
            if first + pages == id {
                self.remove_run(first, pages);
                (id, length) = (first, pages + length);
            }
        }
        let behind = self.runs.range(id..).next().map(|(&id, &length)| (id, length));
        if let Some((first, pages)) = behind {
            assert!(first >= id + length, "page {first} is freed twice");
            if first == id + length {
                self.remove_run(first, pages);
                length += pages;
            }
        }
        self.insert_run(id, length);
    }

    fn insert_run(&mut self, id: u64, length: u64) {
        self.runs.insert(id, length);
        self.by_length.insert((length, id));
        self.free += length;
    }

    fn remove_run(&mut self, id: u64, length: u64) {
        let known = self.runs.remove(&id) == Some(length) && self.by_length.remove(&(length, id));
        assert!(known, "run of {length} free pages at {id} is not known");
        self.free -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(runs: &[(u64, u64)]) -> Freelist {
        let mut list = Freelist::empty();
        for &(id, length) in runs {
            list.insert_run(id, length);
        }
        list
    }

    fn runs(list: &Freelist) -> Vec<(u64, u64)> {
        list.runs.iter().map(|(&id, &length)| (id, length)).collect()
    }

    #[test]
    fn the_shortest_run_that_is_long_enough_is_used() {
        let mut list = list(&[(10, 5), (20, 2), (30, 3)]);
        assert_eq!(list.allocate(2, 7), Some(20));
        assert_eq!(list.allocate(2, 7), Some(30));
        assert_eq!(list.allocate(6, 7), None);
        assert_eq!(list.allocate(1, 7), Some(32));
        assert_eq!(runs(&list), [(10, 5)]);
        assert_eq!(list.free_pages(), 5);
    }

    #[test]
    fn neighbours_grow_together() {
        let mut list = list(&[(10, 2), (15, 5)]);
        list.free(&[(12, 1), (14, 1), (13, 1), (30, 2)], 5, 4);
        list.release(&[5]);
        assert_eq!(runs(&list), [(10, 10), (30, 2)]);
        assert_eq!(list.free_pages(), 12);
    }

    #[test]
    fn a_reader_holds_up_only_the_pages_that_it_sees() {
        let mut list = list(&[(10, 4)]);
        // Readers of 4 and of the last commit. 5 replaces page 50, 6 what 5 wrote, 7 what 6 wrote.
        let first = list.allocate(1, 5).expect("free page");
        list.free(&[(50, 1)], 5, 4);
        list.release(&[4, 5]);
        let second = list.allocate(1, 6).expect("free page");
        list.free(&[(first, 1)], 6, 5);
        list.release(&[4, 6]);
        assert_eq!(list.free_pages(), 3, "{first} came and went behind the reader's back");
        list.free(&[(second, 1)], 7, 6);
        list.release(&[4, 7]);
        assert_eq!(list.free_pages(), 4);
        list.release(&[7]);
        assert_eq!(runs(&list), [(10, 4), (50, 1)]);
    }
}
