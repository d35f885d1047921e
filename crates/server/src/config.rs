//! What a member is started with, and the checks that etcd makes before it starts.

use std::path::PathBuf;
use std::time::Duration;

use apply::AutoCompaction;
use transport::TlsFiles;

use crate::url::Url;

/// The size at which a backend is full if nobody says otherwise (etcd's 2 GiB).
pub const DEFAULT_QUOTA_BYTES: i64 = 2 << 30;

/// Everything that a member's start depends on. [`Default`] is etcd's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Human-readable name, unique in the cluster.
    pub name: String,
    /// Data directory; `<name>.etcd` if empty.
    pub data_dir: PathBuf,
    /// Log directory; `<data_dir>/member/wal` if `None`.
    pub wal_dir: Option<PathBuf>,
    /// Applied entries between two snapshots on disk.
    pub snapshot_count: u64,
    /// Entries kept in the log behind a snapshot for slow followers.
    pub snapshot_catchup_entries: u64,
    /// `.snap` files kept; 0 keeps all.
    pub max_snapshots: u64,
    /// Log segments kept; 0 keeps all.
    pub max_wals: u64,
    /// Heartbeat interval, which is one raft tick.
    pub heartbeat_ms: u64,
    /// Election timeout.
    pub election_ms: u64,
    /// Whether the first election comes early when nobody else can win it.
    pub initial_election_tick_advance: bool,
    /// Raft's pre-vote.
    pub pre_vote: bool,
    /// Where peers reach this member.
    pub listen_peer_urls: Vec<Url>,
    /// Where clients reach this member.
    pub listen_client_urls: Vec<Url>,
    /// Extra listeners for clients that speak HTTP only: the JSON gateway and the pages.
    pub listen_client_http_urls: Vec<Url>,
    /// Extra listeners for `/metrics` and the health pages.
    pub listen_metrics_urls: Vec<Url>,
    /// Peer URLs told to the cluster.
    pub advertise_peer_urls: Vec<Url>,
    /// Client URLs told to the cluster.
    pub advertise_client_urls: Vec<Url>,
    /// `name=url,name=url`.
    pub initial_cluster: String,
    /// Mixed into the ids of a new cluster.
    pub initial_cluster_token: String,
    /// Whether the member joins an existing cluster.
    pub initial_cluster_existing: bool,
    /// Whether this member goes on alone with the data that it has.
    pub force_new_cluster: bool,
    /// Whether changes of members that would cost the quorum are refused.
    pub strict_reconfig_check: bool,
    /// How many learners the cluster may have.
    pub max_learners: usize,
    /// Silence of a peer after which its connection is given up.
    pub raft_read_timeout: Duration,
    /// How long a peer may take nothing.
    pub raft_write_timeout: Duration,
    /// Origins whose scripts may ask over HTTP; `*`, or none: all.
    pub cors: Vec<String>,
    /// Names of this host in HTTP requests; `*`, or none: all.
    pub host_whitelist: Vec<String>,
    /// Whether the JSON gateway is served.
    pub enable_grpc_gateway: bool,
    /// Whether the server tells of its services and messages by gRPC's reflection.
    pub enable_grpc_reflection: bool,
    /// Certificates for peer URLs that want TLS.
    pub peer_tls: Option<TlsFiles>,
    /// Size at which the backend is full; 0 is [`DEFAULT_QUOTA_BYTES`], negative is never.
    pub quota_backend_bytes: i64,
    /// Rewrite the backend's file at the start if that frees as many bytes; 0: never.
    pub bootstrap_defrag_threshold_bytes: u64,
    /// Longest time that a write waits in memory for the backend's file.
    pub backend_batch_interval: Duration,
    /// Most operations that wait in memory for the backend's file.
    pub backend_batch_limit: usize,
    /// Most operations in a transaction.
    pub max_txn_ops: usize,
    /// Largest request.
    pub max_request_bytes: usize,
    /// Most streams on one connection.
    pub max_concurrent_streams: u32,
    /// Least time between a client's keep-alive pings.
    pub keepalive_min_time: Duration,
    /// Time between the server's pings; zero: none.
    pub keepalive_interval: Duration,
    /// Time to wait for the answer to one.
    pub keepalive_timeout: Duration,
    /// `periodic` or `revision`, with the length to retain; `None` is off.
    pub auto_compaction: Option<AutoCompaction>,
    /// Rows deleted in one step of a compaction.
    pub compaction_batch_limit: usize,
    /// Pause between two steps of a compaction.
    pub compaction_sleep_interval: Duration,
    /// Period of progress notifications of watches that ask for them.
    pub watch_progress_notify_interval: Duration,
    /// A unary request that takes longer is logged.
    pub warning_unary_request_duration: Duration,
    /// An entry that takes longer to apply is logged.
    pub warning_apply_duration: Duration,
    /// Time between two comparisons of all data with the other members; zero: none.
    pub corrupt_check_time: Duration,
    /// Time between two comparisons of what compactions left, if that gate is on.
    pub compact_hash_check_time: Duration,
    /// Whether the time of each call is among the metrics.
    pub extensive_metrics: bool,
    /// Whether log writes are not synced, for tests only.
    pub unsafe_no_fsync: bool,
    /// Feature gates by name, as they stand after the defaults.
    pub feature_gates: FeatureGates,
    /// Front-door threads; 0 is one for each processor.
    pub front_door_threads: usize,
}

/// The feature gates that mean something to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureGates {
    /// Compare compaction hashes with the other members.
    pub compact_hash_check: bool,
    /// Compare hashes with the other members before serving.
    pub initial_corrupt_check: bool,
    /// Replicate the remaining time of leases.
    pub lease_checkpoint: bool,
    /// Keep the remaining time of leases on disk.
    pub lease_checkpoint_persist: bool,
    /// Renew leases without waiting for the applied index.
    pub fast_lease_keep_alive: bool,
    /// Let lease revocations past a full queue.
    pub priority_request: bool,
    /// Report NOT_SERVING while the backend is being rewritten.
    pub stop_grpc_service_on_defrag: bool,
    /// etcd's choice of buffer for write transactions; there is one kind here.
    pub txn_mode_write_with_shared_buffer: bool,
}

impl Default for FeatureGates {
    fn default() -> Self {
        Self {
            compact_hash_check: false,
            initial_corrupt_check: false,
            lease_checkpoint: false,
            lease_checkpoint_persist: false,
            fast_lease_keep_alive: true,
            priority_request: false,
            stop_grpc_service_on_defrag: false,
            txn_mode_write_with_shared_buffer: true,
        }
    }
}

impl FeatureGates {
    /// Name, stage and whether it is on, in etcd's order; for `etcd_server_feature_enabled`.
    #[must_use]
    pub fn list(&self) -> [(&'static str, &'static str, bool); 11] {
        [
            ("AllAlpha", "ALPHA", false),
            ("AllBeta", "BETA", false),
            ("CompactHashCheck", "ALPHA", self.compact_hash_check),
            ("FastLeaseKeepAlive", "BETA", self.fast_lease_keep_alive),
            ("InitialCorruptCheck", "ALPHA", self.initial_corrupt_check),
            ("LeaseCheckpoint", "ALPHA", self.lease_checkpoint),
            ("LeaseCheckpointPersist", "ALPHA", self.lease_checkpoint_persist),
            ("PriorityRequest", "ALPHA", self.priority_request),
            ("SetMemberLocalAddr", "ALPHA", false),
            ("StopGRPCServiceOnDefrag", "ALPHA", self.stop_grpc_service_on_defrag),
            ("TxnModeWriteWithSharedBuffer", "BETA", self.txn_mode_write_with_shared_buffer),
        ]
    }

    /// Sets gates from `A=true,B=false`.
    ///
    /// # Errors
    /// etcd's text for an unknown gate or a value that is no boolean, or a refusal of a gate that
    /// is not supported yet.
    pub fn set(&mut self, list: &str) -> Result<(), String> {
        for pair in list.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(format!("missing bool value for {pair}"));
            };
            let Some(on) = parse_bool(value) else {
                return Err(format!(
                    "invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
                ));
            };
            self.set_one(name.trim(), on)?;
        }
        Ok(())
    }

    fn set_one(&mut self, name: &str, on: bool) -> Result<(), String> {
        let gate = match name {
            "CompactHashCheck" => &mut self.compact_hash_check,
            "InitialCorruptCheck" => &mut self.initial_corrupt_check,
            "LeaseCheckpoint" => &mut self.lease_checkpoint,
            "LeaseCheckpointPersist" => &mut self.lease_checkpoint_persist,
            "FastLeaseKeepAlive" => &mut self.fast_lease_keep_alive,
            "PriorityRequest" => &mut self.priority_request,
            "StopGRPCServiceOnDefrag" => &mut self.stop_grpc_service_on_defrag,
            "TxnModeWriteWithSharedBuffer" => &mut self.txn_mode_write_with_shared_buffer,
            "AllAlpha" | "AllBeta" | "SetMemberLocalAddr" if !on => return Ok(()),
            "AllAlpha" | "AllBeta" | "SetMemberLocalAddr" => {
                return Err(format!("feature gate {name} is not supported yet"));
            }
            _ => return Err(format!("unrecognized feature gate: {name}")),
        };
        *gate = on;
        Ok(())
    }
}

/// A boolean as Go's `strconv.ParseBool` reads it.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl Default for Config {
    fn default() -> Self {
        let url = |text: &str| vec![Url::parse(text).expect("a constant")];
        Self {
            name: "default".to_owned(),
            data_dir: PathBuf::new(),
            wal_dir: None,
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5_000,
            max_snapshots: 5,
            max_wals: 5,
            heartbeat_ms: 100,
            election_ms: 1_000,
            initial_election_tick_advance: true,
            pre_vote: true,
            listen_peer_urls: url("http://localhost:2380"),
            listen_client_urls: url("http://localhost:2379"),
            listen_client_http_urls: Vec::new(),
            listen_metrics_urls: Vec::new(),
            advertise_peer_urls: url("http://localhost:2380"),
            advertise_client_urls: url("http://localhost:2379"),
            initial_cluster: "default=http://localhost:2380".to_owned(),
            initial_cluster_token: "etcd-cluster".to_owned(),
            initial_cluster_existing: false,
            force_new_cluster: false,
            strict_reconfig_check: true,
            max_learners: 1,
            raft_read_timeout: Duration::from_secs(5),
            raft_write_timeout: Duration::from_secs(5),
            cors: vec!["*".to_owned()],
            host_whitelist: vec!["*".to_owned()],
            enable_grpc_gateway: true,
            enable_grpc_reflection: false,
            peer_tls: None,
            quota_backend_bytes: 0,
            bootstrap_defrag_threshold_bytes: 0,
            backend_batch_interval: Duration::from_millis(100),
            backend_batch_limit: 10_000,
            max_txn_ops: 128,
            max_request_bytes: 1_572_864,
            max_concurrent_streams: u32::MAX,
            keepalive_min_time: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            auto_compaction: None,
            compaction_batch_limit: 1_000,
            compaction_sleep_interval: Duration::from_millis(10),
            watch_progress_notify_interval: Duration::from_secs(600),
            warning_unary_request_duration: Duration::from_millis(300),
            warning_apply_duration: Duration::from_millis(100),
            corrupt_check_time: Duration::ZERO,
            compact_hash_check_time: Duration::from_secs(60),
            extensive_metrics: false,
            unsafe_no_fsync: false,
            feature_gates: FeatureGates::default(),
            front_door_threads: 0,
        }
    }
}

impl Config {
    /// The quota in bytes, `None` if there is none.
    #[must_use]
    pub fn quota(&self) -> Option<u64> {
        match self.quota_backend_bytes {
            0 => Some(DEFAULT_QUOTA_BYTES as u64),
            bytes => u64::try_from(bytes).ok(),
        }
    }

    /// Raft ticks in an election timeout.
    #[must_use]
    pub fn election_ticks(&self) -> usize {
        (self.election_ms / self.heartbeat_ms) as usize
    }

    /// How long a request may wait before it is answered with a timeout: 5 s for the disk and the
    /// queues, and two elections.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * Duration::from_millis(self.election_ms)
    }

    /// The data directory, with its default filled in.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        if self.data_dir.as_os_str().is_empty() {
            PathBuf::from(format!("{}.etcd", self.name))
        } else {
            self.data_dir.clone()
        }
    }

    /// etcd's checks that need nothing but the configuration.
    ///
    /// # Errors
    /// etcd's text, which goes into the line `failed to verify flags`.
    pub fn validate(&self) -> Result<(), String> {
        for url in self
            .listen_peer_urls
            .iter()
            .chain(&self.listen_client_urls)
            .chain(&self.listen_client_http_urls)
            .chain(&self.listen_metrics_urls)
        {
            url.check_bindable()?;
        }
        if self.heartbeat_ms == 0 {
            return Err("--heartbeat-interval must be >0 (set to 0ms)".to_owned());
        }
        if self.election_ms == 0 {
            return Err("--election-timeout must be >0 (set to 0ms)".to_owned());
        }
        if 5 * self.heartbeat_ms > self.election_ms {
            return Err(format!(
                "--election-timeout[{}ms] should be at least as 5 times as --heartbeat-interval[{}ms]",
                self.election_ms, self.heartbeat_ms
            ));
        }
        if self.election_ms > 50_000 {
            return Err(format!(
                "--election-timeout[{}ms] is too long, and should be set less than 50000ms",
                self.election_ms
            ));
        }
        if self.compact_hash_check_time.is_zero() {
            return Err("--compact-hash-check-time must be >0 (set to 0s)".to_owned());
        }
        if self.feature_gates.lease_checkpoint_persist && !self.feature_gates.lease_checkpoint {
            return Err(
                "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
                    .to_owned(),
            );
        }
        Ok(())
    }
}
