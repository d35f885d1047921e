//! Clients that make requests until there have been enough.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::Client;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

use crate::report::{Record, Report, Watch};
use crate::session::Failure;

/// Records that share the measurements of all clients, so that they seldom wait for each other.
const SHARDS: usize = 16;
const REDRAW: Duration = Duration::from_millis(100);

/// How many requests, how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) total: u64,
    /// Requests a second; 0: as fast as they are answered.
    pub(crate) rate: u64,
}

/// When the n-th request is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    begun: Instant,
    rate: u64,
}

impl Pace {
    pub(crate) fn new(rate: u64) -> Self {
        Self { begun: Instant::now(), rate }
    }

    /// Waits until then, and returns from when on the request is to be measured: from when it was due, whether or
    /// not a client was free. A server that stalls is otherwise asked less while it does, and looks better than it is.
    pub(crate) async fn wait(&self, number: u64) -> Instant {
        if self.rate == 0 {
            return Instant::now();
        }
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.rate);
        let due = self.begun + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        sleep_until(due).await;
        due
    }
}

/// What many tasks measure.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<[Mutex<Record>]>);

impl Shared {
    pub(crate) fn new(samples: bool) -> Self {
        Self((0..SHARDS).map(|_| Mutex::new(Record::new(samples))).collect())
    }

    /// Task `number` has something to say.
    pub(crate) fn with(&self, number: usize, say: impl FnOnce(&mut Record)) {
        let shard = &self.0[number % SHARDS];
        say(&mut shard.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All of it.
    pub(crate) fn collect(&self, samples: bool) -> Record {
        let mut all = Record::new(samples);
        for shard in self.0.iter() {
            let record = shard.lock().unwrap_or_else(PoisonError::into_inner).clone();
            all.merge(record);
        }
        all
    }
}

/// How far it has come, on a terminal. Tasks count; somebody else draws.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    done: Arc<AtomicU64>,
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn new(total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = "{pos} / {len} {wide_bar} {percent}% {per_sec} {eta}";
        bar.set_style(ProgressStyle::with_template(style).expect("a template"));
        Self { done: Arc::default(), bar }
    }

    pub(crate) fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }

    /// Draws until `work` has ended.
    pub(crate) async fn until<T>(&self, work: impl Future<Output = T>) -> T {
        let mut ticks = interval(REDRAW);
        let mut work = std::pin::pin!(work);
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                _ = ticks.tick() => self.bar.set_position(self.done.load(Ordering::Relaxed)),
            }
        };
        self.bar.set_position(self.done.load(Ordering::Relaxed));
        self.bar.abandon();
        result
    }
}

/// What a request has come to: for each client, which record it belongs to is the request's own affair.
pub(crate) type Answer = Result<(), client::Error>;

/// Has the clients make requests, one at a time each, until there have been enough. `request` is given the client and
/// the number of the request.
pub(crate) async fn drive<F>(
    clients: &[Client],
    amount: Amount,
    samples: bool,
    request: impl Fn(Client, u64) -> F + Clone + Send + 'static,
) -> Result<Report, Failure>
where
    F: Future<Output = Answer> + Send,
{
    let split = move |client, number| {
        let answer = request(client, number);
        async move { (0, answer.await) }
    };
    let mut reports = drive_kinds(clients, amount, samples, 1, split).await?;
    Ok(reports.remove(0))
}

/// The same for requests of several kinds, each with a report of its own.
pub(crate) async fn drive_kinds<F>(
    clients: &[Client],
    amount: Amount,
    samples: bool,
    kinds: usize,
    request: impl Fn(Client, u64) -> F + Clone + Send + 'static,
) -> Result<Vec<Report>, Failure>
where
    F: Future<Output = (usize, Answer)> + Send,
{
    let records: Vec<Shared> = (0..kinds).map(|_| Shared::new(samples)).collect();
    let next = Arc::new(AtomicU64::new(0));
    let progress = Progress::new(amount.total);
    let watch = Watch::start();
    let pace = Pace::new(amount.rate);
    let mut tasks = JoinSet::new();
    for (at, client) in clients.iter().enumerate() {
        let (client, request, records) = (client.clone(), request.clone(), records.clone());
        let (next, progress) = (Arc::clone(&next), progress.clone());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= amount.total {
                    return;
                }
                let begun = pace.wait(number).await;
                let (kind, answer) = request(client.clone(), number).await;
                let took = begun.elapsed();
                records[kind].with(at, |record| match answer {
                    Ok(()) => record.add(took),
                    Err(why) => record.add_error(&why),
                });
                progress.add(1);
            }
        });
    }
    let ended = progress.until(async {
        while let Some(task) = tasks.join_next().await {
            task.map_err(Failure::new)?;
        }
        Ok(())
    });
    ended.await.map(|()| records.iter().map(|one| watch.stop(one.collect(samples))).collect())
}
