//! The client against members in this process.

mod concurrency;
mod examples;
mod failover;
mod kv;
mod layers;
mod lease;
mod operator;
mod support;
mod watch;
