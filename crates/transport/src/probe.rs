//! Asking a peer for its clock, for the time it takes and the time it says.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tracing::warn;

use crate::client::Call;
use crate::hex;
use crate::shared::Shared;
use crate::time::Timestamp;
use crate::url::PeerUrl;

/// The page that says the time.
pub(crate) const PATH: &str = "/raft/probing";
/// Pause between two looks at what the probes found: when all is well, and when not.
const MONITOR_INTERVAL: Duration = Duration::from_secs(30);
const MONITOR_INTERVAL_BAD: Duration = Duration::from_secs(5);
/// Clocks further apart than this are worth a warning.
const DRIFT_MAX_NANOS: i128 = 1_000_000_000;
/// etcd probes over the connections of both kinds.
const ROUND_TRIPPERS: [&str; 2] = ["ROUND_TRIPPER_SNAPSHOT", "ROUND_TRIPPER_RAFT_MESSAGE"];

/// What the probes of one peer have found.
#[derive(Debug, Default)]
struct Health {
    smoothed_rtt: Duration,
    is_healthy: bool,
    error: String,
    /// How far this clock is ahead of the peer's, in nanoseconds.
    clock_drift: i128,
}

impl Health {
    /// Smooths as TCP does: an eighth of what is new.
    fn record(&mut self, rtt: Duration, theirs: Timestamp, ours: Timestamp) {
        let last = if self.smoothed_rtt.is_zero() { rtt } else { self.smoothed_rtt };
        self.smoothed_rtt = (last * 7 + rtt) / 8;
        let half = (self.smoothed_rtt / 2).as_nanos() as i128;
        self.clock_drift = ours.unix_nanos() - theirs.unix_nanos() - half;
        self.is_healthy = true;
        self.error.clear();
    }

    fn record_failure(&mut self, error: String) {
        self.is_healthy = false;
        self.error = error;
    }
}

/// Starts the probes of a peer.
pub(crate) fn start(shared: &Arc<Shared>, id: u64, urls: &[PeerUrl]) -> Vec<AbortHandle> {
    let mut tasks = Vec::new();
    for name in ROUND_TRIPPERS {
        let health = Arc::new(Mutex::new(Health::default()));
        let probe = probe(Arc::clone(shared), urls.to_vec(), Arc::clone(&health));
        tasks.push(shared.handle.spawn(probe).abort_handle());
        let monitor = monitor(Arc::clone(shared), id, name, health);
        tasks.push(shared.handle.spawn(monitor).abort_handle());
    }
    tasks
}

async fn probe(shared: Arc<Shared>, urls: Vec<PeerUrl>, health: Arc<Mutex<Health>>) {
    // Shorter than the time after which a connection is given up.
    let period = shared.config.read_timeout.saturating_sub(Duration::from_secs(1));
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut at = 0;
    loop {
        ticks.tick().await;
        let begun = Instant::now();
        match ask(&shared, &urls[at]).await {
            Ok(theirs) => health.lock().record(begun.elapsed(), theirs, Timestamp::now()),
            Err(err) => {
                health.lock().record_failure(err.to_string());
                at = (at + 1) % urls.len();
            }
        }
    }
}

async fn ask(shared: &Shared, url: &PeerUrl) -> io::Result<Timestamp> {
    let call = Call {
        method: Method::GET,
        timeout: shared.config.read_timeout,
        tls: shared.config.tls.clone(),
        ..Call::get(url.clone(), PATH, shared.config.dial_timeout)
    };
    let answer = call.send().await?;
    if answer.status != 200 {
        let status = answer.status;
        return Err(io::Error::other(format!(
            "got unexpected HTTP status code {status} from {url}{PATH}"
        )));
    }
    let page: Page = serde_json::from_slice(&answer.body).map_err(io::Error::other)?;
    if !page.ok {
        return Err(io::Error::other("not OK"));
    }
    Timestamp::parse(&page.now).ok_or_else(|| io::Error::other("not a time"))
}

/// The page as JSON.
#[derive(Debug, serde::Deserialize)]
struct Page {
    #[serde(rename = "OK")]
    ok: bool,
    #[serde(rename = "Now")]
    now: String,
}

/// The page as this member writes it.
pub(crate) fn page(now: Timestamp) -> String {
    format!("{{\"OK\":true,\"Now\":\"{now}\"}}\n")
}

async fn monitor(
    shared: Arc<Shared>,
    id: u64,
    round_tripper: &'static str,
    health: Arc<Mutex<Health>>,
) {
    let rtt = shared.metrics.peer_round_trip_time_seconds.with_label_values(&[&hex(id)]);
    // The first look is early, so that errors are soon in the log.
    let mut interval = MONITOR_INTERVAL_BAD;
    loop {
        sleep(interval).await;
        let health = health.lock();
        if !health.is_healthy {
            warn!(
                "round-tripper-name" = round_tripper,
                "remote-peer-id" = hex(id),
                rtt = ?health.smoothed_rtt,
                error = health.error,
                "prober detected unhealthy status"
            );
        }
        interval = if health.is_healthy { MONITOR_INTERVAL } else { MONITOR_INTERVAL_BAD };
        if health.clock_drift > DRIFT_MAX_NANOS {
            warn!(
                "round-tripper-name" = round_tripper,
                "remote-peer-id" = hex(id),
                "clock-drift" = format!("{:.6}s", health.clock_drift as f64 / 1e9),
                rtt = ?health.smoothed_rtt,
                "prober found high clock drift"
            );
        }
        rtt.observe(health.smoothed_rtt.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Health, Page, page};
    use crate::time::Timestamp;

    #[test]
    fn a_probe_is_an_eighth_of_the_smoothed_time() {
        let mut health = Health::default();
        let at = |nanos| Timestamp::from_unix(100, nanos);
        health.record(Duration::from_micros(800), at(0), at(800_000));
        assert_eq!(health.smoothed_rtt, Duration::from_micros(800));
        assert_eq!(health.clock_drift, 400_000);
        health.record(Duration::from_micros(1600), at(0), at(0));
        assert_eq!(health.smoothed_rtt, Duration::from_micros(900));
        assert!(health.is_healthy);
        health.record_failure("EOF".to_owned());
        assert!(!health.is_healthy);
    }

    #[test]
    fn the_page_can_be_read_back() {
        let now = Timestamp::from_unix(1_790_000_000, 120_000_000);
        let text = page(now);
        assert_eq!(text, "{\"OK\":true,\"Now\":\"2026-09-21T14:13:20.12Z\"}\n");
        let page: Page = serde_json::from_str(&text).expect("JSON");
        assert!(page.ok);
        assert_eq!(Timestamp::parse(&page.now), Some(now));
    }
}
