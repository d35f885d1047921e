//! What a message must be before it may change anything. A peer's bytes are not to be trusted, and the state
//! machine relies on what is checked here.

use super::Raft;
use super::leader::decode_conf_change;
use crate::config::{NONE, is_local_target};
use crate::error::Error;
use crate::pb::{Message, MessageType};
use crate::storage::Storage;

impl<S: Storage> Raft<S> {
    /// Checks a message from a peer.
    pub(crate) fn validate(&self, m: &Message) -> Result<(), Error> {
        if m.msg_type.is_local() || is_local_target(m.from) {
            return Err(Error::StepLocalMsg);
        }
        if m.msg_type.is_response() && !self.trk.progress.contains(m.from) {
            return Err(Error::StepPeerNotFound);
        }
        self.validate_shape(m).map_err(|reason| Error::InvalidMessage {
            msg_type: m.msg_type,
            from: m.from,
            reason,
        })
    }

    fn validate_shape(&self, m: &Message) -> Result<(), &'static str> {
        if m.term == u64::MAX {
            return Err("no term follows its term");
        }
        match m.msg_type {
            // On behalf of a client; these may come back to where they started, or name the transferee.
            MessageType::Prop => return validate_proposal(m),
            MessageType::ReadIndex if m.entries.len() != 1 => return Err("not one request"),
            MessageType::ReadIndex | MessageType::TransferLeader | MessageType::ForgetLeader => {
                return Ok(());
            }
            _ => {}
        }
        if m.from == NONE || m.from == self.config.id {
            return Err("not from a peer");
        }
        match m.msg_type {
            MessageType::Snap => validate_snapshot(m),
            // etcd's tests send snapshots without a term, and members that are in none yet answer or reject
            _ if m.term == 0 && !(self.term == 0 && m.msg_type.is_response()) => Err("no term"),
            MessageType::App => validate_append(m),
            _ => Ok(()),
        }
    }
}

/// Checks a proposal, also of this member.
pub(crate) fn validate_proposal(m: &Message) -> Result<(), &'static str> {
    if m.entries.is_empty() {
        return Err("no entries");
    }
    let is_broken = |entry| decode_conf_change(entry).is_none();
    if m.entries.iter().any(|entry| entry.entry_type.is_conf_change() && is_broken(entry)) {
        return Err("malformed configuration change");
    }
    Ok(())
}

/// Entries must continue `index` and `log_term` without a gap, in terms that never fall or exceed the leader's.
fn validate_append(m: &Message) -> Result<(), &'static str> {
    // The entry after the last must have an index too.
    if m.index.checked_add(m.entries.len() as u64).is_none_or(|last| last == u64::MAX) {
        return Err("index out of range");
    }
    let (mut index, mut term) = (m.index, m.log_term);
    for entry in &m.entries {
        if entry.index != index + 1 && !mutant::mutant!("R5") {
            return Err("gap in entries");
        }
        if entry.term < term || entry.term == 0 {
            return Err("terms of entries decrease");
        }
        (index, term) = (entry.index, entry.term);
    }
    if term > m.term {
        return Err("entry of a later term");
    }
    Ok(())
}

fn validate_snapshot(m: &Message) -> Result<(), &'static str> {
    let Some(snapshot) = &m.snapshot else { return Ok(()) };
    let metadata = &snapshot.metadata;
    if metadata.index == u64::MAX {
        return Err("index out of range");
    }
    if m.term != 0 && metadata.term > m.term {
        return Err("snapshot of a later term");
    }
    Ok(())
}
