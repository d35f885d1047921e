//! `go_*`: the names that dashboards and checks ask every Go program for.
//!
//! DIFF(etcd): they tell of the Go runtime there. Here those have a value that mean something for any
//! process, and the others are 0.

use prometheus::core::Desc;
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType, Quantile, Summary};

use super::process::Stat;

/// Reads `/proc/self` at every scrape.
pub(super) struct Collector {
    descs: Vec<Desc>,
}

#[derive(Clone, Copy)]
enum Fact {
    Threads,
    Processors,
    ResidentBytes,
    /// Nothing here corresponds to it.
    None,
}

const PAUSES: (&str, &str) =
    ("go_gc_duration_seconds", "Pauses of a garbage collector; there is none.");

const GAUGES: [(Fact, &str, &str); 24] = [
    (Fact::None, "go_gc_gogc_percent", "There is no garbage collector; 0."),
    (Fact::None, "go_gc_gomemlimit_bytes", "There is no garbage collector; 0."),
    (Fact::Threads, "go_goroutines", "Threads; there are no goroutines."),
    (Fact::ResidentBytes, "go_memstats_alloc_bytes", "Resident memory."),
    (Fact::None, "go_memstats_buck_hash_sys_bytes", "Of the Go runtime alone; 0."),
    (Fact::None, "go_memstats_gc_sys_bytes", "Of the Go runtime alone; 0."),
    (Fact::ResidentBytes, "go_memstats_heap_alloc_bytes", "Resident memory."),
    (Fact::None, "go_memstats_heap_idle_bytes", "Of the Go runtime alone; 0."),
    (Fact::ResidentBytes, "go_memstats_heap_inuse_bytes", "Resident memory."),
    (Fact::None, "go_memstats_heap_objects", "Of the Go runtime alone; 0."),
    (Fact::None, "go_memstats_heap_released_bytes", "Of the Go runtime alone; 0."),
    (Fact::ResidentBytes, "go_memstats_heap_sys_bytes", "Resident memory."),
    (Fact::None, "go_memstats_last_gc_time_seconds", "There is no garbage collector; 0."),
    (Fact::None, "go_memstats_mcache_inuse_bytes", "Of the Go runtime alone; 0."),
    (Fact::None, "go_memstats_mcache_sys_bytes", "Of the Go runtime alone; 0."),
    (Fact::None, "go_memstats_mspan_inuse_bytes", "Of the Go runtime alone; 0."),
    (Fact::None, "go_memstats_mspan_sys_bytes", "Of the Go runtime alone; 0."),
    (Fact::None, "go_memstats_next_gc_bytes", "There is no garbage collector; 0."),
    (Fact::None, "go_memstats_other_sys_bytes", "Of the Go runtime alone; 0."),
    (Fact::None, "go_memstats_stack_inuse_bytes", "Of the Go runtime alone; 0."),
    (Fact::None, "go_memstats_stack_sys_bytes", "Of the Go runtime alone; 0."),
    (Fact::ResidentBytes, "go_memstats_sys_bytes", "Resident memory."),
    (Fact::Processors, "go_sched_gomaxprocs_threads", "Processors this process may use."),
    (Fact::Threads, "go_threads", "Threads."),
];

const COUNTERS: [(&str, &str); 3] = [
    ("go_memstats_alloc_bytes_total", "Of the Go runtime alone; 0."),
    ("go_memstats_frees_total", "Of the Go runtime alone; 0."),
    ("go_memstats_mallocs_total", "Of the Go runtime alone; 0."),
];

impl Collector {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let gauges = GAUGES.iter().map(|(_, name, help)| (*name, *help));
        let mut descs = Vec::new();
        for (name, help) in gauges.chain(COUNTERS).chain([PAUSES]) {
            descs.push(Desc::new(name.to_owned(), help.to_owned(), Vec::new(), [].into())?);
        }
        Ok(Self { descs })
    }
}

impl prometheus::core::Collector for Collector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floating point")]
    fn collect(&self) -> Vec<MetricFamily> {
        let stat = Stat::read();
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        let mut families = Vec::with_capacity(self.descs.len());
        for (fact, name, help) in GAUGES {
            let mut gauge = Gauge::default();
            gauge.set_value(match fact {
                Fact::Threads => stat.threads as f64,
                Fact::Processors => processors as f64,
                Fact::ResidentBytes => stat.resident_bytes as f64,
                Fact::None => 0.0,
            });
            let mut metric = Metric::default();
            metric.set_gauge(gauge);
            families.push(family(name, help, MetricType::GAUGE, metric));
        }
        for (name, help) in COUNTERS {
            let mut metric = Metric::default();
            metric.set_counter(Counter::default());
            families.push(family(name, help, MetricType::COUNTER, metric));
        }
        families.push(pauses());
        families
    }
}

/// An empty summary with the quantiles that Go's has.
fn pauses() -> MetricFamily {
    let quantiles = [0.0, 0.25, 0.5, 0.75, 1.0].map(|at| {
        let mut quantile = Quantile::default();
        quantile.set_quantile(at);
        quantile
    });
    let mut summary = Summary::default();
    summary.set_quantile(quantiles.into());
    let mut metric = Metric::default();
    metric.set_summary(summary);
    family(PAUSES.0, PAUSES.1, MetricType::SUMMARY, metric)
}

fn family(name: &str, help: &str, kind: MetricType, metric: Metric) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(vec![metric]);
    family
}
