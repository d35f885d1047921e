//! What it is: one member without sockets or threads: [`Event`]s in, [`Effect`]s out, over raft.
//! What it never does: read a clock, touch a disk, send a byte, apply an entry; others do what its effects say.
//! Entry types: [`Replica`], [`Event`], [`Effect`].
//! Owner: the consensus thread in production; the simulator calls it in turn.
//! How to test it: `cargo test -p replica`; event scripts in, effects out as text.

mod message;

pub use message::{Effect, Event, Persist, Proposal};
