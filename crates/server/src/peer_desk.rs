//! What other members ask of this one over the peer port: each question is a task that waits for the threads of the
//! member as a call of a client does, under a core number of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use api::Error;
use api::etcdserverpb as pb;
use api::internal::{InternalRequestRef, OpRef};
use api::wire::Encode as _;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use replica::{ConfProposal, Event};
use rpc::{Metrics, PEER_CORE, RequestIds, State};
use tokio::sync::oneshot;
use transport::{HashKv, LeaseRefusal, LeaseTtl, Request, Tls, Versions};

use crate::ask_leader;
use crate::failpoint::reach_in_task;
use crate::own_requests::OwnRequests;

/// How long a question about a lease waits for the state to be fresh, as in etcd.
const FRESH_TIMEOUT: Duration = Duration::from_secs(1);

/// Who waits for what.
pub(crate) struct PeerDesk {
    pub(crate) state: Arc<State>,
    metrics: Arc<Metrics>,
    pub(crate) is_strict: bool,
    /// For questions of this member to others.
    pub(crate) tls: Option<Tls>,
    /// How long a proposal waits.
    pub(crate) timeout: Duration,
    consensus: SyncSender<Event>,
    apply: SyncSender<apply::Input>,
    reader: Mutex<mvcc::Reader>,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    ids: RequestIds,
    last_token: u64,
    reads: BTreeMap<u64, oneshot::Sender<Result<(), Error>>>,
    answers: BTreeMap<u64, oneshot::Sender<apply::Answer>>,
    proposals: BTreeMap<u64, oneshot::Sender<Result<(), Error>>>,
    own_requests: OwnRequests,
}

impl Waiting {
    fn next_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }
}

impl PeerDesk {
    pub(crate) fn new(
        (state, metrics): (Arc<State>, Arc<Metrics>),
        ids: RequestIds,
        (consensus, apply): (SyncSender<Event>, SyncSender<apply::Input>),
        reader: mvcc::Reader,
        (is_strict, timeout): (bool, Duration),
        tls: Option<Tls>,
    ) -> Self {
        let own_requests = OwnRequests::new(&metrics, timeout);
        Self {
            state,
            metrics,
            is_strict,
            tls,
            timeout,
            consensus,
            apply,
            reader: Mutex::new(reader),
            waiting: Mutex::new(Waiting {
                ids,
                last_token: u64::from(PEER_CORE) << 48,
                reads: BTreeMap::new(),
                answers: BTreeMap::new(),
                proposals: BTreeMap::new(),
                own_requests,
            }),
        }
    }

    /// The state was replaced: reads go to this reader from now on.
    pub(crate) fn restored(&self, reader: mvcc::Reader) {
        *self.reader.lock() = reader;
    }

    /// A read of this desk may be served.
    pub(crate) fn read_ready(&self, id: u64) {
        tell(self.waiting.lock().reads.remove(&id), Ok(()));
    }

    /// A proposal of this desk is applied.
    pub(crate) fn replied(&self, id: u64, result: Result<(), Error>) {
        let mut waiting = self.waiting.lock();
        waiting.own_requests.applied(id);
        tell(waiting.proposals.remove(&id), result);
    }

    /// Apply has answered a command of this desk.
    pub(crate) fn answered(&self, token: u64, answer: apply::Answer) {
        tell(self.waiting.lock().answers.remove(&token), answer);
    }

    /// Proposes a request of this member's own, if need be only while it leads in `term`. It may be lost: whoever
    /// proposes it finds the same again.
    pub(crate) fn propose(&self, op: OpRef<'_>, term: Option<u64>) {
        let mut waiting = self.waiting.lock();
        let id = waiting.ids.next_id();
        let entry = InternalRequestRef { id, op: Some(op), ..InternalRequestRef::default() };
        let data = Bytes::from(entry.encode_to_vec());
        waiting.own_requests.proposed(&data);
        drop(waiting);
        let event = match term {
            Some(term) => Event::ProposeAsLeader { term, data: vec![data] },
            None => Event::Propose(vec![replica::Proposal { id, data }]),
        };
        let _ = self.consensus.try_send(event);
    }

    /// Has it recorded that a member's data is not that of the others; 0 stands for whoever it is.
    pub(crate) fn raise_corrupt_alarm(&self, member_id: u64) {
        let request = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate.into(),
            member_id,
            alarm: pb::AlarmType::Corrupt.into(),
        };
        self.propose(OpRef::Alarm(&request.encode_to_vec()), None);
    }

    /// Waits until all that is committed by now is applied, if this member leads.
    async fn fresh(&self) -> Result<(), LeaseRefusal> {
        if !self.state.is_leader() {
            return Err(LeaseRefusal::NotPrimary);
        }
        match tokio::time::timeout(FRESH_TIMEOUT, self.read()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(LeaseRefusal::Timeout),
        }
    }

    /// A linearizable read, for as long as a proposal may take.
    pub(crate) async fn fresh_read(&self) -> Result<(), Error> {
        tokio::time::timeout(self.timeout, self.read()).await.unwrap_or(Err(Error::Timeout))
    }

    /// What reads see now.
    pub(crate) fn reader(&self) -> mvcc::Reader {
        self.reader.lock().clone()
    }

    /// This member's hash at a revision, 0 for the current one, and the current revision.
    pub(crate) async fn hash_kv(&self, revision: i64) -> Result<(mvcc::KvHash, i64), String> {
        let reader = self.reader();
        let hashing = tokio::task::spawn_blocking(move || reader.hash_kv(revision));
        match hashing.await {
            Ok(result) => result.map_err(|err| err.to_string()),
            Err(err) => Err(err.to_string()),
        }
    }

    /// A linearizable read. Dropped by who is tired of waiting.
    async fn read(&self) -> Result<(), Error> {
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut waiting = self.waiting.lock();
            // Those that gave up meanwhile.
            waiting.reads.retain(|_, sender| !sender.is_closed());
            let id = waiting.next_token();
            waiting.reads.insert(id, sender);
            id
        };
        self.consensus.try_send(Event::Read { id }).map_err(|_| Error::TooManyRequests)?;
        receiver.await.unwrap_or(Err(Error::Stopped))
    }

    async fn command(&self, command: apply::Command) -> Option<apply::Answer> {
        let (sender, receiver) = oneshot::channel();
        let token = {
            let mut waiting = self.waiting.lock();
            waiting.answers.retain(|_, sender| !sender.is_closed());
            let token = waiting.next_token();
            waiting.answers.insert(token, sender);
            token
        };
        self.apply.try_send(apply::Input::Command { token, command }).ok()?;
        receiver.await.ok()
    }

    /// Keeps a lease alive.
    pub(crate) async fn renew(&self, id: i64) -> Result<i64, LeaseRefusal> {
        self.fresh().await?;
        reach_in_task!(beforeServeHTTPLeaseRenew);
        match self.command(apply::Command::LeaseRenew(id)).await {
            Some(apply::Answer::Renewed { ttl: Some(ttl), .. }) => Ok(ttl),
            Some(apply::Answer::Renewed { ttl: None, .. }) => Err(LeaseRefusal::NotFound),
            Some(apply::Answer::NotPrimary) => Err(LeaseRefusal::NotPrimary),
            _ => Err(LeaseRefusal::Timeout),
        }
    }

    /// How long a lease lives.
    pub(crate) async fn time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<apply::LeaseTtl, LeaseRefusal> {
        self.fresh().await?;
        reach_in_task!(beforeLookupWhenForwardLeaseTimeToLive);
        match self.command(apply::Command::LeaseTimeToLive(id, keys)).await {
            Some(apply::Answer::LeaseTtl { lease: Some(lease), .. }) => Ok(lease),
            Some(apply::Answer::LeaseTtl { lease: None, .. }) => Err(LeaseRefusal::NotFound),
            Some(apply::Answer::NotPrimary) => Err(LeaseRefusal::NotPrimary),
            _ => Err(LeaseRefusal::Timeout),
        }
    }

    /// Makes a learner a voter, if this member leads. Only the leader counts promotions, as in etcd.
    pub(crate) async fn promote(&self, id: u64) -> Result<Arc<cluster::Cluster>, Error> {
        let result = self.try_to_promote(id).await;
        match &result {
            Ok(_) => self.metrics.server_learner_promote_successes.inc(),
            Err(Error::NotLeader) => {}
            Err(error) => {
                let failures = &self.metrics.server_learner_promote_failures;
                failures.with_label_values(&[error.internal_message()]).inc();
            }
        }
        result
    }

    async fn try_to_promote(&self, id: u64) -> Result<Arc<cluster::Cluster>, Error> {
        if !self.state.is_leader() {
            return Err(Error::NotLeader);
        }
        rpc::may_promote(&self.state, self.is_strict, id)?;
        let (sender, receiver) = oneshot::channel();
        let request_id = {
            let mut waiting = self.waiting.lock();
            waiting.proposals.retain(|_, sender| !sender.is_closed());
            let request_id = waiting.ids.next_id();
            waiting.proposals.insert(request_id, sender);
            request_id
        };
        let change = raft::ConfChange {
            change_type: raft::ConfChangeType::AddNode,
            node_id: id,
            context: cluster::promote_context(id),
            id: request_id,
        };
        let proposal = ConfProposal { change, needs_ready_learner: true };
        self.consensus
            .try_send(Event::ProposeConfChange(proposal))
            .map_err(|_| Error::TooManyRequests)?;
        match tokio::time::timeout(self.timeout, receiver).await {
            Ok(Ok(result)) => result.map(|()| self.state.cluster()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// Answers a request of another member.
    pub(crate) async fn answer(self: Arc<Self>, request: Request) {
        match request {
            Request::Members { reply } => {
                let cluster = self.state.cluster();
                tell(Some(reply), cluster::members_to_json(cluster.members()));
            }
            Request::Version { reply } => {
                let cluster = self.state.cluster_version.read().clone();
                let storage = self.state.storage_version.read().clone();
                tell(Some(reply), Versions { cluster, storage });
            }
            Request::Promote { id, reply, .. } => {
                tell(Some(reply), ask_leader::promote(id, self.timeout, &self).await);
            }
            Request::HashKv { revision, reply } => {
                let result = self.hash_kv(revision).await;
                let result = result.map(|(hash, current)| HashKv {
                    revision: current,
                    hash: hash.hash,
                    compact_revision: hash.compact_revision,
                    hash_revision: hash.revision,
                });
                tell(Some(reply), result);
            }
            Request::DowngradeEnabled { reply } => {
                let result = self.fresh_read().await.map_err(|error| error.to_string());
                tell(Some(reply), result.map(|()| self.state.cluster().downgrade().enabled));
            }
            Request::LeaseRenew { id, reply } => tell(Some(reply), self.renew(id).await),
            Request::LeaseTimeToLive { id, keys, reply } => {
                let result = self.time_to_live(id, keys).await.map(|lease| LeaseTtl {
                    ttl: lease.ttl,
                    granted_ttl: lease.granted_ttl,
                    keys: lease.keys.iter().map(|key| key.to_vec()).collect(),
                });
                tell(Some(reply), result);
            }
        }
    }
}

/// Who asked may have gone.
fn tell<T>(waiter: Option<oneshot::Sender<T>>, answer: T) {
    if let Some(waiter) = waiter {
        let _ = waiter.send(answer);
    }
}
