#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::raft_step::run(data));
