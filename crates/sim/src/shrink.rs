//! Makes a failing seed smaller: faults and calls are taken away while it still fails.
//!
//! A run fails in the same way if its first complaint has the same words, numbers aside. Every fault and every turn of a client draws from a generator of its
//! own, so that taking one away leaves the others as they were; what comes of them may change, so
//! each step is a run.

use crate::mask::{Mask, Numbers};
use crate::run::{self, Options, Report};

/// Runs after which the shrinker is content.
const RUNS_MAX: usize = 200;

/// What was left.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The options that repeat it.
    pub options: Options,
    /// The smallest run that failed.
    pub report: Report,
    /// How many runs it took.
    pub runs: usize,
}

/// Makes a seed smaller; `None` if it does not fail.
#[must_use]
pub fn shrink(seed: u64, options: &Options) -> Option<Shrunk> {
    let report = run::run(seed, options);
    if report.violations.is_empty() {
        return None;
    }
    let mut search = Search { seed, shrunk: Shrunk { options: options.clone(), report, runs: 1 } };
    search.try_options(Options { has_rest: false, ..search.shrunk.options.clone() });
    // Fewer calls let more faults go, and the other way round.
    for _ in 0..2 {
        search.minimize(|report| &report.faults_struck, |mask, kept| mask.faults = Some(kept));
        search.minimize(|report| &report.calls_made, |mask, kept| mask.calls = Some(kept));
    }
    Some(search.shrunk)
}

/// The first words of the first complaint, without those that have a number in them.
fn kind(report: &Report) -> Vec<&str> {
    let words = report.violations.iter().take(1).flat_map(|text| text.split_whitespace());
    words.filter(|word| !word.contains(|c: char| c.is_ascii_digit())).take(5).collect()
}

struct Search {
    seed: u64,
    shrunk: Shrunk,
}

impl Search {
    /// Whether a run still fails; then it is the smallest.
    fn try_options(&mut self, options: Options) -> bool {
        self.shrunk.runs += 1;
        let report = run::run(self.seed, &options);
        let fails = kind(&report) == kind(&self.shrunk.report);
        if fails {
            self.shrunk = Shrunk { options, report, runs: self.shrunk.runs };
        }
        fails
    }

    /// Leaves out a half of the numbers, then quarters, and so on down to single ones.
    fn minimize(
        &mut self,
        numbers: impl Fn(&Report) -> &Vec<u64>,
        set: impl Fn(&mut Mask, Numbers),
    ) {
        let mut kept = numbers(&self.shrunk.report).clone();
        let mut size = kept.len().div_ceil(2);
        while size > 0 && !kept.is_empty() {
            let mut at = 0;
            while at < kept.len() && self.shrunk.runs < RUNS_MAX {
                let mut fewer = kept.clone();
                fewer.drain(at..(at + size).min(kept.len()));
                let mut options = self.shrunk.options.clone();
                set(&mut options.mask, Numbers::new(&fewer));
                if self.try_options(options) {
                    kept = fewer;
                } else {
                    at += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }
}
