//! One core of the front door: a thread with its connections.

mod connections;
mod ready;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api::{Error, Status};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::call::Calls;
use crate::connection::{Connection, Fate};
use crate::desk::{CallKey, CommandWaiter, ConnectionKey, Desk, Local, Next, Proposed, ReadBatch};
use crate::inside::{self, Inside};
use crate::pages::Pages;
use crate::service;
use crate::transport::Transport;
use crate::{Delivery, Inbox, LeaderAnswer, Link, RequestIds, Socket, Tally};
use connections::Connections;
use ready::ReadyList;

/// How often deadlines are looked at while something waits ...
const TICK_SHORT: Duration = Duration::from_millis(100);
/// ... and else, for keep-alive and the deadlines of streams.
const TICK_LONG: Duration = Duration::from_secs(1);
/// The buffer that sockets are read into, one for all.
const READ_BYTES: usize = 64 << 10;
/// Threads for hashes and snapshots.
const WORKERS_MAX: usize = 4;

/// Connections and their calls, all on one thread.
#[derive(Debug)]
pub struct Core {
    link: Link,
    ids: RequestIds,
    inbox: Arc<Inbox>,
}

impl Core {
    /// A core that takes its sockets and answers from `inbox`; `ids` says which core it is.
    #[must_use]
    pub fn new(link: Link, ids: RequestIds, inbox: Arc<Inbox>) -> Self {
        Self { link, ids, inbox }
    }

    /// Serves until [`crate::Delivery::Shutdown`] and the end of the open calls. Blocks the thread.
    ///
    /// # Errors
    /// If the runtime cannot be made.
    pub fn run(self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(WORKERS_MAX)
            .build()?;
        runtime.block_on(self.serve());
        // Pages and snapshots that are under way end here.
        runtime.shutdown_background();
        Ok(())
    }

    /// What [`Self::run`] runs, on a runtime of the caller's that has one thread, I/O and time. One poll is one turn.
    pub async fn serve(self) {
        let mut turns = Turns::new(self);
        tokio::task::coop::unconstrained(std::future::poll_fn(|cx| turns.poll(cx))).await;
    }
}

/// The state of a running core. One poll is one turn.
struct Turns {
    inbox: Arc<Inbox>,
    desk: Desk,
    connections: Connections,
    inside: Inside,
    ready: Arc<ReadyList>,
    pages: Pages,
    local: mpsc::UnboundedReceiver<Local>,
    timer: Pin<Box<Sleep>>,
    /// The timer will wake this core.
    is_timer_armed: bool,
    next_long_tick: Instant,
    /// When the core stops, whatever is open.
    stop_at: Option<Instant>,
    buffer: Vec<u8>,
    dirty: Vec<ConnectionKey>,
    /// Connections that this turn has not written, lest it be twice.
    later: Vec<ConnectionKey>,
    // Emptied and reused in each turn.
    ready_now: Vec<u32>,
    deliveries: Vec<Delivery>,
}

impl Turns {
    fn new(core: Core) -> Self {
        let now = Instant::now();
        let (local_sender, local) = mpsc::unbounded_channel();
        let desk = Desk::new(core.link, core.ids, local_sender, now);
        let pages = Pages::new(&desk);
        Self {
            inbox: core.inbox,
            desk,
            connections: Connections::default(),
            inside: Inside::default(),
            ready: Arc::new(ReadyList::default()),
            pages,
            local,
            timer: Box::pin(tokio::time::sleep(TICK_LONG)),
            is_timer_armed: false,
            next_long_tick: now + TICK_LONG,
            stop_at: None,
            buffer: vec![0; READ_BYTES],
            dirty: Vec::new(),
            later: Vec::new(),
            ready_now: Vec::new(),
            deliveries: Vec::new(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.desk.now = Instant::now();
        self.take_deliveries(cx);
        self.take_local(cx);
        self.read_ready(cx);
        self.tick_if_due();
        self.end_turn();
        self.arm_timer(cx);
        if self.is_finished() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn take_deliveries(&mut self, cx: &Context<'_>) {
        let mut deliveries = std::mem::take(&mut self.deliveries);
        self.inbox.take(&mut deliveries, cx.waker());
        for delivery in deliveries.drain(..) {
            self.deliver(delivery);
        }
        self.deliveries = deliveries;
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Replies(replies) => self.replied(replies),
            Delivery::Refused(ids, error) => self.refused(&ids, error),
            Delivery::ReadReady { id, result } => self.read_index_ready(id, result),
            Delivery::Watch(responses) => {
                for responses in responses.chunk_by(|a, b| a.stream == b.stream) {
                    let call = responses.first().and_then(|it| self.desk.watch_call(it.stream));
                    let Some(call) = call else { continue };
                    self.with_call(call, |calls, desk| {
                        calls.watch_responses(call, responses, desk);
                    });
                }
            }
            Delivery::Answer { token, answer } => self.answered(token, answer),
            Delivery::Restored(reader) => {
                self.pages.restored(reader.clone());
                self.desk.link.reader = reader;
            }
            Delivery::Leader { token, result } => self.leader_answered(token, result),
            Delivery::Socket(socket, tally) => self.accept(socket, tally),
            Delivery::Shutdown => self.shut_down(),
        }
    }

    fn replied(&mut self, replies: Vec<apply::Reply>) {
        let mut known = 0;
        for reply in replies {
            let Some(proposed) = self.desk.take_proposed(reply.id) else { continue };
            let call = proposed.call;
            known += 1;
            let took = self.desk.now.saturating_duration_since(call.begun);
            self.desk.durations.applied(call.rpc, took);
            let result = match reply.result {
                Ok(outcome) => service::outcome::respond(&mut self.desk, &proposed, &outcome),
                Err(error) => {
                    service::cluster::failed(&self.desk, &call, error);
                    Err(error.into())
                }
            };
            self.complete(call.key, result);
        }
        self.desk.link.metrics.server_proposals_pending.sub(known);
    }

    fn refused(&mut self, ids: &[u64], error: Error) {
        for id in ids {
            let Some(Proposed { call, .. }) = self.desk.take_proposed(*id) else { continue };
            let took = self.desk.now.saturating_duration_since(call.begun);
            self.desk.durations.failed(call.rpc, took);
            service::cluster::failed(&self.desk, &call, error);
            self.desk.link.metrics.server_proposals_pending.dec();
            self.desk.link.metrics.server_proposals_failed_total.inc();
            self.complete(call.key, Err(error.into()));
        }
    }

    fn read_index_ready(&mut self, id: u64, result: Result<(), Error>) {
        let Some(mut batch) = self.desk.take_reading(id) else { return };
        if let Err(error) = result {
            return self.desk.refuse_reads(batch, error);
        }
        let ReadBatch { arena, waiters, pages, .. } = &mut batch;
        for page in pages.drain(..) {
            let _ = page.send(Ok(()));
        }
        for waiter in waiters.drain(..) {
            let call = waiter.call.key;
            self.with_call(call, |calls, desk| calls.read_ready(waiter, arena, desk));
        }
        self.desk.recycle(batch);
    }

    fn answered(&mut self, token: u64, answer: apply::Answer) {
        let Some(waiter) = self.desk.take_commanded(token) else { return };
        let CommandWaiter { call, lease: id } = waiter;
        let desk = &mut self.desk;
        let result = match answer {
            apply::Answer::View(view) => service::maintenance::with_view(desk, &call, view),
            apply::Answer::Defragmented(result) => service::maintenance::defragmented(desk, result),
            apply::Answer::Renewed { revision, ttl } => {
                service::lease::renewed(desk, id, revision, ttl)
            }
            apply::Answer::LeaseTtl { revision, lease } => {
                service::lease::looked_up(desk, id, revision, lease)
            }
            apply::Answer::Leases { revision, ids } => service::lease::listed(desk, revision, ids),
            apply::Answer::NotPrimary => service::lease::not_primary(desk, &call, id),
        };
        self.complete(call.key, result);
    }

    fn leader_answered(&mut self, token: u64, result: Result<LeaderAnswer, Error>) {
        let Some(CommandWaiter { call, lease: id }) = self.desk.take_commanded(token) else {
            return;
        };
        let desk = &mut self.desk;
        let revision = desk.link.reader.current_revision();
        let result = match result {
            Ok(LeaderAnswer::Renewed(ttl)) => service::lease::renewed(desk, id, revision, ttl),
            Ok(LeaderAnswer::LeaseTtl(lease)) => {
                service::lease::looked_up(desk, id, revision, lease)
            }
            Ok(LeaderAnswer::Members(members)) => service::cluster::promoted(desk, &members),
            Err(error) => Err(error.into()),
        };
        self.complete(call.key, result);
    }

    fn accept(&mut self, socket: Socket, tally: Tally) {
        if self.desk.is_draining {
            return;
        }
        match Transport::new(socket, tally) {
            Ok(transport) => {
                let key = self.connections.insert(|key| {
                    let waker = ready::waker(&self.ready, key.index);
                    Connection::new(key, waker, transport, &self.desk)
                });
                self.ready_now.push(key.index);
            }
            Err(error) => tracing::warn!(%error, "failed to take a client's connection"),
        }
    }

    fn shut_down(&mut self) {
        if self.stop_at.is_some() {
            return;
        }
        self.desk.is_draining = true;
        self.stop_at = Some(self.desk.now + self.desk.link.limits.drain_timeout);
        self.inside.drain(&mut self.desk);
        self.for_all(Connection::drain);
    }

    fn take_local(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(local)) = self.local.poll_recv(cx) {
            match local {
                Local::PageRead(page) => self.desk.read_for_page(page),
                Local::Worked(call, took, result) => {
                    self.desk.durations.worked(call.rpc, took, result.is_ok());
                    let result = result.map(|frame| {
                        self.desk.frame = frame;
                        Next::Answer
                    });
                    self.complete(call.key, result);
                }
                Local::Snapshot(call, result) => self.with_call(call, |calls, desk| {
                    calls.snapshot_read(call, result, desk);
                }),
                Local::Served(call, result) => {
                    let result = result.map(|frame| {
                        self.desk.frame = frame;
                        Next::Answer
                    });
                    self.complete(call, result);
                }
                Local::Pump(call) => self.with_call(call, |calls, desk| calls.pump(call, desk)),
                Local::Inside(order) => self.inside.take(order, &mut self.desk),
            }
        }
    }

    fn read_ready(&mut self, cx: &Context<'_>) {
        let mut ready = std::mem::take(&mut self.ready_now);
        self.ready.take(&mut ready, cx.waker());
        for index in ready.drain(..) {
            let Some(connection) = self.connections.at(index) else { continue };
            let fate = connection.read(&mut self.buffer, &mut self.desk);
            let key = connection.key;
            self.mark_dirty(key);
            self.settle(key, fate);
        }
        // Keeps what `settle` has put there meanwhile, and the larger allocation.
        ready.append(&mut self.ready_now);
        self.ready_now = ready;
    }

    fn tick_if_due(&mut self) {
        if self.desk.now < self.timer.deadline() {
            return;
        }
        self.desk.tick();
        for call in self.desk.take_transferred() {
            let result = service::maintenance::moved_leader(&mut self.desk);
            self.complete(call.key, result);
        }
        if self.desk.now >= self.next_long_tick {
            self.next_long_tick = self.desk.now + TICK_LONG;
            self.inside.tick(&mut self.desk);
            self.for_all(Connection::tick);
        }
        self.timer.as_mut().reset(self.desk.now + TICK_LONG);
        self.is_timer_armed = false;
    }

    /// Hands over what the turn's requests ask for, and writes the turn's answers.
    fn end_turn(&mut self) {
        self.end_incomplete();
        self.desk.hand_over();
        for (call, status) in self.desk.take_failures() {
            self.complete(call, Err(status));
        }
        let mut later = std::mem::take(&mut self.later);
        for key in later.drain(..) {
            self.mark_dirty(key);
        }
        self.later = later;
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            let Some(connection) = self.connections.get(key) else { continue };
            connection.is_dirty = false;
            let fate = connection.write(&mut self.desk);
            self.settle(key, fate);
        }
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
        self.inside.acknowledge(&mut self.desk);
        self.desk.frame.give_back();
        // What writing has brought up, such as acknowledgements for the watch hub.
        self.desk.hand_over();
    }

    /// Ends the oldest requests that do not come to their end, if they hold too much memory.
    fn end_incomplete(&mut self) {
        let Self { connections, desk, .. } = self;
        desk.load.prune(|call| {
            let http2 = connections.get(call.connection).and_then(Connection::http2);
            http2.is_some_and(|http2| http2.is_incomplete(call.stream))
        });
        while let Some(call) = self.desk.load.next_to_end(&self.desk.link.limits) {
            let http2 = self.connections.get(call.connection).and_then(Connection::http2);
            if let Some(http2) = http2
                && http2.is_incomplete(call.stream)
            {
                http2.end_incomplete(call.stream, &mut self.desk);
                self.mark_dirty(call.connection);
            }
        }
    }

    /// Sees to it that there is a next turn when there is something to do.
    fn arm_timer(&mut self, cx: &mut Context<'_>) {
        let is_unfinished = !self.ready_now.is_empty() || !self.dirty.is_empty();
        if is_unfinished || self.desk.has_failures() {
            cx.waker().wake_by_ref();
        }
        let soon = self.desk.now + TICK_SHORT;
        let is_busy = self.desk.is_waiting() || self.stop_at.is_some();
        if is_busy && self.timer.deadline() > soon {
            self.timer.as_mut().reset(soon);
            self.is_timer_armed = false;
        }
        if !std::mem::replace(&mut self.is_timer_armed, true)
            && self.timer.as_mut().poll(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
    }

    fn is_finished(&self) -> bool {
        let Some(stop_at) = self.stop_at else { return false };
        let is_idle = self.connections.is_empty() && self.inside.is_empty() && self.desk.is_idle();
        self.desk.now >= stop_at || is_idle
    }

    fn complete(&mut self, call: CallKey, result: Result<Next, Status>) {
        self.with_call(call, |calls, desk| calls.complete(call, result, desk));
    }

    fn with_call(&mut self, call: CallKey, act: impl FnOnce(&mut dyn Calls, &mut Desk)) {
        if inside::is_inside(call) {
            return act(&mut self.inside, &mut self.desk);
        }
        let Some(connection) = self.connections.get(call.connection) else { return };
        let Some(http2) = connection.http2() else { return };
        act(http2, &mut self.desk);
        self.mark_dirty(call.connection);
    }

    fn for_all(&mut self, mut act: impl FnMut(&mut Connection, &mut Desk) -> Fate) {
        for index in 0..self.connections.places() {
            let Some(connection) = self.connections.at(index) else { continue };
            let fate = act(connection, &mut self.desk);
            let key = connection.key;
            self.mark_dirty(key);
            self.settle(key, fate);
        }
    }

    fn mark_dirty(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get(key)
            && !std::mem::replace(&mut connection.is_dirty, true)
        {
            self.dirty.push(key);
        }
    }

    fn settle(&mut self, key: ConnectionKey, fate: Fate) {
        match fate {
            Fate::Waits => {}
            Fate::Ready => self.ready_now.push(key.index),
            Fate::WritesLater => self.later.push(key),
            Fate::Gone => {
                if let Some(mut connection) = self.connections.remove(key) {
                    connection.abandon(&mut self.desk);
                }
            }
            Fate::Http1(prefix) => {
                if let Some(connection) = self.connections.remove(key) {
                    self.pages.serve(connection.into_transport(), prefix);
                }
            }
        }
    }
}
