//! The log of a running member.

use std::path::{Path, PathBuf};

use env::{Disk, File, Open};
use mutant::mutant;
use raft::{Entry, HardState};

use crate::decoder::{Decoder, Source};
use crate::error::IoContext;
use crate::names::{self, SegmentName};
use crate::record::Encoder;
use crate::replay::Reading;
use crate::{Error, Metadata, Replay, SnapshotRecord};

/// Size that is reserved for a segment; it is rolled when it has reached it.
pub const SEGMENT_BYTES: u64 = 64_000_000;
/// What may wait in memory for the next sync.
const PENDING_BYTES_MAX: usize = 128 << 10;
/// A buffer that has grown beyond this is given back after use.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of a segment in bytes; other than [`SEGMENT_BYTES`] only in tests.
    pub segment_bytes: u64,
    /// Whether syncs are left out (`--unsafe-no-fsync`).
    pub unsafe_no_fsync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES, unsafe_no_fsync: false }
    }
}

/// A log open for appending. Dropping it closes the files and syncs nothing.
///
/// After an error of a method that writes, nothing is known about what is on disk: all later calls
/// fail with [`Error::Poisoned`], and the member must stop and replay.
#[derive(Debug)]
pub struct Wal<D: Disk> {
    disk: D,
    dir: PathBuf,
    options: Options,
    /// As recorded at the head of each segment.
    metadata: Vec<u8>,
    /// The last state written, repeated at the head of the next segment.
    state: HardState,
    /// Index of the last entry, or of a snapshot beyond it.
    last_index: u64,
    /// The newest snapshot that a restart would find in the log.
    snapshot_index: u64,
    /// The segments locked, oldest first. Invariant: not empty; the last one is written to.
    segments: Vec<Segment<D::File>>,
    /// End of what is written to the last segment.
    offset: u64,
    /// What is encoded and not yet written.
    encoder: Encoder,
    prepared: Option<Prepared<D::File>>,
    /// How many files were prepared; the names alternate, as the last one may not yet be renamed.
    prepared_count: u64,
    bytes_written: u64,
    is_poisoned: bool,
}

#[derive(Debug)]
struct Segment<F> {
    name: SegmentName,
    file: F,
}

/// A file that will be the next segment.
#[derive(Debug)]
struct Prepared<F> {
    path: PathBuf,
    file: F,
}

impl<D: Disk> Wal<D> {
    /// Makes a log in `dir`, which is built as `<dir>.tmp` and renamed, so that it is there whole or
    /// not at all.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is one already; or the disk fails.
    pub fn create(
        disk: D,
        dir: &Path,
        metadata: &Metadata,
        options: Options,
    ) -> Result<Self, Error> {
        if names::exists(&disk, dir)? {
            return Err(Error::Exists(dir.to_owned()));
        }
        let mut tmp = dir.as_os_str().to_owned();
        tmp.push(".tmp");
        let tmp = PathBuf::from(tmp);
        disk.remove_dir_all(&tmp).context("remove", &tmp)?;
        disk.create_dir_all(&tmp, DIR_MODE).context("create", &tmp)?;
        let name = SegmentName { seq: 0, index: 0 };
        let file = new_file(&disk, &tmp.join(name.to_string()), options.segment_bytes)?;

        let mut wal = Self {
            disk,
            dir: tmp.clone(),
            options,
            metadata: metadata.encode(),
            state: HardState::default(),
            last_index: 0,
            snapshot_index: 0,
            segments: vec![Segment { name, file }],
            offset: 0,
            encoder: Encoder { crc: 0, buf: Vec::new() },
            prepared: None,
            prepared_count: 0,
            bytes_written: 0,
            is_poisoned: false,
        };
        wal.encoder.crc_record();
        wal.encoder.metadata(&wal.metadata);
        wal.encoder.snapshot(&SnapshotRecord::default());
        wal.flush()?;
        if !mutant!("16596") {
            wal.sync_data()?;
        }

        dir.clone_into(&mut wal.dir);
        wal.disk.remove_dir_all(dir).context("remove", dir)?;
        wal.disk.rename(&tmp, dir).context("rename", &tmp)?;
        wal.disk.sync_dir(dir).context("sync", dir)?;
        let parent = dir.parent().unwrap_or_else(|| Path::new("."));
        wal.disk.sync_dir(parent).context("sync", parent)?;
        Ok(wal)
    }

    /// Opens the log at a snapshot that was recorded in it (`SnapshotRecord::default()` for its
    /// beginning), reads all that follows and cuts off a torn tail.
    ///
    /// # Errors
    /// If the disk fails, another process has the log, there is no record of the snapshot, or the
    /// log is damaged in a way that no crash explains. Nothing is changed then.
    pub fn open(
        disk: D,
        dir: &Path,
        from: &SnapshotRecord,
        options: Options,
    ) -> Result<(Self, Replay), Error> {
        let mut segments = Vec::new();
        let mut lens = Vec::new();
        for name in names::segments_from(&disk, dir, from.index)? {
            let path = dir.join(name.to_string());
            let file = disk.open(&path, Open::ReadWrite).context("open", &path)?;
            if !file.try_lock().context("lock", &path)? {
                return Err(Error::Locked(path));
            }
            lens.push(file.len().context("stat", &path)?);
            segments.push(Segment { name, file });
        }
        let sources = segments.iter().zip(&lens);
        let sources =
            sources.map(|(s, &len)| Source { name: s.name, file: &s.file, len }).collect();
        let mut decoder = Decoder::new(dir, sources);
        let mut reading = Reading::read(&mut decoder, from)?;
        let (offset, crc) = (decoder.offset(), decoder.crc());

        let tail = segments.last().expect("a log has a segment");
        let path = dir.join(tail.name.to_string());
        let len = lens.last().copied().unwrap_or(0);
        if reading.is_torn {
            keep_broken(&disk, &path, &tail.file, len)?;
            tail.file.set_len(offset).context("truncate", &path)?;
            tail.file.sync_all().context("sync", &path)?;
            reading.replay.is_repaired = true;
        } else {
            // Behind the end may be records of a write that was never synced. Half overwritten
            // they would look like damage.
            tail.file.set_len(offset).context("truncate", &path)?;
            tail.file.preallocate(len).context("preallocate", &path)?;
        }
        if !options.unsafe_no_fsync && !mutant!("14143") {
            // Also that they are cut off must be on disk before anything is written over them.
            sync_inherited(&disk, dir, &segments)?;
        }
        let wal = Self {
            disk,
            dir: dir.to_owned(),
            options,
            metadata: reading.metadata.unwrap_or_default(),
            state: reading.replay.hard_state,
            last_index: reading.last_index,
            snapshot_index: from.index,
            segments,
            offset,
            encoder: Encoder { crc, buf: Vec::new() },
            prepared: None,
            prepared_count: 0,
            bytes_written: 0,
            is_poisoned: false,
        };
        Ok((wal, reading.replay))
    }

    /// Appends entries and then the hard state, if it is not empty, in one write; rolls to the next
    /// segment when this one is full.
    ///
    /// With `must_sync` all is on disk on return; it must be true if there are entries or the term
    /// or vote changed. Without, the bytes may stay in memory until the next sync.
    ///
    /// # Errors
    /// If the disk fails, after which the log cannot be used.
    pub fn save(
        &mut self,
        state: &HardState,
        entries: &[Entry],
        must_sync: bool,
    ) -> Result<(), Error> {
        self.guarded(|wal| {
            for entry in entries {
                wal.encoder.entry(entry);
                wal.last_index = entry.index;
            }
            if !state.is_empty() {
                wal.encoder.state(state);
                wal.state = *state;
            }
            let is_full = wal.offset + wal.encoder.buf.len() as u64 >= wal.options.segment_bytes;
            if is_full {
                return wal.roll();
            }
            if must_sync || wal.encoder.buf.len() > PENDING_BYTES_MAX {
                wal.flush()?;
            }
            if must_sync { wal.sync_data() } else { Ok(()) }
        })
    }

    /// Records that a snapshot was saved, and syncs.
    ///
    /// # Errors
    /// [`Error::MissingConfState`]; or the disk fails, after which the log cannot be used.
    pub fn save_snapshot(&mut self, snapshot: &SnapshotRecord) -> Result<(), Error> {
        if snapshot.index > 0 && snapshot.conf_state.is_none() {
            return Err(Error::MissingConfState(snapshot.clone()));
        }
        self.guarded(|wal| {
            wal.encoder.snapshot(snapshot);
            wal.last_index = wal.last_index.max(snapshot.index);
            wal.flush()?;
            wal.sync_data()?;
            wal.snapshot_index = wal.snapshot_index.max(snapshot.index);
            Ok(())
        })
    }

    /// Puts all that was saved on disk.
    ///
    /// # Errors
    /// If the disk fails, after which the log cannot be used.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.guarded(|wal| {
            wal.flush()?;
            wal.sync_data()
        })
    }

    /// Reserves the space of the next segment, if that is not done yet, so that rolling need not.
    ///
    /// # Errors
    /// If the disk fails, after which the log cannot be used.
    pub fn prepare_next(&mut self) -> Result<(), Error> {
        self.guarded(|wal| {
            if wal.prepared.is_none() {
                wal.prepared = Some(wal.allocate()?);
            }
            Ok(())
        })
    }

    /// Gives up the locks of the segments that hold only entries before `index`, except the newest
    /// such segment, so that [`purge`] may remove them.
    pub fn release(&mut self, index: u64) {
        let newer = self.segments.iter().position(|segment| segment.name.index >= index);
        let kept = newer.unwrap_or(self.segments.len()).saturating_sub(1);
        let kept = if mutant!("11308") { self.segments.len() - 1 } else { kept };
        self.segments.drain(..kept);
    }

    /// Syncs, removes the prepared segment and closes all files.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn close(mut self) -> Result<(), Error> {
        self.sync()?;
        if let Some(prepared) = self.prepared.take() {
            self.disk.remove(&prepared.path).context("remove", &prepared.path)?;
        }
        Ok(())
    }

    /// Index of the newest snapshot that is recorded here: the one that the log was opened at, or a later one.
    pub fn snapshot_index(&self) -> u64 {
        self.snapshot_index
    }

    /// Bytes written by this value, for the counter `etcd_disk_wal_write_bytes_total`.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Runs what writes, and poisons the log if it fails.
    fn guarded(&mut self, write: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        if self.is_poisoned {
            return Err(Error::Poisoned);
        }
        let result = write(self);
        self.is_poisoned = result.is_err();
        result
    }

    fn tail(&self) -> &Segment<D::File> {
        self.segments.last().expect("a log has a segment")
    }

    fn tail_path(&self) -> PathBuf {
        self.dir.join(self.tail().name.to_string())
    }

    /// Hands what is encoded to the disk.
    fn flush(&mut self) -> Result<(), Error> {
        if self.encoder.buf.is_empty() {
            return Ok(());
        }
        let written = self.encoder.buf.len() as u64;
        let result = self.tail().file.write_all_at(&self.encoder.buf, self.offset);
        result.map_err(|err| self.io_error("write", err))?;
        self.offset += written;
        self.bytes_written += written;
        self.encoder.buf.clear();
        self.encoder.buf.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        if self.options.unsafe_no_fsync {
            return Ok(());
        }
        self.tail().file.sync_data().map_err(|err| self.io_error("sync", err))
    }

    fn io_error(&self, action: &'static str, source: std::io::Error) -> Error {
        Error::Io { action, path: self.tail_path(), source }
    }

    /// Finishes the segment and begins the next one, which gets its name when its head is on disk.
    fn roll(&mut self) -> Result<(), Error> {
        self.flush()?;
        let end = self.offset;
        self.tail().file.set_len(end).map_err(|err| self.io_error("truncate", err))?;
        self.sync_data()?;

        let Prepared { path, file } = match self.prepared.take() {
            Some(prepared) => prepared,
            None => self.allocate()?,
        };
        let name = SegmentName {
            seq: self.tail().name.seq.saturating_add(1),
            index: self.last_index.saturating_add(1),
        };
        self.encoder.crc_record();
        self.encoder.metadata(&self.metadata);
        if !self.state.is_empty() {
            self.encoder.state(&self.state);
        }
        self.segments.push(Segment { name, file });
        self.offset = 0;
        self.flush()?;
        self.sync_data()?;
        self.disk.rename(&path, &self.tail_path()).context("rename", &path)?;
        if mutant!("6368") {
            return Ok(());
        }
        self.disk.sync_dir(&self.dir).context("sync", &self.dir)
    }

    fn allocate(&mut self) -> Result<Prepared<D::File>, Error> {
        let path = self.dir.join(format!("{}.tmp", self.prepared_count % 2));
        self.prepared_count += 1;
        let file = new_file(&self.disk, &path, self.options.segment_bytes)?;
        Ok(Prepared { path, file })
    }
}

/// Makes durable what was read. A process that was killed, or whose sync failed, has left records
/// in the system's cache that are not on disk, under names that are not. This one is about to count
/// them as stored, and a power failure would take them back after others have relied on that.
// DIFF(etcd): etcd does not.
fn sync_inherited<D: Disk>(
    disk: &D,
    dir: &Path,
    segments: &[Segment<D::File>],
) -> Result<(), Error> {
    for segment in segments {
        let path = dir.join(segment.name.to_string());
        segment.file.sync_all().context("sync", &path)?;
    }
    disk.sync_dir(dir).context("sync", dir)?;
    let parent = dir.parent().unwrap_or_else(|| Path::new("."));
    disk.sync_dir(parent).context("sync", parent)
}

/// A locked, empty file with space reserved.
fn new_file<D: Disk>(disk: &D, path: &Path, bytes: u64) -> Result<D::File, Error> {
    let file = disk.open(path, Open::Truncate(FILE_MODE)).context("create", path)?;
    if !file.try_lock().context("lock", path)? {
        return Err(Error::Locked(path.to_owned()));
    }
    file.preallocate(bytes).context("preallocate", path)?;
    Ok(file)
}

/// Copies a segment to `<name>.broken` before its tail is cut off.
fn keep_broken<D: Disk>(disk: &D, path: &Path, file: &D::File, len: u64) -> Result<(), Error> {
    let mut broken = path.as_os_str().to_owned();
    broken.push(".broken");
    let broken = PathBuf::from(broken);
    let copy = disk.open(&broken, Open::Truncate(FILE_MODE)).context("create", &broken)?;
    let mut buf = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < len {
        let read = file.read_at(&mut buf, offset).context("read", path)?;
        if read == 0 {
            break;
        }
        copy.write_all_at(&buf[..read], offset).context("write", &broken)?;
        offset += read as u64;
    }
    copy.sync_data().context("sync", &broken)
}

/// Removes the oldest segments until `keep` are left, or one is still locked by its [`Wal`].
/// Returns the names removed.
///
/// # Errors
/// If the disk fails.
pub fn purge<D: Disk>(disk: &D, dir: &Path, keep: usize) -> Result<Vec<String>, Error> {
    let names = disk.list(dir).context("list", dir)?;
    let segments: Vec<String> = names.into_iter().filter(|name| name.ends_with(".wal")).collect();
    let excess = segments.len().saturating_sub(keep);
    let mut removed = Vec::new();
    for name in segments.into_iter().take(excess) {
        let path = dir.join(&name);
        let file = disk.open(&path, Open::ReadWrite).context("open", &path)?;
        if !file.try_lock().context("lock", &path)? {
            break;
        }
        disk.remove(&path).context("remove", &path)?;
        removed.push(name);
    }
    Ok(removed)
}
