//! What it is: the one place where a committed entry changes state: [`Applier`].
//! What it never does: know of raft's roles, of sockets or of time; `now` is an argument, ids travel in the entry.
//! Entry types: [`Applier`], which takes [`Input`] and gives [`Output`].
//! Owner: the apply thread in production; the simulator calls it in turn.
//! How to test it: `cargo test -p apply`; requests in, outcomes out, state reopened after every step.

mod message;

pub use message::{
    Alarm, Answer, Command, Input, LeaseTtl, OpOutcome, Outcome, Output, RangeOutcome, Reply,
    SnapshotView, TxnOutcome,
};
