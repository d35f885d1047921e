//! The members of a history, and what they have promised.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use api::etcdserverpb as pb;
use api::internal::{InternalRequestRef, OpRef};
use api::wire::Encode;
use bytes::Bytes;
use cluster::{Cluster, InitialCluster, Member, member_id};
use env::{MemDisk, Moment};
use prost::Message as _;
use raft::{ConfChange, ConfChangeType, Message, MessageType, Peer, SnapshotStatus};
use replica::{ConfProposal, Event, Proposal};

use super::history::{History, Step, Target};
use crate::observer::Observer;
use crate::process::{Death, Identity, Outside, Process, STAGES, Settings, Stage};
use crate::rng::Rng;

/// The seat of the member whose disk is looked at.
pub const TARGET: usize = 0;
/// The most rounds until all requests are answered.
const ROUNDS_MAX: usize = 400;
const KEYS: u64 = 6;

/// Something that a member has told others, and that its disk must know ever after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// How many operations its disk had done.
    pub operations: u64,
    /// All up to here is committed and on disk.
    pub applied: u64,
    /// The log reaches up to here, as far as the leader knows.
    pub logged: u64,
    /// This is the term.
    pub term: u64,
    /// In that term, the vote went there; 0 if it went nowhere.
    pub vote: u64,
}

/// The time between two power failures of the target.
#[derive(Debug)]
pub struct Life {
    /// Its disk before each operation, and at the end.
    pub moments: Vec<Moment>,
    /// What it has promised, in order; the first is from earlier lives.
    pub promises: Vec<Promise>,
}

/// A member in its place.
#[derive(Debug)]
pub struct Seat {
    /// Who it is.
    pub identity: Identity,
    /// Its disk.
    pub disk: MemDisk,
    /// The process, if it runs.
    pub process: Option<Box<Process>>,
}

/// One or two members in one thread.
#[derive(Debug)]
pub struct Scene {
    /// The target and, if there is one, the leader.
    pub seats: Vec<Seat>,
    /// What members are told.
    pub settings: Settings,
    /// Who compares.
    pub observer: Observer,
    /// Ended lives of the target.
    pub lives: Vec<Life>,
    /// What the target has promised in this life.
    pub promises: Vec<Promise>,
    /// Whether messages reach the target.
    pub is_attached: bool,
    rng: Rng,
    now: Duration,
    weights: [u64; STAGES.len()],
    mail: VecDeque<(usize, usize, Message, Option<Bytes>)>,
    waiting: BTreeSet<u64>,
    requests: u64,
    boots: u64,
}

/// The members of a history before the first start.
#[must_use]
pub fn identities(target: Target) -> Vec<Identity> {
    let founders = match target {
        Target::Alone => &["target"][..],
        Target::Follower => &["target", "leader"][..],
        Target::Learner => &["leader"][..],
    };
    let urls: Vec<String> =
        founders.iter().map(|name| format!("{name}=http://{name}:2380")).collect();
    let initial = InitialCluster::parse(&urls.join(",")).expect("these are URLs");
    let cluster = Cluster::bootstrap(&initial, "crash").expect("these are members");
    let peers = cluster.members();
    let peers: Vec<Peer> =
        peers.map(|member| Peer { id: member.id, context: member.to_json().into() }).collect();
    let mut identities: Vec<Identity> = founders
        .iter()
        .map(|name| {
            let id = cluster.member_by_name(name).expect("a founder").id;
            Identity {
                name: (*name).to_owned(),
                metadata: wal::Metadata { node_id: id, cluster_id: cluster.id() },
                founders: peers.clone(),
            }
        })
        .collect();
    if target == Target::Learner {
        let name = "target".to_owned();
        let node_id = member_id(&["http://target:2380".to_owned()], "crash");
        let metadata = wal::Metadata { node_id, cluster_id: cluster.id() };
        identities.insert(TARGET, Identity { name, metadata, founders: Vec::new() });
    }
    identities
}

impl Scene {
    /// The members of a history, none of which has started.
    #[must_use]
    pub fn new(history: &History, settings: Settings, mut rng: Rng) -> Self {
        let seat = |identity| Seat { identity, disk: MemDisk::new(), process: None };
        let mut weights = [0; STAGES.len()];
        weights.fill_with(|| rng.between(1, 8));
        let mut observer = Observer::default();
        observer.checks_all = true;
        Self {
            seats: identities(history.target).into_iter().map(seat).collect(),
            settings,
            observer,
            lives: Vec::new(),
            promises: vec![Promise::default()],
            is_attached: history.target != Target::Learner,
            rng,
            now: Duration::ZERO,
            weights,
            mail: VecDeque::new(),
            waiting: BTreeSet::new(),
            requests: 0,
            boots: 0,
        }
    }

    /// A member alone with a disk that has a past.
    #[must_use]
    pub fn resumed(
        identity: Identity,
        disk: MemDisk,
        settings: Settings,
        observer: Observer,
        seed: u64,
    ) -> Self {
        Self {
            seats: vec![Seat { identity, disk, process: None }],
            settings,
            observer,
            lives: Vec::new(),
            promises: vec![Promise::default()],
            is_attached: true,
            rng: Rng::new(seed),
            now: Duration::from_secs(1000),
            weights: [1; STAGES.len()],
            mail: VecDeque::new(),
            waiting: BTreeSet::new(),
            // Numbers that the past has not used.
            requests: 1 << 20,
            boots: seed | 1 << 40,
        }
    }

    /// Starts a member.
    ///
    /// # Errors
    /// If it can't start.
    pub fn boot(&mut self, seat: usize) -> Result<(), Death> {
        self.boots += 1;
        let place = &self.seats[seat];
        let seed = self.boots << 8;
        let mut process =
            Process::boot(&place.disk, &place.identity, &self.settings, seed, self.now)?;
        let mut out = Vec::new();
        process.begin(&mut out, &mut self.observer)?;
        self.seats[seat].process = Some(Box::new(process));
        self.hand_out(seat, out);
        Ok(())
    }

    /// Plays a whole history.
    ///
    /// # Errors
    /// If a member ends; nothing is wrong with their disks.
    pub fn play(&mut self, history: &History) -> Result<(), Death> {
        self.seats[TARGET].disk.record();
        if history.target == Target::Learner {
            self.boot(1)?;
            self.wait()?;
            let identity = self.seats[TARGET].identity.clone();
            self.change(ConfChangeType::AddLearnerNode, &identity.name, identity.metadata.node_id);
            self.wait()?;
            self.boot(TARGET)?;
        } else {
            for seat in 0..self.seats.len() {
                self.boot(seat)?;
            }
        }
        for step in history.steps {
            self.step(*step)?;
        }
        self.end_life();
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), Death> {
        match step {
            Step::Puts(count) => (0..count).try_for_each(|_| {
                let len = *self.rng.pick(&[0, 10, 100, 400]);
                self.put(len)
            })?,
            Step::LargePuts(count) => (0..count).try_for_each(|_| {
                let len = self.rng.between(900, 6000);
                self.put(len)
            })?,
            Step::Deletes(count) => (0..count).try_for_each(|_| {
                let key = self.key();
                let request = pb::DeleteRangeRequest { key, ..Default::default() };
                self.ask(OpRef::DeleteRange(&request.encode_to_vec()))
            })?,
            Step::Txns(count) => (0..count).try_for_each(|_| self.txn())?,
            Step::Leases(count) => (0..count).try_for_each(|number| self.lease(number))?,
            Step::Compact => {
                let revision = self.seats[self.server()].process.as_ref().map_or(1, |process| {
                    process.reader.current_revision() - self.rng.below(3) as i64
                });
                let physical = self.rng.chance(500_000);
                let request = pb::CompactionRequest { revision: revision.max(1), physical };
                self.ask(OpRef::Compaction(&request.encode_to_vec()))?;
            }
            Step::Defragment => {
                if let Some(process) = &mut self.seats[TARGET].process {
                    process.command(0, apply::Command::Defragment);
                }
                self.some_turns()?;
            }
            Step::Wait => self.wait()?,
            Step::Pass(milliseconds) => (0..milliseconds / 20).try_for_each(|_| self.round())?,
            Step::Purge => {
                let process = self.seats[TARGET].process.as_mut();
                process.map_or(Ok(()), |process| process.purge())?;
            }
            Step::Kill => {
                self.seats[TARGET].process = None;
                self.lost();
                self.boot(TARGET)?;
            }
            Step::Power => self.power_fails()?,
            Step::AddLearner => {
                let id = member_id(&["http://learner:2380".to_owned()], "crash");
                self.change(ConfChangeType::AddLearnerNode, "learner", id);
                self.wait()?;
            }
            Step::RemoveLearner => {
                let id = member_id(&["http://learner:2380".to_owned()], "crash");
                self.change(ConfChangeType::RemoveNode, "learner", id);
                self.wait()?;
            }
            Step::Update => {
                let id = self.seats[TARGET].identity.metadata.node_id;
                self.change(ConfChangeType::UpdateNode, "elsewhere", id);
                self.wait()?;
            }
            Step::Detach => self.is_attached = false,
            Step::Attach => self.is_attached = true,
            Step::Elect => {
                self.wait()?;
                let server = self.server();
                self.seats[server].process = None;
                self.lost();
                self.boot(server)?;
            }
        }
        Ok(())
    }

    /// The seat that clients talk to.
    fn server(&self) -> usize {
        self.seats.len() - 1
    }

    /// What was on its way is gone, and who asked gets no answer.
    fn lost(&mut self) {
        self.mail.clear();
        self.waiting.clear();
    }

    fn end_life(&mut self) {
        let moments = self.seats[TARGET].disk.recorded();
        let last = self.promises.iter().copied().reduce(Promise::and).unwrap_or_default();
        let first = Promise { operations: 0, ..last };
        let promises = std::mem::replace(&mut self.promises, vec![first]);
        self.lives.push(Life { moments, promises });
    }

    fn power_fails(&mut self) -> Result<(), Death> {
        self.seats[TARGET].process = None;
        self.lost();
        self.end_life();
        let mut rng = self.rng.fork();
        let life = self.lives.last().expect("ended just now");
        let last = life.moments.last().expect("the end at least");
        let disk = last.crashed(|_, _| rng.chance(600_000));
        disk.record();
        self.seats[TARGET].disk = disk;
        self.boot(TARGET)
    }

    fn key(&mut self) -> Bytes {
        format!("k{}", self.rng.below(KEYS)).into()
    }

    /// A put of a value of at least `len` bytes.
    ///
    /// # Errors
    /// If a member ends.
    pub fn put(&mut self, len: u64) -> Result<(), Death> {
        let request = self.put_request(len);
        self.ask(OpRef::Put(&request.encode_to_vec()))
    }

    fn put_request(&mut self, len: u64) -> pb::PutRequest {
        let mut value = format!("{}.", self.requests).into_bytes();
        value.resize(value.len() + len as usize, b'v');
        pb::PutRequest { key: self.key(), value: value.into(), ..Default::default() }
    }

    fn txn(&mut self) -> Result<(), Death> {
        let mut puts = [self.put_request(20), self.put_request(300)];
        puts[0].key = "a".into();
        let success = puts
            .into_iter()
            .map(|put| pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) });
        let request = pb::TxnRequest { success: success.collect(), ..Default::default() };
        self.ask(OpRef::Txn(&request.encode_to_vec()))
    }

    fn lease(&mut self, number: u64) -> Result<(), Death> {
        let id = number as i64 + 1;
        let grant = pb::LeaseGrantRequest { id, ttl: 100 };
        self.ask(OpRef::LeaseGrant(&grant.encode_to_vec()))?;
        let put = pb::PutRequest { lease: id, ..self.put_request(5) };
        self.ask(OpRef::Put(&put.encode_to_vec()))?;
        if number.is_multiple_of(2) {
            let revoke = pb::LeaseRevokeRequest { id };
            self.ask(OpRef::LeaseRevoke(&revoke.encode_to_vec()))?;
        }
        Ok(())
    }

    /// Proposes a request. Members take some turns, so that the next one may meet it on its way.
    fn ask(&mut self, op: OpRef<'_>) -> Result<(), Death> {
        let id = self.request_id();
        let request = InternalRequestRef { id, op: Some(op), ..Default::default() };
        let data = Bytes::from(request.encode_to_vec());
        self.send(Event::Propose(vec![Proposal { id, data }]));
        self.some_turns()
    }

    fn change(&mut self, change_type: ConfChangeType, name: &str, node_id: u64) {
        let peer_urls = vec![format!("http://{name}:2380")];
        let is_learner = change_type == ConfChangeType::AddLearnerNode;
        let member = Member { id: node_id, peer_urls, is_learner, ..Member::default() };
        let context = Bytes::from(member.to_json());
        let change = ConfChange { change_type, node_id, context, id: self.request_id() };
        self.send(Event::ProposeConfChange(ConfProposal { change, needs_ready_learner: false }));
    }

    fn send(&mut self, event: Event) {
        let server = self.server();
        if let Some(process) = &mut self.seats[server].process {
            process.send(event);
        }
    }

    fn request_id(&mut self) -> u64 {
        self.requests += 1;
        let server = self.seats[self.server()].identity.metadata.node_id;
        let id = (server & 0xffff) << 48 | self.requests;
        self.waiting.insert(id);
        id
    }

    /// Goes on until all requests are answered.
    ///
    /// # Errors
    /// If a member ends.
    ///
    /// # Panics
    /// If a request is not answered.
    pub fn wait(&mut self) -> Result<(), Death> {
        for _ in 0..ROUNDS_MAX {
            self.round()?;
            if self.waiting.is_empty() && !self.is_behind() {
                return Ok(());
            }
        }
        panic!("{} requests are never answered", self.waiting.len());
    }

    /// Whether the target has yet to apply what the leader has.
    fn is_behind(&self) -> bool {
        let applied = |seat: &Seat| seat.process.as_ref().map(|p| p.applier.applied_index());
        let own = applied(&self.seats[TARGET]);
        self.is_attached && own.is_some() && own < applied(&self.seats[self.server()])
    }

    /// Everybody does all there is to do, and time passes.
    ///
    /// # Errors
    /// If a member ends.
    pub fn round(&mut self) -> Result<(), Death> {
        while self.turn()? {}
        self.now += Duration::from_millis(20);
        for seat in 0..self.seats.len() {
            let mut out = Vec::new();
            let Some(process) = &mut self.seats[seat].process else { continue };
            if self.now.as_millis().is_multiple_of(100) {
                process.tick();
            }
            process.apply_tick(self.now, &mut out, &mut self.observer)?;
            self.hand_out(seat, out);
        }
        while self.turn()? {}
        Ok(())
    }

    fn some_turns(&mut self) -> Result<(), Death> {
        for _ in 0..self.rng.below(12) {
            self.turn()?;
        }
        Ok(())
    }

    /// A stage of somebody takes its turn, or a message arrives. Whether there was any.
    fn turn(&mut self) -> Result<bool, Death> {
        let mut choices: Vec<(usize, Stage, u64)> = Vec::new();
        for (number, seat) in self.seats.iter().enumerate() {
            let Some(process) = &seat.process else { continue };
            let ready = STAGES.iter().zip(self.weights);
            let ready = ready.filter(|(stage, _)| process.has_work(**stage));
            choices.extend(ready.map(|(stage, weight)| (number, *stage, weight)));
        }
        if !self.mail.is_empty() && (choices.is_empty() || self.rng.chance(300_000)) {
            self.deliver()?;
            return Ok(true);
        }
        let total: u64 = choices.iter().map(|(.., weight)| weight).sum();
        let mut at = self.rng.below(total);
        let chosen = choices.iter().find(|(.., weight)| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        let Some((seat, stage, _)) = chosen.copied() else { return Ok(false) };
        let batch = *self.rng.pick(&[1, 2, 64]);
        let mut out = Vec::new();
        let Some(process) = &mut self.seats[seat].process else { return Ok(false) };
        process.run(stage, batch, self.now, &mut out, &mut self.observer)?;
        self.hand_out(seat, out);
        Ok(true)
    }

    fn hand_out(&mut self, seat: usize, out: Vec<Outside>) {
        for outside in out {
            match outside {
                Outside::Send(message) => self.post(seat, message, None),
                Outside::SendSnapshot(message, database) => {
                    self.post(seat, message, Some(database));
                }
                Outside::Reply(reply) => {
                    let applied =
                        self.seats[seat].process.as_ref().map_or(0, |p| p.applier.applied_index());
                    if self.waiting.remove(&reply.id) && seat == TARGET {
                        self.promise(Promise { applied, ..Promise::default() });
                    }
                }
                Outside::Refused(id, _) => drop(self.waiting.remove(&id)),
                Outside::ReadReady(_)
                | Outside::Answer(..)
                | Outside::Watch(_)
                | Outside::Removed => {}
            }
        }
    }

    fn promise(&mut self, promise: Promise) {
        let operations = self.seats[TARGET].disk.operations();
        self.promises.push(Promise { operations, ..promise });
    }

    fn post(&mut self, from: usize, message: Message, body: Option<Bytes>) {
        if from == TARGET {
            self.note_promise(&message);
        }
        let to = self.seats.iter().position(|seat| seat.identity.metadata.node_id == message.to);
        let both = self.is_attached || (from != TARGET && to != Some(TARGET));
        match to {
            Some(to) if both => self.mail.push_back((from, to, message, body)),
            _ if body.is_some() => {
                let status = SnapshotStatus::Failure;
                self.tell(from, Event::SnapshotSent { to: message.to, status });
            }
            _ => {}
        }
    }

    /// What others may rely on who hear this.
    fn note_promise(&mut self, message: &Message) {
        let Message { msg_type, term, index, reject, to, .. } = *message;
        let mut promise = Promise { term, ..Promise::default() };
        match msg_type {
            MessageType::AppResp | MessageType::VoteResp if reject => {}
            MessageType::AppResp => promise.logged = index,
            MessageType::VoteResp => promise.vote = to,
            // Raft sends others before their term is on disk: nobody counts them.
            _ => return,
        }
        self.promise(promise);
    }

    fn tell(&mut self, seat: usize, event: Event) {
        if let Some(process) = &mut self.seats[seat].process {
            process.send(event);
        }
    }

    fn deliver(&mut self) -> Result<(), Death> {
        let Some((from, to, message, body)) = self.mail.pop_front() else { return Ok(()) };
        let Some(process) = &mut self.seats[to].process else { return Ok(()) };
        let Some(body) = body else {
            process.send(Event::Peer(message));
            return Ok(());
        };
        let receiver = message.to;
        process.receive_snapshot(message, &body, self.rng.below(1000), false)?;
        self.tell(from, Event::SnapshotSent { to: receiver, status: SnapshotStatus::Finish });
        Ok(())
    }

    /// Lets a member receive a message of one who is not here.
    pub fn receive(&mut self, message: Message) {
        self.tell(TARGET, Event::Peer(message));
    }
}

impl Promise {
    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let vote = match self.term.cmp(&other.term) {
            std::cmp::Ordering::Less => other.vote,
            std::cmp::Ordering::Equal => self.vote.max(other.vote),
            std::cmp::Ordering::Greater => self.vote,
        };
        Self {
            operations: self.operations.max(other.operations),
            applied: self.applied.max(other.applied),
            logged: self.logged.max(other.logged),
            term: self.term.max(other.term),
            vote,
        }
    }
}
