//! The protobuf wire format: reading fields from hostile bytes and writing them.
//!
//! Reading follows Go's implementation, since members of both kinds must agree on what bytes
//! mean: a field of an unexpected wire type is skipped as unknown, the last of repeated scalars
//! wins, and repeated messages merge. Writing follows Go too: ascending field numbers, zeros left
//! out. A message is written by one function, [`Encode::write`], whether it is counted or stored,
//! so that its length and its bytes cannot disagree.

use std::fmt;

use bytes::Bytes;

/// How deep groups may nest in a field that is skipped. No message of etcd has groups.
const GROUP_DEPTH_MAX: u32 = 100;

/// Why bytes are not the message they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end inside a field.
    Truncated,
    /// A varint is longer than ten bytes or does not fit 64 bits.
    Varint,
    /// A field number of 0 or above 2^29 - 1, or a wire type that does not exist.
    Tag,
    /// A group ends that did not begin, or groups nest too deep.
    Group,
    /// A string is not UTF-8.
    Utf8,
    /// Transactions nest deeper than [`crate::txn::TXN_DEPTH_MAX`].
    TooDeep,
    /// A transaction lists more operations than the caller allows.
    TooManyOps,
    /// An internal request holds more than one header or more than one operation.
    Ambiguous,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "unexpected end of message",
            Self::Varint => "invalid varint",
            Self::Tag => "invalid field number or wire type",
            Self::Group => "invalid group",
            Self::Utf8 => "string field contains invalid UTF-8",
            Self::TooDeep => "transactions nest too deep",
            Self::TooManyOps => "too many operations in a transaction",
            Self::Ambiguous => "more than one header or operation in an internal request",
        })
    }
}

impl std::error::Error for DecodeError {}

/// A field's value, as far as etcd's messages need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer, bool or enum.
    Varint(u64),
    /// Bytes, a string, a message or packed numbers.
    Bytes(&'a [u8]),
    /// A fixed-width number or a group: well-formed, and of no message of etcd.
    Other,
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The field number, 1 to 2^29 - 1.
    pub number: u32,
    /// What it holds.
    pub value: Value<'a>,
}

/// Reads a message field by field.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of a whole message.
    #[must_use]
    pub const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field; `None` at the end of the message.
    ///
    /// # Errors
    ///
    /// Whatever Go's decoder refuses. The reader is of no use after an error.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        let value = match wire_type {
            0 => Value::Varint(self.varint()?),
            2 => Value::Bytes(self.length_delimited()?),
            _ => {
                self.skip(number, wire_type, GROUP_DEPTH_MAX)?;
                Value::Other
            }
        };
        Ok(Some(Field { number, value }))
    }

    fn tag(&mut self) -> Result<(u32, u8), DecodeError> {
        let tag = u32::try_from(self.varint()?).map_err(|_| DecodeError::Tag)?;
        let number = tag >> 3;
        if number == 0 {
            return Err(DecodeError::Tag);
        }
        Ok((number, (tag & 7) as u8))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.rest.split_first() {
            Some((byte, rest)) if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        let mut shift = 0;
        loop {
            let (byte, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
            self.rest = rest;
            if shift == 63 && *byte > 1 {
                return Err(DecodeError::Varint);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    fn length_delimited(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
        self.take(len)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn skip(&mut self, number: u32, wire_type: u8, depth: u32) -> Result<(), DecodeError> {
        match wire_type {
            0 => self.varint().map(drop),
            1 => self.take(8).map(drop),
            2 => self.length_delimited().map(drop),
            3 => self.skip_group(number, depth),
            4 => Err(DecodeError::Group),
            5 => self.take(4).map(drop),
            _ => Err(DecodeError::Tag),
        }
    }

    fn skip_group(&mut self, group: u32, depth: u32) -> Result<(), DecodeError> {
        let depth = depth.checked_sub(1).ok_or(DecodeError::Group)?;
        loop {
            match self.tag()? {
                (number, 4) if number == group => return Ok(()),
                (number, wire_type) => self.skip(number, wire_type, depth)?,
            }
        }
    }
}

/// A message that can be written.
pub trait Encode {
    /// Writes the message's fields in ascending order.
    fn write(&self, sink: &mut impl Sink);

    /// The exact number of bytes [`Encode::encode`] appends.
    fn encoded_len(&self) -> usize {
        let mut counter = Counter { len: 0 };
        self.write(&mut counter);
        counter.len
    }

    /// Appends the message, without a length, to `out`.
    fn encode(&self, out: &mut Vec<u8>) {
        self.write(&mut Writer { out });
    }

    /// The message as a vector without spare capacity.
    #[must_use]
    fn encode_to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode(&mut out);
        out
    }
}

/// Where fields go: a counter or a buffer.
///
/// The methods named after a type leave out the zero value, as proto3 does.
pub trait Sink {
    /// Appends bytes as they are.
    fn raw(&mut self, bytes: &[u8]);

    /// Appends a varint.
    fn varint(&mut self, value: u64);

    /// A field that is a message, even an empty one.
    fn message(&mut self, number: u32, message: &impl Encode);

    /// A field of bytes, even empty ones; also a message that is already encoded.
    fn present_bytes(&mut self, number: u32, bytes: &[u8]) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// A field of bytes as they are stored: a long run may be left where it lies.
    fn stored(&mut self, number: u32, stored: &Bytes) {
        self.present_bytes(number, stored);
    }

    /// A field of bytes or a string.
    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.present_bytes(number, bytes);
        }
    }

    /// An unsigned integer field.
    fn uint64(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.varint(u64::from(number) << 3);
            self.varint(value);
        }
    }

    /// A signed integer or enum field; a negative number takes ten bytes.
    fn int64(&mut self, number: u32, value: i64) {
        self.uint64(number, value.cast_unsigned());
    }

    /// A bool field.
    fn bool(&mut self, number: u32, value: bool) {
        self.uint64(number, u64::from(value));
    }
}

struct Counter {
    len: usize,
}

impl Sink for Counter {
    fn raw(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
    }

    fn varint(&mut self, value: u64) {
        self.len += prost::encoding::encoded_len_varint(value);
    }

    fn message(&mut self, number: u32, message: &impl Encode) {
        let len = message.encoded_len();
        self.varint(u64::from(number) << 3 | 2);
        self.varint(len as u64);
        self.len += len;
    }
}

/// Appends a varint.
#[inline]
pub fn append_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends to a buffer.
pub(crate) struct Writer<'a> {
    pub(crate) out: &'a mut Vec<u8>,
}

impl Sink for Writer<'_> {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    fn varint(&mut self, value: u64) {
        append_varint(self.out, value);
    }

    fn message(&mut self, number: u32, message: &impl Encode) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(message.encoded_len() as u64);
        message.write(self);
    }
}

#[cfg(test)]
mod tests;
