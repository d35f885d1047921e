//! What apply knows, for requests and metrics to see.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use apply::{Applier, Output, Stats};
use rpc::{Metrics, State};
use tracing::info;

/// Auth is not served: its store stays as it begins.
const AUTH_REVISION: i64 = 1;

/// Copies facts from the applier to where other threads read them.
pub(crate) struct Publisher {
    pub(crate) state: Arc<State>,
    pub(crate) metrics: Arc<Metrics>,
    /// Told once when the member has a name and the cluster a version.
    ready: Option<Sender<bool>>,
    /// What the cluster must know of the member before it is ready.
    client_urls: Vec<String>,
    compaction_began: Option<Duration>,
    last: Stats,
    /// What the histogram of apply durations holds.
    timed: Stats,
}

impl Publisher {
    pub(crate) fn new(
        state: Arc<State>,
        metrics: Arc<Metrics>,
        ready: Option<Sender<bool>>,
        client_urls: Vec<String>,
    ) -> Self {
        Self {
            state,
            metrics,
            ready,
            client_urls,
            compaction_began: None,
            last: Stats::default(),
            timed: Stats::default(),
        }
    }

    /// Publishes everything: for the first time, or because all of it was replaced.
    pub(crate) fn start(&self, applier: &Applier) {
        self.publish_cluster(applier);
        self.publish_alarms(applier);
        self.publish_numbers(applier);
        self.metrics.debugging_auth_revision.set(AUTH_REVISION);
    }

    /// Publishes what has changed.
    pub(crate) fn publish(&mut self, applier: &Applier) {
        self.publish_numbers(applier);
        let now = *applier.stats();
        let last = std::mem::replace(&mut self.last, now);
        if now == last {
            return;
        }
        if now.cluster_changes != last.cluster_changes {
            self.publish_cluster(applier);
            self.tell_ready(applier);
        }
        if now.alarm_changes != last.alarm_changes {
            self.publish_alarms(applier);
        }
        let metrics = &self.metrics;
        metrics.mvcc_put_total.inc_by(now.puts - last.puts);
        metrics.mvcc_delete_total.inc_by(now.deletes - last.deletes);
        metrics.mvcc_txn_total.inc_by(now.txns - last.txns);
        metrics.debugging_lease_granted_total.inc_by(now.leases_granted - last.leases_granted);
        metrics.debugging_lease_renewed_total.inc_by(now.leases_renewed - last.leases_renewed);
        metrics.debugging_lease_revoked_total.inc_by(now.leases_revoked - last.leases_revoked);
        metrics
            .debugging_server_lease_expired_total
            .inc_by(now.leases_expired - last.leases_expired);
        metrics.debugging_mvcc_total_put_size_in_bytes.set(now.put_bytes as i64);
    }

    /// A batch was applied: its time is shared out evenly among its requests.
    pub(crate) fn applied(&mut self, applier: &Applier, entries: usize, took: Duration) {
        let each = took.as_secs_f64() / entries.max(1) as f64;
        let timed = std::mem::replace(&mut self.timed, *applier.stats());
        for (count, (op, succeeded)) in applier.stats().newer_than(&timed) {
            let labels = ["v3", op, if succeeded { "true" } else { "false" }];
            let histogram =
                self.metrics.server_apply_duration_seconds.with_label_values(&labels).local();
            (0..count).for_each(|_| histogram.observe(each));
        }
    }

    /// What happened once, rather than how things stand.
    pub(crate) fn publish_output(&mut self, out: &mut Output, now: Duration, wall: Duration) {
        for ttl in out.granted_ttls.drain(..) {
            self.metrics.debugging_lease_ttl_total.observe(ttl as f64);
        }
        for apply::Compacted { revision, hash, rows } in out.compacted.drain(..) {
            self.metrics.debugging_mvcc_db_compaction_keys_total.inc_by(rows);
            let took = now.saturating_sub(self.compaction_began.take().unwrap_or(now));
            self.metrics.debugging_mvcc_db_compaction_last.set(wall.as_secs() as i64);
            self.metrics
                .debugging_mvcc_db_compaction_total_duration_milliseconds
                .observe(took.as_secs_f64() * 1e3);
            info!(
                "compact-revision" = revision,
                took = format!("{took:?}"),
                hash = hash.map_or(0, |hash| hash.hash),
                "finished scheduled compaction"
            );
        }
    }

    /// A tick took this long, while a compaction was under way or not.
    pub(crate) fn ticked(&mut self, is_compacting: bool, now: Duration, took: Duration) {
        if is_compacting {
            self.compaction_began.get_or_insert(now);
            self.metrics
                .debugging_mvcc_db_compaction_pause_duration_milliseconds
                .observe(took.as_secs_f64() * 1e3);
        } else {
            self.compaction_began = None;
        }
    }

    /// Says once that the member has a name and the cluster a version.
    pub(crate) fn tell_ready(&mut self, applier: &Applier) {
        let cluster = applier.cluster();
        let is_started = cluster
            .member(cluster.local_id())
            .is_some_and(|member| member.is_started() && member.client_urls == self.client_urls);
        if is_started
            && cluster.version().is_some()
            && let Some(ready) = self.ready.take()
        {
            info!(
                "local-member-id" = format!("{:x}", cluster.local_id()),
                "cluster-id" = format!("{:x}", cluster.id()),
                "published local member to cluster through raft"
            );
            // Nobody waits any more if the start was given up.
            let _ = ready.send(true);
        }
    }

    fn publish_numbers(&self, applier: &Applier) {
        let state = &self.state;
        let applied = applier.applied_index();
        state.applied.store(applied, Ordering::Relaxed);
        let (size, in_use) =
            (applier.backend().size() as i64, applier.backend().size_in_use() as i64);
        state.db_size.store(size, Ordering::Relaxed);
        state.db_size_in_use.store(in_use, Ordering::Relaxed);
        let metrics = &self.metrics;
        metrics.server_proposals_applied_total.set(applied as i64);
        metrics.mvcc_db_total_size_in_bytes.set(size);
        metrics.mvcc_db_total_size_in_use_in_bytes.set(in_use);
        let reader = applier.reader();
        metrics.debugging_mvcc_current_revision.set(reader.current_revision());
        metrics.debugging_mvcc_compact_revision.set(reader.compact_revision());
        metrics.debugging_mvcc_keys_total.set(reader.keys() as i64);
    }

    fn publish_cluster(&self, applier: &Applier) {
        let cluster = applier.cluster();
        let is_learner = cluster.is_local_learner();
        self.state.is_learner.store(is_learner, Ordering::Relaxed);
        self.metrics.server_is_learner.set(i64::from(is_learner));
        *self.state.cluster.write() = Arc::new(cluster.clone());
        let version = cluster.version().map(|version| version.to_string());
        let mut published = self.state.cluster_version.write();
        if *published != version {
            if let Some(version) = cluster.version() {
                let text = version.major_minor();
                match published.as_deref().and_then(cluster::Version::parse) {
                    None => info!("cluster-version" = text, "set initial cluster version"),
                    Some(before) => {
                        info!(from = before.major_minor(), to = text, "updated cluster version");
                    }
                }
                self.metrics.cluster_version.reset();
                self.metrics.cluster_version.with_label_values(&[&text]).set(1);
                info!("cluster-version" = text, "enabled capabilities for version");
            }
            published.clone_from(&version);
        }
        // Releases before 3.6 keep no version of the storage.
        let storage = cluster.version().map(|version| version.max(cluster::Version::new(3, 5, 0)));
        *self.state.storage_version.write() = storage.map(|version| version.to_string());
    }

    fn publish_alarms(&self, applier: &Applier) {
        let alarms: Vec<apply::Alarm> = applier
            .alarms()
            .get(0)
            .into_iter()
            .map(|(member_id, alarm)| apply::Alarm { member_id, alarm })
            .collect();
        let gauge = &self.metrics.debugging_server_alarms;
        for alarm in self.state.alarms.read().iter() {
            gauge.with_label_values(&alarm_labels(alarm)).set(0);
        }
        for alarm in &alarms {
            gauge.with_label_values(&alarm_labels(alarm)).set(1);
        }
        *self.state.alarms.write() = alarms;
    }
}

fn alarm_labels(alarm: &apply::Alarm) -> [String; 2] {
    let kind = match alarm.alarm {
        1 => "NOSPACE",
        2 => "CORRUPT",
        _ => "NONE",
    };
    [format!("{:x}", alarm.member_id), kind.to_owned()]
}
