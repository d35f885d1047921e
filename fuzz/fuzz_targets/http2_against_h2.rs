#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::http2_against_h2::run(data));
