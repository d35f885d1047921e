//! The five formats of output. A printer makes bytes of an answer; who writes them is not its business.

mod fields;
mod json;
mod protobuf;
mod simple;
mod table;

#[cfg(test)]
mod tests;

pub(crate) use table::size;

use crate::answer::Answer;
use crate::exit::{BAD_FEATURE, Exit};
use crate::terminal::Paint;

/// A format, by the names of `--write-out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    pub(crate) format: Format,
    /// Keys and values as hexadecimal escapes in the simple format, ids as hexadecimal numbers in others.
    pub(crate) hex: bool,
    /// No keys, in the simple format.
    pub(crate) values_only: bool,
    /// Colours, in the simple format.
    pub(crate) paint: Paint,
}

impl Printer {
    /// # Errors
    /// There is no such format.
    pub(crate) fn new(format: &str, hex: bool) -> Result<Self, Exit> {
        let format = match format {
            "simple" => Format::Simple,
            "fields" => Format::Fields,
            "json" => Format::Json,
            "protobuf" => Format::Protobuf,
            "table" => Format::Table,
            _ => return Err(Exit::new(BAD_FEATURE, "unsupported output format")),
        };
        Ok(Self { format, hex, values_only: false, paint: Paint::stdout() })
    }

    /// The answer in this format.
    ///
    /// # Errors
    /// The format is not for this answer.
    pub(crate) fn print(&self, answer: &Answer<'_>) -> Result<Vec<u8>, Exit> {
        let unsupported = |format: &str| {
            Exit::new(BAD_FEATURE, format!("{format} not supported as output format"))
        };
        match self.format {
            Format::Simple => Ok(simple::print(*self, answer)),
            Format::Fields => fields::print(self.hex, answer).ok_or_else(|| unsupported("fields")),
            Format::Json => Ok(json::print(self.hex, answer)),
            Format::Protobuf => match protobuf::print(answer) {
                Ok(bytes) => Ok(bytes),
                Err(None) => Err(unsupported("protobuf")),
                Err(Some(why)) => Err(Exit::new(BAD_FEATURE, why)),
            },
            Format::Table => table::print(answer).ok_or_else(|| unsupported("table")),
        }
    }
}
