//! What the connections of a core hold in all, and what each may have when that is too much.

use std::collections::VecDeque;

use super::CallKey;
use crate::Limits;

/// Sums over all connections. No connection is denied its even share, so that those who take what is theirs and go on are
/// served whatever others do.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Connections of HTTP/2.
    pub(crate) connections: usize,
    /// Calls that are open.
    pub(crate) calls: usize,
    /// Bytes of requests that have not come to their end, or wait.
    pub(crate) incomplete_bytes: usize,
    /// Bytes that wait to be written.
    pub(crate) unwritten_bytes: usize,
    /// Calls with a request that was incomplete once, the oldest first. Some are not any more.
    incomplete: VecDeque<CallKey>,
    /// When to look for those.
    prune_at: usize,
}

/// So many calls are kept in the list of the incomplete ones before it is cleared of others.
const PRUNE_MIN: usize = 1024;

impl Load {
    /// Streams that a connection may have open.
    pub(crate) fn streams_max(&self, limits: &Limits) -> usize {
        if self.calls < limits.calls_max { usize::MAX } else { self.share(limits.calls_max) }
    }

    /// Whether more waits to be written than should.
    pub(crate) fn is_unwritten_too_much(&self, limits: &Limits) -> bool {
        self.unwritten_bytes >= limits.unwritten_bytes_max
    }

    /// What may wait to be written on a connection before it gets no more, if `max` is what it may at other times.
    pub(crate) fn unwritten_max(&self, limits: &Limits, max: usize) -> usize {
        if self.is_unwritten_too_much(limits) {
            max.min(self.share(limits.unwritten_bytes_max))
        } else {
            max
        }
    }

    fn share(&self, of: usize) -> usize {
        of / self.connections.max(1)
    }

    /// Something that was counted as `before` has another size.
    pub(crate) fn count_incomplete(&mut self, call: CallKey, before: usize, now: usize) {
        self.incomplete_bytes = self.incomplete_bytes + now - before;
        if before == 0 && now > 0 {
            self.incomplete.push_back(call);
        }
    }

    /// The call whose request has been incomplete the longest, if there is too much of them.
    pub(crate) fn next_to_end(&mut self, limits: &Limits) -> Option<CallKey> {
        if self.incomplete_bytes <= limits.incomplete_bytes_max {
            return None;
        }
        self.incomplete.pop_front()
    }

    /// Forgets the calls of which nothing is incomplete any more, when the list has become long.
    pub(crate) fn prune(&mut self, is_incomplete: impl FnMut(&CallKey) -> bool) {
        if self.incomplete_bytes == 0 {
            self.incomplete.clear();
        } else if self.incomplete.len() > self.prune_at.max(PRUNE_MIN) {
            self.incomplete.retain(is_incomplete);
            self.prune_at = 2 * self.incomplete.len();
        }
    }
}
