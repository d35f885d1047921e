//! A slice of the long runs, and what they have found.

use http2_fuzz::allowed::RULES;
use http2_fuzz::{Tally, generate, judge, trip};

const EXECUTIONS: u64 = 10_000;
const TRIPS: u64 = 300;

fn from_hex(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hexadecimal")
    };
    text.as_bytes().chunks(2).map(byte).collect()
}

#[test]
fn what_was_found_before() {
    let inputs = include_str!("../regressions.txt").lines().filter(|line| !line.starts_with('#'));
    let mut tally = Tally::default();
    for input in inputs {
        if let Err(disagreement) = judge(&from_hex(input), &mut tally) {
            panic!("{input}\n{disagreement}");
        }
    }
    assert!(tally.executions > 10);
}

#[test]
fn both_make_the_same_of_it() {
    let mut tally = Tally::default();
    let mut input = Vec::new();
    for seed in 0..EXECUTIONS {
        generate(seed, &mut input);
        if let Err(disagreement) = judge(&input, &mut tally) {
            panic!("seed {seed}\n{disagreement}");
        }
    }
    // Most of it means something to both.
    assert!(tally.facts > EXECUTIONS / 2, "{tally:?}");
    assert!(tally.stream_errors > EXECUTIONS / 10, "{tally:?}");
    assert!(tally.agreed > EXECUTIONS / 10, "{tally:?}");
}

#[test]
fn what_is_sent_arrives() {
    let mut calls = 0;
    for seed in 0..TRIPS {
        match trip(seed) {
            Ok(count) => calls += count as u64,
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    assert!(calls > TRIPS);
}

#[test]
fn no_rule_has_another_one_s_name() {
    let mut names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), RULES.len());
    assert!(RULES.iter().all(|rule| rule.sentence.starts_with("RFC ")));
}
