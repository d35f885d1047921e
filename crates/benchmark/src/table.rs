//! Commands and flags, with etcd's names, defaults and texts.

use cobra::{Command, Flag, Kind, Program};

use crate::command::{self, Action};

const fn int(name: &'static str, default: &'static str, usage: &'static str) -> Flag {
    Flag::new(name, Kind::Int, default, usage)
}

const fn text(name: &'static str, default: &'static str, usage: &'static str) -> Flag {
    Flag::new(name, Kind::Text, default, usage)
}

const GLOBAL: &[Flag] = &[
    Flag::new("endpoints", Kind::List, "[127.0.0.1:2379]", "gRPC endpoints"),
    Flag::new("conns", Kind::Uint, "1", "Total number of gRPC connections"),
    Flag::new("clients", Kind::Uint, "1", "Total number of gRPC clients"),
    Flag::switch("precise", "use full floating point precision"),
    Flag::switch("sample", "'true' to sample requests for every second"),
    text("cert", "", "identify HTTPS client using this SSL certificate file"),
    text("key", "", "identify HTTPS client using this SSL key file"),
    text("cacert", "", "verify certificates of HTTPS-enabled servers using this CA bundle"),
    Flag::switch("insecure-skip-tls-verify", "skip server certificate verification"),
    text("user", "", "provide username[:password] and prompt if password is not supplied."),
    Flag::new("dial-timeout", Kind::Duration, "0s", "dial timeout for client connections"),
    Flag::switch("target-leader", "connect only to the leader node"),
    Flag::new(
        "auto-sync-interval",
        Kind::Duration,
        "0s",
        "AutoSyncInterval is the interval to update endpoints with its latest members",
    ),
    Flag::switch("report-perfdash", "generate and write a perfdash report to a file"),
    Flag::switch("json", "print the report as JSON"),
];

const PUT: &[Flag] = &[
    int("key-size", "8", "Key size of put request"),
    int("val-size", "8", "Value size of put request"),
    int("rate", "0", "Maximum puts per second (0 is no limit)"),
    int("total", "10000", "Total number of put requests"),
    int("key-space-size", "1", "Maximum possible keys"),
    Flag::switch("sequential-keys", "Use sequential keys"),
    Flag::new(
        "compact-interval",
        Kind::Duration,
        "0s",
        "Interval to compact database (do not duplicate this with etcd's 'auto-compaction-retention' flag) (e.g. --compact-interval=5m compacts every 5-minute)",
    ),
    int(
        "compact-index-delta",
        "1000",
        "Delta between current revision and compact revision (e.g. current revision 10000, compact at 9000)",
    ),
    Flag::switch("check-hashkv", "'true' to check hashkv"),
];

const RANGE: &[Flag] = &[
    int("rate", "0", "Maximum range requests per second (0 is no limit)"),
    int("total", "10000", "Total number of range requests"),
    text("consistency", "l", "Linearizable(l) or Serializable(s)"),
    int("limit", "0", "Maximum number of results to return from range request (0 is no limit)"),
    Flag::switch("count-only", "Only returns the count of keys"),
    Flag::switch("keys-only", "Only returns the keys"),
    Flag::switch("prefix", "Range over the keys that begin with the key"),
    Flag::switch("stream", "Use RangeStream"),
    Flag::switch(
        "paginate",
        "Read on behind the last key until all are read, --limit keys at a time",
    ),
];

const STM: &[Flag] = &[
    text(
        "isolation",
        "r",
        "Read Committed (c), Repeatable Reads (r), Serializable (s), or Snapshot (ss)",
    ),
    int("keys", "1", "Total unique keys accessible by the benchmark"),
    int("total", "10000", "Total number of completed STM transactions"),
    int("keys-per-txn", "1", "Number of keys to access per transaction"),
    int("txn-wr-percent", "50", "Percentage of keys to overwrite per transaction"),
    text(
        "stm-locker",
        "stm",
        "Wrap STM transaction with a custom locking mechanism (stm, lock-client, lock-rpc)",
    ),
    int("val-size", "8", "Value size of each STM put request"),
    int("rate", "0", "Maximum STM transactions per second (0 is no limit)"),
];

const TXN_MIXED: &[Flag] = &[
    int("key-size", "8", "Key size of mixed txn"),
    int("val-size", "8", "Value size of mixed txn"),
    int("rate", "0", "Maximum txns per second (0 is no limit)"),
    int("total", "10000", "Total number of txn requests"),
    text(
        "end-key",
        "",
        "Read operation range end key. By default, we do full range query with the default limit of 1000.",
    ),
    int("limit", "1000", "Read operation range result limit"),
    int("key-space-size", "1", "Maximum possible keys"),
    text("consistency", "l", "Linearizable(l) or Serializable(s)"),
    Flag::new("rw-ratio", Kind::Float, "1", "Read/write ops ratio"),
];

const TXN_PUT: &[Flag] = &[
    int("key-size", "8", "Key size of txn put"),
    int("val-size", "8", "Value size of txn put"),
    int("txn-ops", "1", "Number of puts per txn"),
    int("rate", "0", "Maximum txns per second (0 is no limit)"),
    int("total", "10000", "Total number of txn requests"),
    int("key-space-size", "1", "Maximum possible keys"),
];

const WATCH: &[Flag] = &[
    int("streams", "10", "Total watch streams"),
    int("watch-per-stream", "100", "Total watchers per stream"),
    int("watched-key-total", "1", "Total number of keys to be watched"),
    int("put-rate", "0", "Number of keys to put per second"),
    int("put-total", "1000", "Number of put requests"),
    int("key-size", "32", "Key size of watch request"),
    int("key-space-size", "1", "Maximum possible keys"),
    Flag::switch("sequential-keys", "Use sequential keys"),
];

const WATCH_GET: &[Flag] = &[
    int("watchers", "10000", "Total number of watchers"),
    int("streams", "1", "Total number of watcher streams"),
    int("events", "8", "Number of events per watcher"),
];

const WATCH_LATENCY: &[Flag] = &[
    int("streams", "10", "Total watch streams"),
    int("watchers-per-stream", "10", "Total watchers per stream"),
    Flag::switch("prevkv", "PrevKV enabled on watch requests"),
    int("put-total", "1000", "Total number of put requests"),
    int("put-rate", "100", "Number of keys to put per second"),
    int("key-size", "32", "Key size of watch response"),
    int("val-size", "32", "Value size of watch response"),
];

const LEASE: &[Flag] = &[int("total", "10000", "Total number of lease keepalive requests")];

const MVCC: &[Flag] = &[
    int("batch-interval", "100", "Interval of batching (milliseconds)"),
    int("batch-limit", "10000", "A limit of batched transaction"),
];

const MVCC_PUT: &[Flag] = &[
    int("total", "100", "a total number of keys to put"),
    int("key-size", "64", "a size of key (Byte)"),
    int("value-size", "64", "a size of value (Byte)"),
    Flag::switch("txn", "put a key in transaction or not"),
    int("txn-ops", "1", "a number of keys to put per transaction"),
    text("cpuprofile", "", "the path of file for storing cpu profile result"),
    text("memprofile", "", "the path of file for storing heap profile result"),
];

const WATCH_LONG: &str = "Benchmark watch tests the performance of processing watch requests and
sending events to watchers. It tests the sending performance by
changing the value of the watched keys with concurrent put
requests.

During the test, each watcher watches (--total/--watchers) keys

(a watcher might watch on the same key multiple times if
--watched-key-total is small).

Each key is watched by (--total/--watched-key-total) watchers.
";

/// The program.
pub(crate) const PROGRAM: Program<Action> = Program {
    root: Command {
        long: "benchmark is a low-level benchmark tool for etcd3.
It uses gRPC client directly and does not depend on
etcd client library.
	",
        persistent: GLOBAL,
        ..Command::parent("benchmark", "A low-level benchmark tool for etcd3", COMMANDS)
    },
    groups: &[],
    help_group: "",
    help_long: "Help provides help for any command in the application.
Simply type benchmark help [path to command] for full details.",
    footer: "",
    hides_help: false,
};

const COMMANDS: &[Command<Action>] = &[
    Command::new("lease-keepalive", "Benchmark lease keepalive", command::LEASE_KEEPALIVE)
        .flags(LEASE),
    Command::parent(
        "mvcc",
        "Benchmark mvcc",
        &[Command::new("put", "Benchmark put performance of storage", command::MVCC_PUT)
            .flags(MVCC_PUT)],
    )
    .long(
        "storage subcommand is a set of various benchmark tools for MVCC storage subsystem of etcd.
Actual benchmarks are implemented as its subcommands.",
    )
    .persistent(MVCC),
    Command::new("put", "Benchmark put", command::PUT).flags(PUT),
    Command::new("range key [end-range]", "Benchmark range", command::RANGE).flags(RANGE),
    Command::new("stm", "Benchmark STM", command::STM).flags(STM),
    Command::new(
        "txn-mixed key [end-range]",
        "Benchmark a mixed load of txn-put & txn-range.",
        command::TXN_MIXED,
    )
    .flags(TXN_MIXED),
    Command::new("txn-put", "Benchmark txn-put", command::TXN_PUT).flags(TXN_PUT),
    Command::new("watch", "Benchmark watch", command::WATCH).long(WATCH_LONG).flags(WATCH),
    Command::new("watch-get", "Benchmark watch with get", command::WATCH_GET)
        .long("Benchmark for serialized key gets with many unsynced watchers")
        .flags(WATCH_GET),
    Command::new("watch-latency", "Benchmark watch latency", command::WATCH_LATENCY)
        .long(
            "Benchmarks the latency for watches by measuring
	the latency between writing to a key and receiving the
	associated watch response.",
        )
        .flags(WATCH_LATENCY),
];
