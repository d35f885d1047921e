//! What programs on several machines agree on through the cluster: who holds a lock, who leads, who is next.
//!
//! Keys and the order of steps are those of etcd's `concurrency` and `recipes`, so that programs in Go and in Rust
//! share a lock or a queue. What belongs to a [`Session`] ends with it: its keys have its lease.

mod barrier;
mod election;
mod key;
mod lock_service;
mod mutex;
mod queue;
mod rw_mutex;
mod session;
mod stm;

pub use api::v3lockpb::{LockResponse, UnlockResponse};
pub use barrier::{Barrier, DoubleBarrier};
pub use election::{Election, Observer};
pub use mutex::Mutex;
pub use queue::{PriorityQueue, Queue};
pub use rw_mutex::RwMutex;
pub use session::{Session, SessionBuilder};
pub use stm::{Isolation, Stm, StmTxn};
