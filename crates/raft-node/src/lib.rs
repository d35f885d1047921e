//! What it is: etcd-io/raft's `Node`: a [`raft::RawNode`] behind a handle that threads and async tasks share.
//! What it never does: start a thread, read a clock except for a timeout, touch a disk or a socket.
//! Entry types: [`Node`], and what its waiting calls return: [`Proposal`], [`NextReady`].
//! Owner: whoever has a clone of the handle; the member lives behind one lock.
//! How to test it: `cargo test -p raft-node`.
//!
//! etcd's `Node` is a goroutine that owns the state machine and takes one request after another out of channels.
//! Here there is no such goroutine: a call takes the lock, does its step and returns, so that it costs no switch of
//! threads, and no runtime is needed. (The lock is this crate's reason to exist; [`raft`] itself has none.) It
//! is held for one step of the state machine and never while something is waited for.
//!
//! # Two kinds of calls
//!
//! *Plain calls* ([`tick`](Node::tick), [`campaign`](Node::campaign), [`advance`](Node::advance),
//! [`status`](Node::status) and so on) do their work at once, on a thread or in a task alike.
//!
//! *Waiting calls* return a future: [`propose`](Node::propose), [`propose_conf_change`](Node::propose_conf_change)
//! and [`step`](Node::step) wait while there is no leader, [`ready`](Node::ready) while there is nothing to do.
//! A task awaits it, in any executor; a thread calls its `wait`, or `wait_for` with a timeout. To give up is to
//! drop the future: then the call has had no effect, and nobody who waits as well is held up.
//!
//! # The loop of the application
//!
//! ```
//! use std::time::Duration;
//!
//! use raft::{Config, MemoryStorage, Peer};
//! use raft_node::{Error, Node};
//!
//! let node = Node::start(Config::new(1), MemoryStorage::new(), &[Peer { id: 1, ..Peer::default() }])?;
//!
//! // One thread or task handles what there is to do, in the order that raft::Ready describes.
//! let handler = node.clone();
//! let state_machine = std::thread::spawn(move || {
//!     let mut applied = Vec::new();
//!     loop {
//!         let ready = match handler.ready().wait() {
//!             Ok(ready) => ready,
//!             Err(Error::Stopped) => return applied,
//!             Err(error) => panic!("{error}"),
//!         };
//!         handler.with_storage(|storage| {
//!             storage.append(&ready.entries);
//!             if let Some(hard_state) = ready.hard_state {
//!                 storage.set_hard_state(hard_state);
//!             }
//!         });
//!         // a cluster of one has no messages to send
//!         let data = ready.committed_entries.iter().map(|entry| entry.data.clone());
//!         applied.extend(data.filter(|data| data == "hello"));
//!         let is_done = !applied.is_empty();
//!         handler.advance(ready);
//!         if is_done {
//!             handler.stop();
//!         }
//!     }
//! });
//!
//! // Others propose, and wait while there is no leader. Here the clock ticks each time that this took too long.
//! while node.propose("hello".into()).wait_for(Duration::from_millis(1)).is_err() {
//!     node.tick();
//! }
//! assert_eq!(state_machine.join().unwrap(), ["hello"]);
//! assert_eq!(node.propose("late".into()).wait(), Err(Error::Stopped));
//! # Ok::<(), raft_node::StartError>(())
//! ```
//!
//! Another thread or task calls [`tick`](Node::tick) at a regular interval, and whoever receives from the network
//! calls [`step`](Node::step). What a [`Ready`](raft::Ready) is, and the two ways of writing to storage, are
//! explained in [`raft`].
//!
//! Left out: etcd's contexts, for which futures and timeouts stand; a cancelled context is a dropped future.

mod call;
mod error;
mod node;
mod shared;

pub use call::{NextReady, Proposal};
pub use error::{Error, StartError};
pub use node::Node;
