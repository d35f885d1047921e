//! A story: a cluster under load, with one kind of fault, and what must hold afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::etcdserverpb as pb;
use sim::rng::Rng;
use tokio::time::{Instant, sleep};

use super::calls;
use super::cluster::{Cluster, PATIENCE, PAUSE};
use super::disk::SmallDisk;
use super::history::{Call, Change, Heard, History, Keys, Operation, Watched};
use super::judge::{self, Verdict};
use super::load::Load;
use super::network::Network;
use super::stories::Kind;
use super::watchers::{self, Habit, Watcher};
use crate::grpc::Channel;

/// Small logs, so that who is behind gets a snapshot, and many notices of progress.
const FLAGS: [&str; 6] = [
    "--snapshot-count",
    "100",
    "--snapshot-catchup-entries",
    "50",
    "--watch-progress-notify-interval",
    "200ms",
];
/// Revisions after which a leader has no log left for who was away.
pub(super) const FAR: i64 = 400;
/// Acknowledged writes that show that a member serves.
const SERVES: u64 = 30;
/// How long a watcher that moves stays with a member.
const WATCHER_PACE: Duration = Duration::from_millis(700);

/// What a story is told with.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) cluster: Cluster,
    pub(super) load: Load,
    pub(super) watchers: Vec<Watcher>,
    pub(super) folder: PathBuf,
    /// That of a member, if it has one of its own.
    pub(super) disk: Option<SmallDisk>,
    /// What a story may draw from.
    pub(super) rng: Rng,
    name: &'static str,
    begun: Instant,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) verdict: Verdict,
    pub(super) revisions: usize,
}

impl Story {
    /// Starts the members, the load and the watchers.
    pub(super) async fn begin(
        mut cluster: Cluster,
        folder: &Path,
        kind: &Kind,
        seed: u64,
    ) -> Result<Self, String> {
        let begun = Instant::now();
        cluster.start_all().await?;
        let addresses = cluster.addresses();
        let mut all: Vec<Watcher> = cluster
            .members()
            .into_iter()
            .map(|member| {
                let habit = Habit::Stays(member);
                Watcher::start(format!("at-m{member}"), &addresses, habit, member == 0)
            })
            .collect();
        let habit = Habit::Moves(WATCHER_PACE);
        all.push(Watcher::start("wanderer".to_owned(), &addresses, habit, true));
        let load = Load::start(&addresses, kind.padding, seed);
        let story = Self {
            cluster,
            load,
            watchers: all,
            folder: folder.to_owned(),
            disk: None,
            rng: Rng::new(seed),
            name: kind.name,
            begun,
        };
        story.serve(&story.cluster.members()).await?;
        Ok(story)
    }

    /// The flags of the members of every story.
    pub(super) fn flags() -> &'static [&'static str] {
        &FLAGS
    }

    /// Says what happens next.
    pub(super) fn say(&self, what: &str) {
        eprintln!("faults: {} {:5.1} s {what}", self.name, self.begun.elapsed().as_secs_f64());
    }

    pub(super) fn network(&self) -> Result<&Network, String> {
        self.cluster.network.as_ref().ok_or_else(|| "no network".to_owned())
    }

    pub(super) async fn leader(&self) -> Result<usize, String> {
        self.cluster.leader(&self.cluster.members()).await
    }

    /// The leader and one of the followers.
    pub(super) async fn two(&self) -> Result<(usize, usize), String> {
        let leader = self.leader().await?;
        Ok((leader, self.cluster.others(&[leader])[0]))
    }

    /// Waits until each of `members` has acknowledged some more writes.
    pub(super) async fn serve(&self, members: &[usize]) -> Result<(), String> {
        self.say(&format!("do {members:?} serve?"));
        let record = &self.load.record;
        let wanted: Vec<u64> =
            members.iter().map(|member| record.written(*member) + SERVES).collect();
        let deadline = Instant::now() + PATIENCE;
        for (member, wanted) in members.iter().zip(wanted) {
            while record.written(*member) < wanted {
                if Instant::now() > deadline {
                    return Err(format!("m{member} acknowledges no writes"));
                }
                sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Waits until so many more revisions are there.
    pub(super) async fn write_on(&self, revisions: i64) -> Result<(), String> {
        let wanted = self.load.record.revision() + revisions;
        let deadline = Instant::now() + PATIENCE;
        while self.load.record.revision() < wanted {
            if Instant::now() > deadline {
                return Err(format!("no revision {wanted}"));
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// When all faults are over: all members serve, have the same, watchers have heard of it, and everything that was
    /// answered is judged.
    pub(super) async fn end(self, keep: bool) -> Result<Report, String> {
        self.serve(&self.cluster.members()).await?;
        let (name, begun) = (self.name, self.begun);
        let (calls, mut wrong) = self.load.stop().await;
        let revision = settle(&self.cluster).await?;
        same_hash(&self.cluster, revision).await?;
        eprintln!("faults: {name} {:5.1} s all agree", begun.elapsed().as_secs_f64());
        let addresses = self.cluster.addresses();
        // Each member tells everything once more, to a watcher that has not seen any fault.
        let fresh: Vec<Watcher> = self
            .cluster
            .members()
            .into_iter()
            .map(|member| {
                let name = format!("afterwards-m{member}");
                Watcher::start(name, &addresses, Habit::Stays(member), true)
            })
            .collect();
        watchers::wait_for(&fresh, revision, PATIENCE).await?;
        watchers::wait_for(&self.watchers, revision, PATIENCE).await?;
        let mut heard = Vec::new();
        for watcher in self.watchers.into_iter().chain(fresh) {
            let name = watcher.name().to_owned();
            let (watched, complaints) = watcher.stop();
            wrong.extend(complaints.into_iter().map(|why| format!("{name}: {why}")));
            heard.push(watched);
        }
        let changes = changes(heard.last(), revision);
        let mut history = History { changes, calls, watchers: heard };
        for member in self.cluster.members() {
            history.calls.push(last_read(&self.cluster, member).await?);
        }
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!("faults: {name} {seconds:5.1} s judging");
        let mut verdict = judge::judge(&history);
        verdict.breaches.extend(wrong);
        if keep || !verdict.breaches.is_empty() {
            let path = self.folder.join("history.txt");
            fs::write(&path, history.write()).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        let revisions = history.changes.iter().map(|change| change.revision);
        let count = revisions.collect::<std::collections::BTreeSet<i64>>().len();
        Ok(Report { verdict, revisions: count })
    }
}

/// What one who has heard everything tells of the changes up to a revision.
fn changes(teller: Option<&Watched>, revision: i64) -> Vec<Change> {
    let messages = teller.map_or(&[][..], |watched| &watched.messages);
    let events = messages.iter().flat_map(|Heard { events, .. }| events);
    let changes = events.map(|(change, _)| change.clone());
    changes.filter(|change| change.revision <= revision).collect()
}

/// Waits until a linearizable read of each member has the same revision; nobody writes any more.
async fn settle(cluster: &Cluster) -> Result<i64, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut revisions = Vec::new();
        for member in cluster.members() {
            revisions.push(read_all(cluster, member).await.map(|(revision, _)| revision));
        }
        match &revisions[0] {
            Ok(first) if revisions.iter().all(|other| other.as_ref() == Ok(first)) => {
                return Ok(*first);
            }
            _ if Instant::now() > deadline => return Err(format!("not settled: {revisions:?}")),
            _ => sleep(PAUSE).await,
        }
    }
}

fn everything() -> Operation {
    Operation::Read { keys: Keys::Prefix(String::new()), at: None, is_linearizable: true }
}

async fn read_all(
    cluster: &Cluster,
    member: usize,
) -> Result<(i64, super::history::Answer), String> {
    let asking = async {
        let channel =
            Channel::connect(&cluster.address(member)).await.map_err(|e| e.to_string())?;
        match calls::call(&channel, &everything(), 0).await {
            calls::Outcome::Answered(revision, answer) => Ok((revision, answer)),
            calls::Outcome::Unknown(why) | calls::Outcome::Wrong(why) => Err(why),
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), asking).await;
    answer.map_err(|_| "no answer in time".to_owned())?
}

/// A read of everything that begins after all other calls.
async fn last_read(cluster: &Cluster, member: usize) -> Result<Call, String> {
    let answer = read_all(cluster, member).await?;
    Ok(Call {
        begin: u64::MAX - 2,
        end: u64::MAX - 1,
        operation: everything(),
        answer: Some(answer),
    })
}

async fn same_hash(cluster: &Cluster, revision: i64) -> Result<(), String> {
    let mut hashes = Vec::new();
    for member in cluster.members() {
        let request = pb::HashKvRequest { revision };
        let path = "/etcdserverpb.Maintenance/HashKV";
        let answer: pb::HashKvResponse = cluster.ask(member, path, &request).await?;
        hashes.push((answer.hash, answer.compact_revision, answer.hash_revision));
    }
    if hashes.iter().all(|hash| *hash == hashes[0]) {
        Ok(())
    } else {
        Err(format!("HashKV at {revision} differs: {hashes:?}"))
    }
}
