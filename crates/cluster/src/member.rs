//! A member, its JSON, and how ids are made.

use bytes::Bytes;
use serde::Deserialize;
use sha1::{Digest, Sha1};

use crate::json::{put_string, put_strings};

/// Bytes that are not the JSON of a member.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(#[from] serde_json::Error);

/// What a member says of itself once it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id; see [`member_id`].
    pub id: u64,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// An id of a member or of a cluster as etcd writes it: hexadecimal, not padded.
pub fn hex(id: u64) -> String {
    format!("{id:x}")
}

impl Member {
    /// Whether it has told its name, which it does when it has started.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// Its id as in keys and logs.
    pub fn id_text(&self) -> String {
        hex(self.id)
    }

    /// The JSON under which etcd stores a member, and the context of the change that adds it.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.put_json(&mut out);
        out
    }

    fn put_json(&self, out: &mut String) {
        out.push_str(&format!("{{\"id\":{},\"peerURLs\":", self.id));
        put_strings(out, &self.peer_urls);
        if self.is_learner {
            out.push_str(",\"isLearner\":true");
        }
        if !self.name.is_empty() {
            out.push_str(",\"name\":");
            put_string(out, &self.name);
        }
        if !self.client_urls.is_empty() {
            out.push_str(",\"clientURLs\":");
            put_strings(out, &self.client_urls);
        }
        out.push('}');
    }

    /// Reads what [`Member::to_json`] writes; unknown fields are skipped, missing ones empty.
    ///
    /// # Errors
    /// If the bytes are not the JSON of a member.
    pub fn from_json(bytes: &[u8]) -> Result<Self, JsonError> {
        Ok(Context::from_json(bytes)?.member)
    }

    /// The part that raft's configuration changes set, as in the v2 store.
    pub(crate) fn raft_attributes_json(&self) -> String {
        let mut out = String::from("{\"peerURLs\":");
        put_strings(&mut out, &self.peer_urls);
        if self.is_learner {
            out.push_str(",\"isLearner\":true");
        }
        out.push('}');
        out
    }

    /// The part that the member sets, as in the v2 store.
    pub(crate) fn attributes_json(&self) -> String {
        let mut out = String::from("{");
        if !self.name.is_empty() {
            out.push_str("\"name\":");
            put_string(&mut out, &self.name);
        }
        if !self.client_urls.is_empty() {
            out.push_str(if out.len() > 1 { ",\"clientURLs\":" } else { "\"clientURLs\":" });
            put_strings(&mut out, &self.client_urls);
        }
        out.push('}');
        out
    }
}

/// A list of members, as `/members` of the peer port answers.
pub fn members_to_json<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    let mut out = String::from("[");
    for member in members {
        if out.len() > 1 {
            out.push(',');
        }
        member.put_json(&mut out);
    }
    out.push(']');
    out
}

/// Reads a list of members.
///
/// # Errors
/// If the bytes are not that.
pub fn members_from_json(bytes: &[u8]) -> Result<Vec<Member>, JsonError> {
    let members: Option<Vec<JsonMember>> = serde_json::from_slice(bytes)?;
    Ok(members.unwrap_or_default().into_iter().map(|json| Context::from(json).member).collect())
}

/// The context of the change that makes a learner a voter.
pub fn promote_context(id: u64) -> Bytes {
    format!("{{\"id\":{id},\"peerURLs\":null,\"isPromote\":true}}").into()
}

/// The context of a configuration change.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) member: Member,
    pub(crate) is_promote: bool,
}

impl Context {
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, JsonError> {
        Ok(serde_json::from_slice::<JsonMember>(bytes)?.into())
    }
}

/// As read: Go takes `null` for an absent value.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct JsonMember {
    id: Option<u64>,
    #[serde(rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner")]
    is_learner: Option<bool>,
    name: Option<String>,
    #[serde(rename = "clientURLs")]
    client_urls: Option<Vec<String>>,
    #[serde(rename = "isPromote")]
    is_promote: Option<bool>,
}

impl From<JsonMember> for Context {
    fn from(json: JsonMember) -> Self {
        let member = Member {
            id: json.id.unwrap_or_default(),
            peer_urls: json.peer_urls.unwrap_or_default(),
            is_learner: json.is_learner.unwrap_or_default(),
            name: json.name.unwrap_or_default(),
            client_urls: json.client_urls.unwrap_or_default(),
        };
        Self { member, is_promote: json.is_promote.unwrap_or_default() }
    }
}

/// The id of a member: of its peer URLs in order and of `salt`, which is the cluster's token at
/// bootstrap, and the time in decimal Unix seconds for a member that is added later.
pub fn member_id(peer_urls: &[String], salt: &str) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url.as_bytes());
    }
    hash.update(salt.as_bytes());
    first_8_bytes(&hash.finalize())
}

/// The id of a cluster, of the ids of its first members in ascending order.
pub fn cluster_id(members: impl IntoIterator<Item = u64>) -> u64 {
    let mut ids: Vec<u64> = members.into_iter().collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    first_8_bytes(&hash.finalize())
}

fn first_8_bytes(digest: &[u8]) -> u64 {
    let head = digest.first_chunk::<8>().expect("SHA-1 has 20 bytes");
    u64::from_be_bytes(*head)
}
