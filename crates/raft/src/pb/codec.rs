//! The proto2 encoding of the messages.

use bytes::Bytes;

use super::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
    Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
};

/// Nesting allowed in a message; the library itself nests two deep (a message in `responses`, its entries).
const DEPTH_MAX: u32 = 32;
/// Largest field number of protobuf.
const FIELD_NUMBER_MAX: u64 = (1 << 29) - 1;

/// Why bytes are not a message of `raftpb`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("unexpected EOF")]
    UnexpectedEof,
    /// A varint is longer than 64 bits.
    #[error("variable length integer overflow")]
    VarintOverflow,
    /// A field number is 0 or out of range.
    #[error("invalid field number")]
    InvalidFieldNumber,
    /// Wire types 6 and 7, or a group that ends without having begun.
    #[error("cannot parse reserved wire type")]
    InvalidWireType,
    /// Messages or groups nest too deep.
    #[error("exceeded maximum recursion depth")]
    TooDeep,
    /// A value that the enum does not have.
    #[error("unknown value {value} of {name}")]
    UnknownEnumValue {
        /// The enum's name.
        name: &'static str,
        /// What was found.
        value: u64,
    },
}

// ---- writing ----

const VARINT: u32 = 0;
const LEN: u32 = 2;

const fn varint_len(value: u64) -> usize {
    ((value | 1).ilog2() as usize * 9 + 73) / 64
}

fn put_varint(buf: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buf.push(value as u8 | 0x80);
        value >>= 7;
    }
    buf.push(value as u8);
}

// All field numbers here are below 16, so a key is one byte.
fn put_uint(buf: &mut Vec<u8>, number: u32, value: u64) {
    buf.push((number << 3 | VARINT) as u8);
    put_varint(buf, value);
}

fn put_nonzero(buf: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_uint(buf, number, value);
    }
}

fn put_bytes(buf: &mut Vec<u8>, number: u32, value: &[u8]) {
    if !value.is_empty() {
        buf.push((number << 3 | LEN) as u8);
        put_varint(buf, value.len() as u64);
        buf.extend_from_slice(value);
    }
}

const fn uint_len(value: u64) -> usize {
    1 + varint_len(value)
}

const fn nonzero_len(value: u64) -> usize {
    if value == 0 { 0 } else { uint_len(value) }
}

const fn nested_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

const fn bytes_len(value: &Bytes) -> usize {
    if value.is_empty() { 0 } else { nested_len(value.len()) }
}

fn uints_len(values: &[u64]) -> usize {
    values.iter().map(|&value| uint_len(value)).sum()
}

// ---- reading ----

enum Value<'a> {
    Varint(u64),
    Len(&'a [u8]),
    /// Fixed-width numbers and groups, which raftpb does not use.
    Skipped,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            if i == 9 && byte > 1 {
                return Err(DecodeError::VarintOverflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.take(i + 1)?;
                return Ok(value);
            }
        }
        Err(DecodeError::UnexpectedEof)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::UnexpectedEof)?;
        self.rest = rest;
        Ok(head)
    }

    fn key(&mut self) -> Result<(u64, u64), DecodeError> {
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 || number > FIELD_NUMBER_MAX {
            return Err(DecodeError::InvalidFieldNumber);
        }
        Ok((number, key & 7))
    }

    fn value(&mut self, number: u64, wire_type: u64, depth: u32) -> Result<Value<'a>, DecodeError> {
        Ok(match wire_type {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Skipped
            }
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| DecodeError::UnexpectedEof)?;
                Value::Len(self.take(len)?)
            }
            3 => {
                self.skip_group(number, depth)?;
                Value::Skipped
            }
            5 => {
                self.take(4)?;
                Value::Skipped
            }
            _ => return Err(DecodeError::InvalidWireType),
        })
    }

    fn skip_group(&mut self, group: u64, depth: u32) -> Result<(), DecodeError> {
        let depth = deeper(depth)?;
        loop {
            let (number, wire_type) = self.key()?;
            if wire_type == 4 {
                return if number == group { Ok(()) } else { Err(DecodeError::InvalidWireType) };
            }
            self.value(number, wire_type, depth)?;
        }
    }
}

fn deeper(depth: u32) -> Result<u32, DecodeError> {
    depth.checked_sub(1).ok_or(DecodeError::TooDeep)
}

/// The buffer that is decoded, so that payloads can share it, and how much deeper it may nest.
#[derive(Clone, Copy)]
struct Source<'a> {
    whole: &'a Bytes,
    depth: u32,
}

impl Source<'_> {
    fn share(self, part: &[u8]) -> Bytes {
        if part.is_empty() { Bytes::new() } else { self.whole.slice_ref(part) }
    }

    fn merge<T: Codec>(self, into: &mut T, part: &[u8]) -> Result<(), DecodeError> {
        let source = Self { depth: deeper(self.depth)?, ..self };
        let mut reader = Reader { rest: part };
        while !reader.rest.is_empty() {
            let (number, wire_type) = reader.key()?;
            let value = reader.value(number, wire_type, source.depth)?;
            into.merge_field(number, value, source)?;
        }
        Ok(())
    }
}

/// A field of an unexpected wire type is unknown, and unknown fields are skipped.
trait Codec: Default {
    fn merge_field(
        &mut self,
        number: u64,
        value: Value<'_>,
        source: Source<'_>,
    ) -> Result<(), DecodeError>;
}

fn merge_uints(into: &mut Vec<u64>, value: Value<'_>) -> Result<(), DecodeError> {
    match value {
        Value::Varint(value) => into.push(value),
        // packed
        Value::Len(part) => {
            let mut reader = Reader { rest: part };
            while !reader.rest.is_empty() {
                into.push(reader.varint()?);
            }
        }
        Value::Skipped => {}
    }
    Ok(())
}

fn to_enum<T>(
    name: &'static str,
    value: u64,
    from_wire: impl Fn(u64) -> Option<T>,
) -> Result<T, DecodeError> {
    from_wire(value).ok_or(DecodeError::UnknownEnumValue { name, value })
}

macro_rules! decode {
    ($($message:ty),*) => {$(
        impl $message {
            /// Decodes a whole buffer; payloads share it.
            pub fn decode(buf: Bytes) -> Result<Self, DecodeError> {
                let mut message = Self::default();
                Source { whole: &buf, depth: DEPTH_MAX }.merge(&mut message, &buf)?;
                Ok(message)
            }

            /// Decodes a whole buffer after copying it.
            pub fn decode_slice(buf: &[u8]) -> Result<Self, DecodeError> {
                Self::decode(Bytes::copy_from_slice(buf))
            }

            /// The encoding, in a buffer of exactly its size.
            pub fn encode_to_vec(&self) -> Vec<u8> {
                let mut buf = Vec::with_capacity(self.encoded_len());
                self.encode(&mut buf);
                buf
            }
        }
    )*};
}

decode!(Entry, HardState, ConfState, SnapshotMetadata, Snapshot, Message);
decode!(ConfChange, ConfChangeSingle, ConfChangeV2);

impl Entry {
    /// Appends the encoding to `buf`.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        put_nonzero(buf, 1, self.entry_type as u64);
        put_nonzero(buf, 2, self.term);
        put_nonzero(buf, 3, self.index);
        put_bytes(buf, 4, &self.data);
    }

    /// Bytes that `encode` appends.
    pub const fn encoded_len(&self) -> usize {
        nonzero_len(self.entry_type as u64)
            + nonzero_len(self.term)
            + nonzero_len(self.index)
            + bytes_len(&self.data)
    }
}

impl Codec for Entry {
    fn merge_field(
        &mut self,
        number: u64,
        value: Value<'_>,
        source: Source<'_>,
    ) -> Result<(), DecodeError> {
        match (number, value) {
            (1, Value::Varint(v)) => {
                self.entry_type = to_enum("EntryType", v, EntryType::from_wire)?;
            }
            (2, Value::Varint(v)) => self.term = v,
            (3, Value::Varint(v)) => self.index = v,
            (4, Value::Len(part)) => self.data = source.share(part),
            _ => {}
        }
        Ok(())
    }
}

impl HardState {
    /// Appends the encoding to `buf`.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        put_uint(buf, 1, self.term);
        put_uint(buf, 2, self.vote);
        put_uint(buf, 3, self.commit);
    }

    /// Bytes that `encode` appends.
    pub const fn encoded_len(&self) -> usize {
        uint_len(self.term) + uint_len(self.vote) + uint_len(self.commit)
    }
}

impl Codec for HardState {
    fn merge_field(
        &mut self,
        number: u64,
        value: Value<'_>,
        _: Source<'_>,
    ) -> Result<(), DecodeError> {
        match (number, value) {
            (1, Value::Varint(v)) => self.term = v,
            (2, Value::Varint(v)) => self.vote = v,
            (3, Value::Varint(v)) => self.commit = v,
            _ => {}
        }
        Ok(())
    }
}

impl ConfState {
    const fn id_lists(&self) -> [(u32, &Vec<u64>); 4] {
        [
            (1, &self.voters),
            (2, &self.learners),
            (3, &self.voters_outgoing),
            (4, &self.learners_next),
        ]
    }

    /// Appends the encoding to `buf`.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        for (number, ids) in self.id_lists() {
            for &id in ids {
                put_uint(buf, number, id);
            }
        }
        if let Some(auto_leave) = self.auto_leave {
            put_uint(buf, 5, u64::from(auto_leave));
        }
    }

    /// Bytes that `encode` appends.
    pub fn encoded_len(&self) -> usize {
        let auto_leave = if self.auto_leave.is_some() { 2 } else { 0 };
        self.id_lists().iter().map(|(_, ids)| uints_len(ids)).sum::<usize>() + auto_leave
    }
}

impl Codec for ConfState {
    fn merge_field(
        &mut self,
        number: u64,
        value: Value<'_>,
        _: Source<'_>,
    ) -> Result<(), DecodeError> {
        match (number, value) {
            (1, value) => merge_uints(&mut self.voters, value)?,
            (2, value) => merge_uints(&mut self.learners, value)?,
            (3, value) => merge_uints(&mut self.voters_outgoing, value)?,
            (4, value) => merge_uints(&mut self.learners_next, value)?,
            (5, Value::Varint(v)) => self.auto_leave = Some(v != 0),
            _ => {}
        }
        Ok(())
    }
}

impl SnapshotMetadata {
    /// Appends the encoding to `buf`.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        buf.push((1 << 3 | LEN) as u8);
        put_varint(buf, self.conf_state.encoded_len() as u64);
        self.conf_state.encode(buf);
        put_uint(buf, 2, self.index);
        put_uint(buf, 3, self.term);
    }

    /// Bytes that `encode` appends.
    pub fn encoded_len(&self) -> usize {
        nested_len(self.conf_state.encoded_len()) + uint_len(self.index) + uint_len(self.term)
    }
}

impl Codec for SnapshotMetadata {
    fn merge_field(
        &mut self,
        number: u64,
        value: Value<'_>,
        source: Source<'_>,
    ) -> Result<(), DecodeError> {
        match (number, value) {
            (1, Value::Len(part)) => source.merge(&mut self.conf_state, part)?,
            (2, Value::Varint(v)) => self.index = v,
            (3, Value::Varint(v)) => self.term = v,
            _ => {}
        }
        Ok(())
    }
}

impl Snapshot {
    /// Appends the encoding to `buf`.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        put_bytes(buf, 1, &self.data);
        buf.push((2 << 3 | LEN) as u8);
        put_varint(buf, self.metadata.encoded_len() as u64);
        self.metadata.encode(buf);
    }

    /// Bytes that `encode` appends.
    pub fn encoded_len(&self) -> usize {
        bytes_len(&self.data) + nested_len(self.metadata.encoded_len())
    }
}

impl Codec for Snapshot {
    fn merge_field(
        &mut self,
        number: u64,
        value: Value<'_>,
        source: Source<'_>,
    ) -> Result<(), DecodeError> {
        match (number, value) {
            (1, Value::Len(part)) => self.data = source.share(part),
            (2, Value::Len(part)) => source.merge(&mut self.metadata, part)?,
            _ => {}
        }
        Ok(())
    }
}

/// Which scalars of a message are written even when zero.
#[derive(Clone, Copy, Default)]
struct Present {
    log_term: bool,
    index: bool,
    commit: bool,
    reject_hint: bool,
}

impl Message {
    fn present(&self) -> Present {
        let none = Present::default();
        if self.to == 0 && self.from == 0 {
            return none;
        }
        match self.msg_type {
            MessageType::App => Present { log_term: true, index: true, commit: true, ..none },
            MessageType::Vote | MessageType::PreVote => {
                Present { log_term: true, index: true, ..none }
            }
            MessageType::AppResp if self.reject => {
                Present { log_term: true, index: true, reject_hint: true, ..none }
            }
            MessageType::Heartbeat => Present { commit: true, ..none },
            MessageType::ReadIndexResp => Present { index: true, ..none },
            _ => none,
        }
    }

    /// Appends the encoding to `buf`.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        let present = self.present();
        let scalar = |buf: &mut Vec<u8>, number, value, present| {
            if present || value != 0 {
                put_uint(buf, number, value);
            }
        };
        put_uint(buf, 1, self.msg_type as u64);
        put_nonzero(buf, 2, self.to);
        put_nonzero(buf, 3, self.from);
        put_nonzero(buf, 4, self.term);
        scalar(buf, 5, self.log_term, present.log_term);
        scalar(buf, 6, self.index, present.index);
        for entry in &self.entries {
            buf.push((7 << 3 | LEN) as u8);
            put_varint(buf, entry.encoded_len() as u64);
            entry.encode(buf);
        }
        scalar(buf, 8, self.commit, present.commit);
        if let Some(snapshot) = &self.snapshot {
            buf.push((9 << 3 | LEN) as u8);
            put_varint(buf, snapshot.encoded_len() as u64);
            snapshot.encode(buf);
        }
        put_nonzero(buf, 10, u64::from(self.reject));
        scalar(buf, 11, self.reject_hint, present.reject_hint);
        put_bytes(buf, 12, &self.context);
        put_nonzero(buf, 13, self.vote);
        for response in &self.responses {
            buf.push((14 << 3 | LEN) as u8);
            put_varint(buf, response.encoded_len() as u64);
            response.encode(buf);
        }
    }

    /// Bytes that `encode` appends.
    pub fn encoded_len(&self) -> usize {
        let present = self.present();
        let scalar = |value, present| if present { uint_len(value) } else { nonzero_len(value) };
        let entries: usize = self.entries.iter().map(|entry| nested_len(entry.encoded_len())).sum();
        let snapshot = self.snapshot.as_ref().map_or(0, |s| nested_len(s.encoded_len()));
        let responses: usize = self.responses.iter().map(|m| nested_len(m.encoded_len())).sum();
        uint_len(self.msg_type as u64)
            + nonzero_len(self.to)
            + nonzero_len(self.from)
            + nonzero_len(self.term)
            + scalar(self.log_term, present.log_term)
            + scalar(self.index, present.index)
            + entries
            + scalar(self.commit, present.commit)
            + snapshot
            + nonzero_len(u64::from(self.reject))
            + scalar(self.reject_hint, present.reject_hint)
            + bytes_len(&self.context)
            + nonzero_len(self.vote)
            + responses
    }
}

impl Codec for Message {
    fn merge_field(
        &mut self,
        number: u64,
        value: Value<'_>,
        source: Source<'_>,
    ) -> Result<(), DecodeError> {
        match (number, value) {
            (1, Value::Varint(v)) => {
                self.msg_type = to_enum("MessageType", v, MessageType::from_wire)?;
            }
            (2, Value::Varint(v)) => self.to = v,
            (3, Value::Varint(v)) => self.from = v,
            (4, Value::Varint(v)) => self.term = v,
            (5, Value::Varint(v)) => self.log_term = v,
            (6, Value::Varint(v)) => self.index = v,
            (7, Value::Len(part)) => {
                let mut entry = Entry::default();
                source.merge(&mut entry, part)?;
                self.entries.push(entry);
            }
            (8, Value::Varint(v)) => self.commit = v,
            (9, Value::Len(part)) => {
                source.merge(self.snapshot.get_or_insert_default().as_mut(), part)?;
            }
            (10, Value::Varint(v)) => self.reject = v != 0,
            (11, Value::Varint(v)) => self.reject_hint = v,
            (12, Value::Len(part)) => self.context = source.share(part),
            (13, Value::Varint(v)) => self.vote = v,
            (14, Value::Len(part)) => {
                let mut response = Self::default();
                source.merge(&mut response, part)?;
                self.responses.push(response);
            }
            _ => {}
        }
        Ok(())
    }
}

impl ConfChange {
    /// Appends the encoding to `buf`.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        put_nonzero(buf, 1, self.id);
        put_uint(buf, 2, self.change_type as u64);
        put_uint(buf, 3, self.node_id);
        put_bytes(buf, 4, &self.context);
    }

    /// Bytes that `encode` appends.
    pub const fn encoded_len(&self) -> usize {
        nonzero_len(self.id)
            + uint_len(self.change_type as u64)
            + uint_len(self.node_id)
            + bytes_len(&self.context)
    }
}

impl Codec for ConfChange {
    fn merge_field(
        &mut self,
        number: u64,
        value: Value<'_>,
        source: Source<'_>,
    ) -> Result<(), DecodeError> {
        match (number, value) {
            (1, Value::Varint(v)) => self.id = v,
            (2, Value::Varint(v)) => {
                self.change_type = to_enum("ConfChangeType", v, ConfChangeType::from_wire)?;
            }
            (3, Value::Varint(v)) => self.node_id = v,
            (4, Value::Len(part)) => self.context = source.share(part),
            _ => {}
        }
        Ok(())
    }
}

impl ConfChangeSingle {
    /// Appends the encoding to `buf`.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        put_uint(buf, 1, self.change_type as u64);
        put_uint(buf, 2, self.node_id);
    }

    /// Bytes that `encode` appends.
    pub const fn encoded_len(&self) -> usize {
        uint_len(self.change_type as u64) + uint_len(self.node_id)
    }
}

impl Codec for ConfChangeSingle {
    fn merge_field(
        &mut self,
        number: u64,
        value: Value<'_>,
        _: Source<'_>,
    ) -> Result<(), DecodeError> {
        match (number, value) {
            (1, Value::Varint(v)) => {
                self.change_type = to_enum("ConfChangeType", v, ConfChangeType::from_wire)?;
            }
            (2, Value::Varint(v)) => self.node_id = v,
            _ => {}
        }
        Ok(())
    }
}

impl ConfChangeV2 {
    /// Appends the encoding to `buf`.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        put_nonzero(buf, 1, self.transition as u64);
        for change in &self.changes {
            buf.push((2 << 3 | LEN) as u8);
            put_varint(buf, change.encoded_len() as u64);
            change.encode(buf);
        }
        put_bytes(buf, 3, &self.context);
    }

    /// Bytes that `encode` appends.
    pub fn encoded_len(&self) -> usize {
        let changes: usize = self.changes.iter().map(|c| nested_len(c.encoded_len())).sum();
        nonzero_len(self.transition as u64) + changes + bytes_len(&self.context)
    }
}

impl Codec for ConfChangeV2 {
    fn merge_field(
        &mut self,
        number: u64,
        value: Value<'_>,
        source: Source<'_>,
    ) -> Result<(), DecodeError> {
        match (number, value) {
            (1, Value::Varint(v)) => {
                self.transition =
                    to_enum("ConfChangeTransition", v, ConfChangeTransition::from_wire)?;
            }
            (2, Value::Len(part)) => {
                let mut change = ConfChangeSingle::default();
                source.merge(&mut change, part)?;
                self.changes.push(change);
            }
            (3, Value::Len(part)) => self.context = source.share(part),
            _ => {}
        }
        Ok(())
    }
}
