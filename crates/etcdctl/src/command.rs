//! The commands. Each reads its flags and arguments in etcd's order, since the first thing that is wrong is what is said.

pub(crate) mod alarm;
pub(crate) mod auth;
pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod concurrency;
pub(crate) mod downgrade;
pub(crate) mod endpoint;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod mirror;
pub(crate) mod permission;
pub(crate) mod snapshot;
pub(crate) mod top;
pub(crate) mod txn;
pub(crate) mod user;
pub(crate) mod watch;
