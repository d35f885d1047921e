//! A running member: threads, and the queues that tie them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use apply::Applier;
use cluster::Version;
use env::{Clock, OsClock};
use replica::{Event, LogWriter, Replica};
use rpc::{
    Core, Delivery, Inbox, Limits, Link, Metrics, PEER_CORE, RequestIds, SERVER_CORE, State,
};
use tracing::{info, warn};
use transport::{Pace, Tls, Transport};

use crate::announce;
use crate::apply_thread::ApplyThread;
use crate::ask_leader;
use crate::boot::{self, Loaded};
use crate::commit_thread::CommitThread;
use crate::consensus_thread::Consensus;
use crate::corruption;
use crate::disk_thread::DiskWriter;
use crate::error::StartError;
use crate::failpoint::SystemDisk;
use crate::fatal::fatal;
use crate::listen::{self, Listener, Room, Stopper};
use crate::log::List;
use crate::metered_disk::{Metered, MeteredDisk};
use crate::own_requests::OwnRequests;
use crate::peer_desk::PeerDesk;
use crate::peers::{self, Peers};
use crate::publish::Publisher;
use crate::queues::{
    APPLY_INPUTS_MAX, CONSENSUS_EVENTS_MAX, LEADER_QUESTIONS_MAX, WATCH_INPUTS_MAX,
};
use crate::version_monitor;
use crate::watch_thread::WatchThread;
use crate::{Config, ETCD_VERSION, VERSION};

/// The most front-door threads; the core numbers behind are the server's own.
const FRONT_DOOR_THREADS_MAX: usize = PEER_CORE as usize;

/// What has become of a member that was launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It serves: it has told the cluster its name, and the cluster has a version.
    Ready,
    /// It was removed from the cluster, and must be stopped.
    Removed,
}

/// Where notices go.
#[derive(Clone)]
pub(crate) struct Notices {
    notify: Arc<dyn Fn(Notice) + Send + Sync>,
    is_removed: Arc<AtomicBool>,
}

impl Notices {
    /// The member is one no longer; told once.
    pub(crate) fn removed(&self) {
        if !self.is_removed.swap(true, Ordering::Relaxed) {
            let error = "the member has been permanently removed from the cluster";
            warn!(error, "server error");
            warn!("data-dir used by this member must be removed");
            (self.notify)(Notice::Removed);
        }
    }
}

/// A member of a cluster, serving.
#[derive(Debug)]
pub struct Member {
    client_addresses: Vec<String>,
    state: Arc<State>,
    stopper: Stopper,
    /// Ends the wait of the clients' acceptor for the member to be ready.
    ready: mpsc::Sender<bool>,
    acceptors: Vec<JoinHandle<()>>,
    threads: Threads,
}

/// Everything that runs but the acceptor.
#[derive(Debug)]
struct Threads {
    inboxes: Arc<[Arc<Inbox>]>,
    consensus: SyncSender<Event>,
    apply: SyncSender<apply::Input>,
    transport: Arc<Transport>,
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
        let (sender, notices) = mpsc::channel();
        let member = Self::launch(config, move |notice| {
            // Nobody listens any more once the member is ready.
            let _ = sender.send(notice);
        })?;
        match notices.recv() {
            Ok(Notice::Ready) => Ok(member),
            Ok(Notice::Removed) | Err(_) => {
                member.stop();
                Err(StartError::Log("the member stopped before it was ready".to_owned()))
            }
        }
    }

    /// As [`Member::start`], but returns when all threads run, whether or not there is a leader yet.
    /// `notify` is called from threads of the member, and must not wait for it.
    ///
    /// # Errors
    /// As [`Member::start`].
    pub fn launch(
        config: &Config,
        notify: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        let notices = Notices { notify: Arc::new(notify), is_removed: Arc::default() };
        let clock = OsClock::new();
        announce::warnings(config);
        let is_initialized = announce::data_dir(config);
        let tls = config.peer_tls.as_ref().map(Tls::load).transpose();
        let tls = tls.map_err(|err| StartError::Listen(err.to_string()))?;
        let (peer_listeners, client_listeners) = bind_all(config)?;
        let [client_room, peer_room] = Room::by_descriptors()?;
        announce::configuration(config, is_initialized);
        let client_addresses: Vec<String> =
            client_listeners.iter().map(Listener::address).collect();
        let disks = [(); 2].map(|()| MeteredDisk::new(SystemDisk::default(), Metered::new(clock)));
        let [log_disk, backend_disk] = &disks;
        let loaded = boot::load(log_disk, backend_disk, config, tls.as_ref())?;
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
        let client_urls = config.advertise_client_urls.iter().map(ToString::to_string).collect();
        let publisher = Publisher::new(
            Arc::clone(&state),
            Arc::clone(&metrics),
            Some(ready.clone()),
            client_urls,
        );
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
        let threads =
            Threads::start(config, clock, disks, loaded, publisher, (notices.clone(), tls))?;
        let stopper = Stopper::new().map_err(|err| StartError::Listen(err.to_string()))?;
        let clients = Clients {
            listeners: client_listeners,
            room: client_room,
            addresses: client_addresses.clone(),
            inboxes: Arc::clone(&threads.inboxes),
            stopper: stopper.share(),
            became_ready,
            notices,
        };
        let (stop, transport) = (stopper.share(), Arc::clone(&threads.transport));
        let acceptors = vec![
            start_thread("peer-acceptor", move || {
                listen::accept_loop(
                    &peer_listeners,
                    &peer_room,
                    &stop,
                    |socket, tally, is_secure| {
                        let socket = match socket {
                            rpc::Socket::Tcp(stream) if is_secure => transport::Socket::Tls(stream),
                            rpc::Socket::Tcp(stream) => transport::Socket::Tcp(stream),
                            rpc::Socket::Unix(stream) => transport::Socket::Unix(stream),
                        };
                        transport.serve(socket, tally);
                    },
                );
            })?,
            start_thread("acceptor", move || clients.accept())?,
        ];
        Ok(Self { client_addresses, state, stopper, ready, acceptors, threads })
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

    /// Stops: no new connections, open calls get their answers, another member takes the lead, then
    /// everything that is in memory goes to disk.
    pub fn stop(self) {
        self.stopper.stop();
        let _ = self.ready.send(false);
        self.acceptors.into_iter().for_each(join);
        let Threads { inboxes, consensus, apply, transport, cores, pipeline } = self.threads;
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
        drop(transport);
        info!("stopped");
    }
}

/// The clients' listeners, until the member serves.
struct Clients {
    listeners: Vec<Listener>,
    room: Room,
    addresses: Vec<String>,
    inboxes: Arc<[Arc<Inbox>]>,
    stopper: Stopper,
    became_ready: Receiver<bool>,
    notices: Notices,
}

impl Clients {
    /// Waits until the member serves, then hands connections to the cores in turn.
    fn accept(self) {
        if self.became_ready.recv() != Ok(true) {
            return;
        }
        info!("ready to serve client requests");
        info!(service = "", status = "SERVING", "grpc service status changed");
        for address in &self.addresses {
            info!(
                traffic = "grpc+http",
                address = address.as_str(),
                "serving client traffic insecurely; this is strongly discouraged!"
            );
        }
        (self.notices.notify)(Notice::Ready);
        let mut inboxes = self.inboxes.iter().cycle();
        listen::accept_loop(&self.listeners, &self.room, &self.stopper, |socket, tally, _| {
            if let Some(inbox) = inboxes.next() {
                inbox.push(Delivery::Socket(socket, tally));
            }
        });
    }
}

impl Threads {
    fn start(
        config: &Config,
        clock: OsClock,
        [log_disk, backend_disk]: [MeteredDisk<SystemDisk, OsClock>; 2],
        loaded: Loaded<MeteredDisk<SystemDisk, OsClock>>,
        publisher: Publisher,
        (notices, tls): (Notices, Option<Tls>),
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
            peers,
            ..
        } = loaded;
        let first_request_id = RequestIds::new(member_id, SERVER_CORE, clock.now_wall()).next_id();
        // With others it is raised when it is known what they can do.
        let is_alone = peers.is_empty() && cluster.members().len() < 2;
        let first_version = if is_alone { VERSION.cluster() } else { Version::CLUSTER_MIN };
        let (applier, hub) = Applier::restore(
            backend,
            apply_options(config, member_id, first_request_id, first_version, clock),
            cluster,
            loaded.conf_state,
            loaded.snapshot_index,
            clock.now_mono(),
        )
        .map_err(|err| StartError::database(&db, &err))?;
        let reader = applier.reader();
        if matches!(boot, replica::Boot::Restart { .. })
            && config.feature_gates.initial_corrupt_check
        {
            corruption::check_at_start(
                &reader,
                applier.cluster(),
                config.request_timeout(),
                tls.as_ref(),
            )?;
        }
        let backend_options = applier.backend().options().clone();
        info!("current-rev" = reader.current_revision(), "kvstore restored");
        announce::quota(config);
        let replica =
            Replica::new(replica_options(config, member_id, clock), boot).map_err(|source| {
                StartError::Boot { wal_dir: wal_dir.clone(), db: db.clone(), source }
            })?;
        publisher.start(&applier);
        let (leader, questions) = tokio::sync::mpsc::channel(LEADER_QUESTIONS_MAX);
        let limits = Arc::new(limits(config));
        let peer_desk = Arc::new(PeerDesk::new(
            (Arc::clone(&state), Arc::clone(&metrics)),
            RequestIds::new(member_id, PEER_CORE, clock.now_wall()),
            (consensus.clone(), apply.clone()),
            reader.clone(),
            (config.strict_reconfig_check, limits.request_timeout()),
            tls.clone(),
        ));
        let owner = Peers {
            desk: Arc::clone(&peer_desk),
            consensus: consensus.clone(),
            notices: notices.clone(),
        };
        let transport =
            start_transport(config, &state, owner, snapshotter.clone(), (&metrics, tls))?;
        peers::begin(&transport, &peers, applier.cluster());
        if applier.cluster().is_removed(member_id) {
            notices.removed();
        }
        let asking = ask_leader::run(questions, Arc::clone(&peer_desk), Arc::clone(&inboxes));
        transport.handle().spawn(asking);
        transport.handle().spawn(version_monitor::run(Arc::clone(&peer_desk)));
        let gates = &config.feature_gates;
        let intervals = corruption::Intervals {
            periodic: Some(config.corrupt_check_time).filter(|time| !time.is_zero()),
            compaction: gates.compact_hash_check.then_some(config.compact_hash_check_time),
        };
        transport.handle().spawn(corruption::run(Arc::clone(&peer_desk), intervals));

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
            transport: Arc::clone(&transport),
            peer_desk: Arc::clone(&peer_desk),
            election_ticks: config.election_ticks() as u32,
            advances: config.initial_election_tick_advance,
            state: Arc::clone(&state),
            metrics: Arc::clone(&metrics),
        };
        let disk_thread = DiskWriter {
            meter: log_disk.layer().meter(),
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
            transport: Arc::clone(&transport),
            peer_desk,
            notices,
            publisher,
            own_requests: OwnRequests::new(&metrics, config.request_timeout()),
        };
        let commit_thread = CommitThread {
            committer,
            options: backend_options,
            snapshotter: snapshotter.clone(),
            meter: backend_disk.layer().meter(),
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
            leader,
            reader,
            state: Arc::clone(&state),
            limits,
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
        Ok(Self { inboxes, consensus, apply, transport, cores, pipeline })
    }
}

/// The peers' listeners, and the clients'.
fn bind_all(config: &Config) -> Result<(Vec<Listener>, Vec<Listener>), StartError> {
    info!("listen-peer-urls" = ?List::new(&config.listen_peer_urls), "configuring peer listeners");
    let has_tls = config.peer_tls.is_some();
    let peers = config.listen_peer_urls.iter().map(|url| Listener::bind(url, has_tls));
    let peers = peers.collect::<Result<_, _>>()?;
    info!(
        "listen-client-urls" = ?List::new(&config.listen_client_urls),
        "configuring client listeners"
    );
    let clients = config.listen_client_urls.iter().chain(&config.listen_client_http_urls);
    let clients = clients.chain(&config.listen_metrics_urls);
    let clients = clients.map(|url| Listener::bind(url, false));
    Ok((peers, clients.collect::<Result<_, _>>()?))
}

fn start_transport<D: env::Disk>(
    config: &Config,
    state: &State,
    owner: Peers,
    snapshotter: wal::snap::Snapshotter<D>,
    (metrics, tls): (&Metrics, Option<Tls>),
) -> Result<Arc<Transport>, StartError> {
    let cannot = |err: &dyn std::fmt::Display| StartError::Listen(err.to_string());
    let counters = transport::Metrics::new().map_err(|err| cannot(&err))?;
    metrics.show(counters.collectors());
    let about = transport::Config {
        id: state.member_id,
        cluster_id: state.cluster_id,
        urls: config.advertise_peer_urls.iter().map(ToString::to_string).collect(),
        version: ETCD_VERSION.to_owned(),
        dial_timeout: Duration::from_secs(1) + Duration::from_millis(config.election_ms),
        read_timeout: config.raft_read_timeout,
        write_timeout: config.raft_write_timeout,
        pace: Pace::default(),
        tls,
    };
    Transport::start(about, Arc::new(owner), snapshotter, counters)
        .map(Arc::new)
        .map_err(|err| cannot(&err))
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
        change_ticks: (config.request_timeout().as_millis() as u64 / config.heartbeat_ms) as u32,
        catchup_entries: config.snapshot_catchup_entries,
        inflight_messages_max: replica::INFLIGHT_MESSAGES_MAX,
        seed: clock.now_wall().as_nanos() as u64,
        log_level: Some(raft::Level::Info),
    }
}

fn apply_options(
    config: &Config,
    member_id: u64,
    first_request_id: u64,
    cluster_version: Version,
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
        cluster_version,
        first_request_id,
        watch: mvcc::watch::Options {
            progress_notify_interval: config.watch_progress_notify_interval,
            seed: clock.now_wall().as_nanos() as u64,
            ..mvcc::watch::Options::default()
        },
    }
}

/// Limits of each core of the front door. What is one limit for the member is shared out.
fn limits(config: &Config) -> Limits {
    let (cores, all) = (front_door_threads(config), Limits::default());
    Limits {
        calls_max: all.calls_max / cores,
        incomplete_bytes_max: all.incomplete_bytes_max / cores,
        unwritten_bytes_max: all.unwritten_bytes_max / cores,
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
        strict_reconfig_check: config.strict_reconfig_check,
        cors: config.cors.clone(),
        host_whitelist: config.host_whitelist.clone(),
        enable_gateway: config.enable_grpc_gateway,
        enable_reflection: config.enable_grpc_reflection,
        stop_grpc_service_on_defrag: config.feature_gates.stop_grpc_service_on_defrag,
        ..all
    }
}
