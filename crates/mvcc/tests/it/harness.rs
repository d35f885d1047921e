//! A store with its backend, and ways to show what it says.

use std::path::Path;

use api::key_value::KeyValueRef;
use backend::{Backend, Committer};
use bytes::Bytes;
use env::MemDisk;
use mvcc::{CompactionProgress, Event, EventKind, Options, RangeArgs, RangeResult, Store};

pub(crate) struct Member {
    pub(crate) disk: MemDisk,
    pub(crate) backend: Backend,
    pub(crate) committer: Committer<MemDisk>,
    pub(crate) store: Store,
    pub(crate) leases: Vec<(Bytes, i64)>,
}

impl Member {
    pub(crate) fn open(disk: MemDisk) -> Self {
        let options =
            backend::Options { map_bytes: 1 << 20, alloc_bytes: 1 << 16, ..Default::default() };
        let (mut backend, committer) =
            Backend::open(disk.clone(), Path::new("db"), options).expect("the backend opens");
        let (store, leases) =
            Store::restore(&mut backend, Options::default()).expect("the store restores");
        Self { disk, backend, committer, store, leases }
    }

    /// Writes all that is in memory to the file.
    pub(crate) fn commit(&mut self) {
        while let Some(batch) = self.backend.freeze() {
            let done = self.committer.commit(batch).expect("the disk is well");
            self.backend.committed(done);
        }
    }

    /// Crashes and starts anew from what was committed.
    pub(crate) fn restart(&self) -> Self {
        Self::open(self.disk.crashed())
    }

    /// Runs compactions to their end; what each of them says.
    pub(crate) fn compact_all(&mut self, batch_limit: usize) -> Vec<CompactionProgress> {
        let mut finished = Vec::new();
        loop {
            let step = self.store.compaction_step(&mut self.backend, batch_limit);
            match step.expect("the backend is well") {
                CompactionProgress::Idle => return finished,
                CompactionProgress::Working => {}
                progress @ CompactionProgress::Finished { .. } => finished.push(progress),
            }
        }
    }

    pub(crate) fn range(
        &self,
        args: &RangeArgs<'_>,
    ) -> Result<(RangeResult, Vec<Vec<u8>>), mvcc::Error> {
        let mut rows = Vec::new();
        let result = self.store.reader().range(args, |row| rows.push(row.to_vec()))?;
        Ok((result, rows))
    }
}

/// `key=value c<create> m<mod> v<version> [l<lease>]`, without what is zero.
pub(crate) fn show_row(row: &[u8]) -> String {
    let kv = KeyValueRef::decode(row).expect("rows are messages");
    let mut text = show_bytes(kv.key);
    if !kv.value.is_empty() {
        text += &format!("={}", show_bytes(kv.value));
    }
    let fields =
        [("c", kv.create_revision), ("m", kv.mod_revision), ("v", kv.version), ("l", kv.lease)];
    for (name, value) in fields {
        if value != 0 {
            text += &format!(" {name}{value}");
        }
    }
    text
}

pub(crate) fn show_event(event: &Event, prev_kv: bool) -> String {
    let kind = match event.kind {
        EventKind::Put => "put",
        EventKind::Delete => "delete",
    };
    let prev = match &event.prev_kv {
        Some(prev) if prev_kv => format!(" (before: {})", show_row(prev)),
        _ => String::new(),
    };
    format!("{kind} {}{prev}", show_row(&event.kv))
}

pub(crate) fn show_bytes(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\\0")
}
