//! The raft consensus library: sans-io, seeded, wire-compatible with etcd's.
#![doc = ""]

pub mod confchange;
mod config;
pub mod describe;
mod error;
mod log;
mod logger;
pub mod pb;
#[cfg(test)]
mod properties;
pub mod quorum;
mod raft;
mod raw_node;
mod read_only;
mod rng;
pub mod script;
mod status;
mod storage;
pub mod tracker;

pub use confchange::ConfChangeError;
pub use config::{
    Config, ConfigError, LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, NO_LIMIT, NONE, ReadOnlyOption,
    is_local_target,
};
pub use error::{BootstrapError, Error};
pub use logger::{Level, LogLine};
pub use pb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
    DecodeError, Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
};
pub use raft::{SoftState, StateType};
pub use raw_node::{Peer, RawNode, Ready, SnapshotStatus};
pub use read_only::ReadState;
pub use status::{BasicStatus, Status};
pub use storage::{MemoryStorage, Storage, StorageError};
