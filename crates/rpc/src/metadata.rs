//! Metadata of calls: fields of a head, in which bytes are base64 if the name ends in `-bin`.

use api::Status;
use api::error::transport;
use http2::{HeaderList, Name};

/// Refuses a head with bytes that are not base64, as grpc-go does before it knows the method.
pub(crate) fn check(head: &HeaderList) -> Result<(), Status> {
    for (name, text, value) in head.fields() {
        if name == Name::Other
            && text.ends_with("-bin")
            && let Err(offset) = check_base64(value)
        {
            let why = format!("illegal base64 data at input byte {offset}");
            return Err(transport::malformed_binary_metadata(value, text.as_bytes(), &why));
        }
    }
    Ok(())
}

/// Whether Go reads `text` in the standard alphabet, padded if its length is a multiple of four; the error is the place
/// that Go names.
fn check_base64(text: &[u8]) -> Result<(), usize> {
    let is_padded = text.len().is_multiple_of(4);
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let Some(end) = text.iter().position(|byte| !is_digit(byte)) else {
        return if text.len() % 4 == 1 { Err(text.len() - 1) } else { Ok(()) };
    };
    match (end % 4, text.get(end..).unwrap_or_default()) {
        (2, b"==") | (3, b"=") if is_padded => Ok(()),
        // Behind what would be the padding.
        (2, [b'=', b'=', ..]) if is_padded => Err(end + 2),
        (3, [b'=', ..]) if is_padded => Err(end + 1),
        _ => Err(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_checked_as_go_checks_it() {
        // The places are those of Go's encoding/base64: with padding where the length is a multiple of four.
        let cases: [(&str, Result<(), usize>); 18] = [
            ("", Ok(())),
            ("AQ==", Ok(())),
            ("AQ", Ok(())),
            ("AQI=", Ok(())),
            ("AQI", Ok(())),
            ("AQID", Ok(())),
            ("+/+/", Ok(())),
            ("A", Err(0)),
            ("AQIDA", Err(4)),
            ("AQ=", Err(2)),
            ("A===", Err(1)),
            ("====", Err(0)),
            ("AQ=x", Err(2)),
            ("AQ==AQ==", Err(4)),
            ("AQI=AQI=", Err(4)),
            ("A-_A", Err(1)),
            ("AQ, AQ", Err(2)),
            ("AQIDA===", Err(5)),
        ];
        for (text, expected) in cases {
            assert_eq!(check_base64(text.as_bytes()), expected, "{text}");
        }
    }
}
