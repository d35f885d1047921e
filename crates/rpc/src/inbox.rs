//! The one queue into a core: filled by any thread, emptied in one go.

use parking_lot::Mutex;
use tokio::sync::Notify;

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
    /// A client's connection, accepted and set to non-blocking.
    Socket(Socket),
    /// No new connections or calls; [`crate::Core::run`] returns when the open calls are done, or
    /// after [`crate::Limits::drain_timeout`].
    Shutdown,
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
    queue: Mutex<Vec<Delivery>>,
    filled: Notify,
}

impl Inbox {
    /// An empty inbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts something in; wakes the core if the inbox was empty.
    pub fn push(&self, delivery: Delivery) {
        let was_empty = {
            let mut queue = self.queue.lock();
            let was_empty = queue.is_empty();
            queue.push(delivery);
            was_empty
        };
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Swaps all deliveries into the empty `into`.
    pub(crate) fn take(&self, into: &mut Vec<Delivery>) {
        std::mem::swap(&mut *self.queue.lock(), into);
    }

    /// Returns when the inbox may hold something.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }
}
