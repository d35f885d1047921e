//! Disk, file and clock: the seams between the deterministic core and the operating system.
