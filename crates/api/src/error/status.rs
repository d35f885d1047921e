//! A status: what ends an RPC.

use super::{Code, Error};
use std::borrow::Cow;
use std::fmt;

/// A code and its text. Costs no allocation when the text is fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The code of the `grpc-status` trailer.
    pub code: Code,
    /// The text of the `grpc-message` trailer, before percent-encoding.
    pub message: Cow<'static, str>,
}

impl Status {
    /// Success; no text.
    pub const OK: Self = Self::fixed(Code::Ok, "");

    /// A status whose text is known at compile time.
    #[must_use]
    pub const fn fixed(code: Code, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message) }
    }

    /// A status with any text.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::fixed(error.code(), error.message())
    }
}

/// The form in which Go prints an RPC's error, which etcd also puts into
/// `WatchResponse.cancel_reason`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {} desc = {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}
