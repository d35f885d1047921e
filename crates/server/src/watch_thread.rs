//! The watch thread: events and requests to the hub, its responses to the cores.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use env::Clock;
use mvcc::watch::{Hub, Kind, Response};
use rpc::{Delivery, Inbox, Metrics, WatchInput};

#[cfg(feature = "failpoints")]
use crate::failpoint::reach;
use crate::fatal::fatal;

/// How long the hub may go without a look at its timers.
const TICK: Duration = Duration::from_millis(100);

/// Inputs that the hub takes before its responses are handed on.
const BATCH_MAX: usize = 64;

/// What the thread owns.
pub(crate) struct WatchThread<C> {
    pub(crate) hub: Hub,
    pub(crate) clock: C,
    pub(crate) inputs: Receiver<WatchInput>,
    pub(crate) inboxes: Arc<[Arc<Inbox>]>,
    pub(crate) metrics: Arc<Metrics>,
}

impl<C: Clock> WatchThread<C> {
    /// Runs until nobody can send an input any more.
    pub(crate) fn run(mut self) {
        let mut responses = Vec::new();
        loop {
            let wait = if self.hub.has_work() { Duration::ZERO } else { TICK };
            match self.inputs.recv_timeout(wait) {
                Ok(input) => self.handle(input, &mut responses),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for _ in 1..BATCH_MAX {
                let Ok(input) = self.inputs.try_recv() else { break };
                self.handle(input, &mut responses);
            }
            let now = self.clock.now_mono();
            #[cfg(feature = "failpoints")]
            if self.hub.has_work() {
                reach!(beforeSyncWatchers);
            }
            if let Err(err) = self.hub.sync(now, &mut responses) {
                fatal("failed to read the store for watchers", &err);
            }
            self.hub.tick(now, &mut responses);
            if !responses.is_empty() {
                let sent = Sent::count(&responses);
                self.deliver(&mut responses);
                self.measure(&sent, self.clock.now_mono() - now);
            }
            self.publish();
        }
    }

    fn handle(&mut self, input: WatchInput, responses: &mut Vec<Response>) {
        match input {
            WatchInput::Events(batches) => {
                for batch in batches {
                    self.hub.notify(&batch, responses);
                }
            }
            WatchInput::Restored(reader) => self.hub.restored(reader),
            WatchInput::Commands(commands) => {
                for command in commands {
                    #[cfg(feature = "failpoints")]
                    reach_command(&command);
                    self.hub.command(command, responses);
                }
            }
        }
    }

    fn publish(&self) {
        let stats = self.hub.stats();
        self.metrics.debugging_mvcc_watch_stream_total.set(stats.streams as i64);
        self.metrics.debugging_mvcc_watcher_total.set(stats.watchers as i64);
        self.metrics.debugging_mvcc_slow_watcher_total.set(stats.slow_watchers as i64);
    }

    /// etcd measures each message; here all of a turn go out together.
    fn measure(&self, sent: &Sent, took: Duration) {
        let metrics = &self.metrics;
        metrics.debugging_mvcc_events_total.inc_by(sent.events);
        let seconds = took.as_secs_f64();
        if sent.event_messages > 0 {
            metrics.debugging_server_watch_send_loop_watch_stream_duration_seconds.observe(seconds);
            metrics
                .debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds
                .observe(seconds / sent.events.max(1) as f64);
        }
        if sent.controls > 0 {
            metrics
                .debugging_server_watch_send_loop_control_stream_duration_seconds
                .observe(seconds);
        }
        if sent.progress > 0 {
            metrics.debugging_server_watch_send_loop_progress_duration_seconds.observe(seconds);
        }
    }

    fn deliver(&self, responses: &mut Vec<Response>) {
        #[cfg(feature = "failpoints")]
        reach_responses(responses);
        let mut by_core: Vec<Vec<Response>> = Vec::new();
        by_core.resize_with(self.inboxes.len(), Vec::new);
        for response in responses.drain(..) {
            if let Some(responses) = by_core.get_mut((response.stream >> 48) as usize) {
                responses.push(response);
            }
        }
        for (inbox, responses) in self.inboxes.iter().zip(by_core) {
            if !responses.is_empty() {
                inbox.push(Delivery::Watch(responses));
            }
        }
    }
}

/// Whoever has room again is moved on by what says so.
#[cfg(feature = "failpoints")]
fn reach_command(command: &mvcc::watch::Command) {
    match command {
        mvcc::watch::Command::Ack { .. } => {
            reach!(beforeMoveVictims);
        }
        mvcc::watch::Command::Progress { .. } => {
            reach!(beforeProgressIfSync);
        }
        _ => {}
    }
}

/// Answers to commands are not among what etcd's point is for.
#[cfg(feature = "failpoints")]
fn reach_responses(responses: &[Response]) {
    let is_counted = |kind: &Kind| matches!(kind, Kind::Events { .. } | Kind::Progress);
    if responses.iter().any(|response| is_counted(&response.kind)) {
        reach!(beforeSendWatchResponse);
    }
}

/// What a turn sends.
#[derive(Default)]
struct Sent {
    events: u64,
    event_messages: u64,
    progress: u64,
    controls: u64,
}

impl Sent {
    fn count(responses: &[Response]) -> Self {
        let mut sent = Self::default();
        for response in responses {
            match &response.kind {
                Kind::Events { events, .. } => {
                    sent.event_messages += 1;
                    sent.events += events.len() as u64;
                }
                Kind::Progress => sent.progress += 1,
                _ => sent.controls += 1,
            }
        }
        sent
    }
}
