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
//! # What it does, and what is left to you
//!
//! The library decides; its user does. It elects leaders (with pre-vote and check of the quorum if you ask for them),
//! replicates the log, says what is committed, changes the configuration, confirms reads and hands leadership over. Left
//! to you are:
//!
//! - *time*: call [`RawNode::tick`] at a regular interval, say 100 ms;
//! - *the network*: deliver [`Ready::messages`] to [`RawNode::step`] of the member that each names. They may be lost,
//!   doubled, delayed and reordered, only not forged or altered. [`Message::encode_to_vec`] has etcd's bytes;
//! - *the disk*: keep what a [`Ready`] says, and show it through [`Storage`]. What was reported as written must be there
//!   after a crash: all that raft promises rests on it;
//! - *the state machine*: apply the committed entries in their order, make snapshots, and cut the log off behind them
//!   ([`MemoryStorage`] shows how);
//! - *identity*: an id of a member that was removed, or whose disk was lost, is never used again.
//!
//! A `RawNode` is one value with methods, for a program that has one loop. For several threads or async tasks there is
//! the crate `raft_node`, whose `Node` is the same behind a handle.
//!
//! # A Ready, and the order in which it is handled
//!
//! After any call that may have changed something ask [`RawNode::has_ready`]; then take [`RawNode::ready`] and
//!
//! 1. write `snapshot`, `entries` and `hard_state` to the disk, with one sync if `must_sync`, and let the storage show
//!    them. A crash before the end of this step loses only what nobody was told of;
//! 2. send `messages`. They promise what was written in step 1: a vote, an acknowledgement. (A leader's appends to others
//!    promise nothing and may leave while it still writes: thesis §10.2.1);
//! 3. install `snapshot` in place of the state machine's state, and apply `committed_entries`. A change of the
//!    configuration goes to [`RawNode::apply_conf_change`] as well. Answer clients and reads whose index is applied;
//! 4. give the `Ready` back to [`RawNode::advance`].
//!
//! Several calls may come before one `Ready`, and it then holds the work of all: that is how many proposals share one
//! sync.
//!
//! # Two ways of writing
//!
//! *In turn*, as above: nothing new is handed out before step 4. Simple, and enough where the disk is fast.
//!
//! *Asynchronously*, with [`Config::async_storage_writes`]: the work comes as messages, to [`LOCAL_APPEND_THREAD`] what
//! is to be written and to [`LOCAL_APPLY_THREAD`] what is to be applied, and the next `Ready` may be taken at once, so
//! that disk, state machine and network work at the same time. Each of the two handles its messages in their order; when
//! one is done (for an append: synced) its `responses` are delivered, those to this member by [`RawNode::step_local`],
//! others over the network. `advance` is not called. Entries are applied only when they are durable here. See
//! etcd-io/raft's doc.go, "Usage with Asynchronous Storage Writes".
//!
//! # Examples
//!
//! `examples/kv.rs` is a key-value store on three members, from its foundation to a member that missed so much that it
//! is given a snapshot: one file, to be read from top to bottom. (`cargo run -p raft --example kv`)
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
//! # Where things come from
//!
//! "Thesis" is Diego Ongaro, *Consensus: Bridging Theory and Practice*, 2014. Names, messages, texts of log lines and
//! what is sent when are those of etcd-io/raft v3.7: [`script`] replays its scripts to the byte.
//!
//! | subject | thesis | here |
//! |---|---|---|
//! | terms, votes, elections | §3.4, §3.6.1 | [`RawNode::tick`], [`RawNode::campaign`] |
//! | replication, commitment | §3.5, §3.6.2 | [`RawNode::propose`], [`tracker::Progress`] |
//! | what must be durable | §3.8 | [`HardState`], [`Ready`] |
//! | transfer of leadership | §3.10 | [`RawNode::transfer_leader`] |
//! | membership, joint consensus, learners | §4 | [`confchange`], [`ConfChangeV2`] |
//! | members that disturb | §4.2.3, §9.6 | [`Config::check_quorum`], [`Config::pre_vote`] |
//! | snapshots | §5 | [`Snapshot`], [`MemoryStorage::create_snapshot`] |
//! | reads without the log | §6.4 | [`RawNode::read_index`], [`ReadOnlyOption`] |
//! | pipelining, writing in parallel | §10.2 | [`tracker::Inflights`], [`Config::async_storage_writes`] |
//!
//! # What is wrong
//!
//! What a peer or a client may get wrong is an [`Error`]; what only your own program can (a storage that returns other
//! entries than it was given, an `advance` without a `Ready`) is an assertion with a text that says what was broken.
//! `tests/bad_input.rs` has all of them.
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
pub use status::{BasicStatus, OwnedStatus, Status};
pub use storage::{MemoryStorage, Storage, StorageError};
