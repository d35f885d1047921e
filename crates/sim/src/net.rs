//! The network between members.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::{Net, SECOND};
use crate::rng::Rng;

/// The longest time that a straggler is on its way, if the network is not slower than that anyway.
const STRAGGLER_MAX: u64 = 3 * SECOND;

/// What became of a message that was sent: when it arrives, no time if it is lost, two if it is
/// doubled.
pub type Arrivals = [Option<u64>; 2];

/// The ways between members, by number.
#[derive(Debug)]
pub struct Network {
    /// How it is at the moment.
    pub quality: Net,
    /// Ways on which nothing gets through, from and to.
    blocked: BTreeSet<(usize, usize)>,
    /// When the last message arrives that was sent on a way.
    last: BTreeMap<(usize, usize), u64>,
    /// Messages lost, doubled, and held up by a block.
    pub lost: u64,
    /// Messages that arrive twice.
    pub doubled: u64,
    /// Messages that a block has swallowed.
    pub swallowed: u64,
    rng: Rng,
}

impl Network {
    /// A network of this quality, without blocks.
    #[must_use]
    pub fn new(quality: Net, rng: Rng) -> Self {
        Self {
            quality,
            blocked: BTreeSet::new(),
            last: BTreeMap::new(),
            lost: 0,
            doubled: 0,
            swallowed: 0,
            rng,
        }
    }

    /// Lets nothing through any more from one to the other.
    pub fn block(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
    }

    /// Lets everything through again.
    pub fn unblock(&mut self) {
        self.blocked.clear();
    }

    /// Whether something gets through.
    #[must_use]
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        !self.blocked.contains(&(from, to))
    }

    /// Sends a message at time `now`.
    pub fn send(&mut self, from: usize, to: usize, now: u64) -> Arrivals {
        if !self.is_open(from, to) {
            self.swallowed += 1;
            return [None; 2];
        }
        if self.rng.chance(self.quality.loss) {
            self.lost += 1;
            return [None; 2];
        }
        let first = self.arrival(from, to, now);
        let second = self.rng.chance(self.quality.duplication).then(|| {
            self.doubled += 1;
            self.arrival(from, to, now)
        });
        [Some(first), second]
    }

    fn arrival(&mut self, from: usize, to: usize, now: u64) -> u64 {
        let (shortest, longest) = self.quality.delay;
        let mut delay = self.rng.between(shortest, longest.max(shortest));
        if self.rng.chance(self.quality.straggle) {
            delay = (delay * 100).min(STRAGGLER_MAX.max(delay));
        }
        let last = self.last.entry((from, to)).or_default();
        let at = if self.quality.ordered { (now + delay).max(*last + 1) } else { now + delay };
        *last = at.max(*last);
        at
    }
}
