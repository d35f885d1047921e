//! How long requests took, in histograms whose children are looked up once.

use std::time::Duration;

use api::service::Rpc;
use prometheus::Histogram;

use super::ReadOp;
use crate::Metrics;

/// The `type` labels of `etcd_server_request_duration_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestType {
    Range,
    ReadonlyTxn,
    Put,
    DeleteRange,
    Txn,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    Alarm,
}

impl RequestType {
    const COUNT: usize = 9;

    const fn name(self) -> &'static str {
        match self {
            Self::Range => "Range",
            Self::ReadonlyTxn => "ReadonlyTxn",
            Self::Put => "Put",
            Self::DeleteRange => "DeleteRange",
            Self::Txn => "Txn",
            Self::Compaction => "Compaction",
            Self::LeaseGrant => "LeaseGrant",
            Self::LeaseRevoke => "LeaseRevoke",
            Self::Alarm => "Alarm",
        }
    }

    const fn of_proposal(rpc: Rpc) -> Option<Self> {
        match rpc {
            Rpc::KvPut => Some(Self::Put),
            Rpc::KvDeleteRange => Some(Self::DeleteRange),
            Rpc::KvTxn => Some(Self::Txn),
            Rpc::KvCompact => Some(Self::Compaction),
            Rpc::LeaseGrant => Some(Self::LeaseGrant),
            Rpc::LeaseRevoke => Some(Self::LeaseRevoke),
            Rpc::MaintenanceAlarm => Some(Self::Alarm),
            _ => None,
        }
    }
}

/// Children appear with their first use, as a fresh member of etcd's shows none.
#[derive(Debug)]
pub(crate) struct Durations {
    requests: prometheus::HistogramVec,
    ranges: prometheus::HistogramVec,
    children: [[Option<Histogram>; 2]; RequestType::COUNT],
    range_children: [Option<Histogram>; 2],
}

impl Durations {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            requests: metrics.server_request_duration_seconds.clone(),
            ranges: metrics.server_range_duration_seconds.clone(),
            children: Default::default(),
            range_children: Default::default(),
        }
    }

    /// A request was answered, or never will be.
    pub(crate) fn request(&mut self, kind: RequestType, success: bool, took: Duration) {
        let vec = &self.requests;
        self.children[kind as usize][usize::from(success)]
            .get_or_insert_with(|| vec.with_label_values(&[kind.name(), label(success)]))
            .observe(took.as_secs_f64());
    }

    /// A proposal was applied, whatever came of it.
    pub(crate) fn applied(&mut self, rpc: Rpc, took: Duration) {
        if let Some(kind) = RequestType::of_proposal(rpc) {
            self.request(kind, true, took);
        }
    }

    /// A proposal was not applied in time.
    pub(crate) fn failed(&mut self, rpc: Rpc, took: Duration) {
        if let Some(kind) = RequestType::of_proposal(rpc) {
            self.request(kind, false, took);
        }
    }

    /// A read could not be served.
    pub(crate) fn read_failed(&mut self, op: &ReadOp, took: Duration) {
        match op {
            ReadOp::Range(_) => self.request(RequestType::Range, false, took),
            ReadOp::Txn(_) => self.request(RequestType::ReadonlyTxn, false, took),
            _ => {}
        }
    }

    /// A call was worked out on another thread.
    pub(crate) fn worked(&mut self, rpc: Rpc, took: Duration, success: bool) {
        if rpc == Rpc::KvRange {
            self.range(success, took);
            self.request(RequestType::Range, success, took);
        }
    }

    /// A range was looked up in the store.
    pub(crate) fn range(&mut self, success: bool, took: Duration) {
        let vec = &self.ranges;
        self.range_children[usize::from(success)]
            .get_or_insert_with(|| vec.with_label_values(&[label(success)]))
            .observe(took.as_secs_f64());
    }
}

const fn label(success: bool) -> &'static str {
    if success { "true" } else { "false" }
}
