//! What a member says at `/metrics`, in the text form of Prometheus.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::log;

/// A page has some hundred kilobytes; who sends more is no member.
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// Numbers by name; those that differ in their labels alone are added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Metrics {
    values: BTreeMap<String, f64>,
    histograms: BTreeMap<String, Vec<Bucket>>,
}

/// How many were not above the bound, in seconds for the most part.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    bound: f64,
    count: f64,
}

impl Metrics {
    /// Asks a member for its page.
    ///
    /// # Errors
    /// It does not answer, or with something else; the sentence.
    pub(crate) async fn fetch(endpoint: &str, limit: Duration) -> Result<Self, String> {
        let address = log::authority(endpoint);
        let page = async {
            let mut stream = TcpStream::connect(address).await?;
            // The older protocol, so that the answer comes in one piece and ends with the connection.
            let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut bytes = Vec::new();
            stream.take(PAGE_BYTES_MAX).read_to_end(&mut bytes).await?;
            std::io::Result::Ok(bytes)
        };
        let bytes = match timeout(limit, page).await {
            Ok(read) => read.map_err(|error| error.to_string())?,
            Err(_) => return Err("context deadline exceeded".to_owned()),
        };
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status == "200" { Ok(Self::parse(body)) } else { Err(format!("HTTP status {status}")) }
    }

    /// Reads a page; lines in another form are left out.
    pub(crate) fn parse(page: &str) -> Self {
        let mut metrics = Self::default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((sample, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
            match (name.strip_suffix("_bucket"), bound.and_then(|bound| bound.parse().ok())) {
                (Some(name), Some(bound)) => metrics.add_to_bucket(name, bound, value),
                _ => *metrics.values.entry(name.to_owned()).or_default() += value,
            }
        }
        for buckets in metrics.histograms.values_mut() {
            buckets.sort_unstable_by(|a, b| a.bound.total_cmp(&b.bound));
        }
        metrics
    }

    fn add_to_bucket(&mut self, name: &str, bound: f64, count: f64) {
        let buckets = self.histograms.entry(name.to_owned()).or_default();
        match buckets.iter_mut().find(|bucket| bucket.bound == bound) {
            Some(bucket) => bucket.count += count,
            None => buckets.push(Bucket { bound, count }),
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }

    /// The value below which `part` of what was observed since `before` lies, as Prometheus reckons it: evenly spread
    /// within a bucket. Nothing where nothing was observed.
    pub(crate) fn quantile(&self, name: &str, before: Option<&Self>, part: f64) -> Option<f64> {
        let now = self.histograms.get(name)?;
        let before = before.and_then(|before| before.histograms.get(name));
        let count = |bucket: &Bucket| {
            let same = |old: &&Bucket| old.bound == bucket.bound;
            let old = before.and_then(|before| before.iter().find(same));
            // A member that was started anew counts from zero.
            let since = bucket.count - old.map_or(0.0, |old| old.count);
            if since < 0.0 { bucket.count } else { since }
        };
        let total = now.last().map(count).filter(|total| *total > 0.0)?;
        let (mut low, mut below) = (0.0, 0.0);
        for bucket in now {
            let upto = count(bucket);
            if upto >= part * total {
                if bucket.bound.is_infinite() {
                    return Some(low);
                }
                let within = (part * total - below) / (upto - below);
                return Some(low + (bucket.bound - low) * within);
            }
            (low, below) = (bucket.bound, upto);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    const PAGE: &str = "# HELP a A.\n# TYPE a counter\na 3\nb{x=\"1\"} 2\nb{x=\"2\"} 1.5e3\nodd\nno number x\n\
        h_bucket{t=\"p\",le=\"0.001\"} 0\nh_bucket{t=\"p\",le=\"0.002\"} 50\nh_bucket{t=\"p\",le=\"+Inf\"} 100\n\
        h_bucket{t=\"q\",le=\"0.001\"} 0\nh_bucket{t=\"q\",le=\"0.002\"} 50\nh_bucket{t=\"q\",le=\"+Inf\"} 50\n\
        h_sum{t=\"p\"} 1\nh_count{t=\"p\"} 100\n";

    #[test]
    fn labels_are_added_up() {
        let metrics = Metrics::parse(PAGE);
        assert_eq!(metrics.value("a"), Some(3.0));
        assert_eq!(metrics.value("b"), Some(1502.0));
        assert_eq!(metrics.value("h_count"), Some(100.0));
        assert_eq!(metrics.value("odd"), None);
    }

    #[test]
    fn quantiles_are_those_of_the_interval() {
        let metrics = Metrics::parse(PAGE);
        let half = metrics.quantile("h", None, 1.0 / 3.0).expect("observed");
        assert!((half - 0.0015).abs() < 1e-9, "{half}");
        assert_eq!(metrics.quantile("h", None, 0.99), Some(0.002), "no more is known");
        assert_eq!(metrics.quantile("h", Some(&metrics), 0.5), None, "nothing since");
        let before = Metrics::parse("h_bucket{le=\"0.002\"} 100\nh_bucket{le=\"+Inf\"} 100\n");
        assert_eq!(metrics.quantile("h", Some(&before), 0.5), Some(0.002));
        let restarted = Metrics::parse("h_bucket{le=\"0.002\"} 900\nh_bucket{le=\"+Inf\"} 900\n");
        assert!(metrics.quantile("h", Some(&restarted), 0.5).is_some());
        assert_eq!(metrics.quantile("nothing", None, 0.5), None);
    }
}
