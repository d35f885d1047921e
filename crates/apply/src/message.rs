//! What goes into the apply thread and what comes out of it.

use std::sync::Arc;

use bytes::Bytes;

/// Everything that the owner of an [`crate::Applier`] receives, in one queue.
#[derive(Debug)]
pub enum Input {
    /// Committed entries, in log order, each exactly once.
    Entries(Vec<raft::Entry>),
    /// A question from the front door; `token` comes back with the [`Answer`].
    Command {
        /// Chosen by the asker; its high 16 bits name the front-door core.
        token: u64,
        /// What is asked.
        command: Command,
    },
    /// The commit thread has written the frozen batch.
    Committed(backend::Committed),
    /// The commit thread has rewritten the file, or could not.
    Defragmented(Result<backend::Committed, String>),
    /// Leader or term changed, as this member knows it.
    Role {
        /// The term.
        term: u64,
        /// The leader's id, 0 for none.
        leader: u64,
    },
    /// Replace the state by that of a snapshot, whose database was received.
    Install(raft::Snapshot),
    /// The commit thread has put the database of [`Output::install`] in place of the old one.
    Installed(backend::Backend),
    /// A member needs a snapshot: answered in [`Output::snapshots`].
    SendSnapshot(raft::Message),
    /// Nothing more will be applied; see [`crate::Applier::close`].
    Stop,
}

/// A question that only the owner of the state can answer and that changes nothing replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Renew a lease; answered by [`Answer::Renewed`].
    LeaseRenew(i64),
    /// Remaining time of a lease, and its keys if the flag is set; answered by [`Answer::LeaseTtl`].
    LeaseTimeToLive(i64, bool),
    /// All leases, by expiry; answered by [`Answer::Leases`].
    LeaseLeases,
    /// A committed view of the whole backend, holding everything applied so far; for Hash, HashKV
    /// and Snapshot. Answered by [`Answer::View`].
    View,
    /// Rewrite the backend file without holes; answered by [`Answer::Defragmented`].
    Defragment,
}

/// The answer to a [`Command`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// The TTL granted anew, in seconds; `NotFound` lease: `None`.
    Renewed {
        /// Store revision before the renewal.
        revision: i64,
        /// Seconds.
        ttl: Option<i64>,
    },
    /// `None` for an unknown lease.
    LeaseTtl {
        /// Store revision.
        revision: i64,
        /// The lease as it stands.
        lease: Option<LeaseTtl>,
    },
    /// Ids by expiry.
    Leases {
        /// Store revision.
        revision: i64,
        /// Lease ids.
        ids: Vec<i64>,
    },
    /// This member is not the leader, which alone knows how long leases live.
    NotPrimary,
    /// The committed backend.
    View(SnapshotView),
    /// Done, or why not.
    Defragmented(Result<(), String>),
}

/// A lease as `LeaseTimeToLive` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTtl {
    /// Whole seconds that remain, rounded down.
    pub ttl: i64,
    /// Seconds granted.
    pub granted_ttl: i64,
    /// Attached keys, sorted, if they were asked for.
    pub keys: Vec<Bytes>,
}

/// The backend as one transaction sees it, with all that was applied when it was asked for.
#[derive(Clone, Debug)]
pub struct SnapshotView {
    /// The store's revision in this view.
    pub revision: i64,
    /// The store's compact revision in this view, -1 if it was never compacted.
    pub compact_revision: i64,
    /// The read transaction.
    pub tx: Arc<bolt::ReadTx>,
}

/// A compaction whose last row was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The compact revision that was asked for.
    pub revision: i64,
    /// Its hash, if it is known.
    pub hash: Option<mvcc::KvHash>,
    /// How many rows it has removed.
    pub rows: u64,
}

/// What applying gives back, collected over a batch and handed on at once.
#[derive(Debug, Default)]
pub struct Output {
    /// Answers to proposals that this member made.
    pub replies: Vec<Reply>,
    /// Changes of keys for the watch hub, in order of revision.
    pub events: Vec<Arc<mvcc::EventBatch>>,
    /// Answers to [`Command`]s, by token.
    pub answers: Vec<(u64, Answer)>,
    /// Encoded `InternalRaftRequest`s that this member wants proposed (alarms, its name); the
    /// header's id is theirs alone.
    pub proposals: Vec<Bytes>,
    /// As `proposals`, but only if this member leads in the term before each (expired leases,
    /// checkpoints, compactions).
    pub leader_proposals: Vec<(u64, Bytes)>,
    /// Configuration changes that raft must take over, with the index of their entry, in log order.
    /// A change that membership refused has node id 0, which raft ignores.
    pub conf_changes: Vec<(u64, raft::ConfChangeV2)>,
    /// What the changes did, for the transport; those that were refused are left out.
    pub membership: Vec<cluster::MembershipChange>,
    /// The member itself was removed: it must stop.
    pub is_removed: bool,
    /// The commit thread shall put the database of this snapshot in place of the file, after the
    /// batch, if there is one, and answer with [`Input::Installed`].
    pub install: Option<raft::Snapshot>,
    /// The state was replaced: all reads go to this reader from now on, and watchers, too.
    pub restored: Option<mvcc::Reader>,
    /// Messages with the snapshot that their receiver needs, and the database to send along.
    pub snapshots: Vec<(raft::Message, SnapshotView)>,
    /// A state-machine snapshot that is durable in the backend and may be saved as `.snap`.
    pub snapshot: Option<raft::Snapshot>,
    /// A frozen batch for the commit thread.
    pub commit: Option<backend::Batch>,
    /// Compactions whose last row was removed.
    pub compacted: Vec<Compacted>,
    /// TTLs of leases granted, in seconds.
    pub granted_ttls: Vec<i64>,
    /// The commit thread shall rewrite the file after the batch, if there is one.
    pub defragment: bool,
}

/// The answer to a proposal, by its request id.
#[derive(Debug)]
pub struct Reply {
    /// The id in the entry's header.
    pub id: u64,
    /// What the entry did, or why it was refused.
    pub result: Result<Outcome, api::Error>,
}

/// What a committed request did. Stored `KeyValue`s are raw bytes, ready to be spliced.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Put.
    Put {
        /// Revision of the change.
        revision: i64,
        /// The value before, if asked for and present.
        prev_kv: Option<Bytes>,
    },
    /// DeleteRange.
    DeleteRange {
        /// Revision of the change, or the current one if nothing was deleted.
        revision: i64,
        /// How many keys went.
        deleted: i64,
        /// Their values, if asked for.
        prev_kvs: Vec<Bytes>,
    },
    /// Txn.
    Txn(TxnOutcome),
    /// Compact; sent after the physical purge where that was asked for.
    Compact {
        /// Current revision.
        revision: i64,
    },
    /// LeaseGrant.
    LeaseGrant {
        /// Current revision.
        revision: i64,
        /// The lease.
        id: i64,
        /// Seconds granted, which may be more than were asked for.
        ttl: i64,
    },
    /// LeaseRevoke.
    LeaseRevoke {
        /// Revision after the keys went.
        revision: i64,
    },
    /// Alarm.
    Alarm {
        /// Current revision.
        revision: i64,
        /// The alarms asked for or changed.
        alarms: Vec<Alarm>,
    },
    /// Requests whose answer is only that they were applied.
    Done {
        /// Current revision.
        revision: i64,
    },
}

/// A transaction's outcome; `responses` stand in the order of the branch that ran.
#[derive(Clone, Debug, PartialEq)]
pub struct TxnOutcome {
    /// Revision of the change, or the current one if nothing changed.
    pub revision: i64,
    /// Whether all compares held.
    pub succeeded: bool,
    /// One for each operation.
    pub responses: Vec<OpOutcome>,
}

/// The outcome of one operation of a transaction. Revisions go into that operation's header.
#[derive(Clone, Debug, PartialEq)]
pub enum OpOutcome {
    /// A range.
    Range(RangeOutcome),
    /// A put.
    Put {
        /// The transaction's revision.
        revision: i64,
        /// The value before, if asked for and present.
        prev_kv: Option<Bytes>,
    },
    /// A delete.
    DeleteRange {
        /// The transaction's revision, or the current one if nothing changed so far.
        revision: i64,
        /// How many keys went.
        deleted: i64,
        /// Their values, if asked for.
        prev_kvs: Vec<Bytes>,
    },
    /// A nested transaction; its header is present and empty.
    Txn {
        /// Whether its compares held.
        succeeded: bool,
        /// One for each operation.
        responses: Vec<Self>,
    },
}

/// A range's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeOutcome {
    /// Revision for the header.
    pub revision: i64,
    /// Raw `KeyValue`s.
    pub kvs: Vec<Bytes>,
    /// Whether the limit cut the answer.
    pub more: bool,
    /// Keys in the range.
    pub count: i64,
}

/// An alarm of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// The member.
    pub member_id: u64,
    /// `AlarmType` as on the wire: 1 NOSPACE, 2 CORRUPT.
    pub alarm: i32,
}
