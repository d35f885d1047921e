//! A little chance, so that clients that failed together do not try again together.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// `wait`, longer or shorter by up to `fraction` of it.
pub(crate) fn jitter(wait: Duration, fraction: f64) -> Duration {
    // The keys of a new state are drawn by the system.
    let bits = RandomState::new().build_hasher().finish() >> 32;
    let between_minus_one_and_one = bits as f64 / f64::from(u32::MAX) * 2.0 - 1.0;
    wait.mul_f64((1.0 + fraction * between_minus_one_and_one).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::jitter;
    use std::time::Duration;

    #[test]
    fn stays_within_the_fraction() {
        for _ in 0..1000 {
            let wait = jitter(Duration::from_millis(100), 0.1);
            assert!((Duration::from_millis(90)..=Duration::from_millis(110)).contains(&wait));
        }
        assert_eq!(jitter(Duration::ZERO, 0.5), Duration::ZERO);
    }
}
