use std::path::Path;
use super::{Outcome, tools::Tools};
pub(super) fn run(_: &Tools, _: &Path, _: &Path, _: &mut Outcome) -> Result<(), String> { Err("not yet".into()) }
