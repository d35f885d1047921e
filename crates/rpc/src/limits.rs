//! The limits of the front door, from the member's configuration.

use std::time::Duration;

/// What etcd's flags say about requests. [`Limits::default`] has etcd's defaults.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `--max-request-bytes`: the largest encoded `InternalRaftRequest`.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--max-concurrent-streams`, of one connection.
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-min-time`: a client that pings more often is sent away.
    pub keepalive_min_time: Duration,
    /// `--grpc-keepalive-interval`: a silent client is pinged after this long; zero: never.
    pub keepalive_interval: Duration,
    /// `--grpc-keepalive-timeout`: and closed when it does not answer in this time.
    pub keepalive_timeout: Duration,
    /// How long a client may take to say what it speaks, and to begin it; grpc-go's `ConnectionTimeout`.
    pub handshake_timeout: Duration,
    /// How long a client may take to send the head of a request of HTTP/1; etcd's `ReadHeaderTimeout`.
    pub header_timeout: Duration,
    /// Calls that the connections of a core may have open in all. With more, none may open one beyond its even share.
    pub calls_max: usize,
    /// Bytes of requests that have not come to their end, in all connections of a core. With more, the oldest are ended.
    pub incomplete_bytes_max: usize,
    /// Bytes of answers that wait to be written, in all connections of a core. With more, whoever has more than its even
    /// share waiting gets no further answers, and is hung up on after [`Limits::stall_timeout`] without taking any.
    pub unwritten_bytes_max: usize,
    /// How long a client may take nothing of its answers when memory is short.
    pub stall_timeout: Duration,
    /// `--warning-unary-request-duration`: a slower unary call is logged.
    pub warning_unary_request_duration: Duration,
    /// The effective quota in bytes as `Status` and the metric show it; 0: no quota.
    pub quota_bytes: i64,
    /// `--watch-progress-notify-interval`.
    pub watch_progress_notify_interval: Duration,
    /// `--election-timeout`.
    pub election_timeout: Duration,
    /// `--strict-reconfig-check`: refuse changes of members that would cost the quorum.
    pub strict_reconfig_check: bool,
    /// `--cors`: origins whose scripts may ask over HTTP; `*`, or none: all.
    pub cors: Vec<String>,
    /// `--host-whitelist`: names of this host in HTTP requests; `*`, or none: all.
    pub host_whitelist: Vec<String>,
    /// `--enable-grpc-gateway`: serve JSON under `/v3/`.
    pub enable_gateway: bool,
    /// `--enable-grpc-reflection`: tell of services and messages by `grpc.reflection.v1` and `v1alpha`.
    pub enable_reflection: bool,
    /// Feature gate `StopGRPCServiceOnDefrag`: health is `NOT_SERVING` during a defragmentation.
    pub stop_grpc_service_on_defrag: bool,
    /// How long a stopping core waits for calls that are under way.
    pub drain_timeout: Duration,
}

/// What etcd allows a message beyond `max_request_bytes` before gRPC itself refuses it.
const GRPC_OVERHEAD_BYTES: usize = 512 << 10;

impl Limits {
    /// The largest message that is read from a client.
    #[must_use]
    pub fn max_receive_bytes(&self) -> usize {
        self.max_request_bytes.saturating_add(GRPC_OVERHEAD_BYTES)
    }

    /// How long a request waits for consensus: 5 s for the disk and two elections.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_request_bytes: 1536 << 10,
            max_txn_ops: 128,
            max_concurrent_streams: u32::MAX,
            keepalive_min_time: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            handshake_timeout: Duration::from_secs(120),
            header_timeout: Duration::from_secs(5 * 60),
            calls_max: 1_000_000,
            incomplete_bytes_max: 512 << 20,
            unwritten_bytes_max: 512 << 20,
            stall_timeout: Duration::from_secs(10),
            warning_unary_request_duration: Duration::from_millis(300),
            quota_bytes: 2 << 30,
            watch_progress_notify_interval: Duration::from_secs(10 * 60),
            election_timeout: Duration::from_secs(1),
            strict_reconfig_check: true,
            cors: Vec::new(),
            host_whitelist: Vec::new(),
            enable_gateway: true,
            enable_reflection: false,
            stop_grpc_service_on_defrag: false,
            drain_timeout: Duration::from_secs(7),
        }
    }
}
