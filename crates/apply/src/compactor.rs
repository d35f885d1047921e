//! Compactions that nobody asked for: by age or by number of revisions, as etcd's compactor does.

use std::collections::VecDeque;
use std::time::Duration;

/// How old revisions are compacted without being told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Keep what was written within this time.
    Periodic(Duration),
    /// Keep this many revisions.
    Revision(i64),
}

/// How often the number of revisions is looked at.
const REVISION_CHECK: Duration = Duration::from_secs(5 * 60);

/// A longer period is still compacted this often.
const PERIOD_MAX: Duration = Duration::from_secs(60 * 60);

/// Samples taken in each compaction interval.
const SAMPLES_PER_INTERVAL: u32 = 10;

/// Decides when to compact and to which revision. It only proposes, and only on the leader.
#[derive(Debug)]
pub(crate) struct Compactor {
    mode: Option<AutoCompaction>,
    /// Revisions at regular times, oldest first, as many as the period holds.
    samples: VecDeque<i64>,
    sample_at: Duration,
    compact_at: Duration,
    last: i64,
}

impl Compactor {
    pub(crate) fn new(mode: Option<AutoCompaction>) -> Self {
        Self {
            mode,
            samples: VecDeque::new(),
            sample_at: Duration::ZERO,
            compact_at: Duration::ZERO,
            last: 0,
        }
    }

    /// Begins anew: a member that becomes leader knows nothing of the time before.
    pub(crate) fn restart(&mut self, now: Duration) {
        self.samples.clear();
        self.sample_at = now;
        self.compact_at = now
            + match self.mode {
                Some(AutoCompaction::Periodic(period)) => period,
                _ => REVISION_CHECK,
            };
    }

    /// The revision to compact to, if it is time.
    pub(crate) fn due(&mut self, now: Duration, revision: i64) -> Option<i64> {
        let target = match self.mode? {
            AutoCompaction::Periodic(period) => {
                let interval = period.min(PERIOD_MAX);
                let step = (interval / SAMPLES_PER_INTERVAL).max(Duration::from_millis(1));
                if now >= self.sample_at {
                    self.samples.push_back(revision);
                    self.sample_at = now + step;
                    let kept = period.as_nanos().div_ceil(step.as_nanos());
                    while self.samples.len() as u128 > kept + 1 {
                        self.samples.pop_front();
                    }
                }
                if now < self.compact_at {
                    return None;
                }
                self.compact_at = now + interval;
                *self.samples.front()?
            }
            AutoCompaction::Revision(kept) => {
                if now < self.compact_at {
                    return None;
                }
                self.compact_at = now + REVISION_CHECK;
                revision - kept
            }
        };
        if target <= 0 || target == self.last {
            return None;
        }
        self.last = target;
        Some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line for each compaction: second and revision, while one revision is written a second.
    fn compactions(mode: AutoCompaction, seconds: u64) -> Vec<(u64, i64)> {
        let mut compactor = Compactor::new(Some(mode));
        compactor.restart(Duration::ZERO);
        (0..=seconds)
            .filter_map(|second| {
                let now = Duration::from_secs(second);
                Some((second, compactor.due(now, second as i64 + 1)?))
            })
            .collect()
    }

    #[test]
    fn periodic_keeps_the_period() {
        let period = AutoCompaction::Periodic(Duration::from_secs(100));
        assert_eq!(compactions(period, 350), [(100, 1), (200, 101), (300, 201)]);
    }

    #[test]
    fn a_long_period_is_compacted_every_hour() {
        let period = AutoCompaction::Periodic(Duration::from_secs(2 * 3600));
        assert_eq!(compactions(period, 4 * 3600), [(7200, 1), (10800, 3601), (14400, 7201)]);
    }

    #[test]
    fn revision_keeps_a_number() {
        assert_eq!(compactions(AutoCompaction::Revision(100), 700), [(300, 201), (600, 501)]);
    }

    #[test]
    fn an_idle_store_is_left_alone() {
        let mut compactor = Compactor::new(Some(AutoCompaction::Revision(10)));
        compactor.restart(Duration::ZERO);
        let due = (0..10_000).filter_map(|s| compactor.due(Duration::from_secs(s), 50));
        assert_eq!(due.collect::<Vec<_>>(), [40]);
    }
}
