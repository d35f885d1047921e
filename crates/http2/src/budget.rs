/// An allowance against floods: each unwanted thing takes one, time and useful work give back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Thousandths, so that a slow rate adds up.
    left: u64,
    burst: u64,
    per_ms: u64,
}

/// The allowance is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl Budget {
    pub(crate) fn new(burst: u32, per_second: u32) -> Self {
        let burst = u64::from(burst) * 1000;
        Self { left: burst, burst, per_ms: u64::from(per_second) }
    }

    pub(crate) fn take(&mut self, count: u32) -> Result<(), Exhausted> {
        self.left = self.left.checked_sub(u64::from(count) * 1000).ok_or(Exhausted)?;
        Ok(())
    }

    pub(crate) fn give_back(&mut self, count: u32) {
        self.left = (self.left + u64::from(count) * 1000).min(self.burst);
    }

    pub(crate) fn refill(&mut self, elapsed_ms: u64) {
        self.left =
            self.left.saturating_add(elapsed_ms.saturating_mul(self.per_ms)).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut budget = Budget::new(2, 10);
        assert_eq!(
            [budget.take(1), budget.take(1), budget.take(1)],
            [Ok(()), Ok(()), Err(Exhausted)]
        );
        budget.refill(99);
        assert_eq!(budget.take(1), Err(Exhausted));
        budget.refill(1);
        assert_eq!([budget.take(1), budget.take(1)], [Ok(()), Err(Exhausted)]);
        budget.refill(u64::MAX);
        assert_eq!(budget.take(2), Ok(()));
        budget.give_back(9);
        assert_eq!(budget.take(3), Err(Exhausted), "never more than the burst");
    }
}
