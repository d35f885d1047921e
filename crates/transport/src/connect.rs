//! The way out: a URL to a connection.

use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpStream, UnixStream};

use crate::io::Connection;
use crate::tls::Tls;
use crate::url::PeerUrl;

/// Silence after which the kernel asks whether the other side is still there, and how often.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Opens a connection to `url`.
///
/// # Errors
/// The system's, in the words of Go: `dial tcp 127.0.0.1:2380: connect: connection refused`. The kind
/// is kept, since a refusal says more than silence.
pub(crate) async fn connect(
    url: &PeerUrl,
    tls: Option<&Tls>,
    timeout: Duration,
) -> io::Result<Box<dyn Connection>> {
    let network = if url.is_unix() { "unix" } else { "tcp" };
    let result = match tokio::time::timeout(timeout, open(url, tls)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")),
    };
    result.map_err(|err| {
        let reason = match err.kind() {
            io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
            io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
            io::ErrorKind::NotFound => "connect: no such file or directory".to_owned(),
            _ => err.to_string(),
        };
        io::Error::new(err.kind(), format!("dial {network} {}: {reason}", url.address()))
    })
}

async fn open(url: &PeerUrl, tls: Option<&Tls>) -> io::Result<Box<dyn Connection>> {
    if url.is_unix() {
        if url.is_secure() {
            let text = "TLS over a socket of the file system is not supported yet";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        return Ok(Box::new(UnixStream::connect(url.address()).await?));
    }
    let stream = TcpStream::connect(url.address()).await?;
    prepare(&stream)?;
    if !url.is_secure() {
        return Ok(Box::new(stream));
    }
    let tls = tls.ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, "TLS without certificates is not supported yet")
    })?;
    let address = url.address();
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    tls.connect(host.trim_start_matches('[').trim_end_matches(']'), stream).await
}

/// Sets what every connection between members has: small messages leave at once, and a machine that
/// is gone is noticed.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE)?;
    Ok(())
}
