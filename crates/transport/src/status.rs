//! Whether a peer can be reached, and since when.

use std::time::Instant;

use parking_lot::Mutex;
use tracing::{debug, info, warn};

use crate::hex;
use crate::metrics::Metrics;

/// What was tried when a peer turned out not to be reachable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// The stream, the pipeline or the snapshot's way.
    pub(crate) source: &'static str,
    pub(crate) action: &'static str,
}

/// Active from the first success to the first failure.
#[derive(Debug)]
pub(crate) struct Status {
    local: u64,
    peer: u64,
    since: Mutex<Option<Instant>>,
    metrics: Metrics,
}

impl Status {
    pub(crate) fn new(local: u64, peer: u64, metrics: Metrics) -> Self {
        Self { local, peer, since: Mutex::new(None), metrics }
    }

    pub(crate) fn activate(&self) {
        let mut since = self.since.lock();
        if since.is_none() {
            info!("peer-id" = hex(self.peer), "peer became active");
            *since = Some(Instant::now());
            self.metrics.active_peers.with_label_values(&[&hex(self.local), &hex(self.peer)]).inc();
        }
    }

    /// Whether it was active.
    pub(crate) fn deactivate(&self, failure: Failure, reason: &dyn std::fmt::Display) -> bool {
        let Failure { action, source } = failure;
        let peer = hex(self.peer);
        let error = format!("failed to {action} {peer} on {source} ({reason})");
        let was_active = self.since.lock().take().is_some();
        if was_active {
            warn!("peer-id" = peer, error, "peer became inactive (message send to peer failed)");
            let labels = [hex(self.local), peer];
            let labels = [labels[0].as_str(), labels[1].as_str()];
            self.metrics.active_peers.with_label_values(&labels).dec();
            self.metrics.disconnected_peers_total.with_label_values(&labels).inc();
        } else {
            debug!("peer-id" = peer, error, "peer deactivated again");
        }
        was_active
    }

    /// The peer is none any more.
    pub(crate) fn forget(&self) {
        if self.since.lock().take().is_some() {
            self.metrics.active_peers.with_label_values(&[&hex(self.local), &hex(self.peer)]).dec();
        }
    }

    pub(crate) fn active_since(&self) -> Option<Instant> {
        *self.since.lock()
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active_since().is_some()
    }
}
