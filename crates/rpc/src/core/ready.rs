//! Which connections have something to read or room to write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// Places of connections that were woken. Wakers must be usable from any thread, hence the lock;
/// in fact the core's own thread has it to itself.
#[derive(Debug, Default)]
pub(super) struct ReadyList {
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    indexes: Vec<Arc<Entry>>,
    /// Set while the core sleeps.
    core: Option<Waker>,
}

#[derive(Debug)]
struct Entry {
    index: u32,
    ready: Arc<ReadyList>,
    is_listed: AtomicBool,
}

impl ReadyList {
    /// Appends all places to `into`; the next one that is woken wakes `core`.
    pub(super) fn take(&self, into: &mut Vec<u32>, core: &Waker) {
        let mut list = self.list.lock();
        into.extend(list.indexes.drain(..).map(|entry| {
            entry.is_listed.store(false, Ordering::Release);
            entry.index
        }));
        list.core = Some(core.clone());
    }
}

/// The waker of the connection at a place.
pub(super) fn waker(ready: &Arc<ReadyList>, index: u32) -> Waker {
    let entry = Entry { index, ready: Arc::clone(ready), is_listed: AtomicBool::new(false) };
    Waker::from(Arc::new(entry))
}

impl Wake for Entry {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let core = {
            let mut list = self.ready.list.lock();
            list.indexes.push(Arc::clone(self));
            list.core.take()
        };
        if let Some(core) = core {
            core.wake();
        }
    }
}
