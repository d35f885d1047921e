//! The headers by which members know each other, and what is checked of them.

use std::fmt;

use cluster::Version;
use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::warn;

use crate::Config;
use crate::hex;

pub(crate) const SERVER_FROM: HeaderName = HeaderName::from_static("x-server-from");
pub(crate) const SERVER_VERSION: HeaderName = HeaderName::from_static("x-server-version");
pub(crate) const MIN_CLUSTER_VERSION: HeaderName = HeaderName::from_static("x-min-cluster-version");
pub(crate) const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
pub(crate) const RAFT_TO: HeaderName = HeaderName::from_static("x-raft-to");
pub(crate) const PEER_URLS: HeaderName = HeaderName::from_static("x-peerurls");

/// Taken for the version of a member that does not say: releases before 2.1 did not.
const VERSION_UNSAID: Version = Version::new(2, 0, 0);
/// The first version that has both streams.
const STREAMS_SINCE: Version = Version::new(2, 1, 0);

pub(crate) const INCOMPATIBLE_VERSION: &str = "incompatible version";
pub(crate) const CLUSTER_ID_MISMATCH: &str = "cluster ID mismatch";

/// Why a request is refused before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incompatible {
    Version,
    Cluster,
}

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => INCOMPATIBLE_VERSION,
            Self::Cluster => CLUSTER_ID_MISMATCH,
        })
    }
}

/// A header's value as text, empty if there is none.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Reads an id as etcd writes it: hexadecimal.
pub(crate) fn parse_id(text: &str) -> Option<u64> {
    // Rust would take a sign.
    text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok())?
}

/// Headers of every request to raft's pages.
pub(crate) fn identify(config: &Config, headers: &mut HeaderMap) {
    let mut set = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    set(SERVER_FROM, &hex(config.id));
    set(SERVER_VERSION, &config.version);
    set(MIN_CLUSTER_VERSION, "3.0.0");
    set(CLUSTER_ID, &hex(config.cluster_id));
    set(PEER_URLS, &config.urls.join(","));
}

/// The sender's URLs, if it names any.
pub(crate) fn peer_urls(headers: &HeaderMap) -> Option<Vec<String>> {
    let urls = text(headers, &PEER_URLS);
    (!urls.is_empty()).then(|| urls.split(',').map(str::to_owned).collect())
}

/// The version in header `name`. `None`: it cannot be read.
fn version(headers: &HeaderMap, name: &HeaderName) -> Option<Version> {
    match text(headers, name) {
        "" => Some(VERSION_UNSAID),
        text => Version::parse(text),
    }
}

/// Checks who asks, as etcd does: first the version, then the cluster.
pub(crate) fn check(config: &Config, headers: &HeaderMap) -> Result<(), Incompatible> {
    let local = Version::parse(&config.version).unwrap_or_default();
    let server = version(headers, &SERVER_VERSION);
    let minimum = version(headers, &MIN_CLUSTER_VERSION);
    let too_low = server.is_none_or(|server| server.cluster() < Version::CLUSTER_MIN);
    let too_high = minimum.is_none_or(|minimum| minimum.cluster() > local.cluster());
    if too_low || too_high {
        let remote = text(headers, &SERVER_FROM);
        let shown = server.map_or_else(String::new, |server| server.to_string());
        let which = if too_low { "remote" } else { "local" };
        warn!(
            "local-member-id" = hex(config.id),
            "local-member-cluster-id" = hex(config.cluster_id),
            "local-member-server-version" = config.version,
            "local-member-server-minimum-cluster-version" = "3.0.0",
            "remote-peer-server-name" = remote,
            "remote-peer-server-version" = shown,
            "remote-peer-server-minimum-cluster-version" = text(headers, &MIN_CLUSTER_VERSION),
            error = format!(
                "{which} version is too low: remote[{remote}]={shown}, local={}",
                config.version
            ),
            "failed version compatibility check"
        );
        return Err(Incompatible::Version);
    }
    let cluster = text(headers, &CLUSTER_ID);
    if cluster != hex(config.cluster_id) {
        warn!(
            "local-member-id" = hex(config.id),
            "local-member-cluster-id" = hex(config.cluster_id),
            "local-member-server-version" = config.version,
            "remote-peer-server-name" = text(headers, &SERVER_FROM),
            "remote-peer-server-version" = text(headers, &SERVER_VERSION),
            "remote-peer-cluster-id" = cluster,
            "request cluster ID mismatch"
        );
        return Err(Incompatible::Cluster);
    }
    Ok(())
}

/// Whether a server that answered with these headers has the streams.
pub(crate) fn has_streams(headers: &HeaderMap) -> bool {
    version(headers, &SERVER_VERSION).is_some_and(|server| server.cluster() >= STREAMS_SINCE)
}
