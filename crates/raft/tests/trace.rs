//! The trace of state transitions, event for event as etcd's library writes it for the same scripts.

macro_rules! traces {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let script = include_str!(concat!("scripts/", stringify!($name), ".txt"));
                let expected = include_str!(concat!("traces/", stringify!($name), ".jsonl"));
                check(script, expected);
            }
        )*
    };
}

traces! {
    auto_leave
    cut_off_leader_steps_down
    learner_votes
    snapshot_from_elsewhere
    step_down
}

fn check(script: &str, expected: &str) {
    let trace = raft::script::trace(script).unwrap_or_else(|mismatch| panic!("{mismatch}"));
    for (at, (ours, theirs)) in trace.iter().zip(expected.lines()).enumerate() {
        assert_eq!(ours, theirs, "event {}", at + 1);
    }
    assert_eq!(trace.len(), expected.lines().count());
}
