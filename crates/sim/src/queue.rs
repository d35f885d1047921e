//! What will happen, by time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Things that are to happen. Those of one time happen in the order in which they were added.
///
/// The heap has small keys, and the things themselves stay where they are: what they are is much bigger
/// than when.
#[derive(Debug)]
pub struct Queue<T> {
    /// Time, number, and a position in `things`.
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    things: Vec<Option<T>>,
    free: Vec<usize>,
    added: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { order: BinaryHeap::new(), things: Vec::new(), free: Vec::new(), added: 0 }
    }
}

impl<T> Queue<T> {
    /// Something is to happen at a time.
    pub fn add(&mut self, at: u64, thing: T) {
        self.added += 1;
        let place = self.free.pop().unwrap_or(self.things.len());
        match self.things.get_mut(place) {
            Some(empty) => *empty = Some(thing),
            None => self.things.push(Some(thing)),
        }
        self.order.push(Reverse((at, self.added, place)));
    }

    /// Takes the next thing and its time, if that is not after `end`.
    pub fn next_until(&mut self, end: u64) -> Option<(u64, T)> {
        let Reverse((at, _, place)) = *self.order.peek().filter(|Reverse((at, ..))| *at <= end)?;
        self.order.pop();
        self.free.push(place);
        let thing = self.things[place].take().expect("each key has its thing");
        Some((at, thing))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn things_come_by_time_and_then_as_they_were_added() {
        let (mut rng, mut queue, mut model) = (Rng::new(1), Queue::default(), BTreeMap::new());
        for number in 0..10_000 {
            let at = rng.below(300);
            queue.add(at, number);
            model.insert((at, number), number);
            if rng.chance(500_000) {
                let end = rng.below(200);
                let first = model.first_entry().filter(|entry| entry.key().0 <= end);
                let expected = first.map(|entry| (entry.key().0, entry.remove()));
                assert_eq!(queue.next_until(end), expected);
            }
        }
        while let Some((at, number)) = queue.next_until(u64::MAX) {
            assert_eq!(model.pop_first(), Some(((at, number), number)));
        }
        assert!(model.is_empty());
    }
}
