//! What it is: whole clusters in one thread, out of one seed: members, network, disks, clocks, clients, and judges.
//! What it never does: model a member. It runs the code that production runs, from `raft` to `replica`.
//! Entry types: [`run::run`], [`run::Report`], [`plan::Plan`].
//! Owner: the caller's thread; a run shares nothing with another.
//! How to test it: `cargo test -p sim`; `cargo xtask sim --seeds 1000`.
//!
//! ```text
//! seed -> Plan -> World: queue of actions by time -> members' stages, messages, clients, faults
//!                          every step -> Observer, clients and watchers judge -> Report
//! ```
//!
//! What is a thread in `server` is a stage here (`process.rs`), which takes from its queue when the
//! world says so. Everything that could come in another order in production is drawn from the seed:
//! when a stage runs and how much it takes, when a message arrives, what survives a power failure.
//! Nothing depends on the order of a hash map or on an address, so a seed is a run.
//!
//! First there are faults, and only safety is asked for. Then they end, and the members must serve
//! within a bound, and come to agree.

pub mod check;
pub mod clients;
pub mod coverage;
pub mod crash;
pub mod mask;
pub mod membership;
pub mod nemesis;
pub mod net;
pub mod observer;
pub mod plan;
pub mod process;
pub mod queue;
pub mod rng;
pub mod rot;
pub mod run;
pub mod shrink;
pub mod trace;
pub mod watchers;
pub mod world;
