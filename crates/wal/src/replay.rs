//! Reads a log back.

use std::path::Path;

use env::{Disk, Open};
use raft::{Entry, HardState};

use crate::decoder::{Decoder, Next, Source};
use crate::error::IoContext;
use crate::names::{self, SegmentName};
use crate::proto::Fields;
use crate::record::RecordType;
use crate::{Error, Metadata, Reason, SnapshotRecord};

const ENTRY: &str = "raftpb.Entry";
const HARD_STATE: &str = "raftpb.HardState";
/// Term, vote and commit index.
const HARD_STATE_FIELDS: u64 = 3;
/// No cluster gets there, with an election every millisecond for thirty years; ids, which are hashes, are beyond it.
const TERM_MAX: u64 = 1 << 40;

/// What a log held after a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Whose log it is.
    pub metadata: Metadata,
    /// The last hard state, empty if there is none.
    pub hard_state: HardState,
    /// The entries after the snapshot, without gaps, the overwritten ones left out. Those above
    /// `hard_state.commit` may yet be overwritten.
    pub entries: Vec<Entry>,
    /// Whether a torn tail was cut off.
    pub is_repaired: bool,
}

/// A log while it is read: what it held and where it ends.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) replay: Replay,
    pub(crate) metadata: Option<Vec<u8>>,
    /// Index of the last entry record, even of an entry before the snapshot.
    pub(crate) last_index: u64,
    pub(crate) is_torn: bool,
    is_snapshot_found: bool,
    /// The term of the entry at the snapshot's index, if the log had one where it is read.
    term_at_snapshot: Option<u64>,
}

impl Reading {
    /// Reads everything after `from`.
    pub(crate) fn read<F: env::File>(
        decoder: &mut Decoder<'_, F>,
        from: &SnapshotRecord,
    ) -> Result<Self, Error> {
        let mut reading = Self::default();
        loop {
            let (kind, data) = match decoder.next()? {
                Next::Record(kind, data) => (kind, data),
                Next::End => break,
                Next::Torn => {
                    reading.is_torn = true;
                    break;
                }
            };
            reading.record(kind, data, from).map_err(|reason| decoder.error(reason))?;
        }
        if !reading.is_snapshot_found {
            return Err(Error::SnapshotNotFound);
        }
        Ok(reading)
    }

    fn record(
        &mut self,
        kind: RecordType,
        data: &[u8],
        from: &SnapshotRecord,
    ) -> Result<(), Reason> {
        match kind {
            RecordType::Entry => self.entry(data, from.index)?,
            RecordType::State => {
                let state = state(data)?;
                if state.term < self.replay.hard_state.term {
                    return Err(Reason::Impossible(HARD_STATE));
                }
                self.replay.hard_state = state;
            }
            RecordType::Metadata => match &self.metadata {
                Some(metadata) if metadata != data => return Err(Reason::MetadataConflict),
                Some(_) => {}
                None => {
                    self.replay.metadata =
                        Metadata::decode(data).map_err(|_| Reason::Malformed("Metadata"))?;
                    self.metadata = Some(data.to_vec());
                }
            },
            RecordType::Snapshot => {
                let snapshot = snapshot(data)?;
                if snapshot.index == from.index {
                    if snapshot.term != from.term {
                        return Err(Reason::SnapshotMismatch);
                    }
                    self.snapshot_found(from.term);
                }
                // A later cut names its segment after the last index, be it a snapshot's.
                self.last_index = self.last_index.max(snapshot.index);
            }
            RecordType::Crc => {}
        }
        Ok(())
    }

    /// The snapshot was taken of this log, or it was a leader's and has replaced a log that was another: then entries
    /// behind its index had no place any more.
    // DIFF(etcd): such entries come back.
    fn snapshot_found(&mut self, term: u64) {
        let is_another = self.term_at_snapshot.is_some_and(|own| own != term);
        if is_another && !self.is_snapshot_found {
            self.replay.entries.clear();
        }
        self.is_snapshot_found = true;
    }

    /// An entry at the snapshot's index or before it. Like any other it replaces all that was there and after, as long
    /// as the snapshot has not been taken.
    // DIFF(etcd): entries come back that stood behind the snapshot's index and were replaced from before it.
    fn entry_before_snapshot(&mut self, entry: &Entry, from: u64) {
        if !self.is_snapshot_found {
            self.replay.entries.clear();
            self.term_at_snapshot = (entry.index == from).then_some(entry.term);
        }
    }

    fn entry(&mut self, data: &[u8], from: u64) -> Result<(), Reason> {
        let entry = Entry::decode_slice(data).map_err(|_| Reason::Malformed(ENTRY))?;
        // A hard state would be an entry whose term is who was voted for.
        if !(1..=TERM_MAX).contains(&entry.term) {
            return Err(Reason::Impossible(ENTRY));
        }
        self.last_index = entry.index;
        let Some(position) = entry.index.checked_sub(from).and_then(|n| n.checked_sub(1)) else {
            self.entry_before_snapshot(&entry, from);
            return Ok(());
        };
        let entries = &mut self.replay.entries;
        if position > entries.len() as u64 {
            let expected = from.saturating_add(entries.len() as u64).saturating_add(1);
            return Err(Reason::Gap { index: entry.index, expected });
        }
        // The entry replaces what another leader had put here and after.
        entries.truncate(position as usize);
        if entries.last().is_some_and(|last| last.term > entry.term) {
            return Err(Reason::Impossible(ENTRY));
        }
        entries.push(entry);
        Ok(())
    }
}

fn state(data: &[u8]) -> Result<HardState, Reason> {
    let state = HardState::decode_slice(data).map_err(|_| Reason::Malformed(HARD_STATE))?;
    // An entry would be a hard state without a term, and with a field more if it has data; metadata one with an id
    // as its term.
    let is_possible = match state.term {
        0 => state == HardState::default(),
        term => term <= TERM_MAX,
    };
    let mut fields = Fields::new(data);
    while let Some((number, _)) = fields.next().map_err(|_| Reason::Malformed(HARD_STATE))? {
        if number > HARD_STATE_FIELDS {
            return Err(Reason::Impossible(HARD_STATE));
        }
    }
    if is_possible { Ok(state) } else { Err(Reason::Impossible(HARD_STATE)) }
}

fn snapshot(data: &[u8]) -> Result<SnapshotRecord, Reason> {
    SnapshotRecord::decode(data).map_err(|_| Reason::Malformed("walpb.Snapshot"))
}

/// Opens segments for reading, with their lengths.
fn open_files<D: Disk>(
    disk: &D,
    dir: &Path,
    names: &[SegmentName],
) -> Result<Vec<(SegmentName, D::File, u64)>, Error> {
    let open = |&name: &SegmentName| {
        let path = dir.join(name.to_string());
        let file = disk.open(&path, Open::Read).context("open", &path)?;
        let len = env::File::len(&file).context("stat", &path)?;
        Ok((name, file, len))
    };
    names.iter().map(open).collect()
}

fn sources<F>(files: &[(SegmentName, F, u64)]) -> Vec<Source<'_, F>> {
    files.iter().map(|(name, file, len)| Source { name: *name, file, len: *len }).collect()
}

/// Reads a log that someone else may be writing: takes no lock, changes nothing, and takes a torn
/// tail as the end.
///
/// # Errors
/// As [`Wal::open`](crate::Wal::open).
pub fn open_for_read<D: Disk>(
    disk: &D,
    dir: &Path,
    from: &SnapshotRecord,
) -> Result<Replay, Error> {
    let files = open_files(disk, dir, &names::segments_from(disk, dir, from.index)?)?;
    let mut decoder = Decoder::new(dir, sources(&files));
    Ok(Reading::read(&mut decoder, from)?.replay)
}

/// The snapshots recorded in a log, oldest first, that are not beyond its last commit index: only
/// of those is it certain that the log goes on from them.
///
/// # Errors
/// If the disk fails or the log is damaged other than by a torn tail.
pub fn valid_snapshots<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<SnapshotRecord>, Error> {
    let files = open_files(disk, dir, &names::newest_segments(disk, dir)?)?;
    let mut decoder = Decoder::new(dir, sources(&files));
    let mut snapshots = Vec::new();
    let mut commit = 0;
    loop {
        let result = match decoder.next()? {
            Next::Record(RecordType::Snapshot, data) => {
                snapshot(data).map(|snapshot| snapshots.push(snapshot))
            }
            Next::Record(RecordType::State, data) => state(data).map(|state| commit = state.commit),
            Next::Record(..) => Ok(()),
            Next::End | Next::Torn => break,
        };
        result.map_err(|reason| decoder.error(reason))?;
    }
    snapshots.retain(|snapshot: &SnapshotRecord| snapshot.index <= commit);
    Ok(snapshots)
}
