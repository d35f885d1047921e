//! gRPC's rules for a request's head and for statuses, as grpc-go applies them.

use std::time::Duration;

use api::error::transport;
use api::service::{self, Rpc, Unknown};
use api::{Code, Error, Status};
use http2::{Field, HeaderList, Name};

use crate::metadata;

/// A request's head as the calls need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// The method asked for.
    pub(crate) rpc: Rpc,
    /// How long the client waits.
    pub(crate) timeout: Option<Duration>,
    /// The client wants to hear when there is no leader.
    pub(crate) requires_leader: bool,
    /// `content-type` was `application/grpc+proto`, which the answer repeats.
    pub(crate) proto_subtype: bool,
    /// The request names gzip: its messages may be compressed, and the answer's are.
    pub(crate) allows_gzip: bool,
}

impl Head {
    /// The head of a call that asks for nothing special.
    pub(crate) fn new(rpc: Rpc) -> Self {
        Self {
            rpc,
            timeout: None,
            requires_leader: false,
            proto_subtype: false,
            allows_gzip: false,
        }
    }
}

/// Why a request goes no further than its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// `:status` of the answer.
    pub(crate) http_status: u16,
    /// What ends the call.
    pub(crate) status: Status,
    /// The method, if the request got so far that it counts as a call of it.
    pub(crate) rpc: Option<Rpc>,
    /// The request is not gRPC's, so that its client can read a body, but not a gRPC status.
    pub(crate) in_words: bool,
}

impl Refusal {
    fn early(http_status: u16, status: Status) -> Self {
        Self { http_status, status, rpc: None, in_words: false }
    }
}

/// The name of the service for reflection before it was declared stable: the same messages.
const REFLECTION_ALPHA: &[u8] = b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

/// Checks a head in grpc-go's order: host, content type, timeout and metadata, verb, time left, path, encoding.
/// With `reflects`, the server tells of itself.
pub(crate) fn accept(head: &HeaderList, reflects: bool) -> Result<Head, Refusal> {
    let hosts = head.fields().filter(|(name, ..)| *name == Name::Host).count();
    if hosts > 1 {
        let authorities = usize::from(head.has_authority());
        return Err(Refusal::early(400, transport::too_many_hosts(authorities, hosts)));
    }
    let content_type = head.get(Name::ContentType).unwrap_or_default();
    let Some(subtype) = content_subtype(content_type) else {
        let status = transport::invalid_content_type(content_type);
        // An answer to HEAD has no body.
        let in_words = head.method() != b"HEAD";
        return Err(Refusal { in_words, ..Refusal::early(415, status) });
    };
    let timeout = match head.get(Name::GrpcTimeout).map(decode_timeout) {
        None => None,
        Some(Ok(timeout)) => Some(timeout),
        Some(Err(why)) => return Err(Refusal::early(400, transport::malformed_timeout(&why))),
    };
    metadata::check(head).map_err(|status| Refusal::early(400, status))?;
    if hosts == 0 && !head.has_authority() {
        return Err(Refusal::early(400, transport::no_authority()));
    }
    if head.method() != b"POST" {
        return Err(Refusal::early(405, transport::method_not_post(head.method())));
    }
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(Refusal::early(200, Error::ContextDeadlineExceeded.into()));
    }
    let rpc = match service::lookup(head.path()) {
        Ok(Rpc::ServerReflectionInfo) if !reflects => {
            let service = Rpc::ServerReflectionInfo.method().service.as_bytes();
            return Err(Refusal::early(200, Unknown::Service { service }.into()));
        }
        Ok(rpc) => rpc,
        Err(_) if reflects && head.path() == REFLECTION_ALPHA => Rpc::ServerReflectionInfo,
        Err(unknown) => return Err(Refusal::early(200, unknown.into())),
    };
    if let Some(encoding) = head.get(Name::GrpcEncoding)
        && !matches!(encoding, b"" | b"identity" | b"gzip")
    {
        let status = transport::decompressor_not_installed(encoding);
        return Err(Refusal { rpc: Some(rpc), ..Refusal::early(200, status) });
    }
    Ok(Head {
        rpc,
        timeout,
        requires_leader: head.get(Name::HasLeader) == Some(b"true"),
        proto_subtype: subtype == b"proto",
        allows_gzip: head.get(Name::GrpcEncoding) == Some(b"gzip"),
    })
}

/// What follows `application/grpc` in a content type; `None` for any other type.
fn content_subtype(content_type: &[u8]) -> Option<&[u8]> {
    const BASE: &[u8] = b"application/grpc";
    let (base, rest) = content_type.split_at_checked(BASE.len())?;
    if !base.eq_ignore_ascii_case(BASE) {
        return None;
    }
    match rest.split_first() {
        None => Some(b""),
        Some((b'+' | b';', subtype)) => Some(subtype),
        Some(_) => None,
    }
}

/// Reads a `grpc-timeout`: up to eight digits and a unit. The error is grpc-go's text.
fn decode_timeout(value: &[u8]) -> Result<Duration, String> {
    const HOURS_MAX: u64 = i64::MAX.unsigned_abs() / 3_600_000_000_000;
    let quoted = || transport::quote(value);
    match value.len() {
        0 | 1 => return Err(format!("transport: timeout string is too short: {}", quoted())),
        10.. => return Err(format!("transport: timeout string is too long: {}", quoted())),
        _ => {}
    }
    let (digits, unit) = value.split_at(value.len() - 1);
    let nanos_of_unit: u64 = match unit {
        b"H" => 3_600_000_000_000,
        b"M" => 60_000_000_000,
        b"S" => 1_000_000_000,
        b"m" => 1_000_000,
        b"u" => 1000,
        b"n" => 1,
        _ => return Err(format!("transport: timeout unit is not recognized: {}", quoted())),
    };
    let mut number: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            let quoted = transport::quote(digits);
            return Err(format!("strconv.ParseUint: parsing {quoted}: invalid syntax"));
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    let nanos = if unit == b"H" && number > HOURS_MAX {
        i64::MAX.unsigned_abs()
    } else {
        number.saturating_mul(nanos_of_unit)
    };
    Ok(Duration::from_nanos(nanos))
}

/// The head of every answer.
pub(crate) const fn content_type(proto_subtype: bool) -> Field<'static> {
    let value: &[u8] = if proto_subtype { b"application/grpc+proto" } else { b"application/grpc" };
    Field::indexed("content-type", value)
}

/// Says that the messages of an answer are compressed.
pub(crate) const GZIP: Field<'static> = Field::indexed("grpc-encoding", b"gzip");

/// The head of an answer to who does not speak gRPC.
pub(crate) const PLAIN_TEXT: Field<'static> =
    Field::indexed("content-type", b"text/plain; charset=utf-8");

/// The trailers of a call that succeeded.
pub(crate) const TRAILERS_OK: [Field<'static>; 1] = [Field::indexed("grpc-status", b"0")];

/// The fields of a status, and room for its encoded text.
#[derive(Debug)]
pub(crate) struct StatusFields {
    code: Code,
    message: String,
}

impl StatusFields {
    pub(crate) fn new(status: &Status) -> Self {
        Self { code: status.code, message: percent_encode(&status.message) }
    }

    /// `grpc-status` and `grpc-message`; the text is left out where it is empty, as in grpc-go.
    pub(crate) fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        let code = Field::indexed("grpc-status", self.code.digits().as_bytes());
        let text = Field::literal("grpc-message", self.message.as_bytes());
        [Some(code), (!self.message.is_empty()).then_some(text)].into_iter().flatten()
    }
}

/// Printable ASCII but `%` stands for itself, any other byte for its hex digits.
fn percent_encode(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 0xf)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_go_reads_them() {
        let read = |text: &str| match decode_timeout(text.as_bytes()) {
            Ok(timeout) => format!("{timeout:?}"),
            Err(why) => why,
        };
        assert_eq!(read("1S"), "1s");
        assert_eq!(read("0n"), "0ns");
        assert_eq!(read("20m"), "20ms");
        assert_eq!(read("99999999H"), "9223372036.854775807s");
        assert_eq!(read("99999999u"), "99.999999s");
        assert_eq!(read(""), "transport: timeout string is too short: \"\"");
        assert_eq!(read("S"), "transport: timeout string is too short: \"S\"");
        assert_eq!(read("999999999S"), "transport: timeout string is too long: \"999999999S\"");
        assert_eq!(read("1x"), "transport: timeout unit is not recognized: \"1x\"");
        assert_eq!(read("-1S"), "strconv.ParseUint: parsing \"-1\": invalid syntax");
    }

    #[test]
    fn content_types() {
        let read = |text: &str| {
            content_subtype(text.as_bytes()).map(|subtype| String::from_utf8_lossy(subtype).into())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read("application/grpc"), some(""));
        assert_eq!(read("application/grpc+proto"), some("proto"));
        assert_eq!(read("application/grpc;x"), some("x"));
        assert_eq!(read("Application/GRPC"), some(""));
        assert_eq!(read("application/grpc-web"), None);
        assert_eq!(read("application/json"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encode("a b~"), "a b~");
        assert_eq!(percent_encode("100%\n"), "100%25%0A");
        assert_eq!(percent_encode("é"), "%C3%A9");
    }
}
