//! Who waits for the backend's file: snapshots, physical compactions, views.

use std::collections::VecDeque;

use backend::Bucket;
use bytes::Bytes;
use mvcc::CompactionProgress;
use raft::{Message, Snapshot, SnapshotMetadata};

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
    /// Messages whose receivers need a snapshot.
    sends: Vec<(Message, Stage)>,
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
            sends: Vec::new(),
            defragments: Vec::new(),
            compactions: VecDeque::new(),
            compacted: Vec::new(),
            compactions_open: 1,
        }
    }

    pub(crate) fn wait_for_view(&mut self, token: u64) {
        self.views.push(Waiting::new(token));
    }

    pub(crate) fn wait_for_send(&mut self, message: Message) {
        self.sends.push((message, Stage::Open));
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
            CompactionProgress::Idle => {
                self.compactions_open = 0;
                // A snapshot may have brought what was asked for.
                let done = self.compactions.drain(..).map(|(id, _)| Waiting::new(id));
                self.compacted.extend(done);
            }
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
            || self.sends.iter().any(|(_, stage)| *stage == Stage::Open)
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

    /// A snapshot at `index` has taken the place of all state, in memory and in the file.
    pub(crate) fn replaced(&mut self, index: u64) {
        self.durable_index = index;
        self.frozen_index = None;
        self.snapshot = None;
        // The snapshot's own compaction may not have removed its last row.
        self.compactions_open = 1;
        self.promote(Stage::Frozen, Stage::Durable);
        self.promote(Stage::Open, Stage::Durable);
    }

    fn promote(&mut self, from: Stage, to: Stage) {
        let waiting = self.views.iter_mut().chain(&mut self.compacted);
        let stages = waiting.map(|waiting| &mut waiting.stage);
        for stage in stages.chain(self.sends.iter_mut().map(|(_, stage)| stage)) {
            if *stage == from {
                *stage = to;
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
    /// `data`: that of a snapshot.
    pub(crate) fn release(
        &mut self,
        view: impl Fn() -> SnapshotView,
        data: impl Fn() -> Bytes,
        out: &mut Output,
    ) {
        let is_durable = |waiting: &mut Waiting| waiting.stage == Stage::Durable;
        for waiting in self.views.extract_if(.., is_durable) {
            out.answers.push((waiting.token, Answer::View(view())));
        }
        for (mut message, _) in self.sends.extract_if(.., |(_, stage)| *stage == Stage::Durable) {
            let view = view();
            let metadata = snapshot_metadata(&view);
            message.snapshot = Some(Box::new(Snapshot { data: data(), metadata }));
            out.snapshots.push((message, view));
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

/// What the file says of itself: up to where it is applied, and raft's configuration there.
///
/// # Panics
/// If the file is damaged.
fn snapshot_metadata(view: &SnapshotView) -> SnapshotMetadata {
    let row = |key: &[u8]| match view.tx.get(Bucket::Meta.name(), key) {
        Ok(row) => row.unwrap_or_default(),
        Err(err) => panic!("reading the database for a snapshot: {err}"),
    };
    let number = |key| row(key).first_chunk().copied().map_or(0, u64::from_be_bytes);
    let conf_state = match cluster::conf_state_from_json(row(cluster::CONF_STATE_KEY)) {
        Ok(conf_state) => conf_state,
        Err(err) => panic!("reading the configuration for a snapshot: {err}"),
    };
    SnapshotMetadata {
        conf_state,
        index: number(backend::CONSISTENT_INDEX_KEY),
        term: number(backend::TERM_KEY),
    }
}
