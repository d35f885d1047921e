//! Whether the history of one key could have happened to a single register.
//!
//! The search of Wing and Gong with Lowe's memory: take any call that began before all others that
//! are left have ended, see whether its answer fits, go on with the rest, and never visit the same
//! set of calls with the same value twice. A call without an answer may take effect at any time
//! after its begin, or never.

use std::collections::BTreeSet;

/// What a register holds; `None`: the key does not exist.
pub type Value = Option<u64>;

/// What a call did, as far as its caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// Set the value.
    Write(Value),
    /// Found this value.
    Read(Value),
    /// Compared with the first value and set the second; whether it was equal, where that is known,
    /// and else what was found.
    Swap(Value, Value, Option<Result<(), Value>>),
    /// Found anything but this value.
    Differs(Value),
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// When it began.
    pub begin: u64,
    /// When it ended; `u64::MAX` if its outcome is not known.
    pub end: u64,
    /// What it did.
    pub did: Did,
}

impl Call {
    fn is_open(&self) -> bool {
        self.end == u64::MAX
    }

    /// The value after the call, if its answer fits the value before.
    fn apply(&self, value: Value) -> Option<Value> {
        match self.did {
            Did::Write(new) => Some(new),
            Did::Read(found) => (found == value).then_some(value),
            Did::Swap(expected, new, None) => Some(if value == expected { new } else { value }),
            Did::Swap(expected, new, Some(Ok(()))) => (value == expected).then_some(new),
            Did::Swap(expected, _, Some(Err(found))) => {
                (found == value && found != expected).then_some(value)
            }
            Did::Differs(other) => (value != other).then_some(value),
        }
    }

    fn found(&self) -> Option<Value> {
        match self.did {
            Did::Read(found) | Did::Swap(_, _, Some(Err(found))) => Some(found),
            // Without an answer it may have found that; then it matters who wrote it.
            Did::Swap(expected, _, Some(Ok(())) | None) => Some(expected),
            _ => None,
        }
    }
}

/// Too many steps: no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooHard;

/// Steps after which the search gives up.
const STEPS_MAX: usize = 2_000_000;

/// Whether some order of the calls, each between its begin and its end, explains all answers,
/// beginning with a key that does not exist. Values written are unique, but for "deleted".
///
/// # Errors
/// [`TooHard`] if that would take too long to find out.
pub fn is_linearizable(calls: &[Call]) -> Result<bool, TooHard> {
    let seen: BTreeSet<Value> = calls.iter().filter_map(Call::found).collect();
    let hints = calls.iter().any(|call| matches!(call.did, Did::Differs(_)));
    let mut calls: Vec<Call> = calls
        .iter()
        .filter(|call| {
            // What nobody has seen need not have happened, and would only hide something, unless that is what is told.
            let (Did::Write(written) | Did::Swap(_, written, None)) = call.did else {
                return true;
            };
            !call.is_open() || hints || written.is_none() || seen.contains(&written)
        })
        .copied()
        .collect();
    calls.sort_by_key(|call| (call.begin, call.end));
    Search { calls: &calls, visited: BTreeSet::new(), steps: 0 }.run()
}

/// The calls that had ended when a history ceased to be linearizable, and those that were open then.
#[must_use]
pub fn shortest(calls: &[Call]) -> Vec<Call> {
    let mut ends: Vec<u64> = calls.iter().map(|call| call.end).collect();
    ends.sort_unstable();
    for end in ends {
        let until = calls.iter().filter(|call| call.begin <= end);
        let until = until.map(|call| Call {
            end: if call.end <= end { call.end } else { u64::MAX },
            did: match call.did {
                Did::Swap(old, new, _) if call.end > end => Did::Swap(old, new, None),
                did => did,
            },
            ..*call
        });
        // A read that has not ended says nothing.
        let until = until.filter(|call| !(call.is_open() && matches!(call.did, Did::Read(_))));
        let mut until: Vec<Call> = until.collect();
        until.sort_by_key(|call| (call.end, call.begin));
        if is_linearizable(&until) == Ok(false) {
            return until;
        }
    }
    calls.to_vec()
}

struct Search<'a> {
    calls: &'a [Call],
    visited: BTreeSet<(usize, Vec<u64>, Value)>,
    steps: usize,
}

/// The calls that have taken effect, as bits.
struct Done {
    words: Vec<u64>,
    /// All calls before this one are done.
    low: usize,
    /// None behind this one ever was.
    high: usize,
    /// Calls with an answer that are not done.
    left: usize,
}

impl Done {
    fn new(calls: &[Call]) -> Self {
        let left = calls.iter().filter(|call| !call.is_open()).count();
        Self { words: vec![0; calls.len() / 64 + 1], low: 0, high: 0, left }
    }

    fn has(&self, number: usize) -> bool {
        self.words[number / 64] >> (number % 64) & 1 == 1
    }

    fn add(&mut self, number: usize, call: &Call) {
        self.words[number / 64] |= 1 << (number % 64);
        self.left -= usize::from(!call.is_open());
        self.high = self.high.max(number);
        while self.has(self.low) {
            self.low += 1;
        }
    }

    fn remove(&mut self, number: usize, call: &Call) {
        self.words[number / 64] &= !(1 << (number % 64));
        self.left += usize::from(!call.is_open());
        self.low = self.low.min(number);
    }

    /// The same for the same set: where the first call is that is not done, and the bits from there on.
    fn key(&self) -> (usize, Vec<u64>) {
        let first = self.low / 64;
        let mut words = self.words.get(first..=self.high / 64).unwrap_or_default().to_vec();
        while words.last() == Some(&0) {
            words.pop();
        }
        (self.low, words)
    }
}

impl Search<'_> {
    fn run(&mut self) -> Result<bool, TooHard> {
        let mut done = Done::new(self.calls);
        let mut value: Value = None;
        // The call taken at each level, and the value before.
        let mut taken: Vec<(usize, Value)> = Vec::new();
        let mut from = 0;
        loop {
            if done.left == 0 {
                return Ok(true);
            }
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(TooHard);
            }
            match self.next(&mut done, value, from) {
                Some((call, after)) => {
                    taken.push((call, value));
                    value = after;
                    from = 0;
                }
                None => {
                    let Some((call, before)) = taken.pop() else { return Ok(false) };
                    done.remove(call, &self.calls[call]);
                    value = before;
                    from = call + 1;
                }
            }
        }
    }

    /// Takes the next call that fits, from number `from` on, and that leads to somewhere new.
    fn next(&mut self, done: &mut Done, value: Value, from: usize) -> Option<(usize, Value)> {
        let mut first_end = u64::MAX;
        for (number, call) in self.calls.iter().enumerate().skip(done.low) {
            if call.begin > first_end {
                break;
            }
            if done.has(number) {
                continue;
            }
            if number >= from
                && let Some(after) = call.apply(value)
            {
                done.add(number, call);
                let (low, words) = done.key();
                if self.visited.insert((low, words, after)) {
                    return Some((number, after));
                }
                done.remove(number, call);
            }
            first_end = first_end.min(call.end);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `begin end what`: `w3`, `r3`, `c3>4` swapped, `c3!5` found 5 instead, `c3?4` unknown, `d3` found something else;
    /// `-` is "no such key", an end of `-` is "no answer".
    fn history(text: &str) -> Vec<Call> {
        let value = |text: &str| text.parse().ok();
        let call = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (kind, rest) = words[2].split_at(1);
            let did = match kind {
                "w" => Did::Write(value(rest)),
                "r" => Did::Read(value(rest)),
                "d" => Did::Differs(value(rest)),
                _ => {
                    let at = rest.find(['>', '!', '?']).expect("a swap says how it went");
                    let (old, new) = (value(&rest[..at]), value(&rest[at + 1..]));
                    match &rest[at..=at] {
                        ">" => Did::Swap(old, new, Some(Ok(()))),
                        "!" => Did::Swap(old, None, Some(Err(new))),
                        _ => Did::Swap(old, new, None),
                    }
                }
            };
            let end = words[1].parse().unwrap_or(u64::MAX);
            Call { begin: words[0].parse().expect("a time"), end, did }
        };
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(call).collect()
    }

    fn verdict(text: &str) -> bool {
        is_linearizable(&history(text)).expect("small")
    }

    #[test]
    fn histories_that_one_register_explains() {
        for good in [
            "",
            "0 1 r-",
            "0 1 w1\n2 3 r1",
            // The read may come before or after a write beside it.
            "0 5 w1\n1 2 r-\n3 4 r1",
            "0 10 w1\n0 10 w2\n11 12 r1",
            "0 10 w1\n0 10 w2\n11 12 r2",
            // No answer: late, or never.
            "0 - w1\n1 2 r-\n5 6 r1",
            "0 - w1\n1 2 r-\n5 6 r-",
            "0 1 w1\n2 3 c1>2\n4 5 c1!2\n6 7 r2",
            "0 1 w1\n2 - c1?2\n3 4 r1\n5 6 r2",
            "0 1 w1\n2 3 w-\n4 5 r-\n6 7 c->3\n8 9 r3",
            "0 1 w1\n2 9 w2\n3 4 r1\n5 6 r2\n7 8 r2",
            "0 1 w1\n2 5 w2\n3 4 d1\n6 7 d1",
            // Only what somebody found otherwise tells that the write has happened.
            "0 1 w1\n2 - w2\n3 4 d1",
            // Only a swap without an answer tells that the write has happened.
            "0 1 w1\n2 - w2\n3 - c2?3\n5 6 r3",
        ] {
            assert!(verdict(good), "{good}");
        }
    }

    #[test]
    fn histories_that_it_does_not() {
        for bad in [
            "0 1 r1",
            // Stale.
            "0 1 w1\n2 3 w2\n4 5 r1",
            // Lost.
            "0 1 w1\n2 3 r-",
            // Back and forth.
            "0 9 w1\n1 2 r1\n3 4 r-",
            "0 1 w1\n2 9 w2\n3 4 r2\n5 6 r1",
            // Two winners.
            "0 1 w1\n2 5 c1>2\n2 5 c1>3\n6 7 r3",
            "0 1 w1\n2 3 c1!1",
            "0 1 w1\n2 3 d1",
            "0 1 w1\n2 9 w2\n3 4 d1\n5 6 r1",
            "0 1 w1\n2 3 c2>3",
            // It can't take effect before it began.
            "0 1 r1\n2 - w1",
            // Nor come back once it was seen to be gone.
            "0 - w1\n1 2 r1\n3 4 w2\n5 6 r2\n7 8 r1",
            "0 1 w1\n2 3 w-\n4 5 r1",
        ] {
            assert!(!verdict(bad), "{bad}");
        }
    }

    #[test]
    fn many_calls_without_an_answer_do_not_hinder() {
        let mut text = String::new();
        for number in 0..200 {
            text.push_str(&format!("{number} - w{number}\n"));
        }
        assert!(verdict(&format!("{text}300 301 r7\n302 303 r9")));
        assert!(!verdict(&format!("{text}300 301 r7\n302 303 r9\n304 305 r7")));
    }
}
