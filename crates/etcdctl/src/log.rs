//! Lines of the log, as etcd's client library writes them to standard error.

use std::time::{SystemTime, UNIX_EPOCH};

use client::Error;
use cobra::go::quote;

use crate::gojson::Object;
use crate::output;

/// Where a line comes from in etcd's source: scripts that read the log look at it.
const RETRY: &str = "v3@v3.7.3/retry_interceptor.go:68";
const STREAM: &str = "v3@v3.7.3/retry_interceptor.go:134";

/// A line without its fields.
pub(crate) fn record(level: &str, logger: &str, caller: &str, message: &str) -> Object {
    let record = Object::new().plain("level", level).plain("ts", &timestamp(SystemTime::now()));
    let record = if logger.is_empty() { record } else { record.plain("logger", logger) };
    record.plain("caller", caller).plain("msg", message)
}

/// Writes a line.
pub(crate) fn write(record: Object) {
    output::stderr(&(record.end() + "\n"));
}

/// A call to `endpoint` that has failed.
pub(crate) fn failed_call(logger: &str, endpoint: &str, method: &str, error: &Error) {
    let address = authority(endpoint);
    let (peer, status) = match error {
        Error::DeadlineExceeded { connection: Some(why) } => {
            ("Peer{Addr: <nil>, LocalAddr: <nil>, AuthInfo: <nil>}".to_owned(), balancer_error(why))
        }
        error => {
            let numeric = address.replace("localhost:", "127.0.0.1:");
            let peer = format!(
                "Peer{{Addr: '{numeric}', LocalAddr: '127.0.0.1:0', AuthInfo: 'insecure'}}"
            );
            (peer, message(error))
        }
    };
    let status = format!("rpc error: code = {} desc = {status}", error.code());
    let record = record("warn", logger, RETRY, "retrying of unary invoker failed")
        .plain("target", &format!("etcd-endpoints://0xc000000000/{address}"))
        .plain("peer", &peer)
        .plain("method", method)
        .raw("attempt", "0")
        .plain("error", &status);
    write(record);
}

/// That no endpoint is connected, and why.
fn balancer_error(why: &str) -> String {
    let why = format!("transport: {}", connection_error(why));
    format!("latest balancer error: connection error: desc = {}", quote(why.as_bytes()))
}

/// A stream that could not be begun.
pub(crate) fn failed_stream(logger: &str, error: &Error) {
    let Error::DeadlineExceeded { connection: Some(why) } = error else { return };
    let status = format!("rpc error: code = DeadlineExceeded desc = {}", balancer_error(why));
    let message = "streamer failed to create ClientStream";
    write(record("error", logger, STREAM, message).plain("error", &status));
}

/// What the server said, without the code.
fn message(error: &Error) -> String {
    match error {
        Error::Status(status) => status.message.to_string(),
        error => error.to_string(),
    }
}

/// Why a connection was not made, in the words of Go's network library where they are known.
fn connection_error(why: &str) -> String {
    let dial = |address: &str, what: &str| {
        let network = if address.starts_with("unix ") { "" } else { "tcp " };
        format!("Error while dialing: dial {network}{address}: connect: {what}")
    };
    let Some((address, reason)) = why.split_once(": connect: ") else {
        return match why {
            "missing address" => format!("Error while dialing: dial tcp: {why}"),
            why if why.starts_with("address ") => format!("Error while dialing: dial tcp: {why}"),
            why => why.to_owned(),
        };
    };
    let known = [
        ("os error 2)", "no such file or directory"),
        ("os error 111)", "connection refused"),
        ("os error 113)", "no route to host"),
    ];
    match known.iter().find(|(code, _)| reason.contains(code)) {
        Some((_, what)) => dial(address, what),
        None => dial(address, reason),
    }
}

/// Host and port of an endpoint; the file's name of a socket.
pub(crate) fn authority(endpoint: &str) -> &str {
    if let Some(path) = endpoint.strip_prefix("unix:") {
        return path.rsplit('/').next().unwrap_or(path);
    }
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// `2026-11-21T20:59:03.617829Z`.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a day since 1970. Years are counted from March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{authority, connection_error, timestamp};
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn times_are_in_utc() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_795_294_743, "2026-11-21T20:59:03.000000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn reasons_are_gos() {
        assert_eq!(
            connection_error("127.0.0.1:1: connect: Connection refused (os error 111)"),
            "Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"
        );
        assert_eq!(
            connection_error("unix a/b: connect: No such file or directory (os error 2)"),
            "Error while dialing: dial unix a/b: connect: no such file or directory"
        );
        assert_eq!(
            connection_error("address a: missing port in address"),
            "Error while dialing: dial tcp: address a: missing port in address"
        );
        assert_eq!(authority("unix://a/b"), "b");
        assert_eq!(authority("http://[::1]:2379/x"), "[::1]:2379");
        assert_eq!(authority("10.0.0.1:2379"), "10.0.0.1:2379");
    }
}
