//! The members and the version, and what changes them.

use std::collections::{BTreeMap, BTreeSet};

use backend::{Backend, Bucket};
use bytes::Bytes;
use mutant::mutant;
use raft::{ConfChange, ConfChangeType, ConfState};

use crate::member::Context;
use crate::names::{self, Names};
use crate::persist::{self, RestoreError};
use crate::{
    Attributes, InitialCluster, InitialError, JsonError, Member, Version, cluster_id, member_id,
};

/// What stands in bucket `members_removed` behind each id.
pub const MEMBERS_REMOVED_VALUE: &[u8] = b"removed";
/// How many learners a cluster may have, unless `--max-learners` says otherwise.
const LEARNERS_MAX: usize = 1;

/// Why a configuration change is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfChangeError {
    /// An id never comes back.
    #[error("membership: ID removed")]
    IdRemoved,
    /// There is such a member.
    #[error("membership: ID exists")]
    IdExists,
    /// There is no such member.
    #[error("membership: ID not found")]
    IdNotFound,
    /// Another member has the URL.
    #[error("membership: peerURL exists")]
    PeerUrlExists,
    /// Nobody would have a vote. Changes that were each checked before they were proposed can come to this.
    #[error("membership: the last voting member can't be removed")]
    LastVoter,
    /// It has a vote already.
    #[error("membership: can only promote a learner member")]
    MemberNotLearner,
    /// One more learner than allowed.
    #[error("membership: too many learner members in cluster")]
    TooManyLearners,
    /// The context is not the JSON of a member.
    #[error("failed to unmarshal member: {0}")]
    Context(#[from] JsonError),
    /// The context is about another member.
    #[error("got different member ID {0:x} and {1:x}")]
    OtherId(u64, u64),
}

/// Why a change is not even proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReconfigurationError {
    /// After it there might be no quorum of members that have started.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Too many members are not connected.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
}

/// For how long this member has been connected to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connected {
    /// It is not.
    No,
    /// Not for long enough to count on it.
    Lately,
    /// For a while.
    Long,
}

/// What a configuration change did, for the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// A new member, voter or learner.
    Added(Member),
    /// A learner got its vote.
    Promoted(u64),
    /// A member is gone for good.
    Removed(u64),
    /// A member has new peer URLs.
    Updated(Member),
}

/// Whether the cluster is on its way to an older version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downgrade {
    /// The version to go to, as `3.6.0`; empty if not enabled.
    pub target_version: String,
    /// Whether it is under way.
    pub enabled: bool,
}

/// Who is in the cluster and at which version it runs.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    local_id: u64,
    cluster_id: u64,
    max_learners: Option<usize>,
    version: Option<Version>,
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    downgrade: Downgrade,
}

impl Cluster {
    /// A new cluster of these members. Nothing is in the backend yet: the members get there as the
    /// first entries of the log are applied.
    ///
    /// # Errors
    /// If two members get the same id.
    pub fn bootstrap(initial: &InitialCluster, token: &str) -> Result<Self, InitialError> {
        let mut cluster = Self::default();
        for (name, urls) in &initial.members {
            let id = member_id(urls, token);
            if id == 0 {
                return Err(InitialError::NoId);
            }
            let member =
                Member { id, name: name.clone(), peer_urls: urls.clone(), ..Member::default() };
            if cluster.members.insert(id, member).is_some() {
                return Err(InitialError::IdenticalId(id));
            }
        }
        cluster.cluster_id = cluster_id(cluster.members.keys().copied());
        Ok(cluster)
    }

    /// A cluster as another member described it.
    pub fn from_members(cluster_id: u64, members: impl IntoIterator<Item = Member>) -> Self {
        let members = members.into_iter().map(|member| (member.id, member)).collect();
        Self { cluster_id, members, ..Self::default() }
    }

    /// The cluster as the backend has it; [`Cluster::set_ids`] adds what stands in the log.
    ///
    /// # Errors
    /// If the database is damaged.
    pub fn restore(backend: &Backend) -> Result<Self, RestoreError> {
        let reader = backend.reader();
        let (members, removed) = persist::load_members(&reader)?;
        Ok(Self {
            version: persist::load_version(&reader)?,
            downgrade: persist::load_downgrade(&reader)?,
            members,
            removed,
            ..Self::default()
        })
    }

    /// Which member and which cluster this is.
    pub fn set_ids(&mut self, local_id: u64, cluster_id: u64) {
        self.local_id = local_id;
        self.cluster_id = cluster_id;
    }

    /// Sets how many learners the cluster may have, at first 1.
    pub fn set_max_learners(&mut self, max: usize) {
        self.max_learners = Some(max);
    }

    /// How many learners the cluster may have.
    pub fn max_learners(&self) -> usize {
        self.max_learners.unwrap_or(LEARNERS_MAX)
    }

    /// What must be looked up before [`Cluster::assign_ids`]: each `host:port` whose host is a name, of members for
    /// which there is no other with the same URLs.
    #[must_use]
    pub fn names_to_resolve(&self, existing: &Self) -> BTreeSet<String> {
        let lone = |some: &Self, others: &Self| {
            let is_lone = |member: &&Member| {
                let mut others = others.members.values();
                !others.any(|other| names::is_same(&member.peer_urls, &other.peer_urls))
            };
            let lone = some.members.values().filter(is_lone);
            names::named(lone.flat_map(|member| &member.peer_urls))
        };
        lone(self, existing).into_iter().chain(lone(existing, self)).collect()
    }

    /// Takes the ids of a running cluster over for members with the same peer URLs.
    ///
    /// # Errors
    /// If the members are not the same.
    pub fn assign_ids(&mut self, existing: &Self, names: &Names) -> Result<(), InitialError> {
        if existing.members.len() != self.members.len() {
            return Err(InitialError::UnequalCount);
        }
        let mut locals: Vec<Member> = std::mem::take(&mut self.members).into_values().collect();
        for member in existing.members.values() {
            let mut reason = String::from("<nil>");
            let found = locals.iter_mut().find(|local| {
                let same = names.compare(&sorted(&member.peer_urls), &sorted(&local.peer_urls));
                same.map_err(|err| reason = err).is_ok()
            });
            let Some(local) = found else {
                let urls = member.peer_urls.join(" ");
                return Err(InitialError::NoMatch { id: member.id, urls, reason });
            };
            local.id = member.id;
        }
        self.members = locals.into_iter().map(|member| (member.id, member)).collect();
        Ok(())
    }

    /// This member's id.
    pub fn local_id(&self) -> u64 {
        self.local_id
    }

    /// The cluster's id.
    pub fn id(&self) -> u64 {
        self.cluster_id
    }

    /// The members by ascending id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// The members that have a vote, by ascending id.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| !member.is_learner)
    }

    /// The member with this id.
    pub fn member(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The first member with this name.
    pub fn member_by_name(&self, name: &str) -> Option<&Member> {
        self.members.values().find(|member| member.name == name)
    }

    /// Whether there was such a member and it was removed.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// The ids of removed members, ascending.
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.removed.iter().copied()
    }

    /// Whether this member has no vote.
    pub fn is_local_learner(&self) -> bool {
        self.member(self.local_id).is_some_and(|member| member.is_learner)
    }

    /// The peer URLs of all members, sorted.
    pub fn peer_urls(&self) -> Vec<String> {
        sorted(self.members.values().flat_map(|member| &member.peer_urls))
    }

    /// The client URLs of all members, sorted.
    pub fn client_urls(&self) -> Vec<String> {
        sorted(self.members.values().flat_map(|member| &member.client_urls))
    }

    /// The version that all members can do; `None` until the first leader has set it.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Whether a downgrade is under way.
    pub fn downgrade(&self) -> &Downgrade {
        &self.downgrade
    }

    /// Whether a server of this version may be in the cluster; the text of the error is etcd's.
    ///
    /// # Errors
    /// If the cluster is at a later version than the server.
    pub fn verify_server_version(&self, server: Version) -> Result<(), &'static str> {
        match self.version {
            Some(cluster) if server.cluster() < cluster => {
                Err("invalid downgrade; server version is lower than determined cluster version")
            }
            _ => Ok(()),
        }
    }

    /// The members as raft's configuration, as they are when no joint change is under way.
    pub fn conf_state(&self) -> ConfState {
        let (learners, voters): (Vec<&Member>, Vec<&Member>) =
            self.members.values().partition(|member| member.is_learner);
        ConfState {
            voters: voters.into_iter().map(|member| member.id).collect(),
            learners: learners.into_iter().map(|member| member.id).collect(),
            auto_leave: Some(false),
            ..ConfState::default()
        }
    }

    /// Whether a quorum of voters would be started after one more, not started, is added. A single
    /// member may always get a second one.
    pub fn is_ready_to_add_voter(&self) -> bool {
        let (voters, started) = self.count_voters(|_| true);
        (voters == 1 && started == 1) || started > voters.div_ceil(2)
    }

    /// Whether a quorum of voters would be started after this one is gone.
    pub fn is_ready_to_remove_voter(&self, id: u64) -> bool {
        let (voters, started) = self.count_voters(|member| member.id != id);
        started > voters / 2
    }

    /// Whether a quorum of voters would be started after a learner, counted as started, has its vote.
    pub fn is_ready_to_promote(&self) -> bool {
        let (voters, started) = self.count_voters(|_| true);
        started >= voters.div_ceil(2)
    }

    /// The checks that a member makes before it proposes a change, under
    /// `--strict-reconfig-check`: no change may endanger the quorum. `connected` tells of this
    /// member's connections to others.
    ///
    /// # Errors
    /// See [`ReconfigurationError`].
    pub fn check_reconfiguration(
        &self,
        change: &ConfChange,
        connected: impl Fn(u64) -> Connected,
    ) -> Result<(), ReconfigurationError> {
        let id = change.node_id;
        let enough = |is_ready: bool| {
            if is_ready { Ok(()) } else { Err(ReconfigurationError::NotEnoughStarted) }
        };
        let healthy = |is_healthy: bool| {
            if is_healthy { Ok(()) } else { Err(ReconfigurationError::Unhealthy) }
        };
        let is_active = |id: u64| id == self.local_id || connected(id) == Connected::Long;
        let voters = self.voters().count();
        let active = || self.voters().filter(|member| is_active(member.id)).count();
        match change.change_type {
            ConfChangeType::AddNode if self.member(id).is_some() => {
                enough(self.is_ready_to_promote())
            }
            ConfChangeType::AddNode | ConfChangeType::AddLearnerNode => {
                if change.change_type == ConfChangeType::AddNode {
                    enough(self.is_ready_to_add_voter())?;
                }
                // The new one counts as one that is not there. A lone member may always get company.
                healthy(voters == 1 || active() > voters.div_ceil(2))
            }
            ConfChangeType::RemoveNode if self.member(id).is_some_and(|m| !m.is_learner) => {
                enough(self.is_ready_to_remove_voter(id))?;
                if id != self.local_id && connected(id) == Connected::No {
                    // It is down, and so no part of the active quorum.
                    return Ok(());
                }
                healthy(active().saturating_sub(1) > voters.saturating_sub(1) / 2)
            }
            _ => Ok(()),
        }
    }

    fn count_voters(&self, counts: impl Fn(&Member) -> bool) -> (usize, usize) {
        let voters = self.voters().filter(|member| counts(member));
        voters.fold((0, 0), |(all, started), member| {
            (all + 1, started + usize::from(member.is_started()))
        })
    }

    /// Checks a change against the members as they are.
    ///
    /// # Errors
    /// See [`ConfChangeError`]. A change that comes out of the log and is refused still goes to
    /// raft, with node id 0, so that it counts as done.
    pub fn validate_conf_change(&self, change: &ConfChange) -> Result<(), ConfChangeError> {
        self.plan(change).map(drop)
    }

    /// What a change is to do, if it is valid.
    fn plan(&self, change: &ConfChange) -> Result<MembershipChange, ConfChangeError> {
        let id = change.node_id;
        if self.removed.contains(&id) {
            return Err(ConfChangeError::IdRemoved);
        }
        let current = self.members.get(&id);
        match change.change_type {
            ConfChangeType::AddNode | ConfChangeType::AddLearnerNode => {
                let context = Context::from_json(&change.context)?;
                if context.is_promote {
                    let learner = current.ok_or(ConfChangeError::IdNotFound)?;
                    if !learner.is_learner {
                        return Err(ConfChangeError::MemberNotLearner);
                    }
                    expect_id(id, &context.member)?;
                    return Ok(MembershipChange::Promoted(id));
                }
                if current.is_some() {
                    return Err(ConfChangeError::IdExists);
                }
                self.expect_new_urls(&context.member)?;
                let is_learner = change.change_type == ConfChangeType::AddLearnerNode;
                if is_learner && context.member.is_learner {
                    self.expect_room_for_learner()?;
                }
                expect_id(id, &context.member)?;
                Ok(MembershipChange::Added(context.member))
            }
            ConfChangeType::RemoveNode => {
                let member = current.ok_or(ConfChangeError::IdNotFound)?;
                // DIFF(etcd): raft panics there, on every member and at each of its starts.
                if !member.is_learner && self.voters().count() == 1 {
                    return Err(ConfChangeError::LastVoter);
                }
                Ok(MembershipChange::Removed(id))
            }
            ConfChangeType::UpdateNode => {
                let mut member = current.ok_or(ConfChangeError::IdNotFound)?.clone();
                let update = Member::from_json(&change.context)?;
                expect_id(id, &update)?;
                self.expect_new_urls(&update)?;
                // Only the URLs: a context says nothing of the vote (etcd issue 21694).
                member.peer_urls = update.peer_urls;
                member.is_learner &= !mutant!("21694");
                Ok(MembershipChange::Updated(member))
            }
        }
    }

    fn expect_new_urls(&self, member: &Member) -> Result<(), ConfChangeError> {
        let mut others = self.members.values().filter(|other| other.id != member.id);
        if others.any(|other| member.peer_urls.iter().any(|url| other.peer_urls.contains(url))) {
            return Err(ConfChangeError::PeerUrlExists);
        }
        Ok(())
    }

    fn expect_room_for_learner(&self) -> Result<(), ConfChangeError> {
        let learners = self.members.values().filter(|member| member.is_learner).count();
        if learners >= self.max_learners() {
            return Err(ConfChangeError::TooManyLearners);
        }
        Ok(())
    }

    /// Applies a committed change to the members and to the backend.
    ///
    /// # Errors
    /// As [`Cluster::validate_conf_change`]; nothing has changed then.
    pub fn apply_conf_change(
        &mut self,
        change: &ConfChange,
        backend: &mut Backend,
    ) -> Result<MembershipChange, ConfChangeError> {
        let planned = self.plan(change)?;
        match &planned {
            MembershipChange::Added(member) | MembershipChange::Updated(member) => {
                persist::save_member(member, backend);
                self.members.insert(member.id, member.clone());
            }
            MembershipChange::Promoted(id) => {
                let member = self.members.get_mut(id).expect("planned for a member");
                member.is_learner = false;
                if !mutant!("19557") {
                    persist::save_member(member, backend);
                }
            }
            MembershipChange::Removed(id) => {
                self.members.remove(id);
                self.removed.insert(*id);
                persist::remove_member(*id, backend);
            }
        }
        Ok(planned)
    }

    /// Applies what a member says of itself. Returns whether there is such a member.
    pub fn update_attributes(
        &mut self,
        id: u64,
        attributes: Attributes,
        backend: &mut Backend,
    ) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return false };
        member.name = attributes.name;
        member.client_urls = attributes.client_urls;
        persist::save_member(member, backend);
        true
    }

    /// Applies a new cluster version.
    pub fn set_version(&mut self, version: Version, backend: &mut Backend) {
        self.version = Some(version);
        let text = version.to_string().into();
        backend.put(Bucket::Cluster, persist::CLUSTER_VERSION_KEY, text);
    }

    /// Applies the begin or the end of a downgrade.
    pub fn set_downgrade(&mut self, downgrade: Downgrade, backend: &mut Backend) {
        persist::save_downgrade(&downgrade, backend);
        self.downgrade = downgrade;
    }

    /// Writes [`Cluster::conf_state`] to bucket `meta`.
    pub fn save_conf_state(&self, backend: &mut Backend) {
        persist::save_conf_state(&self.conf_state(), backend);
    }

    /// Writes all members to the backend in place of those that it has, removed ones included: for
    /// a snapshot that begins a new cluster.
    ///
    /// # Errors
    /// If the database is damaged.
    pub fn replace_members(&self, backend: &mut Backend) -> Result<(), RestoreError> {
        persist::trim_members(backend)?;
        for member in self.members.values() {
            persist::save_member(member, backend);
        }
        Ok(())
    }

    /// The membership as JSON of the v2 store: the data of a `.snap` file.
    pub fn v2_snapshot(&self) -> Bytes {
        crate::v2store::encode(self).into()
    }
}

fn expect_id(id: u64, member: &Member) -> Result<(), ConfChangeError> {
    if member.id == id { Ok(()) } else { Err(ConfChangeError::OtherId(id, member.id)) }
}

fn sorted<'a>(urls: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut urls: Vec<String> = urls.into_iter().cloned().collect();
    urls.sort_unstable();
    urls
}
