//! What is counted, under etcd's names.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, exponential_buckets,
};

/// The collectors; cheap to clone. A field has the metric's name without `etcd_`, and without `network_`.
///
/// Labels are members' ids in hex. Whoever is not a known peer counts as `unknown`, so that nobody can fill
/// the memory with labels: DIFF(etcd), which takes ids and addresses as they come.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Collectors>);

impl std::ops::Deref for Metrics {
    type Target = Collectors;

    fn deref(&self) -> &Collectors {
        &self.0
    }
}

macro_rules! collectors {
    ($($field:ident: $kind:ident $args:tt = $name:literal, $help:literal;)+) => {
        /// See [`Metrics`].
        #[derive(Debug)]
        #[expect(missing_docs, reason = "the help text of each says what it is")]
        pub struct Collectors {
            $(pub $field: $kind,)+
        }

        impl Metrics {
            /// Collectors that count from zero.
            ///
            /// # Errors
            /// Never with these names.
            pub fn new() -> Result<Self, prometheus::Error> {
                Ok(Self(Arc::new(Collectors {
                    $($field: collectors!(@make $kind $args, $name, $help),)+
                })))
            }

            /// All of them, to be registered.
            #[must_use]
            pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
                vec![$(Box::new(self.$field.clone()),)+]
            }
        }
    };
    (@make IntCounterVec ($($label:literal),+), $name:expr, $help:literal) => {
        IntCounterVec::new(Opts::new($name, $help), &[$($label),+])?
    };
    (@make IntGaugeVec ($($label:literal),+), $name:expr, $help:literal) => {
        IntGaugeVec::new(Opts::new($name, $help), &[$($label),+])?
    };
    (@make Histogram ($start:literal, $factor:literal, $count:literal), $name:expr, $help:literal) => {
        Histogram::with_opts(
            HistogramOpts::new($name, $help).buckets(exponential_buckets($start, $factor, $count)?),
        )?
    };
    (@make HistogramVec ($start:literal, $factor:literal, $count:literal; $label:literal), $name:expr, $help:literal) => {
        HistogramVec::new(
            HistogramOpts::new($name, $help).buckets(exponential_buckets($start, $factor, $count)?),
            &[$label],
        )?
    };
}

collectors! {
    active_peers: IntGaugeVec ("Local", "Remote") =
        "etcd_network_active_peers", "The current number of active peer connections.";
    disconnected_peers_total: IntCounterVec ("Local", "Remote") =
        "etcd_network_disconnected_peers_total", "The total number of disconnected peers.";
    peer_sent_bytes_total: IntCounterVec ("To") =
        "etcd_network_peer_sent_bytes_total", "The total number of bytes sent to peers.";
    peer_received_bytes_total: IntCounterVec ("From") =
        "etcd_network_peer_received_bytes_total", "The total number of bytes received from peers.";
    peer_sent_failures_total: IntCounterVec ("To") =
        "etcd_network_peer_sent_failures_total", "The total number of send failures from peers.";
    peer_received_failures_total: IntCounterVec ("From") =
        "etcd_network_peer_received_failures_total", "The total number of receive failures from peers.";
    snapshot_send_success: IntCounterVec ("To") =
        "etcd_network_snapshot_send_success", "Total number of successful snapshot sends";
    snapshot_send_inflights_total: IntGaugeVec ("To") =
        "etcd_network_snapshot_send_inflights_total", "Total number of inflight snapshot sends";
    snapshot_send_failures: IntCounterVec ("To") =
        "etcd_network_snapshot_send_failures", "Total number of snapshot send failures";
    snapshot_send_total_duration_seconds: HistogramVec (0.1, 2.0, 10; "To") =
        "etcd_network_snapshot_send_total_duration_seconds", "Total latency distributions of v3 snapshot sends";
    snapshot_receive_success: IntCounterVec ("From") =
        "etcd_network_snapshot_receive_success", "Total number of successful snapshot receives";
    snapshot_receive_inflights_total: IntGaugeVec ("From") =
        "etcd_network_snapshot_receive_inflights_total", "Total number of inflight snapshot receives";
    snapshot_receive_failures: IntCounterVec ("From") =
        "etcd_network_snapshot_receive_failures", "Total number of snapshot receive failures";
    snapshot_receive_total_duration_seconds: HistogramVec (0.1, 2.0, 10; "From") =
        "etcd_network_snapshot_receive_total_duration_seconds", "Total latency distributions of v3 snapshot receives";
    peer_round_trip_time_seconds: HistogramVec (0.0001, 2.0, 16; "To") =
        "etcd_network_peer_round_trip_time_seconds", "Round-Trip-Time histogram between peers";
    snap_db_fsync_duration_seconds: Histogram (0.001, 2.0, 14) =
        "etcd_snap_db_fsync_duration_seconds", "Time to sync a received backend file.";
    snap_db_save_total_duration_seconds: Histogram (0.1, 2.0, 10) =
        "etcd_snap_db_save_total_duration_seconds", "Time to save a received backend file.";
}
