//! Each command, as a process, against a member in this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use server::{Config, Member, Url};

/// A member, and a folder for it that is removed in the end.
struct Bench {
    folder: PathBuf,
    member: Option<Member>,
}

impl Bench {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("benchmark-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let any = || vec![Url::parse("http://127.0.0.1:0").expect("a URL")];
        let config = Config {
            data_dir: folder.join("data"),
            listen_client_urls: any(),
            listen_peer_urls: any(),
            ..Config::default()
        };
        let member = Some(Member::start(&config).expect("a member"));
        Self { folder, member }
    }

    fn run(&self, line: &str) -> Output {
        let member = self.member.as_ref().expect("it runs");
        let endpoint = member.client_addresses()[0].clone();
        Command::new(env!("CARGO_BIN_EXE_benchmark"))
            .args(line.split_whitespace())
            .args(["--endpoints", &endpoint])
            .current_dir(&self.folder)
            .env_remove("ARTIFACTS")
            .output()
            .expect("a process")
    }

    fn success(&self, line: &str) -> String {
        let output = self.run(line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {stderr}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn failure(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(output.stdout.is_empty(), "{line}");
        String::from_utf8(output.stderr).expect("text")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(member) = self.member.take() {
            member.stop();
        }
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Requests that a report in JSON tells of.
fn requests(line: &str) -> (String, u64) {
    let text =
        |rest: &str| rest.chars().take_while(|c| !matches!(c, '"' | ',')).collect::<String>();
    let after = |name: &str| line.split_once(name).map(|(_, rest)| text(rest)).unwrap_or_default();
    assert!(line.contains("\"errors\":{}"), "{line}");
    let count = after("\"requests\":").parse().expect("a number");
    (after("\"operation\":\""), count)
}

#[test]
fn every_command_makes_as_many_requests_as_it_is_told() {
    let bench = Bench::new("commands");
    for (line, expected) in [
        ("put --total 200 --clients 8 --conns 3 --key-space-size 50", &[("put", 200)][..]),
        ("put --total 20 --sequential-keys --key-space-size 20 --rate 2000", &[("put", 20)]),
        ("range a z --total 50 --clients 4", &[("range", 50)]),
        ("range --prefix --stream --consistency s --total 20 a", &[("range", 20)]),
        ("range --paginate --limit 5 --keys-only --total 3 ! ~", &[("range", 3)]),
        ("txn-put --total 40 --txn-ops 3 --key-space-size 9", &[("txn-put", 40)]),
        ("txn-mixed --total 1 --rw-ratio 0", &[("txn-mixed-read", 0), ("txn-mixed-write", 1)]),
        ("stm --total 30 --clients 3 --keys 5 --keys-per-txn 2 --isolation ss", &[("stm", 30)]),
        ("stm --total 10 --clients 2 --stm-locker lock-client", &[("stm", 10)]),
        ("stm --total 10 --clients 2 --stm-locker lock-rpc", &[("stm", 10)]),
        ("lease-keepalive --total 30 --clients 2", &[("lease-keepalive", 30)]),
        (
            "watch --streams 3 --watch-per-stream 4 --watched-key-total 2 --key-space-size 2 --sequential-keys --put-total 10",
            &[("watch-create", 12), ("watch-events", 60)],
        ),
        (
            "watch-latency --streams 2 --watchers-per-stream 3 --put-total 10 --put-rate 1000 --prevkv",
            &[("watch-latency-put", 10), ("watch-latency", 60)],
        ),
        ("mvcc put --total 500 --txn --txn-ops 2", &[("mvcc-put", 500)]),
    ] {
        let stdout = bench.success(&format!("{line} --json"));
        let found: Vec<(String, u64)> =
            stdout.lines().filter(|line| line.starts_with('{')).map(requests).collect();
        let found: Vec<(&str, u64)> =
            found.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(found, expected, "{line}");
    }
    // Reads go on for as long as watchers catch up.
    let stdout = bench.success("watch-get --watchers 20 --events 3 --json");
    assert_eq!(requests(stdout.trim()).0, "watch-get");
}

#[test]
fn the_report_is_a_text() {
    let bench = Bench::new("report");
    let text = bench.success("put --total 100 --check-hashkv --sample");
    for part in [
        "\nSummary:\n  Total:\t",
        "\nResponse time histogram:\n  0.",
        "\nLatency distribution:\n  10% in 0.",
        "\nThis tool's own CPU:\t",
        "\nUNIX-SECOND,MIN-LATENCY-MS,AVG-LATENCY-MS,MAX-LATENCY-MS,AVG-THROUGHPUT\n",
        "\nHashKV Summary:\n\tHashKV: ",
        "\n\tDB size: ",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let text = bench.success("range --total 10 --precise key");
    assert!(text.starts_with("bench with linearizable range\n\nSummary:\n"), "{text}");
    let text = bench.success("put --total 10 --report-perfdash");
    let (_, path) = text.trim().rsplit_once(" at ").expect("a path");
    let dash = fs::read_to_string(bench.folder.join(path)).expect("a file");
    assert!(dash.contains("\"Operation\": \"PUT\""), "{dash}");
}

#[test]
fn what_cannot_be_run_is_said() {
    let bench = Bench::new("refused");
    for (line, expected) in [
        ("put --key-space-size 0", "expected positive --key-space-size, got (0)\n"),
        ("put --total -1", "expected non-negative --total, got (-1)\n"),
        (
            "txn-put --txn-ops 2",
            "expected --txn-ops no larger than --key-space-size, got txn-ops(2) key-space-size(1)\n",
        ),
        ("stm --txn-wr-percent 101", "expected [0, 100] --txn-wr-percent, got (101)\n"),
        ("stm --keys-per-txn 2", "expected --keys-per-txn between 0 and 1, got (2)\n"),
        ("stm --stm-locker what", "unexpected stm locker \"what\"\n"),
        ("range", "expected a key and an end at most, got 0\n"),
        ("range --consistency x key", "unknown --consistency \"x\", want l or s\n"),
        ("put --cacert x", "--cacert: TLS is not supported yet\n"),
    ] {
        assert_eq!(bench.failure(line), expected, "{line}");
    }
    let stderr = bench.failure("put --nope");
    assert!(
        stderr.starts_with("Error: unknown flag: --nope\nUsage:\n  benchmark put [flags]\n"),
        "{stderr}"
    );
    let stderr = bench.failure("nope");
    assert_eq!(
        stderr,
        "Error: unknown command \"nope\" for \"benchmark\"\nRun 'benchmark --help' for usage.\n"
    );
}
