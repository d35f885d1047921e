//! Whether all members have the same data: at the start, from time to time, and after compactions. Whoever differs
//! from the others is alarmed for, and from then on the cluster refuses writes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::{Cluster, hex};
use mvcc::{KvHash, Reader};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};
use transport::{Call, HashKv, PeerUrl, Tls};

use crate::announce::go_duration;
use crate::error::StartError;
use crate::peer_desk::PeerDesk;

/// The page that a member is asked at.
const PAGE: &str = "/members/hashkv";

/// How often members are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intervals {
    /// All revisions; `None`: never.
    pub(crate) periodic: Option<Duration>,
    /// The hashes that compactions left; `None`: never.
    pub(crate) compaction: Option<Duration>,
}

/// Why a member does not tell its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    Compacted,
    Future,
    OtherCluster,
    Failed(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compacted => f.write_str(api::Error::Compacted.internal_message()),
            Self::Future => f.write_str(api::Error::FutureRev.internal_message()),
            Self::OtherCluster => f.write_str("cluster ID mismatch"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

/// What another member says of its data.
#[derive(Clone, Debug)]
struct Peer {
    id: u64,
    urls: Vec<String>,
    answer: Result<HashKv, Refusal>,
}

/// Compares before anybody is served. Who can't be asked, or has other revisions, proves nothing.
pub(crate) fn check_at_start(
    reader: &Reader,
    cluster: &Cluster,
    timeout: Duration,
    tls: Option<&Tls>,
) -> Result<(), StartError> {
    let local_id = hex(cluster.local_id());
    let failed = |err: &dyn fmt::Display| {
        error!(error = %err, "checkInitialHashKV failed");
        StartError::Corrupt(err.to_string())
    };
    info!(
        "local-member-id" = local_id,
        timeout = go_duration(timeout),
        "starting initial corruption check"
    );
    let (local, _) = reader
        .hash_kv(0)
        .map_err(|err| failed(&format!("{local_id} failed to fetch hash ({err})")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|err| failed(&err))?;
    let peers = runtime.block_on(ask(cluster, local.revision, timeout, tls));
    if peers.iter().filter(|peer| differs_at_start(&local_id, local, peer)).count() > 0 {
        return Err(failed(&format!("{local_id} found data inconsistency with peers")));
    }
    info!("local-member-id" = local_id, "initial corruption checking passed; no corruption");
    Ok(())
}

/// Whether a member had other data at the same revision, with the same compacted away.
fn differs_at_start(local_id: &str, local: KvHash, peer: &Peer) -> bool {
    let (differs, message) = match &peer.answer {
        Ok(remote) if remote.hash == local.hash => return false,
        Ok(remote) if remote.compact_revision == local.compact_revision => {
            (true, "found different hash values from remote peer")
        }
        Ok(_) => (false, "found different compact revision values from remote peer"),
        Err(Refusal::Future) => (false, "cannot fetch hash from slow remote peer"),
        Err(Refusal::Compacted) => {
            (false, "cannot fetch hash from remote peer; local member is behind")
        }
        Err(Refusal::OtherCluster) => (false, "cluster ID mismatch"),
        Err(Refusal::Failed(_)) => return false,
    };
    let remote = peer.answer.clone().unwrap_or_default();
    let error = peer.answer.as_ref().err().map(ToString::to_string);
    warn!(
        "local-member-id" = local_id,
        "local-member-revision" = local.revision,
        "local-member-compact-revision" = local.compact_revision,
        "local-member-hash" = local.hash,
        "remote-peer-id" = hex(peer.id),
        "remote-peer-endpoints" = ?peer.urls,
        "remote-peer-revision" = remote.revision,
        "remote-peer-compact-revision" = remote.compact_revision,
        "remote-peer-hash" = remote.hash,
        error,
        "{message}"
    );
    differs
}

/// Compares from time to time while this member leads. Runs as long as the runtime.
pub(crate) async fn run(desk: Arc<PeerDesk>, intervals: Intervals) {
    let mut checked = 0;
    let mut periodic = intervals.periodic.map(ticks);
    let mut compaction = intervals.compaction.map(ticks);
    if let Some(interval) = intervals.periodic {
        let local_id = hex(desk.state.member_id);
        let interval = go_duration(interval);
        info!("local-member-id" = local_id, interval, "enabled corruption checking");
    }
    loop {
        tokio::select! {
            () = tick(&mut periodic) => {
                if desk.state.is_leader()
                    && let Err(error) = check_now(&desk).await
                {
                    warn!(error, "failed to check hash KV");
                }
            }
            () = tick(&mut compaction) => {
                if desk.state.is_leader() {
                    check_compactions(&desk, &mut checked).await;
                }
            }
        }
    }
}

fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn tick(ticks: &mut Option<tokio::time::Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// Compares all revisions.
async fn check_now(desk: &PeerDesk) -> Result<(), String> {
    let (before, _) = desk.hash_kv(0).await?;
    let peers = ask(&desk.state.cluster(), before.revision, desk.timeout, desk.tls.as_ref()).await;
    desk.fresh_read().await.map_err(|err| err.to_string())?;
    let (after, current) = desk.hash_kv(0).await?;
    let answered = peers.iter().filter(|peer| peer.answer.is_ok()).count();
    if let Some(id) = find_periodic(desk.state.member_id, (before, after), current, &peers) {
        desk.raise_corrupt_alarm(id);
    }
    info!("number-of-peers-checked" = answered, "finished peer corruption check");
    Ok(())
}

/// Who is to be alarmed for: the first that can't have its data from this leader's log, which may be the
/// leader itself. `current` is the leader's revision when it made the second of its hashes.
fn find_periodic(
    local_id: u64,
    (before, after): (KvHash, KvHash),
    current: i64,
    peers: &[Peer],
) -> Option<u64> {
    let mut found = None;
    if after.hash != before.hash
        && after.revision == before.revision
        && after.compact_revision == before.compact_revision
    {
        warn!(
            "revision-1" = before.revision,
            "compact-revision-1" = before.compact_revision,
            "hash-1" = before.hash,
            "revision-2" = after.revision,
            "compact-revision-2" = after.compact_revision,
            "hash-2" = after.hash,
            "found hash mismatch"
        );
        found = Some(local_id);
    }
    for (peer, remote) in peers.iter().filter_map(|peer| Some((peer, peer.answer.as_ref().ok()?))) {
        let id = hex(peer.id);
        if remote.revision > current {
            warn!(
                "leader-revision" = current,
                "follower-revision" = remote.revision,
                "follower-peer-id" = id,
                "revision from follower must be less than or equal to leader's"
            );
            found = found.or(Some(peer.id));
        }
        if remote.compact_revision > after.compact_revision {
            warn!(
                "leader-compact-revision" = after.compact_revision,
                "follower-compact-revision" = remote.compact_revision,
                "follower-peer-id" = id,
                "compact revision from follower must be less than or equal to leader's"
            );
            found = found.or(Some(peer.id));
        }
        if remote.compact_revision == before.compact_revision && remote.hash != before.hash {
            warn!(
                "leader-compact-revision" = after.compact_revision,
                "leader-hash" = before.hash,
                "follower-compact-revision" = remote.compact_revision,
                "follower-hash" = remote.hash,
                "follower-peer-id" = id,
                "same compact revision then hashes must match"
            );
            found = found.or(Some(peer.id));
        }
    }
    found
}

/// Compares what the last compactions left, the newest first, until one is known of all members. `checked` is the
/// revision up to which that has been done.
async fn check_compactions(desk: &PeerDesk, checked: &mut i64) {
    let local_id = desk.state.member_id;
    info!(
        "local-member-id" = hex(local_id),
        timeout = go_duration(desk.timeout),
        "starting compact hash check"
    );
    let mut hashes = desk.reader().compaction_hashes();
    hashes.retain(|hash| hash.revision > *checked);
    hashes.sort_unstable_by_key(|hash| std::cmp::Reverse(hash.revision));
    let mut count = hashes.len();
    for (number, local) in (1..).zip(hashes) {
        let peers =
            ask(&desk.state.cluster(), local.revision, desk.timeout, desk.tls.as_ref()).await;
        if peers.is_empty() {
            continue;
        }
        let verdict = judge_compaction(local_id, local, &peers);
        match &verdict {
            Verdict::Unknown => continue,
            Verdict::Equal => *checked = local.revision,
            Verdict::Differ(ids) => ids.iter().for_each(|id| desk.raise_corrupt_alarm(*id)),
        }
        count = number;
        break;
    }
    info!("number-of-hashes-checked" = count, "finished compaction hash check");
}

/// What the hashes of a compaction say.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing: some member does not know its hash.
    Unknown,
    /// All members have the same data.
    Equal,
    /// These don't have what most have; 0 if no hash is that of most.
    Differ(Vec<u64>),
}

fn judge_compaction(local_id: u64, local: KvHash, peers: &[Peer]) -> Verdict {
    let mut by_hash = BTreeMap::from([(local.hash, vec![local_id])]);
    let mut known = 0;
    for peer in peers {
        let reason = match &peer.answer {
            Ok(remote) if remote.compact_revision == local.compact_revision => {
                known += 1;
                by_hash.entry(remote.hash).or_insert_with(Vec::new).push(peer.id);
                continue;
            }
            Ok(remote) => format!(
                "the peer's CompactRevision {} doesn't match leader's CompactRevision {}",
                remote.compact_revision, local.compact_revision
            ),
            Err(_) => "no response".to_owned(),
        };
        warn!(
            "number-of-peers" = peers.len(),
            "leader-id" = hex(local_id),
            "peer-id" = hex(peer.id),
            reason,
            "Skipped peer's hash"
        );
    }
    if by_hash.len() > 1 {
        return Verdict::Differ(minorities(local_id, local, by_hash, peers.len() + 1));
    }
    if known < peers.len() {
        warn!(
            "number-of-peers-checked" = known,
            "number-of-peers" = peers.len(),
            revision = local.revision,
            "compactRevision" = local.compact_revision,
            "skipped revision in compaction hash check; was not able to check all peers"
        );
        return Verdict::Unknown;
    }
    info!(
        "number-of-peers-checked" = known,
        revision = local.revision,
        "compactRevision" = local.compact_revision,
        "successfully checked hash on whole cluster"
    );
    Verdict::Equal
}

/// The members that do not have the hash of most.
fn minorities(
    local_id: u64,
    local: KvHash,
    mut by_hash: BTreeMap<u32, Vec<u64>>,
    members: usize,
) -> Vec<u64> {
    let quorum = members / 2 + 1;
    let most = by_hash.iter().find(|(_, ids)| ids.len() >= quorum).map(|(hash, _)| *hash);
    match most {
        Some(hash) => drop(by_hash.remove(&hash)),
        None => error!(
            "leader-id" = hex(local_id),
            "leader-revision" = local.revision,
            "leader-compact-revision" = local.compact_revision,
            "leader-hash" = local.hash,
            "Detected compaction hash mismatch but cannot identify the corrupted members, so intentionally set the memberID as 0"
        ),
    }
    for (hash, ids) in &by_hash {
        let ids: Vec<String> = ids.iter().map(|id| hex(*id)).collect();
        error!(
            "leader-id" = hex(local_id),
            "leader-revision" = local.revision,
            "leader-compact-revision" = local.compact_revision,
            "leader-hash" = local.hash,
            "peer-hash" = *hash,
            "peer-ids" = ids.join(","),
            "quorum-exist" = most.is_some(),
            "Detected compaction hash mismatch"
        );
    }
    match most {
        Some(_) => by_hash.into_values().flatten().collect(),
        None => vec![0],
    }
}

/// Asks all other members for their hash at a revision. Those without URLs are left out.
async fn ask(cluster: &Cluster, revision: i64, timeout: Duration, tls: Option<&Tls>) -> Vec<Peer> {
    let (local_id, cluster_id) = (hex(cluster.local_id()), hex(cluster.id()));
    let mut asking = JoinSet::new();
    for member in cluster.members() {
        if member.id == cluster.local_id() || member.peer_urls.is_empty() {
            continue;
        }
        let (id, urls) = (member.id, member.peer_urls.clone());
        let (local_id, cluster_id) = (local_id.clone(), cluster_id.clone());
        let tls = tls.cloned();
        asking.spawn(async move {
            let mut answer = Err(Refusal::Failed("no URL".to_owned()));
            for url in &urls {
                answer = ask_at(url, &cluster_id, revision, timeout, tls.as_ref()).await;
                let Err(refusal) = &answer else { break };
                warn!(
                    "local-member-id" = local_id,
                    "requested-revision" = revision,
                    "remote-peer-endpoint" = url,
                    error = %refusal,
                    "failed hash kv request"
                );
            }
            Peer { id, urls, answer }
        });
    }
    let mut peers = asking.join_all().await;
    peers.sort_unstable_by_key(|peer| peer.id);
    peers
}

async fn ask_at(
    url: &str,
    cluster_id: &str,
    revision: i64,
    timeout: Duration,
    tls: Option<&Tls>,
) -> Result<HashKv, Refusal> {
    let failed = |err: &dyn fmt::Display| Refusal::Failed(err.to_string());
    let urls = PeerUrl::parse_all(&[url]).map_err(|err| failed(&err))?;
    let url = urls.into_iter().next().ok_or_else(|| failed(&"no URL"))?;
    let cluster_id = http::HeaderValue::from_str(cluster_id).map_err(|err| failed(&err))?;
    // As Go writes the request: a zero is left out.
    let content =
        if revision == 0 { "{}".to_owned() } else { format!("{{\"revision\":{revision}}}") };
    let call = Call {
        headers: vec![(http::HeaderName::from_static("x-etcd-cluster-id"), cluster_id)],
        content: Some(("application/json", Bytes::from(content))),
        ..Call::get(url, PAGE, timeout).with_tls(tls)
    };
    let answer = call.send().await.map_err(|err| failed(&err))?;
    if answer.status == 200 {
        return HashKv::from_json(&answer.body).map_err(|err| failed(&err));
    }
    let text = String::from_utf8_lossy(&answer.body);
    let says = |wanted: &str| text.contains(wanted);
    Err(match answer.status {
        400 if says(&mvcc::Error::Compacted.to_string()) => Refusal::Compacted,
        400 if says(&mvcc::Error::Future.to_string()) => Refusal::Future,
        412 if says("cluster ID mismatch") => Refusal::OtherCluster,
        _ => Refusal::Failed(format!("unknown error: {text}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hash, compact revision, revision.
    fn local(hash: u32, compact_revision: i64, revision: i64) -> KvHash {
        KvHash { hash, compact_revision, revision }
    }

    fn peer(id: u64, hash: u32, compact_revision: i64, revision: i64) -> Peer {
        let answer = HashKv { revision, hash, compact_revision, hash_revision: revision };
        Peer { id, urls: Vec::new(), answer: Ok(answer) }
    }

    fn silent(id: u64, why: Refusal) -> Peer {
        Peer { id, urls: Vec::new(), answer: Err(why) }
    }

    #[test]
    fn only_other_data_prevents_a_start() {
        let here = local(7, 3, 9);
        for (there, expected) in [
            (peer(2, 7, 3, 12), false),
            (peer(2, 8, 3, 9), true),
            // What is compacted away here may be there.
            (peer(2, 8, 5, 9), false),
            (silent(2, Refusal::Future), false),
            (silent(2, Refusal::Compacted), false),
            (silent(2, Refusal::OtherCluster), false),
            (silent(2, Refusal::Failed("EOF".to_owned())), false),
        ] {
            assert_eq!(differs_at_start("1", here, &there), expected, "{there:?}");
        }
    }

    #[test]
    fn the_first_that_can_not_have_its_data_from_the_leader_is_found() {
        let (before, after) = (local(7, 3, 9), local(8, 3, 11));
        for (peers, expected) in [
            (vec![], None),
            (vec![peer(2, 7, 3, 9), peer(3, 7, 3, 11)], None),
            (vec![silent(2, Refusal::Future), peer(3, 5, 3, 11)], Some(3)),
            // It has applied a compaction, or has not applied one.
            (vec![peer(2, 5, 2, 9)], None),
            (vec![peer(2, 5, 4, 9)], Some(2)),
            (vec![peer(2, 7, 3, 12)], Some(2)),
            (vec![peer(2, 6, 3, 9), peer(3, 6, 3, 9)], Some(2)),
        ] {
            assert_eq!(find_periodic(1, (before, after), 11, &peers), expected, "{peers:?}");
        }
        // The leader's own data changed while nothing was written.
        let changed = local(8, 3, 9);
        assert_eq!(find_periodic(1, (before, changed), 9, &[peer(2, 7, 3, 9)]), Some(1));
    }

    #[test]
    fn who_is_not_with_most_is_alarmed_for() {
        let here = local(7, 3, 9);
        for (peers, expected) in [
            (vec![peer(2, 7, 3, 9), peer(3, 7, 3, 9)], Verdict::Equal),
            (vec![peer(2, 7, 3, 9), silent(3, Refusal::Future)], Verdict::Unknown),
            (vec![peer(2, 7, 3, 9), peer(3, 8, 2, 9)], Verdict::Unknown),
            (vec![peer(2, 7, 3, 9), peer(3, 8, 3, 9)], Verdict::Differ(vec![3])),
            (vec![peer(2, 8, 3, 9), peer(3, 8, 3, 9)], Verdict::Differ(vec![1])),
            (vec![peer(2, 8, 3, 9), peer(3, 9, 3, 9)], Verdict::Differ(vec![0])),
            (vec![peer(2, 8, 3, 9)], Verdict::Differ(vec![0])),
            // One is down, the other differs: who is right is not known.
            (vec![silent(2, Refusal::Future), peer(3, 8, 3, 9)], Verdict::Differ(vec![0])),
            (
                vec![peer(2, 8, 3, 9), peer(3, 7, 3, 9), peer(4, 9, 3, 9), peer(5, 7, 3, 9)],
                Verdict::Differ(vec![2, 4]),
            ),
        ] {
            assert_eq!(judge_compaction(1, here, &peers), expected, "{peers:?}");
        }
    }
}
