//! What it is: etcd's lessor: leases, the keys attached to them, their expiry and checkpoints.
//! What it never does: read a clock, delete a key, propose or revoke by itself; it says what is due.
//! Entry types: [`Lessor`], made by [`Lessor::restore`].
//! Owner: the apply thread, which alone changes leases; the ticker's `now` comes in as an argument.
//! How to test it: `cargo test -p lease`.
//!
//! What is replicated: which leases exist, their TTL, their remaining TTL as of the last checkpoint,
//! and which keys hang on them. What is not: when they expire. Only the *primary*, the lessor of
//! raft's leader, counts time. It is promoted with all leases full, since it cannot know when the
//! last one renewed them, and proposes the revocation of those that run out; the revocation is
//! applied like any other entry, so that all members delete the same keys at the same revision.
//!
//! `now` is the time since some fixed moment, the same for all calls.

mod codec;
mod lessor;
mod primary;

pub use lessor::{Error, LEASE_TTL_MAX, Lessor, Options, RestoreError, TimeToLive};
pub use primary::RenewError;
