//! For how long nothing can be written after the leader was killed, with etcd and with ours, in turn.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::etcdserverpb as pb;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

use super::cluster::{Cluster, PATIENCE, PAUSE};
use crate::grpc::Channel;

/// A put begins every so often through each survivor, whatever became of those before.
const PACE: Duration = Duration::from_millis(10);
/// How long a put may take.
const PUT_LIMIT: Duration = Duration::from_secs(10);
/// How long the survivors must have served, before the leader is killed and when they do so again.
const STEADY: Duration = Duration::from_millis(500);
/// What even a slow machine must keep to: the times themselves decide nothing.
const BOUND: Duration = Duration::from_secs(10);

/// The time without an acknowledged put, of each kill, in seconds.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    etcd: Vec<f64>,
    ours: Vec<f64>,
}

impl Gaps {
    /// Median and longest of both, as text.
    pub(super) fn table(&self) -> String {
        let row = |name: &str, times: &[f64]| {
            let mut times = times.to_vec();
            times.sort_by(f64::total_cmp);
            let at = |index: usize| times.get(index).copied().unwrap_or_default();
            let (below, above) = (times.len().saturating_sub(1) / 2, times.len() / 2);
            let median = f64::midpoint(at(below), at(above));
            let longest = at(times.len().saturating_sub(1));
            format!(
                "{name:<12} median {median:6.3} s, longest {longest:6.3} s, {} times",
                times.len()
            )
        };
        format!("{}\n{}", row("etcd 3.7.3", &self.etcd), row("ours", &self.ours))
    }

    /// Whether ours goes on within the bound.
    pub(super) fn verdict(&self) -> Result<(), String> {
        let longest = self.ours.iter().copied().fold(0.0, f64::max);
        if longest <= BOUND.as_secs_f64() { Ok(()) } else { Err(self.table()) }
    }
}

/// Kills the leader of each cluster `times` times. Timeouts are etcd's default ones.
pub(super) async fn measure(
    etcd: &Path,
    ours: &Path,
    folder: &Path,
    times: usize,
) -> Result<Gaps, String> {
    let mut clusters = [("etcd", etcd), ("ours", ours)]
        .map(|(name, binary)| Cluster::new(binary, &folder.join(name), 3, &[], None));
    for cluster in &mut clusters {
        cluster.start_all().await?;
    }
    let mut gaps = Gaps::default();
    for number in 1..=times {
        let [etcd, ours] = &mut clusters;
        gaps.etcd.push(gap(etcd).await.map_err(|why| format!("etcd: {why}"))?);
        gaps.ours.push(gap(ours).await.map_err(|why| format!("ours: {why}"))?);
        let (etcd, ours) = (gaps.etcd[number - 1], gaps.ours[number - 1]);
        eprintln!("faults: gap {number} of {times}: etcd {etcd:.3} s, ours {ours:.3} s");
    }
    Ok(gaps)
}

/// Kills the leader once, and brings it back. The longest time, in seconds, in which one of the survivors acknowledged
/// nothing.
async fn gap(cluster: &mut Cluster) -> Result<f64, String> {
    let leader = cluster.leader(&cluster.members()).await?;
    let survivors = cluster.others(&[leader]);
    let mut puts = JoinSet::new();
    let mut records = Vec::new();
    for survivor in survivors {
        let channel = Channel::connect(&cluster.address(survivor)).await;
        let channel = channel.map_err(|failure| failure.to_string())?;
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        puts.spawn(put_on_and_on(channel, Arc::clone(&acknowledged)));
        records.push(acknowledged);
    }
    let read = |record: &Mutex<Vec<Instant>>| {
        record.lock().map(|record| record.clone()).unwrap_or_default()
    };
    let steady = |record: &Mutex<Vec<Instant>>, since: Instant| {
        read(record).last().is_some_and(|last| *last > since + STEADY)
    };
    let begun = Instant::now();
    wait(|| records.iter().all(|record| steady(record, begun))).await?;
    let killed = Instant::now();
    cluster.kill(leader);
    // The first put that is acknowledged, and those of a while behind it.
    let is_back = |record: &Mutex<Vec<Instant>>| {
        let after = read(record).into_iter().filter(|at| *at > killed + STEADY);
        after.count() > 20
    };
    wait(|| records.iter().all(|record| is_back(record))).await?;
    puts.abort_all();
    let gaps = records.iter().map(|record| {
        let mut times = read(record);
        times.sort_unstable();
        let later = times.windows(2).filter(|pair| pair[1] > killed);
        later.map(|pair| (pair[1] - pair[0]).as_secs_f64()).fold(0.0, f64::max)
    });
    let longest = gaps.fold(0.0, f64::max);
    cluster.start(leader).await?;
    Ok(longest)
}

async fn wait(mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return Err("no put is acknowledged".to_owned());
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

async fn put_on_and_on(channel: Channel, acknowledged: Arc<Mutex<Vec<Instant>>>) {
    let channel = Arc::new(channel);
    let mut pace = interval(PACE);
    let mut puts = JoinSet::new();
    loop {
        pace.tick().await;
        let (channel, acknowledged) = (Arc::clone(&channel), Arc::clone(&acknowledged));
        puts.spawn(async move {
            let request = pb::PutRequest {
                key: "gap".into(),
                value: "v".into(),
                ..pb::PutRequest::default()
            };
            let call = channel.unary::<_, pb::PutResponse>("/etcdserverpb.KV/Put", &request);
            if let Ok(Ok(_)) = timeout(PUT_LIMIT, call).await
                && let Ok(mut acknowledged) = acknowledged.lock()
            {
                acknowledged.push(Instant::now());
            }
        });
        // Those that are over.
        while puts.try_join_next().is_some() {}
    }
}
