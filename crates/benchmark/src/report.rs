//! How long requests took, and the text that says so: that of etcd's tool.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde_json::json;

use cobra::go;

const BARS: usize = 10;
const BAR_WIDTH: u64 = 40;
const PERCENTILES: [f64; 8] = [10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9];
/// Digits of a time that are kept.
const DIGITS: u8 = 3;

/// What has been measured. Times are nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    times: Histogram<u64>,
    /// As long as these, exactly: the histogram rounds.
    sum: u64,
    errors: BTreeMap<String, u64>,
    /// By second since 1970, if that is wanted.
    seconds: Option<BTreeMap<u64, Second>>,
}

#[derive(Clone, Copy, Debug)]
struct Second {
    least: u64,
    most: u64,
    sum: u64,
    count: u64,
}

impl Record {
    pub(crate) fn new(samples: bool) -> Self {
        Self {
            times: Histogram::new(DIGITS).expect("three digits are possible"),
            sum: 0,
            errors: BTreeMap::new(),
            seconds: samples.then(BTreeMap::new),
        }
    }

    /// A request took this long; it began that long ago.
    pub(crate) fn add(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        // A histogram of this kind grows as it must.
        let _ = self.times.record(nanos);
        self.sum = self.sum.saturating_add(nanos);
        let Some(seconds) = &mut self.seconds else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let begun = now.saturating_sub(took).as_secs();
        let second =
            seconds.entry(begun).or_insert(Second { least: nanos, most: nanos, sum: 0, count: 0 });
        second.least = second.least.min(nanos);
        second.most = second.most.max(nanos);
        second.sum = second.sum.saturating_add(nanos);
        second.count += 1;
    }

    pub(crate) fn add_error(&mut self, why: &impl ToString) {
        *self.errors.entry(why.to_string()).or_default() += 1;
    }

    /// Takes what another has measured at the same time.
    pub(crate) fn merge(&mut self, other: Self) {
        let _ = self.times.add(&other.times);
        self.sum = self.sum.saturating_add(other.sum);
        for (why, count) in other.errors {
            *self.errors.entry(why).or_default() += count;
        }
        let Some(seconds) = &mut self.seconds else { return };
        for (at, theirs) in other.seconds.unwrap_or_default() {
            let second = seconds.entry(at).or_insert(Second { sum: 0, count: 0, ..theirs });
            second.least = second.least.min(theirs.least);
            second.most = second.most.max(theirs.most);
            second.sum = second.sum.saturating_add(theirs.sum);
            second.count += theirs.count;
        }
    }

    /// Requests that were answered.
    pub(crate) fn count(&self) -> u64 {
        self.times.len()
    }
}

/// The processor time that this process has used.
pub(crate) fn cpu_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (secs, nanos) = (u64::try_from(used.tv_sec), u32::try_from(used.tv_nsec));
    Duration::new(secs.unwrap_or(0), nanos.unwrap_or(0))
}

/// From when on is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    begun: Instant,
    cpu: Duration,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self { begun: Instant::now(), cpu: cpu_time() }
    }

    /// All that was measured since.
    pub(crate) fn stop(self, record: Record) -> Report {
        let cpu = cpu_time().saturating_sub(self.cpu);
        Report { record, total: self.begun.elapsed(), cpu, weight: 1.0 }
    }
}

/// A record, and how long it took.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    record: Record,
    total: Duration,
    /// What this process itself has cost.
    cpu: Duration,
    /// Operations that a request stands for.
    weight: f64,
}

/// How numbers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// Four digits behind the point.
    Short,
    /// All digits.
    Full,
}

impl Precision {
    fn show(self, number: f64) -> String {
        match self {
            Self::Short => format!("{number:.4}"),
            // As Go's %g.
            Self::Full if number != 0.0 && number.abs() < 1e-4 => {
                let text = format!("{number:e}");
                let (digits, exponent) = text.split_once("e-").unwrap_or((&text, "0"));
                format!("{digits}e-{exponent:0>2}")
            }
            Self::Full => number.to_string(),
        }
    }
}

fn seconds(nanos: f64) -> f64 {
    nanos / 1e9
}

impl Report {
    /// Each request stands for so many operations.
    pub(crate) fn weighted(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// Requests that were answered.
    pub(crate) fn answered(&self) -> u64 {
        self.record.count()
    }

    fn rate(&self) -> f64 {
        self.record.count() as f64 * self.weight / self.total.as_secs_f64().max(1e-9)
    }

    fn mean(&self) -> f64 {
        self.record.sum as f64 / self.record.count().max(1) as f64
    }

    fn cpu_per_request(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.record.count().max(1) as f64
    }

    /// etcd's text, and what this process has cost behind it.
    pub(crate) fn text(&self, precision: Precision) -> String {
        let mut text = String::new();
        let times = &self.record.times;
        if self.record.count() > 0 {
            let secs = |nanos: f64| format!("{} secs", precision.show(seconds(nanos)));
            let _ = writeln!(text, "\nSummary:");
            let _ = writeln!(text, "  Total:\t{}.", secs(self.total.as_nanos() as f64));
            let _ = writeln!(text, "  Slowest:\t{}.", secs(times.max() as f64));
            let _ = writeln!(text, "  Fastest:\t{}.", secs(times.min() as f64));
            let _ = writeln!(text, "  Average:\t{}.", secs(self.mean()));
            let _ = writeln!(text, "  Stddev:\t{}.", secs(times.stdev()));
            let _ = writeln!(text, "  Requests/sec:\t{}", precision.show(self.rate()));
            self.histogram(precision, &mut text);
            let _ = writeln!(text, "\nLatency distribution:");
            for percentile in PERCENTILES {
                let time = times.value_at_percentile(percentile) as f64;
                let _ = writeln!(text, "  {percentile}% in {}.", secs(time));
            }
            let cost = self.cpu_per_request();
            let _ = writeln!(
                text,
                "\nThis tool's own CPU:\t{}, {cost:.1} us a request.",
                secs(self.cpu.as_nanos() as f64)
            );
            self.samples(&mut text);
        }
        if !self.record.errors.is_empty() {
            let _ = writeln!(text, "\nError distribution:");
            for (why, count) in &self.record.errors {
                let _ = writeln!(text, "  [{count}]\t{why}");
            }
        }
        text
    }

    fn histogram(&self, precision: Precision, text: &mut String) {
        let times = &self.record.times;
        let (least, most) = (times.min(), times.max());
        let mut below = 0;
        let bars: Vec<(u64, u64)> = (0..=BARS)
            .map(|n| {
                let bound =
                    if n == BARS { most } else { least + (most - least) * n as u64 / BARS as u64 };
                let up_to = times.count_between(0, bound);
                let count = up_to - below;
                below = up_to;
                (bound, count)
            })
            .collect();
        let highest = bars.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
        let _ = writeln!(text, "\nResponse time histogram:");
        for (bound, count) in bars {
            let bar = "∎".repeat((count * BAR_WIDTH / highest) as usize);
            let _ = writeln!(text, "  {} [{count}]\t|{bar}", precision.show(seconds(bound as f64)));
        }
    }

    /// A line for each second, also for those in which nothing began.
    fn samples(&self, text: &mut String) {
        let Some(seconds) = &self.record.seconds else { return };
        let (Some(first), Some(last)) = (seconds.keys().next(), seconds.keys().last()) else {
            return;
        };
        let _ = writeln!(text, "\nSample in one second (unix latency throughput):");
        let _ = writeln!(
            text,
            "UNIX-SECOND,MIN-LATENCY-MS,AVG-LATENCY-MS,MAX-LATENCY-MS,AVG-THROUGHPUT"
        );
        let show = |nanos: u64| go::duration(i64::try_from(nanos).unwrap_or(i64::MAX));
        for at in *first..=*last {
            let nothing = Second { least: 0, most: 0, sum: 0, count: 0 };
            let Second { least, most, sum, count } = seconds.get(&at).copied().unwrap_or(nothing);
            let mean = sum / count.max(1);
            let _ = writeln!(text, "{at},{},{},{},{count}", show(least), show(mean), show(most));
        }
    }

    /// For machines: times in seconds.
    pub(crate) fn json(&self, operation: &str) -> serde_json::Value {
        let times = &self.record.times;
        let percentiles: serde_json::Map<String, serde_json::Value> = PERCENTILES
            .iter()
            .map(|percentile| {
                let time = seconds(times.value_at_percentile(*percentile) as f64);
                (format!("p{percentile}"), json!(time))
            })
            .collect();
        json!({
            "operation": operation,
            "requests": self.record.count(),
            "errors": self.record.errors,
            "total": self.total.as_secs_f64(),
            "requests_per_second": self.rate(),
            "latency": {
                "fastest": seconds(times.min() as f64),
                "slowest": seconds(times.max() as f64),
                "average": seconds(self.mean()),
                "stddev": seconds(times.stdev()),
                "percentiles": percentiles,
            },
            "own_cpu": self.cpu.as_secs_f64(),
            "own_cpu_per_request": self.cpu_per_request() / 1e6,
        })
    }

    /// The file that Kubernetes' dashboard reads: three percentiles in milliseconds.
    pub(crate) fn perfdash(&self, operation: &str) -> serde_json::Value {
        let millis = |percentile| {
            let nanos = self.record.times.value_at_percentile(percentile) as f64;
            (nanos / 1e6 * 1e4).round() / 1e4
        };
        json!({
            "version": "v1",
            "dataItems": [{
                "data": { "Perc50": millis(50.0), "Perc90": millis(90.0), "Perc99": millis(99.0) },
                "labels": { "Operation": operation.to_uppercase() },
                "unit": "ms",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut record = Record::new(false);
        let mut other = Record::new(false);
        (1..=50).for_each(|ms| record.add(Duration::from_millis(ms)));
        (51..=100).for_each(|ms| other.add(Duration::from_millis(ms)));
        other.add_error(&"etcdserver: too many requests");
        record.add_error(&"etcdserver: too many requests");
        record.merge(other);
        let (total, cpu) = (Duration::from_secs(2), Duration::from_millis(1));
        Report { record, total, cpu, weight: 1.0 }
    }

    #[test]
    fn the_text_is_that_of_etcds_tool() {
        let text = report().text(Precision::Short);
        let expected = "
Summary:
  Total:\t2.0000 secs.
  Slowest:\t0.1000 secs.
  Fastest:\t0.0010 secs.
  Average:\t0.0505 secs.
  Stddev:\t0.0289 secs.
  Requests/sec:\t50.0000

Response time histogram:
  0.0010 [1]\t|∎∎∎∎
  0.0109 [9]\t|∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎
  0.0208 [10]\t|∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎
";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("  50% in 0.0500 secs.\n"), "{text}");
        assert!(text.contains("  99.9% in 0.1000 secs.\n"), "{text}");
        assert!(text.contains("own CPU:\t0.0010 secs, 10.0 us a request.\n"), "{text}");
        assert!(text.ends_with("\n  [2]\tetcdserver: too many requests\n"), "{text}");
    }

    #[test]
    fn gos_shortest_numbers() {
        for (number, text) in [(0.5, "0.5"), (0.0, "0"), (0.000_05, "5e-05"), (1234.5, "1234.5")] {
            assert_eq!(Precision::Full.show(number), text);
        }
    }

    #[test]
    fn for_machines() {
        let json = report().weighted(3.0).json("put");
        assert_eq!(json["requests"], 100);
        assert_eq!(json["requests_per_second"], 150.0);
        assert_eq!(json["latency"]["average"], 0.0505);
        assert_eq!(json["errors"]["etcdserver: too many requests"], 2);
        let dash = report().perfdash("put");
        assert_eq!(dash["dataItems"][0]["labels"]["Operation"], "PUT");
        let median = dash["dataItems"][0]["data"]["Perc50"].as_f64().expect("a number");
        assert!((median - 50.0).abs() < 0.1, "{median}");
    }

    #[test]
    fn a_line_for_each_second() {
        let mut record = Record::new(true);
        record.add(Duration::from_millis(10));
        record.add(Duration::from_millis(3010));
        let text = Watch::start().stop(record).text(Precision::Short);
        let (_, samples) = text.split_once("AVG-THROUGHPUT\n").expect("samples");
        // The second that has begun may have ended meanwhile.
        assert!((4..=5).contains(&samples.lines().count()), "{samples}");
        assert!(samples.contains(",3.01s,3.01s,3.01s,1\n"), "{samples}");
        assert!(samples.contains(",0s,0s,0s,0\n"), "{samples}");
    }
}
