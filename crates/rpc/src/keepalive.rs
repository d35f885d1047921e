//! The keep-alive policy of a connection, as grpc-go's server has it.

use std::time::Duration;

use tokio::time::Instant;

use crate::Limits;

/// Violations that are forgiven.
const STRIKES_MAX: u32 = 2;
/// Between two pings of a client without a call this much time must pass.
const IDLE_PING_MIN: Duration = Duration::from_secs(2 * 60 * 60);

/// When the client was heard, and how often it pinged too early.
#[derive(Debug)]
pub(crate) struct Keepalive {
    last_read: Instant,
    /// When our own ping went out, if it was not followed by any byte of the client.
    pinged: Option<Instant>,
    last_client_ping: Option<Instant>,
    strikes: u32,
    /// Something was sent since the client's last ping, which makes the next one legitimate.
    sent: bool,
}

/// What the policy asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Nothing.
    None,
    /// Ping the client.
    Ping,
    /// The client is gone.
    Close,
}

impl Keepalive {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last_read: now, pinged: None, last_client_ping: None, strikes: 0, sent: false }
    }

    /// Bytes came.
    pub(crate) fn read(&mut self, now: Instant) {
        self.last_read = now;
        self.pinged = None;
    }

    /// A head or data was sent.
    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    /// A PING came; whether the client goes on too far and must be sent away.
    pub(crate) fn is_abused_by_ping(
        &mut self,
        now: Instant,
        has_calls: bool,
        limits: &Limits,
    ) -> bool {
        let last = self.last_client_ping.replace(now);
        if std::mem::take(&mut self.sent) {
            self.strikes = 0;
            return false;
        }
        let min = if has_calls { limits.keepalive_min_time } else { IDLE_PING_MIN };
        if last.is_some_and(|last| now < last + min) {
            self.strikes += 1;
        }
        self.strikes > STRIKES_MAX
    }

    /// To be asked about once a second.
    pub(crate) fn duty(&mut self, now: Instant, limits: &Limits) -> Duty {
        if limits.keepalive_interval.is_zero() {
            return Duty::None;
        }
        match self.pinged {
            Some(pinged) if now >= pinged + limits.keepalive_timeout => Duty::Close,
            Some(_) => Duty::None,
            None if now >= self.last_read + limits.keepalive_interval => {
                self.pinged = Some(now);
                Duty::Ping
            }
            None => Duty::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn the_fourth_hasty_ping_is_too_many() {
        let start = Instant::now();
        let limits = Limits::default();
        let mut keepalive = Keepalive::new(start);
        let pings: Vec<bool> = (0..4)
            .map(|second| keepalive.is_abused_by_ping(at(start, second), true, &limits))
            .collect();
        assert_eq!(pings, [false, false, false, true]);
    }

    #[test]
    fn pings_at_the_allowed_pace_are_fine() {
        let start = Instant::now();
        let limits = Limits::default();
        let mut keepalive = Keepalive::new(start);
        assert!((0..100).all(|n| !keepalive.is_abused_by_ping(at(start, n * 5), true, &limits)));
    }

    #[test]
    fn an_answer_between_pings_forgives() {
        let start = Instant::now();
        let limits = Limits::default();
        let mut keepalive = Keepalive::new(start);
        for second in 0..100 {
            keepalive.sent();
            assert!(!keepalive.is_abused_by_ping(at(start, second), true, &limits));
        }
    }

    #[test]
    fn without_a_call_even_slow_pings_are_too_many() {
        let start = Instant::now();
        let limits = Limits::default();
        let mut keepalive = Keepalive::new(start);
        let pings: Vec<bool> = (0..4)
            .map(|n| keepalive.is_abused_by_ping(at(start, n * 60), false, &limits))
            .collect();
        assert_eq!(pings, [false, false, false, true]);
    }

    #[test]
    fn a_silent_client_is_pinged_and_then_closed() {
        let start = Instant::now();
        let limits = Limits::default();
        let mut keepalive = Keepalive::new(start);
        assert_eq!(keepalive.duty(at(start, 7199), &limits), Duty::None);
        assert_eq!(keepalive.duty(at(start, 7200), &limits), Duty::Ping);
        assert_eq!(keepalive.duty(at(start, 7219), &limits), Duty::None);
        let mut heard = Keepalive::new(start);
        assert_eq!(heard.duty(at(start, 7200), &limits), Duty::Ping);
        heard.read(at(start, 7210));
        assert_eq!(heard.duty(at(start, 7220), &limits), Duty::None);
        assert_eq!(keepalive.duty(at(start, 7220), &limits), Duty::Close);
    }
}
