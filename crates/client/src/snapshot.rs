//! The database of a member: as a stream, or saved to a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use api::etcdserverpb::{ResponseHeader, SnapshotRequest, SnapshotResponse};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::call::Method;
use crate::channel::Answers;
use crate::client::Client;
use crate::error::{Error, Result};

const SNAPSHOT: Method = Method::repeatable("/etcdserverpb.Maintenance/Snapshot");

/// The trailer: a SHA-256 of all before it.
const TRAILER_BYTES: usize = 32;

/// A database is a multiple of this; so one with a trailer is told from one without.
const SECTOR_BYTES: u64 = 512;

/// Nobody else may read what is in a database.
const FILE_MODE: u32 = 0o600;

impl Client {
    /// The database of the member that answers, with its trailer, in parts.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let opening = self.caller().server_streaming(self.terms(), SNAPSHOT, SnapshotRequest {});
        let mut answers = self.caller().within(self.terms(), opening).await?;
        let first: SnapshotResponse =
            answers.next().await?.ok_or(Error::Unexpected("a snapshot without anything"))?;
        Ok(Snapshot {
            header: first.header.unwrap_or_default(),
            version: first.version,
            total_bytes: first.remaining_bytes.saturating_add(first.blob.len() as u64),
            first: Some(first.blob),
            answers,
        })
    }

    /// Saves the database of the member that answers; with one endpoint it is known which one that is.
    ///
    /// What comes goes to `path` with `.part` behind it, which is synced, checked against its trailer and then takes
    /// the name `path`. On failure, or if this is given up, it is removed, and what was at `path` stays. `progress`
    /// is told after each part how many bytes there are, and how many there will be.
    ///
    /// # Errors
    /// If the call fails, the file can't be written, or what came is not whole.
    pub async fn snapshot_save(
        &self,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(SnapshotProgress),
    ) -> Result<SavedSnapshot> {
        let path = path.as_ref();
        let mut part = PartFile::create(path)?;
        let mut snapshot = self.snapshot().await?;
        while let Some(bytes) = snapshot.next().await? {
            part.append(&bytes)?;
            progress(SnapshotProgress {
                received_bytes: part.size,
                // The trailer is not in the server's count.
                total_bytes: snapshot.total_bytes.max(part.size),
            });
        }
        let size = part.size;
        // Files are synced and renamed while other tasks of this thread go on.
        let target = path.to_owned();
        tokio::task::spawn_blocking(move || part.finish(&target))
            .await
            .map_err(|error| Error::Snapshot(error.to_string()))??;
        Ok(SavedSnapshot { version: snapshot.version, size_bytes: size })
    }
}

/// How far [`Client::snapshot_save`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// What is in the file.
    pub received_bytes: u64,
    /// What will be in it, as far as the server has said.
    pub total_bytes: u64,
}

/// What [`Client::snapshot_save`] has saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedSnapshot {
    /// The storage version of the member; servers before 3.6 do not tell.
    pub version: String,
    /// The size of the file, with the trailer.
    pub size_bytes: u64,
}

/// A database on its way.
#[derive(Debug)]
pub struct Snapshot {
    /// Who sends it, and its revision.
    pub header: ResponseHeader,
    /// The storage version of the member; servers before 3.6 do not tell.
    pub version: String,
    /// The size of the database, as far as the server has said.
    pub total_bytes: u64,
    first: Option<Bytes>,
    answers: Answers<SnapshotResponse>,
}

impl Snapshot {
    /// The next part, or `None` behind the last, which is the trailer.
    ///
    /// # Errors
    /// If the stream breaks: what came is not a snapshot then.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        Ok(self.answers.next().await?.map(|response| response.blob))
    }
}

/// A file that is not whole yet; is removed unless it is finished.
#[derive(Debug)]
struct PartFile {
    path: PathBuf,
    file: File,
    size: u64,
    hash: Sha256,
    /// The last bytes, which may be the trailer, and are not hashed yet.
    tail: Vec<u8>,
}

impl Drop for PartFile {
    fn drop(&mut self) {
        // Also after it was renamed, when there is nothing of this name.
        let _ = fs::remove_file(&self.path);
    }
}

impl PartFile {
    fn create(target: &Path) -> Result<Self> {
        let mut path = target.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(FILE_MODE).open(&path);
        let file =
            file.map_err(|error| Error::io(format!("could not open {}", path.display()), error))?;
        Ok(Self { path, file, size: 0, hash: Sha256::new(), tail: Vec::new() })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| Error::io("could not write snapshot", error))?;
        self.size += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
        let certain = self.tail.len().saturating_sub(TRAILER_BYTES);
        self.hash.update(self.tail.drain(..certain).as_slice());
        Ok(())
    }

    /// Gives it its name, when it is whole and on disk.
    fn finish(mut self, target: &Path) -> Result<()> {
        if self.size % SECTOR_BYTES != TRAILER_BYTES as u64 {
            let text = format!("sha256 checksum not found [bytes: {}]", self.size);
            return Err(Error::Snapshot(text));
        }
        let found = std::mem::take(&mut self.hash).finalize();
        if *found != *self.tail {
            let text = format!("expected sha256 {:?}, got {:?}", self.tail, &*found);
            return Err(Error::Snapshot(text));
        }
        let synced = self.file.sync_all();
        synced.map_err(|error| Error::io("could not fsync snapshot", error))?;
        self.rename(target).map_err(|error| {
            let (from, to) = (self.path.display(), target.display());
            Error::io(format!("could not rename {from} to {to}"), error)
        })
    }

    fn rename(&self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        // The name is on disk when the directory is.
        let directory = target.parent().filter(|path| !path.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}
