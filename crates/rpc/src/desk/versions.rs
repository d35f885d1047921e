//! `etcd_server_client_requests_total`: what versions the clients have.

use api::Error;
use api::service::Kind;
use prometheus::{IntCounter, IntCounterVec};

use crate::Metrics;

/// Versions of one kind of request that are counted by name.
// DIFF(etcd): etcd makes a child for every version that clients come up with.
const NAMES_MAX: usize = 100;

/// The counters by kind of request and version, looked up once for each.
#[derive(Debug)]
pub(super) struct Versions {
    counters: IntCounterVec,
    unary: Vec<(Vec<u8>, IntCounter)>,
    stream: Vec<(Vec<u8>, IntCounter)>,
}

const UNKNOWN: &[u8] = b"unknown";

impl Versions {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counters = metrics.server_client_requests_total.clone();
        Self { counters, unary: Vec::new(), stream: Vec::new() }
    }

    /// Counts a request; the error is a version that is no text.
    pub(super) fn count(&mut self, kind: Kind, version: Option<&[u8]>) -> Result<(), Error> {
        let (known, label) = match kind {
            Kind::Unary => (&mut self.unary, "unary"),
            _ => (&mut self.stream, "stream"),
        };
        let mut version = version.unwrap_or(UNKNOWN);
        if let Some((_, counter)) = known.iter().find(|(name, _)| name == version) {
            counter.inc();
            return Ok(());
        }
        let mut text = std::str::from_utf8(version).map_err(|_| Error::InvalidClientApiVersion)?;
        if known.len() >= NAMES_MAX {
            (version, text) = (UNKNOWN, "unknown");
        }
        let counter = self.counters.with_label_values(&[label, text]);
        counter.inc();
        if known.len() < NAMES_MAX {
            known.push((version.to_vec(), counter));
        }
        Ok(())
    }
}
