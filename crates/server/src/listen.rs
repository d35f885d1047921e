//! Listeners, and the loop that accepts connections.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use rpc::{Socket, Tally};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use tracing::{info, warn};

use crate::Url;
use crate::error::StartError;

/// How long to leave the queue of the kernel alone when no connection can be accepted, as when the
/// process has run out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound address.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp {
        listener: TcpListener,
        /// Whether TLS is spoken there.
        is_secure: bool,
    },
    Unix(UnixListener, String),
}

impl Listener {
    /// Binds the address of a URL. `has_tls`: there is what URLs need that want TLS.
    pub(crate) fn bind(url: &Url, has_tls: bool) -> Result<Self, StartError> {
        let is_secure = url.is_secure();
        if is_secure && (!has_tls || url.socket_path().is_some()) {
            return Err(StartError::Unsupported(format!(
                "TLS is not supported yet by this server ({url})"
            )));
        }
        let bound = match url.socket_path() {
            Some(path) => bind_unix(path).map(|listener| Self::Unix(listener, path.to_owned())),
            None => bind_tcp(url.address()).map(|listener| Self::Tcp { listener, is_secure }),
        };
        bound.map_err(|err| {
            let network = if url.socket_path().is_some() { "unix" } else { "tcp" };
            let reason = match err.kind() {
                io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
                io::ErrorKind::AddrNotAvailable => {
                    "bind: cannot assign requested address".to_owned()
                }
                io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
                _ => err.to_string(),
            };
            StartError::Listen(format!("listen {network} {}: {reason}", url.address()))
        })
    }

    /// The address, with the port that the system chose for port 0.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Tcp { listener, .. } => {
                listener.local_addr().map_or_else(|_| String::new(), |addr| addr.to_string())
            }
            Self::Unix(_, path) => path.clone(),
        }
    }

    fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp { listener, .. } => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Socket::Unix(stream))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Tcp { listener, .. } => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn bind_tcp(address: &str) -> io::Result<TcpListener> {
    let address =
        if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    let mut candidates: Vec<_> = address.to_socket_addrs()?.collect();
    // As Go does, `localhost` means the IPv4 address where there is one.
    candidates.sort_by_key(std::net::SocketAddr::is_ipv6);
    let first = candidates.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let listener = TcpListener::bind(first)?;
    // The standard library asks for room for 128 connections. In a rush the next one would be tried again by its kernel
    // after a second.
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A socket file that nobody listens on is left over from a process that was killed.
fn bind_unix(path: &str) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Ends an [`accept_loop`].
#[derive(Debug)]
pub(crate) struct Stopper(Arc<OwnedFd>);

impl Stopper {
    pub(crate) fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(event)))
    }

    pub(crate) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    pub(crate) fn stop(&self) {
        let _ = rustix::io::write(&self.0, &1_u64.to_le_bytes());
    }
}

/// How many connections may be open at a time; the others wait in the kernel's queue until one is closed.
#[derive(Debug)]
pub(crate) struct Room {
    tally: Tally,
    max: usize,
}

/// Connections that the kernel may keep until they are accepted: as many as the system permits (`net.core.somaxconn`), as
/// Go has it.
const BACKLOG: i32 = i32::MAX;
/// Descriptors that clients leave to the rest of the process, as in etcd.
const RESERVED_FDS: u64 = 150;
/// What of these may be connections of other members, who have a dozen each: whoever opens more on the peer port must not
/// keep the log from opening its next segment.
const PEER_CONNECTIONS_MAX: usize = 100;

impl Room {
    /// For clients, then for peers, by the limit of descriptors of this process.
    pub(crate) fn by_descriptors() -> Result<[Self; 2], StartError> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let limit = limit.unwrap_or(u64::MAX);
        if limit <= RESERVED_FDS {
            return Err(StartError::Listen(format!(
                "file descriptor limit of etcd process is too low; please set higher (limit {limit}, recommended-limit {RESERVED_FDS})"
            )));
        }
        let clients = usize::try_from(limit - RESERVED_FDS).unwrap_or(usize::MAX);
        Ok([clients, PEER_CONNECTIONS_MAX].map(|max| Self { tally: Tally::default(), max }))
    }

    fn is_full(&self) -> bool {
        self.tally.others() >= self.max
    }
}

/// Accepts until it is stopped, as long as there is room, and hands each connection on, with what counts it and whether TLS
/// is spoken on it.
pub(crate) fn accept_loop(
    listeners: &[Listener],
    room: &Room,
    stopper: &Stopper,
    mut take: impl FnMut(Socket, Tally, bool),
) {
    let mut is_told = false;
    loop {
        let is_full = room.is_full();
        if is_full && !std::mem::replace(&mut is_told, true) {
            warn!(
                limit = room.max,
                "as many connections as may be; others wait until one is closed"
            );
        }
        let listeners = if is_full { &[] } else { listeners };
        let timeout = Timespec { tv_sec: 0, tv_nsec: ACCEPT_PAUSE.subsec_nanos().into() };
        let mut fds: Vec<PollFd<'_>> =
            listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)).collect();
        fds.push(PollFd::new(&*stopper.0, PollFlags::IN));
        if let Err(err) = rustix::event::poll(&mut fds, is_full.then_some(&timeout)) {
            if err == rustix::io::Errno::INTR {
                continue;
            }
            warn!(error = %err, "failed to wait for connections");
            std::thread::sleep(ACCEPT_PAUSE);
            continue;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready.last() == Some(&true) {
            return;
        }
        for (listener, _) in listeners.iter().zip(ready).filter(|(_, ready)| *ready) {
            accept_all(listener, room, &mut take);
        }
    }
}

fn accept_all(listener: &Listener, room: &Room, take: &mut impl FnMut(Socket, Tally, bool)) {
    let is_secure = matches!(listener, Listener::Tcp { is_secure: true, .. });
    while !room.is_full() {
        match listener.accept() {
            Ok(socket) => take(socket, room.tally.clone(), is_secure),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
            Err(err) if err.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(err) => {
                info!(error = %err, "failed to accept a connection");
                std::thread::sleep(ACCEPT_PAUSE);
                return;
            }
        }
    }
}
