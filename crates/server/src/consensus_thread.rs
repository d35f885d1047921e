//! The consensus thread: events to the replica, effects to the other threads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::Duration;

use env::Clock;
use replica::{Effect, Event, Replica};
use rpc::{Delivery, Inbox, Metrics, State};
use tracing::{debug, error, info, warn};

use crate::disk_thread::DiskInput;
use crate::fatal::fatal;
use crate::queues::CONSENSUS_BATCH_MAX;

/// What the thread owns.
pub(crate) struct Consensus<C> {
    pub(crate) replica: Replica,
    pub(crate) clock: C,
    pub(crate) tick: Duration,
    pub(crate) events: Receiver<Event>,
    pub(crate) disk: Sender<DiskInput>,
    pub(crate) apply: SyncSender<apply::Input>,
    pub(crate) inboxes: Arc<[Arc<Inbox>]>,
    pub(crate) state: Arc<State>,
    pub(crate) metrics: Arc<Metrics>,
}

impl<C: Clock> Consensus<C> {
    /// Runs until the member stops: until nobody can send an event any more, or [`Event::Stop`].
    pub(crate) fn run(mut self) {
        let mut effects = Vec::new();
        let mut next_tick = self.clock.now_mono() + self.tick;
        let mut is_stopping = false;
        self.replica.flush(&mut effects);
        self.dispatch(&mut effects);
        while !is_stopping {
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
                is_stopping |= matches!(event, Event::Stop);
                self.replica.handle(event, &mut effects);
            }
            let now = self.clock.now_mono();
            if now >= next_tick {
                // Ticks that were missed while the process was stopped are not made up for: time
                // that nobody saw pass must not count against the leader.
                next_tick = (next_tick + self.tick).max(now);
                self.replica.handle(Event::Tick, &mut effects);
            }
            self.replica.flush(&mut effects);
            self.dispatch(&mut effects);
        }
    }

    fn dispatch(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            self.perform(effect);
        }
        let committed = self.replica.committed();
        self.state.committed.store(committed, Ordering::Relaxed);
        self.metrics.server_proposals_committed_total.set(committed as i64);
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            // The threads below end only after this one: a closed queue means that one of them
            // died, and it has said why.
            Effect::Persist(persist) => drop(self.disk.send(DiskInput::Persist(persist))),
            Effect::SaveSnapshot(snapshot) => {
                drop(self.disk.send(DiskInput::SaveSnapshot(snapshot)));
            }
            Effect::Apply(entries) => drop(self.apply.send(apply::Input::Entries(entries))),
            Effect::Send(message) | Effect::SendSnapshot(message) => {
                warn!(to = format!("{:x}", message.to), "there is no way to other members yet");
            }
            Effect::Install(snapshot) => drop(self.apply.send(apply::Input::Install(snapshot))),
            Effect::Fatal(err) => fatal("this member must not go on", &err),
            Effect::ReadReady(ids) => {
                for id in ids {
                    self.deliver(id >> 48, Delivery::ReadReady { id, result: Ok(()) });
                }
            }
            Effect::Refused(ids, refusal) => {
                self.metrics.server_proposals_failed_total.inc_by(ids.len() as u64);
                for id in ids {
                    let core = u64::from(rpc::core_of(id));
                    self.deliver(core, Delivery::Refused(vec![id], refusal));
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
