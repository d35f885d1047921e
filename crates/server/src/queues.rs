//! Every queue between threads: its limit, and what happens when it is full.
//!
//! Nothing here can wait in a circle: apply and the disk thread may wait for consensus, consensus
//! waits for apply at most, and apply never waits for consensus (see `apply_thread`).

/// Into consensus. Full: the front door answers "too many requests"; the disk thread waits.
pub(crate) const CONSENSUS_EVENTS_MAX: usize = 8192;

/// Events that consensus takes before it turns to their effects.
pub(crate) const CONSENSUS_BATCH_MAX: usize = 512;

/// Into apply. Full: the front door answers "too many requests"; consensus waits.
pub(crate) const APPLY_INPUTS_MAX: usize = 4096;

/// Inputs that apply takes before it hands its output on.
pub(crate) const APPLY_BATCH_MAX: usize = 256;

/// Into the watch hub. Full: events are left out and their watchers catch up from the store; the
/// front door keeps its requests.
pub(crate) const WATCH_INPUTS_MAX: usize = 1024;

/// Questions to the leader. Full: the front door answers "too many requests".
pub(crate) const LEADER_QUESTIONS_MAX: usize = 4096;

/// Appends that share one sync.
pub(crate) const DISK_BATCH_MAX: usize = 256;
