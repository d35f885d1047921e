//! Scripts: a command and what it answers.

use std::fmt::Write;
use std::time::Duration;

use backend::{Backend, Bucket};
use lease::Lessor;

use crate::{backend, restore};

struct Script {
    backend: Backend,
    lessor: Lessor,
    checkpoints: bool,
    now: Duration,
}

impl Script {
    /// One command. Times are seconds; `at` sets the clock for all that follows.
    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| words[i].parse::<i64>().expect("a number");
        let time = |i: usize| Duration::from_secs_f64(words[i].parse().expect("a time"));
        let now = self.now;
        match words[0] {
            "at" => {
                self.now = time(1);
                String::new()
            }
            "grant" => match self.lessor.grant(&mut self.backend, number(1), number(2), now) {
                Ok(ttl) => format!("{ttl}"),
                Err(err) => err.to_string(),
            },
            "revoke" => match self.lessor.revoke(&mut self.backend, number(1)) {
                Ok(keys) => keys.iter().fold(String::new(), |mut out, key| {
                    write!(out, "{} ", String::from_utf8_lossy(key)).expect("a string");
                    out
                }),
                Err(err) => err.to_string(),
            },
            "attach" => self.lessor.attach(number(1), words[2].as_bytes()).to_string(),
            "detach" => {
                self.lessor.detach(number(1), words[2].as_bytes());
                String::new()
            }
            "keys" => {
                let keys = self.lessor.keys(number(1)).map(String::from_utf8_lossy);
                keys.collect::<Vec<_>>().join(" ")
            }
            "promote" => {
                self.lessor.promote(time(1), now);
                String::new()
            }
            "demote" => {
                self.lessor.demote();
                String::new()
            }
            "renew" => match self.lessor.renew(number(1), now) {
                Ok(ttl) => format!("{ttl}"),
                Err(err) => err.to_string(),
            },
            "ttl" => match self.lessor.time_to_live(number(1), now) {
                Some(ttl) => match ttl.remaining {
                    Some(remaining) => format!("{remaining} of {}", ttl.granted),
                    None => format!("? of {}", ttl.granted),
                },
                None => "none".to_owned(),
            },
            "leases" => format!("{:?}", self.lessor.leases()),
            "tick" => format!("{:?}", self.lessor.tick(now)),
            "checkpoint" => format!("{:?}", self.lessor.checkpoint(now)),
            "apply" => {
                let persist = words[3] == "persist";
                self.lessor.apply_checkpoint(&mut self.backend, number(1), number(2), persist, now);
                String::new()
            }
            "restart" => {
                self.lessor = restore(&self.backend, self.checkpoints);
                String::new()
            }
            "row" => {
                let key = number(1).to_be_bytes();
                let row = self.backend.get(Bucket::Lease, &key).expect("no fault");
                row.map_or("none".to_owned(), |row| format!("{:02x?}", row.as_ref()))
            }
            other => panic!("no such command: {other}"),
        }
    }
}

/// Runs lines `command -> answer`; a line without an arrow has no answer.
fn check(checkpoints: bool, script: &str) {
    let backend = backend();
    let lessor = restore(&backend, checkpoints);
    let mut run = Script { backend, lessor, checkpoints, now: Duration::ZERO };
    let lines = script.lines().map(str::trim);
    for (number, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let (command, expected) = line.split_once("->").unwrap_or((line, ""));
        let answer = run.run(command);
        assert_eq!(answer.trim(), expected.trim(), "line {number}: {command}");
    }
}

#[test]
fn grant_and_revoke() {
    check(
        false,
        "grant 1 10 -> 10
        grant 1 20 -> lease already exists
        grant 0 10 -> lease not found
        grant 2 1 -> 2
        grant 3 0 -> 2
        grant -4 -9223372036854775808 -> 2
        grant 5 9000000000 -> 9000000000
        grant 6 9000000001 -> too large lease TTL
        grant 6 9223372036854775807 -> too large lease TTL
        revoke 6 -> lease not found
        revoke 0 -> lease not found
        revoke 2 ->
        revoke 2 -> lease not found
        row 1 -> [08, 01, 10, 0a]
        row 2 -> none
        leases -> [-4, 1, 3, 5]
        restart
        leases -> [-4, 1, 3, 5]
        ttl -4 -> ? of 2
        ttl 5 -> ? of 9000000000
        grant -4 5 -> lease already exists",
    );
}

#[test]
fn keys_of_a_lease() {
    check(
        false,
        "grant 1 10 -> 10
        grant 2 10 -> 10
        attach 1 b -> true
        attach 1 a -> true
        attach 1 a -> true
        attach 1 c -> true
        attach 2 aa -> true
        attach 3 x -> false
        keys 1 -> a b c
        detach 1 b
        detach 1 zz
        detach 9 a
        keys 1 -> a c
        keys 2 -> aa
        keys 3 ->
        revoke 1 -> a c
        keys 1 ->
        grant 1 10 -> 10
        keys 1 ->
        revoke 2 -> aa",
    );
}

#[test]
fn time_of_a_lease() {
    check(
        false,
        "grant 1 10 -> 10
        ttl 1 -> ? of 10
        ttl 2 -> none
        renew 1 -> not a primary lessor
        promote 1
        ttl 1 -> 11 of 10
        at 3.5
        ttl 1 -> 7 of 10
        renew 1 -> 10
        ttl 1 -> 10 of 10
        renew 2 -> lease not found
        grant 2 5 -> 5
        leases -> [2, 1]
        at 8.5
        renew 2 -> lease expired
        ttl 2 -> 0 of 5
        at 10
        ttl 2 -> -1 of 5
        tick -> [2]
        renew 2 -> lease expired
        revoke 2 ->
        renew 2 -> lease not found
        demote
        ttl 1 -> ? of 10
        renew 1 -> not a primary lessor
        at 100
        tick -> []
        promote 0
        renew 1 -> 10",
    );
}

#[test]
fn expired_leases_are_named_until_they_are_revoked() {
    check(
        false,
        "promote 0
        grant 1 2 -> 2
        grant 2 3 -> 3
        grant 3 100 -> 100
        tick -> []
        at 2
        tick -> [1]
        at 2.4
        tick -> []
        at 3
        tick -> [2]
        at 4.9
        tick -> []
        at 5.4
        tick -> [1]
        revoke 1 ->
        at 6
        tick -> [2]
        at 9
        tick -> [2]
        demote
        at 20
        tick -> []",
    );
}

#[test]
fn a_new_primary_gives_all_leases_their_time() {
    check(
        false,
        "grant 1 5 -> 5
        at 1000
        promote 1.5
        ttl 1 -> 6 of 5
        at 1006
        tick -> []
        at 1006.5
        tick -> [1]
        promote 1.5
        tick -> []
        ttl 1 -> 6 of 5",
    );
}

#[test]
fn checkpoints() {
    check(
        true,
        "promote 0
        grant 1 1000 -> 1000
        grant 2 300 -> 300
        checkpoint -> []
        at 299
        checkpoint -> []
        at 300
        checkpoint -> [(1, 700)]
        checkpoint -> []
        apply 1 700 persist
        apply 9 700 persist
        row 1 -> [08, 01, 10, e8, 07, 18, bc, 05]
        ttl 1 -> 700 of 1000
        at 599.5
        checkpoint -> []
        at 600.5
        checkpoint -> [(1, 400)]
        apply 1 400 no
        row 1 -> [08, 01, 10, e8, 07, 18, bc, 05]
        restart
        promote 10
        ttl 1 -> 710 of 1000
        renew 1 -> lease has a checkpoint
        apply 1 0 persist
        row 1 -> [08, 01, 10, e8, 07]
        renew 1 -> 1000
        ttl 1 -> 1000 of 1000
        at 900.5
        checkpoint -> [(1, 700)]",
    );
    check(
        false,
        "promote 0
        grant 1 1000 -> 1000
        at 300
        checkpoint -> []
        apply 1 700 persist
        renew 1 -> 1000",
    );
}

/// More leases than can be revoked in a second expire together: at most 500 in half a second.
#[test]
fn a_pile_of_expired_leases() {
    let mut backend = backend();
    let mut lessor = restore(&backend, false);
    lessor.promote(Duration::ZERO, Duration::ZERO);
    for id in 1..=1200 {
        lessor.grant(&mut backend, id, 2, Duration::ZERO).expect("granted");
    }
    let mut now = Duration::from_secs(2);
    let mut counts = Vec::new();
    for _ in 0..5 {
        let expired = lessor.tick(now);
        assert!(lessor.tick(now + Duration::from_millis(499)).is_empty());
        for &id in &expired {
            lessor.revoke(&mut backend, id).expect("there");
        }
        counts.push(expired.len());
        now += Duration::from_millis(500);
    }
    assert_eq!(counts, [500, 500, 200, 0, 0]);
    assert!(lessor.is_empty());
}

/// A new primary spreads leases that would all expire at once: no second has more than 750, and
/// none loses time.
#[test]
fn a_new_primary_spreads_leases() {
    let mut backend = backend();
    let mut lessor = restore(&backend, false);
    for id in 1..=3000 {
        lessor.grant(&mut backend, id, 10, Duration::ZERO).expect("granted");
    }
    lessor.promote(Duration::ZERO, Duration::ZERO);
    let mut per_second = std::collections::BTreeMap::new();
    for id in lessor.leases() {
        let left = lessor.time_to_live(id, Duration::ZERO).expect("there").remaining;
        *per_second.entry(left.expect("primary")).or_insert(0) += 1;
    }
    assert_eq!(per_second.first_key_value().map(|(&second, _)| second), Some(10));
    assert!(per_second.len() >= 4, "{per_second:?}");
    assert!(per_second.values().all(|&count| count <= 751), "{per_second:?}");
}
