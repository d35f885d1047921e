//! `/debug/vars`, as Go's expvar shows it.

use std::sync::atomic::Ordering;

use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::Page;
use crate::State;

/// The command line, the limit of file descriptors and raft's status. There is no Go memory
/// manager here, so that `memstats` is empty.
pub(super) fn page_of(state: &State) -> serde_json::Value {
    let leader = state.leader.load(Ordering::Relaxed);
    let raft_state = match leader {
        _ if state.is_learner.load(Ordering::Relaxed) => "StateFollower",
        leader if leader == state.member_id => "StateLeader",
        _ => "StateFollower",
    };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    json!({
        "cmdline": std::env::args().collect::<Vec<_>>(),
        "file_descriptor_limit": limit,
        "memstats": {},
        "raft.status": {
            "id": format!("{:x}", state.member_id),
            "term": state.term.load(Ordering::Relaxed),
            "commit": state.committed.load(Ordering::Relaxed),
            "lead": format!("{leader:x}"),
            "raftState": raft_state,
            "applied": state.applied.load(Ordering::Relaxed),
            "progress": {},
            "leadtransferee": "0",
        },
    })
}

pub(super) fn page(state: &State) -> Page {
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    super::page(StatusCode::OK, kind, page_of(state).to_string())
}
