//! Compaction in steps.

use crate::KvHash;

/// What a call of [`crate::Store::compaction_step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionProgress {
    /// There is nothing to compact.
    Idle,
    /// There is more to do.
    Working,
    /// The compaction to `revision` has removed its last row. There may be another one waiting.
    Finished {
        /// The compact revision that was asked for.
        revision: i64,
        /// Its hash, `None` if the compaction before was interrupted.
        hash: Option<KvHash>,
    },
}
