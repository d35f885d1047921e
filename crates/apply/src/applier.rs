//! The owner of all replicated state, and the loop over committed entries.

use std::sync::Arc;
use std::time::Duration;

use api::internal::{InternalRequestRef, OpRef};
use api::wire::Encode;
use backend::Backend;
use bytes::Bytes;
use cluster::{Alarms, Cluster};
use lease::Lessor;
use mutant::mutant;
use mvcc::watch::{Hub, WantPrev};
use mvcc::{CompactionProgress, Reader, Store};
use raft::{Entry, EntryType, Snapshot, SnapshotMetadata};

use crate::commit::Commits;
use crate::compactor::Compactor;
use crate::legacy;
use crate::message::{Answer, Command, Compacted, Input, LeaseTtl, Output, SnapshotView};
use crate::{AutoCompaction, Stats};

/// How an [`Applier`] behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The member whose state this is.
    pub member_id: u64,
    /// Size at which the backend is full; `None`: never.
    pub quota: Option<u64>,
    /// Applied entries between two snapshots.
    pub snapshot_count: u64,
    /// The shortest TTL that a lease is granted, in seconds.
    pub lease_ttl_min: i64,
    /// How much longer leases live after a change of leader.
    pub election_timeout: Duration,
    /// Whether the leader replicates the remaining time of leases.
    pub lease_checkpoint: bool,
    /// Whether that is kept on disk, too.
    pub lease_checkpoint_persist: bool,
    /// Rows looked at in one step of a compaction.
    pub compaction_batch_limit: usize,
    /// Pause between two steps of a compaction.
    pub compaction_sleep_interval: Duration,
    /// Compactions that nobody asked for.
    pub auto_compaction: Option<AutoCompaction>,
    /// The member's name and client URLs, told to the cluster when there is a leader.
    pub attributes: cluster::Attributes,
    /// The version that a new cluster gets.
    pub cluster_version: cluster::Version,
    /// The first of the request ids for proposals of this member's own.
    pub first_request_id: u64,
    /// How watches behave.
    pub watch: mvcc::watch::Options,
}

/// Applies committed entries and answers questions about the state.
#[derive(Debug)]
pub struct Applier {
    pub(crate) options: Options,
    pub(crate) backend: Backend,
    pub(crate) store: Store,
    pub(crate) lessor: Lessor,
    pub(crate) cluster: Cluster,
    pub(crate) alarms: Alarms,
    pub(crate) want_prev: WantPrev,
    pub(crate) commits: Commits,
    pub(crate) stats: Stats,
    compactor: Compactor,
    conf_state: raft::ConfState,
    applied: (u64, u64),
    snapshot_index: u64,
    compaction_at: Duration,
    /// The term in which this member leads.
    leads: Option<u64>,
    has_leader: bool,
    /// When this member last told its name.
    published_at: Option<Duration>,
    next_request_id: u64,
    renewals: Vec<(u64, i64)>,
    /// The snapshot that takes the place of all state, and what came since, for afterwards.
    installing: Option<(Snapshot, Vec<Input>)>,
}

/// A member whose name is not in the cluster yet tells it again after this time, as in etcd.
const PUBLISH_RETRY_INTERVAL: Duration = Duration::from_secs(7);

/// How often the remaining time of leases is recorded, where it is.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Why there is no state to begin with; the caller stops the process.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The keys can't be read.
    #[error(transparent)]
    Store(#[from] mvcc::Error),
    /// The leases can't be read.
    #[error(transparent)]
    Leases(#[from] lease::RestoreError),
    /// The members or alarms can't be read.
    #[error(transparent)]
    Cluster(#[from] cluster::RestoreError),
}

impl Applier {
    /// Takes over a backend as it was left. `conf_state` is raft's configuration at the backend's
    /// consistent index, `snapshot_index` the index of the newest `.snap`.
    ///
    /// # Errors
    /// If the backend is damaged or its disk failed.
    pub fn restore(
        mut backend: Backend,
        options: Options,
        cluster: Cluster,
        conf_state: raft::ConfState,
        snapshot_index: u64,
        now: Duration,
    ) -> Result<(Self, Hub), RestoreError> {
        let (store, attachments) = Store::restore(&mut backend, mvcc::Options::default())?;
        let mut lessor = Lessor::restore(&backend, lease_options(&options))?;
        for (key, lease) in attachments {
            // A key whose lease is gone keeps the number and never expires, as in etcd.
            lessor.attach(lease, &key);
        }
        let alarms = Alarms::restore(&backend)?;
        let hub = Hub::new(options.watch.clone(), store.reader());
        let applied = backend.consistent_index();
        let applier = Self {
            want_prev: hub.want_prev(),
            commits: Commits::new(applied.0),
            stats: Stats::default(),
            compactor: Compactor::new(options.auto_compaction),
            next_request_id: options.first_request_id,
            options,
            backend,
            store,
            lessor,
            cluster,
            alarms,
            conf_state,
            applied,
            snapshot_index,
            compaction_at: now,
            leads: None,
            has_leader: false,
            published_at: None,
            renewals: Vec::new(),
            installing: None,
        };
        Ok((applier, hub))
    }

    /// A view of the keys for reading from any thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.store.reader()
    }

    /// The members and the cluster's version.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The alarms that are raised.
    #[must_use]
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Counts for the metrics.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The backend, for its sizes.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Index of the last applied entry.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.applied.0
    }

    /// Handles one input. `now` never goes back.
    ///
    /// # Panics
    /// If a committed entry is not what a member of any release writes, or the state is damaged:
    /// the process must not go on.
    pub fn handle(&mut self, input: Input, now: Duration, out: &mut Output) {
        if let Some((_, waiting)) = &mut self.installing
            && matches!(
                input,
                Input::Entries(_)
                    | Input::Install(_)
                    | Input::Command { .. }
                    | Input::SendSnapshot(_)
            )
            && !(matches!(input, Input::Install(_)) && mutant!("18055"))
        {
            waiting.push(input);
            return;
        }
        match input {
            Input::Entries(entries) => {
                for entry in &entries {
                    self.apply(entry, now, out);
                }
                self.propose_snapshot();
            }
            Input::Command { token, command } => self.command(token, command, now, out),
            Input::Committed(done) => {
                self.backend.committed(done);
                self.commits.committed();
            }
            Input::Defragmented(result) => {
                let result = result.map(|done| self.backend.committed(done));
                self.commits.defragmented(result, out);
            }
            Input::Role { term, leader } => self.role(term, leader, now, out),
            Input::Install(snapshot) => {
                self.installing = Some((snapshot.clone(), Vec::new()));
                out.install = Some(snapshot);
            }
            Input::Installed(backend) => return self.installed(backend, now, out),
            Input::SendSnapshot(message) => self.commits.wait_for_send(message),
            Input::Stop => {}
        }
        self.settle(now, out);
    }

    /// Does what is due: expired leases, checkpoints, steps of compactions, the batch that is old
    /// enough. To be called about every 10 ms while [`Applier::is_busy`], else every 100 ms.
    pub fn tick(&mut self, now: Duration, out: &mut Output) {
        if self.installing.is_some() {
            return;
        }
        self.publish_name(now, out);
        if self.leads.is_some() {
            self.expire_leases(now, out);
            if let Some(revision) = self.compactor.due(now, self.store.revision()) {
                let request = api::etcdserverpb::CompactionRequest { revision, physical: false };
                self.propose_as_leader(OpRef::Compaction(&encode(&request)), out);
            }
        }
        if now >= self.compaction_at {
            self.compaction_at = now + self.options.compaction_sleep_interval;
            self.step_compaction(out);
        }
        self.settle(now, out);
    }

    /// Whether a compaction is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.commits.is_compacting()
    }

    /// The last batch, to be written before the process ends. `None` if there is nothing left to
    /// write or another batch has not arrived yet; see [`Applier::is_committing`].
    #[must_use]
    pub fn close(&mut self) -> Option<backend::Batch> {
        if self.is_committing() || self.installing.is_some() {
            return None;
        }
        let batch = self.backend.freeze()?;
        self.commits.frozen(self.applied.0);
        Some(batch)
    }

    /// Whether a batch is on its way into the file.
    #[must_use]
    pub fn is_committing(&self) -> bool {
        self.commits.is_frozen()
    }

    fn apply(&mut self, entry: &Entry, now: Duration, out: &mut Output) {
        assert_eq!(
            entry.index,
            self.applied.0 + 1,
            "committed entries are applied in order, each once"
        );
        if mutant!("13766") {
            self.backend.set_consistent_index(entry.index, entry.term);
            self.settle(now, out);
        }
        match entry.entry_type {
            EntryType::Normal if entry.data.is_empty() => {}
            EntryType::Normal => self.apply_request(entry, now, out),
            EntryType::ConfChange | EntryType::ConfChangeV2 => self.apply_conf_change(entry, out),
        }
        self.applied = (entry.index, entry.term);
        self.backend.set_consistent_index(entry.index, entry.term);
    }

    fn apply_request(&mut self, entry: &Entry, now: Duration, out: &mut Output) {
        match InternalRequestRef::decode(&entry.data) {
            Ok(request) => self.run(&request, &entry.data, now, out),
            Err(err) => {
                let Some(data) = legacy::translate(&entry.data) else {
                    panic!("entry {} of term {}: {err}", entry.index, entry.term);
                };
                let request = InternalRequestRef::decode(&data).expect("written just now");
                self.run(&request, &data, now, out);
            }
        }
    }

    fn run(
        &mut self,
        request: &InternalRequestRef<'_>,
        data: &Bytes,
        now: Duration,
        out: &mut Output,
    ) {
        let is_local = request.id >> 48 == self.options.member_id & 0xffff;
        if let Some(reply) = self.execute(request, data, is_local, now, out)
            && is_local
        {
            out.replies.push(crate::Reply { id: request.id, result: reply });
        }
    }

    fn apply_conf_change(&mut self, entry: &Entry, out: &mut Output) {
        let change = match entry.entry_type {
            EntryType::ConfChange => raft::ConfChange::decode(entry.data.clone()),
            _ => panic!("entry {}: joint changes are not part of etcd", entry.index),
        };
        let mut change = match change {
            Ok(change) => change,
            Err(err) => panic!("entry {} of term {}: {err}", entry.index, entry.term),
        };
        let result = match self.cluster.apply_conf_change(&change, &mut self.backend) {
            Ok(done) => {
                self.conf_state = self.cluster.conf_state();
                self.cluster.save_conf_state(&mut self.backend);
                out.is_removed |=
                    done == cluster::MembershipChange::Removed(self.options.member_id);
                out.membership.push(done);
                Ok(())
            }
            Err(err) => {
                // Raft must see every change, but this one is not to have an effect.
                change.node_id = 0;
                Err(err)
            }
        };
        self.stats.cluster_changes += 1;
        out.conf_changes.push((entry.index, change.to_v2()));
        if change.id >> 48 == self.options.member_id & 0xffff {
            let revision = self.store.revision();
            let result =
                result.map(|()| crate::Outcome::Done { revision }).map_err(membership_error);
            out.replies.push(crate::Reply { id: change.id, result });
        }
    }

    fn command(&mut self, token: u64, command: Command, now: Duration, out: &mut Output) {
        let revision = self.store.revision();
        let answer = match command {
            Command::LeaseRenew(_) | Command::LeaseTimeToLive(..) if self.leads.is_none() => {
                Answer::NotPrimary
            }
            Command::LeaseRenew(id) => {
                self.renew(token, id, now, out);
                return;
            }
            Command::LeaseTimeToLive(id, with_keys) => {
                let lease = self.lessor.time_to_live(id, now).map(|lease| LeaseTtl {
                    ttl: lease.remaining.unwrap_or(-1),
                    granted_ttl: lease.granted,
                    keys: if with_keys {
                        self.lessor.keys(id).map(Bytes::copy_from_slice).collect()
                    } else {
                        Vec::new()
                    },
                });
                Answer::LeaseTtl { revision, lease }
            }
            Command::LeaseLeases => Answer::Leases { revision, ids: self.lessor.leases() },
            Command::View => {
                self.commits.wait_for_view(token);
                return;
            }
            Command::Defragment => {
                self.commits.wait_for_defragment(token);
                out.defragment = true;
                return;
            }
        };
        out.answers.push((token, answer));
    }

    fn renew(&mut self, token: u64, id: i64, now: Duration, out: &mut Output) {
        if self.lessor.renew(id, now) == Err(lease::RenewError::Checkpointed) {
            // The old checkpoint must not shorten the renewed lease on a new leader: it is taken
            // back before the renewal counts.
            let checkpoint = api::etcdserverpb::LeaseCheckpoint { id, remaining_ttl: 0 };
            let request =
                api::etcdserverpb::LeaseCheckpointRequest { checkpoints: vec![checkpoint] };
            self.propose_as_leader(OpRef::LeaseCheckpoint(&encode(&request)), out);
        }
        self.try_renew(token, id, now, out);
    }

    fn try_renew(&mut self, token: u64, id: i64, now: Duration, out: &mut Output) {
        let ttl = match self.lessor.renew(id, now) {
            // Whether the checkpoint is taken back, and whether the expired lease is revoked, the
            // log will tell; or the next leader, who gives the lease its time anew.
            Err(lease::RenewError::Checkpointed | lease::RenewError::Expired) => {
                self.renewals.push((token, id));
                return;
            }
            Err(lease::RenewError::NotPrimary) => {
                out.answers.push((token, Answer::NotPrimary));
                return;
            }
            Err(lease::RenewError::NotFound) if mutant!("20615") => Some(1),
            Err(lease::RenewError::NotFound) => None,
            Ok(ttl) => Some(ttl),
        };
        self.stats.leases_renewed += u64::from(ttl.is_some());
        out.answers.push((token, Answer::Renewed { revision: self.store.revision(), ttl }));
    }

    /// Renewals that waited for an entry, or for the leader to change.
    pub(crate) fn finish_renewals(&mut self, now: Duration, out: &mut Output) {
        for (token, id) in std::mem::take(&mut self.renewals) {
            self.try_renew(token, id, now, out);
        }
    }

    fn role(&mut self, term: u64, leader: u64, now: Duration, out: &mut Output) {
        self.has_leader = leader != 0;
        let leads = (leader == self.options.member_id).then_some(term);
        if leads == self.leads {
            return;
        }
        self.leads = leads;
        if leads.is_none() {
            self.lessor.demote();
            self.finish_renewals(now, out);
            return;
        }
        self.lessor.promote(self.options.election_timeout, now);
        // Those that waited under an earlier term of this very member: all leases live on.
        self.finish_renewals(now, out);
        self.compactor.restart(now);
        self.published_at = None;
        self.publish_name(now, out);
        if self.cluster.version().is_none() {
            let ver = self.options.cluster_version.to_string();
            let request = api::membershippb::ClusterVersionSetRequest { ver };
            self.propose_as_leader(OpRef::ClusterVersionSet(&encode(&request)), out);
        }
    }

    /// Tells the cluster this member's name and client URLs, until the members show them.
    fn publish_name(&mut self, now: Duration, out: &mut Output) {
        if !self.has_leader || self.published_at.is_some_and(|at| now < at + PUBLISH_RETRY_INTERVAL)
        {
            return;
        }
        let own = &self.options.attributes;
        let is_known = self
            .cluster
            .member(self.options.member_id)
            .is_none_or(|member| member.name == own.name && member.client_urls == own.client_urls);
        if is_known && self.published_at.is_some() {
            return;
        }
        self.published_at = Some(now);
        let attributes = api::membershippb::ClusterMemberAttrSetRequest {
            member_id: self.options.member_id,
            member_attributes: Some(api::membershippb::Attributes {
                name: self.options.attributes.name.clone(),
                client_urls: self.options.attributes.client_urls.clone(),
            }),
        };
        self.propose(OpRef::ClusterMemberAttrSet(&encode(&attributes)), out);
    }

    fn expire_leases(&mut self, now: Duration, out: &mut Output) {
        for id in self.lessor.tick(now) {
            self.stats.leases_expired += 1;
            let request = api::etcdserverpb::LeaseRevokeRequest { id };
            self.propose_as_leader(OpRef::LeaseRevoke(&encode(&request)), out);
        }
        let checkpoints = self.lessor.checkpoint(now);
        if !checkpoints.is_empty() {
            let checkpoints = checkpoints
                .into_iter()
                .map(|(id, remaining_ttl)| api::etcdserverpb::LeaseCheckpoint { id, remaining_ttl })
                .collect();
            let request = api::etcdserverpb::LeaseCheckpointRequest { checkpoints };
            self.propose_as_leader(OpRef::LeaseCheckpoint(&encode(&request)), out);
        }
    }

    /// Proposes a request of this member's own.
    pub(crate) fn propose(&mut self, op: OpRef<'_>, out: &mut Output) {
        let request = self.request(op);
        out.proposals.push(request);
    }

    /// Proposes what only a leader may.
    fn propose_as_leader(&mut self, op: OpRef<'_>, out: &mut Output) {
        if let Some(term) = self.leads {
            let request = self.request(op);
            out.leader_proposals.push((term, request));
        }
    }

    fn request(&mut self, op: OpRef<'_>) -> Bytes {
        let request =
            InternalRequestRef { id: self.next_request_id, op: Some(op), ..Default::default() };
        self.next_request_id += 1;
        Bytes::from(request.encode_to_vec())
    }

    /// Takes over the database of a snapshot, and goes on with what has come meanwhile.
    ///
    /// # Panics
    /// If the database is not what the snapshot says.
    fn installed(&mut self, mut backend: Backend, now: Duration, out: &mut Output) {
        let (snapshot, waiting) = self.installing.take().expect("a snapshot was to be installed");
        let metadata = &snapshot.metadata;
        assert_eq!(
            backend.consistent_index(),
            (metadata.index, metadata.term),
            "the database is that of the snapshot"
        );
        if let Err(err) = self.take_over(&mut backend, now) {
            panic!("the database of the snapshot at {}: {err}", metadata.index);
        }
        self.backend = backend;
        self.conf_state = metadata.conf_state.clone();
        self.applied = (metadata.index, metadata.term);
        self.snapshot_index = metadata.index;
        self.commits.replaced(metadata.index);
        self.finish_renewals(now, out);
        out.is_removed |= self.cluster.is_removed(self.options.member_id);
        out.restored = Some(self.store.reader());
        self.settle(now, out);
        for input in waiting {
            self.handle(input, now, out);
        }
    }

    fn take_over(&mut self, backend: &mut Backend, now: Duration) -> Result<(), RestoreError> {
        let (store, attachments) = Store::restore(backend, mvcc::Options::default())?;
        let mut lessor = Lessor::restore(backend, lease_options(&self.options))?;
        for (key, lease) in attachments {
            lessor.attach(lease, &key);
        }
        if self.leads.is_some() {
            lessor.promote(self.options.election_timeout, now);
        }
        let mut cluster = Cluster::restore(backend)?;
        cluster.set_ids(self.cluster.local_id(), self.cluster.id());
        cluster.set_max_learners(self.cluster.max_learners());
        self.alarms = Alarms::restore(backend)?;
        (self.store, self.lessor, self.cluster) = (store, lessor, cluster);
        Ok(())
    }

    fn step_compaction(&mut self, out: &mut Output) {
        let limit = self.options.compaction_batch_limit;
        let progress = match self.store.compaction_step(&mut self.backend, limit) {
            Ok(progress) => progress,
            Err(err) => panic!("compacting: {err}"),
        };
        if let CompactionProgress::Finished { revision, hash, rows } = progress {
            out.compacted.push(Compacted { revision, hash, rows });
        }
        self.commits.compaction_progress(progress);
    }

    /// A snapshot is due every so many entries. It may be saved only when the backend holds on
    /// disk all that it stands for.
    fn propose_snapshot(&mut self) {
        if self.applied.0 - self.snapshot_index <= self.options.snapshot_count {
            return;
        }
        self.snapshot_index = self.applied.0;
        self.commits.wait_for_snapshot(Snapshot {
            data: self.cluster.v2_snapshot(),
            metadata: SnapshotMetadata {
                conf_state: self.conf_state.clone(),
                index: self.applied.0,
                term: self.applied.1,
            },
        });
    }

    /// Hands out what became durable, and freezes the open batch if it is due or waited for.
    fn settle(&mut self, now: Duration, out: &mut Output) {
        if self.installing.is_some() {
            // What is open is about to be replaced.
            return;
        }
        self.release(out);
        if !self.backend.wants_commit(now) && !self.commits.is_waiting() {
            return;
        }
        if let Some(batch) = self.backend.freeze() {
            self.commits.frozen(self.applied.0);
            out.commit = Some(batch);
        } else if !self.commits.is_frozen() {
            self.commits.clean(self.applied.0);
            self.release(out);
        }
    }

    fn release(&mut self, out: &mut Output) {
        let view = || SnapshotView {
            revision: self.store.revision(),
            compact_revision: self.store.compact_revision(),
            tx: self.backend.reader().snapshot(),
        };
        let data = || self.cluster.v2_snapshot();
        self.commits.release(view, data, out);
    }

    pub(crate) fn publish(&mut self, batch: mvcc::EventBatch, out: &mut Output) {
        self.stats.events += batch.events.len() as u64;
        out.events.push(Arc::new(batch));
    }
}

fn lease_options(options: &Options) -> lease::Options {
    lease::Options {
        ttl_min: options.lease_ttl_min,
        checkpoint_interval: options.lease_checkpoint.then_some(CHECKPOINT_INTERVAL),
    }
}

/// The client's error for a change that membership refuses.
fn membership_error(err: cluster::ConfChangeError) -> api::Error {
    use cluster::ConfChangeError as E;
    match err {
        E::IdExists => api::Error::MemberExist,
        E::PeerUrlExists => api::Error::PeerUrlExist,
        E::TooManyLearners => api::Error::TooManyLearners,
        E::MemberNotLearner => api::Error::MemberNotLearner,
        E::LastVoter => api::Error::MemberNotEnoughStarted,
        _ => api::Error::MemberNotFound,
    }
}

/// A message of the generated kind as bytes.
fn encode(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}
