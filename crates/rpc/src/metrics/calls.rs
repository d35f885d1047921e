//! `grpc_server_*`: counted by each core for itself, added up when they are scraped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::Code;
use api::service::{Kind, METHODS, Method, Rpc};
use parking_lot::Mutex;
use prometheus::core::Desc;
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};

use super::{RPC_COUNT, row};

const CODES: usize = Code::ALL.len();
/// A counter that one thread writes and any thread reads: an addition without a locked instruction.
#[derive(Debug, Default)]
struct Local(AtomicU64);

impl Local {
    fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Row {
    started: Local,
    received: Local,
    sent: Local,
    handled: [Local; CODES],
}

/// What one core counts about its calls. Only that core's thread may write.
#[derive(Debug)]
pub(crate) struct CallCounters {
    rows: Vec<Row>,
}

impl CallCounters {
    pub(super) fn new() -> Self {
        Self { rows: std::iter::repeat_with(Row::default).take(RPC_COUNT).collect() }
    }

    /// A call began.
    pub(crate) fn started(&self, rpc: Rpc) {
        self.rows[row(rpc)].started.add(1);
    }

    /// A message came.
    pub(crate) fn received(&self, rpc: Rpc) {
        self.rows[row(rpc)].received.add(1);
    }

    /// A message was queued for sending.
    pub(crate) fn sent(&self, rpc: Rpc) {
        self.rows[row(rpc)].sent.add(1);
    }

    /// A call ended with this code.
    pub(crate) fn handled(&self, rpc: Rpc, code: Code) {
        self.rows[row(rpc)].handled[code as usize].add(1);
    }
}

/// The sum over all cores, as Prometheus wants it.
pub(super) struct Collector {
    cores: Arc<Mutex<Vec<Arc<CallCounters>>>>,
    descs: Vec<Desc>,
}

const STARTED: (&str, &str) = ("grpc_server_started_total", "Calls that began.");
const RECEIVED: (&str, &str) = ("grpc_server_msg_received_total", "Messages received.");
const SENT: (&str, &str) = ("grpc_server_msg_sent_total", "Messages sent.");
const HANDLED: (&str, &str) = ("grpc_server_handled_total", "Calls that ended, by code.");

impl Collector {
    pub(super) fn new(
        cores: Arc<Mutex<Vec<Arc<CallCounters>>>>,
    ) -> Result<Self, prometheus::Error> {
        let plain = ["grpc_method", "grpc_service", "grpc_type"];
        let coded = ["grpc_code", "grpc_method", "grpc_service", "grpc_type"];
        let mut descs = Vec::new();
        for ((name, help), labels) in
            [(STARTED, &plain[..]), (RECEIVED, &plain), (SENT, &plain), (HANDLED, &coded)]
        {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            descs.push(Desc::new(name.to_owned(), help.to_owned(), labels, [].into())?);
        }
        Ok(Self { cores, descs })
    }
}

impl prometheus::core::Collector for Collector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let cores = self.cores.lock().clone();
        let plain = |(name, help): (&str, &str), count: fn(&Row) -> u64| {
            let metrics = METHODS.iter().filter_map(|method| {
                let total = cores.iter().map(|core| count(&core.rows[row(method.rpc)])).sum();
                is_shown(method, total).then(|| metric(labels(method, None), total))
            });
            family(name, help, metrics.collect())
        };
        let mut handled = Vec::with_capacity(RPC_COUNT * CODES);
        for method in &METHODS {
            for code in Code::ALL {
                let count = |core: &Arc<CallCounters>| {
                    core.rows[row(method.rpc)].handled[code as usize].get()
                };
                let total = cores.iter().map(count).sum();
                if is_shown(method, total) {
                    handled.push(metric(labels(method, Some(code.name())), total));
                }
            }
        }
        vec![
            plain(STARTED, |row| row.started.get()),
            plain(RECEIVED, |row| row.received.get()),
            plain(SENT, |row| row.sent.get()),
            family(HANDLED.0, HANDLED.1, handled),
        ]
    }
}

/// Locks and elections join etcd's server after it has made its counters, and reflection is none of etcd's: theirs appear
/// with the first call.
fn is_shown(method: &Method, total: u64) -> bool {
    const LATE: [&str; 3] =
        ["v3lockpb.Lock", "v3electionpb.Election", "grpc.reflection.v1.ServerReflection"];
    total > 0 || !LATE.contains(&method.service)
}

/// The values of the labels method, service and type.
pub(super) fn label_values(method: &Method) -> [&'static str; 3] {
    let kind = match method.kind {
        Kind::Unary => "unary",
        Kind::ServerStream => "server_stream",
        Kind::ClientStream => "client_stream",
        Kind::Bidi => "bidi_stream",
    };
    [method.name, method.service, kind]
}

fn labels(method: &Method, code: Option<&str>) -> Vec<LabelPair> {
    let code = code.map(|code| ("grpc_code", code));
    let rest = ["grpc_method", "grpc_service", "grpc_type"].into_iter().zip(label_values(method));
    code.into_iter().chain(rest).map(|(name, value)| label(name, value)).collect()
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floating point")]
fn metric(labels: Vec<LabelPair>, total: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(total as f64);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

fn family(name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::COUNTER);
    family.set_metric(metrics);
    family
}
