//! `--initial-cluster`: the first members, as an operator writes them down.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::names::{self, Names};

/// Why an initial cluster cannot be used. The texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitialError {
    /// A name without a URL.
    #[error("no valid URLs given")]
    NoUrls,
    /// Text that is no URL at all.
    #[error("parse {0:?}: invalid URL")]
    Url(String),
    /// Another scheme.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// No port, or too many colons.
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    /// More than an address.
    #[error("URL must not contain a path: {0}")]
    Path(String),
    /// This member is not among the first ones.
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    LocalName(String),
    /// Two members with one URL.
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    /// Nothing to bootstrap from.
    #[error("initial cluster unset and no discovery endpoints found")]
    Unset,
    /// The URLs under this member's name are not those that it advertises.
    #[error(
        "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={advertised} ({reason})"
    )]
    NotAdvertised {
        /// What is missing, as `name=url,...`.
        missing: String,
        /// What is advertised.
        advertised: String,
        /// How they were compared.
        reason: String,
    },
    /// The URLs that it advertises are not those under its name.
    #[error(
        "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={initial}"
    )]
    NotInCluster {
        /// What is missing.
        missing: String,
        /// What is advertised, as `name=url,...`.
        initial: String,
    },
    /// Names that do not resolve to the same addresses.
    #[error("failed to resolve {advertised} to match --initial-cluster={initial} ({reason})")]
    Unresolved {
        /// What is advertised.
        advertised: String,
        /// What is advertised, as `name=url,...`.
        initial: String,
        /// Why not.
        reason: String,
    },
    /// Two members that get the same id.
    #[error("member exists with identical ID {0:x}")]
    IdenticalId(u64),
    /// The id that raft uses for "none".
    #[error("cannot use 0 as member id")]
    NoId,
    /// The running cluster has another number of members.
    #[error("member count is unequal")]
    UnequalCount,
    /// A member of the running cluster that is not in the list.
    #[error(
        "PeerURLs: no match found for existing member ({id:x}, [{urls}]), last resolver error ({reason})"
    )]
    NoMatch {
        /// The member.
        id: u64,
        /// Its URLs.
        urls: String,
        /// Why the last one compared was another.
        reason: String,
    },
}

/// Names and peer URLs of the first members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialCluster {
    /// URLs by name, sorted.
    pub members: BTreeMap<String, Vec<String>>,
}

impl InitialCluster {
    /// Reads `name=url,name=url,...`; a name may stand there more than once.
    ///
    /// # Errors
    /// If a URL is not acceptable.
    pub fn parse(text: &str) -> Result<Self, InitialError> {
        let mut lists: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
            lists.entry(name).or_default().push(url);
        }
        let mut members = BTreeMap::new();
        for (name, urls) in lists {
            members.insert(name.to_owned(), parse_urls(&urls)?);
        }
        Ok(Self { members })
    }

    /// All URLs, sorted.
    pub fn urls(&self) -> Vec<String> {
        let mut urls: Vec<String> = self.members.values().flatten().cloned().collect();
        urls.sort_unstable();
        urls
    }

    /// What must be looked up before [`InitialCluster::verify_bootstrap`]: each `host:port` whose host is a name, if
    /// the lists differ as they stand.
    #[must_use]
    pub fn names_to_resolve(&self, name: &str, advertised: &[String]) -> BTreeSet<String> {
        let initial = self.members.get(name).map_or(&[][..], Vec::as_slice);
        if initial.len() != advertised.len() || names::is_same(advertised, initial) {
            return BTreeSet::new();
        }
        names::named(advertised.iter().chain(initial))
    }

    /// Checks a list from which a new cluster is to begin. `discovers`: whether the members are to
    /// be found by discovery.
    ///
    /// # Errors
    /// See [`InitialError`].
    pub fn verify_bootstrap(
        &self,
        name: &str,
        advertised: &[String],
        discovers: bool,
        names: &Names,
    ) -> Result<(), InitialError> {
        self.verify_name(name)?;
        self.verify_advertised(name, advertised, names)?;
        self.verify_unique()?;
        if self.members.is_empty() && !discovers {
            return Err(InitialError::Unset);
        }
        Ok(())
    }

    /// Checks a list with which a member joins a running cluster.
    ///
    /// # Errors
    /// See [`InitialError`].
    pub fn verify_join(&self, name: &str) -> Result<(), InitialError> {
        self.verify_name(name)?;
        self.verify_unique()
    }

    fn verify_name(&self, name: &str) -> Result<(), InitialError> {
        if self.members.contains_key(name) {
            Ok(())
        } else {
            Err(InitialError::LocalName(name.to_owned()))
        }
    }

    fn verify_unique(&self) -> Result<(), InitialError> {
        let mut seen = BTreeSet::new();
        if self.members.values().flatten().all(|url| seen.insert(url)) {
            Ok(())
        } else {
            Err(InitialError::DuplicateUrl(self.to_string()))
        }
    }

    fn verify_advertised(
        &self,
        name: &str,
        advertised: &[String],
        names: &Names,
    ) -> Result<(), InitialError> {
        let initial: BTreeSet<_> = self.members.get(name).into_iter().flatten().collect();
        let wanted: BTreeSet<_> = advertised.iter().collect();
        let (mut a, mut b): (Vec<_>, Vec<_>) =
            (advertised.to_vec(), self.members.get(name).cloned().unwrap_or_default());
        a.sort_unstable();
        b.sort_unstable();
        let Err(reason) = names.compare(&a, &b) else { return Ok(()) };
        let with_name = |urls: &[String]| {
            urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
        };
        let missing: Vec<String> = initial.difference(&wanted).map(|&url| url.clone()).collect();
        if !missing.is_empty() {
            let missing = with_name(&missing);
            return Err(InitialError::NotAdvertised { missing, advertised: a.join(","), reason });
        }
        let missing: Vec<String> = wanted.difference(&initial).map(|&url| url.clone()).collect();
        if !missing.is_empty() {
            let missing = missing.join(",");
            return Err(InitialError::NotInCluster { missing, initial: with_name(&a) });
        }
        Err(InitialError::Unresolved { advertised: a.join(","), initial: with_name(&a), reason })
    }
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs: Vec<String> = Vec::new();
        for (name, urls) in &self.members {
            pairs.extend(urls.iter().map(|url| format!("{name}={url}")));
        }
        pairs.sort_unstable();
        f.write_str(&pairs.join(","))
    }
}

/// Checks URLs of peers or clients, and sorts them.
///
/// # Errors
/// See [`InitialError`].
pub fn parse_urls<S: AsRef<str>>(texts: &[S]) -> Result<Vec<String>, InitialError> {
    if texts.is_empty() {
        return Err(InitialError::NoUrls);
    }
    let mut urls = Vec::with_capacity(texts.len());
    for text in texts {
        urls.push(parse_url(text.as_ref().trim())?);
    }
    urls.sort_unstable();
    Ok(urls)
}

fn parse_url(text: &str) -> Result<String, InitialError> {
    let invalid = |c: char| c.is_ascii_control() || c == ' ';
    if text.contains(invalid) {
        return Err(InitialError::Url(text.to_owned()));
    }
    let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
    let scheme = scheme.to_ascii_lowercase();
    match scheme.as_str() {
        "unix" | "unixs" => {}
        "http" | "https" => {
            let after = rest.strip_prefix("//").unwrap_or("");
            let end = after.find(['/', '?', '#']).unwrap_or(after.len());
            let (authority, tail) = after.split_at(end);
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            if !is_host_port(host) {
                return Err(InitialError::HostPort(text.to_owned()));
            }
            if tail.starts_with('/') {
                return Err(InitialError::Path(text.to_owned()));
            }
        }
        _ => return Err(InitialError::Scheme(text.to_owned())),
    }
    Ok(format!("{scheme}:{rest}"))
}

/// `host:port`, where the host may be empty or an address in brackets.
fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    match host.strip_prefix('[') {
        Some(address) => {
            address.strip_suffix(']').is_some_and(|address| !address.contains(['[', ']']))
        }
        None => !host.contains([':', '[', ']']),
    }
}
