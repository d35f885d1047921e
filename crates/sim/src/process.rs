//! One member as a process: the stages that are threads in production, each run by a call.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use apply::{Applier, Input, Output};
use backend::{Backend, Committer};
use bytes::Bytes;
use cluster::Cluster;
use env::{Disk, MemDisk};
use mvcc::Reader;
use mvcc::watch::{Command, Hub, Response};
use raft::{Message, Peer};
use replica::{Boot, Effect, Event, LogWriter, Persist, Proposal, Replica, boot};
use wal::Wal;
use wal::snap::Snapshotter;

use crate::observer::Observer;

/// The number of the core that is the server's own, as in `rpc`.
const SERVER_CORE: u64 = 15;

/// What runs on a thread of its own in production.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// `replica::Replica`.
    Consensus,
    /// `replica::LogWriter`.
    Disk,
    /// `apply::Applier`.
    Apply,
    /// `backend::Committer`.
    Commit,
    /// `mvcc::watch::Hub`.
    Watch,
}

/// All stages.
pub const STAGES: [Stage; 5] =
    [Stage::Consensus, Stage::Disk, Stage::Apply, Stage::Commit, Stage::Watch];

/// Who a member is, from its first start on.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its id and the cluster's.
    pub metadata: wal::Metadata,
    /// The founding members; empty for one that joins.
    pub founders: Vec<Peer>,
}

/// What is the same for all members of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Ticks in an election timeout.
    pub election_ticks: u32,
    /// The interval of ticks.
    pub tick: Duration,
    /// Whether pre-vote is on.
    pub pre_vote: bool,
    /// Entries between snapshots.
    pub snapshot_count: u64,
    /// Entries kept behind a snapshot.
    pub catchup_entries: u64,
    /// Appends that may be on their way to a follower.
    pub inflight_messages: usize,
    /// Size of log segments.
    pub segment_bytes: u64,
    /// How long a batch of the backend is open.
    pub batch_interval: Duration,
    /// Writes that fill a batch.
    pub batch_limit: usize,
    /// Rows of a step of a compaction.
    pub compaction_batch_limit: usize,
    /// Segments and snapshots that are kept.
    pub keep_files: usize,
    /// Whether the remaining time of leases is replicated.
    pub lease_checkpoint: bool,
    /// Responses that a stream may have on their way.
    pub watch_outstanding: usize,
    /// Bytes that the database may have.
    pub quota: Option<u64>,
}

/// Something for the world outside.
#[derive(Debug)]
pub enum Outside {
    /// A message to another member.
    Send(Message),
    /// A message with a database.
    SendSnapshot(Message, Bytes),
    /// The answer to a proposal.
    Reply(apply::Reply),
    /// A proposal that was refused.
    Refused(u64, api::Error),
    /// A read that may be served.
    ReadReady(u64),
    /// The answer to a command.
    Answer(u64, apply::Answer),
    /// Something for a watcher.
    Watch(Response),
    /// The member was removed, and stops soon.
    Removed,
}

/// Why a process has ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// Its disk failed, or what was on it can't be used.
    Disk(String),
    /// It was removed from the cluster.
    Removed,
    /// Raft says that it must not go on.
    Fatal(String),
}

#[derive(Debug)]
enum DiskInput {
    Persist(Persist),
    SaveSnapshot(raft::Snapshot),
}

#[derive(Debug)]
enum CommitInput {
    Commit(backend::Batch),
    Defragment,
    Install(raft::Snapshot),
}

#[derive(Debug)]
enum WatchInput {
    Events(Vec<std::sync::Arc<mvcc::EventBatch>>),
    Command(Command),
    Restored(Reader),
}

/// A running member.
#[derive(Debug)]
pub struct Process {
    /// Its id.
    pub id: u64,
    /// Where the front door reads.
    pub reader: Reader,
    /// The term, and the leader, as its consensus stage said last.
    pub role: (u64, u64),
    /// Its raft.
    pub replica: Replica,
    /// Its state.
    pub applier: Applier,
    log: LogWriter<MemDisk>,
    wal_dir: PathBuf,
    disk: MemDisk,
    committer: Committer<MemDisk>,
    hub: Hub,
    settings: Settings,
    events: VecDeque<Event>,
    writes: VecDeque<DiskInput>,
    inputs: VecDeque<Input>,
    commits: VecDeque<CommitInput>,
    watch: VecDeque<WatchInput>,
    /// The applied index that consensus knows.
    told: u64,
}

fn died(err: impl std::fmt::Display) -> Death {
    Death::Disk(err.to_string())
}

impl Process {
    /// Starts a member on what its disk holds, as `server` does.
    ///
    /// # Errors
    /// If the disk fails, or holds what no crash explains.
    pub fn boot(
        disk: &MemDisk,
        identity: &Identity,
        settings: &Settings,
        seed: u64,
        now: Duration,
    ) -> Result<Self, Death> {
        let snap_dir = Path::new("/data/member/snap");
        let wal_dir = Path::new("/data/member/wal").to_owned();
        for dir in [Path::new("/data"), snap_dir] {
            if !disk.exists(dir).map_err(died)? {
                disk.create_dir_all(dir, 0o700).map_err(died)?;
            }
        }
        let snapshotter = Snapshotter::new(disk.clone(), snap_dir);
        snapshotter.remove_orphans().map_err(died)?;
        let db = snap_dir.join("db");
        let has_log = wal::exists(disk, &wal_dir).map_err(died)?;
        let (backend, committer) = open_backend(disk, &db, has_log, settings)?;
        let applied = backend.consistent_index().0;
        if !has_log && applied > 0 {
            return Err(Death::Disk(format!("no log, but index {applied} is applied")));
        }
        let log_options =
            wal::Options { segment_bytes: settings.segment_bytes, ..wal::Options::default() };
        let found = || -> Result<Start, Death> {
            let mut cluster = Cluster::from_members(identity.metadata.cluster_id, []);
            cluster.set_ids(identity.metadata.node_id, identity.metadata.cluster_id);
            let boot = match &identity.founders[..] {
                [] => Boot::Join,
                founders => Boot::New(founders.to_vec()),
            };
            Ok(Start { cluster, conf_state: raft::ConfState::default(), boot, snapshot_index: 0 })
        };
        let (backend, committer, log, start) = if has_log {
            let paths = boot::Paths { db, wal_dir: wal_dir.clone() };
            let opened =
                boot::restart(disk, &snapshotter, &paths, (backend, committer), log_options)
                    .map_err(died)?;
            if opened.metadata != identity.metadata {
                return Err(Death::Disk("the log of another member".to_owned()));
            }
            let start = match opened.state {
                None => found()?,
                Some(state) => Start {
                    cluster: state.cluster,
                    conf_state: state.conf_state,
                    boot: state.boot,
                    snapshot_index: opened.snapshot.index,
                },
            };
            (opened.backend, opened.committer, opened.log, start)
        } else {
            let log = Wal::create(disk.clone(), &wal_dir, &identity.metadata, log_options)
                .map_err(died)?;
            (backend, committer, log, found()?)
        };
        let (applier, hub) = Applier::restore(
            backend,
            apply_options(identity, settings, seed),
            start.cluster,
            start.conf_state,
            start.snapshot_index,
            now,
        )
        .map_err(died)?;
        let options = replica::Options {
            id: identity.metadata.node_id,
            election_ticks: settings.election_ticks,
            pre_vote: settings.pre_vote,
            change_ticks: 70,
            catchup_entries: settings.catchup_entries,
            inflight_messages_max: settings.inflight_messages,
            seed,
            log_level: None,
        };
        let replica = Replica::new(options, start.boot).map_err(died)?;
        Ok(Self {
            id: identity.metadata.node_id,
            reader: applier.reader(),
            role: (0, 0),
            replica,
            told: applier.applied_index(),
            applier,
            log: LogWriter { log, snapshotter },
            wal_dir,
            disk: disk.clone(),
            committer,
            hub,
            settings: settings.clone(),
            events: VecDeque::new(),
            writes: VecDeque::new(),
            inputs: VecDeque::new(),
            commits: VecDeque::new(),
            watch: VecDeque::new(),
        })
    }

    /// Whether a stage has something to do.
    #[must_use]
    pub fn has_work(&self, stage: Stage) -> bool {
        match stage {
            Stage::Consensus => !self.events.is_empty(),
            Stage::Disk => !self.writes.is_empty(),
            Stage::Apply => !self.inputs.is_empty(),
            Stage::Commit => !self.commits.is_empty(),
            Stage::Watch => !self.watch.is_empty() || self.hub.has_work(),
        }
    }

    /// Gives consensus an event.
    pub fn send(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Gives apply a question.
    pub fn command(&mut self, token: u64, command: apply::Command) {
        self.inputs.push_back(Input::Command { token, command });
    }

    /// Gives the hub a request.
    pub fn watch(&mut self, command: Command) {
        self.watch.push_back(WatchInput::Command(command));
    }

    /// Lets a stage take up to `batch` of what waits for it. `now` is the member's own clock.
    ///
    /// # Errors
    /// If the process ends.
    pub fn run(
        &mut self,
        stage: Stage,
        batch: usize,
        now: Duration,
        out: &mut Vec<Outside>,
        observer: &mut Observer,
    ) -> Result<(), Death> {
        match stage {
            Stage::Consensus => self.consensus(batch, out, observer),
            Stage::Disk => self.write(batch),
            Stage::Apply => self.apply(batch, now, out, observer),
            Stage::Commit => self.commit(batch),
            Stage::Watch => {
                self.hear(batch, now, out);
                Ok(())
            }
        }
    }

    /// Whether all that raft knows to be committed is applied, and it was told so.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let index = self.applier.applied_index();
        self.replica.committed() == index && self.told == index && self.events.is_empty()
    }

    /// How raft's configuration differs from the list of members, which must not be when all is settled.
    #[must_use]
    pub fn misconfigured(&self) -> Option<String> {
        let listed = self.applier.cluster().conf_state();
        let (voters, learners) = self.replica.configuration();
        let is_same = (&listed.voters, &listed.learners) == (&voters, &learners);
        let id = self.id;
        (!is_same).then(|| format!("{id:x} lists {listed:x?}, but votes {voters:x?} {learners:x?}"))
    }

    /// Consensus counts a tick.
    pub fn tick(&mut self) {
        self.events.push_back(Event::Tick);
    }

    /// Apply looks at what is due; returns when it wants to do so again.
    ///
    /// # Errors
    /// If the process ends.
    pub fn apply_tick(
        &mut self,
        now: Duration,
        out: &mut Vec<Outside>,
        observer: &mut Observer,
    ) -> Result<Duration, Death> {
        let mut output = Output::default();
        self.applier.tick(now, &mut output);
        self.dispatch(output, out, observer)?;
        let busy = self.applier.is_busy();
        Ok(Duration::from_millis(if busy { 10 } else { 100 }))
    }

    /// The hub looks at its timers.
    pub fn watch_tick(&mut self, now: Duration, out: &mut Vec<Outside>) {
        self.hear(0, now, out);
    }

    /// The disk thread removes files that are too many.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn purge(&mut self) -> Result<(), Death> {
        wal::purge(&self.disk, &self.wal_dir, self.settings.keep_files).map_err(died)?;
        let recorded = self.log.log.snapshot_index();
        self.log.snapshotter.purge(self.settings.keep_files, recorded).map_err(died)?;
        Ok(())
    }

    /// Receives the database of a snapshot in parts, and then its message. `cut`: the transfer
    /// breaks off in the middle.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn receive_snapshot(
        &mut self,
        message: Message,
        database: &[u8],
        unique: u64,
        cut: bool,
    ) -> Result<(), Death> {
        let index = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.metadata.index);
        let mut file = self.log.snapshotter.receive_db(index, unique).map_err(died)?;
        let parts = database.chunks(32 << 10);
        let count = parts.len();
        for part in parts.take(if cut { count / 2 } else { count }) {
            file.write(part).map_err(died)?;
        }
        if cut {
            file.abort();
            return Ok(());
        }
        file.finish().map_err(died)?;
        self.events.push_back(Event::Peer(message));
        Ok(())
    }

    /// Hands out the effects that a start brings about.
    ///
    /// # Errors
    /// If the process ends.
    pub fn begin(&mut self, out: &mut Vec<Outside>, observer: &mut Observer) -> Result<(), Death> {
        let mut effects = Vec::new();
        self.replica.flush(&mut effects);
        effects.into_iter().try_for_each(|effect| self.perform(effect, out, observer))
    }

    fn consensus(
        &mut self,
        batch: usize,
        out: &mut Vec<Outside>,
        observer: &mut Observer,
    ) -> Result<(), Death> {
        let mut effects = Vec::new();
        for event in self.events.drain(..batch.min(self.events.len())) {
            self.replica.handle(event, &mut effects);
        }
        self.replica.flush(&mut effects);
        effects.into_iter().try_for_each(|effect| self.perform(effect, out, observer))
    }

    fn perform(
        &mut self,
        effect: Effect,
        out: &mut Vec<Outside>,
        observer: &mut Observer,
    ) -> Result<(), Death> {
        match effect {
            Effect::Persist(persist) => {
                observer.persisting(self.id, &persist);
                self.writes.push_back(DiskInput::Persist(persist));
            }
            Effect::SaveSnapshot(snapshot) => {
                self.writes.push_back(DiskInput::SaveSnapshot(snapshot));
            }
            Effect::Apply(entries) => {
                observer.committed(self.id, &entries);
                self.inputs.push_back(Input::Entries(entries));
            }
            Effect::Send(message) => out.push(Outside::Send(message)),
            Effect::SendSnapshot(message) => self.inputs.push_back(Input::SendSnapshot(message)),
            Effect::Install(snapshot) => {
                observer.installing();
                self.inputs.push_back(Input::Install(snapshot));
            }
            Effect::ReadReady(ids) => out.extend(ids.into_iter().map(Outside::ReadReady)),
            Effect::Refused(ids, error) => {
                out.extend(ids.into_iter().map(|id| Outside::Refused(id, error)));
            }
            Effect::Role { term, leader, .. } => {
                self.role = (term, leader);
                observer.role(self.id, term, leader);
                self.inputs.push_back(Input::Role { term, leader });
            }
            Effect::Fatal(err) => return Err(Death::Fatal(err.to_string())),
            // Raft itself is silent here.
            Effect::Log(lines) => observer.gave_way += lines.len() as u64,
        }
        Ok(())
    }

    fn write(&mut self, batch: usize) -> Result<(), Death> {
        let mut merged = Persist::default();
        for input in self.writes.drain(..batch.min(self.writes.len())) {
            let alone = match input {
                DiskInput::Persist(persist) => match merged.merge(persist) {
                    None => continue,
                    Some(alone) => Ok(alone),
                },
                DiskInput::SaveSnapshot(snapshot) => Err(snapshot),
            };
            let responses = self.log.append(std::mem::take(&mut merged)).map_err(died)?;
            self.events.push_back(Event::Persisted(responses));
            match alone {
                Ok(persist) => merged = persist,
                Err(snapshot) => self.log.save_snapshot(&snapshot).map_err(died)?,
            }
        }
        let responses = self.log.append(merged).map_err(died)?;
        self.events.push_back(Event::Persisted(responses));
        self.log.log.prepare_next().map_err(died)
    }

    fn apply(
        &mut self,
        batch: usize,
        now: Duration,
        out: &mut Vec<Outside>,
        observer: &mut Observer,
    ) -> Result<(), Death> {
        let mut output = Output::default();
        for _ in 0..batch {
            let Some(input) = self.inputs.pop_front() else { break };
            match input {
                Input::Entries(entries) => {
                    // One by one where states are compared.
                    let mut rest = entries;
                    while !rest.is_empty() {
                        let later = rest.split_off(observer.until_check(&rest));
                        self.applier.handle(Input::Entries(rest.clone()), now, &mut output);
                        observer.applied(&self.applier, &rest);
                        self.hand_to_commit(&mut output);
                        rest = later;
                    }
                }
                other => self.applier.handle(other, now, &mut output),
            }
            self.hand_to_commit(&mut output);
        }
        self.dispatch(output, out, observer)
    }

    fn hand_to_commit(&mut self, output: &mut Output) {
        self.commits.extend(output.commit.take().map(CommitInput::Commit));
        self.commits.extend(output.install.take().map(CommitInput::Install));
        if std::mem::take(&mut output.defragment) {
            self.commits.push_back(CommitInput::Defragment);
        }
    }

    fn dispatch(
        &mut self,
        mut output: Output,
        out: &mut Vec<Outside>,
        observer: &mut Observer,
    ) -> Result<(), Death> {
        self.hand_to_commit(&mut output);
        if let Some(reader) = output.restored.take() {
            observer.installed(&self.applier);
            self.reader = reader.clone();
            self.watch.push_back(WatchInput::Restored(reader));
        }
        if !output.events.is_empty() {
            observer.events(self.id, &output.events);
            self.watch.push_back(WatchInput::Events(std::mem::take(&mut output.events)));
        }
        out.extend(output.replies.drain(..).map(Outside::Reply));
        out.extend(output.answers.drain(..).map(|(token, answer)| Outside::Answer(token, answer)));
        for (message, view) in output.snapshots.drain(..) {
            let mut database = vec![0; view.tx.size() as usize];
            view.tx.read_copy_at(0, &mut database).map_err(died)?;
            out.push(Outside::SendSnapshot(message, database.into()));
        }
        let index = self.applier.applied_index();
        if index != self.told || output.snapshot.is_some() || !output.conf_changes.is_empty() {
            self.told = index;
            self.events.push_back(Event::Applied {
                index,
                conf_changes: std::mem::take(&mut output.conf_changes),
                snapshot: output.snapshot.take(),
            });
        }
        let id = ((self.id & 0xffff) << 48) | (SERVER_CORE << 44);
        let own = output.proposals.drain(..).map(|data| Proposal { id, data });
        let own: Vec<Proposal> = own.collect();
        if !own.is_empty() {
            self.events.push_back(Event::Propose(own));
        }
        for (term, data) in output.leader_proposals.drain(..) {
            self.events.push_back(Event::ProposeAsLeader { term, data: vec![data] });
        }
        if output.is_removed {
            out.push(Outside::Removed);
        }
        Ok(())
    }

    fn commit(&mut self, batch: usize) -> Result<(), Death> {
        for _ in 0..batch {
            let Some(input) = self.commits.pop_front() else { break };
            let done = match input {
                CommitInput::Commit(batch) => {
                    Input::Committed(self.committer.commit(batch).map_err(died)?)
                }
                CommitInput::Defragment => {
                    Input::Defragmented(self.committer.defrag().map_err(|err| err.to_string()))
                }
                CommitInput::Install(snapshot) => {
                    let path =
                        self.log.snapshotter.db_path(snapshot.metadata.index).map_err(died)?;
                    let options = self.applier.backend().options().clone();
                    Input::Installed(self.committer.install(&path, options).map_err(died)?)
                }
            };
            self.inputs.push_back(done);
        }
        Ok(())
    }

    fn hear(&mut self, batch: usize, now: Duration, out: &mut Vec<Outside>) {
        let mut responses = Vec::new();
        for input in self.watch.drain(..batch.min(self.watch.len())) {
            match input {
                WatchInput::Events(batches) => {
                    batches.iter().for_each(|batch| self.hub.notify(batch, &mut responses));
                }
                WatchInput::Command(command) => self.hub.command(command, &mut responses),
                WatchInput::Restored(reader) => self.hub.restored(reader),
            }
        }
        if let Err(err) = self.hub.sync(now, &mut responses) {
            panic!("reading the store for watchers: {err}");
        }
        self.hub.tick(now, &mut responses);
        out.extend(responses.into_iter().map(Outside::Watch));
    }
}

/// What a member begins with.
struct Start {
    cluster: Cluster,
    conf_state: raft::ConfState,
    boot: Boot,
    snapshot_index: u64,
}

/// Without a log the first start was interrupted: a database that can't be read was never used.
fn open_backend(
    disk: &MemDisk,
    db: &Path,
    has_log: bool,
    settings: &Settings,
) -> Result<(Backend, Committer<MemDisk>), Death> {
    let options = backend::Options {
        batch_interval: settings.batch_interval,
        batch_limit: settings.batch_limit,
        map_bytes: 64 << 20,
        alloc_bytes: 64 << 10,
        ..backend::Options::default()
    };
    match Backend::open(disk.clone(), db, options.clone()) {
        Err(backend::Error::Bolt(bolt::Error::Damaged(_))) if !has_log => {
            disk.remove(db).map_err(died)?;
            Backend::open(disk.clone(), db, options).map_err(died)
        }
        other => other.map_err(died),
    }
}

fn apply_options(identity: &Identity, settings: &Settings, seed: u64) -> apply::Options {
    let id = identity.metadata.node_id;
    let election_timeout = settings.tick * settings.election_ticks;
    apply::Options {
        member_id: id,
        quota: settings.quota,
        snapshot_count: settings.snapshot_count,
        lease_ttl_min: (3 * election_timeout.as_millis()).div_ceil(2 * 1000) as i64,
        election_timeout,
        lease_checkpoint: settings.lease_checkpoint,
        lease_checkpoint_persist: settings.lease_checkpoint,
        compaction_batch_limit: settings.compaction_batch_limit,
        compaction_sleep_interval: Duration::from_millis(10),
        auto_compaction: None,
        attributes: cluster::Attributes {
            name: identity.name.clone(),
            client_urls: vec![format!("http://{}:2379", identity.name)],
        },
        cluster_version: cluster::Version::new(3, 7, 0),
        first_request_id: ((id & 0xffff) << 48) | (SERVER_CORE << 44) | (seed & 0xfff_ffff_0000),
        watch: mvcc::watch::Options {
            seed,
            outstanding_max: settings.watch_outstanding,
            outstanding_per_watcher: 0,
            // Where few responses may be on their way, few bytes may, too.
            outstanding_bytes_max: if settings.watch_outstanding < 10 { 64 } else { 1 << 20 },
            ..mvcc::watch::Options::default()
        },
    }
}
