//! [`Transport`]: the handle that the server holds.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use raft::{Message, SnapshotStatus};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};
use wal::snap::Snapshotter;

use crate::client::{Answer, Call};
use crate::event::{Event, Owner};
use crate::handler;
use crate::hex;
use crate::incoming::{Pace, Patience};
use crate::io::Connection;
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::shared::{Members, Shared};
use crate::snapshot::{self, Folder, OutSnapshot};
use crate::tls::Tls;
use crate::url::PeerUrl;

/// The time that connections have at the stop to send what is on its way.
const STOP_TIMEOUT: Duration = Duration::from_millis(200);
/// Threads that read and write databases, and look up names.
const BLOCKING_THREADS: usize = 64;

/// etcd's time without a byte after which a connection is of no use, `--raft-read-timeout` and `--raft-write-timeout`.
pub const DEFAULT_IO_TIMEOUT: Duration = Duration::from_secs(5);

/// Who this member is.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's id.
    pub id: u64,
    /// The cluster's.
    pub cluster_id: u64,
    /// The peer URLs that it is known under.
    pub urls: Vec<String>,
    /// The server's version, like `3.7.3`.
    pub version: String,
    /// For opening a connection; etcd takes a second and an election timeout.
    pub dial_timeout: Duration,
    /// Silence of a stream, or of a request that is being sent, after which it is given up. A third of it is the
    /// interval of heartbeats of the link.
    pub read_timeout: Duration,
    /// How long the other side may take nothing.
    pub write_timeout: Duration,
    /// What a database, a message of the pipeline or an answer must bring in time.
    pub pace: Pace,
    /// What is needed for URLs that want TLS.
    pub tls: Option<Tls>,
}

impl Config {
    pub(crate) const fn patience(&self) -> Patience {
        Patience { silence: self.read_timeout, pace: self.pace }
    }
}

/// A connection that was accepted on the peer port.
#[derive(Debug)]
pub enum Socket {
    /// Over the network.
    Tcp(TcpStream),
    /// Over the network, with TLS.
    Tls(TcpStream),
    /// On this machine.
    Unix(UnixStream),
}

/// The way to the other members, with a thread of its own. Stops when it is dropped.
#[derive(Debug)]
pub struct Transport {
    shared: Arc<Shared>,
    /// Held by every connection that is served, so that the stop can wait for them.
    served: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Transport {
    /// Starts the thread. Databases that arrive are put into the folder of `snapshotter`.
    ///
    /// # Errors
    /// If the system has no thread or no descriptors for it.
    pub fn start<D: env::Disk>(
        config: Config,
        owner: Arc<dyn Owner>,
        snapshotter: Snapshotter<D>,
        metrics: Metrics,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("peer-disk")
            .build()?;
        let shared = Arc::new(Shared {
            config,
            owner,
            store: Arc::new(Folder::new(snapshotter)),
            metrics,
            handle: runtime.handle().clone(),
            members: RwLock::new(Members::default()),
            stopped: watch::Sender::new(false),
        });
        let (served, mut ended) = mpsc::channel(1);
        let mut stopped = shared.stopped.subscribe();
        let thread = std::thread::Builder::new().name("peers".to_owned()).spawn(move || {
            runtime.block_on(async {
                // The sender lives as long as the transport.
                let _ = stopped.wait_for(|stopped| *stopped).await;
                let _ = tokio::time::timeout(STOP_TIMEOUT, ended.recv()).await;
            });
            // Whoever reads or writes a database may wait for a disk.
            runtime.shutdown_background();
        })?;
        Ok(Self { shared, served: Some(served), thread: Some(thread) })
    }

    /// Sends messages, each to its receiver. Never waits: what there is no room for is dropped and its
    /// receiver said to be unreachable.
    pub fn send(&self, messages: impl IntoIterator<Item = Message>) {
        let members = self.shared.members.read();
        for message in messages {
            if message.to == 0 {
                continue;
            }
            if let Some(peer) = members.peers.get(&message.to) {
                peer.send(message);
            } else if let Some(remote) = members.remotes.get(&message.to) {
                remote.send(&self.shared, message);
            } else {
                debug!(
                    "type" = message.msg_type.name(),
                    "unknown-target-peer-id" = hex(message.to),
                    "ignored message send request; unknown remote peer target"
                );
            }
        }
    }

    /// Sends a snapshot with its database; [`Event::Snapshot`] says how that ended.
    pub fn send_snapshot(&self, snapshot: OutSnapshot) {
        let to = snapshot.message.to;
        let Some(peer) = self.shared.peer(to) else {
            self.shared.report(Event::Snapshot { to, status: SnapshotStatus::Failure });
            return;
        };
        let task = self.shared.handle.spawn(snapshot::send(Arc::clone(&peer), snapshot));
        peer.own(task.abort_handle());
    }

    /// Serves a connection that was accepted on the peer port. `guard` is dropped when it is over.
    pub fn serve(&self, socket: Socket, guard: impl Send + 'static) {
        let served = self.served.clone();
        let shared = Arc::clone(&self.shared);
        self.shared.handle.spawn(async move {
            match handler::open_socket(&shared, socket).await {
                Ok(connection) => handler::serve(shared, connection).await,
                Err(err) => info!(error = %err, "rejected connection on peer endpoint"),
            }
            drop((served, guard));
        });
    }

    /// As [`Transport::serve`], of a connection that something else has been made of, like TLS.
    pub fn serve_connection(&self, connection: Box<dyn Connection>) {
        let served = self.served.clone();
        let serving = handler::serve(Arc::clone(&self.shared), connection);
        self.shared.handle.spawn(async move {
            serving.await;
            drop(served);
        });
    }

    /// Adds a member of the cluster. One that is there already is left as it is.
    ///
    /// # Errors
    /// If `urls` are none.
    pub fn add_peer(&self, id: u64, urls: &[String]) -> Result<(), cluster::InitialError> {
        let parsed = PeerUrl::parse_all(urls)?;
        let mut members = self.shared.members.write();
        if members.is_stopped || members.peers.contains_key(&id) || id == self.shared.config.id {
            return Ok(());
        }
        members.remotes.remove(&id);
        members.peers.insert(id, Peer::start(&self.shared, id, parsed));
        info!(
            "local-member-id" = hex(self.shared.config.id),
            "remote-peer-id" = hex(id),
            "remote-peer-urls" = urls.join(","),
            "added remote peer"
        );
        Ok(())
    }

    /// Adds somebody who is to be answered, but is not known as a member yet.
    pub fn add_remote(&self, id: u64, urls: &[String]) {
        self.shared.add_remote(id, urls);
    }

    /// Removes a member. It may never speak again.
    pub fn remove_peer(&self, id: u64) {
        let mut members = self.shared.members.write();
        members.removed.insert(id);
        members.remotes.remove(&id);
        let peer = members.peers.remove(&id);
        drop(members);
        let local = hex(self.shared.config.id);
        match peer {
            Some(peer) => {
                peer.stop();
                info!(
                    "local-member-id" = local,
                    "removed-remote-peer-id" = hex(id),
                    "removed remote peer"
                );
            }
            // The log may be replayed at the start.
            None => warn!(
                "local-member-id" = local,
                "removed-remote-peer-id" = hex(id),
                "skipped removing already removed peer"
            ),
        }
    }

    /// Replaces all members, as after a snapshot. Those that stay keep their connections.
    ///
    /// # Errors
    /// If one's URLs are none; then nothing is changed.
    pub fn replace_peers(
        &self,
        peers: &[(u64, Vec<String>)],
        removed: impl IntoIterator<Item = u64>,
    ) -> Result<(), cluster::InitialError> {
        for (_, urls) in peers {
            PeerUrl::parse_all(urls)?;
        }
        let ids: BTreeSet<u64> = peers.iter().map(|(id, _)| *id).collect();
        let mut members = self.shared.members.write();
        members.removed.extend(removed);
        let gone: Vec<u64> = members.peers.keys().filter(|id| !ids.contains(id)).copied().collect();
        let gone: Vec<_> = gone.iter().filter_map(|id| members.peers.remove(id)).collect();
        drop(members);
        gone.iter().for_each(|peer| peer.stop());
        for (id, urls) in peers {
            self.add_peer(*id, urls)?;
            self.update_peer(*id, urls)?;
        }
        Ok(())
    }

    /// Gives a member other URLs. Streams that are open stay so.
    ///
    /// # Errors
    /// If `urls` are none.
    pub fn update_peer(&self, id: u64, urls: &[String]) -> Result<(), cluster::InitialError> {
        let parsed = PeerUrl::parse_all(urls)?;
        let Some(peer) = self.shared.peer(id) else { return Ok(()) };
        if peer.picker.all() == parsed {
            return Ok(());
        }
        peer.update(parsed);
        info!(
            "local-member-id" = hex(self.shared.config.id),
            "updated-remote-peer-id" = hex(id),
            "updated-remote-peer-urls" = urls.join(","),
            "updated remote peer"
        );
        Ok(())
    }

    /// Since when a member can be reached; `None` if it can't.
    #[must_use]
    pub fn active_since(&self, id: u64) -> Option<Instant> {
        self.shared.peer(id)?.status.active_since()
    }

    /// How many members can be reached.
    #[must_use]
    pub fn active_peers(&self) -> usize {
        let members = self.shared.members.read();
        members.peers.values().filter(|peer| peer.status.is_active()).count()
    }

    /// How many of its two streams a member has open to hear this one.
    #[must_use]
    pub fn open_streams(&self, id: u64) -> usize {
        self.shared.peer(id).map_or(0, |peer| peer.open_streams())
    }

    /// Asks another member something beside raft.
    #[must_use]
    pub fn call(&self, call: Call) -> oneshot::Receiver<io::Result<Answer>> {
        let (sender, receiver) = oneshot::channel();
        self.shared.handle.spawn(async move {
            // Who asked may have lost interest.
            let _ = sender.send(call.send().await);
        });
        receiver
    }

    /// The runtime of the peers' thread, for whoever has more to say to peers.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    /// Closes all connections and ends the thread. Messages that were sent before have 200 ms to leave.
    pub fn stop(&mut self) {
        let mut members = self.shared.members.write();
        members.is_stopped = true;
        members.remotes.clear();
        let peers = std::mem::take(&mut members.peers);
        drop(members);
        peers.values().for_each(|peer| peer.stop());
        self.served = None;
        self.shared.stopped.send_replace(true);
        let Some(thread) = self.thread.take() else { return };
        // The last handle may be one of a task of this very thread.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            warn!("the thread of the peers has panicked");
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop();
        }
    }
}
