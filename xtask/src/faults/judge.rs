//! Whether a history is one that etcd may have: the laws are etcd's promises, and each breach is told.
//!
//! The changes that the store tells of at the end are the one order of all writes. Every answer must fit it at the
//! revision in its header, and revisions must grow with time; besides, what the calls of each key say must be
//! linearizable without any help from revisions.

use std::collections::{BTreeMap, BTreeSet};

use sim::check::linear::{self, Did};

use super::history::{Answer, Call, Change, History, Operation, Watched};

/// What was looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) breaches: Vec<String>,
    /// Calls with an answer, and those without.
    pub(crate) answered: usize,
    pub(crate) unknown: usize,
    /// Events that watchers have heard.
    pub(crate) events: usize,
}

/// Judges a whole history. It begins with an empty store at revision 1.
pub(crate) fn judge(history: &History) -> Verdict {
    let is_known = |call: &&Call| call.answer.is_some();
    let mut judge = Judge { history, rows: BTreeMap::new(), breaches: Vec::new() };
    judge.follow_changes();
    judge.attribute();
    judge.check_answers();
    judge.check_time();
    judge.check_keys();
    let mut events = 0;
    for watcher in &history.watchers {
        judge.check_watcher(watcher);
        events += watcher.messages.iter().map(|heard| heard.events.len()).sum::<usize>();
    }
    Verdict {
        answered: history.calls.iter().filter(is_known).count(),
        unknown: history.calls.iter().filter(|call| call.answer.is_none()).count(),
        events,
        breaches: judge.breaches,
    }
}

struct Judge<'a> {
    history: &'a History,
    /// Each key's changes, by revision.
    rows: BTreeMap<&'a str, Vec<&'a Change>>,
    breaches: Vec<String>,
}

impl<'a> Judge<'a> {
    fn breach(&mut self, what: String) {
        self.breaches.push(what);
    }

    /// Revisions without a gap, and rows that follow from those before.
    fn follow_changes(&mut self) {
        let mut last = 1;
        for change in &self.history.changes {
            if change.revision != last && change.revision != last + 1 {
                self.breach(format!("no revision between {last} and {}", change.revision));
            }
            last = last.max(change.revision);
            let rows = self.rows.entry(&change.key).or_default();
            let before = rows.last().copied();
            rows.push(change);
            let (created, version) = match (before, change.value) {
                (_, None) => (0, 0),
                (Some(before), Some(_)) if before.value.is_some() => {
                    (before.created, before.version + 1)
                }
                _ => (change.revision, 1),
            };
            let repeats = before.is_some_and(|before| before.revision == change.revision);
            let deletes_nothing =
                change.value.is_none() && before.is_none_or(|before| before.value.is_none());
            if repeats || deletes_nothing || (change.created, change.version) != (created, version)
            {
                let before = before.map(Change::to_string);
                self.breach(format!("change {change} cannot follow {before:?}"));
            }
        }
    }

    /// The last change of a key up to a revision, if it exists then.
    fn row(&self, key: &str, revision: i64) -> Option<&'a Change> {
        let rows = self.rows.get(key)?;
        let count = rows.partition_point(|row| row.revision <= revision);
        rows[..count].last().copied().filter(|row| row.value.is_some())
    }

    /// The change of a key by a revision.
    fn change(&self, key: &str, revision: i64) -> Option<&'a Change> {
        let rows = self.rows.get(key)?;
        rows.iter().find(|row| row.revision == revision).copied()
    }

    /// The revision at which a value was written.
    fn written(&self, key: &str, value: u64) -> Option<i64> {
        let rows = self.rows.get(key)?;
        rows.iter().find(|row| row.value == Some(value)).map(|row| row.revision)
    }

    /// Every change was asked for, and happened once.
    fn attribute(&mut self) {
        let mut values = BTreeSet::new();
        let mut deletions: BTreeMap<&str, usize> = BTreeMap::new();
        let mut deleted = BTreeSet::new();
        for call in &self.history.calls {
            match &call.operation {
                Operation::Put { key, value } | Operation::Swap { key, value, .. } => {
                    values.insert((key.as_str(), *value));
                }
                Operation::Pair { keys, value } => {
                    values.extend(keys.iter().map(|key| (key.as_str(), *value)));
                }
                Operation::Delete { key } | Operation::Drop { key, .. } => match &call.answer {
                    None => *deletions.entry(key).or_default() += 1,
                    Some((revision, Answer::Deleted(Some(_)))) => {
                        if !deleted.insert((key.as_str(), *revision)) {
                            self.breach(format!("{key} was deleted twice at {revision}"));
                        }
                    }
                    Some(_) => {}
                },
                Operation::Read { .. } => {}
            }
        }
        for change in &self.history.changes {
            let key = change.key.as_str();
            match change.value {
                Some(value) if !values.remove(&(key, value)) => {
                    self.breach(format!("change {change} was not asked for, or happened twice"));
                }
                None if !deleted.remove(&(key, change.revision)) => {
                    match deletions.get_mut(key).filter(|left| **left > 0) {
                        Some(left) => *left -= 1,
                        None => self.breach(format!("nobody has asked for deletion {change}")),
                    }
                }
                _ => {}
            }
        }
        for (key, revision) in deleted {
            self.breach(format!(
                "the deletion of {key} at {revision} was acknowledged, and is lost"
            ));
        }
    }

    /// Every answer fits the changes up to the revision in its header.
    fn check_answers(&mut self) {
        for call in &self.history.calls {
            let Some((revision, answer)) = &call.answer else { continue };
            if let Err(why) = self.check_answer(&call.operation, *revision, answer) {
                self.breach(format!("{why}: call {call}"));
            }
        }
    }

    fn check_answer(
        &self,
        operation: &Operation,
        revision: i64,
        answer: &Answer,
    ) -> Result<(), String> {
        let wrote = |key: &String, value: u64| match self.change(key, revision) {
            Some(change) if change.value == Some(value) => Ok(()),
            found => Err(format!("acknowledged and lost; there is {found:?}")),
        };
        let before = |key: &String| self.row(key, revision - 1).and_then(|row| row.value);
        let now = |key: &String| self.row(key, revision).and_then(|row| row.value);
        let is_same = |found: Option<u64>, expected: Option<u64>| {
            if found == expected {
                Ok(())
            } else {
                Err(format!("it holds {expected:?}, not {found:?}"))
            }
        };
        match (operation, answer) {
            (Operation::Put { key, value }, Answer::Written) => wrote(key, *value),
            (Operation::Pair { keys, value }, Answer::Written) => {
                keys.iter().try_for_each(|key| wrote(key, *value))
            }
            (Operation::Swap { key, expected, value }, Answer::Written) => {
                wrote(key, *value)?;
                is_same(*expected, before(key))
            }
            (Operation::Delete { key }, Answer::Deleted(found)) => {
                is_same(*found, if found.is_some() { before(key) } else { now(key) })
            }
            (Operation::Drop { key, expected }, Answer::Deleted(found)) => {
                is_same(*found, before(key))?;
                is_same(Some(*expected), *found)
            }
            (Operation::Swap { key, expected, .. }, Answer::Found(rows)) => {
                self.check_rows(rows, |other| other == key, revision)?;
                let found = rows.first().and_then(|row| row.value);
                if found == *expected { Err("refused for no reason".to_owned()) } else { Ok(()) }
            }
            (Operation::Drop { key, expected }, Answer::Found(rows)) => {
                self.check_rows(rows, |other| other == key, revision)?;
                let found = rows.first().and_then(|row| row.value);
                if found == Some(*expected) {
                    Err("refused for no reason".to_owned())
                } else {
                    Ok(())
                }
            }
            (Operation::Read { keys, at, .. }, Answer::Found(rows)) => {
                if at.is_some_and(|at| at > revision) {
                    return Err("an answer from the future".to_owned());
                }
                self.check_rows(rows, |key| keys.contains(key), at.unwrap_or(revision))
            }
            _ => Err("an answer to another question".to_owned()),
        }
    }

    fn check_rows(
        &self,
        found: &[Change],
        is_wanted: impl Fn(&str) -> bool,
        revision: i64,
    ) -> Result<(), String> {
        let keys = self.rows.keys().filter(|key| is_wanted(key));
        let expected: Vec<&Change> = keys.filter_map(|key| self.row(key, revision)).collect();
        if expected.iter().copied().eq(found) {
            return Ok(());
        }
        let expected: Vec<String> = expected.into_iter().map(Change::to_string).collect();
        Err(format!("at {revision} there is {expected:?}"))
    }

    /// Revisions grow with time: a call that begins after an answer is of no lower revision, and a write of a higher one.
    fn check_time(&mut self) {
        let calls = &self.history.calls;
        let mut ends: Vec<(u64, i64)> = calls
            .iter()
            .filter_map(|call| call.answer.as_ref().map(|(revision, _)| (call.end, *revision)))
            .collect();
        ends.sort_unstable();
        let mut highest = 1;
        for (_, revision) in &mut ends {
            highest = highest.max(*revision);
            *revision = highest;
        }
        for call in calls {
            let count = ends.partition_point(|(end, _)| *end < call.begin);
            let known = ends[..count].last().map_or(1, |(_, revision)| *revision);
            let stale = match (&call.operation, &call.answer) {
                (Operation::Read { is_linearizable, .. }, Some((revision, _))) => {
                    *is_linearizable && *revision < known
                }
                (Operation::Read { .. }, None) => false,
                (_, Some((_, Answer::Written | Answer::Deleted(Some(_))))) | (_, None) => {
                    self.effect(call).is_some_and(|revision| revision <= known)
                }
                (_, Some((revision, _))) => *revision < known,
            };
            if stale {
                self.breach(format!("revision {known} was known before: call {call}"));
            }
        }
    }

    /// The revision at which a write took effect, as far as that can be said.
    fn effect(&self, call: &Call) -> Option<i64> {
        match &call.operation {
            Operation::Put { key, value }
            | Operation::Swap { key, value, .. }
            | Operation::Pair { keys: [key, _], value } => self.written(key, *value),
            Operation::Delete { .. } | Operation::Drop { .. } => {
                call.answer.as_ref().map(|(revision, _)| *revision)
            }
            Operation::Read { .. } => None,
        }
    }

    /// The calls of each key alone are linearizable.
    fn check_keys(&mut self) {
        let mut keys: BTreeMap<&str, Vec<linear::Call>> = BTreeMap::new();
        for call in &self.history.calls {
            for (key, did) in self.did(call) {
                let call = linear::Call { begin: call.begin, end: call.end, did };
                keys.entry(key).or_default().push(call);
            }
        }
        for (key, calls) in keys {
            match linear::is_linearizable(&calls) {
                Ok(true) => {}
                Ok(false) => {
                    let calls = linear::shortest(&calls);
                    let last = &calls[calls.len().saturating_sub(8)..];
                    self.breach(format!("{key} is not linearizable; its last calls: {last:?}"));
                }
                Err(linear::TooHard) => {
                    self.breach(format!("no verdict over the {} calls of {key}", calls.len()));
                }
            }
        }
    }

    /// What a call did to the keys that it names. What is not known to have happened, and has left no change, has not
    /// happened.
    fn did(&self, call: &'a Call) -> Vec<(&'a str, Did)> {
        let answer = call.answer.as_ref().map(|(_, answer)| answer);
        let found = |rows: &[Change]| rows.first().and_then(|row| row.value);
        match (&call.operation, answer) {
            (Operation::Put { key, value }, answer) => {
                let happened = answer.is_some() || self.written(key, *value).is_some();
                happened.then_some((key.as_str(), Did::Write(Some(*value)))).into_iter().collect()
            }
            (Operation::Pair { keys, value }, answer) => {
                let happened = answer.is_some() || self.written(&keys[0], *value).is_some();
                let both = keys.iter().filter(|_| happened);
                both.map(|key| (key.as_str(), Did::Write(Some(*value)))).collect()
            }
            (Operation::Swap { key, expected, value }, answer) => {
                let outcome = match answer {
                    Some(Answer::Found(rows)) => Some(Err(found(rows))),
                    Some(_) => Some(Ok(())),
                    None if self.written(key, *value).is_none() => return Vec::new(),
                    None => None,
                };
                vec![(key, Did::Swap(*expected, Some(*value), outcome))]
            }
            (Operation::Delete { key }, Some(Answer::Deleted(found))) => {
                let did = match found {
                    Some(_) => Did::Swap(*found, None, Some(Ok(()))),
                    None => Did::Read(None),
                };
                vec![(key, did)]
            }
            (Operation::Drop { key, expected }, Some(Answer::Found(rows))) => {
                vec![(key, Did::Swap(Some(*expected), None, Some(Err(found(rows)))))]
            }
            (Operation::Drop { key, expected }, Some(_)) => {
                vec![(key, Did::Swap(Some(*expected), None, Some(Ok(()))))]
            }
            (Operation::Delete { key }, None) if self.is_deleted_by_unknown(key) => {
                vec![(key, Did::Write(None))]
            }
            (Operation::Drop { key, expected }, None) if self.is_deleted_by_unknown(key) => {
                vec![(key, Did::Swap(Some(*expected), None, None))]
            }
            (
                Operation::Read {
                    keys: super::history::Keys::One(key),
                    at: None,
                    is_linearizable: true,
                },
                Some(Answer::Found(rows)),
            ) => vec![(key, Did::Read(found(rows)))],
            _ => Vec::new(),
        }
    }

    /// Whether a key has a deletion that no answer tells of.
    fn is_deleted_by_unknown(&self, key: &str) -> bool {
        let Some(rows) = self.rows.get(key) else { return false };
        let deletions = rows.iter().filter(|row| row.value.is_none()).count();
        let acknowledged = self.history.calls.iter().filter(|call| {
            let names = match &call.operation {
                Operation::Delete { key: other } | Operation::Drop { key: other, .. } => {
                    other == key
                }
                _ => false,
            };
            names && matches!(call.answer, Some((_, Answer::Deleted(Some(_)))))
        });
        deletions > acknowledged.count()
    }

    /// A watcher hears of every change once, in order, a revision at a time, and of no progress too early.
    fn check_watcher(&mut self, watcher: &Watched) {
        let mut expected = self.history.changes.iter();
        let mut last = 1;
        for heard in &watcher.messages {
            let first = heard.events.first().map(|(change, _)| change.revision);
            if first.is_some_and(|first| first <= last) {
                self.breach(format!("{} has heard {last} already: {heard}", watcher.name));
                return;
            }
            for (change, previous) in &heard.events {
                let wanted = expected.next();
                if wanted != Some(change) {
                    let wanted = wanted.map(Change::to_string);
                    self.breach(format!("{} hears {change}, not {wanted:?}", watcher.name));
                    return;
                }
                last = change.revision;
                let before = self.row(&change.key, last - 1).and_then(|row| row.value);
                if previous.is_some_and(|previous| previous != before) {
                    self.breach(format!("{} hears of {previous:?} before {change}", watcher.name));
                }
            }
            let next = expected.as_slice().first().map(|change| change.revision);
            let must_have = if heard.events.is_empty() { heard.header } else { last };
            if next.is_some_and(|next| next <= must_have) {
                let name = &watcher.name;
                self.breach(format!("{name} hears of {must_have}, and not of {next:?}: {heard}"));
                return;
            }
            if heard.header < last {
                self.breach(format!("{}: a header from before its events: {heard}", watcher.name));
            }
        }
        if let Some(missing) = expected.next() {
            self.breach(format!("{} never hears of {missing}", watcher.name));
        }
    }
}

#[cfg(test)]
mod tests;
