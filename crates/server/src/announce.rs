//! What a start tells the log before there is a member to tell of: etcd's lines with etcd's fields,
//! which operators' tools and etcd's own tests look for.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use env::{Disk, OsDisk};
use tracing::{info, warn};

use crate::AutoCompaction;
use crate::config::{Config, FeatureGates};
use crate::log::List;
use crate::{ETCD_VERSION, GIT_SHA, GO_VERSION};

/// The stage of the removal of etcd's v2 store: the only one there is, whatever the flag says.
const V2_DEPRECATION: &str = "write-only";

/// How the command line reads: said before anything is touched.
pub(crate) fn warnings(config: &Config) {
    if config.listen_client_http_urls.is_empty() {
        warn!(
            "Running http and grpc server on single port. This is not recommended for production."
        );
    }
    if config.name == "default" {
        warn!(
            name = config.name,
            "it isn't recommended to use default name, please set a value for --name. Note that etcd might run into issue when multiple members have the same default name"
        );
    }
}

/// Whether the directory has been a member's, and the lines that say so.
pub(crate) fn data_dir(config: &Config) -> bool {
    let data_dir = config.data_dir();
    let path = data_dir.display();
    if config.data_dir.as_os_str().is_empty() {
        warn!("data-dir" = %path, "'data-dir' was empty; using default");
    }
    let is_member = OsDisk.exists(&data_dir.join("member")).unwrap_or(false);
    if is_member {
        info!("data-dir" = %path, "dir-type" = "member", "server has already been initialized");
    } else {
        info!("data-dir" = %path, "dir-type" = "empty", "Initialize and start etcd server");
    }
    is_member
}

/// All that a member is started with, on one line.
pub(crate) fn configuration(config: &Config, is_initialized: bool) {
    let wal_dir = config.wal_dir.as_deref().unwrap_or_else(|| Path::new(""));
    let (mode, retention) = match config.auto_compaction {
        None => ("periodic", Duration::ZERO),
        Some(AutoCompaction::Periodic(period)) => ("periodic", period),
        // etcd keeps the number of revisions in a duration.
        Some(AutoCompaction::Revision(count)) => {
            ("revision", Duration::from_nanos(count.unsigned_abs()))
        }
    };
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let state = if config.initial_cluster_existing { "existing" } else { "new" };
    info!(
        "etcd-version" = ETCD_VERSION,
        "git-sha" = GIT_SHA,
        "go-version" = GO_VERSION,
        "go-os" = std::env::consts::OS,
        "go-arch" = go_arch(),
        "max-cpu-set" = cpus,
        "max-cpu-available" = cpus,
        "member-initialized" = is_initialized,
        name = config.name,
        "data-dir" = %config.data_dir().display(),
        "wal-dir" = %wal_dir.display(),
        "wal-dir-dedicated" = %wal_dir.display(),
        "member-dir" = %config.data_dir().join("member").display(),
        "force-new-cluster" = config.force_new_cluster,
        "heartbeat-interval" = go_duration(Duration::from_millis(config.heartbeat_ms)),
        "election-timeout" = go_duration(Duration::from_millis(config.election_ms)),
        "initial-election-tick-advance" = config.initial_election_tick_advance,
        "snapshot-count" = config.snapshot_count,
        "max-wals" = config.max_wals,
        "max-snapshots" = config.max_snapshots,
        "snapshot-catchup-entries" = config.snapshot_catchup_entries,
        "initial-advertise-peer-urls" = ?List::new(&config.advertise_peer_urls),
        "listen-peer-urls" = ?List::new(&config.listen_peer_urls),
        "advertise-client-urls" = ?List::new(&config.advertise_client_urls),
        "listen-client-urls" = ?List::new(&config.listen_client_urls),
        "listen-metrics-urls" = ?List::new(&config.listen_metrics_urls),
        "initial-cluster" = if is_initialized { "" } else { &config.initial_cluster },
        "initial-cluster-state" = state,
        "initial-cluster-token" = if is_initialized { "" } else { &config.initial_cluster_token },
        "quota-backend-bytes" = config.quota().map_or(config.quota_backend_bytes, u64::cast_signed),
        "max-request-bytes" = config.max_request_bytes,
        "max-concurrent-streams" = config.max_concurrent_streams,
        "pre-vote" = config.pre_vote,
        "feature-gates" = feature_gates(config),
        "initial-corrupt-check" = config.feature_gates.initial_corrupt_check,
        "corrupt-check-time-interval" = go_duration(config.corrupt_check_time),
        "compact-check-time-interval" = go_duration(config.compact_hash_check_time),
        "auto-compaction-mode" = mode,
        "auto-compaction-retention" = go_duration(retention),
        "auto-compaction-interval" = go_duration(retention),
        "v2-deprecation" = V2_DEPRECATION,
        "quorate-version" = env!("CARGO_PKG_VERSION"),
        "starting an etcd server"
    );
}

/// The gates that are not as they are by default, as `--feature-gates` takes them.
fn feature_gates(config: &Config) -> String {
    let changed = config.feature_gates.list().into_iter().zip(FeatureGates::default().list());
    let changed = changed.filter(|(gate, default)| gate != default);
    changed.map(|((name, _, is_on), _)| format!("{name}={is_on}")).collect::<Vec<_>>().join(",")
}

/// How full the backend may get.
pub(crate) fn quota(config: &Config) {
    const NAME: &str = "v3-applier";
    match config.quota() {
        None => {
            info!(
                "quota-name" = NAME,
                "quota-size-bytes" = config.quota_backend_bytes,
                "disabled backend quota"
            );
        }
        Some(bytes) => {
            let message = if config.quota_backend_bytes == 0 {
                "enabled backend quota with default value"
            } else {
                "enabled backend quota"
            };
            info!(
                "quota-name" = NAME,
                "quota-size-bytes" = bytes,
                "quota-size" = size(bytes),
                "{message}"
            );
        }
    }
}

/// All listeners are bound.
pub(crate) fn serving(config: &Config, member_id: u64) {
    info!(
        "local-member-id" = format!("{member_id:x}"),
        "initial-advertise-peer-urls" = ?List::new(&config.advertise_peer_urls),
        "listen-peer-urls" = ?List::new(&config.listen_peer_urls),
        "advertise-client-urls" = ?List::new(&config.advertise_client_urls),
        "listen-client-urls" = ?List::new(&config.listen_client_urls),
        "listen-metrics-urls" = ?List::new(&config.listen_metrics_urls),
        "now serving peer/client/metrics"
    );
}

/// Go's name of the processor.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A size as people read it, in powers of 1000 as etcd's log has it: `2.1 GB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let unit = bytes.checked_ilog10().map_or(0, |digits| digits as usize / 3);
    if unit == 0 {
        return format!("{bytes} B");
    }
    let tenths = (bytes as f64 / 1_000_f64.powi(unit as i32) * 10.0).round() / 10.0;
    let decimals = usize::from(tenths < 10.0);
    format!("{tenths:.decimals$} {}", UNITS[unit])
}

/// A duration as Go writes it: `1m0s`, `1.5s`, `100ms`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |unit: u128| {
        let decimals = unit.ilog10() as usize;
        let text = format!("{}.{:0decimals$}", nanos / unit, nanos % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => return format!("{}µs", fraction(1_000)),
        1_000_000..1_000_000_000 => return format!("{}ms", fraction(1_000_000)),
        _ => {}
    }
    let (hours, minutes) = (duration.as_secs() / 3_600, duration.as_secs() / 60 % 60);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    let seconds = nanos - u128::from(duration.as_secs() / 60 * 60) * 1_000_000_000;
    let decimal = format!("{}.{:09}", seconds / 1_000_000_000, seconds % 1_000_000_000);
    text.push_str(decimal.trim_end_matches('0').trim_end_matches('.'));
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_written_as_go_writes_them() {
        for (nanos, expected) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (1_000_000_000, "1s"),
            (10_050_000_000, "10.05s"),
            (60_000_000_000, "1m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (90_061_500_000_000, "25h1m1.5s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), expected);
        }
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (20_480, "20 kB"),
            (2 << 30, "2.1 GB"),
            (8_500_000, "8.5 MB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn only_changed_gates_are_told() {
        let mut config = Config::default();
        assert_eq!(feature_gates(&config), "");
        config.feature_gates.set("LeaseCheckpoint=true,FastLeaseKeepAlive=false").expect("gates");
        assert_eq!(feature_gates(&config), "FastLeaseKeepAlive=false,LeaseCheckpoint=true");
    }
}
