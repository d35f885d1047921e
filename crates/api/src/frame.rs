//! A message in its gRPC frame: one byte that says it is not compressed, four bytes of length,
//! the message; all in one buffer.

use crate::splice::Splices;
use crate::wire::Encode;

/// The bytes before a message.
pub const PREFIX_BYTES: usize = 5;

/// The largest message etcd sends, in bytes: the largest length that is positive as an `i32`.
pub const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// A message of `len` bytes is larger than [`MESSAGE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The message's length in bytes.
    pub len: usize,
}

/// Appends a framed message to `out`; returns the message's length.
///
/// # Errors
///
/// [`TooLarge`], with `out` unchanged.
pub fn encode(out: &mut Vec<u8>, message: &impl Encode) -> Result<usize, TooLarge> {
    let len = message.encoded_len();
    append_prefix(out, len)?;
    message.encode(out);
    Ok(len)
}

/// As [`encode`], but for long runs of stored bytes, which go to `splices` as they are.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_spliced(
    out: &mut Vec<u8>,
    splices: &mut Splices,
    message: &impl Encode,
) -> Result<usize, TooLarge> {
    let len = message.encoded_len();
    out.extend_from_slice(&prefix(len)?);
    splices.encode(out, message);
    Ok(len)
}

/// As [`encode`], for a generated message.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_message(out: &mut Vec<u8>, message: &impl prost::Message) -> Result<usize, TooLarge> {
    let len = message.encoded_len();
    append_prefix(out, len)?;
    message.encode(out).expect("a vector has room for every message");
    Ok(len)
}

/// As [`encode`], for a message that is encoded already.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_bytes(out: &mut Vec<u8>, message: &[u8]) -> Result<usize, TooLarge> {
    append_prefix(out, message.len())?;
    out.extend_from_slice(message);
    Ok(message.len())
}

fn append_prefix(out: &mut Vec<u8>, len: usize) -> Result<(), TooLarge> {
    let prefix = prefix(len)?;
    out.reserve(PREFIX_BYTES + len);
    out.extend_from_slice(&prefix);
    Ok(())
}

/// What stands before a message of `len` bytes.
///
/// # Errors
///
/// [`TooLarge`].
pub fn prefix(len: usize) -> Result<[u8; PREFIX_BYTES], TooLarge> {
    let announced = u32::try_from(len).ok().filter(|_| len <= MESSAGE_BYTES_MAX);
    let [a, b, c, d] = announced.ok_or(TooLarge { len })?.to_be_bytes();
    Ok([0, a, b, c, d])
}

#[cfg(test)]
mod tests;
