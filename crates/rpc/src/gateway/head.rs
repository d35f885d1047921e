//! What the head of an HTTP request says about the call.

use std::time::Duration;

use api::service::Rpc;
use api::{Code, Status, json};
use http::{HeaderMap, Method};

use crate::grpc::Head;
use crate::inside::Origin;

/// A client's own metadata is in header fields with this prefix.
const METADATA_PREFIX: &str = "grpc-metadata-";

/// The method that a request has, or wants to have although it is a form.
pub(super) fn method(method: &Method, headers: &HeaderMap) -> String {
    let is_form = header(headers, "content-type") == "application/x-www-form-urlencoded";
    match header(headers, "x-http-method-override") {
        wanted if !wanted.is_empty() && method == Method::POST && is_form => wanted.to_uppercase(),
        _ => method.to_string(),
    }
}

/// The call that the head asks for.
pub(super) fn origin(rpc: Rpc, headers: &HeaderMap) -> Result<Origin, Status> {
    let timeout = match header(headers, "grpc-timeout") {
        "" => None,
        text => Some(timeout(text).ok_or_else(|| {
            Status::new(Code::InvalidArgument, format!("invalid grpc-timeout: {text}"))
        })?),
    };
    check_binary(headers)?;
    let metadata = |name: &str| headers.get(format!("{METADATA_PREFIX}{name}"));
    let requires_leader = metadata("hasleader").is_some_and(|value| value == "true");
    let api_version = metadata("client-api-version").map(|value| value.as_bytes().to_vec());
    // A timeout of 0 is none.
    let timeout = timeout.filter(|timeout| !timeout.is_zero());
    let head = Head { timeout, requires_leader, ..Head::new(rpc) };
    Ok(Origin::Client { head, api_version })
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A number and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let nanos: u64 = match unit {
        "H" => 3_600_000_000_000,
        "M" => 60_000_000_000,
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        _ => return None,
    };
    let number: i64 = number.parse().ok()?;
    // What is negative has passed.
    let number = u64::try_from(number).ok();
    Some(number.map_or(Duration::from_nanos(1), |n| Duration::from_nanos(n.saturating_mul(nanos))))
}

/// Metadata whose name ends in `-bin` is base64.
fn check_binary(headers: &HeaderMap) -> Result<(), Status> {
    for (name, value) in headers {
        let is_binary =
            name.as_str().starts_with(METADATA_PREFIX) && name.as_str().ends_with("-bin");
        let value = value.to_str().unwrap_or("\u{fffd}");
        if is_binary && json::decode_base64(value, &mut Vec::new()).is_none() {
            let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
            let at = value.find(|c| !is_letter(c)).unwrap_or(value.len());
            let name = canonical(name.as_str());
            let text =
                format!("invalid binary header {name}: illegal base64 data at input byte {at}");
            return Err(Status::new(Code::InvalidArgument, text));
        }
    }
    Ok(())
}

/// A name as Go writes it: `Grpc-Metadata-X-Bin`.
fn canonical(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let (first, rest) = part.split_at_checked(1).unwrap_or_default();
        first.to_uppercase() + rest
    });
    parts.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        assert_eq!(timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout("500m"), Some(Duration::from_millis(500)));
        assert_eq!(timeout("-1S"), Some(Duration::from_nanos(1)));
        for wrong in ["", "x", "1", "S", "1.5S", "1é"] {
            assert_eq!(timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_form_may_want_another_method() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            let pair = |(name, value): &(&'static str, &'static str)| {
                let name = http::HeaderName::from_static(name);
                (name, http::HeaderValue::from_static(value))
            };
            pairs.iter().map(pair).collect()
        };
        let wish = ("x-http-method-override", "get");
        let form = ("content-type", "application/x-www-form-urlencoded");
        assert_eq!(method(&Method::POST, &headers(&[wish, form])), "GET");
        assert_eq!(method(&Method::POST, &headers(&[wish])), "POST");
        assert_eq!(method(&Method::PUT, &headers(&[wish, form])), "PUT");
    }
}
