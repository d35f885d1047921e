use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::faults::history::Keys;

fn folder() -> PathBuf {
    crate::root().join("xtask/testdata/histories")
}

fn text(name: &str) -> String {
    fs::read_to_string(folder().join(name)).expect("the history is there")
}

/// Small histories, each with what is wrong with it. `UPDATE=1` writes that anew.
#[test]
fn small_histories_with_known_verdicts() {
    let before = text("small.txt");
    let mut after = String::new();
    let mut cases = 0;
    for block in before.trim_end().split("\n\n") {
        let history = block.split_once("\n----").map_or(block, |(history, _)| history);
        let _ = writeln!(after, "{history}");
        if history.starts_with("change") {
            cases += 1;
            after.push_str("----\n");
            let history = History::parse(history).expect("a history");
            for breach in judge(&history).breaches {
                let _ = writeln!(after, "{breach}");
            }
        }
        after.push('\n');
    }
    assert!(cases >= 20, "{cases}");
    let after = format!("{}\n", after.trim_end());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(folder().join("small.txt"), after).expect("it is written");
    } else {
        assert_eq!(after, before);
    }
}

/// The beginnings of two stories, as they were recorded: the leader is killed, or hears nobody.
fn recorded() -> [History; 2] {
    ["kill-leader.txt", "deaf-leader.txt"].map(|name| {
        let history = History::parse(&text(name)).expect("a history");
        assert!(history.calls.iter().any(|call| call.answer.is_none()), "{name}");
        history
    })
}

#[test]
fn recorded_histories_are_good_and_read_back() {
    for history in recorded() {
        let verdict = judge(&history);
        assert_eq!(verdict.breaches, [""; 0]);
        assert!(verdict.answered > 100 && verdict.unknown > 0 && verdict.events > 200);
        assert_eq!(History::parse(&history.write()), Ok(history));
    }
}

fn is_refused(history: &History, what: &str) {
    assert!(!judge(history).breaches.is_empty(), "{what} is not noticed");
}

#[test]
fn a_recorded_history_without_one_of_its_changes_is_bad() {
    for history in recorded() {
        for number in 0..history.changes.len() {
            let mut bad = history.clone();
            let change = bad.changes.remove(number);
            is_refused(&bad, &format!("{change} is missing: that"));
        }
    }
}

#[test]
fn a_recorded_history_with_one_event_lost_repeated_or_late_is_bad() {
    for history in recorded() {
        for watcher in 0..history.watchers.len() {
            let messages = &history.watchers[watcher].messages;
            let with_events = (0..messages.len()).filter(|at| !messages[*at].events.is_empty());
            for at in with_events {
                let mut lost = history.clone();
                lost.watchers[watcher].messages.remove(at);
                is_refused(&lost, "an event that is lost");

                let mut repeated = history.clone();
                let again = messages[at].clone();
                repeated.watchers[watcher].messages.insert(at, again);
                is_refused(&repeated, "an event that is repeated");

                let mut late = history.clone();
                let held = late.watchers[watcher].messages.remove(at);
                let next = (at..messages.len() - 1)
                    .find(|other| !late.watchers[watcher].messages[*other].events.is_empty());
                if let Some(next) = next {
                    late.watchers[watcher].messages.insert(next + 1, held);
                    is_refused(&late, "an event that is late");
                }
            }
        }
    }
}

/// Each linearizable read of a key is answered with what it held before the last change that was known when it began.
#[test]
fn a_recorded_history_with_one_stale_read_is_bad() {
    let mut tried = 0;
    for history in recorded() {
        for (number, call) in history.calls.iter().enumerate() {
            let Operation::Read { keys: Keys::One(key), at: None, is_linearizable: true } =
                &call.operation
            else {
                continue;
            };
            let known = history.calls.iter().filter(|other| other.end < call.begin);
            let known = known.filter_map(|other| other.answer.as_ref().map(|(at, _)| *at)).max();
            let changes = history.changes.iter().filter(|change| change.key == *key);
            let seen: Vec<&Change> =
                changes.filter(|change| Some(change.revision) <= known).collect();
            let [.., before, last] = seen.as_slice() else { continue };
            let row = before.value.map(|_| (*before).clone());
            for header in [last.revision - 1, known.unwrap_or_default()] {
                let mut bad = history.clone();
                let found = Answer::Found(row.clone().into_iter().collect());
                bad.calls[number].answer = Some((header, found));
                is_refused(&bad, &format!("the stale {call}"));
                tried += 1;
            }
        }
    }
    assert!(tried > 20, "{tried}");
}
