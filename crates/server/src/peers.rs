//! The ties between the transport and the threads: its events go to consensus, its requests to the desk, and what
//! apply says of members and snapshots to it.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Instant;

use cluster::{Cluster, MembershipChange};
use replica::Event;
use tracing::warn;
use transport::{OutSnapshot, Owner, Request, Transport};

use crate::member::Notices;
use crate::peer_desk::PeerDesk;

/// Whom the transport speaks to.
pub(crate) struct Peers {
    pub(crate) desk: Arc<PeerDesk>,
    pub(crate) consensus: SyncSender<Event>,
    pub(crate) notices: Notices,
}

impl Owner for Peers {
    fn event(&self, event: transport::Event) -> Option<transport::Event> {
        let event = match event {
            transport::Event::Message(message) => Event::Peer(message),
            transport::Event::Unreachable(id) => Event::Unreachable(id),
            transport::Event::Snapshot { to, status } => Event::SnapshotSent { to, status },
            transport::Event::Gone(id) => Event::Gone(id),
            transport::Event::Removed => {
                self.notices.removed();
                return None;
            }
        };
        match self.consensus.try_send(event) {
            Err(TrySendError::Full(Event::Peer(message))) => {
                Some(transport::Event::Message(message))
            }
            Err(TrySendError::Full(Event::Unreachable(id))) => {
                Some(transport::Event::Unreachable(id))
            }
            Err(TrySendError::Full(Event::SnapshotSent { to, status })) => {
                Some(transport::Event::Snapshot { to, status })
            }
            Err(TrySendError::Full(Event::Gone(id))) => Some(transport::Event::Gone(id)),
            // It is taken, or the member is stopping.
            _ => None,
        }
    }

    fn request(&self, request: Request) {
        // The transport calls this on its own runtime.
        tokio::spawn(Arc::clone(&self.desk).answer(request));
    }
}

/// A change of the members was applied.
pub(crate) fn change(transport: &Transport, local_id: u64, change: &MembershipChange) {
    let result = match change {
        MembershipChange::Added(member) if member.id != local_id => {
            transport.add_peer(member.id, &member.peer_urls)
        }
        MembershipChange::Updated(member) if member.id != local_id => {
            transport.update_peer(member.id, &member.peer_urls)
        }
        MembershipChange::Removed(id) if *id != local_id => {
            transport.remove_peer(*id);
            Ok(())
        }
        _ => Ok(()),
    };
    if let Err(error) = result {
        warn!(%error, "the peer URLs of a member can't be used");
    }
}

/// The members that a member starts with: those that it has read from its state, and those whom
/// it was told of.
pub(crate) fn begin(transport: &Transport, told: &[(u64, Vec<String>)], cluster: &Cluster) {
    replace(transport, cluster);
    for (id, urls) in told {
        if let Err(error) = transport.add_peer(*id, urls) {
            warn!(%error, "the peer URLs of a member can't be used");
        }
    }
}

/// All members are others, as after a snapshot and at the start.
pub(crate) fn replace(transport: &Transport, cluster: &Cluster) {
    let others = cluster.members().filter(|member| member.id != cluster.local_id());
    let others: Vec<_> = others.map(|member| (member.id, member.peer_urls.clone())).collect();
    if let Err(error) = transport.replace_peers(&others, cluster.removed()) {
        warn!(%error, "the peer URLs of a member can't be used");
    }
}

/// Sends the database that belongs to a message.
pub(crate) fn send_snapshot(
    transport: &Transport,
    metrics: &Arc<rpc::Metrics>,
    message: raft::Message,
    view: apply::SnapshotView,
) {
    let db_bytes = view.tx.size();
    let db = Box::new(Database {
        tx: view.tx,
        offset: 0,
        metrics: Arc::clone(metrics),
        opened: Instant::now(),
    });
    transport.send_snapshot(OutSnapshot { message, db, db_bytes });
}

/// A database as a transaction sees it, from its first byte to its last.
struct Database {
    tx: Arc<bolt::ReadTx>,
    offset: u64,
    metrics: Arc<rpc::Metrics>,
    opened: Instant,
}

impl Drop for Database {
    /// As in etcd, a snapshot takes as long as its database is open, whatever comes of it.
    fn drop(&mut self) {
        let took = self.opened.elapsed();
        self.metrics.disk_backend_snapshot_duration_seconds.observe(took.as_secs_f64());
    }
}

impl Read for Database {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.tx.read_copy_at(self.offset, into).map_err(io::Error::other)?;
        self.offset += read as u64;
        Ok(read)
    }
}
