//! `--force-new-cluster`: one member goes on alone with the data that it has.

use std::collections::BTreeSet;

use bytes::Bytes;
use env::Disk;
use raft::{ConfChange, ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType};
use replica::Boot;
use tracing::info;
use wal::Wal;

use crate::error::StartError;

/// Peer URLs of a member that its own log does not know, as in etcd.
const DEFAULT_PEER_URLS: [&str; 2] = ["http://localhost:2380", "http://localhost:7001"];

/// Drops what is not committed, and appends, as committed, entries that remove all others.
pub(crate) fn new_cluster<D: Disk>(
    metadata: &wal::Metadata,
    boot: &mut Boot,
    log: &mut Wal<D>,
) -> Result<(), StartError> {
    let Boot::Restart { hard_state, before_first, entries, conf_state, applied } = boot else {
        return Ok(());
    };
    let commit = hard_state.commit.max(*applied);
    entries.retain(|entry| entry.index <= commit);
    let mut members: BTreeSet<u64> =
        conf_state.voters.iter().chain(&conf_state.learners).copied().collect();
    for entry in entries.iter().filter(|entry| entry.index > *applied) {
        for ConfChangeSingle { change_type, node_id } in changes(entry)? {
            match change_type {
                ConfChangeType::AddNode | ConfChangeType::AddLearnerNode => {
                    members.insert(node_id);
                }
                ConfChangeType::RemoveNode => {
                    members.remove(&node_id);
                }
                ConfChangeType::UpdateNode => {}
            }
        }
    }
    let last = entries.last().map_or(before_first.0, |entry| entry.index);
    let mut forced = Vec::new();
    for change in removals(&members, metadata.node_id) {
        forced.push(Entry {
            term: hard_state.term,
            index: last + 1 + forced.len() as u64,
            entry_type: EntryType::ConfChange,
            data: change.encode_to_vec().into(),
        });
    }
    hard_state.commit = last + forced.len() as u64;
    log.save(hard_state, &forced, true)?;
    entries.append(&mut forced);
    info!(
        "cluster-id" = format!("{:x}", metadata.cluster_id),
        "local-member-id" = format!("{:x}", metadata.node_id),
        "commit-index" = hard_state.commit,
        "forcing restart member"
    );
    Ok(())
}

fn changes(entry: &Entry) -> Result<Vec<ConfChangeSingle>, StartError> {
    let change = match entry.entry_type {
        EntryType::Normal => return Ok(Vec::new()),
        EntryType::ConfChange => {
            ConfChange::decode(entry.data.clone()).map(|change| change.to_v2())
        }
        EntryType::ConfChangeV2 => ConfChangeV2::decode(entry.data.clone()),
    };
    match change {
        Ok(change) => Ok(change.changes),
        Err(err) => Err(StartError::Log(format!(
            "entry {} of the log can't be decoded: {err}",
            entry.index
        ))),
    }
}

/// The changes that leave `local` alone.
fn removals(members: &BTreeSet<u64>, local: u64) -> Vec<ConfChange> {
    let change =
        |change_type, node_id, context| ConfChange { change_type, node_id, context, id: 0 };
    let mut all = Vec::new();
    if !members.contains(&local) {
        // First, since a configuration is never empty.
        let peer_urls = DEFAULT_PEER_URLS.map(str::to_owned).to_vec();
        let member = cluster::Member { id: local, peer_urls, ..cluster::Member::default() };
        all.push(change(ConfChangeType::AddNode, local, Bytes::from(member.to_json())));
    }
    let others = members.iter().filter(|id| **id != local);
    all.extend(others.map(|id| change(ConfChangeType::RemoveNode, *id, Bytes::new())));
    all
}
