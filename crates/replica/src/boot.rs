//! From what a member left on disk to what it starts with.

use std::path::{Path, PathBuf};

use backend::{Backend, Committer};
use cluster::Cluster;
use env::Disk;
use mutant::mutant;
use raft::{ConfState, SnapshotMetadata};
use wal::snap::Snapshotter;
use wal::{SnapshotRecord, Wal};

use crate::Boot;

/// Where a member keeps its files.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The database.
    pub db: PathBuf,
    /// The directory of log segments.
    pub wal_dir: PathBuf,
}

/// What a member has that was here before.
#[derive(Debug)]
pub struct Restart<D: Disk> {
    /// The database, perhaps one that a snapshot brought.
    pub backend: Backend,
    /// Its file.
    pub committer: Committer<D>,
    /// The log, open behind its last entry.
    pub log: Wal<D>,
    /// Whose log it is.
    pub metadata: wal::Metadata,
    /// The last hard state in the log.
    pub hard_state: raft::HardState,
    /// Whether a torn tail was cut off.
    pub is_repaired: bool,
    /// The newest snapshot that the log vouches for.
    pub snapshot: SnapshotMetadata,
    /// How to go on; `None` if the first start ended before its first entry was on disk, so that
    /// the member must begin anew, with this log.
    pub state: Option<State>,
}

/// The state of a member that has begun.
#[derive(Debug)]
pub struct State {
    /// The members.
    pub cluster: Cluster,
    /// Raft's configuration as of the last applied entry.
    pub conf_state: ConfState,
    /// What [`crate::Replica::new`] takes.
    pub boot: Boot,
}

/// Why a member can't start; the texts name the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log or a snapshot file.
    #[error(transparent)]
    Log(#[from] wal::Error),
    /// The database.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// The database holds something that etcd does not write.
    #[error(transparent)]
    State(#[from] cluster::RestoreError),
    /// The database is older than the snapshot, and the one that came with it is not there.
    #[error("failed to find database snapshot file ({0})")]
    NoDatabase(wal::Error),
}

/// Opens the log behind the newest snapshot that it vouches for. If the database is older, a crash
/// came between the record of a leader's snapshot and the taking over of its database: that is
/// done now.
///
/// # Errors
/// See [`Error`].
pub fn restart<D: Disk>(
    disk: &D,
    snapshotter: &Snapshotter<D>,
    paths: &Paths,
    (mut backend, mut committer): (Backend, Committer<D>),
    log_options: wal::Options,
) -> Result<Restart<D>, Error> {
    let snapshot = newest_snapshot(disk, snapshotter, &paths.wal_dir)?;
    if backend.consistent_index().0 < snapshot.index && !mutant!("13922") {
        let path = snapshotter.db_path(snapshot.index).map_err(Error::NoDatabase)?;
        backend = committer.install(&path, backend.options().clone())?;
    }
    let from = SnapshotRecord { index: snapshot.index, term: snapshot.term, conf_state: None };
    let (log, replay) = Wal::open(disk.clone(), &paths.wal_dir, &from, log_options)?;
    let (applied, _) = backend.consistent_index();
    let has_begun = applied > 0 || snapshot.index > 0 || !replay.hard_state.is_empty();
    let state = if has_begun {
        let conf_state = configuration(&mut backend, &snapshot, applied)?;
        let mut cluster = Cluster::restore(&backend)?;
        cluster.set_ids(replay.metadata.node_id, replay.metadata.cluster_id);
        let boot = Boot::Restart {
            hard_state: replay.hard_state,
            before_first: (snapshot.index, snapshot.term),
            entries: replay.entries,
            conf_state: conf_state.clone(),
            applied,
        };
        Some(State { cluster, conf_state, boot })
    } else {
        None
    };
    Ok(Restart {
        backend,
        committer,
        log,
        metadata: replay.metadata,
        hard_state: replay.hard_state,
        is_repaired: replay.is_repaired,
        snapshot,
        state,
    })
}

fn newest_snapshot<D: Disk>(
    disk: &D,
    snapshotter: &Snapshotter<D>,
    wal_dir: &Path,
) -> Result<SnapshotMetadata, wal::Error> {
    let records = wal::valid_snapshots(disk, wal_dir)?;
    match snapshotter.load_newest_available(&records) {
        Ok(snapshot) => Ok(snapshot.metadata),
        Err(wal::Error::NoSnapshot) => Ok(SnapshotMetadata::default()),
        Err(err) => Err(err),
    }
}

/// Raft's configuration as of the last applied entry. A snapshot at that very entry knows it better
/// than the backend: `etcdutl snapshot restore` gives the backend of one cluster to another and
/// leaves it to the first start to write the new configuration into it.
fn configuration(
    backend: &mut Backend,
    snapshot: &SnapshotMetadata,
    applied: u64,
) -> Result<ConfState, cluster::RestoreError> {
    let stored = cluster::load_conf_state(&backend.reader())?;
    match stored {
        Some(conf_state) if applied != snapshot.index || applied == 0 => Ok(conf_state),
        stored => {
            let conf_state = snapshot.conf_state.clone();
            if stored.as_ref() != Some(&conf_state) {
                cluster::save_conf_state(&conf_state, backend);
            }
            Ok(conf_state)
        }
    }
}
