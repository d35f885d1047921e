//! Counts for the metrics.

/// How often things happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Puts outside of transactions.
    pub puts: u64,
    /// Deletes outside of transactions.
    pub deletes: u64,
    /// Transactions.
    pub txns: u64,
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
}
