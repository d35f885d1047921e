//! Statuses: those that servers send, and those that a client makes of what it got instead, in grpc-go's words.

use api::error::transport::quote;
use api::{Code, Status};
use http2::{ErrorCode, HeaderList, Name};

/// The status in trailers, or in a head without a body.
pub(crate) fn of_trailers(trailers: &HeaderList) -> Status {
    let Some(code) = trailers.get(Name::GrpcStatus) else {
        return without_trailers();
    };
    let digits = std::str::from_utf8(code).ok().and_then(|code| code.parse::<u64>().ok());
    let Some(number) = digits else {
        let message = format!("transport: malformed grpc-status: {}", quote(code));
        return Status::new(Code::Internal, message);
    };
    let message = trailers.get(Name::GrpcMessage).unwrap_or_default();
    Status::new(Code::from_number(number), percent_decode(message))
}

/// The stream ended with its body.
pub(crate) fn without_trailers() -> Status {
    Status::fixed(Code::Internal, "server closed the stream without sending trailers")
}

/// What an answer's head says if it is not the head of a gRPC answer.
pub(crate) fn of_foreign_head(head: &HeaderList) -> Option<Status> {
    let content_type = head.get(Name::ContentType);
    let is_grpc = content_type.is_some_and(|it| it.starts_with(b"application/grpc"));
    let http_status = head.status();
    if http_status == 200 && is_grpc {
        return None;
    }
    let code = match http_status {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    let mut parts = Vec::new();
    if http_status != 200 {
        let text = http_text(http_status);
        parts.push(format!(
            "unexpected HTTP status code received from server: {http_status} ({text})"
        ));
    }
    match content_type {
        None => parts.push("malformed header: missing HTTP content-type".to_owned()),
        Some(other) if !is_grpc => {
            parts.push(format!("transport: received unexpected content-type {}", quote(other)));
        }
        Some(_) => {}
    }
    Some(Status::new(code, parts.join("; ")))
}

/// The names of what servers and proxies answer with instead.
fn http_text(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

/// What a reset of the stream means.
pub(crate) fn of_reset(code: ErrorCode) -> Status {
    let status = match code {
        ErrorCode::REFUSED_STREAM => Code::Unavailable,
        ErrorCode::CANCEL => Code::Canceled,
        ErrorCode::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        ErrorCode::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Internal,
    };
    let name = match code.0 {
        0x0 => "NO_ERROR",
        0x1 => "PROTOCOL_ERROR",
        0x2 => "INTERNAL_ERROR",
        0x3 => "FLOW_CONTROL_ERROR",
        0x4 => "SETTINGS_TIMEOUT",
        0x5 => "STREAM_CLOSED",
        0x6 => "FRAME_SIZE_ERROR",
        0x7 => "REFUSED_STREAM",
        0x8 => "CANCEL",
        0x9 => "COMPRESSION_ERROR",
        0xa => "CONNECT_ERROR",
        0xb => "ENHANCE_YOUR_CALM",
        0xc => "INADEQUATE_SECURITY",
        0xd => "HTTP_1_1_REQUIRED",
        other => {
            let message = format!(
                "stream terminated by RST_STREAM with error code: unknown error code {other:#x}"
            );
            return Status::new(status, message);
        }
    };
    Status::new(status, format!("stream terminated by RST_STREAM with error code: {name}"))
}

/// Undoes the encoding of `grpc-message`. What is not encoded well stands for itself.
fn percent_decode(text: &[u8]) -> String {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if let (b'%', [high, low, behind @ ..]) = (byte, after)
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            out.push((high * 16 + low) as u8);
            rest = behind;
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::percent_decode;

    #[test]
    fn messages_are_percent_decoded() {
        for (text, want) in [
            ("plain", "plain"),
            ("a%20b%25", "a b%"),
            ("%C3%A9", "é"),
            ("%", "%"),
            ("%2", "%2"),
            ("%zz", "%zz"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(percent_decode(text.as_bytes()), want);
        }
    }
}
