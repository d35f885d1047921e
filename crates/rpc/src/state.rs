//! Facts of the member that threads of the server publish and requests read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use cluster::Cluster;
use parking_lot::RwLock;

/// The member as its front door sees it. Single values are atomics, read without any order between
/// them; the lists are small and change rarely.
#[derive(Debug)]
pub struct State {
    /// The cluster's id.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
    /// The version that clients are told, `3.7.3`.
    pub version: &'static str,
    /// Raft's current term.
    pub term: AtomicU64,
    /// The leader's member id; 0: none known.
    pub leader: AtomicU64,
    /// Whether this member is a learner.
    pub is_learner: AtomicBool,
    /// The last committed index.
    pub committed: AtomicU64,
    /// The last applied index.
    pub applied: AtomicU64,
    /// The backend's size as bbolt counts it, in bytes: pages up to the high-water mark.
    pub db_size: AtomicI64,
    /// The part of it that is in use, in bytes.
    pub db_size_in_use: AtomicI64,
    /// Alarms that are raised, of all members.
    pub alarms: RwLock<Vec<apply::Alarm>>,
    /// The members as they are applied.
    pub cluster: RwLock<Arc<Cluster>>,
    /// Since when each of the other members has been connected; those that are not are left out.
    pub active_since: RwLock<BTreeMap<u64, Instant>>,
    /// The cluster version, `3.7.0`, once it is decided.
    pub cluster_version: RwLock<Option<String>>,
    /// The storage version in the backend, `3.7.0`, once it is written.
    pub storage_version: RwLock<Option<String>>,
    /// Whether the backend file is being rewritten.
    pub defragmenting: AtomicBool,
}

impl State {
    /// A member of which nothing more is known yet.
    #[must_use]
    pub fn new(cluster_id: u64, member_id: u64, version: &'static str) -> Self {
        Self {
            cluster_id,
            member_id,
            version,
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            is_learner: AtomicBool::new(false),
            committed: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            db_size: AtomicI64::new(0),
            db_size_in_use: AtomicI64::new(0),
            alarms: RwLock::default(),
            cluster: RwLock::default(),
            active_since: RwLock::default(),
            cluster_version: RwLock::default(),
            storage_version: RwLock::default(),
            defragmenting: AtomicBool::new(false),
        }
    }

    /// The members as they are applied.
    #[must_use]
    pub fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.cluster.read())
    }

    /// Whether this member leads, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leader.load(Ordering::Relaxed) == self.member_id
    }

    /// Whether a leader is known.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        self.leader.load(Ordering::Relaxed) != 0
    }

    /// How many entries are committed and not yet applied.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let applied = self.applied.load(Ordering::Relaxed);
        self.committed.load(Ordering::Relaxed).saturating_sub(applied)
    }
}
