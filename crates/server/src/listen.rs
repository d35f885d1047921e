//! Listeners, and the loop that accepts connections.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use rpc::Socket;
use rustix::event::{EventfdFlags, PollFd, PollFlags};
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

/// Accepts until it is stopped, and hands each connection on, with whether TLS is spoken on it.
pub(crate) fn accept_loop(
    listeners: &[Listener],
    stopper: &Stopper,
    mut take: impl FnMut(Socket, bool),
) {
    loop {
        let mut fds: Vec<PollFd<'_>> =
            listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)).collect();
        fds.push(PollFd::new(&*stopper.0, PollFlags::IN));
        if let Err(err) = rustix::event::poll(&mut fds, None) {
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
            accept_all(listener, &mut take);
        }
    }
}

fn accept_all(listener: &Listener, take: &mut impl FnMut(Socket, bool)) {
    let is_secure = matches!(listener, Listener::Tcp { is_secure: true, .. });
    loop {
        match listener.accept() {
            Ok(socket) => take(socket, is_secure),
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
