//! raftpb: what can be read can be written and read again.

use raft::{
    ConfChange, ConfChangeV2, ConfState, Entry, HardState, Message, Snapshot, SnapshotMetadata,
};

macro_rules! again {
    ($data:expr, $($name:ident)*) => {
        $(if let Ok(value) = $name::decode_slice($data) {
            assert_eq!($name::decode_slice(&value.encode_to_vec()), Ok(value));
        })*
    };
}

pub fn run(data: &[u8]) {
    again!(data, ConfChange ConfChangeV2 ConfState Entry HardState Message Snapshot SnapshotMetadata);
}
