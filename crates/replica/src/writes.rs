//! How long the disk has owed an acknowledgement.

use std::collections::VecDeque;

/// Writes that were handed to the disk and are not acknowledged yet.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// Ticks since the start.
    now: u64,
    /// When they were handed over, and how many responses are owed for them. Invariant: ascending, one for each
    /// tick at most.
    owed: VecDeque<(u64, usize)>,
}

impl Writes {
    pub(crate) fn tick(&mut self) {
        self.now += 1;
    }

    /// A write was handed over; these responses will come back.
    pub(crate) fn begin(&mut self, responses: usize) {
        match self.owed.back_mut() {
            _ if responses == 0 => {}
            Some((at, owed)) if *at == self.now => *owed += responses,
            _ => self.owed.push_back((self.now, responses)),
        }
    }

    /// Responses have come back: those of the oldest writes, since the disk keeps their order.
    pub(crate) fn end(&mut self, mut responses: usize) {
        while let Some((_, owed)) = self.owed.front_mut() {
            let paid = responses.min(*owed);
            *owed -= paid;
            responses -= paid;
            if *owed > 0 {
                return;
            }
            self.owed.pop_front();
        }
    }

    /// The ticks that the oldest write has taken by now.
    pub(crate) fn oldest(&self) -> u64 {
        self.owed.front().map_or(0, |(at, _)| self.now - at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_write_that_is_owed_counts() {
        let mut writes = Writes::default();
        let ages = [
            // Responses begun and ended before a tick, and the age then.
            (0, 0, 0),
            (2, 0, 1),
            (1, 0, 2),
            (0, 1, 3),
            (0, 1, 3),
            (3, 0, 4),
            (0, 1, 2),
            (0, 2, 3),
            (0, 1, 0),
            (0, 0, 0),
        ];
        for (number, (begun, ended, expected)) in ages.into_iter().enumerate() {
            writes.begin(begun);
            writes.end(ended);
            writes.tick();
            assert_eq!(writes.oldest(), expected, "{number}: {writes:?}");
        }
    }
}
