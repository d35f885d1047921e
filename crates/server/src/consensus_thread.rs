//! The consensus thread: events to the replica, effects to the other threads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::Duration;

use env::Clock;
use replica::{Effect, Event, Replica};
use rpc::{Delivery, Inbox, Metrics, PEER_CORE, State};
use tracing::{debug, error, info, warn};
use transport::Transport;

use crate::disk_thread::DiskInput;
use crate::failpoint::reach;
use crate::fatal::fatal;
use crate::peer_desk::PeerDesk;
use crate::queues::CONSENSUS_BATCH_MAX;

/// How long after the start the first connections of peers bring the election closer, as in etcd.
const ADVANCE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the thread owns.
pub(crate) struct Consensus<C> {
    pub(crate) replica: Replica,
    pub(crate) clock: C,
    pub(crate) tick: Duration,
    pub(crate) events: Receiver<Event>,
    pub(crate) disk: Sender<DiskInput>,
    pub(crate) apply: SyncSender<apply::Input>,
    pub(crate) inboxes: Arc<[Arc<Inbox>]>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) peer_desk: Arc<PeerDesk>,
    /// Ticks of an election timeout.
    pub(crate) election_ticks: u32,
    /// Whether the first election comes earlier once there are peers.
    pub(crate) advances: bool,
    pub(crate) state: Arc<State>,
    pub(crate) metrics: Arc<Metrics>,
}

impl<C: Clock> Consensus<C> {
    /// Runs until the member stops: until nobody can send an event any more, or [`Event::Stop`] and
    /// until another member leads, if one can.
    pub(crate) fn run(mut self) {
        let mut effects = Vec::new();
        let mut next_tick = self.clock.now_mono() + self.tick;
        let advance_until = next_tick + ADVANCE_TIMEOUT;
        let mut stop_at = None;
        self.replica.flush(&mut effects);
        self.dispatch(&mut effects);
        loop {
            let wait = next_tick.saturating_sub(self.clock.now_mono());
            let mut batch = VecDeque::new();
            match self.events.recv_timeout(wait) {
                Ok(event) => batch.push_back(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while batch.len() < CONSENSUS_BATCH_MAX
                && let Ok(event) = self.events.try_recv()
            {
                batch.push_back(event);
            }
            for event in batch {
                if matches!(event, Event::Stop) {
                    stop_at = Some(self.clock.now_mono() + self.tick * self.election_ticks);
                }
                #[cfg(feature = "failpoints")]
                if matches!(event, Event::Persisted(_)) {
                    reach!(raftAfterSave);
                }
                self.replica.handle(event, &mut effects);
            }
            let now = self.clock.now_mono();
            if now >= next_tick {
                // Ticks that were missed while the process was stopped are not made up for: time
                // that nobody saw pass must not count against the leader.
                next_tick = (next_tick + self.tick).max(now);
                self.replica.handle(Event::Tick, &mut effects);
                self.note_connections();
                if self.advances && now < advance_until {
                    self.advance(&mut effects);
                }
            }
            self.replica.flush(&mut effects);
            self.dispatch(&mut effects);
            if stop_at.is_some_and(|at| now >= at || !self.replica.is_handing_over()) {
                return;
            }
        }
    }

    /// A member that has come back has no need to wait for a whole election timeout, but for long
    /// enough to hear from a leader.
    fn advance(&mut self, effects: &mut Vec<Effect>) {
        if self.transport.active_peers() < 2 {
            return;
        }
        self.advances = false;
        let ticks = self.election_ticks.saturating_sub(2);
        info!(
            "local-member-id" = format!("{:x}", self.state.member_id),
            "forward-ticks" = ticks,
            "initialized peer connections; fast-forwarding election ticks"
        );
        for _ in 0..ticks {
            self.replica.handle(Event::Tick, effects);
        }
    }

    /// Tells the front door since when it has had each of the others.
    fn note_connections(&self) {
        let cluster = self.state.cluster();
        let active_since = cluster
            .members()
            .filter_map(|member| Some((member.id, self.transport.active_since(member.id)?)))
            .collect();
        if *self.state.active_since.read() != active_since {
            *self.state.active_since.write() = active_since;
        }
    }

    fn dispatch(&mut self, effects: &mut Vec<Effect>) {
        #[cfg(feature = "failpoints")]
        self.reach_sends(effects);
        for effect in effects.drain(..) {
            self.perform(effect);
        }
        reach!(raftBeforeAdvance);
        let committed = self.replica.committed();
        self.state.committed.store(committed, Ordering::Relaxed);
        self.metrics.server_proposals_committed_total.set(committed as i64);
    }

    /// The leader sends while its disk writes, the others when theirs has written.
    #[cfg(feature = "failpoints")]
    fn reach_sends(&self, effects: &[Effect]) {
        let has = |what: fn(&Effect) -> bool| effects.iter().any(what);
        if self.state.is_leader() {
            if has(|effect| matches!(effect, Effect::Send(_) | Effect::Persist(_))) {
                reach!(raftBeforeLeaderSend);
            }
        } else if has(|effect| matches!(effect, Effect::Send(_))) {
            reach!(raftBeforeFollowerSend);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            // The threads below end only after this one: a closed queue means that one of them
            // died, and it has said why.
            Effect::Persist(persist) => {
                // In etcd consensus itself waits for the disk, and so for whoever waits here.
                reach!(raftBeforeSave);
                drop(self.disk.send(DiskInput::Persist(persist)));
            }
            Effect::SaveSnapshot(snapshot) => {
                drop(self.disk.send(DiskInput::SaveSnapshot(snapshot)));
            }
            Effect::Apply(entries) => drop(self.apply.send(apply::Input::Entries(entries))),
            Effect::Send(message) => self.transport.send([message]),
            Effect::SendSnapshot(message) => {
                drop(self.apply.send(apply::Input::SendSnapshot(message)));
            }
            Effect::Install(snapshot) => drop(self.apply.send(apply::Input::Install(snapshot))),
            Effect::Fatal(err) => fatal("this member must not go on", &err),
            Effect::ReadReady(ids) => {
                for id in ids {
                    if id >> 48 == u64::from(PEER_CORE) {
                        self.peer_desk.read_ready(id);
                    }
                    self.deliver(id >> 48, Delivery::ReadReady { id, result: Ok(()) });
                }
            }
            Effect::Refused(ids, refusal) => {
                self.metrics.server_proposals_failed_total.inc_by(ids.len() as u64);
                for id in ids {
                    let core = rpc::core_of(id);
                    if core == PEER_CORE {
                        self.peer_desk.replied(id, Err(refusal));
                    }
                    self.deliver(u64::from(core), Delivery::Refused(vec![id], refusal));
                }
            }
            Effect::Role { term, leader, is_leader } => self.role(term, leader, is_leader),
            Effect::Log(lines) => lines.into_iter().for_each(log_line),
        }
    }

    fn deliver(&self, core: u64, delivery: Delivery) {
        // The server's own proposals have a core number that no inbox has.
        if let Some(inbox) = usize::try_from(core).ok().and_then(|core| self.inboxes.get(core)) {
            inbox.push(delivery);
        }
    }

    fn role(&self, term: u64, leader: u64, is_leader: bool) {
        let before = self.state.leader.swap(leader, Ordering::Relaxed);
        self.state.term.store(term, Ordering::Relaxed);
        self.metrics.server_has_leader.set(i64::from(leader != 0));
        self.metrics.server_is_leader.set(i64::from(is_leader));
        if leader != 0 && leader != before {
            self.metrics.server_leader_changes_seen_total.inc();
        }
        drop(self.apply.send(apply::Input::Role { term, leader }));
    }
}

fn log_line(line: raft::LogLine) {
    let text = line.text;
    match line.level {
        raft::Level::Debug => debug!("{text}"),
        raft::Level::Info => info!("{text}"),
        raft::Level::Warning => warn!("{text}"),
        raft::Level::Error => error!("{text}"),
    }
}
