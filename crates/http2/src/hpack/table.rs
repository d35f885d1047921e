//! The static table (RFC 7541 Appendix A) and the decoder's dynamic table.

use std::collections::VecDeque;

use super::{ENTRY_OVERHEAD, FieldRef};
use crate::{Name, field};

/// The entries of the static table; index 1 comes first.
#[rustfmt::skip]
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// The entries of the static table as fields.
static STATIC_FIELDS: [FieldRef<'static>; STATIC.len()] = {
    let mut fields = [const { FieldRef::EMPTY }; STATIC.len()];
    let mut place = 0;
    while place < STATIC.len() {
        let (name, value) = STATIC[place];
        fields[place] = FieldRef {
            name: Name::of(name.as_bytes()),
            text: name.as_bytes(),
            value: value.as_bytes(),
            name_allowed: field::is_name_allowed(name.as_bytes()),
            value_allowed: true,
        };
        place += 1;
    }
    fields
};

/// The entry of the static table at `index`, from 1.
pub(super) fn static_entry(index: usize) -> Option<FieldRef<'static>> {
    STATIC_FIELDS.get(index.checked_sub(1)?).copied()
}

/// The dynamic table: entries from old to new over one run of bytes, so that inserting allocates nothing and
/// evicting frees nothing. The run is compacted when half of it is dead.
#[derive(Debug)]
pub(super) struct DynamicTable {
    bytes: Vec<u8>,
    /// Place of `bytes[0]` among all bytes ever appended.
    base: u64,
    entries: VecDeque<Entry>,
    /// Invariant: the sum of the entries' sizes, at most `size_max`.
    size: usize,
    size_max: usize,
    generation: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Place of the name's first byte among all bytes ever appended; the value follows the name.
    start: u64,
    name_len: usize,
    value_len: usize,
    about: About,
}

/// What was found out about a field when it came first.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub(super) name: Name,
    pub(super) name_allowed: bool,
    pub(super) value_allowed: bool,
}

impl Entry {
    fn size(&self) -> usize {
        self.name_len + self.value_len + ENTRY_OVERHEAD
    }
}

/// Where the name of a new entry comes from.
pub(super) enum NewName<'a> {
    /// Given in full.
    Text(&'a [u8]),
    /// That of the dynamic entry with this index, 0 the newest; it may be evicted by the insertion.
    Entry(usize),
}

impl DynamicTable {
    pub(super) fn new(size_max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            base: 0,
            entries: VecDeque::new(),
            size: 0,
            size_max,
            generation: 0,
        }
    }

    /// Counts every change of the table: equal generations mean equal contents.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// The entry with this index, 0 the newest.
    pub(super) fn get(&self, index: usize) -> Option<FieldRef<'_>> {
        let entry = self.entries.get(self.entries.len().checked_sub(index)?.checked_sub(1)?)?;
        let start = self.offset(entry);
        let value_start = start + entry.name_len;
        Some(FieldRef {
            name: entry.about.name,
            text: self.bytes.get(start..value_start)?,
            value: self.bytes.get(value_start..value_start + entry.value_len)?,
            name_allowed: entry.about.name_allowed,
            value_allowed: entry.about.value_allowed,
        })
    }

    pub(super) fn set_size_max(&mut self, size_max: usize) {
        self.generation += 1;
        self.size_max = size_max;
        self.evict_to(size_max);
        self.compact();
    }

    /// Inserts an entry, evicting as many old ones as it takes (RFC 7541 4.4). `about` tells what is known of it
    /// already; its text and value are not looked at. `None`: there is no such name.
    pub(super) fn insert(&mut self, name: NewName<'_>, value: &[u8], about: About) -> Option<()> {
        self.generation += 1;
        let (name_len, old) = match name {
            NewName::Text(text) => (text.len(), None),
            NewName::Entry(index) => {
                let place = self.entries.len().checked_sub(index)?.checked_sub(1)?;
                let old = self.entries.get(place)?;
                (old.name_len, Some(self.offset(old)))
            }
        };
        let start = self.base + self.bytes.len() as u64;
        let entry = Entry { start, name_len, value_len: value.len(), about };
        if entry.size() > self.size_max {
            self.evict_to(0);
            self.compact();
            return Some(());
        }
        match (name, old) {
            (NewName::Text(text), _) => self.bytes.extend_from_slice(text),
            (NewName::Entry(_), offset) => {
                let offset = offset?;
                self.bytes.extend_from_within(offset..offset + name_len);
            }
        }
        self.bytes.extend_from_slice(value);
        self.evict_to(self.size_max - entry.size());
        self.size += entry.size();
        self.entries.push_back(entry);
        self.compact();
        Some(())
    }

    fn offset(&self, entry: &Entry) -> usize {
        (entry.start - self.base) as usize
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.size -= oldest.size();
        }
    }

    /// Drops dead bytes once they are as many as live ones may be.
    fn compact(&mut self) {
        let end = self.base + self.bytes.len() as u64;
        let live_start = self.entries.front().map_or(end, |oldest| oldest.start);
        let dead = (live_start - self.base) as usize;
        if dead > 0 && dead >= self.size_max {
            self.bytes.drain(..dead);
            self.base = live_start;
        }
    }
}
