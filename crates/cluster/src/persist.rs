//! Where members, versions and raft's configuration stand in the backend.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use backend::{Backend, Bucket, Reader};
use bytes::Bytes;
use mutant::mutant;
use raft::ConfState;
use serde::Deserialize;

use crate::json::put_string;
use crate::{Downgrade, JsonError, MEMBERS_REMOVED_VALUE, Member, Version, hex};

pub(crate) const CLUSTER_VERSION_KEY: &[u8] = b"clusterVersion";
const DOWNGRADE_KEY: &[u8] = b"downgrade";
/// The row of bucket `meta` with raft's configuration as JSON.
pub const CONF_STATE_KEY: &[u8] = b"confState";
const STORAGE_VERSION_KEY: &[u8] = b"storageVersion";

/// Why the membership could not be read; the caller stops the process.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The database is damaged or the disk failed.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// A row is not what etcd writes.
    #[error("couldn't read {bucket} from backend: key {key:?}: {reason}")]
    Damaged {
        /// The bucket's name.
        bucket: &'static str,
        /// The row's key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

fn damaged(bucket: &'static str, key: &[u8], reason: impl ToString) -> RestoreError {
    let key = String::from_utf8_lossy(key).into_owned();
    RestoreError::Damaged { bucket, key, reason: reason.to_string() }
}

fn parse_member_key(key: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(key).ok()?, 16).ok()
}

/// Visits all rows of a bucket until one is wrong.
fn for_each(
    reader: &Reader,
    bucket: Bucket,
    name: &'static str,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
) -> Result<(), RestoreError> {
    let mut result = Ok(());
    reader.scan(bucket, &[], &[], 0, |key, value| match visit(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(reason) => {
            result = Err(damaged(name, key, reason));
            ControlFlow::Break(())
        }
    })?;
    result
}

pub(crate) fn load_members(
    reader: &Reader,
) -> Result<(BTreeMap<u64, Member>, BTreeSet<u64>), RestoreError> {
    const BAD_KEY: &str = "failed to parse member id from key";
    let mut members = BTreeMap::new();
    for_each(reader, Bucket::Members, "members", |key, value| {
        let id = parse_member_key(key).ok_or(BAD_KEY)?;
        let member = Member::from_json(value).map_err(|err| err.to_string())?;
        members.insert(id, member);
        Ok(())
    })?;
    let mut removed = BTreeSet::new();
    for_each(reader, Bucket::MembersRemoved, "members_removed", |key, _| {
        removed.insert(parse_member_key(key).ok_or(BAD_KEY)?);
        Ok(())
    })?;
    Ok((members, removed))
}

pub(crate) fn save_member(member: &Member, backend: &mut Backend) {
    let key = hex(member.id);
    backend.put(Bucket::Members, key.as_bytes(), member.to_json().into());
}

pub(crate) fn remove_member(id: u64, backend: &mut Backend) {
    let key = hex(id);
    let mut writer = backend.write();
    writer.delete(Bucket::Members, key.as_bytes());
    if mutant!("13196") {
        return;
    }
    let value = Bytes::from_static(MEMBERS_REMOVED_VALUE);
    writer.put(Bucket::MembersRemoved, key.as_bytes(), value);
}

pub(crate) fn trim_members(backend: &mut Backend) -> Result<(), RestoreError> {
    for bucket in [Bucket::Members, Bucket::MembersRemoved] {
        let mut keys = Vec::new();
        backend.reader().scan(bucket, &[], &[], 0, |key, _| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        for key in keys {
            backend.delete(bucket, &key);
        }
    }
    Ok(())
}

pub(crate) fn load_version(reader: &Reader) -> Result<Option<Version>, RestoreError> {
    let Some(text) = reader.get(Bucket::Cluster, CLUSTER_VERSION_KEY)? else { return Ok(None) };
    match std::str::from_utf8(&text).ok().and_then(Version::parse) {
        Some(version) => Ok(Some(version)),
        None => Err(damaged("cluster", CLUSTER_VERSION_KEY, "not a version")),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct JsonDowngrade {
    #[serde(rename = "target-version")]
    target_version: Option<String>,
    enabled: Option<bool>,
}

pub(crate) fn load_downgrade(reader: &Reader) -> Result<Downgrade, RestoreError> {
    let Some(json) = reader.get(Bucket::Cluster, DOWNGRADE_KEY)? else {
        return Ok(Downgrade::default());
    };
    let json: JsonDowngrade =
        serde_json::from_slice(&json).map_err(|err| damaged("cluster", DOWNGRADE_KEY, err))?;
    let downgrade = Downgrade {
        target_version: json.target_version.unwrap_or_default(),
        enabled: json.enabled.unwrap_or_default(),
    };
    if downgrade.enabled && Version::parse(&downgrade.target_version).is_none() {
        return Err(damaged("cluster", DOWNGRADE_KEY, "not a version"));
    }
    Ok(downgrade)
}

pub(crate) fn save_downgrade(downgrade: &Downgrade, backend: &mut Backend) {
    let mut json = String::from("{\"target-version\":");
    put_string(&mut json, &downgrade.target_version);
    json.push_str(&format!(",\"enabled\":{}}}", downgrade.enabled));
    backend.put(Bucket::Cluster, DOWNGRADE_KEY, json.into());
}

/// Raft's configuration as JSON: empty lists are left out, and `auto_leave` if it is unset.
pub fn conf_state_to_json(conf_state: &ConfState) -> String {
    let lists = [
        ("voters", &conf_state.voters),
        ("learners", &conf_state.learners),
        ("voters_outgoing", &conf_state.voters_outgoing),
        ("learners_next", &conf_state.learners_next),
    ];
    let mut fields: Vec<String> = Vec::new();
    for (name, ids) in lists {
        if !ids.is_empty() {
            let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
            fields.push(format!("\"{name}\":[{}]", ids.join(",")));
        }
    }
    if let Some(auto_leave) = conf_state.auto_leave {
        fields.push(format!("\"auto_leave\":{auto_leave}"));
    }
    format!("{{{}}}", fields.join(","))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct JsonConfState {
    voters: Option<Vec<u64>>,
    learners: Option<Vec<u64>>,
    voters_outgoing: Option<Vec<u64>>,
    learners_next: Option<Vec<u64>>,
    auto_leave: Option<bool>,
}

/// Reads what [`conf_state_to_json`] writes.
///
/// # Errors
/// If the bytes are not that.
pub fn conf_state_from_json(bytes: &[u8]) -> Result<ConfState, JsonError> {
    let json: JsonConfState = serde_json::from_slice(bytes)?;
    Ok(ConfState {
        voters: json.voters.unwrap_or_default(),
        learners: json.learners.unwrap_or_default(),
        voters_outgoing: json.voters_outgoing.unwrap_or_default(),
        learners_next: json.learners_next.unwrap_or_default(),
        auto_leave: json.auto_leave,
    })
}

/// Writes raft's configuration to bucket `meta`.
pub fn save_conf_state(conf_state: &ConfState, backend: &mut Backend) {
    backend.put(Bucket::Meta, CONF_STATE_KEY, conf_state_to_json(conf_state).into());
}

/// Reads raft's configuration from bucket `meta`; `None` before etcd 3.5.
///
/// # Errors
/// If the database is damaged.
pub fn load_conf_state(reader: &Reader) -> Result<Option<ConfState>, RestoreError> {
    let Some(json) = reader.get(Bucket::Meta, CONF_STATE_KEY)? else { return Ok(None) };
    match conf_state_from_json(&json) {
        Ok(conf_state) => Ok(Some(conf_state)),
        Err(err) => Err(damaged("meta", CONF_STATE_KEY, err)),
    }
}

/// Writes which version's data the backend holds; `None` removes the field, as etcd 3.5 has none.
pub fn save_storage_version(version: Option<Version>, backend: &mut Backend) {
    match version {
        Some(version) => {
            let text = version.cluster().to_string().into();
            backend.put(Bucket::Meta, STORAGE_VERSION_KEY, text);
        }
        None => backend.delete(Bucket::Meta, STORAGE_VERSION_KEY),
    }
}

/// Reads which version's data the backend holds; `None` before etcd 3.6, or if it is no version.
///
/// # Errors
/// If the database is damaged.
pub fn load_storage_version(reader: &Reader) -> Result<Option<Version>, RestoreError> {
    let text = reader.get(Bucket::Meta, STORAGE_VERSION_KEY)?;
    Ok(text.and_then(|text| Version::parse(std::str::from_utf8(&text).ok()?)))
}
