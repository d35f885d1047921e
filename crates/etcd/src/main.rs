//! The `etcd` binary: flags to configuration to a running member.

fn main() {}
