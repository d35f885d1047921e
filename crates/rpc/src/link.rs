//! What a core needs of the rest of the member.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

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
