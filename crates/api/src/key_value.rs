//! `mvccpb.KeyValue` as it is stored and sent.
//!
//! The backend stores exactly these bytes, a range or a watch splices them into its answer, and
//! HashKV hashes them; so they must equal what Go writes.

use crate::wire::{DecodeError, Encode, Field, Reader, Sink, Value};

/// A [`crate::mvccpb::KeyValue`] that borrows its key and value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValueRef<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The revision that created the key.
    pub create_revision: i64,
    /// The revision of this value.
    pub mod_revision: i64,
    /// How often the key was put since it was created; 0 in a tombstone.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The attached lease, 0 for none.
    pub lease: i64,
}

impl<'a> KeyValueRef<'a> {
    /// What stands for a deleted key in the backend: the key alone.
    #[must_use]
    pub const fn tombstone(key: &'a [u8]) -> Self {
        Self { key, create_revision: 0, mod_revision: 0, version: 0, value: b"", lease: 0 }
    }

    /// What a delete event shows: the key and the revision that deleted it.
    #[must_use]
    pub const fn deleted(key: &'a [u8], mod_revision: i64) -> Self {
        Self { key, create_revision: 0, mod_revision, version: 0, value: b"", lease: 0 }
    }

    /// Reads a stored value.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes are no message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut kv = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(Field { number, value }) = reader.next_field()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => kv.key = bytes,
                (2, Value::Varint(number)) => kv.create_revision = number.cast_signed(),
                (3, Value::Varint(number)) => kv.mod_revision = number.cast_signed(),
                (4, Value::Varint(number)) => kv.version = number.cast_signed(),
                (5, Value::Bytes(bytes)) => kv.value = bytes,
                (6, Value::Varint(number)) => kv.lease = number.cast_signed(),
                _ => {}
            }
        }
        Ok(kv)
    }
}

impl Encode for KeyValueRef<'_> {
    #[inline]
    fn write(&self, sink: &mut impl Sink) {
        sink.bytes(1, self.key);
        sink.int64(2, self.create_revision);
        sink.int64(3, self.mod_revision);
        sink.int64(4, self.version);
        sink.bytes(5, self.value);
        sink.int64(6, self.lease);
    }
}

#[cfg(test)]
mod tests;
