//! Members come and go while everything else happens.

use api::etcdserverpb::AlarmRequest;
use api::etcdserverpb::alarm_request::AlarmAction;
use api::internal::{InternalRequestRef, OpRef};
use api::wire::Encode;
use bytes::Bytes;
use cluster::{Connected, Member, member_id, promote_context};
use prost::Message;
use raft::{ConfChange, ConfChangeType};
use replica::{ConfProposal, Event, Proposal};

use crate::nemesis::Fault;
use crate::plan::{MS, SECOND};
use crate::process::Identity;
use crate::world::{Action, Site, World};

/// The most places, those of removed members included.
const SITES_MAX: usize = 16;
/// The most places without those of removed members.
const SITES_ALIVE_MAX: usize = 7;

/// How often an operator tries to give a learner its vote.
const MENTOR_PATIENCE: u64 = 30;

/// A change of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new member without a vote.
    AddLearner,
    /// A new member with a vote.
    AddVoter,
    /// A learner gets its vote.
    Promote,
    /// A member goes.
    Remove,
    /// A member has a new URL.
    Update,
}

impl World {
    /// Asks member `site` for a change, if that makes sense. Whether it did.
    pub fn change_members(&mut self, change: Change, site: usize) -> bool {
        let Some(process) = &self.sites[site].process else { return false };
        let cluster = process.applier.cluster();
        let ids: Vec<u64> = cluster.members().map(|member| member.id).collect();
        let learners: Vec<u64> =
            cluster.members().filter(|member| member.is_learner).map(|member| member.id).collect();
        let voters = cluster.voters().count();
        if ids.is_empty() || (change == Change::Remove && voters == 2) {
            // If the other one never hears that it is alone, it waits for the removed one's vote
            // for ever, as in etcd.
            return false;
        }
        let (change_type, node_id, context) = match change {
            Change::AddLearner | Change::AddVoter => {
                let alive = self.sites.iter().filter(|site| !site.is_gone).count();
                if self.sites.len() >= SITES_MAX || alive >= SITES_ALIVE_MAX {
                    return false;
                }
                return self.add_member(change, site);
            }
            Change::Promote if learners.is_empty() => return false,
            Change::Promote => {
                let id = *self.rng.pick(&learners);
                (ConfChangeType::AddNode, id, promote_context(id))
            }
            Change::Remove => (ConfChangeType::RemoveNode, *self.rng.pick(&ids), Bytes::new()),
            Change::Update => {
                let id = *self.rng.pick(&ids);
                let url = format!("http://u{}:2380", self.rng.below(1000));
                let member = Member { id, peer_urls: vec![url], ..Member::default() };
                (ConfChangeType::UpdateNode, id, Bytes::from(member.to_json()))
            }
        };
        self.propose_change(site, change_type, node_id, context)
    }

    /// An operator changes the members in one of the ways of this run while they have other troubles.
    pub fn meddle(&mut self) {
        let mut changes =
            vec![Change::AddLearner, Change::AddVoter, Change::Promote, Change::Remove];
        changes.retain(|change| self.plan.has(Fault::Members(*change)));
        if let Some(leader) = self.leader()
            && !changes.is_empty()
        {
            let change = *self.rng.pick(&changes);
            self.change_members(change, leader);
        }
    }

    /// Asks member `site` for a new member, and lets that start.
    pub fn add_member(&mut self, change: Change, site: usize) -> bool {
        let number = self.sites.len();
        let name = format!("m{number}");
        let peer_urls = vec![format!("http://{name}:2380")];
        let id = member_id(&peer_urls, &self.now.to_string());
        let is_learner = change == Change::AddLearner;
        let member = Member { id, peer_urls, is_learner, ..Member::default() };
        let change_type = match is_learner {
            true => ConfChangeType::AddLearnerNode,
            false => ConfChangeType::AddNode,
        };
        let context = Bytes::from(member.to_json());
        if !self.propose_change(site, change_type, id, context) {
            return false;
        }
        let cluster_id = self.sites[0].identity.metadata.cluster_id;
        self.sites.push(Site::new(Identity {
            name,
            metadata: wal::Metadata { node_id: id, cluster_id },
            founders: Vec::new(),
        }));
        self.draw_clock(number);
        // Its operator starts it whether he knows that it was added or not.
        let delay = self.rng.between(50 * MS, 3 * SECOND);
        self.after(delay, Action::Boot(number));
        if is_learner && self.rng.chance(600_000) {
            self.after(delay, Action::Mentor(id, MENTOR_PATIENCE));
        }
        true
    }

    /// Whoever adds a learner mostly wants another member replaced: he gives it its vote as soon as it is
    /// ready, and then takes the other one out.
    pub fn mentor(&mut self, learner: u64, patience: u64) {
        if !self.is_hostile || patience == 0 {
            return;
        }
        if let Some(leader) = self.leader()
            && let Some(process) = &self.sites[leader].process
            && let Some(member) = process.applier.cluster().member(learner)
        {
            if !member.is_learner {
                if self.plan.has(Fault::Members(Change::Remove)) && self.rng.chance(700_000) {
                    self.change_members(Change::Remove, leader);
                }
                return;
            }
            let context = promote_context(learner);
            self.propose_change(leader, ConfChangeType::AddNode, learner, context);
        }
        let delay = self.rng.between(20 * MS, SECOND / 2);
        self.after(delay, Action::Mentor(learner, patience - 1));
    }

    /// Checks as etcd does before it proposes, then proposes.
    pub fn propose_change(
        &mut self,
        site: usize,
        change_type: ConfChangeType,
        node_id: u64,
        context: Bytes,
    ) -> bool {
        let id = self.change_id(site);
        let is_promotion = context.windows(9).any(|part| part == b"isPromote");
        let change = ConfChange { change_type, node_id, context, id };
        let active: Vec<u64> = (0..self.sites.len())
            .filter(|other| {
                self.sites[*other].process.is_some()
                    && self.sites[*other].paused_until <= self.now
                    && self.net.is_open(site, *other)
                    && self.net.is_open(*other, site)
            })
            .map(|other| self.sites[other].identity.metadata.node_id)
            .collect();
        let Some(process) = &mut self.sites[site].process else { return false };
        let connected =
            |id: u64| if active.contains(&id) { Connected::Long } else { Connected::No };
        if process.applier.cluster().check_reconfiguration(&change, connected).is_err() {
            return false;
        }
        self.trace.say(self.now, || format!("m{site} is asked for {change:?}"));
        let needs_ready_learner = is_promotion;
        process.send(Event::ProposeConfChange(ConfProposal { change, needs_ready_learner }));
        self.schedule(site);
        true
    }

    /// Asks the leader to clear all alarms. Whether there were any.
    pub fn disarm(&mut self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let id = self.change_id(leader);
        let Some(process) = &mut self.sites[leader].process else { return false };
        let alarms = process.applier.alarms().get(0);
        for &(member_id, alarm) in &alarms {
            let action = AlarmAction::Deactivate as i32;
            let request = AlarmRequest { action, member_id, alarm }.encode_to_vec();
            let op = Some(OpRef::Alarm(&request));
            let data = InternalRequestRef { id, op, ..Default::default() }.encode_to_vec().into();
            process.send(Event::Propose(vec![Proposal { id, data }]));
        }
        self.schedule(leader);
        !alarms.is_empty()
    }

    /// Does so again and again as long as clients work.
    pub fn disarm_until_quiet(&mut self) {
        self.disarm();
        if self.clients.is_working {
            self.after(500 * MS, Action::Disarm);
        }
    }

    fn change_id(&mut self, site: usize) -> u64 {
        let member = self.sites[site].identity.metadata.node_id & 0xffff;
        // A core of its own, so that no call of a client has this id.
        (member << 48) | (1 << 44) | self.rng.below(1 << 40)
    }

    /// The sites whose members are in the cluster, as the member with the longest history knows it.
    #[must_use]
    pub fn members(&self) -> Vec<usize> {
        let applier = self
            .sites
            .iter()
            .filter_map(|site| site.process.as_ref())
            .map(|process| &process.applier)
            .max_by_key(|applier| applier.applied_index());
        let Some(applier) = applier else { return Vec::new() };
        (0..self.sites.len())
            .filter(|site| {
                let id = self.sites[*site].identity.metadata.node_id;
                applier.cluster().member(id).is_some()
            })
            .collect()
    }

    /// Whether a member has a vote, as far as it knows.
    #[must_use]
    pub fn is_voter(&self, site: usize) -> bool {
        let process = self.sites[site].process.as_ref();
        process.is_some_and(|process| {
            let member = process.applier.cluster().member(process.id);
            member.is_some_and(|member| !member.is_learner)
        })
    }

    /// Whether the receiver of a message knows its sender to be removed, and so tells it.
    #[must_use]
    pub fn knows_as_removed(&self, receiver: usize, sender: usize) -> bool {
        let id = self.sites[sender].identity.metadata.node_id;
        let process = self.sites[receiver].process.as_ref();
        process.is_some_and(|process| process.applier.cluster().is_removed(id))
    }
}
