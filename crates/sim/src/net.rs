//! The network between members.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft::Message;

use crate::plan::{Net, SECOND};
use crate::rng::Rng;

/// The longest time that a straggler is on its way, if the network is not slower than that anyway.
const STRAGGLER_MAX: u64 = 3 * SECOND;
/// A way so slow that a message would not have gone within this time takes it no more, as a connection that blocks so
/// long is given up.
const WRITE_TIMEOUT: u64 = 5 * SECOND;
/// How many messages are kept to be sent once more some time.
const KEPT_MAX: usize = 400;
/// A database that is longer on its way than this counts as slow.
const SLOW_STREAM: u64 = 3 * SECOND;

/// What becomes of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It arrives at that time, and once more at the other if it is doubled.
    Arrives(u64, Option<u64>),
    /// It waits until its way is no longer clogged.
    Waits,
    /// It is lost.
    Lost,
    /// Too many are on their way already, which the sender notices.
    Full,
}

/// The way from one member to another.
#[derive(Debug, Default)]
struct Way {
    /// Nothing gets through.
    is_blocked: bool,
    /// Everything waits, in `waiting`.
    is_clogged: bool,
    waiting: Vec<Message>,
    /// Nanoseconds that a byte takes, and those that any message takes in addition.
    slowness: (u64, u64),
    /// When the last message arrives that was sent so far.
    last: u64,
    /// When a slow way has taken all that was sent so far.
    free_at: u64,
    /// Messages sent that have not arrived.
    under_way: usize,
}

impl Way {
    /// When a message has gone that is sent now, behind those before it.
    fn gone_at(&self, now: u64, message: &Message) -> u64 {
        match self.slowness {
            (0, _) => self.free_at.max(now),
            (byte, _) => self.free_at.max(now) + byte * message.encoded_len() as u64,
        }
    }
}

/// A message that is kept to be sent once more: when it was sent, from whom, and to whom.
type Kept = (u64, usize, usize, Box<Message>);

/// The ways between members, by number.
#[derive(Debug)]
pub struct Network {
    /// How it is at the moment.
    pub quality: Net,
    ways: BTreeMap<(usize, usize), Way>,
    kept: VecDeque<Kept>,
    /// Messages lost.
    pub lost: u64,
    /// Messages that arrive twice.
    pub doubled: u64,
    /// Messages that a block has swallowed.
    pub swallowed: u64,
    /// Messages for which there was no room.
    pub refused: u64,
    /// Databases that were long on their way.
    pub slow_streams: u64,
    rng: Rng,
}

impl Network {
    /// A network of this quality, without blocks.
    #[must_use]
    pub fn new(quality: Net, rng: Rng) -> Self {
        Self {
            quality,
            ways: BTreeMap::new(),
            kept: VecDeque::new(),
            lost: 0,
            doubled: 0,
            swallowed: 0,
            refused: 0,
            slow_streams: 0,
            rng,
        }
    }

    fn way(&mut self, from: usize, to: usize) -> &mut Way {
        self.ways.entry((from, to)).or_default()
    }

    /// Lets nothing through any more from one to the other.
    pub fn block(&mut self, from: usize, to: usize) {
        self.way(from, to).is_blocked = true;
    }

    /// Lets everything through again, at full speed, but for what is clogged.
    pub fn unblock(&mut self) {
        for way in self.ways.values_mut() {
            way.is_blocked = false;
            way.slowness = (0, 0);
            way.free_at = 0;
        }
    }

    /// From now on everything waits that one sends to the other.
    pub fn clog(&mut self, from: usize, to: usize) {
        self.way(from, to).is_clogged = true;
    }

    /// What has waited for one who sends to the other. It arrives soon, all of it.
    pub fn release(&mut self, from: usize, to: usize) -> Vec<Message> {
        let way = self.way(from, to);
        way.is_clogged = false;
        std::mem::take(&mut way.waiting)
    }

    /// All ways that are clogged.
    #[must_use]
    pub fn clogged(&self) -> Vec<(usize, usize)> {
        let clogged = self.ways.iter().filter(|(_, way)| way.is_clogged);
        clogged.map(|(ends, _)| *ends).collect()
    }

    /// A byte takes so many nanoseconds, and each message so many in addition.
    pub fn slow_down(&mut self, from: usize, to: usize, slowness: (u64, u64)) {
        self.way(from, to).slowness = slowness;
    }

    /// Whether something gets through.
    #[must_use]
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        self.ways.get(&(from, to)).is_none_or(|way| !way.is_blocked && !way.is_clogged)
    }

    /// Whether nothing that arrives now is lost.
    #[must_use]
    pub fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.ways.get(&(from, to)).is_some_and(|way| way.is_blocked)
    }

    /// Sends a message at time `now`. `is_once`: never doubled.
    pub fn send(
        &mut self,
        (from, to): (usize, usize),
        now: u64,
        message: &Message,
        is_once: bool,
    ) -> Sent {
        let limit = self.quality.queue;
        let way = self.ways.entry((from, to)).or_default();
        if way.is_blocked {
            self.swallowed += 1;
            return Sent::Lost;
        }
        if way.under_way >= limit || way.gone_at(now, message) > now + WRITE_TIMEOUT {
            self.refused += 1;
            return Sent::Full;
        }
        if way.is_clogged {
            way.under_way += 1;
            way.waiting.push(message.clone());
            return Sent::Waits;
        }
        if self.rng.chance(self.quality.loss) {
            self.lost += 1;
            return Sent::Lost;
        }
        let first = self.arrival(from, to, now, message);
        let second = (self.rng.chance(self.quality.duplication) && !is_once).then(|| {
            self.doubled += 1;
            self.arrival(from, to, now, message)
        });
        Sent::Arrives(first, second)
    }

    /// When a message arrives that is sent now.
    pub fn arrival(&mut self, from: usize, to: usize, now: u64, message: &Message) -> u64 {
        let delay = self.delay();
        let is_ordered = self.quality.ordered;
        let way = self.way(from, to);
        way.under_way += 1;
        let mut at = now + delay;
        if way.slowness != (0, 0) {
            way.free_at = way.gone_at(now, message).min(now + WRITE_TIMEOUT);
            at = at.max(way.free_at) + way.slowness.1;
        }
        if is_ordered {
            at = at.max(way.last + 1);
        }
        way.last = at.max(way.last);
        at
    }

    fn delay(&mut self) -> u64 {
        let (shortest, longest) = self.quality.delay;
        let delay = self.rng.between(shortest, longest.max(shortest));
        match self.rng.chance(self.quality.straggle) {
            true => (delay * 100).min(STRAGGLER_MAX.max(delay)),
            false => delay,
        }
    }

    /// A message has come to the end of its way.
    pub fn arrived(&mut self, from: usize, to: usize) {
        let way = self.way(from, to);
        way.under_way = way.under_way.saturating_sub(1);
    }

    /// How long a database is on its way, which has a connection of its own; `None` if it does not get
    /// through.
    pub fn stream(&mut self, from: usize, to: usize, bytes: usize) -> Option<u64> {
        if !self.is_open(from, to) || self.rng.chance(self.quality.loss) {
            return None;
        }
        let time = self.delay() + self.quality.stream_byte * bytes as u64;
        self.slow_streams += u64::from(time > SLOW_STREAM);
        Some(time)
    }

    /// Keeps some messages, to send them once more.
    pub fn keep(&mut self, from: usize, to: usize, now: u64, message: &Message) {
        if self.quality.kept == 0 || !self.rng.chance(self.quality.kept) {
            return;
        }
        if self.kept.len() == KEPT_MAX {
            // Some very old ones stay.
            let gone = self.rng.below(KEPT_MAX as u64) as usize;
            self.kept.remove(gone);
        }
        self.kept.push_back((now, from, to, Box::new(message.clone())));
    }

    /// Some of what was sent before a time, of one type: from whom, to whom, and what.
    pub fn recall(&mut self, before: u64) -> Vec<(usize, usize, Box<Message>)> {
        let mut old: Vec<Kept> = self.kept.iter().filter(|kept| kept.0 < before).cloned().collect();
        let types: BTreeSet<u64> = old.iter().map(|kept| kept.3.msg_type as u64).collect();
        let types: Vec<u64> = types.into_iter().collect();
        if !types.is_empty() {
            let wanted = *self.rng.pick(&types);
            old.retain(|kept| kept.3.msg_type as u64 == wanted);
        }
        let count = self.rng.between(1, 50).min(old.len() as u64);
        let mut recalled = Vec::new();
        for _ in 0..count {
            let (_, from, to, message) = old.swap_remove(self.rng.below(old.len() as u64) as usize);
            recalled.push((from, to, message));
        }
        recalled
    }
}

#[cfg(test)]
mod tests {
    use raft::Entry;

    use super::*;
    use crate::plan::Plan;

    fn message(bytes: usize) -> Message {
        let entry = Entry { data: vec![0; bytes].into(), ..Entry::default() };
        Message { entries: vec![entry], ..Message::default() }
    }

    /// Seeds 12352 and 24474: what was sent over a way that had been slow came minutes after it was fast again.
    #[test]
    fn a_slow_way_holds_up_nothing_for_long() {
        let mut net = Network::new(Plan::quiet(&mut Rng::new(1)).net, Rng::new(2));
        let way = (0, 1);
        // 5 kB a second.
        net.slow_down(0, 1, (200_000, 0));
        let mut sent = || net.send(way, 0, &message(10_000), true);
        assert!(matches!(sent(), Sent::Arrives(at, None) if at > 2 * SECOND));
        assert!(matches!(sent(), Sent::Arrives(at, None) if at > 4 * SECOND));
        assert_eq!([sent(), sent()], [Sent::Full, Sent::Full]);
        // What was clogged meanwhile is not asked.
        net.arrival(0, 1, 0, &message(1_000_000));
        net.unblock();
        let after = net.send(way, SECOND, &message(10), true);
        assert!(matches!(after, Sent::Arrives(at, None) if at < 6 * SECOND), "{after:?}");
    }
}
