//! Flags, exit codes, signals, files, and what is printed where.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use api::etcdserverpb as pb;
use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::eventually;
use crate::support::{End, Launch, Scratch};

fn bare(scratch: &Scratch, flags: &[&str]) -> End {
    Launch::bare(scratch.path()).flags(flags).end()
}

#[test]
fn version_and_help_go_to_stdout() {
    let scratch = Scratch::new("version");
    for flag in ["--version", "-version", "--version=true"] {
        let end = bare(&scratch, &[flag]);
        assert_eq!(end.code(), 0);
        let keys: Vec<&str> =
            end.stdout.lines().map(|line| line.split(": ").next().expect("a key")).collect();
        let expected = ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch", "quorate Version"];
        assert_eq!(keys, expected);
        assert!(end.lines.is_empty());
    }
    for flag in ["-h", "--help"] {
        let end = bare(&scratch, &[flag]);
        assert_eq!(end.code(), 0);
        assert!(end.stdout.contains("--listen-client-urls"), "{}", end.stdout);
    }
    assert_eq!(fs::read_dir(scratch.path()).expect("list").count(), 0, "files were made");
}

#[test]
fn a_command_line_that_cannot_be_parsed_is_code_2() {
    let scratch = Scratch::new("usage");
    for (flags, expected) in [
        (&["--nope"][..], "flag provided but not defined: -nope"),
        (&["--discovery", "x"], "flag provided but not defined: -discovery"),
        (&["--experimental-peer-skip-client-san-verification"], "flag provided but not defined"),
        (&["--heartbeat-interval", "x"], "invalid value \"x\" for flag -heartbeat-interval: "),
        (&["--name"], "flag needs an argument: -name"),
        (&["--pre-vote=maybe"], "invalid boolean value \"maybe\" for -pre-vote: parse error"),
        (
            &["--initial-cluster-state", "zzz"],
            "invalid value \"zzz\" for flag -initial-cluster-state: invalid value",
        ),
        (
            &["--v2-deprecation", "not-yet"],
            "invalid value \"not-yet\" for flag -v2-deprecation: invalid value \"not-yet\"",
        ),
        (
            &["--feature-gates", "Foo=true"],
            "invalid value \"Foo=true\" for flag -feature-gates: unrecognized feature gate: Foo",
        ),
    ] {
        let end = bare(&scratch, flags);
        assert_eq!(end.code(), 2, "{flags:?}");
        assert!(end.lines[0].starts_with(expected), "{flags:?}: {}", end.lines[0]);
        assert_eq!(end.lines[1], "Usage:", "{flags:?}");
    }
}

#[test]
fn a_configuration_that_contradicts_itself_is_code_1() {
    let scratch = Scratch::new("verify");
    for (flags, expected) in [
        (&["foo"][..], "\"foo\" is not a valid flag"),
        (
            &["--listen-client-urls", "http://127.0.0.1:0"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (&["--heartbeat-interval", "0"], "--heartbeat-interval must be >0 (set to 0ms)"),
        (
            &["--heartbeat-interval", "300"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]",
        ),
        (&["--config-file", "/nope"], "open /nope: no such file or directory"),
        (
            &["--auto-tls"],
            "--auto-tls=true is not supported yet by this server (only the default, \"false\", is)",
        ),
    ] {
        let end = bare(&scratch, flags);
        assert_eq!(end.code(), 1, "{flags:?}");
        assert_eq!(end.errors(), [expected], "{flags:?}");
        assert!(end.log().contains("\"msg\":\"failed to verify flags\""), "{flags:?}");
    }
    let shadowed = Launch::bare(scratch.path()).flags(&["--name=a"]).env("ETCD_NAME", "b").end();
    assert_eq!(shadowed.code(), 1);
    let line: Value = serde_json::from_str(&shadowed.lines[0]).expect("JSON");
    assert_eq!(line["level"], "fatal");
    assert_eq!(line["environment-variable"], "ETCD_NAME");
    assert_eq!(
        line["msg"],
        "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))"
    );
}

#[test]
fn a_cluster_that_does_not_fit_its_member_is_refused() {
    let scratch = Scratch::new("bootstrap");
    for (flags, expected) in [
        (
            &["--name=q", "--initial-cluster=n=http://127.0.0.1:1"][..],
            "couldn't find local name \"q\" in the initial cluster configuration",
        ),
        (
            &["--initial-cluster=default=http://127.0.0.1:1"],
            "--initial-cluster has default=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls=http://localhost:2380",
        ),
    ] {
        let end = Launch::new(&scratch.data()).flags(flags).end();
        assert_eq!(end.code(), 1);
        assert_eq!(end.errors().len(), 2);
        for error in end.errors() {
            assert!(error.starts_with(expected), "{error}");
        }
        let messages: Vec<Value> =
            end.lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let [.., error, fatal] = &messages[..] else { panic!("{}", end.log()) };
        assert_eq!((&error["level"], &error["msg"]), (&"error".into(), &"bootstrap failed".into()));
        assert_eq!((&fatal["level"], &fatal["msg"]), (&"fatal".into(), &"discovery failed".into()));
    }
}

#[test]
fn environment_and_file_stand_for_flags() {
    let scratch = Scratch::new("config");
    let config = scratch.join("etcd.yaml");
    let text = format!(
        "name: from-file\ndata-dir: {}\nlisten-client-urls: http://127.0.0.1:0\nadvertise-client-urls: http://127.0.0.1:7\nlisten-peer-urls: http://127.0.0.1:0\nquota-backend-bytes: 123456789\n",
        scratch.join("yaml").display()
    );
    fs::write(&config, text).expect("write");
    let path = config.to_str().expect("UTF-8");
    // What stands beside the file does not count.
    let server = Launch::bare(scratch.path())
        .flags(&["--config-file", path, "--name=from-flag"])
        .env("ETCD_QUOTA_BACKEND_BYTES", "1")
        .start();
    let listed = member(&server.client());
    assert_eq!(listed.name, "from-file");
    assert_eq!(listed.client_urls, ["http://127.0.0.1:7"]);
    assert_eq!(server.client().status().db_size_quota, 123_456_789);
    server.terminate();

    let server = Launch::bare(scratch.path())
        .flags(&["--name=from-flag"])
        .env("ETCD_DATA_DIR", scratch.join("env").to_str().expect("UTF-8"))
        .env("ETCD_LISTEN_CLIENT_URLS", "http://127.0.0.1:0")
        .env("ETCD_ADVERTISE_CLIENT_URLS", "http://127.0.0.1:8")
        .env("ETCD_LISTEN_PEER_URLS", "http://127.0.0.1:0")
        .env("ETCD_NOPE", "1")
        .start();
    assert_eq!(member(&server.client()).name, "from-flag");
    let end = server.terminate();
    assert!(end.log().contains("unrecognized environment variable"), "{}", end.log());
    assert!(scratch.join("env/member/snap/db").exists());

    fs::write(&config, "client-transport-security: {auto-tls: true}\n").expect("write");
    let end = bare(&scratch, &["--config-file", path]);
    assert_eq!(end.code(), 1);
    assert_eq!(end.errors(), ["client-transport-security is not supported yet by this server"]);
}

fn member(client: &crate::client::Client) -> api::etcdserverpb::Member {
    let request = api::etcdserverpb::MemberListRequest::default();
    let response: api::etcdserverpb::MemberListResponse =
        client.call("Cluster/MemberList", &request).expect("member list");
    response.members.into_iter().next().expect("a member")
}

#[test]
fn without_a_directory_it_is_named_after_the_member() {
    let scratch = Scratch::new("default-dir");
    let server = Launch::bare(scratch.path())
        .flags(&[
            "--name=n1",
            "--listen-client-urls=http://127.0.0.1:0",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:0",
        ])
        .start();
    assert!(scratch.join("n1.etcd/member/wal").exists());
    server.terminate();
}

#[test]
fn a_port_belongs_to_one_server() {
    let scratch = Scratch::new("twice");
    let server = Launch::new(&scratch.data()).start();
    let end = Launch::at(&scratch.join("other"), &server.address).end();
    assert_eq!(end.code(), 1);
    let expected = format!("listen tcp {}: bind: address already in use", server.address);
    assert_eq!(end.errors(), [expected.clone(), expected]);
    assert!(!scratch.join("other").exists(), "a server without a port made files");
}

#[test]
fn the_directory_is_laid_out_as_etcds() {
    let scratch = Scratch::new("layout");
    let launch = Launch::new(&scratch.data());
    let server = launch.start();
    server.client().put(b"k", b"v").expect("put");
    let running = [
        "drwx------ .",
        "drwx------ member",
        "drwx------ member/snap",
        "-rw------- member/snap/db",
        "drwx------ member/wal",
        "-rw------- member/wal/0.tmp",
        "-rw------- member/wal/0000000000000000-0000000000000000.wal",
    ];
    assert_eq!(layout(&scratch.data()), running);
    let segment = "member/wal/0000000000000000-0000000000000000.wal";
    let len = fs::metadata(scratch.data().join(segment)).expect("stat").len();
    assert_eq!(len, 64_000_000);
    server.terminate();
    let stopped: Vec<&str> = running.into_iter().filter(|line| !line.ends_with(".tmp")).collect();
    assert_eq!(layout(&scratch.data()), stopped);

    let wal = scratch.join("wal");
    let flag = format!("--wal-dir={}", wal.display());
    let server = Launch::new(&scratch.join("apart")).flags(&[&flag]).start();
    assert!(wal.join("0000000000000000-0000000000000000.wal").exists());
    assert!(!scratch.join("apart/member/wal").exists());
    server.terminate();
}

/// Permissions and names of everything in a directory.
fn layout(dir: &Path) -> Vec<String> {
    fn visit(dir: &Path, name: &str, lines: &mut Vec<String>) {
        let path = dir.join(name);
        let metadata = fs::metadata(&path).expect("stat");
        let mode = metadata.permissions().mode();
        let bits: String = (0..9)
            .rev()
            .map(|bit| if mode >> bit & 1 == 0 { '-' } else { char::from(b"xwr"[bit % 3]) })
            .collect();
        lines.push(format!("{}{bits} {name}", if metadata.is_dir() { 'd' } else { '-' }));
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).expect("list") {
                let entry = entry.expect("list").file_name().into_string().expect("UTF-8");
                let name = if name == "." { entry } else { format!("{name}/{entry}") };
                visit(dir, &name, lines);
            }
        }
    }
    let mut lines = Vec::new();
    visit(dir, ".", &mut lines);
    lines.sort_by(|a, b| a.split_once(' ').map(|a| a.1).cmp(&b.split_once(' ').map(|b| b.1)));
    lines
}

#[test]
fn a_signal_ends_it_after_everything_is_on_disk() {
    let scratch = Scratch::new("signals");
    // Nothing but the stop writes the backend.
    let launch = Launch::new(&scratch.data()).flags(&["--backend-batch-interval=1h"]);
    for (signal, name) in [(Signal::TERM, "terminated"), (Signal::INT, "interrupt")] {
        let server = launch.start();
        server.client().put(name.as_bytes(), b"v").expect("put");
        let end = server.signal(signal);
        assert_eq!(end.signal(), Some(signal.as_raw()));
        let line = end.lines.iter().find(|line| line.contains("received signal")).expect("a line");
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["msg"], "received signal; shutting down");
        assert_eq!(line["signal"], name);
        let db = fs::read(scratch.join("data/member/snap/db")).expect("read");
        let is_found = db.windows(name.len()).any(|bytes| bytes == name.as_bytes());
        assert!(is_found, "{name} is not in the backend");
        assert!(!scratch.join("data/member/wal/0.tmp").exists());
    }
}

#[test]
fn systemd_is_told_when_it_serves_and_when_it_stops() {
    let scratch = Scratch::new("notify");
    let path = scratch.join("notify");
    let socket = UnixDatagram::bind(&path).expect("bind");
    let mut message = [0; 64];
    let mut receive = || {
        let len = socket.recv(&mut message).expect("a datagram");
        String::from_utf8_lossy(&message[..len]).into_owned()
    };
    let path = path.to_str().expect("UTF-8");
    let server = Launch::new(&scratch.data()).env("NOTIFY_SOCKET", path).start();
    assert_eq!(receive(), "READY=1");
    server.terminate();
    assert_eq!(receive(), "STOPPING=1");
}

#[test]
fn a_signal_during_the_start_ends_it_in_order() {
    let scratch = Scratch::new("early");
    let end = Launch::new(&scratch.data()).start_and_signal(Signal::TERM);
    assert_eq!(end.signal(), Some(Signal::TERM.as_raw()));
    let last = end.lines.last().expect("a line");
    assert!(last.contains("\"msg\":\"stopped\""), "{}", end.log());
}

#[test]
fn the_log_is_zaps() {
    let scratch = Scratch::new("log");
    let end = Launch::new(&scratch.data()).start().terminate();
    for line in &end.lines {
        let line: Value = serde_json::from_str(line).expect("JSON");
        for key in ["level", "ts", "caller", "msg"] {
            assert!(line[key].is_string(), "no {key} in {line}");
        }
        let level = line["level"].as_str().expect("a level");
        assert!(["debug", "info", "warn", "error", "fatal"].contains(&level), "{line}");
    }
    let path = scratch.join("file.log");
    let outputs = format!("--log-outputs=stderr,{}", path.display());
    let end = Launch::new(&scratch.data()).flags(&[&outputs]).start().terminate();
    assert_eq!(fs::read_to_string(path).expect("read"), end.log() + "\n");
    let unknown = bare(&scratch, &["--log-level=loud"]);
    assert!([1, 2].contains(&unknown.code()));
}

#[test]
fn what_clients_send_is_written_when_asked_for_in_go_s_way() {
    let scratch = Scratch::new("http2debug");
    let field = "http2: decoded hpack field header field \":path\" = \"/etcdserverpb.KV/Put\"";
    for (value, expected) in [("http2debug=2", true), ("gctrace=0,http2debug=2", true), ("", false)]
    {
        let server = Launch::new(&scratch.data()).env("GODEBUG", value).start();
        server.client().put(b"key", b"value").expect("put");
        let end = server.terminate();
        assert_eq!(end.lines.iter().any(|line| line.ends_with(field)), expected, "{value}");
    }
}

#[test]
fn clients_may_come_through_a_socket_file() {
    let scratch = Scratch::new("unix");
    let path = scratch.join("s");
    let url = format!("unix://{}", path.display());
    let flags = ["--listen-client-urls", &url];
    let server = Launch::new(&scratch.data()).flags(&flags).start();
    assert_eq!(server.address, path.to_str().expect("UTF-8"));
    let answer = page_over_socket(&path, "/health");
    assert!(answer.ends_with("{\"health\":\"true\",\"reason\":\"\"}"), "{answer}");
    // The socket of a server that was killed is in nobody's way.
    server.kill();
    assert!(path.exists());
    let server = Launch::new(&scratch.data()).flags(&flags).start();
    let answer = page_over_socket(&path, "/health");
    assert!(answer.ends_with("{\"health\":\"true\",\"reason\":\"\"}"), "{answer}");
    server.terminate();
    assert!(!path.exists(), "the socket was left behind");
}

fn page_over_socket(path: &Path, page: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = UnixStream::connect(path).expect("connect");
    write!(stream, "GET {page} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n").expect("send");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("receive");
    text
}

#[test]
fn metrics_have_etcds_names_and_count() {
    let scratch = Scratch::new("metrics");
    let server = Launch::new(&scratch.data()).flags(&["--quota-backend-bytes=77777777"]).start();
    let before = server.metrics();
    let client = server.client();
    for _ in 0..5 {
        client.put(b"k", b"v").expect("put");
    }
    client.get(b"k").expect("get");
    client.delete(b"k").expect("delete");
    let metrics = server.metrics();
    for (name, delta) in [
        ("etcd_mvcc_put_total", 5.0),
        ("etcd_mvcc_delete_total", 1.0),
        ("etcd_debugging_mvcc_current_revision", 6.0),
        ("etcd_server_proposals_applied_total", 6.0),
        ("etcd_server_proposals_committed_total", 6.0),
    ] {
        assert_eq!(metrics[name] - before[name], delta, "{name}");
    }
    for (name, value) in [
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_is_leader", 1.0),
        ("etcd_server_is_learner", 0.0),
        ("etcd_server_quota_backend_bytes", 77_777_777.0),
        ("etcd_debugging_mvcc_keys_total", 0.0),
        ("etcd_cluster_version{cluster_version=\"3.7\"}", 1.0),
        ("etcd_server_version{server_version=\"3.7.3\"}", 1.0),
        ("etcd_server_leader_changes_seen_total", 1.0),
    ] {
        assert_eq!(metrics.get(name), Some(&value), "{name}");
    }
    for name in [
        "etcd_disk_wal_fsync_duration_seconds_count",
        "etcd_disk_wal_write_bytes_total",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "etcd_network_client_grpc_received_bytes_total",
        "etcd_network_client_grpc_sent_bytes_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "os_fd_limit",
        "os_fd_used",
    ] {
        assert!(metrics.get(name).is_some_and(|&value| value > 0.0), "{name}");
    }
    let handled = "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}";
    assert_eq!(metrics.get(handled), Some(&5.0));
    let is_missing = |name: &&&str| {
        !metrics.keys().any(|sample| {
            let rest = sample.strip_prefix(**name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['{', '_']))
        })
    };
    let missing: Vec<&&str> = ETCD_NAMES.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn metrics_tell_of_background_work() {
    let scratch = Scratch::new("background");
    let server = Launch::new(&scratch.data()).flags(&["--snapshot-count=10"]).start();
    let client = server.client();
    let grant = pb::LeaseGrantRequest { ttl: 600, id: 7 };
    client.call::<pb::LeaseGrantResponse>("Lease/LeaseGrant", &grant).expect("grant");
    let mut revision = 0;
    for _ in 0..30 {
        revision = client.put(b"k", b"v").expect("put");
    }
    let compact = pb::CompactionRequest { revision, physical: true };
    client.call::<pb::CompactionResponse>("KV/Compact", &compact).expect("compact");
    let metrics = server.metrics();
    for (name, value) in [
        ("etcd_debugging_lease_ttl_total_sum", 600.0),
        ("etcd_debugging_mvcc_db_compaction_keys_total", 29.0),
        ("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count", 1.0),
    ] {
        assert_eq!(metrics.get(name), Some(&value), "{name}");
    }
    // A physical compaction answers when the backend has been committed.
    for name in [
        "etcd_disk_backend_commit_duration_seconds_count",
        "etcd_debugging_disk_backend_commit_write_duration_seconds_sum",
        "etcd_debugging_disk_backend_commit_spill_duration_seconds_sum",
        "etcd_disk_wal_fsync_duration_seconds_sum",
        "etcd_disk_wal_write_duration_seconds_sum",
        "etcd_debugging_mvcc_db_compaction_last",
    ] {
        assert!(metrics.get(name).is_some_and(|&value| value > 0.0), "{name}");
    }
}

/// As etcd 3.7.3 counts them: what a member asks of itself like what a client asks.
#[test]
fn requests_of_its_own_are_counted() {
    let scratch = Scratch::new("own-requests");
    let server = Launch::new(&scratch.data()).start();
    let grant = pb::LeaseGrantRequest { ttl: 1, id: 7 };
    server.client().call::<pb::LeaseGrantResponse>("Lease/LeaseGrant", &grant).expect("grant");
    let counts = |metrics: &BTreeMap<String, f64>, prefix: &str| {
        let found = metrics.iter().filter(|(name, _)| name.starts_with(prefix));
        found.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>()
    };
    let metrics = eventually("the end of the lease", || {
        let metrics = server.metrics();
        let revoked = metrics.iter().any(|(name, _)| {
            name.starts_with("etcd_server_request_duration_seconds_count")
                && name.contains("LeaseRevoke")
        });
        revoked.then_some(metrics)
    });
    let types = ["ClusterMemberAttrSet", "ClusterVersionSet", "LeaseGrant", "LeaseRevoke"];
    let name = "etcd_server_request_duration_seconds_count";
    let expected = types.map(|kind| format!("{name}{{success=\"true\",type=\"{kind}\"}} 1"));
    assert_eq!(counts(&metrics, name), expected);
    let name = "etcd_server_apply_duration_seconds_count";
    let expected =
        types.map(|kind| format!("{name}{{op=\"{kind}\",success=\"true\",version=\"v3\"}} 1"));
    assert_eq!(counts(&metrics, name), expected);
}

/// What a member shows from the beginning, without the names of the v2 store.
const ETCD_NAMES: &[&str] = &[
    "etcd_debugging_auth_revision",
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
    "etcd_debugging_disk_backend_commit_spill_duration_seconds",
    "etcd_debugging_disk_backend_commit_write_duration_seconds",
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_renewed_total",
    "etcd_debugging_lease_revoked_total",
    "etcd_debugging_lease_ttl_total",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_db_compaction_keys_total",
    "etcd_debugging_mvcc_db_compaction_last",
    "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
    "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
    "etcd_debugging_mvcc_events_total",
    "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
    "etcd_debugging_mvcc_pending_events_total",
    "etcd_debugging_mvcc_slow_watcher_total",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_debugging_mvcc_watch_stream_total",
    "etcd_debugging_mvcc_watcher_total",
    "etcd_debugging_server_lease_expired_total",
    "etcd_debugging_snap_save_total_duration_seconds",
    "etcd_disk_backend_commit_duration_seconds",
    "etcd_disk_backend_defrag_duration_seconds",
    "etcd_disk_backend_snapshot_duration_seconds",
    "etcd_disk_defrag_inflight",
    "etcd_disk_wal_write_duration_seconds",
    "etcd_mvcc_hash_duration_seconds",
    "etcd_mvcc_hash_rev_duration_seconds",
    "etcd_mvcc_range_total",
    "etcd_mvcc_txn_total",
    "etcd_server_apply_duration_seconds",
    "etcd_server_client_requests_total",
    "etcd_server_feature_enabled",
    "etcd_server_go_version",
    "etcd_server_health_failures",
    "etcd_server_health_success",
    "etcd_server_heartbeat_send_failures_total",
    "etcd_server_id",
    "etcd_server_proposals_failed_total",
    "etcd_server_proposals_pending",
    "etcd_server_range_duration_seconds",
    "etcd_server_read_indexes_failed_total",
    "etcd_server_request_duration_seconds",
    "etcd_server_slow_apply_total",
    "etcd_server_slow_read_indexes_total",
    "etcd_server_snapshot_apply_in_progress_total",
    "etcd_snap_db_fsync_duration_seconds",
    "etcd_snap_db_save_total_duration_seconds",
    "etcd_snap_fsync_duration_seconds",
];
