//! The log and the snapshot files on a disk in memory.

mod bits;
mod crash;
mod format;
mod log;
mod snap;
mod support;
