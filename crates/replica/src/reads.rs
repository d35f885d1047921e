//! Linearizable reads: asked for, confirmed by the leader at an index, ready when that is applied.

use std::collections::VecDeque;

use mutant::mutant;

/// Reads on their way. One read index stands for all reads that came since the last was issued.
#[derive(Debug)]
pub(crate) struct Reads {
    /// Not issued yet.
    asked: Vec<u64>,
    /// Issued under a context, oldest first.
    issued: VecDeque<(u64, Vec<u64>)>,
    /// Confirmed at an index.
    confirmed: Vec<(u64, Vec<u64>)>,
    /// The member, and a number that no other life of it begins with: contexts are unique in the
    /// cluster, so that no answer to somebody else, or to an earlier life, confirms a read here.
    owner: u64,
    first: u64,
    /// How many were issued.
    count: u64,
    /// Ticks since the oldest in `issued` went out.
    waited: u32,
    retry_ticks: u32,
}

impl Reads {
    /// `retry_ticks`: after so many ticks without an answer the leader is asked again.
    /// `first`: see [`crate::Options::seed`].
    pub(crate) fn new(owner: u64, first: u64, retry_ticks: u32) -> Self {
        Self {
            asked: Vec::new(),
            issued: VecDeque::new(),
            confirmed: Vec::new(),
            owner,
            first,
            count: 0,
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
    pub(crate) fn issue(&mut self) -> Option<[u8; 16]> {
        if self.asked.is_empty() {
            return None;
        }
        self.count += 1;
        self.issued.push_back((self.count, std::mem::take(&mut self.asked)));
        Some(self.context(self.count))
    }

    fn context(&self, number: u64) -> [u8; 16] {
        let mut context = [0; 16];
        if mutant!("21399") {
            context[8..].copy_from_slice(&number.to_be_bytes());
            return context;
        }
        context[..8].copy_from_slice(&self.owner.to_be_bytes());
        context[8..].copy_from_slice(&self.first.wrapping_add(number).to_be_bytes());
        context
    }

    /// The leader's answer. It confirms what was asked before, too: the index is no older.
    pub(crate) fn confirmed(&mut self, context: &[u8], index: u64) {
        let known = self.issued.iter().find(|&&(number, _)| self.context(number) == context);
        let Some(&(confirmed, _)) = known else { return };
        while self.issued.front().is_some_and(|&(number, _)| number <= confirmed) {
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
