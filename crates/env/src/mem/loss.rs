//! What a power failure takes from a [`MemDisk`], and damage to what it holds.

use std::path::{Path, PathBuf};

use super::{MemDisk, Name, Node};

/// What a power failure has taken of that which was not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Writes and changes of length that are gone.
    pub changes: u64,
    /// Writes of which some sectors are gone.
    pub torn: u64,
    /// Changes that survived one that was made before them and did not.
    pub reordered: u64,
    /// Changes of names that are gone.
    pub names: u64,
}

/// What becomes of each change in a power failure.
#[derive(Debug, Default)]
pub(super) struct Fate {
    losses: Losses,
    /// The first operation that is lost, in part at least.
    first_lost: Option<u64>,
    survivors: Vec<u64>,
}

impl Fate {
    /// These are gone.
    pub(super) fn names(&mut self, gone: &[(u64, Name, Option<Node>)]) {
        let mut last = None;
        for (operation, ..) in gone {
            // A renamed folder is one change of many names.
            self.losses.names += u64::from(last != Some(*operation));
            last = Some(*operation);
        }
    }

    /// Of a change so many sectors are kept and lost.
    pub(super) fn change(&mut self, operation: u64, kept: u64, lost: u64) {
        match (kept, lost) {
            (0, 0) => {}
            (0, _) => self.losses.changes += 1,
            (_, 0) => {}
            _ => self.losses.torn += 1,
        }
        if lost > 0 {
            self.first_lost = Some(self.first_lost.map_or(operation, |first| first.min(operation)));
        }
        if kept > 0 {
            self.survivors.push(operation);
        }
    }

    pub(super) fn losses(self) -> Losses {
        let Self { losses, first_lost, survivors } = self;
        let reordered = survivors.iter().filter(|at| first_lost.is_some_and(|lost| **at > lost));
        Losses { reordered: reordered.count() as u64, ..losses }
    }
}

impl MemDisk {
    /// What the power failure has taken that left this disk.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.state.lock().losses
    }

    /// The files below a folder with their lengths, by name.
    #[must_use]
    pub fn files(&self, below: &Path) -> Vec<(PathBuf, u64)> {
        let state = self.state.lock();
        let files = state.below(below).filter_map(|(name, node)| match node {
            Node::Dir => None,
            Node::File(content) => Some((name.into(), content.lock().bytes().len() as u64)),
        });
        files.collect()
    }

    /// Turns the bits of `mask` in a byte of a file, also in what is durable, unless the byte is zero:
    /// most of a file may be space for later. Nobody may have the file open. Whether it was done.
    #[must_use]
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> bool {
        let state = self.state.lock();
        let Some(Node::File(content)) = state.node(path) else { return false };
        let mut content = content.lock();
        let at = offset as usize;
        let Some(byte) = content.bytes().get(at).copied().filter(|byte| *byte != 0) else {
            return false;
        };
        content.write(&[byte ^ mask], at);
        let durable = std::sync::Arc::make_mut(&mut content.durable);
        if let Some(byte) = durable.get_mut(at) {
            *byte ^= mask;
        }
        true
    }
}
