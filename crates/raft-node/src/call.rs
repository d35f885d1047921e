//! Calls that wait: futures for tasks, and the same for threads.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use raft::{Message, MessageType, Ready, Storage};

use crate::error::Error;
use crate::shared::Shared;

/// A message on its way into the member: a proposal waits while there is no leader, others do not.
///
/// Nothing has happened before it is awaited, and nothing will when it is dropped unfinished.
#[must_use = "a proposal does nothing unless it is awaited"]
pub struct Proposal<'a, S: Storage> {
    shared: &'a Shared<S>,
    /// `None` once it is stepped.
    message: Option<Message>,
    /// Its place among those who wait; 0 before it has one.
    key: u64,
}

/// The next [`Ready`], handed out when the one before has been brought back to [`Node::advance`](crate::Node::advance)
/// and there is something to do.
///
/// It is accepted only when the future returns it. Dropped before, the work stays for the next call.
#[must_use = "a future does nothing unless it is awaited"]
pub struct NextReady<'a, S: Storage> {
    shared: &'a Shared<S>,
    key: u64,
}

impl<'a, S: Storage> Proposal<'a, S> {
    pub(crate) const fn new(shared: &'a Shared<S>, message: Message) -> Self {
        Self { shared, message: Some(message), key: 0 }
    }

    /// The result if there is one already; else `waker` is told when to try again.
    fn attempt(&mut self, waker: Option<&Waker>) -> Option<Result<(), Error>> {
        let mut state = self.shared.lock();
        if state.is_stopped {
            return Some(Err(Error::Stopped));
        }
        let message = self.message.as_ref().expect("not polled after it has returned");
        if message.msg_type == MessageType::Prop && !state.takes_proposals {
            if let Some(waker) = waker {
                if self.key == 0 {
                    self.key = state.new_key();
                }
                state.proposers.add(self.key, waker);
            }
            return None;
        }
        let mut message = self.message.take()?;
        if message.msg_type == MessageType::Prop {
            // also one that a follower has sent on: the answer to it is nobody's business but this member's
            message.from = state.raw.basic_status().id;
        }
        Some(match state.raw.step(message) {
            // etcd drops them without a word: they are late, or of somebody who was removed
            Err(raft::Error::StepLocalMsg | raft::Error::StepPeerNotFound) => Ok(()),
            result => result.map_err(Error::from),
        })
    }

    /// Blocks this thread until the message is stepped.
    ///
    /// # Errors
    /// [`Error::Stopped`], or raft's, of which `ProposalDropped` may be tried again.
    pub fn wait(mut self) -> Result<(), Error> {
        self.attempt(None).or_else(|| block(&mut self, None)).unwrap_or(Err(Error::Stopped))
    }

    /// As [`wait`](Self::wait), but gives up after `timeout`.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] as well.
    pub fn wait_for(mut self, timeout: Duration) -> Result<(), Error> {
        self.attempt(None)
            .or_else(|| block(&mut self, Instant::now().checked_add(timeout)))
            .unwrap_or(Err(Error::DeadlineExceeded))
    }
}

impl<'a, S: Storage> NextReady<'a, S> {
    pub(crate) const fn new(shared: &'a Shared<S>) -> Self {
        Self { shared, key: 0 }
    }

    fn attempt(&mut self, waker: Option<&Waker>) -> Option<Result<Ready, Error>> {
        let mut state = self.shared.lock();
        if state.is_stopped {
            return Some(Err(Error::Stopped));
        }
        if !state.may_hand_out() {
            if let Some(waker) = waker {
                if self.key == 0 {
                    self.key = state.new_key();
                }
                state.readers.add(self.key, waker);
            }
            return None;
        }
        let ready = state.raw.ready();
        state.is_ready_out = !state.is_async;
        Some(Ok(ready))
    }

    /// The `Ready` if there is one now. `None` says that there is nothing to do, or that one is out already.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn now(mut self) -> Result<Option<Ready>, Error> {
        self.attempt(None).transpose()
    }

    /// Blocks this thread until there is something to do.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn wait(mut self) -> Result<Ready, Error> {
        self.attempt(None).or_else(|| block(&mut self, None)).unwrap_or(Err(Error::Stopped))
    }

    /// As [`wait`](Self::wait), but gives up after `timeout`.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] as well.
    pub fn wait_for(mut self, timeout: Duration) -> Result<Ready, Error> {
        self.attempt(None)
            .or_else(|| block(&mut self, Instant::now().checked_add(timeout)))
            .unwrap_or(Err(Error::DeadlineExceeded))
    }
}

fn poll_of<T>(attempt: Option<T>) -> Poll<T> {
    attempt.map_or(Poll::Pending, Poll::Ready)
}

impl<S: Storage> Future for Proposal<'_, S> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        poll_of(self.attempt(Some(context.waker())))
    }
}

impl<S: Storage> Future for NextReady<'_, S> {
    type Output = Result<Ready, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        poll_of(self.attempt(Some(context.waker())))
    }
}

impl<S: Storage> Drop for Proposal<'_, S> {
    fn drop(&mut self) {
        if self.key != 0 {
            self.shared.lock().proposers.remove(self.key);
        }
    }
}

impl<S: Storage> Drop for NextReady<'_, S> {
    fn drop(&mut self) {
        if self.key != 0 {
            self.shared.lock().readers.remove(self.key);
        }
    }
}

impl<S: Storage> fmt::Debug for Proposal<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proposal").field("message", &self.message).finish_non_exhaustive()
    }
}

impl<S: Storage> fmt::Debug for NextReady<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextReady").finish_non_exhaustive()
    }
}

/// Wakes a thread that is parked.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future on this thread; `None` when the deadline has passed.
fn block<F: Future + Unpin>(future: &mut F, deadline: Option<Instant>) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Parked(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut context) {
            return Some(output);
        }
        // It may wake for no reason, and then looks again.
        match deadline {
            None => thread::park(),
            Some(deadline) => {
                let left = deadline.checked_duration_since(Instant::now())?;
                if left.is_zero() {
                    return None;
                }
                thread::park_timeout(left);
            }
        }
    }
}
