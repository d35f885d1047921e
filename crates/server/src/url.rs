//! The URLs that flags name.

use std::fmt;
use std::net::IpAddr;

/// A URL of a listener or of a member, as far as etcd allows one: scheme and host, or a socket path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    scheme: String,
    host: String,
}

impl Url {
    /// Reads `http://host:port`, `https://…`, `unix://path` or `unixs://path`.
    ///
    /// # Errors
    /// etcd's texts for what a URL of its flags may not be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("URL scheme must be http, https, unix, or unixs: {text}"));
        };
        let url = Self { scheme: scheme.to_owned(), host: rest.trim_end_matches('/').to_owned() };
        match scheme {
            "unix" | "unixs" if !url.host.is_empty() => return Ok(url),
            "http" | "https" => {}
            _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        }
        if url.host.contains('/') {
            return Err(format!("URL must not contain a path: {text}"));
        }
        let port = url.host_port().and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            return Err(format!("URL address does not have the form \"host:port\": {text}"));
        }
        Ok(url)
    }

    /// Reads a comma-separated list, sorted as etcd sorts it.
    ///
    /// # Errors
    /// As [`Url::parse`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let mut urls =
            text.split(',').map(str::trim).map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        Ok(urls)
    }

    /// `http`, `https`, `unix` or `unixs`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Whether it wants TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.scheme == "https" || self.scheme == "unixs"
    }

    /// `host:port`, or the path of a socket.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.host
    }

    /// The path of a Unix socket.
    #[must_use]
    pub fn socket_path(&self) -> Option<&str> {
        self.scheme.starts_with("unix").then_some(self.host.as_str())
    }

    fn host_port(&self) -> Option<(&str, &str)> {
        let (host, port) = self.host.rsplit_once(':')?;
        Some((host.trim_start_matches('[').trim_end_matches(']'), port))
    }

    /// etcd binds only to addresses and `localhost`, never to a name that has to be looked up.
    ///
    /// # Errors
    /// etcd's text.
    pub fn check_bindable(&self) -> Result<(), String> {
        if self.socket_path().is_some() {
            return Ok(());
        }
        let Some((host, _)) = self.host_port() else {
            return Err(format!("missing port in address {self}"));
        };
        if host == "localhost" || host.is_empty() || host.parse::<IpAddr>().is_ok() {
            Ok(())
        } else {
            Err(format!("expected IP in URL for binding ({self})"))
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)
    }
}
