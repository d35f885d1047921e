//! How long the requests take that a member makes of itself: its name, the cluster's version, alarms, leases that have
//! expired, compactions that are due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::internal::InternalRequestRef;
use rpc::Metrics;

/// Those that are under way, by their ids.
#[derive(Debug)]
pub(crate) struct OwnRequests {
    metrics: Arc<Metrics>,
    timeout: Duration,
    under_way: BTreeMap<u64, (&'static str, Instant)>,
}

impl OwnRequests {
    /// `timeout` is that of requests of clients.
    pub(crate) fn new(metrics: &Arc<Metrics>, timeout: Duration) -> Self {
        Self { metrics: Arc::clone(metrics), timeout, under_way: BTreeMap::new() }
    }

    /// An encoded request goes to consensus.
    pub(crate) fn proposed(&mut self, request: &[u8]) {
        self.give_up();
        if let Ok(InternalRequestRef { id, op: Some(op), .. }) = InternalRequestRef::decode(request)
        {
            self.under_way.insert(id, (apply::op_name(op), Instant::now()));
        }
    }

    /// A request was applied, whatever came of it.
    pub(crate) fn applied(&mut self, id: u64) {
        if let Some((op, since)) = self.under_way.remove(&id) {
            self.observe(op, "true", since);
        }
    }

    /// Those that were lost, since this member did not lead any more or nobody did.
    fn give_up(&mut self) {
        let mut lost = Vec::new();
        self.under_way.retain(|_, (op, since)| {
            let is_late = since.elapsed() > self.timeout;
            lost.extend(is_late.then_some((*op, *since)));
            !is_late
        });
        for (op, since) in lost {
            self.observe(op, "false", since);
        }
    }

    fn observe(&self, op: &str, success: &str, since: Instant) {
        let durations = &self.metrics.server_request_duration_seconds;
        durations.with_label_values(&[op, success]).observe(since.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use api::internal::OpRef;
    use api::wire::Encode as _;

    use super::*;

    #[test]
    fn each_is_counted_once() {
        let metrics = Arc::new(Metrics::new());
        let request = |id| {
            let op = Some(OpRef::LeaseRevoke(&[]));
            InternalRequestRef { id, op, ..Default::default() }.encode_to_vec()
        };
        let counts = || {
            ["true", "false"].map(|success| {
                let durations = &metrics.server_request_duration_seconds;
                durations.with_label_values(&["LeaseRevoke", success]).get_sample_count()
            })
        };
        let mut own = OwnRequests::new(&metrics, Duration::MAX);
        own.proposed(&request(1));
        own.proposed(&request(2));
        own.proposed(b"junk");
        own.applied(3);
        assert_eq!(counts(), [0, 0]);
        own.applied(2);
        own.applied(2);
        assert_eq!(counts(), [1, 0]);
        own.timeout = Duration::ZERO;
        own.proposed(&request(3));
        assert_eq!(counts(), [1, 1]);
        own.applied(1);
        assert_eq!(counts(), [1, 1]);
    }
}
