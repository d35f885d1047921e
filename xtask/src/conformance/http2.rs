//! Part `http2`: the front door in front of the judges of its protocols: h2spec with every rule of HTTP/2, nghttp and
//! h2load with nghttp2's client, grpc-go with the cases by which gRPC's implementations judge each other.

mod h2spec;
mod interop;
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
    nghttp2::run(tools, ours, work, outcome)?;
    interop::run(tools, work, outcome)
}
