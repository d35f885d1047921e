//! The member behind its lock, and who waits for it.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Waker;
use std::thread;

use raft::{Level, LogLine, NONE, RawNode, Storage};

/// Ticks kept while the member is busy; more are dropped. etcd's `tickc` has this capacity.
const TICKS_MAX: u32 = 128;

/// Those who wait for one thing. All are woken at once: one that was woken may be dropped before it looks, and must
/// not take the others' turn with it.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Invariant: one per key. In the order in which they came.
    wakers: Vec<(u64, Waker)>,
}

impl Waiters {
    pub(crate) fn add(&mut self, key: u64, waker: &Waker) {
        match self.wakers.iter_mut().find(|(other, _)| *other == key) {
            Some((_, old)) => old.clone_from(waker),
            None => self.wakers.push((key, waker.clone())),
        }
    }

    pub(crate) fn remove(&mut self, key: u64) {
        self.wakers.retain(|(other, _)| *other != key);
    }

    fn move_to(&mut self, woken: &mut Vec<(u64, Waker)>) {
        if woken.is_empty() {
            std::mem::swap(&mut self.wakers, woken);
        } else {
            woken.append(&mut self.wakers);
        }
    }
}

/// What the lock protects.
#[derive(Debug)]
pub(crate) struct State<S> {
    pub(crate) raw: RawNode<S>,
    /// The leader after the last step.
    lead: u64,
    /// Whether proposals are stepped rather than kept waiting: there is a leader, and this member was not removed since
    /// it appeared.
    pub(crate) takes_proposals: bool,
    /// Whether a `Ready` is out that `advance` must bring back.
    pub(crate) is_ready_out: bool,
    /// Whether a `Ready` need not be brought back.
    pub(crate) is_async: bool,
    pub(crate) is_stopped: bool,
    pub(crate) proposers: Waiters,
    pub(crate) readers: Waiters,
    next_key: u64,
    log_level: Option<Level>,
    /// Lines of raft and of this crate, in their order.
    lines: Vec<LogLine>,
}

impl<S: Storage> State<S> {
    pub(crate) const fn new_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    pub(crate) fn take_lines(&mut self) -> Vec<LogLine> {
        self.lines.append(&mut self.raw.take_log_lines());
        std::mem::take(&mut self.lines)
    }

    pub(crate) fn log(&mut self, level: Level, text: impl FnOnce() -> String) {
        if self.log_level.is_some_and(|wanted| level >= wanted) {
            self.lines.append(&mut self.raw.take_log_lines());
            self.lines.push(LogLine { level, text: text() });
        }
    }

    /// Follows a change of the leader: the head of the loop in etcd's node.go.
    fn follow_leader(&mut self) {
        let status = self.raw.basic_status();
        let (before, lead) = (self.lead, status.soft_state.lead);
        if lead == before {
            return;
        }
        let (id, term) = (status.id, status.hard_state.term);
        self.lead = lead;
        self.takes_proposals = lead != NONE;
        self.log(Level::Info, || match (before, lead) {
            (_, NONE) => format!("raft.node: {id:x} lost leader {before:x} at term {term}"),
            (NONE, _) => format!("raft.node: {id:x} elected leader {lead:x} at term {term}"),
            _ => format!(
                "raft.node: {id:x} changed leader from {before:x} to {lead:x} at term {term}"
            ),
        });
    }

    /// Whether the next `ready` returns at once.
    pub(crate) fn may_hand_out(&self) -> bool {
        !self.is_ready_out && self.raw.has_ready()
    }

    /// Takes out those who have something to do now.
    fn take_woken(&mut self) -> Vec<(u64, Waker)> {
        let mut woken = Vec::new();
        if self.is_stopped || self.takes_proposals {
            self.proposers.move_to(&mut woken);
        }
        if !self.readers.wakers.is_empty() && (self.is_stopped || self.may_hand_out()) {
            self.readers.move_to(&mut woken);
        }
        woken
    }
}

/// A member that several handles share.
#[derive(Debug)]
pub(crate) struct Shared<S> {
    state: Mutex<State<S>>,
    /// Ticks not counted yet, because somebody holds the lock.
    ticks: AtomicU32,
    /// Ticks dropped since the last step.
    missed: AtomicU32,
}

impl<S: Storage> Shared<S> {
    pub(crate) fn new(raw: RawNode<S>, is_async: bool, log_level: Option<Level>) -> Self {
        let state = Mutex::new(State {
            raw,
            lead: NONE,
            takes_proposals: false,
            is_ready_out: false,
            is_async,
            is_stopped: false,
            proposers: Waiters::default(),
            readers: Waiters::default(),
            next_key: 0,
            log_level,
            lines: Vec::new(),
        });
        Self { state, ticks: AtomicU32::new(0), missed: AtomicU32::new(0) }
    }

    pub(crate) fn lock(&self) -> Guard<'_, S> {
        Guard::new(self, self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The lock, unless somebody holds it.
    fn try_lock(&self) -> Option<MutexGuard<'_, State<S>>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Counts a tick, now or when whoever holds the lock is done.
    pub(crate) fn tick(&self) {
        let more = |ticks| (ticks < TICKS_MAX).then_some(ticks + 1);
        if self.ticks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_err() {
            self.missed.fetch_add(1, Ordering::SeqCst);
        }
        // Either this sees the lock free, or its holder sees the tick after giving it back.
        fence(Ordering::SeqCst);
        if let Some(state) = self.try_lock() {
            drop(Guard::new(self, state));
        }
    }

    fn take_ticks(&self, state: &mut State<S>) {
        let ticks = self.ticks.swap(0, Ordering::SeqCst);
        let missed = self.missed.swap(0, Ordering::SeqCst);
        if state.is_stopped {
            return;
        }
        for _ in 0..ticks {
            state.raw.tick();
            state.follow_leader();
        }
        let id = state.raw.basic_status().id;
        for _ in 0..missed {
            state.log(Level::Warning, || {
                format!("{id:x} A tick missed to fire. Node blocks too long!")
            });
        }
    }

    fn has_ticks(&self) -> bool {
        self.ticks.load(Ordering::SeqCst) > 0 || self.missed.load(Ordering::SeqCst) > 0
    }
}

/// The lock. Giving it back ends a step: the leader is looked at, ticks that came meanwhile are counted, and who has
/// something to do is woken.
pub(crate) struct Guard<'a, S: Storage> {
    shared: &'a Shared<S>,
    /// `Some` until it is dropped.
    state: Option<MutexGuard<'a, State<S>>>,
    /// Whether the thread was unwinding already, so that a panic is none of this step's.
    was_panicking: bool,
}

impl<'a, S: Storage> Guard<'a, S> {
    fn new(shared: &'a Shared<S>, state: MutexGuard<'a, State<S>>) -> Self {
        Self { shared, state: Some(state), was_panicking: thread::panicking() }
    }
}

impl<S: Storage> Deref for Guard<'_, S> {
    type Target = State<S>;

    fn deref(&self) -> &State<S> {
        self.state.as_ref().expect("held until it is dropped")
    }
}

impl<S: Storage> DerefMut for Guard<'_, S> {
    fn deref_mut(&mut self) -> &mut State<S> {
        self.state.as_mut().expect("held until it is dropped")
    }
}

impl<S: Storage> Drop for Guard<'_, S> {
    fn drop(&mut self) {
        let mut held = self.state.take();
        while let Some(mut state) = held {
            // The step is half done. Others would wait for ever for what this thread does no more.
            state.is_stopped |= thread::panicking() && !self.was_panicking;
            if !state.is_stopped {
                state.follow_leader();
            }
            self.shared.take_ticks(&mut state);
            let woken = state.take_woken();
            drop(state);
            for (_, waker) in woken {
                waker.wake();
            }
            fence(Ordering::SeqCst);
            held = if self.shared.has_ticks() { self.shared.try_lock() } else { None };
        }
    }
}
