//! Part `http2`: the front door in front of HTTP/2's own judges: h2spec with every rule of the protocol, nghttp and
//! h2load with nghttp2's client.

mod h2spec;
mod nghttp2;

use std::path::Path;

use super::{Outcome, tools::Tools};

pub(super) fn run(
    tools: &Tools,
    ours: &Path,
    work: &Path,
    outcome: &mut Outcome,
) -> Result<(), String> {
    h2spec::run(tools, ours, work, outcome)?;
    nghttp2::run(tools, ours, work, outcome)
}
