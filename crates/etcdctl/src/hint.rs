//! What may help against an error: a line behind etcd's own, for a person at a terminal. Programs get etcd's alone.

use std::io::{self, IsTerminal, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::log::authority;
use crate::output;
use crate::terminal::{Paint, Style};

/// How long an endpoint has to show what it is.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Of more endpoints the first few are enough to see what is wrong.
const PROBED_MAX: usize = 3;

/// Texts of errors, and what helps.
const KNOWN: [(&str, &str); 7] = [
    (
        "database space exceeded",
        "the quota is used up: `etcdctl compaction REVISION`, `etcdctl defrag`, then `etcdctl alarm disarm`",
    ),
    ("user name is empty", "authentication is on: give --user NAME[:PASSWORD]"),
    (
        "permission denied",
        "`etcdctl user get NAME` and `etcdctl role get ROLE` tell what may be done",
    ),
    (
        "no leader",
        "`etcdctl endpoint status --cluster` tells which members are there; a majority has to be",
    ),
    (
        "revision has been compacted",
        "older revisions are gone: `etcdctl get KEY -w fields` tells the present one",
    ),
    ("no available endpoints", "name one with --endpoints, such as 127.0.0.1:2379"),
    (
        "https is not supported",
        "this client has no TLS yet: --endpoints http://HOST:PORT, if the server has a plain port",
    ),
];

/// Writes the hint for an error, if somebody is there to read it.
pub(crate) fn write(message: &str, endpoints: &[String]) {
    if !io::stderr().is_terminal() {
        return;
    }
    for line in hints(message, endpoints) {
        let line = Paint::stderr().on(Style::Faint, &format!("Hint: {line}"));
        output::stderr(&format!("{line}\n"));
    }
}

fn hints(message: &str, endpoints: &[String]) -> Vec<String> {
    let known = KNOWN.iter().find(|(text, _)| message.contains(text));
    if let Some((_, hint)) = known {
        return vec![(*hint).to_owned()];
    }
    let is_unreachable = ["deadline exceeded", "connection", "Unavailable", "transport"];
    if !is_unreachable.iter().any(|text| message.contains(text)) {
        return Vec::new();
    }
    let probed = endpoints.iter().take(PROBED_MAX).filter(|name| !name.starts_with("unix"));
    probed.map(|endpoint| look_at(authority(endpoint))).collect()
}

/// Finds out what is at an address by asking it something simple.
fn look_at(address: &str) -> String {
    let resolved = address.to_socket_addrs().ok().and_then(|mut found| found.next());
    let Some(found) = resolved else {
        return format!("{address}: no such host, or not HOST:PORT");
    };
    let answer = TcpStream::connect_timeout(&found, PROBE_TIMEOUT).and_then(|mut stream| {
        stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
        stream.write_all(b"GET /version HTTP/1.0\r\n\r\n")?;
        let mut bytes = Vec::new();
        // What has come before the time was over is enough.
        let _ = stream.take(1 << 10).read_to_end(&mut bytes);
        Ok(bytes)
    });
    match answer {
        Ok(bytes) => format!("{address} {}", judge(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            format!(
                "nothing listens at {address}: is the server running, and is this the address? See --endpoints"
            )
        }
        Err(error) => format!("{address} cannot be reached: {error}"),
    }
}

/// What somebody is who gives this answer to a plain request.
fn judge(answer: &[u8]) -> &'static str {
    /// The first byte of a record with an alert.
    const TLS_ALERT: u8 = 21;
    let text = String::from_utf8_lossy(answer);
    if answer.first() == Some(&TLS_ALERT) || text.contains("HTTPS server") {
        "speaks TLS: its endpoint begins with https://"
    } else if text.contains("etcdserver") {
        "is a member, and did not answer in time: has the cluster a leader? See `etcdctl endpoint status`, --command-timeout"
    } else if text.starts_with("HTTP/") {
        "is a web server, and no member of a cluster"
    } else {
        "accepts connections, and does not answer: is it the port for clients?"
    }
}

#[cfg(test)]
mod tests {
    use super::{hints, judge};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn answers_tell_what_is_there() {
        for (answer, expected) in [
            (&b"\x15\x03\x01\0\x02\x02\x46"[..], "speaks TLS"),
            (b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n", "speaks TLS"),
            (b"HTTP/1.0 200 OK\r\n\r\n{\"etcdserver\":\"3.7.3\"}", "is a member"),
            (b"HTTP/1.0 404 Not Found\r\n\r\n", "is a web server"),
            (b"", "accepts connections"),
        ] {
            assert!(judge(answer).starts_with(expected), "{answer:?}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        let full = hints("etcdserver: mvcc: database space exceeded", &[]);
        assert!(full.iter().any(|hint| hint.contains("alarm disarm")), "{full:?}");
        assert!(hints("key not found", &["127.0.0.1:1".to_owned()]).is_empty());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let read = stream.read(&mut [0; 100]).expect("a request");
            assert!(read > 0);
            stream.write_all(b"\x15\x03\x01\0\x02\x02\x46").expect("an answer");
        });
        let found = hints("context deadline exceeded", &[format!("http://{address}")]);
        server.join().expect("a server");
        assert_eq!(found, [format!("{address} speaks TLS: its endpoint begins with https://")]);
        let found = hints("context deadline exceeded", std::slice::from_ref(&address));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with(&format!("nothing listens at {address}")), "{found:?}");
    }
}
