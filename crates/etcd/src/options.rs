//! From the command line, the environment and the configuration file to a [`Config`].

use std::path::PathBuf;
use std::time::Duration;

use cobra::go;
use cobra::goflag::{self, UsageError};
use server::log::{Format, LogOptions, Output};
use server::{AutoCompaction, Config, TlsFiles, TlsVersion, Url};

use crate::commandline;
use crate::table::{self, FLAGS, Flag, Kind, Support};

/// The names that Go knows for `--cipher-suites`. Nothing but TLS reads them.
const CIPHER_SUITES: &[&str] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// Flags whose use alone is worth a warning.
const DEPRECATED: [(&str, &str); 2] = [
    ("max-snapshots", "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."),
    (
        "v2-deprecation",
        "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.",
    ),
];

/// What the program is asked to do.
#[derive(Debug)]
pub(crate) enum Request {
    /// Print the version.
    Version,
    /// Run a member.
    Run(Box<Options>),
}

/// A configuration and what else a start needs.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) config: Config,
    pub(crate) log: LogOptions,
    /// Things worth a warning once there is a log.
    pub(crate) warnings: Vec<String>,
    /// Set if the configuration contradicts itself; goes into `failed to verify flags`.
    pub(crate) invalid: Option<String>,
}

/// Why there is nothing to run.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Text and usage on stderr, exit code 2; or the help.
    Usage(UsageError),
    /// A fatal log line, exit code 1.
    Fatal(String),
}

/// The values of all flags, and which of them somebody set.
struct Values {
    texts: Vec<(&'static str, String)>,
}

impl Values {
    fn given(&self, name: &str) -> Option<&str> {
        self.texts.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// Each value that somebody gave, in their order.
    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.texts.iter().filter(move |(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    fn text(&self, name: &str) -> &str {
        let flag = table::find(name).expect("a flag of the table");
        self.given(name).unwrap_or(flag.default)
    }

    fn is_on(&self, name: &str) -> bool {
        server::parse_bool(self.text(name)).expect("checked when it was read")
    }

    fn number<N: TryFrom<i128>>(&self, name: &str) -> Result<N, String> {
        goflag::number(self.text(name)).map_err(|why| format!("--{name}: {why}"))
    }

    fn duration(&self, name: &str) -> Duration {
        let nanos = go::parse_duration(self.text(name)).expect("checked when it was read");
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    fn urls(&self, name: &str) -> Vec<Url> {
        let text = self.text(name);
        if text.is_empty() {
            return Vec::new();
        }
        Url::parse_list(text).expect("checked when it was read")
    }
}

/// Reads everything. `environment` holds the variables that begin with `ETCD_`.
pub(crate) fn read(
    arguments: &[String],
    environment: &[(String, String)],
) -> Result<Request, Refusal> {
    let parsed = commandline::parse(arguments).map_err(Refusal::Usage)?;
    if let Some(extra) = parsed.rest.first() {
        return Ok(Request::Run(Box::new(Options::invalid(format!(
            "{extra:?} is not a valid flag"
        )))));
    }
    let mut values = Values { texts: parsed.values };
    if values.is_on("version") {
        return Ok(Request::Version);
    }
    let mut warnings = Vec::new();
    let from_environment =
        |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let file = values
        .given("config-file")
        .or_else(|| from_environment("ETCD_CONFIG_FILE").map(String::as_str))
        .map(str::to_owned);
    if let Some(path) = file.filter(|path| !path.is_empty()) {
        match crate::file::read(&path) {
            Ok(texts) => values.texts = texts,
            Err(why) => return Ok(Request::Run(Box::new(Options::invalid(why)))),
        }
    } else {
        merge_environment(&mut values, environment, &mut warnings)?;
    }
    let options = match to_options(&values, warnings) {
        Ok(options) => options,
        Err(why) => Options::invalid(why),
    };
    Ok(Request::Run(Box::new(options)))
}

/// Flags win over variables, but naming one option both ways is refused, as in etcd.
fn merge_environment(
    values: &mut Values,
    environment: &[(String, String)],
    warnings: &mut Vec<String>,
) -> Result<(), Refusal> {
    for (key, value) in environment {
        let Some(flag) = FLAGS.iter().find(|flag| variable(flag) == *key) else {
            if !matches!(key.as_str(), "ETCD_VERSION" | "ETCD_UNSUPPORTED_ARCH" | "ETCD_VERIFY") {
                warnings.push(format!("unrecognized environment variable\0{key}={value}"));
            }
            continue;
        };
        if values.given(flag.name).is_some() {
            return Err(Refusal::Fatal(format!(
                "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))\0{key}"
            )));
        }
        if value.is_empty() {
            continue;
        }
        commandline::check(flag, value).map_err(|why| {
            Refusal::Fatal(format!("invalid value {value:?} for {key}: {why}\0{key}"))
        })?;
        values.texts.push((flag.name, value.clone()));
    }
    Ok(())
}

fn variable(flag: &Flag) -> String {
    format!("ETCD_{}", flag.name.replace('-', "_").to_ascii_uppercase())
}

/// A flag that this server does not know how to honour is refused, never ignored in silence.
fn check_support(values: &Values) -> Result<(), String> {
    for (name, value) in &values.texts {
        let flag = table::find(name).expect("a flag of the table");
        if flag.support == Support::DefaultOnly && !is_default(flag, value) {
            return Err(format!(
                "--{name}={value} is not supported yet by this server (only the default, {:?}, is)",
                flag.default
            ));
        }
    }
    Ok(())
}

fn is_default(flag: &Flag, value: &str) -> bool {
    match flag.kind {
        Kind::Bool => server::parse_bool(value) == server::parse_bool(flag.default),
        Kind::Duration => go::parse_duration(value) == go::parse_duration(flag.default),
        _ => value == flag.default,
    }
}

impl Options {
    fn invalid(why: String) -> Self {
        Self {
            config: Config::default(),
            log: LogOptions::default(),
            warnings: Vec::new(),
            invalid: Some(why),
        }
    }
}

fn to_options(values: &Values, mut warnings: Vec<String>) -> Result<Options, String> {
    check_support(values)?;
    for (name, warning) in DEPRECATED {
        if values.given(name).is_some() {
            warnings.push(warning.to_owned());
        }
    }
    // DIFF(etcd): there are profiles of the Go runtime.
    if values.is_on("enable-pprof") {
        warnings.push("--enable-pprof has no effect: this server has no Go runtime whose profiles could be served under /debug/pprof".to_owned());
    }
    let log = log_options(values)?;
    let config = to_config(values)?;
    let invalid = validate(values, &config).err();
    Ok(Options { config, log, warnings, invalid })
}

/// The bounds are checked also where there is no TLS, so that a configuration that etcd refuses is
/// refused here.
fn check_tls_versions(values: &Values) -> Result<(), String> {
    let (min, max) = (values.text("tls-min-version"), values.text("tls-max-version"));
    for version in [min, max] {
        if !matches!(version, "" | "TLS1.2" | "TLS1.3") {
            return Err(format!(
                "unexpected TLS version {version:?} (must be one of: TLS1.2, TLS1.3)"
            ));
        }
    }
    if !max.is_empty() && min > max {
        return Err(format!("min version ({min}) is greater than max version ({max})"));
    }
    if min == "TLS1.3" && !values.text("cipher-suites").is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
    Ok(())
}

fn validate(values: &Values, config: &Config) -> Result<(), String> {
    check_tls_versions(values)?;
    if values.given("listen-client-urls").is_some()
        && values.given("advertise-client-urls").is_none()
    {
        return Err(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly"
                .to_owned(),
        );
    }
    let suites = values.text("cipher-suites").split(',').filter(|suite| !suite.is_empty());
    if let Some(unknown) = suites.into_iter().find(|suite| !CIPHER_SUITES.contains(suite)) {
        return Err(format!("unexpected TLS cipher suite {unknown:?}"));
    }
    if values.text("discovery-fallback") == "proxy" {
        return Err(
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\""
                .to_owned(),
        );
    }
    config.validate()
}

fn log_options(values: &Values) -> Result<LogOptions, String> {
    match values.text("logger") {
        "zap" => {}
        "capnslog" => return Err("--logger=capnslog is removed in v3.5".to_owned()),
        other => return Err(format!("unknown logger option {other:?}")),
    }
    let level = values.text("log-level");
    let level =
        server::log::parse_level(level).ok_or_else(|| format!("unrecognized level: {level:?}"))?;
    let format =
        if values.text("log-format") == "console" { Format::Console } else { Format::Json };
    let outputs = values.text("log-outputs").split(',').map(|output| match output.trim() {
        "default" | "stderr" => Output::Stderr,
        "stdout" => Output::Stdout,
        "systemd/journal" => Output::Stderr,
        path => Output::File(PathBuf::from(path)),
    });
    Ok(LogOptions { level, format, outputs: outputs.collect(), http2_debug: false })
}

/// `*`, or URLs, which were checked when they were read.
fn origins(text: &str) -> Vec<String> {
    match Url::parse_list(text) {
        Ok(urls) => urls.iter().map(ToString::to_string).collect(),
        Err(_) => list(text),
    }
}

/// The words between commas.
fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// What members show each other and believe, if they speak TLS.
fn peer_tls(values: &Values) -> Result<Option<TlsFiles>, String> {
    let [cert, key, trusted_ca] =
        ["peer-cert-file", "peer-key-file", "peer-trusted-ca-file"].map(|name| values.text(name));
    if cert.is_empty() && key.is_empty() {
        return Ok(None);
    }
    if cert.is_empty() || key.is_empty() {
        return Err(format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"));
    }
    if trusted_ca.is_empty() {
        return Err(
            "--peer-cert-file without --peer-trusted-ca-file is not supported yet by this server"
                .to_owned(),
        );
    }
    if !values.text("cipher-suites").is_empty() {
        return Err(
            "--cipher-suites is not supported yet by this server where TLS is spoken".to_owned()
        );
    }
    let version = |name| match values.text(name) {
        "TLS1.2" => Some(TlsVersion::V12),
        "TLS1.3" => Some(TlsVersion::V13),
        _ => None,
    };
    Ok(Some(TlsFiles {
        cert: cert.into(),
        key: key.into(),
        trusted_ca: trusted_ca.into(),
        min: version("tls-min-version").unwrap_or(TlsVersion::V12),
        max: version("tls-max-version").unwrap_or(TlsVersion::V13),
    }))
}

fn to_config(values: &Values) -> Result<Config, String> {
    let name = values.text("name").to_owned();
    let advertise_peer_urls = values.urls("initial-advertise-peer-urls");
    let initial_cluster = initial_cluster(values, &name, &advertise_peer_urls);
    let mut config = Config {
        initial_cluster,
        name,
        data_dir: PathBuf::from(values.text("data-dir")),
        wal_dir: Some(values.text("wal-dir")).filter(|dir| !dir.is_empty()).map(PathBuf::from),
        snapshot_count: values.number("snapshot-count")?,
        snapshot_catchup_entries: values.number("snapshot-catchup-entries")?,
        max_snapshots: values.number("max-snapshots")?,
        max_wals: values.number("max-wals")?,
        heartbeat_ms: values.number("heartbeat-interval")?,
        election_ms: values.number("election-timeout")?,
        initial_election_tick_advance: values.is_on("initial-election-tick-advance"),
        pre_vote: values.is_on("pre-vote"),
        listen_peer_urls: values.urls("listen-peer-urls"),
        listen_client_urls: values.urls("listen-client-urls"),
        listen_client_http_urls: values.urls("listen-client-http-urls"),
        listen_metrics_urls: values.urls("listen-metrics-urls"),
        advertise_peer_urls,
        advertise_client_urls: values.urls("advertise-client-urls"),
        initial_cluster_token: values.text("initial-cluster-token").to_owned(),
        initial_cluster_existing: values.text("initial-cluster-state") == "existing",
        force_new_cluster: values.is_on("force-new-cluster"),
        strict_reconfig_check: values.is_on("strict-reconfig-check"),
        max_learners: values.number::<u32>("max-learners")? as usize,
        raft_read_timeout: values.duration("raft-read-timeout"),
        raft_write_timeout: values.duration("raft-write-timeout"),
        cors: origins(values.text("cors")),
        host_whitelist: list(values.text("host-whitelist")),
        enable_grpc_gateway: values.is_on("enable-grpc-gateway"),
        enable_grpc_reflection: values.is_on("enable-grpc-reflection"),
        peer_tls: peer_tls(values)?,
        quota_backend_bytes: values.number("quota-backend-bytes")?,
        bootstrap_defrag_threshold_bytes: values
            .number::<u64>("bootstrap-defrag-threshold-megabytes")?
            .saturating_mul(1 << 20),
        max_txn_ops: values.number::<u32>("max-txn-ops")? as usize,
        max_request_bytes: values.number::<u32>("max-request-bytes")? as usize,
        max_concurrent_streams: values.number("max-concurrent-streams")?,
        keepalive_min_time: values.duration("grpc-keepalive-min-time"),
        keepalive_interval: values.duration("grpc-keepalive-interval"),
        keepalive_timeout: values.duration("grpc-keepalive-timeout"),
        auto_compaction: auto_compaction(values)?,
        compaction_batch_limit: values.number::<u32>("compaction-batch-limit")?.max(1) as usize,
        compaction_sleep_interval: values.duration("compaction-sleep-interval"),
        warning_unary_request_duration: values.duration("warning-unary-request-duration"),
        warning_apply_duration: values.duration("warning-apply-duration"),
        extensive_metrics: values.text("metrics") == "extensive",
        unsafe_no_fsync: values.is_on("unsafe-no-fsync"),
        ..Config::default()
    };
    // 0 is no interval: etcd's flag is 0 unless it is given, and means ten minutes.
    let interval = values.duration("watch-progress-notify-interval");
    if !interval.is_zero() {
        config.watch_progress_notify_interval = interval;
    }
    let interval = values.duration("backend-batch-interval");
    if !interval.is_zero() {
        config.backend_batch_interval = interval;
    }
    let limit = values.number::<i64>("backend-batch-limit")?;
    if let Some(limit) = usize::try_from(limit).ok().filter(|&limit| limit > 0) {
        config.backend_batch_limit = limit;
    }
    config.corrupt_check_time = values.duration("corrupt-check-time");
    config.compact_hash_check_time = values.duration("compact-hash-check-time");
    for list in values.all("feature-gates") {
        config.feature_gates.set(list)?;
    }
    Ok(config)
}

/// etcd rewrites an `--initial-cluster` that was left at its default to the member's own name and
/// advertised URLs.
fn initial_cluster(values: &Values, name: &str, advertised: &[Url]) -> String {
    let text = values.text("initial-cluster");
    let default = table::find("initial-cluster").expect("a flag of the table").default;
    if text != default {
        return text.to_owned();
    }
    advertised.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
}

fn auto_compaction(values: &Values) -> Result<Option<AutoCompaction>, String> {
    let retention = values.text("auto-compaction-retention");
    let number = goflag::number::<i64>(retention).ok();
    if number == Some(0) || retention.is_empty() {
        return Ok(None);
    }
    let nanos = go::parse_duration(retention).ok();
    match values.text("auto-compaction-mode") {
        "periodic" => {
            let nanos = match (number, nanos) {
                (Some(hours), _) => hours.checked_mul(3_600_000_000_000),
                (None, nanos) => nanos,
            };
            let nanos = nanos
                .and_then(|nanos| u64::try_from(nanos).ok())
                .filter(|&nanos| nanos > 0)
                .ok_or_else(|| {
                    format!(
                        "error parsing CompactionRetention: time: invalid duration {retention:?}"
                    )
                })?;
            Ok(Some(AutoCompaction::Periodic(Duration::from_nanos(nanos))))
        }
        "revision" => {
            // etcd reads a duration here too and takes its nanoseconds for revisions.
            let revisions = number.or(nanos).filter(|&count| count > 0).ok_or_else(|| {
                format!("error parsing CompactionRetention: {retention:?} is not a positive number")
            })?;
            Ok(Some(AutoCompaction::Revision(revisions)))
        }
        other => Err(format!("unknown auto-compaction-mode {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str, environment: &[(&str, &str)]) -> Result<Options, Refusal> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let environment: Vec<(String, String)> =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        match read(&arguments, &environment)? {
            Request::Run(options) => Ok(*options),
            Request::Version => panic!("asked for the version"),
        }
    }

    #[test]
    fn defaults_are_etcds() {
        let options = run("", &[]).expect("options");
        assert_eq!(options.config, Config::default());
        assert_eq!(options.invalid, None);
    }

    #[test]
    fn bounds_of_tls_versions_are_etcds() {
        for (line, refusal) in [
            (
                "--tls-min-version=TLS1.2 --tls-max-version=TLS1.3 --cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                None,
            ),
            ("--tls-min-version=TLS1.3", None),
            (
                "--tls-max-version=TLS1.1",
                Some("unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)"),
            ),
            (
                "--tls-min-version=TLS1.3 --tls-max-version=TLS1.2",
                Some("min version (TLS1.3) is greater than max version (TLS1.2)"),
            ),
            (
                "--tls-min-version=TLS1.3 --cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                Some("cipher suites cannot be configured when only TLS1.3 is enabled"),
            ),
        ] {
            let options = run(line, &[]).expect("options");
            assert_eq!(options.invalid.as_deref(), refusal, "{line}");
        }
    }

    #[test]
    fn profiling_is_accepted_with_a_warning() {
        let options = run("--enable-pprof", &[]).expect("options");
        assert_eq!(options.invalid, None);
        assert_eq!(options.warnings.len(), 1);
    }

    #[test]
    fn no_progress_interval_is_the_default_one() {
        for line in ["0", "0s", "-1s"] {
            let line = format!("--watch-progress-notify-interval={line}");
            let options = run(&line, &[]).expect("options");
            assert_eq!(options.config, Config::default(), "{line}");
        }
        let options = run("--watch-progress-notify-interval=1s", &[]).expect("options");
        assert_eq!(options.config.watch_progress_notify_interval, Duration::from_secs(1));
    }

    #[test]
    fn a_variable_stands_for_a_flag_but_not_beside_it() {
        let options = run("--name a", &[("ETCD_DATA_DIR", "/d")]).expect("options");
        assert_eq!(options.config.data_dir, PathBuf::from("/d"));
        assert_eq!(options.config.initial_cluster, "a=http://localhost:2380");
        let Err(Refusal::Fatal(text)) = run("--name a", &[("ETCD_NAME", "b")]) else {
            panic!("not refused");
        };
        assert!(text.starts_with("conflicting environment variable is shadowed"), "{text}");
        let options = run("", &[("ETCD_NOPE", "1")]).expect("options");
        assert_eq!(options.warnings, ["unrecognized environment variable\0ETCD_NOPE=1"]);
    }

    #[test]
    fn deprecated_flags_are_warned_of() {
        let options = run("--max-snapshots=10 --v2-deprecation gone", &[]).expect("options");
        assert_eq!(options.warnings, DEPRECATED.map(|(_, warning)| warning));
        assert_eq!(run("", &[]).expect("options").warnings, [""; 0]);
    }

    #[test]
    fn cipher_suites_go_by_gos_names() {
        for (suites, expected) in [
            ("TLS_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", None),
            ("TLS_NOPE", Some("unexpected TLS cipher suite \"TLS_NOPE\"")),
        ] {
            let options = run(&format!("--cipher-suites {suites}"), &[]).expect("options");
            assert_eq!(options.invalid.as_deref(), expected);
        }
    }

    #[test]
    fn contradictions_have_etcds_texts() {
        for (line, expected) in [
            ("foo", "\"foo\" is not a valid flag"),
            (
                "--listen-client-urls http://127.0.0.1:1",
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            ),
            ("--heartbeat-interval 0", "--heartbeat-interval must be >0 (set to 0ms)"),
            (
                "--heartbeat-interval 300",
                "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]",
            ),
            (
                "--election-timeout 60000",
                "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
            ),
            (
                "--listen-peer-urls http://example.com:1",
                "expected IP in URL for binding (http://example.com:1)",
            ),
            (
                "--feature-gates LeaseCheckpointPersist=true",
                "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
            ),
            (
                "--auto-compaction-mode foo --auto-compaction-retention 1h",
                "unknown auto-compaction-mode \"foo\"",
            ),
            ("--logger capnslog", "--logger=capnslog is removed in v3.5"),
            (
                "--discovery-fallback proxy",
                "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
            ),
            ("--config-file /nope", "open /nope: no such file or directory"),
            (
                "--peer-cert-file a.crt",
                "KeyFile and CertFile must both be present[key: , cert: a.crt]",
            ),
            (
                "--peer-cert-file a.crt --peer-key-file a.key",
                "--peer-cert-file without --peer-trusted-ca-file is not supported yet by this server",
            ),
            (
                "--auto-tls",
                "--auto-tls=true is not supported yet by this server (only the default, \"false\", is)",
            ),
        ] {
            let options = run(line, &[]).expect("options");
            assert_eq!(options.invalid.as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn retention_is_hours_a_duration_or_revisions() {
        for (line, expected) in [
            ("--auto-compaction-retention 2", AutoCompaction::Periodic(Duration::from_secs(7200))),
            ("--auto-compaction-retention 10m", AutoCompaction::Periodic(Duration::from_secs(600))),
            (
                "--auto-compaction-mode revision --auto-compaction-retention 1000",
                AutoCompaction::Revision(1000),
            ),
        ] {
            let options = run(line, &[]).expect("options");
            assert_eq!(options.config.auto_compaction, Some(expected), "{line}");
        }
    }
}
