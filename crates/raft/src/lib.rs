//! What it is: the raft consensus algorithm as etcd has it, wire- and disk-compatible with etcd-io/raft v3.7.
//! What it never does: read a clock, draw randomness, touch a disk or a socket, start a thread, write a log line.
//! Entry types: [`RawNode`], [`Ready`], [`Config`], [`Storage`], [`Message`].
//! Owner: the caller's; in etcd the consensus thread.
//! How to test it: `cargo test -p raft`; scripts of etcd's in `tests/scripts.rs`, schedules in `src/properties.rs`.
//!
//! ```text
//!  tick, propose, read_index ──┐                ┌── hard state, entries, snapshot ──> stable storage ─┐
//!                              ├─> RawNode ─> Ready ── messages ──> peers                             │
//!  step(message of a peer) ────┘      ▲         └── committed entries, read states ──> application ───┤
//!                                     └──────────── advance, or step_local(response) ─────────────────┘
//! ```
//!
//! The library decides; its user does. After any call that may have changed something the user asks
//! [`RawNode::has_ready`] and does what [`RawNode::ready`] returns, in the order that [`Ready`] describes. What is
//! left to the user: the storage, the delivery of messages (they may be lost, doubled and reordered), the state
//! machine, the times of [`RawNode::tick`], snapshots of the state machine, and which members there are.
//!
//! Storage is written in one of two ways. Plainly, each `Ready` is handled as a whole and given back to
//! [`RawNode::advance`]. With [`Config::async_storage_writes`] the work is in messages to an append and an apply
//! thread, several of which may be under way; their responses go to [`RawNode::step_local`] or to the peer that
//! they name.
//!
//! One node on its own:
//!
//! ```
//! use raft::{Config, MemoryStorage, Peer, RawNode};
//!
//! let mut node = RawNode::new(Config::new(1), MemoryStorage::new())?;
//! node.bootstrap(&[Peer { id: 1, ..Peer::default() }])?;
//! let mut applied = Vec::new();
//! let mut handle = |node: &mut RawNode<MemoryStorage>| {
//!     while node.has_ready() {
//!         let ready = node.ready();
//!         // stable storage first
//!         if let Some(hard_state) = ready.hard_state {
//!             node.storage_mut().set_hard_state(hard_state);
//!         }
//!         node.storage_mut().append(&ready.entries);
//!         // then messages, of which a cluster of one has none, then the state machine
//!         applied.extend(ready.committed_entries.iter().map(|entry| entry.data.clone()));
//!         node.advance(ready);
//!     }
//! };
//! handle(&mut node);
//! node.campaign()?;
//! handle(&mut node);
//! node.propose("hello".into())?;
//! handle(&mut node);
//! // the change that adds the member, the entry that opens the term, the proposal
//! assert_eq!(applied.len(), 3);
//! assert_eq!(applied[2], "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Differences from etcd's library are marked `DIFF(etcd)` where they are. None shows in a script; they close holes:
//! a message that cannot come from a correct peer is an error here, not a panic.

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
pub mod trace;
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
