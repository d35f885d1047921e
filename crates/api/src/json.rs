//! Messages as JSON, as etcd's gateway reads and writes them: from text to the message's bytes and back, by the tables
//! of [`crate::schema`], with no message in between.
//!
//! [`Values`] cuts a body into values and refuses what Go's `encoding/json` refuses; [`decode`] reads a value as Go's
//! `protojson` does: unknown fields are ignored, numbers may be strings, bytes are base64. The texts of errors are Go's.

mod base64;
mod decode;
mod encode;
mod number;
mod scan;
mod string;

pub use base64::{decode as decode_base64, encode as encode_base64};
pub use decode::decode;
pub use encode::{encode, encode_status};
pub use scan::Values;

/// Messages inside messages: as deep as transactions may be, and some more. Go reads [`VALUE_DEPTH_MAX`].
const MESSAGE_DEPTH_MAX: usize = 2 * crate::txn::TXN_DEPTH_MAX + 16;
/// Values inside values, as in Go.
const VALUE_DEPTH_MAX: usize = 10_000;

/// Why a text is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// What is wrong, in Go's words.
    Invalid(String),
    /// The text ends inside a value.
    UnexpectedEnd,
    /// The value is larger than the limit, which this is.
    TooLarge(usize),
    /// Messages are nested too deep.
    TooDeep,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(what) => f.write_str(what),
            Self::UnexpectedEnd => f.write_str("unexpected EOF"),
            Self::TooLarge(max) => write!(f, "JSON value larger than max ({max})"),
            Self::TooDeep => f.write_str("proto: exceeded max recursion depth"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
