//! What the calls of a core share: the batches of the turn, and who waits for what.

mod durations;
mod load;
mod versions;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::TrySendError;
use std::time::Duration;

use api::etcdserverpb::{ResponseHeader, TxnRequest};
use api::internal::{InternalRequestRef, OpRef};
use api::service::{Kind, Rpc};
use api::wire::Encode as _;
use api::{Code, Error, Status};
use bytes::Bytes;
use http2::StreamId;
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::grpc::Head;
use crate::inside::{Caller, Order};
use crate::message::Frame;
use crate::metrics::CallCounters;
use crate::service::maintenance::SnapshotCursor;
use crate::task::{self, Leash, Tether};
use crate::{AskLeader, LeaderRequest, Link, RequestIds, WatchInput};
pub(crate) use durations::{Durations, RequestType};
use load::Load;
use versions::Versions;

/// Committed entries that may wait to be applied before proposals are refused, as in etcd.
const BACKLOG_MAX: u64 = 5000;
/// Watch requests that may wait for room in the hub's queue before their streams are held up.
const WATCH_BACKLOG_MAX: usize = 10_000;

/// Commands that may wait for room in apply's queue before further ones are refused.
const COMMAND_BACKLOG_MAX: usize = 10_000;

/// A connection of this core. The generation tells it from later users of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// A call of this core, possibly gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallKey {
    pub(crate) connection: ConnectionKey,
    pub(crate) stream: StreamId,
}

/// A call as a handler sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallInfo {
    pub(crate) key: CallKey,
    pub(crate) rpc: Rpc,
    pub(crate) begun: Instant,
    /// When the client stops waiting.
    pub(crate) deadline: Option<Instant>,
}

/// What a handler decided for a call with one request.
#[derive(Debug)]
pub(crate) enum Next {
    /// The response is in [`Desk::frame`].
    Answer,
    /// It comes later, through the desk.
    Wait,
    /// The call goes on as a stream of responses.
    Stream(crate::call::Stream),
    /// A task works it off.
    Task(Leash),
    /// Another thread does.
    Work(Tether),
}

/// What to do when a linearizable read may be served.
#[derive(Debug)]
pub(crate) enum ReadOp {
    /// A `RangeRequest` in the batch's arena.
    Range(Range<usize>),
    /// A `RangeStream`'s request in the batch's arena.
    RangeStream(Range<usize>),
    Txn(Box<TxnRequest>),
    MemberList,
    LeaseTimeToLive {
        id: i64,
        keys: bool,
    },
    /// A message of a LeaseKeepAlive stream.
    LeaseRenew(i64),
}

#[derive(Debug)]
pub(crate) struct ReadWaiter {
    pub(crate) call: CallInfo,
    pub(crate) op: ReadOp,
}

impl ReadWaiter {
    /// The same read with bytes of its own instead of a place in a batch's arena.
    pub(crate) fn detach(self, arena: &[u8]) -> (Self, Vec<u8>) {
        let copy = |part: Range<usize>| arena.get(part).unwrap_or_default().to_vec();
        let (op, request) = match self.op {
            ReadOp::Range(part) => {
                let request = copy(part);
                (ReadOp::Range(0..request.len()), request)
            }
            ReadOp::RangeStream(part) => {
                let request = copy(part);
                (ReadOp::RangeStream(0..request.len()), request)
            }
            op => (op, Vec::new()),
        };
        (Self { call: self.call, op }, request)
    }
}

/// The linearizable reads of a turn: they share one read index.
#[derive(Debug, Default)]
pub(crate) struct ReadBatch {
    /// Requests' bytes, one after another.
    pub(crate) arena: Vec<u8>,
    pub(crate) waiters: Vec<ReadWaiter>,
    /// HTTP pages that only want to know that a read can be served.
    pub(crate) pages: Vec<oneshot::Sender<Result<(), Error>>>,
    deadline: Option<Instant>,
}

/// Who waits for an [`apply::Answer`] or a [`crate::LeaderAnswer`].
#[derive(Debug)]
pub(crate) struct CommandWaiter {
    pub(crate) call: CallInfo,
    /// The lease of a renewal or a time-to-live.
    pub(crate) lease: i64,
}

/// What other tasks of this core's runtime send to it.
#[derive(Debug)]
pub(crate) enum Local {
    /// An HTTP page wants a linearizable read.
    PageRead(oneshot::Sender<Result<(), Error>>),
    /// A unary call was worked out on another thread in this time; the response in its frame.
    Worked(CallInfo, Duration, Result<Frame, Status>),
    /// More of a snapshot was read.
    Snapshot(CallKey, Result<Box<SnapshotCursor>, Status>),
    /// A task has worked a unary call off; the response in its frame.
    Served(CallKey, Result<Frame, Status>),
    /// A task has responses for a stream.
    Pump(CallKey),
    /// A task wants a call, or something of its call.
    Inside(Order),
}

/// A call that waits for its proposal to be applied.
#[derive(Debug)]
pub(crate) struct Proposed {
    pub(crate) call: CallInfo,
    deadline: Instant,
    /// The member of a `MemberAdd`.
    pub(crate) added: Option<Box<cluster::Member>>,
}

/// A call that waits for another member to lead.
#[derive(Debug)]
struct Transfer {
    call: CallInfo,
    target: u64,
    deadline: Instant,
}

/// A call that ends with an error.
pub(crate) type Failure = (CallKey, Status);

/// Everything of a core but its connections.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) link: Link,
    pub(crate) counters: Arc<CallCounters>,
    pub(crate) durations: Durations,
    /// The time at which the turn began.
    pub(crate) now: Instant,
    /// The response that is being made.
    pub(crate) frame: Frame,
    pub(crate) local: mpsc::UnboundedSender<Local>,
    /// Makes calls for tasks.
    pub(crate) caller: Caller,
    /// The core is shutting down.
    pub(crate) is_draining: bool,
    pub(crate) load: Load,
    ids: RequestIds,
    last_token: u64,
    is_capable: bool,
    versions: Versions,
    /// The origin of [`Desk::now_ms`].
    origin: Instant,
    received_bytes: u64,
    sent_bytes: u64,

    proposals: Vec<replica::Proposal>,
    reads: ReadBatch,
    commands: VecDeque<(u64, apply::Command)>,
    watch_commands: Vec<mvcc::watch::Command>,
    failures: Vec<Failure>,

    proposed: FxHashMap<u64, Proposed>,
    reading: FxHashMap<u64, ReadBatch>,
    commanded: FxHashMap<u64, CommandWaiter>,
    transfers: Vec<Transfer>,
    watch_streams: FxHashMap<u64, CallKey>,
    spare_reads: Vec<ReadBatch>,
    /// Who the leader is, and when that was seen to change; watched at every tick.
    leader: (u64, Option<Instant>),
}

impl Desk {
    pub(crate) fn new(
        link: Link,
        ids: RequestIds,
        local: mpsc::UnboundedSender<Local>,
        now: Instant,
    ) -> Self {
        Self {
            counters: link.metrics.core(),
            durations: Durations::new(&link.metrics),
            now,
            frame: Frame::default(),
            caller: Caller::new(local.clone()),
            local,
            is_draining: false,
            load: Load::default(),
            last_token: u64::from(ids.core()) << 48,
            ids,
            is_capable: false,
            versions: Versions::new(&link.metrics),
            origin: now,
            received_bytes: 0,
            sent_bytes: 0,
            proposals: Vec::new(),
            reads: ReadBatch::default(),
            commands: VecDeque::new(),
            watch_commands: Vec::new(),
            failures: Vec::new(),
            proposed: FxHashMap::default(),
            reading: FxHashMap::default(),
            commanded: FxHashMap::default(),
            transfers: Vec::new(),
            watch_streams: FxHashMap::default(),
            spare_reads: Vec::new(),
            leader: (link.state.leader.load(Ordering::Relaxed), None),
            link,
        }
    }

    /// The header of a response at `revision`.
    pub(crate) fn header(&self, revision: i64) -> ResponseHeader {
        let state = &self.link.state;
        ResponseHeader {
            cluster_id: state.cluster_id,
            member_id: state.member_id,
            revision,
            raft_term: state.term.load(Ordering::Relaxed),
        }
    }

    /// The checks before any handler, in etcd's order.
    pub(crate) fn admit(&mut self, head: &Head, api_version: Option<&[u8]>) -> Result<(), Error> {
        if !self.is_capable {
            self.is_capable = self.link.state.cluster_version.read().is_some();
            if !self.is_capable {
                return Err(Error::NotCapable);
            }
        }
        let kind = head.rpc.method().kind;
        if kind == Kind::Bidi && self.link.state.is_learner.load(Ordering::Relaxed) {
            return Err(Error::NotSupportedForLearner);
        }
        self.versions.count(kind, api_version)?;
        if head.requires_leader && !self.link.state.has_leader() {
            return Err(Error::NoLeader);
        }
        Ok(())
    }

    /// A request's message of so many bytes came.
    pub(crate) fn received(&mut self, rpc: Rpc, bytes: usize) {
        self.counters.received(rpc);
        self.received_bytes += bytes as u64;
    }

    /// The message in the frame is about to be sent.
    pub(crate) fn sent(&mut self, rpc: Rpc) {
        self.counters.sent(rpc);
        self.sent_bytes += self.frame.message_len() as u64;
    }

    /// A call ended with this code.
    pub(crate) fn handled(&self, call: &CallInfo, code: Code) {
        self.counters.handled(call.rpc, code);
        self.link.metrics.call_took(call.rpc, self.now.saturating_duration_since(call.begun));
    }

    /// The turn's time in milliseconds since the core began.
    pub(crate) fn now_ms(&self) -> u64 {
        let elapsed = self.now.saturating_duration_since(self.origin);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    /// A fresh positive lease id.
    pub(crate) fn next_lease_id(&mut self) -> i64 {
        (self.ids.next_id() & (u64::MAX >> 1)).cast_signed()
    }

    /// Asks consensus for a change; the answer comes as a reply.
    pub(crate) fn propose(&mut self, call: &CallInfo, op: OpRef<'_>) -> Result<Next, Status> {
        if self.link.state.backlog() > BACKLOG_MAX {
            return Err(Error::TooManyRequests.into());
        }
        let id = self.ids.next_id();
        let data = encode(id, op);
        if data.len() > self.link.limits.max_request_bytes {
            return Err(Error::RequestTooLarge.into());
        }
        let deadline = self.deadline(call);
        self.proposed.insert(id, Proposed { call: *call, deadline, added: None });
        self.proposals.push(replica::Proposal { id, data });
        Ok(Next::Wait)
    }

    /// When a call that waits for others gives up.
    fn deadline(&self, call: &CallInfo) -> Instant {
        let timeout = self.now + self.link.limits.request_timeout();
        call.deadline.map_or(timeout, |deadline| deadline.min(timeout))
    }

    /// Asks consensus for a change of the members, under an id of this desk's; the answer comes as
    /// a reply.
    pub(crate) fn propose_conf_change(
        &mut self,
        call: &CallInfo,
        change: raft::ConfChange,
        added: Option<Box<cluster::Member>>,
    ) -> Result<Next, Status> {
        let id = self.ids.next_id();
        let proposal = replica::ConfProposal {
            change: raft::ConfChange { id, ..change },
            needs_ready_learner: call.rpc == Rpc::ClusterMemberPromote,
        };
        self.tell_consensus(replica::Event::ProposeConfChange(proposal))?;
        let deadline = self.deadline(call);
        self.proposed.insert(id, Proposed { call: *call, deadline, added });
        self.link.metrics.server_proposals_pending.inc();
        Ok(Next::Wait)
    }

    /// Asks consensus to let another member lead; see [`Desk::take_transferred`].
    pub(crate) fn transfer_leader(&mut self, call: &CallInfo, target: u64) -> Result<Next, Status> {
        self.tell_consensus(replica::Event::TransferLeader(target))?;
        let deadline = self.deadline(call);
        self.transfers.push(Transfer { call: *call, target, deadline });
        Ok(Next::Wait)
    }

    fn tell_consensus(&self, event: replica::Event) -> Result<(), Error> {
        self.link.consensus.try_send(event).map_err(|err| match err {
            TrySendError::Full(_) => Error::TooManyRequests,
            TrySendError::Disconnected(_) => Error::Stopped,
        })
    }

    /// Asks the leader, which is another member.
    pub(crate) fn ask_leader(
        &mut self,
        call: &CallInfo,
        request: LeaderRequest,
    ) -> Result<Next, Status> {
        let lease = match request {
            LeaderRequest::LeaseRenew(id) | LeaderRequest::LeaseTimeToLive { id, .. } => id,
            LeaderRequest::Promote(_) => 0,
        };
        self.last_token += 1;
        let token = self.last_token;
        let deadline = self.deadline(call);
        self.link.leader.try_send(AskLeader { token, deadline, request }).map_err(
            |err| match err {
                mpsc::error::TrySendError::Full(_) => Error::TooManyRequests,
                mpsc::error::TrySendError::Closed(_) => Error::Stopped,
            },
        )?;
        self.commanded.insert(token, CommandWaiter { call: *call, lease });
        Ok(Next::Wait)
    }

    /// Asks consensus for a change that nobody waits for.
    pub(crate) fn propose_silently(&mut self, op: OpRef<'_>) {
        let id = self.ids.next_id();
        self.proposals.push(replica::Proposal { id, data: encode(id, op) });
    }

    /// Waits until this member's state holds everything that was committed by now.
    pub(crate) fn read(&mut self, call: &CallInfo, op: ReadOp) -> Next {
        self.reads.waiters.push(ReadWaiter { call: *call, op });
        Next::Wait
    }

    /// As [`Desk::read`], keeping `request` until then.
    pub(crate) fn read_request(
        &mut self,
        call: &CallInfo,
        request: &[u8],
        op: impl FnOnce(Range<usize>) -> ReadOp,
    ) -> Next {
        let start = self.reads.arena.len();
        self.reads.arena.extend_from_slice(request);
        let end = self.reads.arena.len();
        self.read(call, op(start..end))
    }

    /// A page's wish for a linearizable read.
    pub(crate) fn read_for_page(&mut self, page: oneshot::Sender<Result<(), Error>>) {
        self.reads.pages.push(page);
    }

    /// Works a response out on another thread, lest this one's other connections wait for it; see [`task::elsewhere`].
    pub(crate) fn work(
        &self,
        call: &CallInfo,
        job: impl FnOnce(&mut Frame, &AtomicBool) -> Result<(), Status> + Send + 'static,
    ) -> Next {
        Next::Work(task::elsewhere(self.local.clone(), *call, job))
    }

    /// Asks the owner of the state.
    pub(crate) fn command(
        &mut self,
        call: &CallInfo,
        command: apply::Command,
        lease: i64,
    ) -> Result<Next, Status> {
        if self.commands.len() >= COMMAND_BACKLOG_MAX {
            return Err(Error::TooManyRequests.into());
        }
        self.last_token += 1;
        let token = self.last_token;
        self.commanded.insert(token, CommandWaiter { call: *call, lease });
        self.commands.push_back((token, command));
        Ok(Next::Wait)
    }

    /// A new stream of watches, answered through `call`.
    pub(crate) fn open_watch_stream(&mut self, call: CallKey) -> u64 {
        self.last_token += 1;
        self.watch_streams.insert(self.last_token, call);
        self.last_token
    }

    pub(crate) fn close_watch_stream(&mut self, stream: u64) {
        if self.watch_streams.remove(&stream).is_some() {
            self.watch_commands.push(mvcc::watch::Command::Close { stream });
        }
    }

    /// Asks the watch hub.
    pub(crate) fn watch(&mut self, command: mvcc::watch::Command) {
        self.watch_commands.push(command);
    }

    /// Whether the hub keeps up with the requests of streams.
    pub(crate) fn has_room_for_watches(&self) -> bool {
        self.watch_commands.len() < WATCH_BACKLOG_MAX
    }

    /// The call behind a stream of watches.
    pub(crate) fn watch_call(&self, stream: u64) -> Option<CallKey> {
        self.watch_streams.get(&stream).copied()
    }

    /// Who waits for the reply to this proposal.
    pub(crate) fn take_proposed(&mut self, id: u64) -> Option<Proposed> {
        self.proposed.remove(&id)
    }

    /// Which reads wait for this read index.
    pub(crate) fn take_reading(&mut self, id: u64) -> Option<ReadBatch> {
        self.reading.remove(&id)
    }

    /// Keeps the memory of a served batch for a later one.
    pub(crate) fn recycle(&mut self, mut batch: ReadBatch) {
        const SPARES_MAX: usize = 8;
        const ARENA_MAX: usize = 1 << 20;
        if self.spare_reads.len() < SPARES_MAX && batch.arena.capacity() <= ARENA_MAX {
            batch.arena.clear();
            batch.waiters.clear();
            self.spare_reads.push(batch);
        }
    }

    /// Who waits for this answer.
    pub(crate) fn take_commanded(&mut self, token: u64) -> Option<CommandWaiter> {
        self.commanded.remove(&token)
    }

    /// Ends a call with an error, at the end of the turn.
    pub(crate) fn fail(&mut self, call: CallKey, status: Status) {
        self.failures.push((call, status));
    }

    /// Whether a call ended with an error that it has not been told.
    pub(crate) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// The calls that ended with an error.
    pub(crate) fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    /// Hands the turn's requests over: one batch to each queue.
    pub(crate) fn hand_over(&mut self) {
        let metrics = &self.link.metrics;
        for (bytes, counter) in [
            (&mut self.received_bytes, &metrics.network_client_grpc_received_bytes_total),
            (&mut self.sent_bytes, &metrics.network_client_grpc_sent_bytes_total),
        ] {
            if *bytes > 0 {
                counter.inc_by(std::mem::take(bytes));
            }
        }
        if !self.proposals.is_empty() {
            self.hand_over_proposals();
        }
        if !self.reads.waiters.is_empty() || !self.reads.pages.is_empty() {
            self.hand_over_reads();
        }
        if !self.commands.is_empty() {
            self.hand_over_commands();
        }
        if !self.watch_commands.is_empty() {
            let commands = WatchInput::Commands(std::mem::take(&mut self.watch_commands));
            if let Err(TrySendError::Full(WatchInput::Commands(commands))) =
                self.link.watch.try_send(commands)
            {
                self.watch_commands = commands;
            }
        }
    }

    fn hand_over_proposals(&mut self) {
        let proposals = std::mem::take(&mut self.proposals);
        let count = i64::try_from(proposals.len()).unwrap_or(i64::MAX);
        let (refused, error) =
            match self.link.consensus.try_send(replica::Event::Propose(proposals)) {
                Ok(()) => {
                    self.link.metrics.server_proposals_pending.add(count);
                    return;
                }
                Err(TrySendError::Full(event)) => (event, Error::TooManyRequests),
                Err(TrySendError::Disconnected(event)) => (event, Error::Stopped),
            };
        let replica::Event::Propose(refused) = refused else { return };
        for proposal in refused {
            if let Some(proposed) = self.proposed.remove(&proposal.id) {
                self.fail(proposed.call.key, error.into());
            }
        }
    }

    /// What finds no room stays for the next turn.
    fn hand_over_commands(&mut self) {
        while let Some((token, command)) = self.commands.pop_front() {
            match self.link.apply.try_send(apply::Input::Command { token, command }) {
                Ok(()) => {}
                Err(TrySendError::Full(apply::Input::Command { token, command })) => {
                    self.commands.push_front((token, command));
                    return;
                }
                Err(_) => {
                    if let Some(waiter) = self.commanded.remove(&token) {
                        self.fail(waiter.call.key, Error::Stopped.into());
                    }
                }
            }
        }
    }

    fn hand_over_reads(&mut self) {
        let spare = self.spare_reads.pop().unwrap_or_default();
        let mut batch = std::mem::replace(&mut self.reads, spare);
        self.last_token += 1;
        let id = self.last_token;
        batch.deadline = Some(self.now + self.link.limits.request_timeout());
        let error = match self.link.consensus.try_send(replica::Event::Read { id }) {
            Ok(()) => {
                self.reading.insert(id, batch);
                return;
            }
            Err(TrySendError::Full(_)) => Error::TooManyRequests,
            Err(TrySendError::Disconnected(_)) => Error::Stopped,
        };
        self.refuse_reads(batch, error);
    }

    /// Ends all reads of a batch with an error.
    pub(crate) fn refuse_reads(&mut self, mut batch: ReadBatch, error: Error) {
        for waiter in batch.waiters.drain(..) {
            let error = match (&waiter.op, error) {
                // A lease's leader could not be found in all the time.
                (ReadOp::LeaseTimeToLive { .. } | ReadOp::LeaseRenew(_), Error::Timeout) => {
                    Error::NoLeader
                }
                _ => error,
            };
            self.durations.read_failed(&waiter.op, self.now - waiter.call.begun);
            self.fail(waiter.call.key, error.into());
        }
        for page in batch.pages.drain(..) {
            let _ = page.send(Err(error));
        }
        self.recycle(batch);
    }

    /// Whether something needs [`Desk::tick`] soon.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.proposed.is_empty()
            || !self.reading.is_empty()
            || !self.transfers.is_empty()
            || !self.commands.is_empty()
            || !self.watch_commands.is_empty()
    }

    /// Whether nobody waits for anything.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_waiting() && self.commanded.is_empty()
    }

    /// Ends what has waited too long, and notes changes of leader.
    pub(crate) fn tick(&mut self) {
        let leader = self.link.state.leader.load(Ordering::Relaxed);
        if leader != self.leader.0 {
            self.leader = (leader, Some(self.now));
        }
        self.expire_proposals();
        self.expire_reads();
        let (now, failures) = (self.now, &mut self.failures);
        let expired =
            |transfer: &mut Transfer| transfer.deadline <= now && transfer.target != leader;
        for transfer in self.transfers.extract_if(.., expired) {
            failures.push((transfer.call.key, Error::TimeoutLeaderTransfer.into()));
        }
    }

    /// The calls whose wish for another leader has come true.
    pub(crate) fn take_transferred(&mut self) -> Vec<CallInfo> {
        let leader = self.leader.0;
        let done = self.transfers.extract_if(.., |transfer| transfer.target == leader);
        done.map(|transfer| transfer.call).collect()
    }

    /// Whether there has been no leader for three elections, so that streams that require one end.
    pub(crate) fn is_leader_lost(&self) -> bool {
        let (leader, changed) = self.leader;
        let grace = 3 * self.link.limits.election_timeout;
        leader == 0 && self.now >= changed.unwrap_or(self.origin) + grace
    }

    fn expire_proposals(&mut self) {
        let now = self.now;
        let expired: Vec<(u64, Proposed)> =
            self.proposed.extract_if(|_, proposed| proposed.deadline <= now).collect();
        for (_, Proposed { call, .. }) in expired {
            let status = match call.deadline {
                Some(deadline) if deadline <= now => Error::ContextDeadlineExceeded,
                _ => self.timeout_error(call.begun),
            };
            self.link.metrics.server_proposals_failed_total.inc();
            self.link.metrics.server_proposals_pending.dec();
            self.durations.failed(call.rpc, now - call.begun);
            self.fail(call.key, status.into());
        }
    }

    /// A timeout is blamed on the leader's election if it came while the request waited.
    fn timeout_error(&self, begun: Instant) -> Error {
        let (leader, Some(elected)) = self.leader else { return Error::Timeout };
        let lost = elected.checked_sub(2 * self.link.limits.election_timeout);
        let is_between = lost.is_none_or(|lost| begun > lost) && begun < elected;
        if leader != 0 && is_between { Error::TimeoutDueToLeaderFail } else { Error::Timeout }
    }

    fn expire_reads(&mut self) {
        let now = self.now;
        let expired: Vec<(u64, ReadBatch)> = self
            .reading
            .extract_if(|_, batch| batch.deadline.is_some_and(|deadline| deadline <= now))
            .collect();
        for (_, batch) in expired {
            self.link.metrics.server_slow_read_indexes_total.inc();
            self.link.metrics.server_read_indexes_failed_total.inc();
            self.refuse_reads(batch, Error::Timeout);
        }
        let Self { reading, failures, .. } = self;
        for batch in reading.values_mut() {
            let passed = |waiter: &mut ReadWaiter| {
                waiter.call.deadline.is_some_and(|deadline| deadline <= now)
            };
            for waiter in batch.waiters.extract_if(.., passed) {
                failures.push((waiter.call.key, Error::ContextDeadlineExceeded.into()));
            }
        }
    }
}

/// A log entry's data: the operation's own bytes and a header.
fn encode(id: u64, op: OpRef<'_>) -> Bytes {
    let request = InternalRequestRef { id, username: "", auth_revision: 0, op: Some(op) };
    request.encode_to_vec().into()
}
