//! Tests of the store and the hub over a real backend on a disk in memory.

mod concurrent;
mod damage;
mod harness;
mod model;
mod script;
mod store;
mod until;
mod watch;
