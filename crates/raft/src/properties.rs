//! Random schedules: clusters whose messages are lost, doubled and reordered, whose members crash and lose what
//! was not durable, whose configuration changes, with both ways of writing to storage. The properties of thesis
//! figure 3.2, and those that reads and storage rely on, must hold at every step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::confchange::{Changer, ConfChangeError};
use crate::pb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
    Entry, EntryType, HardState, Message, MessageType, Snapshot,
};
use crate::quorum::VoteResult;
use crate::rng::Rng;
use crate::{
    Config, LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, MemoryStorage, Peer, RawNode, ReadOnlyOption,
    SnapshotStatus, StateType, Storage,
};

/// Seeds of a normal run; `RAFT_SEEDS` asks for more or less, `RAFT_SEED` for a single one.
const SEEDS: u64 = 2000;
const STEPS: u32 = 5000;
const MEMBERS: u64 = 5;

/// What happened over all seeds, so that a schedule which exercises nothing is noticed.
#[derive(Debug, Default)]
struct Seen {
    elections: usize,
    committed: u64,
    conf_changes: usize,
    joint: usize,
    snapshots: usize,
    crashes: usize,
    /// Crashes in the midst of a write.
    torn: usize,
    reads: usize,
    /// Of these, such as rely on a lease.
    lease_reads: usize,
    transfers: usize,
    /// Changes that a snapshot overtook.
    superseded: usize,
    /// Clusters that cannot go on, for a reason that `check_liveness` explains.
    stuck: usize,
}

struct Member {
    id: u64,
    /// `None` while it is down.
    node: Option<RawNode<MemoryStorage>>,
    /// What survives a crash.
    disk: MemoryStorage,
    is_async: bool,
    pre_vote: bool,
    append_work: VecDeque<Message>,
    apply_work: VecDeque<Message>,
    /// The application: the last index applied, and the digest of all entries up to it.
    applied: u64,
    digest: u64,
    conf_state: ConfState,
    starts: u64,
}

struct Sim {
    rng: Rng,
    seed: u64,
    config: Config,
    members: Vec<Member>,
    network: Vec<Message>,
    /// Links that lose everything.
    cut: BTreeSet<(u64, u64)>,
    leaders: BTreeMap<u64, u64>,
    /// Digest after each index that any member has applied.
    digests: BTreeMap<u64, u64>,
    /// Term of each entry committed anywhere, and the term in which it was.
    committed: BTreeMap<u64, (u64, u64)>,
    /// Commit index of each member when it was last looked at.
    commits: BTreeMap<u64, u64>,
    /// Log of the leader of each term, as far as it was seen: index and term.
    leader_logs: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// What a read must not be behind, by context.
    reads: BTreeMap<Bytes, u64>,
    proposals: u64,
    seen: Seen,
}

fn digest(before: u64, entry: &Entry) -> u64 {
    // FNV-1a over what defines the entry
    let fields = [entry.term, entry.index, entry.entry_type as u64];
    let bytes = fields.iter().flat_map(|field| field.to_le_bytes());
    bytes.chain(entry.data.iter().copied()).fold(before ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Member {
    /// Writes what one `Ready` or append message holds, to the disk and to what the node reads.
    fn write(
        &mut self,
        hard_state: Option<HardState>,
        snapshot: Option<&Snapshot>,
        entries: &[Entry],
    ) {
        let log = self.node.as_mut().map(RawNode::storage_mut);
        // A commit index that was not synced is so now: the file is written in order.
        let before = log.as_ref().map(|log| log.initial_state().expect("in memory").0);
        let hard_state = hard_state.or(before.filter(|before| !before.is_empty()));
        for storage in [Some(&mut self.disk), log].into_iter().flatten() {
            if let Some(snapshot) = snapshot {
                storage.apply_snapshot(snapshot.clone()).expect("newer than the one here");
            }
            storage.append(entries);
            if let Some(hard_state) = hard_state {
                storage.set_hard_state(hard_state);
            }
        }
        if let Some(snapshot) = snapshot {
            self.applied = snapshot.metadata.index;
            self.digest = u64::from_le_bytes(snapshot.data[..].try_into().expect("a digest"));
            self.conf_state = snapshot.metadata.conf_state.clone();
        }
    }

    /// What a crash in the midst of a write leaves: the file is written in order, with the hard state last.
    fn write_torn(&mut self, snapshot: Option<&Snapshot>, entries: &[Entry], kept: usize) {
        let Some(node) = &self.node else { return };
        let (hard_state, _) = node.storage().initial_state().expect("in memory");
        if !hard_state.is_empty() {
            self.disk.set_hard_state(hard_state);
        }
        if let Some(snapshot) = snapshot.filter(|_| kept > 0) {
            self.disk.apply_snapshot(snapshot.clone()).expect("newer than the one here");
        }
        self.disk.append(&entries[..kept.min(entries.len())]);
    }

    /// Whether the entry is durable here, in the log or in a snapshot.
    fn has_durable(&self, index: u64, term: u64) -> bool {
        index < self.disk.first_index() || self.disk.term(index).is_ok_and(|ours| ours == term)
    }
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 0);
        let check_quorum = rng.below(2) == 0;
        let is_lease_based = check_quorum && rng.below(4) == 0;
        let max_size_per_msg = [0, 64, u64::MAX][rng.below(3) as usize];
        let config = Config {
            election_tick: 5,
            pre_vote: rng.below(2) == 0,
            check_quorum,
            step_down_on_removal: rng.below(2) == 0,
            max_size_per_msg,
            max_inflight_bytes: if max_size_per_msg == 64 {
                64 * u64::from(rng.below(3))
            } else {
                0
            },
            max_uncommitted_entries_size: [0, 20][rng.below(2) as usize],
            disable_proposal_forwarding: rng.below(8) == 0,
            max_committed_size_per_ready: [0, 64][rng.below(2) as usize],
            max_inflight_msgs: [1, 3, 256][rng.below(3) as usize],
            read_only_option: match is_lease_based {
                true => ReadOnlyOption::LeaseBased,
                false => ReadOnlyOption::Safe,
            },
            ..Config::new(1)
        };
        let mut sim = Self {
            rng,
            seed,
            config,
            members: Vec::new(),
            network: Vec::new(),
            cut: BTreeSet::new(),
            leaders: BTreeMap::new(),
            digests: BTreeMap::from([(0, 0)]),
            committed: BTreeMap::new(),
            commits: BTreeMap::new(),
            leader_logs: BTreeMap::new(),
            reads: BTreeMap::new(),
            proposals: 0,
            seen: Seen::default(),
        };
        for id in 1..=MEMBERS {
            let is_async = sim.rng.below(2) == 0;
            // It is turned on or off one member after the other. (The check of the quorum must be on everywhere or
            // nowhere: a member without it does not tell a leader of an earlier term that it is out of date.)
            let pre_vote = sim.config.pre_vote ^ (sim.rng.below(8) == 0);
            sim.members.push(Member {
                id,
                node: None,
                disk: MemoryStorage::new(),
                is_async,
                pre_vote,
                append_work: VecDeque::new(),
                apply_work: VecDeque::new(),
                applied: 0,
                digest: 0,
                conf_state: ConfState::default(),
                starts: 0,
            });
            sim.start(id);
        }
        let peers: Vec<_> = (1..=3).map(|id| Peer { id, ..Peer::default() }).collect();
        for id in 1..=3 {
            let node = sim.member(id).node.as_mut().expect("just started");
            node.bootstrap(&peers).expect("an empty storage");
            // a founding member that crashes before this is written would have to be founded again
            sim.handle_ready(id, false);
            while !sim.member(id).append_work.is_empty() {
                sim.handle_append(id, false);
            }
        }
        sim
    }

    fn member(&mut self, id: u64) -> &mut Member {
        &mut self.members[id as usize - 1]
    }

    fn node(&mut self, id: u64) -> Option<&mut RawNode<MemoryStorage>> {
        self.member(id).node.as_mut()
    }

    fn any_id(&mut self) -> u64 {
        u64::from(self.rng.below(MEMBERS as u32)) + 1
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.below(n) == 0
    }

    fn start(&mut self, id: u64) {
        let (seed, config) = (self.seed, self.config.clone());
        let member = self.member(id);
        member.starts += 1;
        let snapshot = member.disk.snapshot().expect("in memory");
        member.applied = snapshot.metadata.index;
        member.conf_state = snapshot.metadata.conf_state;
        member.digest = <[u8; 8]>::try_from(&snapshot.data[..]).map_or(0, u64::from_le_bytes);
        let config = Config {
            id,
            applied: member.applied,
            async_storage_writes: member.is_async,
            pre_vote: member.pre_vote,
            seed: seed.wrapping_add(member.starts << 32),
            ..config
        };
        let node = RawNode::new(config, member.disk.clone()).expect("what was durable is sound");
        member.node = Some(node);
    }

    fn crash(&mut self, id: u64) {
        self.seen.crashes += 1;
        let member = self.member(id);
        member.node = None;
        self.commits.remove(&id);
        let member = self.member(id);
        member.append_work.clear();
        member.apply_work.clear();
    }

    // ---- work ----

    fn handle_ready(&mut self, id: u64, may_crash: bool) {
        let crash_at = if may_crash { self.rng.below(60) } else { u32::MAX };
        let member = self.member(id);
        let is_async = member.is_async;
        let is_lease_based = self.config.read_only_option == ReadOnlyOption::LeaseBased;
        let member = self.member(id);
        let Some(node) = member.node.as_mut().filter(|node| node.has_ready()) else { return };
        let ready = node.ready();
        let is_leader = node.basic_status().soft_state.raft_state == StateType::Leader;
        for state in &ready.read_states {
            let least = self.reads[&state.request_ctx];
            assert!(state.index >= least, "read at {} after {least} was committed", state.index);
            self.seen.reads += 1;
            self.seen.lease_reads += usize::from(is_lease_based);
        }
        if crash_at == 0 {
            return self.crash(id);
        }
        if is_async {
            for m in ready.messages {
                match m.to {
                    LOCAL_APPEND_THREAD => self.member(id).append_work.push_back(m),
                    LOCAL_APPLY_THREAD => self.member(id).apply_work.push_back(m),
                    _ => self.network.push(m),
                }
            }
            return;
        }
        // a leader may send first
        if is_leader && crash_at == 1 {
            self.network.extend(ready.messages);
            return self.crash(id);
        }
        if crash_at == 3 {
            let kept = self.rng.below(4) as usize;
            self.member(id).write_torn(ready.snapshot.as_ref(), &ready.entries, kept);
            self.seen.torn += 1;
            return self.crash(id);
        }
        let hard_state = ready.hard_state;
        if !ready.must_sync && ready.snapshot.is_none() && crash_at.is_multiple_of(2) {
            // a commit index may be lost
            let node = self.node(id).expect("it is up");
            if let Some(hard_state) = hard_state {
                node.storage_mut().set_hard_state(hard_state);
            }
        } else {
            let snapshot = ready.snapshot.as_ref();
            self.member(id).write(hard_state, snapshot, &ready.entries);
        }
        if crash_at == 2 {
            return self.crash(id);
        }
        self.installed(id, ready.snapshot.is_some());
        self.network.extend(ready.messages.iter().cloned());
        self.apply(id, &ready.committed_entries);
        self.node(id).expect("it is up").advance(ready);
    }

    fn handle_append(&mut self, id: u64, may_crash: bool) {
        let member = self.member(id);
        let Some(m) = member.append_work.pop_front() else { return };
        if may_crash && self.one_in(60) {
            let kept = self.rng.below(4) as usize;
            self.member(id).write_torn(m.snapshot.as_deref(), &m.entries, kept);
            self.seen.torn += 1;
            return self.crash(id);
        }
        let member = self.member(id);
        let hard_state = HardState { term: m.term, vote: m.vote, commit: m.commit };
        let hard_state = (!hard_state.is_empty()).then_some(hard_state);
        member.write(hard_state, m.snapshot.as_deref(), &m.entries);
        self.installed(id, m.snapshot.is_some());
        self.respond(id, m.responses);
    }

    fn handle_apply(&mut self, id: u64) {
        let Some(m) = self.member(id).apply_work.pop_front() else { return };
        for entry in &m.entries {
            let member = self.member(id);
            assert!(
                member.has_durable(entry.index, entry.term),
                "{id} applies {} before it is stable",
                entry.index
            );
        }
        self.apply(id, &m.entries);
        self.respond(id, m.responses);
    }

    fn respond(&mut self, id: u64, responses: Vec<Message>) {
        for m in responses {
            if m.to == id {
                // an answer about a term that is over is refused
                let _ = self.node(id).expect("it is up").step_local(m);
                self.check(id);
            } else {
                self.network.push(m);
            }
        }
    }

    fn installed(&mut self, id: u64, has_snapshot: bool) {
        if has_snapshot {
            self.seen.snapshots += 1;
            let (applied, digest) = (self.member(id).applied, self.member(id).digest);
            assert_eq!(self.digests.get(&applied), Some(&digest), "{id} installs another state");
        }
    }

    fn apply(&mut self, id: u64, entries: &[Entry]) {
        for entry in entries {
            let member = self.member(id);
            if member.is_async && entry.index <= member.applied {
                // a snapshot was installed while these were waiting to be applied
                continue;
            }
            assert_eq!(entry.index, member.applied + 1, "{id} applies out of order");
            member.applied = entry.index;
            member.digest = digest(member.digest, entry);
            let (ours, index) = (member.digest, entry.index);
            let theirs = *self.digests.entry(index).or_insert(ours);
            assert_eq!(ours, theirs, "{id} applies another entry at {index}: state machine safety");
            let change = match entry.entry_type {
                EntryType::Normal => continue,
                EntryType::ConfChange => {
                    ConfChange::decode(entry.data.clone()).expect("as proposed").to_v2()
                }
                EntryType::ConfChangeV2 => {
                    ConfChangeV2::decode(entry.data.clone()).expect("as proposed")
                }
            };
            let is_async = self.member(id).is_async;
            let node = self.node(id).expect("it is up");
            let conf_state = match node.apply_conf_change(&change) {
                Ok(conf_state) => conf_state,
                Err(ConfChangeError::Superseded) if is_async => {
                    self.seen.superseded += 1;
                    continue;
                }
                Err(error) => panic!("a change that was possible when proposed: {error}"),
            };
            self.seen.conf_changes += 1;
            self.seen.joint += usize::from(!conf_state.voters_outgoing.is_empty());
            self.member(id).conf_state = conf_state;
            self.check(id);
        }
    }

    // ---- events ----

    fn step(&mut self) {
        let id = self.any_id();
        match self.rng.below(100) {
            0..45 => self.deliver(),
            45..60 => {
                if let Some(node) = self.node(id) {
                    node.tick();
                }
            }
            60..80 => self.handle_ready(id, true),
            80..86 => self.handle_append(id, true),
            86..91 => self.handle_apply(id),
            91..95 => self.propose(id),
            95 => self.propose_conf_change(id),
            96 => self.read(id),
            97 => self.compact(id),
            98 => self.disturb(id),
            _ => {
                if self.node(id).is_none() {
                    self.start(id);
                } else if self.one_in(6) {
                    self.crash(id);
                }
            }
        }
        self.check(id);
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.rng.below(self.network.len() as u32) as usize;
        let m = self.network.swap_remove(at);
        if self.one_in(20) {
            self.network.push(m.clone());
        }
        let (from, to) = (m.from, m.to);
        let is_lost = self.one_in(20) || self.cut.contains(&(from, to));
        let status = if is_lost { SnapshotStatus::Failure } else { SnapshotStatus::Finish };
        if m.msg_type == MessageType::Snap
            && self.one_in(2)
            && let Some(node) = self.node(from)
        {
            node.report_snapshot(to, status);
        }
        if !is_lost && let Some(node) = self.node(to) {
            match node.step(m) {
                Ok(()) | Err(crate::Error::StepPeerNotFound | crate::Error::ProposalDropped) => {}
                Err(error) => panic!("a message of a correct peer is refused: {error}"),
            }
            self.check(to);
        }
    }

    fn propose(&mut self, id: u64) {
        self.proposals += 1;
        let data = Bytes::from(format!("{}", self.proposals).into_bytes());
        if let Some(node) = self.node(id) {
            // without a leader it is dropped
            let _ = node.propose(data);
        }
    }

    fn propose_conf_change(&mut self, id: u64) {
        use ConfChangeTransition::{Auto, JointExplicit, JointImplicit};
        use ConfChangeType::{AddLearnerNode, AddNode, RemoveNode};
        let count = self.rng.below(4);
        let changes = (0..count).map(|_| ConfChangeSingle {
            change_type: [AddNode, AddNode, AddLearnerNode, RemoveNode][self.rng.below(4) as usize],
            node_id: u64::from(self.rng.below(MEMBERS as u32)) + 1,
        });
        let changes: Vec<_> = changes.collect();
        let transition = [Auto, JointImplicit, JointExplicit][self.rng.below(3) as usize];
        let transition = if changes.is_empty() { Auto } else { transition };
        let change = ConfChangeV2 { transition, changes, context: Bytes::new() };
        let Some(node) = self.node(id) else { return };
        let tracker = &node.raft.trk;
        // Raft leaves it to its user to see that a change is possible.
        if node.status().is_leader() && (Changer { tracker, last_index: 1 }).change(&change).is_ok()
        {
            let _ = node.propose_conf_change_v2(&change);
        }
    }

    fn read(&mut self, id: u64) {
        self.proposals += 1;
        let context = Bytes::from(self.proposals.to_be_bytes().to_vec());
        // A lease holds as long as clocks agree and messages are not late, which is not so here: another may have been
        // elected. But a leader knows at least what was committed up to its own term.
        let known_in = match self.config.read_only_option {
            ReadOnlyOption::Safe => u64::MAX,
            ReadOnlyOption::LeaseBased => {
                let status = self.node(id).map(|node| node.basic_status());
                let leads =
                    status.filter(|status| status.soft_state.raft_state == StateType::Leader);
                leads.map_or(0, |status| status.hard_state.term)
            }
        };
        let known = self.committed.iter().rfind(|(_, (_, since))| *since <= known_in);
        let committed = known.map_or(0, |(&index, _)| index);
        self.reads.insert(context.clone(), committed);
        if let Some(node) = self.node(id) {
            node.read_index(context);
        }
    }

    fn compact(&mut self, id: u64) {
        let keep = u64::from(self.rng.below(5));
        let member = self.member(id);
        let Some(node) = member.node.as_mut() else { return };
        let (index, conf_state) = (member.applied, &member.conf_state);
        // what is applied may not be on disk yet, nor the commit index that says so
        let (hard_state, _) = member.disk.initial_state().expect("in memory");
        if index > member.disk.last_index() || index > hard_state.commit {
            return;
        }
        let data = Bytes::from(member.digest.to_le_bytes().to_vec());
        for storage in [&mut member.disk, node.storage_mut()] {
            // older than the one here, or compacted already
            let _ = storage.create_snapshot(index, Some(conf_state.clone()), data.clone());
            let _ = storage.compact(index.saturating_sub(keep));
        }
    }

    fn disturb(&mut self, id: u64) {
        let other = self.any_id();
        match self.rng.below(12) {
            0 | 1 => {
                self.cut.insert((id, other));
            }
            2 | 8..11 => self.cut.clear(),
            3 => {
                self.seen.transfers += 1;
                if let Some(node) = self.node(id) {
                    node.transfer_leader(other);
                }
            }
            4 => {
                if let Some(node) = self.node(id) {
                    node.report_unreachable(other);
                }
            }
            5 => {
                if let Some(node) = self.node(id) {
                    node.forget_leader().expect("no way to fail");
                }
            }
            6 => {
                if let Some(node) = self.node(id) {
                    node.campaign().expect("no way to fail");
                }
            }
            _ => {
                for peer in 1..=MEMBERS {
                    self.cut.insert((id, peer));
                    self.cut.insert((peer, id));
                }
            }
        }
    }

    // ---- properties ----

    fn check(&mut self, id: u64) {
        let Some(node) = &self.members[id as usize - 1].node else { return };
        let raft = &node.raft;
        let status = node.basic_status();
        let (term, commit) = (status.hard_state.term, status.hard_state.commit);
        let is_leader = status.soft_state.raft_state == StateType::Leader;
        if is_leader {
            let leader = *self.leaders.entry(term).or_insert_with(|| {
                self.seen.elections += 1;
                for (&index, &(committed, since)) in &self.committed {
                    // one that was delayed may win an old term
                    if since >= term {
                        continue;
                    }
                    assert!(
                        index < raft.log.first_index() || raft.log.term(index) == Ok(committed),
                        "{id} leads term {term} without {index}: leader completeness"
                    );
                }
                id
            });
            assert_eq!(leader, id, "two leaders in term {term}: election safety");
            let seen = self.leader_logs.entry(term).or_default();
            let last = raft.log.last_index();
            for (&index, &entry_term) in seen.range(raft.log.first_index()..) {
                assert!(index <= last, "leader {id} of term {term} lost {index}");
                assert_eq!(raft.log.term(index), Ok(entry_term), "leader {id} replaced {index}");
            }
            for index in raft.log.first_index()..=last {
                seen.insert(index, raft.log.term_or_zero(index));
            }
            node.with_progress(|peer, progress| {
                assert!(
                    progress.match_index < progress.next_index && progress.match_index <= last,
                    "{id} on {peer}: {progress}"
                );
            });
        }
        for index in raft.log.first_index().max(raft.log.applied)..=commit {
            let Ok(entry_term) = raft.log.term(index) else { continue };
            let (first, _) = *self.committed.entry(index).or_insert((entry_term, term));
            assert_eq!(first, entry_term, "{id} commits another entry at {index}");
        }
        let before = self.commits.insert(id, commit).unwrap_or(0);
        if is_leader && commit > before {
            // counted just now, in the configuration in force
            let entry_term = raft.log.term_or_zero(commit);
            let result = raft.trk.config.voters.vote_result(|voter| {
                Some(self.members[voter as usize - 1].has_durable(commit, entry_term))
            });
            assert_eq!(entry_term, term, "{id} counts an entry of an earlier term");
            assert_eq!(
                result,
                VoteResult::Won,
                "{id} commits {commit} without a quorum: {}",
                raft.trk.config
            );
        }
    }

    /// Entries with one index and term are the same in all durable logs, and so is all before them.
    fn check_log_matching(&self) {
        let entries = |member: &Member| {
            let (first, last) = (member.disk.first_index(), member.disk.last_index());
            member.disk.entries(first, last + 1, u64::MAX).unwrap_or_default()
        };
        for a in &self.members {
            let ours = entries(a);
            for b in &self.members[..a.id as usize - 1] {
                let mut must_match = false;
                for theirs in entries(b).iter().rev() {
                    let Some(ours) = ours.iter().find(|entry| entry.index == theirs.index) else {
                        continue;
                    };
                    must_match |= ours.term == theirs.term;
                    let at = theirs.index;
                    assert!(!must_match || ours == theirs, "{} and {} differ at {at}", a.id, b.id);
                }
            }
        }
    }

    /// All that a member does in a round without trouble.
    fn work(&mut self, id: u64, round: u32) {
        let Some(node) = self.node(id) else { return };
        node.tick();
        if round.is_multiple_of(100) {
            // Whoever sends snapshots has to notice that one is lost.
            (1..=MEMBERS).for_each(|to| node.report_snapshot(to, SnapshotStatus::Failure));
            // An old one may be from before the member was added.
            self.compact(id);
        }
        self.handle_ready(id, false);
        while !self.member(id).append_work.is_empty() {
            self.handle_append(id, false);
        }
        while !self.member(id).apply_work.is_empty() {
            self.handle_apply(id);
        }
        if round.is_multiple_of(10) {
            self.propose(id);
        }
        self.check(id);
        // A leader that was removed and does not step down has to be stopped.
        let node = self.node(id).expect("it is up");
        if node.status().is_leader() && !node.raft.trk.progress.contains(id) {
            self.crash(id);
        }
    }

    fn newest_conf_state(&self) -> ConfState {
        let newest = self.members.iter().max_by_key(|member| member.applied);
        newest.expect("there are members").conf_state.clone()
    }

    /// A member that does not know that it was removed holds elections (thesis §4.2.3), and where neither pre-vote nor
    /// the check of the quorum is on nobody may get on with their work. Somebody has to stop it.
    fn stop_removed(&mut self) {
        let conf_state = self.newest_conf_state();
        let lists = [&conf_state.voters, &conf_state.voters_outgoing, &conf_state.learners];
        for id in 1..=MEMBERS {
            if !lists.iter().any(|ids| ids.contains(&id)) && self.node(id).is_some() {
                self.crash(id);
            }
        }
    }

    /// With everything repaired the cluster goes on.
    fn check_liveness(&mut self) {
        self.cut.clear();
        self.network.clear();
        for id in 1..=MEMBERS {
            if self.node(id).is_none() {
                self.start(id);
            }
        }
        let before = self.digests.keys().next_back().copied().unwrap_or(0);
        for round in 0..2000 {
            if round == 1000 {
                self.stop_removed();
            }
            for id in 1..=MEMBERS {
                self.work(id, round);
            }
            for m in std::mem::take(&mut self.network) {
                let to = m.to;
                if let Some(node) = self.node(to) {
                    // a member that was removed is not listened to
                    let _ = node.step(m);
                    self.check(to);
                }
            }
            let last = self.digests.keys().next_back().copied().unwrap_or(0);
            let conf_state = &self.newest_conf_state();
            let voters = conf_state.voters.iter().chain(&conf_state.learners);
            let mut applied = voters.map(|&id| self.members[id as usize - 1].applied);
            if last > before + 20 && applied.all(|applied| applied > before + 10) {
                return;
            }
        }
        // A member uses a configuration once it has applied it, not (as in thesis §4.1) once it has it in its log. So
        // voters that do not know yet that the rest was removed may need the rest's votes, and these may refuse
        // for entries that will never be committed. etcd has that too.
        let newest = self.newest_conf_state();
        let knows = |&&id: &&u64| self.members[id as usize - 1].conf_state == newest;
        if newest.voters.iter().filter(knows).count() <= newest.voters.len() / 2 {
            self.seen.stuck += 1;
            return;
        }
        let state: Vec<_> = self
            .members
            .iter()
            .filter_map(|member| Some(member.node.as_ref()?.status().to_string()))
            .collect();
        panic!("no progress after everything was repaired: {state:#?}");
    }
}

/// A number from the environment.
#[expect(clippy::disallowed_methods, reason = "how much to try, and which seed to repeat")]
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: not a number: {text}")))
}

fn seeds() -> std::ops::Range<u64> {
    match number("RAFT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RAFT_SEEDS").unwrap_or(SEEDS),
    }
}

#[test]
fn random_schedules_keep_the_promises_of_raft() {
    let mut total = Seen::default();
    let seeds = seeds();
    for seed in seeds.clone() {
        let outcome = std::panic::catch_unwind(|| {
            let mut sim = Sim::new(seed);
            for step in 0..STEPS {
                sim.step();
                if step % 100 == 0 {
                    sim.check_log_matching();
                }
            }
            sim.check_liveness();
            sim.check_log_matching();
            sim.seen.committed = sim.committed.len() as u64;
            sim.seen
        });
        let Ok(seen) = outcome else {
            panic!(
                "seed {seed} breaks a property, see above; to repeat it: RAFT_SEED={seed} cargo test -p raft random_schedules"
            )
        };
        total.elections += seen.elections;
        total.committed += seen.committed;
        total.conf_changes += seen.conf_changes;
        total.joint += seen.joint;
        total.snapshots += seen.snapshots;
        total.crashes += seen.crashes;
        total.torn += seen.torn;
        total.reads += seen.reads;
        total.lease_reads += seen.lease_reads;
        total.transfers += seen.transfers;
        total.stuck += seen.stuck;
        total.superseded += seen.superseded;
    }
    // A single seed need not show everything.
    let seeds = (seeds.end - seeds.start) as usize;
    if seeds < 50 {
        return;
    }
    assert!(total.elections > 2 * seeds, "{total:?}");
    assert!(total.committed > 20 * seeds as u64, "{total:?}");
    assert!(total.conf_changes > seeds && total.joint > seeds / 4, "{total:?}");
    assert!(total.snapshots > seeds / 4 && total.crashes > seeds, "{total:?}");
    assert!(total.torn > seeds / 4 && total.lease_reads > seeds / 20, "{total:?}");
    assert!(total.stuck < seeds / 20, "{total:?}");
    assert!(total.reads > seeds && total.transfers > seeds, "{total:?}");
}
