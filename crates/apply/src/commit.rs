//! Who waits for the backend's file: snapshots, physical compactions, views.

use std::collections::VecDeque;

use mvcc::CompactionProgress;
use raft::Snapshot;

use crate::message::{Answer, Outcome, Output, Reply, SnapshotView};

/// What is under way between memory and the backend's file.
#[derive(Debug)]
pub(crate) struct Commits {
    /// Everything applied up to here is in the file.
    durable_index: u64,
    /// The index that the batch on its way covers.
    frozen_index: Option<u64>,
    snapshot: Option<Snapshot>,
    views: Vec<Waiting>,
    defragments: Vec<u64>,
    /// Answers owed once the compaction to a revision has removed its last row.
    compactions: VecDeque<(u64, i64)>,
    /// Answers owed once the rows' removal is in the file.
    compacted: Vec<Waiting>,
    compactions_open: usize,
}

/// Somebody who waits until the file holds what was applied when he asked.
#[derive(Debug)]
struct Waiting {
    token: u64,
    stage: Stage,
}

/// How far the batch is that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Still open.
    Open,
    /// On its way.
    Frozen,
    /// In the file.
    Durable,
}

impl Waiting {
    fn new(token: u64) -> Self {
        Self { token, stage: Stage::Open }
    }
}

impl Commits {
    pub(crate) fn new(durable_index: u64) -> Self {
        Self {
            durable_index,
            frozen_index: None,
            snapshot: None,
            views: Vec::new(),
            defragments: Vec::new(),
            compactions: VecDeque::new(),
            compacted: Vec::new(),
            compactions_open: 1,
        }
    }

    pub(crate) fn wait_for_view(&mut self, token: u64) {
        self.views.push(Waiting::new(token));
    }

    pub(crate) fn wait_for_defragment(&mut self, token: u64) {
        self.defragments.push(token);
    }

    pub(crate) fn wait_for_compaction(&mut self, id: u64, revision: i64) {
        self.compactions.push_back((id, revision));
    }

    /// A newer snapshot takes the place of one that still waits.
    pub(crate) fn wait_for_snapshot(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(snapshot);
    }

    pub(crate) fn compaction_began(&mut self) {
        self.compactions_open += 1;
    }

    pub(crate) fn is_compacting(&self) -> bool {
        self.compactions_open > 0
    }

    pub(crate) fn compaction_progress(&mut self, progress: CompactionProgress) {
        match progress {
            CompactionProgress::Working => {}
            CompactionProgress::Idle => self.compactions_open = 0,
            CompactionProgress::Finished { revision, .. } => {
                self.compactions_open = self.compactions_open.saturating_sub(1).max(1);
                while let Some(&(id, asked)) = self.compactions.front()
                    && asked <= revision
                {
                    self.compactions.pop_front();
                    self.compacted.push(Waiting::new(id));
                }
            }
        }
    }

    /// Whether the open batch should be frozen for somebody's sake.
    pub(crate) fn is_waiting(&self) -> bool {
        let is_open = |waiting: &Waiting| waiting.stage == Stage::Open;
        self.snapshot.as_ref().is_some_and(|snapshot| {
            let index = snapshot.metadata.index;
            index > self.durable_index && self.frozen_index.is_none_or(|frozen| index > frozen)
        }) || self.views.iter().chain(&self.compacted).any(is_open)
    }

    /// The open batch, which covers everything up to `index`, is on its way.
    pub(crate) fn frozen(&mut self, index: u64) {
        self.frozen_index = Some(index);
        self.promote(Stage::Open, Stage::Frozen);
    }

    /// Whether a batch is on its way.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen_index.is_some()
    }

    /// The batch on its way has arrived.
    pub(crate) fn committed(&mut self) {
        if let Some(index) = self.frozen_index.take() {
            self.durable_index = index;
        }
        self.promote(Stage::Frozen, Stage::Durable);
    }

    /// Nothing was left to write: the file holds everything up to `index`.
    pub(crate) fn clean(&mut self, index: u64) {
        self.durable_index = index;
        self.promote(Stage::Open, Stage::Durable);
    }

    fn promote(&mut self, from: Stage, to: Stage) {
        for waiting in self.views.iter_mut().chain(&mut self.compacted) {
            if waiting.stage == from {
                waiting.stage = to;
            }
        }
    }

    /// Everybody who asked shares the result of the one rewriting.
    pub(crate) fn defragmented(&mut self, result: Result<(), String>, out: &mut Output) {
        for token in self.defragments.drain(..) {
            out.answers.push((token, Answer::Defragmented(result.clone())));
        }
    }

    /// Hands out what became durable. `view` shows the file as it is now.
    pub(crate) fn release(&mut self, view: impl Fn() -> SnapshotView, out: &mut Output) {
        let is_durable = |waiting: &mut Waiting| waiting.stage == Stage::Durable;
        for waiting in self.views.extract_if(.., is_durable) {
            out.answers.push((waiting.token, Answer::View(view())));
        }
        for waiting in self.compacted.extract_if(.., is_durable) {
            let revision = view().revision;
            let result = Ok(Outcome::Compact { revision });
            out.replies.push(Reply { id: waiting.token, result });
        }
        let durable_index = self.durable_index;
        if self.snapshot.as_ref().is_some_and(|s| s.metadata.index <= durable_index) {
            out.snapshot = self.snapshot.take();
        }
    }
}
