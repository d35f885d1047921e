//! The statuses grpc-go gives before a request reaches a handler, with its exact texts.

use super::{Code, Error, Status};
use crate::service::Unknown;
use crate::wire::DecodeError;
use std::fmt::Write as _;

impl From<Unknown<'_>> for Status {
    fn from(unknown: Unknown<'_>) -> Self {
        let message = match unknown {
            Unknown::Malformed { path } => format!("malformed method name: {}", quote(path)),
            Unknown::Service { service } => {
                format!("unknown service {}", String::from_utf8_lossy(service))
            }
            Unknown::Method { service, method } => {
                format!("unknown method {} for service {service}", String::from_utf8_lossy(method))
            }
        };
        Self::new(Code::Unimplemented, message)
    }
}

/// The status of a request that cannot be read. One that is too deep or too long for its reader has
/// too many operations; etcd, which reads it in full, says the same.
impl From<DecodeError> for Status {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooDeep | DecodeError::TooManyOps => Error::TooManyOps.into(),
            _ => error_unmarshalling_request(),
        }
    }
}

/// A request whose message cannot be decoded; HTTP status 200.
#[must_use]
pub const fn error_unmarshalling_request() -> Status {
    Status::fixed(
        Code::Internal,
        "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data",
    )
}

/// A frame announces a message of `len` bytes where `max` are allowed.
#[must_use]
pub fn received_message_larger_than_max(len: u64, max: u64) -> Status {
    let message = format!("grpc: received message larger than max ({len} vs. {max})");
    Status::new(Code::ResourceExhausted, message)
}

/// A compressed message grew past `max`; `len` is where decompression stopped.
#[must_use]
pub fn decompressed_message_larger_than_max(len: u64, max: u64) -> Status {
    let message = format!("grpc: message after decompression larger than max ({len} vs. {max})");
    Status::new(Code::ResourceExhausted, message)
}

/// A unary response of `len` bytes where `max` may be sent.
#[must_use]
pub fn sending_message_larger_than_max(len: u64, max: u64) -> Status {
    let message = format!("grpc: trying to send message larger than max ({len} vs. {max})");
    Status::new(Code::ResourceExhausted, message)
}

/// A response of `len` bytes on a stream where `max` may be sent; grpc-go's text lacks the prefix.
#[must_use]
pub fn streaming_message_larger_than_max(len: u64, max: u64) -> Status {
    let message = format!("trying to send message larger than max ({len} vs. {max})");
    Status::new(Code::ResourceExhausted, message)
}

/// The `grpc-encoding` of a request is not one this server can undo.
#[must_use]
pub fn decompressor_not_installed(encoding: &[u8]) -> Status {
    let quoted = quote(encoding);
    let message = format!("grpc: Decompressor is not installed for grpc-encoding {quoted}");
    Status::new(Code::Unimplemented, message)
}

/// A frame is flagged as compressed, but the request named no encoding.
#[must_use]
pub const fn compressed_without_encoding() -> Status {
    Status::fixed(Code::Internal, "grpc: compressed flag set with identity or empty encoding")
}

/// The first byte of a frame is neither 0 nor 1.
#[must_use]
pub fn unexpected_payload_format(format: u8) -> Status {
    Status::new(Code::Internal, format!("grpc: received unexpected payload format {format}"))
}

/// The compressed bytes cannot be undone; `why` is the decompressor's text.
#[must_use]
pub fn failed_to_decompress(why: &str) -> Status {
    Status::new(Code::Internal, format!("grpc: failed to decompress the received message: {why}"))
}

/// The `content-type` is not `application/grpc`; HTTP status 415.
#[must_use]
pub fn invalid_content_type(content_type: &[u8]) -> Status {
    let message = format!("invalid gRPC request content-type {}", quote(content_type));
    Status::new(Code::InvalidArgument, message)
}

/// A request that names more than one host; HTTP status 400.
#[must_use]
pub fn too_many_hosts(authorities: usize, hosts: usize) -> Status {
    let message = format!(
        "num values of :authority: {authorities}, num values of host: {hosts}, both must only have 1 value as per HTTP/2 spec"
    );
    Status::new(Code::Internal, message)
}

/// A request that names no host; HTTP status 400.
#[must_use]
pub const fn no_authority() -> Status {
    Status::fixed(Code::Internal, "no host or :authority header present")
}

/// The `:method` is not `POST`; HTTP status 405.
#[must_use]
pub fn method_not_post(method: &[u8]) -> Status {
    let quoted = quote(method);
    let message = format!("Received a HEADERS frame with :method {quoted} which should be POST");
    Status::new(Code::Internal, message)
}

/// The `grpc-timeout` cannot be read; HTTP status 400; `why` is the parser's text.
#[must_use]
pub fn malformed_timeout(why: &str) -> Status {
    Status::new(Code::Internal, format!("malformed grpc-timeout: {why}"))
}

/// A `-bin` header is not base64; HTTP status 400; `why` is the decoder's text.
#[must_use]
pub fn malformed_binary_metadata(value: &[u8], name: &[u8], why: &str) -> Status {
    let (value, name) = (quote(value), quote(name));
    let message = format!("malformed binary metadata {value} in header {name}: {why}");
    Status::new(Code::Internal, message)
}

/// `text` as Go's `%q` prints it.
#[must_use]
pub fn quote(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for chunk in text.utf8_chunks() {
        chunk.valid().chars().for_each(|c| quote_char(&mut out, c));
        for byte in chunk.invalid() {
            escape(&mut out, "\\x", 2, u32::from(*byte));
        }
    }
    out.push('"');
    out
}

fn quote_char(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        '\0'..' ' | '\x7f' => escape(out, "\\x", 2, u32::from(c)),
        _ if !c.is_control() => out.push(c),
        _ => escape(out, "\\u", 4, u32::from(c)),
    }
}

fn escape(out: &mut String, prefix: &str, width: usize, value: u32) {
    write!(out, "{prefix}{value:0width$x}").expect("writing to a String cannot fail");
}
