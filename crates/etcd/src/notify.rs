//! systemd's notification protocol: datagrams to the socket in `NOTIFY_SOCKET`.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The member serves.
pub(crate) fn ready() {
    send("READY=1");
}

/// The member stops.
pub(crate) fn stopping() {
    send("STOPPING=1");
}

fn send(state: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(err) = sent {
        tracing::warn!(error = %err, "failed to notify systemd");
    }
}
