//! The client against members in this process.

mod concurrency;
mod failover;
mod kv;
mod lease;
mod operator;
mod support;
mod watch;
