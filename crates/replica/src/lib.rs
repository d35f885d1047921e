//! What it is: one member without sockets or threads: [`Event`]s in, [`Effect`]s out, over raft.
//! What it never does: read a clock, touch a disk, send a byte, apply an entry; others do what its effects say.
//! Entry types: [`Replica`], [`Event`], [`Effect`].
//! Owner: the consensus thread in production; the simulator calls it in turn.
//! How to test it: `cargo test -p replica`; event scripts in, effects out as text.
//!
//! ```text
//! Event --handle--> RawNode (async storage writes) --flush--> Effect, Effect, ...
//! ```
//!
//! The order of effects is the ordering rule: an effect may be begun once those before it were
//! handed over, and what must wait for a write is among the responses of its [`Persist`].

pub mod boot;
mod log_writer;
mod message;
mod reads;
mod replica;
mod writes;

pub use log_writer::LogWriter;
pub use message::{ConfProposal, Effect, Event, LogStep, Persist, Proposal};
pub use replica::{Boot, BootError, HELD_PROPOSALS_MAX, INFLIGHT_MESSAGES_MAX, Options, Replica};
