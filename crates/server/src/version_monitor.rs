//! The leader raises the cluster's version to the lowest of its members' versions, as soon as it knows them all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::internal::OpRef;
use cluster::{Cluster, Version};
use prost::Message as _;
use tracing::{info, warn};
use transport::{Call, PeerUrl, Tls};

use crate::peer_desk::PeerDesk;
use crate::{VERSION, join};

/// Between two looks, as in etcd ...
const INTERVAL: Duration = Duration::from_secs(4);
/// ... and for a while after a change of leader.
const INTERVAL_SHORT: Duration = Duration::from_millis(100);
/// How many looks that while has.
const SHORT_INTERVALS: u32 = 20;
/// How long a member may take to tell its version.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs as long as the runtime.
pub(crate) async fn run(desk: Arc<PeerDesk>) {
    let (mut term, mut looks) = (0, 0);
    loop {
        let is_news = looks < SHORT_INTERVALS;
        tokio::time::sleep(if is_news { INTERVAL_SHORT } else { INTERVAL }).await;
        let now = desk.state.term.load(Ordering::Relaxed);
        looks = if now == term { looks + 1 } else { 0 };
        term = now;
        let cluster = desk.state.cluster();
        // One that is alone has told its own version at once.
        if !desk.state.is_leader() || cluster.members().len() < 2 || cluster.version().is_none() {
            continue;
        }
        if cluster.version().is_some_and(|version| version >= VERSION.cluster()) {
            continue;
        }
        let lowest = lowest_version(&cluster, desk.tls.as_ref()).await;
        if let Some(version) = decide(&cluster, lowest) {
            info!(
                from = cluster.version().map(Version::major_minor),
                to = version.major_minor(),
                "updating cluster version using v3 API"
            );
            let request = api::membershippb::ClusterVersionSetRequest { ver: version.to_string() };
            desk.propose(OpRef::ClusterVersionSet(&request.encode_to_vec()), Some(term));
        }
    }
}

/// What the version should be, if it is not that.
fn decide(cluster: &Cluster, lowest: Option<Version>) -> Option<Version> {
    let (current, lowest) = (cluster.version()?, lowest?.cluster());
    let is_up = !cluster.downgrade().enabled && current < lowest;
    (is_up && current.is_valid_change(lowest)).then_some(lowest)
}

/// The lowest version of all members; `None` while one of them does not tell.
async fn lowest_version(cluster: &Cluster, tls: Option<&Tls>) -> Option<Version> {
    let mut lowest = VERSION;
    for member in cluster.members().filter(|member| member.id != cluster.local_id()) {
        let version = server_version(&member.peer_urls, tls).await;
        if version.is_none() {
            let id = format!("{:x}", member.id);
            warn!("remote-member-id" = id, "failed to get version");
        }
        lowest = lowest.min(version?);
    }
    Some(lowest)
}

async fn server_version(urls: &[String], tls: Option<&Tls>) -> Option<Version> {
    for url in PeerUrl::parse_all(urls).ok()? {
        let call = Call::get(url, "/version", ANSWER_TIMEOUT).with_tls(tls);
        if let Ok(answer) = call.send().await {
            let text = String::from_utf8_lossy(&answer.body);
            return join::field(&text, "etcdserver").and_then(Version::parse);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use backend::Backend;
    use env::MemDisk;

    use super::*;

    #[test]
    fn the_version_only_goes_up() {
        let open = || Backend::open(MemDisk::new(), Path::new("db"), backend::Options::default());
        let (mut backend, _committer) = open().expect("memory");
        let mut cluster = Cluster::from_members(1, []);
        let v = |minor, patch| Version::new(3, minor, patch);
        assert_eq!(decide(&cluster, Some(v(7, 3))), None, "undecided is apply's matter");
        for (current, lowest, expected) in [
            (v(0, 0), Some(v(7, 3)), Some(v(7, 0))),
            (v(0, 0), Some(v(5, 1)), Some(v(5, 0))),
            (v(0, 0), None, None),
            (v(5, 0), Some(v(5, 1)), None),
            (v(6, 0), Some(v(5, 1)), None),
        ] {
            cluster.set_version(current, &mut backend);
            assert_eq!(decide(&cluster, lowest), expected, "{current} {lowest:?}");
        }
    }
}
