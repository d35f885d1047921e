//! What a core needs of the rest of the member.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio::time::Instant;

use crate::{Limits, Metrics, State};

/// The queues and shared facts that tie a core to the member. Each core has its own clone.
#[derive(Clone, Debug)]
pub struct Link {
    /// To the consensus thread. Full: requests are refused with "too many requests".
    pub consensus: SyncSender<replica::Event>,
    /// To the apply thread. Full: commands wait in the core, up to a number.
    pub apply: SyncSender<apply::Input>,
    /// To the watch hub. Full: the requests of later turns wait in the core.
    pub watch: SyncSender<WatchInput>,
    /// To whoever asks the leader over the peer port. Full: requests are refused with "too many requests".
    pub leader: tokio::sync::mpsc::Sender<AskLeader>,
    /// Reads the key space as it is applied.
    pub reader: mvcc::Reader,
    /// Facts of the member.
    pub state: Arc<State>,
    /// Limits of requests.
    pub limits: Arc<Limits>,
    /// The member's metrics.
    pub metrics: Arc<Metrics>,
}

/// What the watch thread receives, in one queue.
#[derive(Debug)]
pub enum WatchInput {
    /// Events of applied entries, from the apply thread, in order.
    Events(Vec<Arc<mvcc::EventBatch>>),
    /// The state was replaced by a snapshot: watchers go on with this reader.
    Restored(mvcc::Reader),
    /// Requests of one turn of a core, in order. The high 16 bits of a stream's id name the core.
    Commands(Vec<mvcc::watch::Command>),
}

/// A question that the leader is to be asked, if another member leads. The answer comes back as
/// [`crate::Delivery::Leader`], always.
#[derive(Debug)]
pub struct AskLeader {
    /// Chosen by the asker; its high 16 bits name the front-door core.
    pub token: u64,
    /// When the asker stops waiting.
    pub deadline: Instant,
    /// What is asked.
    pub request: LeaderRequest,
}

/// What only a leader can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderRequest {
    /// Renew a lease.
    LeaseRenew(i64),
    /// How long a lease lives.
    LeaseTimeToLive {
        /// The lease.
        id: i64,
        /// Whether its keys are wanted.
        keys: bool,
    },
    /// Make a learner a voter.
    Promote(u64),
}

/// The answer to a [`LeaderRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderAnswer {
    /// The new time to live in seconds; `None`: there is no such lease.
    Renewed(Option<i64>),
    /// `None`: there is no such lease.
    LeaseTtl(Option<apply::LeaseTtl>),
    /// The members after the promotion.
    Members(Vec<cluster::Member>),
}
