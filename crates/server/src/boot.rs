//! From a data directory, new or old, to the parts of a member.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use api::internal::InternalRequestRef;
use backend::{Backend, Bucket, Committer};
use bytes::Bytes;
use cluster::{Cluster, InitialCluster};
use env::Disk;
use raft::{ConfState, Peer};
use replica::{Boot, boot};
use tracing::{info, warn};
use transport::Tls;
use wal::Wal;
use wal::snap::Snapshotter;

use crate::Config;
use crate::defrag;
use crate::error::StartError;
use crate::{force, join, resolve};

const AUTH_REVISION: &[u8] = b"authRevision";

/// Permissions of directories that etcd makes.
const DIR_MODE: u32 = 0o700;

/// Between two tries to lock the database, and how long they may take before somebody is told, as in etcd.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);
const LOCK_TIME_USUAL: Duration = Duration::from_secs(10);

/// The parts that a data directory gives.
#[derive(Debug)]
pub(crate) struct Loaded<D: Disk> {
    pub(crate) member_id: u64,
    pub(crate) cluster: Cluster,
    pub(crate) backend: Backend,
    pub(crate) committer: Committer<D>,
    pub(crate) log: Wal<D>,
    pub(crate) snapshotter: Snapshotter<D>,
    pub(crate) wal_dir: PathBuf,
    pub(crate) db: PathBuf,
    pub(crate) boot: Boot,
    pub(crate) conf_state: ConfState,
    pub(crate) snapshot_index: u64,
    /// Other members that the flags or the cluster name, with their peer URLs.
    pub(crate) peers: Vec<(u64, Vec<String>)>,
}

/// Opens or makes the directory. The database may be reached through a disk of its own, since
/// another thread will write to it.
pub(crate) fn load<D: Disk>(
    disk: &D,
    backend_disk: &D,
    config: &Config,
    tls: Option<&Tls>,
) -> Result<Loaded<D>, StartError> {
    let member_dir = config.data_dir().join("member");
    let snap_dir = member_dir.join("snap");
    let wal_dir = config.wal_dir.clone().unwrap_or_else(|| member_dir.join("wal"));
    make_dir(disk, &config.data_dir())?;
    make_dir(disk, &snap_dir)?;
    if let Some(parent) = wal_dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_dir(disk, parent)?;
    }
    let snapshotter = Snapshotter::new(disk.clone(), &snap_dir);
    let db = snap_dir.join("db");
    let (mut backend, mut committer) = open_backend(backend_disk, &db, &wal_dir, config)?;
    // From here on, the directory is this process's alone.
    for name in snapshotter.remove_orphans()? {
        info!(path = %snap_dir.join(&name).display(), "removed orphaned temporary file");
    }
    let has_log = wal::exists(disk, &wal_dir)?;
    info!(path = %db.display(), "opened backend db");
    info!(index = backend.consistent_index().0, "restore consistentIndex");
    let threshold = config.bootstrap_defrag_threshold_bytes;
    defrag::at_start(&mut backend, &mut committer, threshold)?;
    if backend.reader().get(Bucket::Auth, AUTH_REVISION)?.is_none() {
        // etcd's auth store begins at revision 1 even while it is off.
        let first = Bytes::copy_from_slice(&1_u64.to_be_bytes());
        backend.put(Bucket::Auth, AUTH_REVISION, first);
    }
    let (applied, _) = backend.consistent_index();
    if !has_log && applied > 0 {
        return Err(StartError::Log(format!(
            "no log in {}, but the database {} has applied index {applied}",
            wal_dir.display(),
            db.display()
        )));
    }
    let paths = Paths { snapshotter, wal_dir, db };
    if has_log {
        restart(disk, config, paths, (backend, committer), tls)
    } else {
        let beginning = begin(config, tls)?;
        let log =
            Wal::create(disk.clone(), &paths.wal_dir, &beginning.metadata, wal_options(config))?;
        Ok(start_anew(config, paths, beginning, backend, committer, log))
    }
}

struct Paths<D: Disk> {
    snapshotter: Snapshotter<D>,
    wal_dir: PathBuf,
    db: PathBuf,
}

fn make_dir<D: Disk>(disk: &D, path: &Path) -> Result<(), StartError> {
    if !disk.exists(path).map_err(|err| StartError::data_dir(path, &err))? {
        disk.create_dir_all(path, DIR_MODE).map_err(|err| StartError::data_dir(path, &err))?;
    }
    Ok(())
}

/// Without a log the first start was interrupted: a database that can't be read was never used.
fn open_backend<D: Disk>(
    disk: &D,
    db: &Path,
    wal_dir: &Path,
    config: &Config,
) -> Result<(Backend, Committer<D>), StartError> {
    let options = backend::Options {
        batch_interval: config.backend_batch_interval,
        batch_limit: config.backend_batch_limit,
        ..backend::Options::default()
    };
    match wait_for_lock(db, || Backend::open(disk.clone(), db, options.clone())) {
        Err(backend::Error::Bolt(err @ bolt::Error::Damaged(_)))
            if !wal::exists(disk, wal_dir)? =>
        {
            warn!(path = %db.display(), error = %err, "removing the database of an interrupted first start");
            disk.remove(db).map_err(|err| StartError::disk("remove", db, err))?;
            Ok(Backend::open(disk.clone(), db, options)?)
        }
        other => Ok(other?),
    }
}

/// Another process may be about to end.
fn wait_for_lock<T>(
    db: &Path,
    mut open: impl FnMut() -> Result<T, backend::Error>,
) -> Result<T, backend::Error> {
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        match open() {
            Err(backend::Error::Bolt(bolt::Error::Locked(_))) => thread::sleep(LOCK_INTERVAL),
            other => return other,
        }
        if !is_told && begun.elapsed() > LOCK_TIME_USUAL {
            let took = format!("{:?}", begun.elapsed());
            let message = "db file is flocked by another process, or taking too long";
            info!(path = %db.display(), took, "{message}");
            is_told = true;
        }
    }
}

/// How a member begins, and its ids.
struct Beginning {
    boot: Boot,
    metadata: wal::Metadata,
    /// The other members.
    peers: Vec<(u64, Vec<String>)>,
}

/// What the flags, and the members of a running cluster, say about a member without a log.
fn begin(config: &Config, tls: Option<&Tls>) -> Result<Beginning, StartError> {
    let initial = InitialCluster::parse(&config.initial_cluster)?;
    if config.initial_cluster_existing {
        let place = join::join(config, &initial, tls)?;
        let metadata = wal::Metadata { node_id: place.member_id, cluster_id: place.cluster_id };
        return Ok(Beginning { boot: Boot::Join, metadata, peers: place.others });
    }
    let advertised: Vec<String> =
        config.advertise_peer_urls.iter().map(ToString::to_string).collect();
    let names = resolve::look_up(initial.names_to_resolve(&config.name, &advertised));
    initial.verify_bootstrap(&config.name, &advertised, false, &names)?;
    let cluster = Cluster::bootstrap(&initial, &config.initial_cluster_token)?;
    let local = cluster.member_by_name(&config.name).expect("verified above");
    if cluster.members().len() > 1 && join::is_bootstrapped(&cluster, &config.name, tls) {
        let id = local.id;
        return Err(StartError::Join(format!("member {id:x} has already been bootstrapped")));
    }
    let metadata = wal::Metadata { node_id: local.id, cluster_id: cluster.id() };
    let founders = cluster
        .members()
        .map(|member| Peer { id: member.id, context: Bytes::from(member.to_json()) })
        .collect();
    let others = cluster.members().filter(|member| member.id != local.id);
    let peers = others.map(|member| (member.id, member.peer_urls.clone())).collect();
    Ok(Beginning { boot: Boot::New(founders), metadata, peers })
}

/// The first start of a member, with a log in which there is nothing yet.
fn start_anew<D: Disk>(
    config: &Config,
    paths: Paths<D>,
    beginning: Beginning,
    backend: Backend,
    committer: Committer<D>,
    log: Wal<D>,
) -> Loaded<D> {
    let wal::Metadata { node_id, cluster_id } = beginning.metadata;
    info!(
        "local-member-id" = format!("{node_id:x}"),
        "cluster-id" = format!("{cluster_id:x}"),
        "starting local member"
    );
    // Members enter through the log, as everywhere else.
    let mut cluster = Cluster::from_members(cluster_id, []);
    cluster.set_ids(node_id, cluster_id);
    cluster.set_max_learners(config.max_learners);
    Loaded {
        member_id: node_id,
        cluster,
        backend,
        committer,
        log,
        snapshotter: paths.snapshotter,
        wal_dir: paths.wal_dir,
        db: paths.db,
        boot: beginning.boot,
        conf_state: ConfState::default(),
        snapshot_index: 0,
        peers: beginning.peers,
    }
}

fn wal_options(config: &Config) -> wal::Options {
    wal::Options { unsafe_no_fsync: config.unsafe_no_fsync, ..wal::Options::default() }
}

/// A member that has been here before.
fn restart<D: Disk>(
    disk: &D,
    config: &Config,
    paths: Paths<D>,
    opened: (Backend, Committer<D>),
    tls: Option<&Tls>,
) -> Result<Loaded<D>, StartError> {
    let Paths { snapshotter, wal_dir, db } = &paths;
    let damaged = |err: cluster::RestoreError| StartError::database(db, &err);
    let places = boot::Paths { db: db.clone(), wal_dir: wal_dir.clone() };
    let opened = match boot::restart(disk, snapshotter, &places, opened, wal_options(config)) {
        Ok(opened) => opened,
        Err(boot::Error::Log(err)) => return Err(err.into()),
        Err(boot::Error::Backend(err)) => return Err(err.into()),
        Err(boot::Error::State(err)) => return Err(damaged(err)),
        Err(err @ boot::Error::NoDatabase(_)) => {
            return Err(StartError::Database(format!("{}: {err}", db.display())));
        }
    };
    let boot::Restart { mut backend, committer, mut log, metadata, snapshot, .. } = opened;
    if opened.is_repaired {
        warn!(path = %wal_dir.display(), "repaired the torn tail of the log");
    }
    let Some(boot::State { mut cluster, conf_state, mut boot }) = opened.state else {
        return resume_beginning(config, paths, (backend, committer), (log, metadata), tls);
    };
    cluster.set_max_learners(config.max_learners);
    if let Boot::Restart { entries, applied, .. } = &boot {
        refuse_unsupported(entries, *applied, wal_dir)?;
    }
    join::check_learners(config, &cluster)?;
    if config.force_new_cluster {
        force::new_cluster(&metadata, &mut boot, &mut log)?;
    }
    let storage_version = cluster::load_storage_version(&backend.reader()).map_err(damaged)?;
    if storage_version.is_none() {
        // etcd writes it some time after the cluster's version. While that is 3.5, there must be none.
        let version = cluster.version().and_then(cluster::Version::storage);
        cluster::save_storage_version(version, &mut backend);
    }
    info!(
        "local-member-id" = format!("{:x}", metadata.node_id),
        "cluster-id" = format!("{:x}", metadata.cluster_id),
        "commit-index" = opened.hard_state.commit,
        "restarting local member"
    );
    Ok(Loaded {
        member_id: metadata.node_id,
        cluster,
        backend,
        committer,
        log,
        snapshotter: paths.snapshotter,
        wal_dir: paths.wal_dir,
        db: paths.db,
        boot,
        conf_state,
        snapshot_index: snapshot.index,
        peers: Vec::new(),
    })
}

/// The first start ended before anything was in the log: what it would have begun with is not
/// there, and without it no founder could ever be elected.
fn resume_beginning<D: Disk>(
    config: &Config,
    paths: Paths<D>,
    (backend, committer): (Backend, Committer<D>),
    (log, metadata): (Wal<D>, wal::Metadata),
    tls: Option<&Tls>,
) -> Result<Loaded<D>, StartError> {
    let beginning = begin(config, tls)?;
    if beginning.metadata != metadata {
        return Err(StartError::Log(format!(
            "the first start with the log in {} was interrupted, and was that of member {:x} of cluster {:x}, not of {:x} of {:x}, as the flags say",
            paths.wal_dir.display(),
            metadata.node_id,
            metadata.cluster_id,
            beginning.metadata.node_id,
            beginning.metadata.cluster_id,
        )));
    }
    warn!(path = %paths.wal_dir.display(), "resuming an interrupted first start");
    Ok(start_anew(config, paths, beginning, backend, committer, log))
}

/// Entries that the backend does not hold yet will be applied: this server must know how.
fn refuse_unsupported(
    entries: &[raft::Entry],
    applied: u64,
    wal_dir: &Path,
) -> Result<(), StartError> {
    for entry in entries.iter().filter(|entry| entry.index > applied) {
        if entry.entry_type != raft::EntryType::Normal || entry.data.is_empty() {
            continue;
        }
        let request = match InternalRequestRef::decode(&entry.data) {
            Ok(request) => request,
            Err(_) if apply::legacy::translate(&entry.data).is_some() => continue,
            Err(err) => {
                let (wal_dir, index) = (wal_dir.display(), entry.index);
                let text = format!("{wal_dir}: entry {index} can't be decoded: {err}");
                return Err(StartError::Log(text));
            }
        };
        if request.op.is_some_and(|op| !apply::is_supported(op)) {
            return Err(StartError::Unsupported(format!(
                "entry {} of the log is a request that is not supported yet by this server",
                entry.index
            )));
        }
    }
    Ok(())
}
