//! Reads that wait until the leader is known to lead still: thesis §6.4.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::config::ReadOnlyOption;
use crate::pb::Message;
use crate::quorum::JointConfig;

/// The answer to a read index request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadState {
    /// Once this is applied, the state reflects all writes that finished before the request.
    pub index: u64,
    /// What the request carried.
    pub request_ctx: Bytes,
}

/// Requests in the order they came, confirmed by counting: a heartbeat carries the number of requests accepted
/// so far in this term, and a quorum that echoes `n` confirms the first `n`. (The requests' own contexts would
/// not do: equal ones, with delayed heartbeats, confirmed reads too early.)
#[derive(Debug)]
pub(crate) struct ReadOnly {
    pub(crate) option: ReadOnlyOption,
    /// Highest count echoed by each member.
    acks: BTreeMap<u64, u64>,
    /// Requests with the commit index when they came.
    unconfirmed: VecDeque<(Message, u64)>,
    /// Requests confirmed in this term.
    confirmed: u64,
}

impl ReadOnly {
    pub(crate) const fn new(option: ReadOnlyOption) -> Self {
        Self { option, acks: BTreeMap::new(), unconfirmed: VecDeque::new(), confirmed: 0 }
    }

    pub(crate) fn reset(&mut self) {
        self.acks.clear();
        self.unconfirmed.clear();
        self.confirmed = 0;
    }

    /// Adds a request that came when `commit` was the commit index.
    pub(crate) fn add_request(&mut self, commit: u64, request: Message) {
        self.unconfirmed.push_back((request, commit));
    }

    /// Requests accepted in this term.
    pub(crate) fn accepted(&self) -> u64 {
        self.confirmed + self.unconfirmed.len() as u64
    }

    /// What a heartbeat has to carry to confirm all requests: nothing when none waits.
    pub(crate) fn heartbeat_context(&self) -> Bytes {
        if self.unconfirmed.is_empty() {
            return Bytes::new();
        }
        Bytes::copy_from_slice(&self.accepted().to_le_bytes())
    }

    pub(crate) fn receive_ack(&mut self, from: u64, count: u64) {
        let count = if mutant::mutant!("R14") { self.accepted() } else { count };
        let acked = self.acks.entry(from).or_default();
        *acked = count.max(*acked);
    }

    /// Takes out the requests that a quorum has confirmed.
    pub(crate) fn advance(&mut self, voters: &JointConfig) -> VecDeque<(Message, u64)> {
        let confirmed = voters.committed_index(|id| self.acks.get(&id).copied());
        // an empty configuration would confirm everything
        let confirmed = confirmed.min(self.accepted());
        if confirmed <= self.confirmed {
            return VecDeque::new();
        }
        let rest = self.unconfirmed.split_off((confirmed - self.confirmed) as usize);
        self.confirmed = confirmed;
        std::mem::replace(&mut self.unconfirmed, rest)
    }
}
