//! The window of append messages sent to a follower and not acknowledged yet.

use std::collections::VecDeque;

/// Limits messages in flight by number and by bytes.
///
/// The limit on bytes is soft: the message that crosses it is still sent, so one that is larger than the whole
/// window does not block the follower for ever.
#[derive(Clone, Debug)]
pub struct Inflights {
    /// Last index and bytes of each message. Invariant: indexes do not decrease.
    window: VecDeque<(u64, u64)>,
    /// Invariant: the sum of the window's bytes.
    bytes: u64,
    count_max: usize,
    bytes_max: u64,
}

impl Inflights {
    /// An empty window. `bytes_max` 0 means no limit.
    pub const fn new(count_max: usize, bytes_max: u64) -> Self {
        Self { window: VecDeque::new(), bytes: 0, count_max, bytes_max }
    }

    /// Records a message whose last entry is `index`. The window must not be full.
    pub fn add(&mut self, index: u64, bytes: u64) {
        assert!(!self.is_full(), "cannot add into a Full inflights");
        self.window.push_back((index, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Forgets the messages up to `index`: the follower has them.
    pub fn free_le(&mut self, index: u64) {
        while let Some(&(first, bytes)) = self.window.front() {
            if index < first {
                return;
            }
            self.window.pop_front();
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        self.bytes = 0;
    }

    /// Whether no more may be sent.
    pub fn is_full(&self) -> bool {
        self.window.len() >= self.count_max || (self.bytes_max != 0 && self.bytes >= self.bytes_max)
    }

    /// Messages in flight.
    pub fn count(&self) -> usize {
        self.window.len()
    }

    /// Bytes in flight.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.window.iter().map(|&(_, bytes)| bytes)
    }

    pub(super) fn reset(&mut self) {
        self.window.clear();
        if !mutant::mutant!("R3") {
            self.bytes = 0;
        }
    }
}
