//! The lessor: leases, their keys, expiry and checkpoints.
