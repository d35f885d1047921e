//! The `etcd` binary as a process: what its clients, its operators and its disk see of it.

#![expect(clippy::print_stderr, reason = "tells of what is skipped")]

mod client;
mod cluster;
mod corruption;
mod crash;
mod disk;
mod mistakes;
mod process;
mod quota;
mod stall;
mod support;
