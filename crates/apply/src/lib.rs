//! What it is: the one place where a committed entry changes state: [`Applier`].
//! What it never does: know of raft's roles, of sockets or of time; `now` is an argument, ids travel in the entry.
//! Entry types: [`Applier`], which takes [`Input`] and gives [`Output`].
//! Owner: the apply thread in production; the simulator calls it in turn.
//! How to test it: `cargo test -p apply`; requests in, outcomes out, state reopened after every step.
//!
//! ```text
//! committed entries --Input--> Applier --Output--> replies, events, proposals, a batch to commit
//! ```
//!
//! An entry's effect depends on the state and on the entry alone: ids and times were chosen by the
//! proposer. What goes wrong is either part of the answer (an [`api::Error`]) or stops the process.

mod applier;
mod commit;
mod compactor;
mod execute;
mod kv;
pub mod legacy;
mod message;
pub mod quota;
mod stats;
mod txn;

pub use applier::{Applier, Options, RestoreError};
pub use compactor::AutoCompaction;
pub use execute::{is_supported, op_name};
pub use message::{
    Alarm, Answer, Command, Compacted, Input, LeaseTtl, OpOutcome, Outcome, Output, RangeOutcome,
    Reply, SnapshotView, TxnOutcome,
};
pub use stats::{OPS, Stats};
pub use txn::{evaluate_read_only, is_read_only, is_serializable};
