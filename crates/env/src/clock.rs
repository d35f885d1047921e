//! Time, as an argument from outside.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where `server` and the simulator take the time from, to hand it to the core as an argument.
pub trait Clock: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Time since an origin of the clock's choice; never goes back.
    fn now_mono(&self) -> Duration;
    /// Time since the Unix epoch; may jump.
    fn now_wall(&self) -> Duration;
}

/// The operating system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct OsClock {
    origin: Instant,
}

impl OsClock {
    /// A clock whose monotonic origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for OsClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for OsClock {
    fn now_mono(&self) -> Duration {
        self.origin.elapsed()
    }

    fn now_wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
