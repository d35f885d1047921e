//! The apply thread: committed entries to state, and what that brings about to everybody else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::time::Duration;

use apply::{Applier, Input, Output};
use bytes::Bytes;
use env::Clock;
use raft::ConfChangeV2;
use replica::{Event, Proposal};
use rpc::{Delivery, Inbox, PEER_CORE, SERVER_CORE, WatchInput};
use tracing::{info, warn};
use transport::Transport;

use crate::commit_thread::CommitInput;
use crate::failpoint::reach;
use crate::member::Notices;
use crate::own_requests::OwnRequests;
use crate::peer_desk::PeerDesk;
use crate::peers;
use crate::publish::Publisher;
use crate::queues::APPLY_BATCH_MAX;

/// How long a removed member goes on, as in etcd: the others must learn from a removed leader that its removal is
/// committed, and the last one can't do without.
const REMOVAL_DELAY: Duration = Duration::from_secs(1);

/// How often the applier looks at what is due, at rest and while it compacts.
const TICK_IDLE: Duration = Duration::from_millis(50);

/// What consensus is to be told. It is merged while consensus has no room, because apply must not
/// wait for consensus while consensus waits for apply.
#[derive(Debug, Default)]
struct Unsent {
    /// The applied index that consensus knows.
    told: u64,
    index: Option<u64>,
    conf_changes: Vec<(u64, ConfChangeV2)>,
    snapshot: Option<raft::Snapshot>,
    proposals: Vec<Bytes>,
    leader_proposals: Vec<(u64, Bytes)>,
}

/// What the thread owns.
pub(crate) struct ApplyThread<C> {
    pub(crate) applier: Applier,
    pub(crate) clock: C,
    pub(crate) busy_tick: Duration,
    pub(crate) warning_duration: Duration,
    pub(crate) inputs: Receiver<Input>,
    pub(crate) consensus: SyncSender<Event>,
    pub(crate) commit: Sender<CommitInput>,
    pub(crate) watch: SyncSender<WatchInput>,
    pub(crate) inboxes: Arc<[Arc<Inbox>]>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) peer_desk: Arc<PeerDesk>,
    pub(crate) notices: Notices,
    pub(crate) publisher: Publisher,
    pub(crate) own_requests: OwnRequests,
}

impl<C: Clock> ApplyThread<C> {
    /// Runs until [`Input::Stop`], then writes what is still in memory into the backend's file.
    pub(crate) fn run(mut self) {
        let mut out = Output::default();
        let mut unsent = Unsent::default();
        let mut events = Vec::new();
        let mut next_tick = self.clock.now_mono();
        let mut last_tick = next_tick;
        let mut is_stopping = false;
        while !is_stopping {
            let mut wait = next_tick.saturating_sub(self.clock.now_mono());
            if !unsent.is_empty() || !events.is_empty() {
                wait = wait.min(Duration::from_millis(1));
            }
            match self.inputs.recv_timeout(wait) {
                Ok(input) => is_stopping |= self.handle(input, &mut out),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let mut taken = 1;
            while taken < APPLY_BATCH_MAX
                && let Ok(input) = self.inputs.try_recv()
            {
                is_stopping |= self.handle(input, &mut out);
                taken += 1;
            }
            let now = self.clock.now_mono();
            let is_compacting = self.applier.is_busy();
            if is_compacting {
                // One that has just begun need not wait for the end of an idle pause.
                next_tick = next_tick.min(last_tick + self.busy_tick);
            }
            if now >= next_tick {
                last_tick = now;
                self.applier.tick(now, &mut out);
                self.publisher.ticked(is_compacting, now, self.clock.now_mono() - now);
                next_tick = now + if self.applier.is_busy() { self.busy_tick } else { TICK_IDLE };
            }
            self.dispatch(&mut out, &mut unsent, &mut events);
        }
        close(&mut self.applier, &self.inputs, &self.commit, &self.clock, &mut out);
        info!("applied-index" = self.applier.applied_index(), "stopped applying");
    }

    /// Applies one input; whether it is the last.
    fn handle(&mut self, input: Input, out: &mut Output) -> bool {
        let is_last = matches!(input, Input::Stop);
        let begin = self.clock.now_mono();
        let entries = if let Input::Entries(entries) = &input { entries.len() } else { 0 };
        #[cfg(feature = "failpoints")]
        reach_input(&input);
        self.applier.handle(input, begin, out);
        let took = self.clock.now_mono() - begin;
        if entries > 0 {
            reach!(afterWritebackBuf);
            self.publisher.applied(&self.applier, entries, took);
            if took > self.warning_duration {
                self.publisher.metrics.server_slow_apply_total.inc();
                warn!(
                    took = format!("{took:?}"),
                    "expected-duration" = format!("{:?}", self.warning_duration),
                    entries,
                    "apply request took too long"
                );
            }
        }
        // Several inputs may each freeze a batch only if the one before has arrived, so at most
        // one is here at a time.
        commit(&self.commit, out);
        if let Some(snapshot) = out.install.take() {
            let _ = self.commit.send(CommitInput::Install(snapshot));
        }
        if std::mem::take(&mut out.defragment) {
            self.publisher.state.defragmenting.store(true, Ordering::Relaxed);
            let _ = self.commit.send(CommitInput::Defragment);
        }
        is_last
    }

    fn dispatch(
        &mut self,
        out: &mut Output,
        unsent: &mut Unsent,
        events: &mut Vec<Arc<mvcc::EventBatch>>,
    ) {
        commit(&self.commit, out);
        self.publisher.publish(&self.applier);
        self.publisher.publish_output(out, self.clock.now_mono(), self.clock.now_wall());
        if let Some(reader) = out.restored.take() {
            for inbox in self.inboxes.iter() {
                inbox.push(Delivery::Restored(reader.clone()));
            }
            self.peer_desk.restored(reader.clone());
            let _ = self.watch.send(WatchInput::Restored(reader));
            self.publisher.start(&self.applier);
            self.publisher.tell_ready(&self.applier);
            peers::replace(&self.transport, self.applier.cluster());
        }
        // Events go first: who reads an answer and then watches must not see its own write again.
        events.append(&mut out.events);
        if !events.is_empty() {
            self.send_events(events);
        }
        let local_id = self.publisher.state.member_id;
        for change in out.membership.drain(..) {
            peers::change(&self.transport, local_id, &change);
        }
        for (message, view) in out.snapshots.drain(..) {
            peers::send_snapshot(&self.transport, &self.publisher.metrics, message, view);
        }
        if std::mem::take(&mut out.is_removed) {
            let notices = self.notices.clone();
            self.transport.handle().spawn(async move {
                tokio::time::sleep(REMOVAL_DELAY).await;
                notices.removed();
            });
        }
        let leader_proposals = out.leader_proposals.iter().map(|(_, request)| request);
        for request in out.proposals.iter().chain(leader_proposals) {
            self.own_requests.proposed(request);
        }
        if !out.conf_changes.is_empty() {
            // Raft refuses a change before it knows that the one before is applied, and who has
            // the answer to that may ask for the next one at once.
            unsent.take(out, self.applier.applied_index());
            unsent.send(&self.consensus);
        }
        self.deliver_replies(out);
        for (token, answer) in out.answers.drain(..) {
            if matches!(answer, apply::Answer::Defragmented(_)) {
                self.publisher.state.defragmenting.store(false, Ordering::Relaxed);
            }
            if token >> 48 == u64::from(PEER_CORE) {
                self.peer_desk.answered(token, answer);
            } else if let Some(inbox) = self.inboxes.get((token >> 48) as usize) {
                inbox.push(Delivery::Answer { token, answer });
            }
        }
        unsent.take(out, self.applier.applied_index());
        unsent.send(&self.consensus);
    }

    fn send_events(&self, events: &mut Vec<Arc<mvcc::EventBatch>>) {
        match self.watch.try_send(WatchInput::Events(std::mem::take(events))) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            // The hub notices what was left out by the gap before the last one, and reads it from
            // the store.
            Err(TrySendError::Full(WatchInput::Events(unsent))) => {
                events.extend(unsent.last().cloned())
            }
            Err(TrySendError::Full(_)) => unreachable!("events were sent"),
        }
    }

    /// All answers of a batch reach a core at once.
    fn deliver_replies(&mut self, out: &mut Output) {
        if out.replies.is_empty() {
            return;
        }
        let mut by_core: Vec<Vec<apply::Reply>> = Vec::new();
        by_core.resize_with(self.inboxes.len(), Vec::new);
        for reply in out.replies.drain(..) {
            match rpc::core_of(reply.id) {
                SERVER_CORE => self.own_requests.applied(reply.id),
                PEER_CORE => self.peer_desk.replied(reply.id, reply.result.map(drop)),
                core => {
                    if let Some(replies) = by_core.get_mut(usize::from(core)) {
                        replies.push(reply);
                    }
                }
            }
        }
        for (inbox, replies) in self.inboxes.iter().zip(by_core) {
            if !replies.is_empty() {
                inbox.push(Delivery::Replies(replies));
            }
        }
    }
}

/// Hands a frozen batch on.
fn commit(commit: &Sender<CommitInput>, out: &mut Output) {
    if let Some(batch) = out.commit.take() {
        // The index that it covers is in the batch since it was frozen.
        reach!(commitBeforePreCommitHook, commitAfterPreCommitHook);
        let _ = commit.send(CommitInput::Commit(batch));
    }
}

/// Writes what is still in memory: the log would bring it back, and a clean stop spares the next start that.
fn close(
    applier: &mut Applier,
    inputs: &Receiver<Input>,
    to_file: &Sender<CommitInput>,
    clock: &impl Clock,
    out: &mut Output,
) {
    loop {
        // Somebody may have waited for the batch that has arrived last, and for the next one.
        out.commit = out.commit.take().or_else(|| applier.close());
        if out.commit.is_none() && !applier.is_committing() {
            return;
        }
        commit(to_file, out);
        let done = inputs.iter().find(|input| matches!(input, Input::Committed(_)));
        let Some(done) = done else { return };
        applier.handle(done, clock.now_mono(), out);
    }
}

/// Points before what is about to be done.
#[cfg(feature = "failpoints")]
fn reach_input(input: &Input) {
    match input {
        Input::Entries(entries) => {
            for entry in entries {
                match entry.entry_type {
                    raft::EntryType::Normal => {
                        reach!(beforeApplyOneEntryNormal);
                    }
                    _ => {
                        reach!(beforeApplyOneConfChange);
                    }
                }
            }
            reach!(beforeWritebackBuf);
        }
        Input::Command { command: apply::Command::LeaseRenew(_), .. } => {
            reach!(beforeCheckpointInLeaseRenew);
        }
        Input::Command { token, command: apply::Command::LeaseTimeToLive(..) }
            if token >> 48 != u64::from(PEER_CORE) =>
        {
            reach!(beforeLookupWhenLeaseTimeToLive);
        }
        _ => {}
    }
}

impl Unsent {
    fn is_empty(&self) -> bool {
        self.index.is_none()
            && self.conf_changes.is_empty()
            && self.snapshot.is_none()
            && self.proposals.is_empty()
            && self.leader_proposals.is_empty()
    }

    fn take(&mut self, out: &mut Output, applied: u64) {
        if applied != self.told || out.snapshot.is_some() {
            self.index = Some(applied);
        }
        self.conf_changes.append(&mut out.conf_changes);
        if out.snapshot.is_some() {
            self.snapshot = out.snapshot.take();
        }
        self.proposals.append(&mut out.proposals);
        self.leader_proposals.append(&mut out.leader_proposals);
    }

    fn send(&mut self, consensus: &SyncSender<Event>) {
        if let Some(index) = self.index.take() {
            let event = Event::Applied {
                index,
                conf_changes: std::mem::take(&mut self.conf_changes),
                snapshot: self.snapshot.take(),
            };
            if let Err(TrySendError::Full(Event::Applied { index, conf_changes, snapshot })) =
                consensus.try_send(event)
            {
                *self = Self { index: Some(index), conf_changes, snapshot, ..std::mem::take(self) };
                return;
            }
            self.told = index;
        }
        while let Some((term, data)) = self.leader_proposals.first() {
            let event = Event::ProposeAsLeader { term: *term, data: vec![data.clone()] };
            if matches!(consensus.try_send(event), Err(TrySendError::Full(_))) {
                return;
            }
            self.leader_proposals.remove(0);
        }
        if self.proposals.is_empty() {
            return;
        }
        let id = u64::from(SERVER_CORE) << 44;
        let proposals =
            self.proposals.iter().map(|data| Proposal { id, data: data.clone() }).collect();
        if !matches!(consensus.try_send(Event::Propose(proposals)), Err(TrySendError::Full(_))) {
            self.proposals.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::channel;
    use std::thread;

    use backend::{Backend, Committer};
    use cluster::Cluster;
    use env::{MemDisk, OsClock};
    use raft::{ConfState, Entry};

    use super::*;

    /// An empty state that is due for a snapshot after every entry.
    fn applier(disk: &MemDisk) -> (Applier, Committer<MemDisk>) {
        let options = backend::Options::default();
        let (backend, committer) =
            Backend::open(disk.clone(), Path::new("db"), options).expect("a file in memory");
        let options = apply::Options {
            member_id: 1,
            quota: None,
            snapshot_count: 0,
            lease_ttl_min: 1,
            election_timeout: Duration::ZERO,
            lease_checkpoint: false,
            lease_checkpoint_persist: false,
            compaction_batch_limit: 1,
            compaction_sleep_interval: Duration::ZERO,
            auto_compaction: None,
            attributes: cluster::Attributes::default(),
            cluster_version: cluster::Version::new(3, 7, 0),
            first_request_id: 1,
            watch: mvcc::watch::Options::default(),
        };
        let (cluster, voters) = (Cluster::from_members(1, []), ConfState::from_voters(vec![1]));
        let restored = Applier::restore(backend, options, cluster, voters, 0, Duration::ZERO);
        (restored.expect("a state").0, committer)
    }

    fn entry(index: u64) -> Input {
        Input::Entries(vec![Entry { term: 1, index, ..Entry::default() }])
    }

    /// The stop has been applied, one batch is on its way, and a snapshot waits for the next one.
    #[test]
    fn a_stop_that_meets_a_waiting_snapshot_ends() {
        let disk = MemDisk::new();
        let (mut applier, mut committer) = applier(&disk);
        let (to_apply, inputs) = channel();
        let (to_file, batches) = channel();
        let mut out = Output::default();
        for index in 1..=2 {
            applier.handle(entry(index), Duration::ZERO, &mut out);
            commit(&to_file, &mut out);
        }
        applier.handle(Input::Stop, Duration::ZERO, &mut out);
        assert!(applier.is_committing());
        let writer = thread::spawn(move || {
            let mut written = 0;
            for input in batches {
                let CommitInput::Commit(batch) = input else {
                    unreachable!("nothing else was asked for")
                };
                written += 1;
                let done = committer.commit(batch).expect("a disk in memory");
                // Who does not listen any more has what it waited for.
                let _ = to_apply.send(Input::Committed(done));
            }
            written
        });
        let (ended, end) = channel();
        thread::spawn(move || {
            close(&mut applier, &inputs, &to_file, &OsClock::new(), &mut out);
            let _ = ended.send(applier.is_committing());
        });
        let is_committing = end.recv_timeout(Duration::from_secs(30)).expect("it ends");
        assert!(!is_committing);
        assert_eq!(writer.join().expect("all is written"), 2);
        let options = backend::Options::default();
        let (backend, _committer) =
            Backend::open(disk, Path::new("db"), options).expect("what was written");
        assert_eq!(backend.consistent_index().0, 2);
    }

    #[test]
    fn a_stop_ends_though_nobody_writes() {
        let (mut applier, _committer) = applier(&MemDisk::new());
        let (to_file, _) = channel();
        let mut out = Output::default();
        applier.handle(entry(1), Duration::ZERO, &mut out);
        commit(&to_file, &mut out);
        let (_, inputs) = channel();
        close(&mut applier, &inputs, &to_file, &OsClock::new(), &mut out);
        assert!(applier.is_committing());
    }
}
