//! Names in the URLs of members are looked up.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use cluster::Names;
use tracing::{info, warn};

/// How long all names may take together, and the pause before one is tried again, as in etcd.
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Looks up each `host:port`.
pub(crate) fn look_up(names: BTreeSet<String>) -> Names {
    let deadline = Instant::now() + TIMEOUT;
    let look_up = |name: String| {
        let address = look_up_one(&name, deadline);
        (name, address)
    };
    names.into_iter().map(look_up).collect()
}

fn look_up_one(host: &str, deadline: Instant) -> Result<SocketAddr, String> {
    loop {
        let found = host.to_socket_addrs().map(|mut addresses| addresses.next());
        let error = match found {
            Ok(Some(address)) => {
                info!(host, "resolved-addr" = %address, "resolved URL Host");
                return Ok(address);
            }
            Ok(None) => format!("lookup {host}: no such host"),
            Err(err) => format!("lookup {host}: {err}"),
        };
        let interval = RETRY_INTERVAL.as_secs();
        warn!(host, "retry-interval" = format!("{interval}s"), error, "failed to resolve URL Host");
        if Instant::now() + RETRY_INTERVAL > deadline {
            return Err(error);
        }
        thread::sleep(RETRY_INTERVAL);
    }
}
