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
    compacted: Vec<(Waiting, i64)>,
    compactions_open: usize,
}

/// Somebody who waits until the file holds what was applied when he asked.
#[derive(Debug)]
struct Waiting {
    token: u64,
    /// `None` until the batch that he waits for is frozen; then whether it is still on its way.
    frozen: bool,
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
        self.views.push(Waiting { token, frozen: false });
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
                    self.compacted.push((Waiting { token: id, frozen: false }, revision));
                }
            }
        }
    }

    /// Whether the open batch should be frozen for somebody's sake.
    pub(crate) fn is_waiting(&self) -> bool {
        self.snapshot.is_some() || !self.views.is_empty() || !self.compacted.is_empty()
    }

    /// The open batch, which covers everything up to `index`, is on its way.
    pub(crate) fn frozen(&mut self, index: u64) {
        self.frozen_index = Some(index);
        for waiting in self.waiting() {
            waiting.frozen = true;
        }
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
    }

    fn waiting(&mut self) -> impl Iterator<Item = &mut Waiting> {
        self.views.iter_mut().chain(self.compacted.iter_mut().map(|(waiting, _)| waiting))
    }

    /// Everybody who asked shares the result of the one rewriting.
    pub(crate) fn defragmented(&mut self, result: Result<(), String>, out: &mut Output) {
        for token in self.defragments.drain(..) {
            out.answers.push((token, Answer::Defragmented(result.clone())));
        }
    }

    /// Hands out what became durable. `is_clean`: nothing waits in the open batch.
    pub(crate) fn settle(
        &mut self,
        is_clean: bool,
        applied: u64,
        view: impl Fn() -> SnapshotView,
        out: &mut Output,
    ) {
        if self.frozen_index.is_some() {
            return;
        }
        if is_clean {
            self.durable_index = applied;
        }
        let arrived = |waiting: &Waiting| waiting.frozen || is_clean;
        for waiting in self.views.extract_if(.., |waiting| arrived(waiting)) {
            out.answers.push((waiting.token, Answer::View(view())));
        }
        for (waiting, _) in self.compacted.extract_if(.., |(waiting, _)| arrived(waiting)) {
            let revision = view().revision;
            out.replies
                .push(Reply { id: waiting.token, result: Ok(Outcome::Compact { revision }) });
        }
        if self
            .snapshot
            .as_ref()
            .is_some_and(|snapshot| snapshot.metadata.index <= self.durable_index)
        {
            out.snapshot = self.snapshot.take();
        }
    }
}
