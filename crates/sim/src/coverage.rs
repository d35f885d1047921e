//! What must have happened in a run over many seeds: a fault that never strikes tests nothing.

use std::collections::BTreeMap;

use crate::nemesis::KINDS;
use crate::rot::{LOSSES, REPLACED};

/// From so many seeds on everything must have happened.
pub const SEEDS_MANY: u64 = 300;

/// What else is counted, and must happen.
const OTHERS: [&str; 13] = [
    "lost message",
    "doubled message",
    "blocked message",
    "installed snapshot",
    "snapshot cut off",
    "resumed watch",
    "revoked lease",
    "message without room",
    "slow snapshot",
    "alarm raised",
    "watch from the past",
    "watch of the future",
    "large value",
];

/// What has never happened, of all that can.
#[must_use]
pub fn missing(counts: &BTreeMap<&'static str, u64>) -> Vec<&'static str> {
    let kinds = KINDS.iter().map(|(_, name)| *name);
    let all = kinds.chain(LOSSES).chain([REPLACED]).chain(OTHERS);
    all.filter(|name| counts.get(name).is_none_or(|count| *count == 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_missed() {
        let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
        let all = missing(&counts);
        assert!(all.len() > KINDS.len());
        counts.extend(all.iter().map(|name| (*name, 1)));
        assert!(missing(&counts).is_empty());
        counts.insert("torn write", 0);
        assert_eq!(missing(&counts), ["torn write"]);
    }
}
