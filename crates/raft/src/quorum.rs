//! Who decides: majorities, and the joint quorums of a configuration change (thesis §4.3).

use std::fmt;

/// The result of a vote so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// Depends on votes not cast yet.
    Pending,
    /// A quorum can no longer say yes.
    Lost,
    /// A quorum said yes.
    Won,
}

impl fmt::Display for VoteResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "VotePending",
            Self::Lost => "VoteLost",
            Self::Won => "VoteWon",
        })
    }
}

/// A set of member ids whose majority decides. The empty set agrees with everything, which makes a joint
/// configuration with one empty half behave like the other half.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MajorityConfig {
    /// Invariant: ascending, without duplicates.
    ids: Vec<u64>,
}

impl FromIterator<u64> for MajorityConfig {
    fn from_iter<T: IntoIterator<Item = u64>>(ids: T) -> Self {
        let mut ids: Vec<u64> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self { ids }
    }
}

impl MajorityConfig {
    /// The ids, ascending.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Number of ids.
    pub const fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether nobody is in it.
    pub const fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether `id` is in it.
    pub fn contains(&self, id: u64) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Adds `id` if absent.
    pub fn insert(&mut self, id: u64) {
        if let Err(at) = self.ids.binary_search(&id) {
            self.ids.insert(at, id);
        }
    }

    /// Removes `id` if present.
    pub fn remove(&mut self, id: u64) {
        if let Ok(at) = self.ids.binary_search(&id) {
            self.ids.remove(at);
        }
    }

    /// The highest index that a majority has acknowledged; `acked` is `None` for a member not heard of.
    /// `u64::MAX` for the empty configuration.
    pub fn committed_index(&self, acked: impl Fn(u64) -> Option<u64>) -> u64 {
        const STACK: usize = 15;
        let n = self.ids.len();
        if n == 0 {
            return u64::MAX;
        }
        // Ascending, the index at n - (n/2 + 1) is reached by a majority.
        let majority_at = n - (n / 2 + 1);
        let index_of = |id: &u64| acked(*id).unwrap_or(0);
        if n <= STACK {
            let mut sorted = [0; STACK];
            for (slot, id) in sorted.iter_mut().zip(&self.ids) {
                *slot = index_of(id);
            }
            sorted[..n].sort_unstable();
            return sorted[majority_at];
        }
        let mut indexes: Vec<u64> = self.ids.iter().map(index_of).collect();
        *indexes.select_nth_unstable(majority_at).1
    }

    /// The outcome of the votes cast; `vote` is `None` for a member that has not voted.
    pub fn vote_result(&self, vote: impl Fn(u64) -> Option<bool>) -> VoteResult {
        if self.is_empty() {
            return VoteResult::Won;
        }
        let (mut yes, mut missing) = (0, 0);
        for &id in &self.ids {
            match vote(id) {
                Some(true) => yes += 1,
                Some(false) => {}
                None => missing += 1,
            }
        }
        let quorum = self.ids.len() / 2 + 1;
        if yes >= quorum {
            VoteResult::Won
        } else if yes + missing >= quorum {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        }
    }

    /// A picture of the acknowledged indexes, one member a line, with a longer bar for a higher rank.
    pub fn describe(&self, acked: impl Fn(u64) -> Option<u64>) -> String {
        if self.is_empty() {
            return "<empty majority quorum>".to_owned();
        }
        let n = self.ids.len();
        let index_of = |id: u64| acked(id).unwrap_or(0);
        let mut text = format!("{:n$}    idx\n", "");
        for &id in &self.ids {
            let bar = self.ids.iter().filter(|&&other| index_of(other) < index_of(id)).count();
            let bar = match acked(id) {
                None => format!("?{:n$}", ""),
                Some(_) => format!("{:x<bar$}>{:rest$}", "", "", rest = n - bar),
            };
            text.push_str(&format!("{bar} {:>5}    (id={id:x})\n", index_of(id)));
        }
        text
    }
}

impl fmt::Display for MajorityConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, id) in self.ids.iter().enumerate() {
            let separator = if i > 0 { " " } else { "" };
            write!(f, "{separator}{id:x}")?;
        }
        f.write_str(")")
    }
}

/// Two majorities that must both agree; `outgoing` is empty outside a joint configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JointConfig {
    /// The configuration that is, or will be, in force.
    pub incoming: MajorityConfig,
    /// The one being left.
    pub outgoing: MajorityConfig,
}

impl JointConfig {
    /// Whether a change is under way.
    pub const fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `id` votes in either half.
    pub fn contains(&self, id: u64) -> bool {
        self.incoming.contains(id) || self.outgoing.contains(id)
    }

    /// The voters of both halves.
    pub fn ids(&self) -> MajorityConfig {
        self.incoming.ids.iter().chain(&self.outgoing.ids).copied().collect()
    }

    /// The highest index that both majorities have acknowledged.
    pub fn committed_index(&self, acked: impl Fn(u64) -> Option<u64>) -> u64 {
        self.incoming.committed_index(&acked).min(self.outgoing.committed_index(&acked))
    }

    /// The outcome that both majorities allow.
    pub fn vote_result(&self, vote: impl Fn(u64) -> Option<bool>) -> VoteResult {
        match (self.incoming.vote_result(&vote), self.outgoing.vote_result(&vote)) {
            (a, b) if a == b => a,
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            _ => VoteResult::Pending,
        }
    }
}

impl fmt::Display for JointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.incoming)?;
        if self.is_joint() { write!(f, "&&{}", self.outgoing) } else { Ok(()) }
    }
}
