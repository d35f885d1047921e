//! A [`MemDisk`] as it was before an operation, for asking what a power failure would have left.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use super::{Change, Content, MemDisk, Name, Node, SECTOR_BYTES, State};

/// A disk between two operations. Shares the files' contents with the disk, so that it costs little
/// to keep one for each operation.
#[derive(Clone, Debug)]
pub struct Moment {
    operations: u64,
    durable_names: BTreeMap<Name, Place>,
    name_changes: Vec<(u64, Name, Option<Place>)>,
    files: Vec<FileThen>,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
enum Place {
    Dir,
    /// A position in [`Moment::files`].
    File(usize),
}

#[derive(Clone, Debug)]
struct FileThen {
    durable: Arc<Vec<u8>>,
    changes: Vec<(u64, Change)>,
}

/// An operation whose effect a power failure may undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsynced {
    /// Its number, counted from 1.
    pub operation: u64,
    /// Whether it changed names. It survives as a whole or not at all.
    pub is_name: bool,
    /// How many sectors it has written, of which any may survive; 1 if it is not a write.
    pub sectors: u64,
}

impl MemDisk {
    /// From now on keeps the disk as it is before each operation that changes it.
    pub fn record(&self) {
        self.state.lock().moments = Some(Vec::new());
    }

    /// Ends [`MemDisk::record`]: all that was recorded, and the disk as it is now.
    #[must_use]
    pub fn recorded(&self) -> Vec<Moment> {
        let mut state = self.state.lock();
        state.record();
        state.moments.take().unwrap_or_default()
    }

    /// A number that two disks have in common, as good as never, only if they hold the same.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, node) in &self.state.lock().names {
            path.hash(&mut hasher);
            if let Node::File(content) = node {
                content.lock().bytes().hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// The names, with the lengths of files, one a line.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (path, node) in &self.state.lock().names {
            let kind = match node {
                Node::Dir => "folder".to_owned(),
                Node::File(content) => format!("{} bytes", content.lock().bytes().len()),
            };
            text.push_str(&format!("  {}: {kind}\n", Path::new(path).display()));
        }
        text
    }
}

impl State {
    pub(super) fn record(&mut self) {
        if let Some(mut moments) = self.moments.take() {
            moments.push(Moment::of(self));
            self.moments = Some(moments);
        }
    }
}

impl Moment {
    fn of(state: &State) -> Self {
        let mut known = BTreeMap::new();
        let mut files = Vec::new();
        let mut place = |node: &Node| match node {
            Node::Dir => Place::Dir,
            Node::File(content) => {
                let address = Arc::as_ptr(content).addr();
                Place::File(*known.entry(address).or_insert_with(|| {
                    files.push(FileThen::of(&content.lock()));
                    files.len() - 1
                }))
            }
        };
        let durable = state.durable_names.iter();
        let durable_names = durable.map(|(path, node)| (path.clone(), place(node))).collect();
        let name_changes = state
            .name_changes
            .iter()
            .map(|(operation, path, node)| {
                (*operation, path.clone(), node.as_ref().map(&mut place))
            })
            .collect();
        Self { operations: state.operations, durable_names, name_changes, files }
    }

    /// How many operations had been done.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// What was not synced, in the order in which it was done.
    #[must_use]
    pub fn unsynced(&self) -> Vec<Unsynced> {
        let names = self.name_changes.iter();
        let names = names.map(|(operation, ..)| (*operation, Unsynced::name(*operation)));
        let contents = self.files.iter().flat_map(|file| &file.changes);
        let contents = contents.map(|(operation, change)| {
            let sectors = change.sectors();
            (*operation, Unsynced { operation: *operation, is_name: false, sectors })
        });
        names.chain(contents).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// The disk as a power failure leaves it, if of what was not synced only that survives for which
    /// `keeps`, given the number of an operation and one of its sectors, counted from 0, says so.
    #[must_use]
    pub fn crashed(&self, mut keeps: impl FnMut(u64, u64) -> bool) -> MemDisk {
        let mut names = self.durable_names.clone();
        let mut last = None;
        for (operation, path, place) in &self.name_changes {
            let is_kept = match last {
                Some((number, is_kept)) if number == *operation => is_kept,
                _ => keeps(*operation, 0),
            };
            last = Some((*operation, is_kept));
            match place {
                _ if !is_kept => {}
                Some(place) => drop(names.insert(path.clone(), *place)),
                None => drop(names.remove(path)),
            }
        }
        // Without its folder a name leads nowhere.
        let folders: Vec<Name> = names.keys().cloned().collect();
        for path in folders {
            let is_rooted = Path::new(&path).parent().is_none_or(|parent| {
                let parent = parent.as_os_str();
                parent.is_empty() || matches!(names.get(parent), Some(Place::Dir))
            });
            if !is_rooted {
                names.remove(&path);
            }
        }
        let files: Vec<Node> =
            self.files.iter().map(|file| Node::file(file.crashed(&mut keeps))).collect();
        let node = |place: Place| match place {
            Place::Dir => Node::Dir,
            Place::File(position) => files[position].clone(),
        };
        let names: BTreeMap<Name, Node> =
            names.into_iter().map(|(path, place)| (path, node(place))).collect();
        MemDisk::holding(names)
    }
}

impl FileThen {
    fn of(content: &Content) -> Self {
        Self { durable: Arc::clone(&content.durable), changes: content.changes.clone() }
    }

    fn crashed(&self, keeps: &mut impl FnMut(u64, u64) -> bool) -> Arc<Vec<u8>> {
        let mut content = Arc::clone(&self.durable);
        for (operation, change) in &self.changes {
            let first = change.first_sector();
            let kept: Vec<bool> =
                (0..change.sectors()).map(|sector| keeps(*operation, sector)).collect();
            if kept.contains(&true) {
                change.make(Arc::make_mut(&mut content), |sector| kept[(sector - first) as usize]);
            }
        }
        content
    }
}

impl Unsynced {
    fn name(operation: u64) -> Self {
        Self { operation, is_name: true, sectors: 1 }
    }
}

impl Change {
    fn first_sector(&self) -> u64 {
        match self {
            Self::SetLen(_) => 0,
            Self::Write(offset, _) => *offset as u64 / SECTOR_BYTES,
        }
    }

    fn sectors(&self) -> u64 {
        match self {
            Self::SetLen(_) => 1,
            Self::Write(offset, buf) => {
                let end = (*offset + buf.len().max(1)) as u64;
                end.div_ceil(SECTOR_BYTES) - self.first_sector()
            }
        }
    }
}
