//! Before there is a member: what those of a running cluster say of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::{Cluster, InitialCluster, Member, Version};
use tracing::{error, info, warn};
use transport::{Call, PeerUrl, Tls};

use crate::error::StartError;
use crate::{Config, VERSION, resolve};

/// How long all others may take to tell who is in the cluster, as in etcd.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a founder, whose others may not be there yet.
const FOUNDER_TIMEOUT: Duration = Duration::from_secs(1);

/// A member's place in a cluster that runs.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) member_id: u64,
    pub(crate) cluster_id: u64,
    /// The other members with their peer URLs.
    pub(crate) others: Vec<(u64, Vec<String>)>,
}

/// Asks the others for the ids that the cluster goes by.
pub(crate) fn join(
    config: &Config,
    initial: &InitialCluster,
    tls: Option<&Tls>,
) -> Result<Place, StartError> {
    initial.verify_join(&config.name)?;
    let mut cluster = Cluster::bootstrap(initial, &config.initial_cluster_token)?;
    let existing =
        fetch(&urls_of_others(&cluster, &config.name), MEMBERS_TIMEOUT, tls).map_err(|err| {
            StartError::Join(format!("cannot fetch cluster info from peer urls: {err}"))
        })?;
    let names = resolve::look_up(cluster.names_to_resolve(&existing));
    cluster.assign_ids(&existing, &names).map_err(|err| {
        StartError::Join(format!("error validating peerURLs {}: {err}", describe(&existing)))
    })?;
    let local = cluster.member_by_name(&config.name).expect("verified above").id;
    if !is_compatible(&cluster, local, config.request_timeout(), tls) {
        return Err(StartError::Join("incompatible with current running cluster".to_owned()));
    }
    check_learners(config, &existing)?;
    let others = existing.members().filter(|member| member.id != local);
    Ok(Place {
        member_id: local,
        cluster_id: existing.id(),
        others: others.map(|member| (member.id, member.peer_urls.clone())).collect(),
    })
}

/// A founder whose others know it, with client URLs, was here before and has lost its data.
pub(crate) fn is_bootstrapped(cluster: &Cluster, name: &str, tls: Option<&Tls>) -> bool {
    let Some(local) = cluster.member_by_name(name) else { return false };
    let Ok(existing) = fetch(&urls_of_others(cluster, name), FOUNDER_TIMEOUT, tls) else {
        return false;
    };
    existing.member(local.id).is_some_and(|member| !member.client_urls.is_empty())
}

/// Whether there are no more learners than may be.
pub(crate) fn check_learners(config: &Config, cluster: &Cluster) -> Result<(), StartError> {
    let learners = cluster.members().filter(|member| member.is_learner).count();
    if learners > config.max_learners {
        let err = cluster::ConfChangeError::TooManyLearners;
        return Err(StartError::Join(err.to_string()));
    }
    Ok(())
}

fn urls_of_others(cluster: &Cluster, name: &str) -> Vec<String> {
    let others = cluster.members().filter(|member| member.name != name);
    let mut urls: Vec<String> = others.flat_map(|member| member.peer_urls.clone()).collect();
    urls.sort_unstable();
    urls
}

/// The members as the first of `urls` has them that answers.
fn fetch(urls: &[String], timeout: Duration, tls: Option<&Tls>) -> Result<Cluster, String> {
    const NO_ANSWER: &str = "could not retrieve cluster information from the given URLs";
    let end = Instant::now() + timeout;
    for url in PeerUrl::parse_all(urls).map_err(|_| NO_ANSWER.to_owned())? {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let address = format!("{url}/members");
        let answer = match Call::get(url, "/members", left).with_tls(tls).send_blocking() {
            Ok(answer) if answer.status == 200 => answer,
            Ok(answer) => {
                warn!(address, status = answer.status, "failed to get cluster response");
                continue;
            }
            Err(error) => {
                warn!(address, %error, "failed to get cluster response");
                continue;
            }
        };
        let members = match cluster::members_from_json(&answer.body) {
            Ok(members) => members,
            Err(error) => {
                warn!(address, %error, "failed to unmarshal cluster response");
                continue;
            }
        };
        let id = answer.headers.get("x-etcd-cluster-id").and_then(|id| id.to_str().ok());
        let Some(id) = id.and_then(|id| u64::from_str_radix(id, 16).ok()) else {
            warn!(address, "failed to parse cluster ID");
            continue;
        };
        if members.is_empty() {
            let none = "failed to get raft cluster member(s) from the given URLs";
            return Err(none.to_owned());
        }
        return Ok(Cluster::from_members(id, members));
    }
    Err(NO_ANSWER.to_owned())
}

/// Whether at least one of the others tells a cluster version, and all that do one that this server
/// can serve.
fn is_compatible(cluster: &Cluster, local: u64, timeout: Duration, tls: Option<&Tls>) -> bool {
    let others = cluster.members().filter(|member| member.id != local);
    let versions: BTreeMap<u64, Version> = others
        .filter_map(|member| Some((member.id, cluster_version(member, timeout, tls)?)))
        .collect();
    for (id, version) in &versions {
        if *version < Version::CLUSTER_MIN || *version > VERSION.cluster() {
            warn!(
                "remote-member-id" = format!("{id:x}"),
                "remote-cluster-version" = version.to_string(),
                "local-server-version" = VERSION.to_string(),
                "the cluster's version is none that this server supports"
            );
            return false;
        }
    }
    info!(members = versions.len(), "asked the members for the cluster's version");
    !versions.is_empty()
}

fn cluster_version(member: &Member, timeout: Duration, tls: Option<&Tls>) -> Option<Version> {
    for url in PeerUrl::parse_all(&member.peer_urls).ok()? {
        match Call::get(url.clone(), "/version", timeout).with_tls(tls).send_blocking() {
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                match field(&text, "etcdcluster").and_then(Version::parse) {
                    Some(version) => return Some(version),
                    None => error!(%url, text, "failed to parse cluster version of remote member"),
                }
            }
            Err(error) => warn!(%url, %error, "failed to reach the peer URL"),
        }
    }
    None
}

/// The text behind a name in a flat JSON object whose texts have no escapes, like a version.
pub(crate) fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    rest.split('"').next()
}

/// The cluster as etcd's error has it, which is as Go prints a structure.
fn describe(cluster: &Cluster) -> String {
    let members = cluster.members().map(|member| {
        format!(
            "&{{ID:{:x} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
            member.id,
            member.peer_urls.join(" "),
            member.is_learner,
            member.name,
            member.client_urls.join(" ")
        )
    });
    let members: Vec<String> = members.collect();
    format!("{{ClusterID:{:x} Members:[{}] RemovedMemberIDs:[]}}", cluster.id(), members.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        let json = r#"{"etcdserver":"3.7.3","etcdcluster": "3.6.0","storage":"3.6.0"}"#;
        assert_eq!(field(json, "etcdcluster"), Some("3.6.0"));
        assert_eq!(field(json, "etcd"), None);
        assert_eq!(field("", "etcdcluster"), None);
    }

    #[test]
    fn a_cluster_is_described_as_go_does() {
        let member = Member {
            id: 0x8e9e,
            peer_urls: vec!["http://a:1".to_owned(), "http://b:1".to_owned()],
            name: "n1".to_owned(),
            ..Member::default()
        };
        assert_eq!(
            describe(&Cluster::from_members(0xcdf8, [member])),
            "{ClusterID:cdf8 Members:[&{ID:8e9e RaftAttributes:{PeerURLs:[http://a:1 http://b:1] IsLearner:false} Attributes:{Name:n1 ClientURLs:[]}}] RemovedMemberIDs:[]}"
        );
    }
}
