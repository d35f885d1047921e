//! The member's metrics under etcd's names, registered once and updated through plain handles.

mod calls;
mod go;
mod process;

pub(crate) use calls::CallCounters;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::service::{METHODS, Rpc};
use parking_lot::Mutex;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, exponential_buckets,
};

/// Declares [`Metrics`]: one row a metric, its field named as the metric without `etcd_`.
macro_rules! metrics {
    ($($field:ident: $kind:ident $args:tt = $name:literal, $help:literal;)+) => {
        /// Every registered collector. A field has the metric's name without the prefix `etcd_`;
        /// durations are observed in seconds unless the name says milliseconds.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            calls: Arc<Mutex<Vec<Arc<CallCounters>>>>,
            /// `grpc_server_handling_seconds`, if it was asked for.
            handling: OnceLock<HistogramVec>,
            $(#[doc = concat!("`", $name, "`: ", $help)] pub $field: $kind,)+
        }

        impl Metrics {
            fn register() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                let calls = Arc::new(Mutex::new(Vec::new()));
                registry.register(Box::new(calls::Collector::new(Arc::clone(&calls))?))?;
                registry.register(Box::new(process::Collector::new()?))?;
                registry.register(Box::new(go::Collector::new()?))?;
                $(
                    let $field = metrics!(@make $kind $args, $name, $help);
                    registry.register(Box::new($field.clone()))?;
                )+
                Ok(Self { registry, calls, handling: OnceLock::new(), $($field,)+ })
            }
        }
    };
    (@make IntCounter (), $name:literal, $help:literal) => { IntCounter::new($name, $help)? };
    (@make IntGauge (), $name:literal, $help:literal) => { IntGauge::new($name, $help)? };
    (@make IntCounterVec ($($label:literal),+), $name:literal, $help:literal) => {
        IntCounterVec::new(Opts::new($name, $help), &[$($label),+])?
    };
    (@make IntGaugeVec ($($label:literal),+), $name:literal, $help:literal) => {
        IntGaugeVec::new(Opts::new($name, $help), &[$($label),+])?
    };
    (@make Histogram ($start:literal, $factor:literal, $count:literal), $name:literal, $help:literal) => {
        Histogram::with_opts(
            HistogramOpts::new($name, $help).buckets(exponential_buckets($start, $factor, $count)?),
        )?
    };
    (@make HistogramVec ($start:literal, $factor:literal, $count:literal; $($label:literal),+), $name:literal, $help:literal) => {
        HistogramVec::new(
            HistogramOpts::new($name, $help).buckets(exponential_buckets($start, $factor, $count)?),
            &[$($label),+],
        )?
    };
}

metrics! {
    cluster_version: IntGaugeVec("cluster_version") = "etcd_cluster_version",
        "The cluster version that is in force: 1 for the version in the label.";

    debugging_auth_revision: IntGauge() = "etcd_debugging_auth_revision",
        "Revision of the auth store; 1 as long as nobody has used it.";
    debugging_disk_backend_commit_rebalance_duration_seconds: Histogram(0.001, 2.0, 14) =
        "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
        "Time to merge sparse pages in a backend commit.";
    debugging_disk_backend_commit_spill_duration_seconds: Histogram(0.001, 2.0, 14) =
        "etcd_debugging_disk_backend_commit_spill_duration_seconds",
        "Time to lay changed nodes out on pages in a backend commit.";
    debugging_disk_backend_commit_write_duration_seconds: Histogram(0.001, 2.0, 14) =
        "etcd_debugging_disk_backend_commit_write_duration_seconds",
        "Time to write the pages of a backend commit.";
    debugging_lease_granted_total: IntCounter() = "etcd_debugging_lease_granted_total",
        "Leases granted.";
    debugging_lease_renewed_total: IntCounter() = "etcd_debugging_lease_renewed_total",
        "Leases renewed by the leader.";
    debugging_lease_revoked_total: IntCounter() = "etcd_debugging_lease_revoked_total",
        "Leases revoked.";
    debugging_lease_ttl_total: Histogram(1.0, 2.0, 24) = "etcd_debugging_lease_ttl_total",
        "Time to live of granted leases, in seconds.";
    debugging_mvcc_compact_revision: IntGauge() = "etcd_debugging_mvcc_compact_revision",
        "Revision of the last compaction.";
    debugging_mvcc_current_revision: IntGauge() = "etcd_debugging_mvcc_current_revision",
        "Current revision of the store.";
    debugging_mvcc_db_compaction_keys_total: IntCounter() =
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "Rows that compactions removed.";
    debugging_mvcc_db_compaction_last: IntGauge() = "etcd_debugging_mvcc_db_compaction_last",
        "Unix time of the last compaction; 0 before the first.";
    debugging_mvcc_db_compaction_pause_duration_milliseconds: Histogram(1.0, 2.0, 13) =
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        "How long a step of a compaction held up other work.";
    debugging_mvcc_db_compaction_total_duration_milliseconds: Histogram(100.0, 2.0, 14) =
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "How long a compaction took.";
    debugging_mvcc_events_total: IntCounter() = "etcd_debugging_mvcc_events_total",
        "Events sent to watchers.";
    debugging_mvcc_index_compaction_pause_duration_milliseconds: Histogram(0.5, 2.0, 14) =
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        "How long pruning the key index held up other work.";
    debugging_mvcc_keys_total: IntGauge() = "etcd_debugging_mvcc_keys_total", "Live keys.";
    debugging_mvcc_pending_events_total: IntGauge() = "etcd_debugging_mvcc_pending_events_total",
        "Events that wait for slow watchers.";
    debugging_mvcc_slow_watcher_total: IntGauge() = "etcd_debugging_mvcc_slow_watcher_total",
        "Watchers that are not synced.";
    debugging_mvcc_total_put_size_in_bytes: IntGauge() =
        "etcd_debugging_mvcc_total_put_size_in_bytes",
        "Bytes of keys and values put by this member.";
    debugging_mvcc_watch_stream_total: IntGauge() = "etcd_debugging_mvcc_watch_stream_total",
        "Open watch streams.";
    debugging_mvcc_watcher_total: IntGauge() = "etcd_debugging_mvcc_watcher_total",
        "Open watchers.";
    debugging_server_alarms: IntGaugeVec("server_id", "alarm_type") =
        "etcd_debugging_server_alarms",
        "Alarms by member and type: 1 while raised.";
    debugging_server_lease_expired_total: IntCounter() =
        "etcd_debugging_server_lease_expired_total",
        "Leases that expired.";
    debugging_server_watch_send_loop_control_stream_duration_seconds: Histogram(0.001, 2.0, 14) =
        "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
        "Time to send a watch stream's control message.";
    debugging_server_watch_send_loop_progress_duration_seconds: Histogram(0.001, 2.0, 14) =
        "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
        "Time to send a progress notification.";
    debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds: Histogram(0.001, 2.0, 14) =
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
        "Time to send a message of events, divided by the events.";
    debugging_server_watch_send_loop_watch_stream_duration_seconds: Histogram(0.001, 2.0, 14) =
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
        "Time to send a message of events.";
    debugging_snap_save_marshalling_duration_seconds: Histogram(0.001, 2.0, 14) =
        "etcd_debugging_snap_save_marshalling_duration_seconds",
        "Time to encode a snapshot file.";
    debugging_snap_save_total_duration_seconds: Histogram(0.001, 2.0, 14) =
        "etcd_debugging_snap_save_total_duration_seconds",
        "Time to save a snapshot file.";
    debugging_store_expires_total: IntCounter() = "etcd_debugging_store_expires_total",
        "Of the v2 store; 0.";
    debugging_store_watch_requests_total: IntCounter() =
        "etcd_debugging_store_watch_requests_total",
        "Of the v2 store; 0.";
    debugging_store_watchers: IntGauge() = "etcd_debugging_store_watchers",
        "Of the v2 store; 0.";

    disk_backend_commit_duration_seconds: Histogram(0.001, 2.0, 14) =
        "etcd_disk_backend_commit_duration_seconds",
        "Time of a backend commit.";
    disk_backend_defrag_duration_seconds: Histogram(0.1, 2.0, 13) =
        "etcd_disk_backend_defrag_duration_seconds",
        "Time of a defragmentation.";
    disk_backend_snapshot_duration_seconds: Histogram(0.01, 2.0, 17) =
        "etcd_disk_backend_snapshot_duration_seconds",
        "Time to send a snapshot of the backend.";
    disk_defrag_inflight: IntGauge() = "etcd_disk_defrag_inflight",
        "1 while the backend file is being rewritten.";
    disk_wal_fsync_duration_seconds: Histogram(0.001, 2.0, 14) =
        "etcd_disk_wal_fsync_duration_seconds",
        "Time of a sync of the write-ahead log.";
    disk_wal_write_bytes_total: IntGauge() = "etcd_disk_wal_write_bytes_total",
        "Bytes written to the write-ahead log.";
    disk_wal_write_duration_seconds: Histogram(0.001, 2.0, 14) =
        "etcd_disk_wal_write_duration_seconds",
        "Time of a write to the write-ahead log.";

    go_info: IntGaugeVec("version") = "go_info", "The toolchain this server was built with.";

    grpc_proxy_cache_hits_total: IntGauge() = "etcd_grpc_proxy_cache_hits_total",
        "Of a proxy; 0.";
    grpc_proxy_cache_keys_total: IntGauge() = "etcd_grpc_proxy_cache_keys_total",
        "Of a proxy; 0.";
    grpc_proxy_cache_misses_total: IntGauge() = "etcd_grpc_proxy_cache_misses_total",
        "Of a proxy; 0.";
    grpc_proxy_events_coalescing_total: IntCounter() = "etcd_grpc_proxy_events_coalescing_total",
        "Of a proxy; 0.";
    grpc_proxy_watchers_coalescing_total: IntGauge() =
        "etcd_grpc_proxy_watchers_coalescing_total",
        "Of a proxy; 0.";

    mvcc_db_open_read_transactions: IntGauge() = "etcd_mvcc_db_open_read_transactions",
        "Open read transactions of the backend.";
    mvcc_db_total_size_in_bytes: IntGauge() = "etcd_mvcc_db_total_size_in_bytes",
        "Size of the backend.";
    mvcc_db_total_size_in_use_in_bytes: IntGauge() = "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Size of the backend without its free pages.";
    mvcc_delete_total: IntCounter() = "etcd_mvcc_delete_total", "Deletes applied by this member.";
    mvcc_hash_duration_seconds: Histogram(0.01, 2.0, 15) = "etcd_mvcc_hash_duration_seconds",
        "Time to hash the backend.";
    mvcc_hash_rev_duration_seconds: Histogram(0.01, 2.0, 15) =
        "etcd_mvcc_hash_rev_duration_seconds",
        "Time to hash the key space at a revision.";
    mvcc_put_total: IntCounter() = "etcd_mvcc_put_total", "Puts applied by this member.";
    mvcc_range_total: IntCounter() = "etcd_mvcc_range_total", "Ranges served by this member.";
    mvcc_txn_total: IntCounter() = "etcd_mvcc_txn_total", "Transactions applied by this member.";

    network_client_grpc_received_bytes_total: IntCounter() =
        "etcd_network_client_grpc_received_bytes_total",
        "Bytes of messages received from clients.";
    network_client_grpc_sent_bytes_total: IntCounter() =
        "etcd_network_client_grpc_sent_bytes_total",
        "Bytes of messages sent to clients.";
    network_known_peers: IntGaugeVec("Local", "Remote") = "etcd_network_known_peers",
        "1 for each member that this member knows.";
    network_server_stream_failures_total: IntCounterVec("Type", "API") =
        "etcd_network_server_stream_failures_total",
        "Streams that failed on this member.";

    server_apply_duration_seconds: HistogramVec(0.0001, 2.0, 20; "version", "op", "success") =
        "etcd_server_apply_duration_seconds",
        "Time to apply a request.";
    server_client_requests_total: IntCounterVec("type", "client_api_version") =
        "etcd_server_client_requests_total",
        "Client requests by kind and the client's version.";
    server_feature_enabled: IntGaugeVec("name", "stage") = "etcd_server_feature_enabled",
        "Whether a feature gate is on.";
    server_go_version: IntGaugeVec("server_go_version") = "etcd_server_go_version",
        "The toolchain this server was built with.";
    server_has_leader: IntGauge() = "etcd_server_has_leader", "1 if a leader is known.";
    server_health_failures: IntCounter() = "etcd_server_health_failures",
        "Health checks that failed.";
    server_health_success: IntCounter() = "etcd_server_health_success",
        "Health checks that succeeded.";
    server_healthcheck: IntGaugeVec("type", "name") = "etcd_server_healthcheck",
        "The result of each health check: 1 is good.";
    server_healthchecks_total: IntCounterVec("type", "name", "status") =
        "etcd_server_healthchecks_total",
        "Health checks by result.";
    server_heartbeat_send_failures_total: IntCounter() =
        "etcd_server_heartbeat_send_failures_total",
        "Heartbeats the leader sent late.";
    server_id: IntGaugeVec("server_id") = "etcd_server_id", "1 for the member id in hex.";
    server_is_leader: IntGauge() = "etcd_server_is_leader", "1 if this member leads.";
    server_is_learner: IntGauge() = "etcd_server_is_learner", "1 if this member is a learner.";
    server_learner_promote_failures: IntCounterVec("Reason") =
        "etcd_server_learner_promote_failures",
        "Learners that this member did not promote while it led.";
    server_learner_promote_successes: IntCounter() = "etcd_server_learner_promote_successes",
        "Learners that this member promoted while it led.";
    server_leader_changes_seen_total: IntCounter() = "etcd_server_leader_changes_seen_total",
        "Changes of leader that this member saw.";
    server_proposals_applied_total: IntGauge() = "etcd_server_proposals_applied_total",
        "Index of the last applied entry.";
    server_proposals_committed_total: IntGauge() = "etcd_server_proposals_committed_total",
        "Index of the last committed entry.";
    server_proposals_failed_total: IntCounter() = "etcd_server_proposals_failed_total",
        "Proposals that failed.";
    server_proposals_pending: IntGauge() = "etcd_server_proposals_pending",
        "Proposals that wait to be applied.";
    server_quota_backend_bytes: IntGauge() = "etcd_server_quota_backend_bytes",
        "The backend's quota.";
    server_range_duration_seconds: HistogramVec(0.0001, 2.0, 20; "success") =
        "etcd_server_range_duration_seconds",
        "Time to serve a range.";
    server_read_indexes_failed_total: IntCounter() = "etcd_server_read_indexes_failed_total",
        "Read indexes that failed.";
    server_request_duration_seconds: HistogramVec(0.001, 2.0, 14; "type", "success") =
        "etcd_server_request_duration_seconds",
        "Time from a request's arrival to its answer.";
    server_slow_apply_total: IntCounter() = "etcd_server_slow_apply_total",
        "Requests that took long to apply.";
    server_slow_read_indexes_total: IntCounter() = "etcd_server_slow_read_indexes_total",
        "Read indexes that were not confirmed in time.";
    server_snapshot_apply_in_progress_total: IntGauge() =
        "etcd_server_snapshot_apply_in_progress_total",
        "1 while a received snapshot is being applied.";
    server_version: IntGaugeVec("server_version") = "etcd_server_version",
        "1 for the version of this server.";

    snap_fsync_duration_seconds: Histogram(0.001, 2.0, 14) = "etcd_snap_fsync_duration_seconds",
        "Time to sync a snapshot file.";

    promhttp_metric_handler_requests_in_flight: IntGauge() =
        "promhttp_metric_handler_requests_in_flight",
        "Scrapes that are being served.";
    promhttp_metric_handler_requests_total: IntCounterVec("code") =
        "promhttp_metric_handler_requests_total",
        "Scrapes by HTTP status code.";
}

impl Metrics {
    /// Registers everything; the values that are fixed for a member's life are set by
    /// [`Metrics::describe`].
    ///
    /// # Panics
    /// If two rows of the table have the same name.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self::register().expect("the table of metrics is consistent");
        for code in ["200", "500", "503"] {
            metrics.promhttp_metric_handler_requests_total.with_label_values(&[code]).inc_by(0);
        }
        metrics
    }

    /// Sets what the member's configuration says.
    pub fn describe(&self, member_id: u64, version: &str, toolchain: &str, quota_bytes: i64) {
        let id = format!("{member_id:x}");
        self.server_id.with_label_values(&[&id]).set(1);
        self.network_known_peers.with_label_values(&[&id, &id]).set(1);
        self.go_info.with_label_values(&[toolchain]).set(1);
        self.server_version.with_label_values(&[version]).set(1);
        self.server_go_version.with_label_values(&[toolchain]).set(1);
        self.server_quota_backend_bytes.set(quota_bytes);
    }

    /// Shows the metrics of another part of the member among these.
    ///
    /// # Panics
    /// If a metric of that name is registered.
    pub fn show(&self, collectors: Vec<Box<dyn prometheus::core::Collector>>) {
        for collector in collectors {
            self.registry.register(collector).expect("names are unique");
        }
    }

    /// From now on measures how long calls take, as `--metrics=extensive` asks for.
    ///
    /// # Panics
    /// If a metric of that name is registered.
    pub fn measure_calls(&self) {
        self.handling.get_or_init(|| {
            let options = HistogramOpts::new("grpc_server_handling_seconds", "Time of a call.");
            let labels = ["grpc_method", "grpc_service", "grpc_type"];
            let handling = HistogramVec::new(options, &labels).expect("a fixed description");
            for method in &METHODS {
                handling.with_label_values(&calls::label_values(method));
            }
            self.registry.register(Box::new(handling.clone())).expect("it is the only one");
            handling
        });
    }

    /// A call ended after `took`.
    pub(crate) fn call_took(&self, rpc: Rpc, took: Duration) {
        if let Some(handling) = self.handling.get() {
            let labels = calls::label_values(rpc.method());
            handling.with_label_values(&labels).observe(took.as_secs_f64());
        }
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(64 << 10);
        let gathered = self.registry.gather();
        if let Err(error) = TextEncoder::new().encode(&gathered, &mut text) {
            tracing::warn!(%error, "failed to encode metrics");
        }
        text
    }

    /// The counters of a new core, which the scrape adds up.
    pub(crate) fn core(&self) -> Arc<CallCounters> {
        let counters = Arc::new(CallCounters::new());
        self.calls.lock().push(Arc::clone(&counters));
        counters
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// How many methods the counters have room for.
const RPC_COUNT: usize = METHODS.len();

/// The row of a method in the counters.
fn row(rpc: Rpc) -> usize {
    rpc as usize
}
