//! The raft consensus library: sans-io, seeded, wire-compatible with etcd's.

pub mod pb;

pub use pb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
    DecodeError, Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
};
