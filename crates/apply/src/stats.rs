//! Counts for the metrics.

/// The operations that are counted by name, as etcd's metrics call them.
pub const OPS: [&str; 14] = [
    "Range",
    "Put",
    "DeleteRange",
    "Txn",
    "Compaction",
    "LeaseGrant",
    "LeaseRevoke",
    "LeaseCheckpoint",
    "Alarm",
    "ClusterVersionSet",
    "ClusterMemberAttrSet",
    "DowngradeInfoSet",
    "Authenticate",
    "unknown",
];

/// How often things happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Puts outside of transactions.
    pub puts: u64,
    /// Deletes outside of transactions.
    pub deletes: u64,
    /// Transactions.
    pub txns: u64,
    /// Bytes of keys and values put outside of transactions.
    pub put_bytes: u64,
    /// Changes of keys handed to the watch hub.
    pub events: u64,
    /// Leases granted.
    pub leases_granted: u64,
    /// Leases renewed.
    pub leases_renewed: u64,
    /// Leases revoked.
    pub leases_revoked: u64,
    /// Leases found expired.
    pub leases_expired: u64,
    /// Changes of members or of the cluster's version.
    pub cluster_changes: u64,
    /// Changes of alarms.
    pub alarm_changes: u64,
    /// Requests applied, by position in [`OPS`]: those that failed and those that succeeded.
    ops: [[u64; 2]; OPS.len()],
}

impl Stats {
    /// One more request of this name was applied.
    pub(crate) fn count_op(&mut self, name: &str, succeeded: bool) {
        let op = OPS.iter().position(|op| *op == name).unwrap_or(OPS.len() - 1);
        self.ops[op][usize::from(succeeded)] += 1;
    }

    /// How many requests of which name and success were applied since `last`.
    pub fn newer_than(&self, last: &Self) -> impl Iterator<Item = (u64, (&'static str, bool))> {
        OPS.iter().zip(self.ops).zip(last.ops).flat_map(|((op, now), last)| {
            [(now[0] - last[0], (*op, false)), (now[1] - last[1], (*op, true))]
                .into_iter()
                .filter(|(count, _)| *count > 0)
        })
    }
}
