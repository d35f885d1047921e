//! What all runs came to.

use std::collections::BTreeMap;
use std::time::Duration;

use sim::coverage;
use sim::run::Report;

/// Sums over all runs.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    nanoseconds: u128,
    steps: u64,
    answered: u64,
    unknown: u64,
    refused: u64,
    events: u64,
    states: u64,
    too_hard: u64,
    counts: BTreeMap<&'static str, u64>,
}

impl Summary {
    pub(crate) fn add(&mut self, report: &Report) {
        let is_good = report.violations.is_empty();
        self.passed += u64::from(is_good);
        self.failed += u64::from(!is_good);
        self.nanoseconds += u128::from(report.time);
        self.steps += report.steps;
        self.answered += report.answered;
        self.unknown += report.unknown;
        self.refused += report.failed;
        self.events += report.events;
        self.states += report.states;
        self.too_hard += report.too_hard;
        for (name, count) in &report.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }

    /// What should have happened in so many seeds, but did not, counts as a failure.
    pub(crate) fn expect_all_kinds(&mut self) {
        if self.passed + self.failed < coverage::SEEDS_MANY {
            return;
        }
        for name in coverage::missing(&self.counts) {
            println!("never happened: {name}");
            self.failed += 1;
        }
    }

    pub(crate) fn print(&self, took: Duration) {
        for (name, count) in &self.counts {
            println!("{count:10} {name}");
        }
        let seeds = (self.passed + self.failed) as f64;
        println!("{:10.2} simulated hours", self.nanoseconds as f64 / 3.6e12);
        println!("{:10} steps", self.steps);
        println!("{:10} operations checked", self.answered);
        println!(
            "{:10} operations of unknown outcome, {} without effect",
            self.unknown, self.refused
        );
        println!("{:10} watch events checked", self.events);
        println!("{:10} states compared", self.states);
        println!("{:10} histories too hard to judge", self.too_hard);
        println!("{:10.2} seeds a second", seeds / took.as_secs_f64().max(1e-9));
        println!("{} passed, {} failed", self.passed, self.failed);
    }
}
