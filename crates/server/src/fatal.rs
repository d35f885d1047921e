//! The end of a process whose disk has failed or whose state is damaged.

use tracing::error;

/// Logs why and ends the process at once: what was not made durable must not be acknowledged, and
/// a failed sync must not be tried again.
pub(crate) fn fatal(what: &str, err: &dyn std::fmt::Display) -> ! {
    error!(level = "fatal", error = %err, "{what}");
    std::process::exit(1);
}
