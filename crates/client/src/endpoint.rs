//! Endpoints: what a user writes, and where it leads.

use crate::error::{Error, Result};

/// Where to connect, and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `host:port`, which is the authority, too.
    Tcp(String),
    /// The path of a socket; the authority is the file's name, or `localhost` where that cannot be one.
    Unix(String),
    /// What no connection can be made to, and why; found out when it is tried, as in clientv3, since other endpoints may do.
    Nowhere(String, &'static str),
}

impl Target {
    /// Reads `http://host:port`, `host:port`, `unix:path`, `unix://path` or `unix:///path`.
    pub(crate) fn parse(endpoint: &str) -> Result<Self> {
        let wrong = |reason: String| Error::Endpoint { endpoint: endpoint.to_owned(), reason };
        if let Some(path) = endpoint.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(wrong("no path to a socket".to_owned()));
            }
            return Ok(Self::Unix(path.to_owned()));
        }
        let (scheme, rest) = match endpoint.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if endpoint.starts_with("unixs:") => ("unixs", ""),
            None => ("http", endpoint),
        };
        match scheme {
            "http" => {}
            "https" | "unixs" => {
                return Err(wrong(format!(
                    "{scheme} is not supported: this client has no TLS yet"
                )));
            }
            _ => return Ok(Self::Nowhere(endpoint.to_owned(), "too many colons in address")),
        }
        let address = rest.split('/').next().unwrap_or_default();
        Ok(match address.rsplit_once(':') {
            _ if address.is_empty() => Self::Nowhere(String::new(), "missing address"),
            None => Self::Nowhere(address.to_owned(), "missing port in address"),
            Some((_, port)) if port.parse::<u16>().is_err() => {
                Self::Nowhere(address.to_owned(), "unknown port")
            }
            // Without a host it is this one.
            Some(("", port)) => Self::Tcp(format!("localhost:{port}")),
            Some(_) => Self::Tcp(address.to_owned()),
        })
    }

    /// The address, for errors.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Tcp(address) | Self::Nowhere(address, _) => address.clone(),
            Self::Unix(path) => format!("unix {path}"),
        }
    }

    /// The `:authority` of requests.
    pub(crate) fn authority(&self) -> &str {
        match self {
            Self::Tcp(address) | Self::Nowhere(address, _) => address,
            Self::Unix(path) => {
                let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
                let is_authority = !name.is_empty() && name.bytes().all(may_be_in_authority);
                if is_authority { name } else { "localhost" }
            }
        }
    }
}

/// The bytes that RFC 3986 3.2 has in an authority.
fn may_be_in_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@[]%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::Target;

    /// The target, or the error.
    fn show(endpoint: &str) -> String {
        match Target::parse(endpoint) {
            Ok(target) => format!("{target:?} as {}", target.authority()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn endpoints_lead_somewhere() {
        let table = [
            ("http://10.0.0.1:2379", "Tcp(\"10.0.0.1:2379\") as 10.0.0.1:2379"),
            ("10.0.0.1:2379", "Tcp(\"10.0.0.1:2379\") as 10.0.0.1:2379"),
            ("http://[::1]:2379/", "Tcp(\"[::1]:2379\") as [::1]:2379"),
            ("http://etcd:2379/some/path", "Tcp(\"etcd:2379\") as etcd:2379"),
            ("unix:///run/etcd.sock", "Unix(\"/run/etcd.sock\") as etcd.sock"),
            ("unix://etcd.sock:1", "Unix(\"etcd.sock:1\") as etcd.sock:1"),
            ("unix:etcd.sock", "Unix(\"etcd.sock\") as etcd.sock"),
            ("unix:a/b c", "Unix(\"a/b c\") as localhost"),
            ("unix:/", "Unix(\"/\") as localhost"),
            ("unix:", "endpoint unix:: no path to a socket"),
            ("http://etcd", "Nowhere(\"etcd\", \"missing port in address\") as etcd"),
            ("http://:2379", "Tcp(\"localhost:2379\") as localhost:2379"),
            ("etcd:x", "Nowhere(\"etcd:x\", \"unknown port\") as etcd:x"),
            (
                "ftp://etcd:1",
                "Nowhere(\"ftp://etcd:1\", \"too many colons in address\") as ftp://etcd:1",
            ),
            ("", "Nowhere(\"\", \"missing address\") as "),
            (
                "https://etcd:1",
                "endpoint https://etcd:1: https is not supported: this client has no TLS yet",
            ),
            (
                "unixs:path",
                "endpoint unixs:path: unixs is not supported: this client has no TLS yet",
            ),
        ];
        for (endpoint, expected) in table {
            assert_eq!(show(endpoint), expected);
        }
    }
}
