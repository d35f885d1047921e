//! Names and values of header fields: which names are known, and which bytes may stand in them.

/// The names of header fields that an etcd server asks for, so that no one compares strings for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Status,
    Host,
    ContentType,
    ContentLength,
    Te,
    UserAgent,
    GrpcTimeout,
    GrpcEncoding,
    GrpcAcceptEncoding,
    GrpcStatus,
    GrpcMessage,
    Token,
    Authorization,
    HasLeader,
    ClientApiVersion,
    /// Any other; its text is beside it.
    Other,
}

impl Name {
    /// The name for a field's text.
    pub const fn of(text: &[u8]) -> Self {
        match text {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":status" => Self::Status,
            b"host" => Self::Host,
            b"content-type" => Self::ContentType,
            b"content-length" => Self::ContentLength,
            b"te" => Self::Te,
            b"user-agent" => Self::UserAgent,
            b"grpc-timeout" => Self::GrpcTimeout,
            b"grpc-encoding" => Self::GrpcEncoding,
            b"grpc-accept-encoding" => Self::GrpcAcceptEncoding,
            b"grpc-status" => Self::GrpcStatus,
            b"grpc-message" => Self::GrpcMessage,
            b"token" => Self::Token,
            b"authorization" => Self::Authorization,
            b"hasleader" => Self::HasLeader,
            b"client-api-version" => Self::ClientApiVersion,
            _ => Self::Other,
        }
    }

    /// The field's text; empty for `Other`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Method => ":method",
            Self::Scheme => ":scheme",
            Self::Authority => ":authority",
            Self::Path => ":path",
            Self::Status => ":status",
            Self::Host => "host",
            Self::ContentType => "content-type",
            Self::ContentLength => "content-length",
            Self::Te => "te",
            Self::UserAgent => "user-agent",
            Self::GrpcTimeout => "grpc-timeout",
            Self::GrpcEncoding => "grpc-encoding",
            Self::GrpcAcceptEncoding => "grpc-accept-encoding",
            Self::GrpcStatus => "grpc-status",
            Self::GrpcMessage => "grpc-message",
            Self::Token => "token",
            Self::Authorization => "authorization",
            Self::HasLeader => "hasleader",
            Self::ClientApiVersion => "client-api-version",
            Self::Other => "",
        }
    }
}

/// How a field that is sent enters the peer's dynamic table (RFC 7541 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexing {
    /// Sent in full once, in one or two bytes afterwards: for values that repeat, as `grpc-status: 0`.
    Index,
    /// Sent in full each time: for values that differ, as `grpc-message`.
    Literal,
    /// Sent in full each time, and no intermediary may index it: for secrets.
    Never,
}

/// One header field to be sent. The name is lowercase; bytes that may not stand in a value are sent as spaces.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The name's text, without a colon in front.
    pub name: &'a str,
    /// The value, as it is to be sent (a `-bin` value is base64 already).
    pub value: &'a [u8],
    /// Whether the peer is to remember it.
    pub indexing: Indexing,
}

impl<'a> Field<'a> {
    /// A field whose value repeats from list to list.
    pub const fn indexed(name: &'a str, value: &'a [u8]) -> Self {
        Self { name, value, indexing: Indexing::Index }
    }

    /// A field whose value differs from list to list.
    pub const fn literal(name: &'a str, value: &'a [u8]) -> Self {
        Self { name, value, indexing: Indexing::Literal }
    }
}

/// Whether a regular field may have this name: a lowercase token (RFC 9110 5.6.2, RFC 9113 8.2.1) that does not
/// speak about the connection (8.2.2).
pub(crate) const fn is_name_allowed(text: &[u8]) -> bool {
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        if !is_lowercase_token(*byte) {
            return false;
        }
        rest = after;
    }
    let about_connection = matches!(
        text,
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade"
    );
    !text.is_empty() && !about_connection
}

const fn is_lowercase_token(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'!' | b'#' | b'$' | b'%' | b'&'
        | b'\'' | b'*' | b'+' | b'^' | b'`' | b'|' | b'~')
}

/// Whether a field may have this value. As in Go, spaces at the ends are let through, though RFC 9113 8.2.1 is not
/// fond of them.
pub(crate) fn is_value_allowed(value: &[u8]) -> bool {
    // No early exit: this way it is done many bytes at a time.
    !value.iter().fold(false, |bad, &byte| bad | !is_value_byte(byte))
}

pub(crate) const fn is_value_byte(byte: u8) -> bool {
    (byte >= b' ') & (byte != 0x7f) | (byte == b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["te", "x-custom-bin", "a.b_c~", "0"] {
            assert!(is_name_allowed(name.as_bytes()), "{name}");
        }
        for name in ["", "Te", "a b", ":path", "a:b", "a\u{e9}", "a\0", "connection", "upgrade"] {
            assert!(!is_name_allowed(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn values() {
        assert!(is_value_allowed(b"a b\t\xff"));
        for value in [&b"a\r"[..], b"\n", b"\0", b"\x7f"] {
            assert!(!is_value_allowed(value), "{value:?}");
        }
    }
}
