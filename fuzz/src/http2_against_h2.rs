//! `http2` and the `h2` crate make the same of it: the judge is `http2-fuzz`, and tells what the first two bytes mean.

use http2_fuzz::{Tally, judge};

pub fn run(data: &[u8]) {
    if let Err(disagreement) = judge(data, &mut Tally::default()) {
        panic!("{disagreement}");
    }
}
