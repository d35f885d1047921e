//! Failpoints are in the binary if it was built with them, and in no other.

#[test]
fn only_a_build_for_tests_has_failpoints() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_etcd")).expect("the binary");
    let has = |text: &str| program.windows(text.len()).any(|part| part == text.as_bytes());
    for text in ["GOFAIL_HTTP", "raftBeforeSave", "compactBeforeCommitBatch", "failpoint panic"] {
        assert_eq!(has(text), cfg!(feature = "failpoints"), "{text}");
    }
}
