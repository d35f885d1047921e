//! The raft consensus library: sans-io, seeded, wire-compatible with etcd's.
