//! A running member: threads, and the queues that tie them together.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use apply::Applier;
use env::{Clock, OsClock, OsDisk};
use replica::{Event, LogWriter, Replica};
use rpc::{Core, Delivery, Inbox, Limits, Link, Metrics, RequestIds, SERVER_CORE, State};
use tracing::info;

use crate::announce;
use crate::apply_thread::ApplyThread;
use crate::boot::{self, Loaded};
use crate::commit_thread::CommitThread;
use crate::consensus_thread::Consensus;
use crate::disk_thread::DiskWriter;
use crate::error::StartError;
use crate::fatal::fatal;
use crate::listen::{self, Listener, Role, Stopper};
use crate::log::List;
use crate::metered_disk::MeteredDisk;
use crate::publish::Publisher;
use crate::queues::{APPLY_INPUTS_MAX, CONSENSUS_EVENTS_MAX, WATCH_INPUTS_MAX};
use crate::watch_thread::WatchThread;
use crate::{Config, ETCD_VERSION, VERSION};

/// The most front-door threads; one core number is the server's own.
const FRONT_DOOR_THREADS_MAX: usize = SERVER_CORE as usize;

/// A member of a cluster, serving.
#[derive(Debug)]
pub struct Member {
    client_addresses: Vec<String>,
    state: Arc<State>,
    stopper: Stopper,
    acceptor: JoinHandle<()>,
    threads: Threads,
}

/// Everything that runs but the acceptor.
#[derive(Debug)]
struct Threads {
    inboxes: Arc<[Arc<Inbox>]>,
    consensus: SyncSender<Event>,
    apply: SyncSender<apply::Input>,
    cores: Vec<JoinHandle<()>>,
    /// Consensus, disk, apply, commit, watch: in the order in which they end.
    pipeline: Vec<JoinHandle<()>>,
}

/// The queues' other ends, until their threads are made.
struct Queues {
    events: Receiver<Event>,
    inputs: Receiver<apply::Input>,
    watch: Receiver<rpc::WatchInput>,
}

impl Member {
    /// Opens the data directory, starts all threads and returns when the member serves: when it
    /// has told the cluster its name, and the cluster has a version.
    ///
    /// # Errors
    /// If the configuration, the directory or an address can't be used. Nothing runs then.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let clock = OsClock::new();
        announce::warnings(config);
        let is_initialized = announce::data_dir(config);
        let listeners = bind_all(config)?;
        announce::configuration(config, is_initialized);
        let client_addresses: Vec<String> = listeners
            .iter()
            .filter(|(_, role)| *role == Role::Client)
            .map(|(listener, _)| listener.address())
            .collect();
        let disks = [(); 2].map(|()| MeteredDisk::new(OsDisk, clock));
        let [log_disk, backend_disk] = &disks;
        let loaded = boot::load(log_disk, backend_disk, config)?;
        let cluster_id = loaded.cluster.id();
        let state = Arc::new(State::new(cluster_id, loaded.member_id, ETCD_VERSION));
        let metrics = Arc::new(Metrics::new());
        let quota = config.quota().map_or(0, |bytes| bytes as i64);
        metrics.describe(loaded.member_id, ETCD_VERSION, crate::GO_VERSION, quota);
        if config.extensive_metrics {
            metrics.measure_calls();
        }
        for (name, stage, is_on) in config.feature_gates.list() {
            let gauge = metrics.server_feature_enabled.with_label_values(&[name, stage]);
            gauge.set(i64::from(is_on));
        }
        let (ready, became_ready) = mpsc::channel();
        let publisher = Publisher::new(Arc::clone(&state), Arc::clone(&metrics), Some(ready));
        info!(
            "local-member-id" = format!("{:x}", loaded.member_id),
            "local-server-version" = ETCD_VERSION,
            "cluster-version" = loaded
                .cluster
                .version()
                .map_or("to_be_decided".to_owned(), |version| version.major_minor()),
            "starting etcd server"
        );
        announce::serving(config, loaded.member_id);
        let threads = Threads::start(config, clock, disks, loaded, publisher)?;
        if became_ready.recv().is_err() {
            return Err(StartError::Log("the member stopped before it was ready".to_owned()));
        }
        info!("ready to serve client requests");
        info!(service = "", status = "SERVING", "grpc service status changed");
        let stopper = Stopper::new().map_err(|err| StartError::Listen(err.to_string()))?;
        let (stop, inboxes) = (stopper.share(), Arc::clone(&threads.inboxes));
        let acceptor = start_thread("acceptor", move || {
            listen::accept_loop(&listeners, &inboxes, &stop);
        })?;
        for address in &client_addresses {
            info!(
                traffic = "grpc+http",
                address = address.as_str(),
                "serving client traffic insecurely; this is strongly discouraged!"
            );
        }
        Ok(Self { client_addresses, state, stopper, acceptor, threads })
    }

    /// Where clients connect: `host:port`, or the path of a socket.
    #[must_use]
    pub fn client_addresses(&self) -> &[String] {
        &self.client_addresses
    }

    /// Facts of the member.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Stops: no new connections, open calls get their answers, then everything that is in memory
    /// goes to disk.
    pub fn stop(self) {
        self.stopper.stop();
        join(self.acceptor);
        let Threads { inboxes, consensus, apply, cores, pipeline } = self.threads;
        for inbox in inboxes.iter() {
            inbox.push(Delivery::Shutdown);
        }
        cores.into_iter().for_each(join);
        let _ = consensus.send(Event::Stop);
        drop(consensus);
        let mut pipeline = pipeline.into_iter();
        pipeline.by_ref().take(2).for_each(join);
        let _ = apply.send(apply::Input::Stop);
        drop(apply);
        pipeline.for_each(join);
        info!("stopped");
    }
}

impl Threads {
    fn start(
        config: &Config,
        clock: OsClock,
        [log_disk, backend_disk]: [MeteredDisk<OsDisk, OsClock>; 2],
        loaded: Loaded<MeteredDisk<OsDisk, OsClock>>,
        publisher: Publisher,
    ) -> Result<Self, StartError> {
        let (state, metrics) = (Arc::clone(&publisher.state), Arc::clone(&publisher.metrics));
        let (consensus, events) = mpsc::sync_channel(CONSENSUS_EVENTS_MAX);
        let (apply, inputs) = mpsc::sync_channel(APPLY_INPUTS_MAX);
        let (watch, watch_inputs) = mpsc::sync_channel(WATCH_INPUTS_MAX);
        let queues = Queues { events, inputs, watch: watch_inputs };
        let count = front_door_threads(config);
        let inboxes: Arc<[Arc<Inbox>]> = (0..count).map(|_| Arc::new(Inbox::new())).collect();

        let Loaded {
            member_id,
            cluster,
            backend,
            committer,
            log,
            snapshotter,
            wal_dir,
            db,
            boot,
            ..
        } = loaded;
        let first_request_id = RequestIds::new(member_id, SERVER_CORE, clock.now_wall()).next_id();
        let (applier, hub) = Applier::restore(
            backend,
            apply_options(config, member_id, first_request_id, clock),
            cluster,
            loaded.conf_state,
            loaded.snapshot_index,
            clock.now_mono(),
        )
        .map_err(|err| StartError::database(&db, &err))?;
        let reader = applier.reader();
        let backend_options = applier.backend().options().clone();
        info!("current-rev" = reader.current_revision(), "kvstore restored");
        announce::quota(config);
        let replica =
            Replica::new(replica_options(config, member_id, clock), boot).map_err(|source| {
                StartError::Boot { wal_dir: wal_dir.clone(), db: db.clone(), source }
            })?;
        publisher.start(&applier);

        let (disk, disk_inputs) = mpsc::channel();
        let (commit, commit_inputs) = mpsc::channel();
        let consensus_thread = Consensus {
            replica,
            clock,
            tick: Duration::from_millis(config.heartbeat_ms),
            events: queues.events,
            disk,
            apply: apply.clone(),
            inboxes: Arc::clone(&inboxes),
            state: Arc::clone(&state),
            metrics: Arc::clone(&metrics),
        };
        let disk_thread = DiskWriter {
            meter: log_disk.meter(),
            disk: log_disk,
            writer: LogWriter { log, snapshotter: snapshotter.clone() },
            wal_dir,
            max_wals: config.max_wals as usize,
            max_snapshots: config.max_snapshots as usize,
            clock,
            inputs: disk_inputs,
            consensus: consensus.clone(),
            metrics: Arc::clone(&metrics),
        };
        let apply_thread = ApplyThread {
            applier,
            clock,
            busy_tick: config.compaction_sleep_interval,
            warning_duration: config.warning_apply_duration,
            inputs: queues.inputs,
            consensus: consensus.clone(),
            commit,
            watch: watch.clone(),
            inboxes: Arc::clone(&inboxes),
            publisher,
        };
        let commit_thread = CommitThread {
            committer,
            options: backend_options,
            snapshotter: snapshotter.clone(),
            meter: backend_disk.meter(),
            clock,
            inputs: commit_inputs,
            apply: apply.clone(),
            metrics: Arc::clone(&metrics),
        };
        let watch_thread = WatchThread {
            hub,
            clock,
            inputs: queues.watch,
            inboxes: Arc::clone(&inboxes),
            metrics: Arc::clone(&metrics),
        };
        let link = Link {
            consensus: consensus.clone(),
            apply: apply.clone(),
            watch,
            reader,
            state: Arc::clone(&state),
            limits: Arc::new(limits(config)),
            metrics: Arc::clone(&metrics),
        };
        let pipeline = vec![
            start_thread("consensus", move || consensus_thread.run())?,
            start_thread("disk", move || disk_thread.run())?,
            start_thread("apply", move || apply_thread.run())?,
            start_thread("commit", move || commit_thread.run())?,
            start_thread("watch", move || watch_thread.run())?,
        ];
        let cores = start_cores(&link, &inboxes, member_id, clock)?;
        Ok(Self { inboxes, consensus, apply, cores, pipeline })
    }
}

fn bind_all(config: &Config) -> Result<Vec<(Listener, Role)>, StartError> {
    let mut listeners = Vec::new();
    info!("listen-peer-urls" = ?List::new(&config.listen_peer_urls), "configuring peer listeners");
    for url in &config.listen_peer_urls {
        listeners.push((Listener::bind(url)?, Role::Peer));
    }
    info!(
        "listen-client-urls" = ?List::new(&config.listen_client_urls),
        "configuring client listeners"
    );
    let clients = config.listen_client_urls.iter().chain(&config.listen_client_http_urls);
    for url in clients.chain(&config.listen_metrics_urls) {
        listeners.push((Listener::bind(url)?, Role::Client));
    }
    Ok(listeners)
}

fn front_door_threads(config: &Config) -> usize {
    let wanted = match config.front_door_threads {
        // Half of the processors: the other half is for consensus, apply and the disk.
        0 => thread::available_parallelism().map_or(1, |cores| cores.get() / 2),
        wanted => wanted,
    };
    wanted.clamp(1, FRONT_DOOR_THREADS_MAX)
}

fn start_cores(
    link: &Link,
    inboxes: &[Arc<Inbox>],
    member_id: u64,
    clock: OsClock,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let mut cores = Vec::new();
    for (number, inbox) in (0..).zip(inboxes) {
        let ids = RequestIds::new(member_id, number, clock.now_wall());
        let core = Core::new(link.clone(), ids, Arc::clone(inbox));
        cores.push(start_thread(&format!("front-door-{number}"), move || {
            if let Err(err) = core.run() {
                fatal("a front-door thread failed", &err);
            }
        })?);
    }
    Ok(cores)
}

fn start_thread(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|err| StartError::Listen(format!("cannot start thread {name}: {err}")))
}

fn join(thread: JoinHandle<()>) {
    // A thread that panics ends the process before anybody can join it.
    let _ = thread.join();
}

fn replica_options(config: &Config, member_id: u64, clock: OsClock) -> replica::Options {
    replica::Options {
        id: member_id,
        election_ticks: config.election_ticks() as u32,
        pre_vote: config.pre_vote,
        catchup_entries: config.snapshot_catchup_entries,
        seed: clock.now_wall().as_nanos() as u64,
        log_level: Some(raft::Level::Info),
    }
}

fn apply_options(
    config: &Config,
    member_id: u64,
    first_request_id: u64,
    clock: OsClock,
) -> apply::Options {
    let election_timeout = Duration::from_millis(config.election_ms);
    // One and a half elections, in whole seconds rounded up.
    let lease_ttl_min = (3 * config.election_ms).div_ceil(2 * 1000) as i64;
    apply::Options {
        member_id,
        quota: config.quota(),
        snapshot_count: config.snapshot_count,
        lease_ttl_min,
        election_timeout,
        lease_checkpoint: config.feature_gates.lease_checkpoint,
        lease_checkpoint_persist: config.feature_gates.lease_checkpoint_persist,
        compaction_batch_limit: config.compaction_batch_limit,
        compaction_sleep_interval: config.compaction_sleep_interval,
        auto_compaction: config.auto_compaction,
        attributes: cluster::Attributes {
            name: config.name.clone(),
            client_urls: config.advertise_client_urls.iter().map(ToString::to_string).collect(),
        },
        cluster_version: VERSION.cluster(),
        first_request_id,
        watch: mvcc::watch::Options {
            progress_notify_interval: config.watch_progress_notify_interval,
            seed: clock.now_wall().as_nanos() as u64,
            ..mvcc::watch::Options::default()
        },
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        max_concurrent_streams: config.max_concurrent_streams,
        keepalive_min_time: config.keepalive_min_time,
        keepalive_interval: config.keepalive_interval,
        keepalive_timeout: config.keepalive_timeout,
        warning_unary_request_duration: config.warning_unary_request_duration,
        quota_bytes: config.quota().map_or(0, |bytes| bytes as i64),
        watch_progress_notify_interval: config.watch_progress_notify_interval,
        election_timeout: Duration::from_millis(config.election_ms),
        stop_grpc_service_on_defrag: config.feature_gates.stop_grpc_service_on_defrag,
        ..Limits::default()
    }
}
