//! The one queue into a core: filled by any thread, emptied in one go.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

/// Something that a core receives.
#[derive(Debug)]
pub enum Delivery {
    /// Outcomes of proposals whose ids name this core.
    Replies(Vec<apply::Reply>),
    /// These proposals did not enter the log.
    Refused(Vec<u64>, api::Error),
    /// A linearizable read of this core may be served, or can't be.
    ReadReady {
        /// The id in [`replica::Event::Read`].
        id: u64,
        /// Whether the state is fresh enough now.
        result: Result<(), api::Error>,
    },
    /// What the watch hub has for streams of this core.
    Watch(Vec<mvcc::watch::Response>),
    /// The answer to an [`apply::Command`] of this core.
    Answer {
        /// The token in [`apply::Input::Command`].
        token: u64,
        /// The answer.
        answer: apply::Answer,
    },
    /// The state was replaced by a snapshot: reads go to this reader from now on.
    Restored(mvcc::Reader),
    /// What the leader says to an [`crate::AskLeader`] of this core, or why it could not be asked.
    Leader {
        /// The token in the question.
        token: u64,
        /// The answer.
        result: Result<crate::LeaderAnswer, api::Error>,
    },
    /// A client's connection, accepted and set to non-blocking, with what counts it.
    Socket(Socket, Tally),
    /// No new connections or calls; [`crate::Core::run`] returns when the open calls are done, or
    /// after [`crate::Limits::drain_timeout`].
    Shutdown,
}

/// Counts connections: each holds a copy of the tally until it is closed.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<()>);

impl Tally {
    /// How many copies there are beside this one.
    #[must_use]
    pub fn others(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// An accepted connection, not yet tied to a runtime.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A unix socket.
    Unix(std::os::unix::net::UnixStream),
}

/// A core's queue. The lock is held for a push or a swap of the vector, never longer.
///
/// It is not bounded by itself: everything in it answers something the core asked for, and those
/// are bounded by the core; sockets are bounded by the file descriptors of the process.
#[derive(Debug, Default)]
pub struct Inbox {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    deliveries: Vec<Delivery>,
    /// Set from when the core empties the queue until somebody fills it.
    core: Option<Waker>,
}

impl Inbox {
    /// An empty inbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts something in; wakes the core if it is the first since the core has looked.
    pub fn push(&self, delivery: Delivery) {
        let core = {
            let mut queue = self.queue.lock();
            queue.deliveries.push(delivery);
            queue.core.take()
        };
        if let Some(core) = core {
            core.wake();
        }
    }

    /// Swaps all deliveries into the empty `into`; the next push wakes `core`.
    pub(crate) fn take(&self, into: &mut Vec<Delivery>, core: &Waker) {
        let mut queue = self.queue.lock();
        std::mem::swap(&mut queue.deliveries, into);
        queue.core = Some(core.clone());
    }
}
