//! What a member knows of itself and, leading, of the others.

use std::fmt;

use crate::pb::HardState;
use crate::raft::{SoftState, StateType};
use crate::tracker::{Config, ProgressMap};

/// The state of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BasicStatus {
    /// The member.
    pub id: u64,
    /// Its term, vote and commit index.
    pub hard_state: HardState,
    /// Its leader and role.
    pub soft_state: SoftState,
    /// Last index applied.
    pub applied: u64,
    /// To whom it is handing leadership over, 0 for nobody.
    pub lead_transferee: u64,
}

/// The state of a member with its view of the cluster. It borrows from the member and so costs nothing;
/// [`to_owned`](Self::to_owned) makes a copy to keep.
#[derive(Clone, Copy, Debug)]
pub struct Status<'a> {
    /// Of itself.
    pub basic: BasicStatus,
    /// The configuration in force.
    pub config: &'a Config,
    /// Of each member, on the leader only.
    pub progress: Option<&'a ProgressMap>,
}

/// A [`Status`] that borrows from nothing.
#[derive(Clone, Debug)]
pub struct OwnedStatus {
    /// Of itself.
    pub basic: BasicStatus,
    /// The configuration in force.
    pub config: Config,
    /// Of each member, on the leader only.
    pub progress: Option<ProgressMap>,
}

impl Status<'_> {
    /// Whether the member leads.
    pub fn is_leader(&self) -> bool {
        self.basic.soft_state.raft_state == StateType::Leader
    }

    /// A copy to keep.
    pub fn to_owned(&self) -> OwnedStatus {
        let Self { basic, config, progress } = *self;
        OwnedStatus { basic, config: config.clone(), progress: progress.cloned() }
    }
}

impl OwnedStatus {
    /// The same, borrowed.
    pub fn as_status(&self) -> Status<'_> {
        let Self { basic, config, progress } = self;
        Status { basic: *basic, config, progress: progress.as_ref() }
    }

    /// Whether the member leads.
    pub fn is_leader(&self) -> bool {
        self.as_status().is_leader()
    }
}

impl fmt::Display for OwnedStatus {
    /// As [`Status`] is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_status().fmt(f)
    }
}

impl fmt::Display for Status<'_> {
    /// JSON, as etcd prints it, with the members in the order of their ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BasicStatus { id, hard_state, soft_state, applied, lead_transferee } = &self.basic;
        write!(
            f,
            r#"{{"id":"{id:x}","term":{},"vote":"{:x}","commit":{},"lead":"{:x}","raftState":"{}","applied":{applied},"progress":{{"#,
            hard_state.term,
            hard_state.vote,
            hard_state.commit,
            soft_state.lead,
            soft_state.raft_state,
        )?;
        for (i, (id, progress)) in self.progress.iter().flat_map(|all| all.iter()).enumerate() {
            let separator = if i > 0 { "," } else { "" };
            write!(
                f,
                r#"{separator}"{id:x}":{{"match":{},"next":{},"state":"{}"}}"#,
                progress.match_index, progress.next_index, progress.state
            )?;
        }
        write!(f, r#"}},"leadtransferee":"{lead_transferee:x}"}}"#)
    }
}
