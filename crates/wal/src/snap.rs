//! Snapshot files: `<term>-<index>.snap`, and the names of the databases that go with them.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use env::{Disk, File, Open};
use mutant::mutant;
use raft::Snapshot;

use crate::error::IoContext;
use crate::names::parse_hex16;
use crate::proto::{Fields, Malformed, Value, put_bytes, put_uint};
use crate::{Error, Reason, SnapshotRecord};

/// etcd makes these files with 0666 under the usual umask of 022, and all others with 0600.
const SNAP_MODE: u32 = 0o644;
const DB_MODE: u32 = 0o600;
/// A snapshot file holds the membership: kilobytes. What is this large is something else.
const SNAP_BYTES_MAX: u64 = 512 << 20;

/// The directory `member/snap`.
#[derive(Clone, Debug)]
pub struct Snapshotter<D: Disk> {
    disk: D,
    dir: PathBuf,
}

/// A database on its way from the leader; becomes `<index>.snap.db` when it is complete.
#[derive(Debug)]
pub struct DbFile<D: Disk> {
    disk: D,
    dir: PathBuf,
    tmp: PathBuf,
    file: D::File,
    len: u64,
    index: u64,
}

impl<D: Disk> Snapshotter<D> {
    /// Snapshot files in `dir`, which must exist.
    pub fn new(disk: D, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned() }
    }

    /// Writes a snapshot and makes it durable; an empty one is left out.
    ///
    /// # Errors
    /// If the disk fails; the file is then removed.
    pub fn save(&self, snapshot: &Snapshot) -> Result<(), Error> {
        if snapshot.is_empty() {
            return Ok(());
        }
        let path = self.dir.join(snap_name(snapshot.metadata.term, snapshot.metadata.index));
        let result = self.write(&path, &encode(snapshot));
        if result.is_err() {
            // Nothing refers to the file yet; if it cannot be removed either, it is found broken.
            let _ = self.disk.remove(&path);
        }
        result
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let file = self.disk.open(path, Open::Truncate(SNAP_MODE)).context("create", path)?;
        file.write_all_at(bytes, 0).context("write", path)?;
        file.sync_all().context("sync", path)?;
        if mutant!("22340") {
            return Ok(());
        }
        // DIFF(etcd): etcd does not sync the directory (etcd issue 22314), so that the file may
        // vanish although the log has a record of it.
        self.disk.sync_dir(&self.dir).context("sync", &self.dir)
    }

    /// The newest snapshot.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`]; or the disk fails. Files that cannot be read are renamed `.broken`.
    pub fn load(&self) -> Result<Snapshot, Error> {
        self.load_matching(|_| true)
    }

    /// The newest snapshot that is among `records`, those of the log.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_newest_available(&self, records: &[SnapshotRecord]) -> Result<Snapshot, Error> {
        self.load_matching(|snapshot| {
            let (term, index) = (snapshot.metadata.term, snapshot.metadata.index);
            records.iter().rev().any(|record| record.term == term && record.index == index)
        })
    }

    fn load_matching(&self, is_wanted: impl Fn(&Snapshot) -> bool) -> Result<Snapshot, Error> {
        for name in self.names(".snap")?.iter().rev() {
            let path = self.dir.join(name);
            match read(&self.disk, &path) {
                Ok(snapshot) if is_wanted(&snapshot) => return Ok(snapshot),
                Ok(_) => {}
                Err(Error::Corrupt { .. }) => {
                    let broken = self.dir.join(format!("{name}.broken"));
                    self.disk.rename(&path, &broken).context("rename", &path)?;
                }
                Err(err) => return Err(err),
            }
        }
        Err(Error::NoSnapshot)
    }

    /// Names that end in `suffix`, sorted, so that the newest comes last.
    fn names(&self, suffix: &str) -> Result<Vec<String>, Error> {
        let mut names = self.disk.list(&self.dir).context("list", &self.dir)?;
        names.retain(|name| name.ends_with(suffix));
        Ok(names)
    }

    /// Removes what an interrupted transfer or defragmentation left: `tmp*` and `db.tmp*`.
    /// Returns the names removed.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn remove_orphans(&self) -> Result<Vec<String>, Error> {
        let mut names = self.names("")?;
        names.retain(|name| name.starts_with("tmp") || name.starts_with("db.tmp"));
        self.remove_all(names)
    }

    /// Removes the oldest snapshot files until `keep` are left of those up to `recorded`
    /// ([`Wal::snapshot_index`](crate::Wal::snapshot_index)): a newer file without a record in the log, as
    /// a crash leaves it, is of no use to a restart. Returns the names removed.
    ///
    /// DIFF(etcd): there such a file counts, and databases that wait to be installed are removed, too.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn purge(&self, keep: usize, recorded: u64) -> Result<Vec<String>, Error> {
        let mut names = self.names(".snap")?;
        names.retain(|name| snap_index(name).is_some_and(|index| index <= recorded));
        names.truncate(names.len().saturating_sub(keep));
        self.remove_all(names)
    }

    /// Removes the databases of snapshots before `index`. Returns the names removed.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn release_dbs(&self, index: u64) -> Result<Vec<String>, Error> {
        let mut names = self.names(".snap.db")?;
        names.retain(|name| db_index(name).is_some_and(|found| found < index));
        self.remove_all(names)
    }

    fn remove_all(&self, names: Vec<String>) -> Result<Vec<String>, Error> {
        for name in &names {
            let path = self.dir.join(name);
            match self.disk.remove(&path) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                other => other.context("remove", &path)?,
            }
        }
        Ok(names)
    }

    /// The database that belongs to the snapshot at `index`.
    ///
    /// # Errors
    /// [`Error::NoDbSnapshot`] if there is none; or the disk fails.
    pub fn db_path(&self, index: u64) -> Result<PathBuf, Error> {
        let path = self.dir.join(db_name(index));
        let exists = self.disk.exists(&path).context("stat", &path)?;
        if exists { Ok(path) } else { Err(Error::NoDbSnapshot) }
    }

    /// Begins to receive the database of the snapshot at `index`. `unique` tells transfers that go
    /// on at the same time apart.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn receive_db(&self, index: u64, unique: u64) -> Result<DbFile<D>, Error> {
        let tmp = self.dir.join(format!("tmp{unique}"));
        let file = self.disk.open(&tmp, Open::Truncate(DB_MODE)).context("create", &tmp)?;
        Ok(DbFile { disk: self.disk.clone(), dir: self.dir.clone(), tmp, file, len: 0, index })
    }
}

impl<D: Disk> DbFile<D> {
    /// Appends a part.
    ///
    /// # Errors
    /// If the disk fails; [`abort`](Self::abort) then.
    pub fn write(&mut self, part: &[u8]) -> Result<(), Error> {
        self.file.write_all_at(part, self.len).context("write", &self.tmp)?;
        self.len += part.len() as u64;
        Ok(())
    }

    /// Makes the database durable under its name, unless one is there already. Returns its path and
    /// how many bytes were received.
    ///
    /// # Errors
    /// If the disk fails; the unfinished file is then removed.
    pub fn finish(self) -> Result<(PathBuf, u64), Error> {
        let result = self.publish();
        if result.is_err() {
            let _ = self.disk.remove(&self.tmp);
        }
        result
    }

    fn publish(&self) -> Result<(PathBuf, u64), Error> {
        self.file.sync_all().context("sync", &self.tmp)?;
        let path = self.dir.join(db_name(self.index));
        if self.disk.exists(&path).context("stat", &path)? {
            self.disk.remove(&self.tmp).context("remove", &self.tmp)?;
        } else {
            self.disk.rename(&self.tmp, &path).context("rename", &self.tmp)?;
            self.disk.sync_dir(&self.dir).context("sync", &self.dir)?;
        }
        Ok((path, self.len))
    }

    /// Removes what was received.
    pub fn abort(self) {
        // What cannot be removed now goes with the other orphans at the next start.
        let _ = self.disk.remove(&self.tmp);
    }
}

/// Name of a snapshot file.
#[must_use]
pub fn snap_name(term: u64, index: u64) -> String {
    format!("{term:016x}-{index:016x}.snap")
}

/// Name of the database that belongs to the snapshot at `index`.
#[must_use]
pub fn db_name(index: u64) -> String {
    format!("{index:016x}.snap.db")
}

/// The index in the name of a snapshot file.
fn snap_index(name: &str) -> Option<u64> {
    let (_term, index) = name.strip_suffix(".snap")?.split_once('-')?;
    parse_hex16(index)
}

/// The index in the name of a database.
fn db_index(name: &str) -> Option<u64> {
    parse_hex16(name.strip_suffix(".snap.db")?)
}

/// The bytes of a snapshot file: `snappb.snapshot{crc = 1, data = 2}` around the snapshot.
#[must_use]
pub fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let data = snapshot.encode_to_vec();
    let mut buf = Vec::with_capacity(data.len() + 16);
    put_uint(&mut buf, 1, u64::from(crc32c::crc32c(&data)));
    put_bytes(&mut buf, 2, &data);
    buf
}

/// Reads a snapshot file.
///
/// # Errors
/// If the disk fails or the file is damaged.
pub fn read<D: Disk>(disk: &D, path: &Path) -> Result<Snapshot, Error> {
    let file = disk.open(path, Open::Read).context("open", path)?;
    let len = file.len().context("stat", path)?;
    let corrupt = |reason| {
        let name = path.file_name().unwrap_or_default();
        Error::Corrupt { file: name.to_string_lossy().into_owned(), offset: 0, reason }
    };
    if len > SNAP_BYTES_MAX {
        return Err(corrupt(Reason::TooLong { declared: len, left: SNAP_BYTES_MAX }));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).context("read", path)?;
    decode(&bytes).map_err(corrupt)
}

fn decode(bytes: &[u8]) -> Result<Snapshot, Reason> {
    let (crc, data) = envelope(bytes).map_err(|_| Reason::Malformed("snappb.Snapshot"))?;
    if data.is_empty() || crc == 0 {
        return Err(Reason::Empty);
    }
    let computed = crc32c::crc32c(data);
    if computed != crc {
        return Err(Reason::Crc { expected: crc, computed });
    }
    Snapshot::decode(Bytes::copy_from_slice(data)).map_err(|_| Reason::Malformed("raftpb.Snapshot"))
}

fn envelope(bytes: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    let (mut crc, mut data) = (0, &[][..]);
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Varint(value)) => crc = value as u32,
            (2, Value::Bytes(value)) => data = value,
            _ => {}
        }
    }
    Ok((crc, data))
}
