//! Whether URLs are the same when one has a name where the other has an address.

// Addresses alone, without sockets.
use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet};

/// What the names in URLs stand for. Whoever compares URLs has had them looked up before, if it must be.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// By `host:port` as it stands in a URL: the address, or why there is none.
    known: BTreeMap<String, Result<SocketAddr, String>>,
}

impl FromIterator<(String, Result<SocketAddr, String>)> for Names {
    fn from_iter<I: IntoIterator<Item = (String, Result<SocketAddr, String>)>>(known: I) -> Self {
        Self { known: known.into_iter().collect() }
    }
}

impl Names {
    /// The URL with the address in place of the name.
    fn resolve(&self, url: &str) -> Result<String, String> {
        match authority(url).and_then(|authority| self.known.get(authority)) {
            Some(Ok(address)) => Ok(with_authority(url, &address.to_string())),
            Some(Err(reason)) => Err(format!("failed to resolve {url:?} ({reason})")),
            None => Ok(url.to_owned()),
        }
    }

    /// Whether two lists of URLs are the same. `localhost` is no name of an address here, as in etcd, whose texts
    /// these are.
    pub(crate) fn compare(&self, a: &[String], b: &[String]) -> Result<(), String> {
        if a.len() != b.len() {
            return Err(format!("len({}) != len({})", go_strings(a), go_strings(b)));
        }
        if is_same(a, b) {
            return Ok(());
        }
        let resolved = |urls: &[String]| {
            urls.iter().map(|url| self.resolve(url)).collect::<Result<Vec<_>, _>>().map(sorted)
        };
        let (a, b) = (resolved(a)?, resolved(b)?);
        match a.iter().zip(&b).find(|(a, b)| normalized(a) != normalized(b)) {
            Some((a, b)) => Err(format!("resolved urls: {a:?} != {b:?}")),
            None => Ok(()),
        }
    }
}

/// Whether two lists of URLs are the same without any name looked up.
pub(crate) fn is_same(a: &[String], b: &[String]) -> bool {
    let normalized = |urls: &[String]| sorted(urls.iter().map(|url| normalized(url)).collect());
    normalized(a) == normalized(b)
}

/// Each `host:port` of these URLs whose host is a name.
pub(crate) fn named<'a>(urls: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    let authorities = urls.into_iter().filter_map(|url| authority(url));
    let is_name = |authority: &&str| {
        let host = authority.rsplit_once(':').map_or(*authority, |(host, _)| host);
        host != "localhost" && address(host).is_none()
    };
    authorities.filter(is_name).map(str::to_owned).collect()
}

/// `host:port` of a URL that has been checked; `None` for a socket's path.
fn authority(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    if scheme.starts_with("unix") {
        return None;
    }
    rest.split(['/', '?', '#']).next()
}

fn with_authority(url: &str, authority: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let tail = rest.find(['/', '?', '#']).map_or("", |at| &rest[at..]);
            format!("{scheme}://{authority}{tail}")
        }
        None => url.to_owned(),
    }
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

/// One address is written in one way.
fn normalized(url: &str) -> String {
    let parts = authority(url).and_then(|authority| authority.rsplit_once(':'));
    match parts.and_then(|(host, port)| Some((address(host)?, port))) {
        Some((IpAddr::V4(ip), port)) => with_authority(url, &format!("{ip}:{port}")),
        Some((IpAddr::V6(ip), port)) => with_authority(url, &format!("[{ip}]:{port}")),
        None => url.to_owned(),
    }
}

fn sorted(mut urls: Vec<String>) -> Vec<String> {
    urls.sort_unstable();
    urls
}

/// A list as Go's `%q` shows it.
fn go_strings(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn names_are_compared_by_what_they_stand_for() {
        let lookup = |name: &str, address: Result<&str, &str>| {
            let address = address.map(|text| text.parse().expect("an address"));
            (name.to_owned(), address.map_err(str::to_owned))
        };
        let names = Names::from_iter([
            lookup("a:1", Ok("10.0.0.1:1")),
            lookup("b:1", Ok("10.0.0.2:1")),
            lookup("six:1", Ok("[::1]:1")),
            lookup("none:1", Err("no such host")),
        ]);
        for (a, b, expected) in [
            ("http://a:1", "http://a:1", ""),
            ("http://a:1", "http://10.0.0.1:1", ""),
            ("http://a:1 http://b:1", "http://10.0.0.2:1 http://10.0.0.1:1", ""),
            ("http://six:1", "http://[0:0:0::1]:1", ""),
            ("http://[::1]:1", "http://[0:0:0::1]:1", ""),
            // It need not be looked up.
            ("http://none:1", "http://none:1", ""),
            ("unix:///a:1", "unix:///a:1", ""),
            (
                "http://a:1",
                "https://10.0.0.1:1",
                "resolved urls: \"http://10.0.0.1:1\" != \"https://10.0.0.1:1\"",
            ),
            (
                "http://localhost:1",
                "http://127.0.0.1:1",
                "resolved urls: \"http://localhost:1\" != \"http://127.0.0.1:1\"",
            ),
            (
                "http://none:1",
                "http://10.0.0.1:1",
                "failed to resolve \"http://none:1\" (no such host)",
            ),
            (
                "http://a:1 http://b:1",
                "http://a:1",
                "len([\"http://a:1\" \"http://b:1\"]) != len([\"http://a:1\"])",
            ),
        ] {
            let result = names.compare(&urls(a), &urls(b));
            assert_eq!(result.err().unwrap_or_default(), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_names_are_looked_up() {
        let text = "http://b:1 http://10.0.0.1:1 http://[::1]:1 http://localhost:1 unix:///a:1 https://a:2?x";
        assert_eq!(named(&urls(text)).into_iter().collect::<Vec<_>>(), ["a:2", "b:1"]);
    }
}
