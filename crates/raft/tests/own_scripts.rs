//! Scripts of our own, in the language of etcd's: what its scripts do not exercise, and bugs of the past. Their output
//! is what the Go library prints. Each is a test of its own, so that `cargo xtask mutants` can name it.

use std::collections::BTreeSet;

macro_rules! scripts {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let text = include_str!(concat!("scripts/", stringify!($name), ".txt"));
                if let Err(mismatch) = raft::script::replay(text) {
                    panic!("{mismatch}");
                }
            }
        )*
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

scripts! {
    append_aba
    append_after_compaction
    apply_what_is_stable
    auto_leave
    auto_leave_new_leader
    changes
    compaction_and_snapshot
    cut_off_leader_steps_down
    errors
    forget_leader_prevote
    learner_does_not_campaign
    learner_votes
    paging_async
    prevote_turned_on_one_by_one
    quorums
    replication_limits
    reports_of_a_removed_member
    single_node_commits_what_is_stable
    snapshot_from_elsewhere
    step_down
    sync_of_a_term
    transfer
    transfer_to_a_learner
    transferee_is_removed
}

#[test]
#[expect(clippy::disallowed_methods, reason = "scripts are files")]
fn no_script_is_forgotten() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let files = std::fs::read_dir(dir).expect("a readable directory");
    let files: BTreeSet<_> = files
        .filter_map(|item| item.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    assert_eq!(files, NAMES.iter().map(|&name| name.to_owned()).collect());
}
