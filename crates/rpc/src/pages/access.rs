//! Who may ask over HTTP: names of this host, against DNS rebinding, and origins of scripts in browsers.

use http::header::{HOST, HeaderName, HeaderValue, ORIGIN};
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};

use super::{Page, bad_request, bad_request_for, error};
use crate::Limits;

/// Refuses a request that does not say for which host it is, as Go's server does.
pub(super) fn refuse_missing_host<B>(request: &Request<B>) -> Option<Page> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Some(bad_request()),
        (Some(host), None) if !host.as_bytes().iter().copied().all(is_of_host) => {
            Some(bad_request_for("malformed Host header"))
        }
        (None, _)
            if request.version() >= Version::HTTP_11 && request.method() != Method::CONNECT =>
        {
            Some(bad_request_for("missing required Host header"))
        }
        _ => None,
    }
}

/// Whether a `Host` may have this byte.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte)
}

/// Refuses a request for a host of another name.
pub(super) fn refuse_host(limits: &Limits, uri: &Uri, headers: &HeaderMap) -> Option<Page> {
    let host = uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| headers.get(HOST).and_then(|host| host.to_str().ok()));
    let host = name_of(host.unwrap_or_default());
    if is_listed(&limits.host_whitelist, host) {
        return None;
    }
    tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
    let quoted = api::error::transport::quote(host.as_bytes());
    Some(error(
        StatusCode::MISDIRECTED_REQUEST,
        &format!(
            "\netcd received your request, but the Host header was unrecognized.\n\n\
             To fix this, choose one of the following options:\n\
             - Enable TLS, then any HTTPS request will be allowed.\n\
             - Add the hostname you want to use to the whitelist in settings.\n  \
             - e.g. etcd --host-whitelist {quoted}\n\n\
             This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n"
        ),
    ))
}

/// Tells browsers whose scripts may ask.
pub(super) fn allow_origin(limits: &Limits, headers: &HeaderMap, page: &mut Page) {
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or_default();
    let allowed = if is_listed(&limits.cors, "*") {
        HeaderValue::from_static("*")
    } else if is_listed(&limits.cors, origin) {
        HeaderValue::from_str(origin).unwrap_or(HeaderValue::from_static(""))
    } else {
        return;
    };
    for (name, value) in [
        ("methods", HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE")),
        ("origin", allowed),
        ("headers", HeaderValue::from_static("accept, content-type, authorization")),
    ] {
        let name = HeaderName::try_from(format!("access-control-allow-{name}"));
        if let Ok(name) = name {
            page.headers_mut().insert(name, value);
        }
    }
}

/// An empty list, and one with `*`, has everything.
fn is_listed(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|listed| listed == "*" || listed == name)
}

/// A host without its port, as Go's `net.SplitHostPort` cuts it; what cannot be cut stays.
fn name_of(host: &str) -> &str {
    let Some((name, port)) = host.rsplit_once(':') else { return host };
    if port.contains(['[', ']']) {
        return host;
    }
    match name.strip_prefix('[') {
        Some(inside) => match inside.strip_suffix(']') {
            Some(address) if !address.contains(['[', ']']) => address,
            _ => host,
        },
        None if name.contains([':', '[', ']']) => host,
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_no_part_of_names() {
        for (host, name) in [
            ("a:1", "a"),
            ("a", "a"),
            ("a:", "a"),
            ("[::1]:2379", "::1"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("", ""),
            (":80", ""),
        ] {
            assert_eq!(name_of(host), name, "{host}");
        }
    }
}
