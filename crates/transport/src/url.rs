//! The URLs of a peer, and which of them is in use.

use std::fmt;

use parking_lot::Mutex;

/// A peer URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUrl {
    text: String,
    scheme_len: usize,
}

impl PeerUrl {
    /// Checks and sorts URLs as etcd does.
    ///
    /// # Errors
    /// etcd's text for what a peer URL may not be.
    pub fn parse_all<S: AsRef<str>>(texts: &[S]) -> Result<Vec<Self>, cluster::InitialError> {
        let urls = cluster::parse_urls(texts)?;
        Ok(urls.into_iter().map(Self::from_checked).collect())
    }

    fn from_checked(text: String) -> Self {
        let scheme_len = text.find(':').unwrap_or(0);
        Self { text, scheme_len }
    }

    /// `http`, `https`, `unix` or `unixs`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.text[..self.scheme_len]
    }

    /// Whether TLS is spoken there.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        matches!(self.scheme(), "https" | "unixs")
    }

    /// Whether it names a socket in the file system.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.scheme().starts_with("unix")
    }

    /// `host:port`, or the path of a socket.
    #[must_use]
    pub fn address(&self) -> &str {
        let rest = self.text.get(self.scheme_len..).unwrap_or_default();
        let rest = rest.trim_start_matches(':').trim_start_matches('/');
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        if self.is_unix() { rest } else { rest.rsplit('@').next().unwrap_or_default() }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The URLs of one peer. One is used until it fails, then the next.
#[derive(Debug)]
pub(crate) struct Picker(Mutex<Picked>);

#[derive(Debug)]
struct Picked {
    urls: Vec<PeerUrl>,
    at: usize,
}

impl Picker {
    /// `urls` must not be empty.
    pub(crate) fn new(urls: Vec<PeerUrl>) -> Self {
        assert!(!urls.is_empty(), "a peer without URLs");
        Self(Mutex::new(Picked { urls, at: 0 }))
    }

    pub(crate) fn pick(&self) -> PeerUrl {
        let picked = self.0.lock();
        picked.urls[picked.at].clone()
    }

    /// The URL after the one in use, if `url` is still the one in use.
    pub(crate) fn unreachable(&self, url: &PeerUrl) {
        let mut picked = self.0.lock();
        if picked.urls[picked.at] == *url {
            picked.at = (picked.at + 1) % picked.urls.len();
        }
    }

    pub(crate) fn update(&self, urls: Vec<PeerUrl>) {
        assert!(!urls.is_empty(), "a peer without URLs");
        *self.0.lock() = Picked { urls, at: 0 };
    }

    pub(crate) fn all(&self) -> Vec<PeerUrl> {
        self.0.lock().urls.clone()
    }
}
