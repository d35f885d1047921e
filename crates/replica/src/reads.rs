//! Linearizable reads: asked for, confirmed by the leader at an index, ready when that is applied.

use std::collections::VecDeque;

/// Reads on their way. One read index stands for all reads that came since the last was issued.
#[derive(Debug)]
pub(crate) struct Reads {
    /// Not issued yet.
    asked: Vec<u64>,
    /// Issued under a context, oldest first.
    issued: VecDeque<(u64, Vec<u64>)>,
    /// Confirmed at an index.
    confirmed: Vec<(u64, Vec<u64>)>,
    next_context: u64,
    /// Ticks since the oldest in `issued` went out.
    waited: u32,
    retry_ticks: u32,
}

impl Reads {
    /// `retry_ticks`: after so many ticks without an answer the leader is asked again.
    pub(crate) fn new(retry_ticks: u32) -> Self {
        Self {
            asked: Vec::new(),
            issued: VecDeque::new(),
            confirmed: Vec::new(),
            next_context: 1,
            waited: 0,
            retry_ticks: retry_ticks.max(1),
        }
    }

    pub(crate) fn ask(&mut self, id: u64) {
        self.asked.push(id);
    }

    pub(crate) fn tick(&mut self) {
        if self.issued.is_empty() {
            self.waited = 0;
            return;
        }
        self.waited += 1;
        if self.waited >= self.retry_ticks {
            self.reissue();
        }
    }

    /// An answer may never come, the question or the leader being lost: all go out again, under a
    /// new context, so that a late answer confirms nobody by mistake.
    pub(crate) fn reissue(&mut self) {
        self.waited = 0;
        for (_, ids) in self.issued.drain(..) {
            self.asked.extend(ids);
        }
    }

    /// The context to ask the leader under, if there is somebody to ask for.
    pub(crate) fn issue(&mut self) -> Option<u64> {
        if self.asked.is_empty() {
            return None;
        }
        let context = self.next_context;
        self.next_context += 1;
        self.issued.push_back((context, std::mem::take(&mut self.asked)));
        Some(context)
    }

    /// The leader's answer. It confirms what was asked before, too: the index is no older.
    pub(crate) fn confirmed(&mut self, context: &[u8], index: u64) {
        let Ok(context) = <[u8; 8]>::try_from(context).map(u64::from_be_bytes) else {
            return;
        };
        if !self.issued.iter().any(|&(issued, _)| issued == context) {
            return;
        }
        while self.issued.front().is_some_and(|&(issued, _)| issued <= context) {
            let (_, ids) = self.issued.pop_front().expect("looked at above");
            self.confirmed.push((index, ids));
        }
        self.waited = 0;
    }

    /// Those whose index is applied.
    pub(crate) fn take_ready(&mut self, applied: u64) -> Vec<u64> {
        let mut ready = Vec::new();
        self.confirmed.retain_mut(|(index, ids)| {
            if *index > applied {
                return true;
            }
            ready.append(ids);
            false
        });
        ready
    }
}
