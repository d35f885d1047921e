//! What it is: a judge that gives the same bytes to `http2` and to the `h2` crate: same requests, or both an error.
//! What it never does: open a socket, start a runtime, wait, or draw a number that is not out of its seed.
//! Entry types: [`judge`] for one input, [`generate`] for a seed's, [`shrink`] for a failing one, [`trip`].
//! Owner: whoever calls; nothing is kept from one input to the next.
//! How to test it: `cargo test -p http2-fuzz`; `cargo xtask fuzz` for long, `fuzz/` with libFuzzer.
//!
//! [`trip`] is about bytes that the two write themselves: calls between the halves of one and of the other.
//!
//! Both sides of a judged input read frame by frame, and after each frame must have told their application the same, given up the same
//! stream, or ended the connection. Where one of them need not be as strict as the other, [`allowed`] says why.

pub mod allowed;
mod block;
mod frame;
mod generate;
mod judge;
mod ours;
mod plan;
mod shrink;
mod step;
mod theirs;
mod trips;

pub use generate::generate;
pub use judge::{Disagreement, Tally, judge};
pub use shrink::shrink;
pub use trips::trip;
