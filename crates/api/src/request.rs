//! The hot requests, read without copying their bytes.
//!
//! Each type holds what the message of the same name in [`crate::etcdserverpb`] holds. `merge`
//! reads further bytes of the same message on top, since protobuf merges a message field that
//! appears twice.

use crate::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};
use crate::wire::{DecodeError, Encode, Field, Reader, Sink, Value};
use bytes::Bytes;

/// A [`RangeRequest`] that borrows its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeRequestRef<'a> {
    /// The first key.
    pub key: &'a [u8],
    /// The end of the range: empty for the one key, a zero byte for all keys from `key` on.
    pub range_end: &'a [u8],
    /// The most keys to return; 0 or less for no limit.
    pub limit: i64,
    /// The revision to read at; 0 or less for the current one.
    pub revision: i64,
    /// `SortOrder`, possibly an unknown number.
    pub sort_order: i32,
    /// `SortTarget`, possibly an unknown number.
    pub sort_target: i32,
    /// Whether this member may answer without asking the others.
    pub serializable: bool,
    /// Whether values are left out.
    pub keys_only: bool,
    /// Whether only the count is wanted.
    pub count_only: bool,
    /// Keys modified earlier are left out; 0 for no bound.
    pub min_mod_revision: i64,
    /// Keys modified later are left out; 0 for no bound.
    pub max_mod_revision: i64,
    /// Keys created earlier are left out; 0 for no bound.
    pub min_create_revision: i64,
    /// Keys created later are left out; 0 for no bound.
    pub max_create_revision: i64,
}

impl<'a> RangeRequestRef<'a> {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes are no message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut request = Self::default();
        request.merge(bytes)?;
        Ok(request)
    }

    pub(crate) fn merge(&mut self, bytes: &'a [u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        while let Some(Field { number, value }) = reader.next_field()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => self.key = bytes,
                (2, Value::Bytes(bytes)) => self.range_end = bytes,
                (3, Value::Varint(number)) => self.limit = number.cast_signed(),
                (4, Value::Varint(number)) => self.revision = number.cast_signed(),
                (5, Value::Varint(number)) => self.sort_order = number as i32,
                (6, Value::Varint(number)) => self.sort_target = number as i32,
                (7, Value::Varint(number)) => self.serializable = number != 0,
                (8, Value::Varint(number)) => self.keys_only = number != 0,
                (9, Value::Varint(number)) => self.count_only = number != 0,
                (10, Value::Varint(number)) => self.min_mod_revision = number.cast_signed(),
                (11, Value::Varint(number)) => self.max_mod_revision = number.cast_signed(),
                (12, Value::Varint(number)) => self.min_create_revision = number.cast_signed(),
                (13, Value::Varint(number)) => self.max_create_revision = number.cast_signed(),
                _ => {}
            }
        }
        Ok(())
    }

    /// The same request, sharing the memory of `source`, from which this one was read.
    #[must_use]
    pub fn to_message(self, source: &Bytes) -> RangeRequest {
        RangeRequest {
            key: source.slice_ref(self.key),
            range_end: source.slice_ref(self.range_end),
            limit: self.limit,
            revision: self.revision,
            sort_order: self.sort_order,
            sort_target: self.sort_target,
            serializable: self.serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: self.min_mod_revision,
            max_mod_revision: self.max_mod_revision,
            min_create_revision: self.min_create_revision,
            max_create_revision: self.max_create_revision,
        }
    }
}

impl<'a> From<&'a RangeRequest> for RangeRequestRef<'a> {
    fn from(request: &'a RangeRequest) -> Self {
        Self {
            key: &request.key,
            range_end: &request.range_end,
            limit: request.limit,
            revision: request.revision,
            sort_order: request.sort_order,
            sort_target: request.sort_target,
            serializable: request.serializable,
            keys_only: request.keys_only,
            count_only: request.count_only,
            min_mod_revision: request.min_mod_revision,
            max_mod_revision: request.max_mod_revision,
            min_create_revision: request.min_create_revision,
            max_create_revision: request.max_create_revision,
        }
    }
}

impl Encode for RangeRequestRef<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.bytes(1, self.key);
        sink.bytes(2, self.range_end);
        sink.int64(3, self.limit);
        sink.int64(4, self.revision);
        sink.int64(5, i64::from(self.sort_order));
        sink.int64(6, i64::from(self.sort_target));
        sink.bool(7, self.serializable);
        sink.bool(8, self.keys_only);
        sink.bool(9, self.count_only);
        sink.int64(10, self.min_mod_revision);
        sink.int64(11, self.max_mod_revision);
        sink.int64(12, self.min_create_revision);
        sink.int64(13, self.max_create_revision);
    }
}

/// A [`PutRequest`] that borrows its key and value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutRequestRef<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// The lease to attach, 0 for none.
    pub lease: i64,
    /// Whether the previous value is wanted.
    pub prev_kv: bool,
    /// Whether the key keeps its value.
    pub ignore_value: bool,
    /// Whether the key keeps its lease.
    pub ignore_lease: bool,
}

impl<'a> PutRequestRef<'a> {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes are no message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut request = Self::default();
        request.merge(bytes)?;
        Ok(request)
    }

    pub(crate) fn merge(&mut self, bytes: &'a [u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        while let Some(Field { number, value }) = reader.next_field()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => self.key = bytes,
                (2, Value::Bytes(bytes)) => self.value = bytes,
                (3, Value::Varint(number)) => self.lease = number.cast_signed(),
                (4, Value::Varint(number)) => self.prev_kv = number != 0,
                (5, Value::Varint(number)) => self.ignore_value = number != 0,
                (6, Value::Varint(number)) => self.ignore_lease = number != 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// The same request, sharing the memory of `source`, from which this one was read.
    #[must_use]
    pub fn to_message(self, source: &Bytes) -> PutRequest {
        PutRequest {
            key: source.slice_ref(self.key),
            value: source.slice_ref(self.value),
            lease: self.lease,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        }
    }
}

impl<'a> From<&'a PutRequest> for PutRequestRef<'a> {
    fn from(request: &'a PutRequest) -> Self {
        Self {
            key: &request.key,
            value: &request.value,
            lease: request.lease,
            prev_kv: request.prev_kv,
            ignore_value: request.ignore_value,
            ignore_lease: request.ignore_lease,
        }
    }
}

impl Encode for PutRequestRef<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.bytes(1, self.key);
        sink.bytes(2, self.value);
        sink.int64(3, self.lease);
        sink.bool(4, self.prev_kv);
        sink.bool(5, self.ignore_value);
        sink.bool(6, self.ignore_lease);
    }
}

/// A [`DeleteRangeRequest`] that borrows its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeRequestRef<'a> {
    /// The first key.
    pub key: &'a [u8],
    /// The end of the range, as in [`RangeRequestRef::range_end`].
    pub range_end: &'a [u8],
    /// Whether the deleted values are wanted.
    pub prev_kv: bool,
}

impl<'a> DeleteRangeRequestRef<'a> {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes are no message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut request = Self::default();
        request.merge(bytes)?;
        Ok(request)
    }

    pub(crate) fn merge(&mut self, bytes: &'a [u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        while let Some(Field { number, value }) = reader.next_field()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => self.key = bytes,
                (2, Value::Bytes(bytes)) => self.range_end = bytes,
                (3, Value::Varint(number)) => self.prev_kv = number != 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// The same request, sharing the memory of `source`, from which this one was read.
    #[must_use]
    pub fn to_message(self, source: &Bytes) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: source.slice_ref(self.key),
            range_end: source.slice_ref(self.range_end),
            prev_kv: self.prev_kv,
        }
    }
}

impl<'a> From<&'a DeleteRangeRequest> for DeleteRangeRequestRef<'a> {
    fn from(request: &'a DeleteRangeRequest) -> Self {
        Self { key: &request.key, range_end: &request.range_end, prev_kv: request.prev_kv }
    }
}

impl Encode for DeleteRangeRequestRef<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.bytes(1, self.key);
        sink.bytes(2, self.range_end);
        sink.bool(3, self.prev_kv);
    }
}

/// Reads a `LeaseKeepAliveRequest`: the id of the lease to renew.
///
/// # Errors
///
/// [`DecodeError`] when the bytes are no message.
pub fn decode_lease_keep_alive(bytes: &[u8]) -> Result<i64, DecodeError> {
    let mut id = 0;
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.next_field()? {
        if let Field { number: 1, value: Value::Varint(number) } = field {
            id = number.cast_signed();
        }
    }
    Ok(id)
}

#[cfg(test)]
mod tests;
