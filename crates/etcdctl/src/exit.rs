//! How a command ends that has failed.

use std::fmt::Display;

/// Whatever a call answered, or what is in no other class.
pub(crate) const ERROR: u8 = 1;
/// No connection can be made.
pub(crate) const BAD_CONNECTION: u8 = 2;
/// What was typed at a transaction or a watch.
pub(crate) const INVALID_INPUT: u8 = 3;
/// A flag with a value that it does not have.
pub(crate) const BAD_FEATURE: u8 = 4;
/// Cut short.
pub(crate) const INTERRUPTED: u8 = 5;
/// Wrong arguments.
pub(crate) const BAD_ARGUMENTS: u8 = 128;

/// The end of a command before it is done: a code, and a line for standard error unless all was said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: u8,
    pub(crate) message: Option<String>,
}

impl Exit {
    pub(crate) fn new(code: u8, message: impl Display) -> Self {
        Self { code, message: Some(message.to_string()) }
    }

    /// Ends without another word.
    pub(crate) fn silent(code: u8) -> Self {
        Self { code, message: None }
    }

    pub(crate) fn arguments(message: impl Display) -> Self {
        Self::new(BAD_ARGUMENTS, message)
    }
}

/// An answer that is no error of the command line.
impl From<client::Error> for Exit {
    fn from(error: client::Error) -> Self {
        Self::new(ERROR, error)
    }
}
