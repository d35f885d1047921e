//! How a member behaves.

use crate::logger::Level;

/// No limit, for the sizes of [`Config`].
pub const NO_LIMIT: u64 = u64::MAX;
/// The id of nobody: no leader, no vote.
pub const NONE: u64 = 0;
/// Target of `StorageAppend` messages: whoever writes the log to stable storage.
pub const LOCAL_APPEND_THREAD: u64 = u64::MAX;
/// Target of `StorageApply` messages: whoever applies committed entries.
pub const LOCAL_APPLY_THREAD: u64 = u64::MAX - 1;

/// Whether `id` stands for a storage thread of this member rather than for a member.
pub const fn is_local_target(id: u64) -> bool {
    id == LOCAL_APPEND_THREAD || id == LOCAL_APPLY_THREAD
}

/// How a leader makes sure that it still leads before it answers a read: thesis §6.4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOnlyOption {
    /// It asks a quorum.
    #[default]
    Safe,
    /// It trusts that nobody else was elected within an election timeout. Stale reads are possible when clocks
    /// run at different speeds or a process stops for long. Needs `check_quorum`.
    LeaseBased,
}

/// The parameters of a member. Ticks are calls of [`RawNode::tick`](crate::RawNode::tick), sizes are bytes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its id, unique in the cluster and never reused; neither 0 nor one of the local targets.
    pub id: u64,
    /// Ticks without a sign of the leader until an election; the actual number is drawn from
    /// `election_tick..2 * election_tick` each time. More than `heartbeat_tick`, best ten times.
    pub election_tick: u32,
    /// Ticks between the heartbeats of a leader.
    pub heartbeat_tick: u32,
    /// Last index that the application has applied, when it restarts; entries up to it are not handed out.
    pub applied: u64,
    /// Write through messages to storage threads rather than `Ready` and `advance`.
    ///
    /// Then `Ready::messages` has `StorageAppend` messages for [`LOCAL_APPEND_THREAD`] and `StorageApply`
    /// messages for [`LOCAL_APPLY_THREAD`], to be handled in order per target and never dropped. What an append
    /// message holds must be durable before its `responses` are delivered, to members or back to this one.
    pub async_storage_writes: bool,
    /// Encoded entries in one append message; 0 means one entry per message.
    pub max_size_per_msg: u64,
    /// Encoded committed entries handed out and not acknowledged as applied; 0 means `max_size_per_msg`.
    pub max_committed_size_per_ready: u64,
    /// Payload of proposals not committed yet, above which a leader drops new ones; 0 means no limit.
    pub max_uncommitted_entries_size: u64,
    /// Append messages in flight to one follower.
    pub max_inflight_msgs: usize,
    /// Payload in flight to one follower; 0 means no limit.
    pub max_inflight_bytes: u64,
    /// A leader steps down when it has not heard of a quorum for an election timeout, and a member that hears
    /// its leader ignores others' elections.
    pub check_quorum: bool,
    /// Ask before an election whether it could be won, so that a member that was cut off does not disturb the
    /// others when it comes back: thesis §9.6.
    pub pre_vote: bool,
    /// How reads are confirmed.
    pub read_only_option: ReadOnlyOption,
    /// Followers drop proposals rather than send them to the leader.
    pub disable_proposal_forwarding: bool,
    /// A leader appends configuration changes without checking them against the one in force. For users who
    /// check above raft: an impossible change fails when it is applied.
    pub disable_conf_change_validation: bool,
    /// A leader that is removed or made a learner becomes a follower.
    pub step_down_on_removal: bool,
    /// Seed of the randomized election timeouts; the id is mixed in.
    pub seed: u64,
    /// Keep log lines of this level and above until they are taken; `None` formats no line.
    pub log_level: Option<Level>,
}

impl Config {
    /// etcd's ticks and no limits but 256 messages in flight.
    pub const fn new(id: u64) -> Self {
        Self {
            id,
            election_tick: 10,
            heartbeat_tick: 1,
            applied: 0,
            async_storage_writes: false,
            max_size_per_msg: NO_LIMIT,
            max_committed_size_per_ready: 0,
            max_uncommitted_entries_size: 0,
            max_inflight_msgs: 256,
            max_inflight_bytes: 0,
            check_quorum: false,
            pre_vote: false,
            read_only_option: ReadOnlyOption::Safe,
            disable_proposal_forwarding: false,
            disable_conf_change_validation: false,
            step_down_on_removal: false,
            seed: 0,
            log_level: None,
        }
    }

    /// Whether the parameters fit together.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.id == NONE {
            return Err(ConfigError::NoneId);
        }
        if is_local_target(self.id) {
            return Err(ConfigError::LocalTargetId);
        }
        if self.heartbeat_tick == 0 {
            return Err(ConfigError::HeartbeatTick);
        }
        if self.election_tick <= self.heartbeat_tick {
            return Err(ConfigError::ElectionTick);
        }
        if self.election_tick > u32::MAX / 2 {
            return Err(ConfigError::ElectionTickTooLarge);
        }
        if self.max_inflight_msgs == 0 {
            return Err(ConfigError::MaxInflightMsgs);
        }
        if self.max_inflight_bytes != 0 && self.max_inflight_bytes < self.max_size_per_msg {
            return Err(ConfigError::MaxInflightBytes);
        }
        let needs_check = self.read_only_option == ReadOnlyOption::LeaseBased;
        if needs_check && !self.check_quorum && !mutant::mutant!("R11") {
            return Err(ConfigError::LeaseWithoutCheckQuorum);
        }
        Ok(())
    }
}

/// Why a [`Config`], with the storage it was given, cannot start a member.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `id` is 0.
    #[error("cannot use none as id")]
    NoneId,
    /// `id` stands for a storage thread.
    #[error("cannot use local target as id")]
    LocalTargetId,
    /// `heartbeat_tick` is 0.
    #[error("heartbeat tick must be greater than 0")]
    HeartbeatTick,
    /// `election_tick` is not above `heartbeat_tick`.
    #[error("election tick must be greater than heartbeat tick")]
    ElectionTick,
    /// Twice `election_tick` cannot be counted.
    #[error("election tick is too large")]
    ElectionTickTooLarge,
    /// `max_inflight_msgs` is 0.
    #[error("max inflight messages must be greater than 0")]
    MaxInflightMsgs,
    /// `max_inflight_bytes` does not hold one message.
    #[error("max inflight bytes must be >= max message size")]
    MaxInflightBytes,
    /// A lease holds only where the quorum is checked.
    #[error("CheckQuorum must be enabled when ReadOnlyOption is ReadOnlyLeaseBased")]
    LeaseWithoutCheckQuorum,
    /// The storage did not return its initial state.
    #[error(transparent)]
    Storage(#[from] crate::StorageError),
    /// The stored configuration is impossible.
    #[error("unable to restore config: {0}")]
    ConfState(#[from] crate::ConfChangeError),
    /// The stored configuration contradicts itself.
    #[error("stored config contradicts itself: {0}")]
    ConfStateNotEquivalent(String),
    /// The stored commit index, or `applied`, is not in the stored log.
    #[error("{id:x} {name} {index} is out of range [{low}, {high}]")]
    OutOfRange {
        /// The member.
        id: u64,
        /// `state.commit` or `applied`.
        name: &'static str,
        /// Its value.
        index: u64,
        /// The lowest it could be.
        low: u64,
        /// The highest it could be.
        high: u64,
    },
}
