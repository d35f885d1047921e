//! What all parts of the transport share: who this member is, who the others are, whom to tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use raft::Message;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::Config;
use crate::event::{Event, Owner};
use crate::hex;
use crate::metrics::Metrics;
use crate::peer::{Peer, Remote};
use crate::snapshot::Store;
use crate::url::PeerUrl;

/// Pause before an event that found no room is offered again.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// Members of which this one has only heard by their requests. Their number must not be up to them: DIFF(etcd).
const REMOTES_MAX: usize = 64;

/// See the module's text.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) owner: Arc<dyn Owner>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) metrics: Metrics,
    pub(crate) handle: Handle,
    pub(crate) members: RwLock<Members>,
    /// Becomes true at the stop.
    pub(crate) stopped: watch::Sender<bool>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The others.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub(crate) peers: BTreeMap<u64, Arc<Peer>>,
    /// Members that this one does not know yet, as far as answers to them are concerned.
    pub(crate) remotes: BTreeMap<u64, Remote>,
    /// Ids that must never speak again.
    pub(crate) removed: BTreeSet<u64>,
    pub(crate) is_stopped: bool,
}

/// Why a message does not reach raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("cannot process message from removed member")]
    Removed,
    #[error("cannot process message to mismatch member")]
    Mismatch,
}

/// What became of a message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Done,
    Full,
    Refused(Refused),
}

impl Shared {
    /// Hands a message to raft, if it is one for it.
    pub(crate) fn deliver(&self, message: Message) -> Delivery {
        if self.is_removed(message.from) {
            warn!(
                "local-member-id" = hex(self.config.id),
                "removed-member-id" = hex(message.from),
                "rejected Raft message from removed member"
            );
            return Delivery::Refused(Refused::Removed);
        }
        if message.to != self.config.id {
            warn!(
                "local-member-id" = hex(self.config.id),
                "mismatch-member-id" = hex(message.to),
                "rejected Raft message to mismatch member"
            );
            return Delivery::Refused(Refused::Mismatch);
        }
        if message.msg_type.is_local() {
            // As etcd does: no honest peer sends these, and no answer is due.
            return Delivery::Done;
        }
        match self.owner.event(Event::Message(message)) {
            None => Delivery::Done,
            Some(_) => Delivery::Full,
        }
    }

    /// Tells the owner something that must not be lost.
    pub(crate) fn report(self: &Arc<Self>, event: Event) {
        let Some(mut event) = self.owner.event(event) else { return };
        let shared = Arc::clone(self);
        self.handle.spawn(async move {
            let mut stopped = shared.stopped.subscribe();
            while !*stopped.borrow_and_update() {
                tokio::time::sleep(RETRY_INTERVAL).await;
                match shared.owner.event(event) {
                    None => return,
                    Some(back) => event = back,
                }
            }
        });
    }

    pub(crate) fn is_removed(&self, id: u64) -> bool {
        self.members.read().removed.contains(&id)
    }

    pub(crate) fn peer(&self, id: u64) -> Option<Arc<Peer>> {
        self.members.read().peers.get(&id).cloned()
    }

    /// The label under which bytes of `id` are counted.
    pub(crate) fn label(&self, id: u64) -> String {
        let members = self.members.read();
        let is_known = members.peers.contains_key(&id) || members.remotes.contains_key(&id);
        if is_known || id == self.config.id { hex(id) } else { "unknown".to_owned() }
    }

    /// Learns where a member is to be answered that is not a peer yet.
    pub(crate) fn add_remote(self: &Arc<Self>, id: u64, urls: &[String]) {
        let mut members = self.members.write();
        if members.is_stopped
            || id == self.config.id
            || members.peers.contains_key(&id)
            || members.remotes.contains_key(&id)
            || members.removed.contains(&id)
        {
            return;
        }
        if members.remotes.len() >= REMOTES_MAX {
            warn!("remote-peer-id" = hex(id), "ignored a new remote peer; there are too many");
            return;
        }
        let parsed = match PeerUrl::parse_all(urls) {
            Ok(parsed) => parsed,
            Err(err) => {
                warn!("remote-peer-id" = hex(id), error = %err, "ignored URLs of a remote peer");
                return;
            }
        };
        members.remotes.insert(id, Remote::start(self, id, parsed));
        info!(
            "local-member-id" = hex(self.config.id),
            "remote-peer-id" = hex(id),
            "remote-peer-urls" = urls.join(","),
            "added new remote peer"
        );
    }
}
