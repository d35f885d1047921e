//! Frames and records: `walpb.Record`, `walpb.Snapshot` and the metadata of the server.

use raft::{ConfState, Entry, HardState};

use crate::proto::{Fields, Malformed, Value, put_bytes, put_uint, put_varint};

/// Bytes of a frame's length.
pub(crate) const FRAME_BYTES: u64 = 8;
const LENGTH_MASK: u64 = (1 << 56) - 1;
/// Longest varint of a checksum.
const CRC_VARINT_MAX: usize = 5;

/// What a record's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordType {
    Metadata = 1,
    Entry = 2,
    State = 3,
    Crc = 4,
    Snapshot = 5,
}

impl RecordType {
    pub(crate) fn from_wire(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::Metadata,
            2 => Self::Entry,
            3 => Self::State,
            4 => Self::Crc,
            5 => Self::Snapshot,
            _ => return None,
        })
    }
}

/// A record as read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawRecord<'a> {
    pub(crate) number: i64,
    pub(crate) crc: u32,
    pub(crate) data: &'a [u8],
}

impl<'a> RawRecord<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut record = Self::default();
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Varint(number)) => record.number = number.cast_signed(),
                (2, Value::Varint(crc)) => record.crc = crc as u32,
                (3, Value::Bytes(data)) => record.data = data,
                _ => {}
            }
        }
        Ok(record)
    }
}

/// Length of a record and of its padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) record: u64,
    pub(crate) padding: u64,
}

impl Frame {
    pub(crate) fn decode(length: [u8; 8]) -> Self {
        let field = u64::from_le_bytes(length);
        let padding = if field >> 63 == 1 { field >> 56 & 7 } else { 0 };
        Self { record: field & LENGTH_MASK, padding }
    }

    fn encode(record: usize) -> (u64, usize) {
        let padding = (8 - record % 8) % 8;
        let flags = if padding == 0 { 0 } else { 0x80 | padding as u64 };
        (record as u64 | flags << 56, padding)
    }

    /// Bytes after the length; cannot overflow, both are below 2^57.
    pub(crate) fn body(self) -> u64 {
        self.record + self.padding
    }
}

/// Appends records to a buffer, keeping the chain of checksums.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub(crate) crc: u32,
    pub(crate) buf: Vec<u8>,
}

impl Encoder {
    pub(crate) fn crc_record(&mut self) {
        self.record(RecordType::Crc, 0, |_| {});
    }

    pub(crate) fn metadata(&mut self, metadata: &[u8]) {
        self.record(RecordType::Metadata, metadata.len(), |buf| buf.extend_from_slice(metadata));
    }

    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.record(RecordType::Entry, entry.encoded_len(), |buf| entry.encode(buf));
    }

    pub(crate) fn state(&mut self, state: &HardState) {
        self.record(RecordType::State, state.encoded_len(), |buf| state.encode(buf));
    }

    pub(crate) fn snapshot(&mut self, snapshot: &SnapshotRecord) {
        let data = snapshot.encode();
        self.record(RecordType::Snapshot, data.len(), |buf| buf.extend_from_slice(&data));
    }

    /// One frame whose data `write` appends, `len` bytes of it.
    ///
    /// The checksum stands before the data that it covers. Room for its longest form is left, and the
    /// data moves only in the 6 % of cases where it is shorter, so that data is copied once.
    fn record(&mut self, kind: RecordType, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let frame_at = self.buf.len();
        self.buf.extend_from_slice(&[0; FRAME_BYTES as usize]);
        let record_at = self.buf.len();
        put_uint(&mut self.buf, 1, kind as u64);
        self.buf.push(2 << 3);
        let crc_at = self.buf.len();
        self.buf.extend_from_slice(&[0; CRC_VARINT_MAX]);
        let tail_at = self.buf.len();
        // A crc record has no data field; the others have one even if it is empty.
        if kind != RecordType::Crc {
            self.buf.push(3 << 3 | 2);
            put_varint(&mut self.buf, len as u64);
        }
        let data_at = self.buf.len();
        write(&mut self.buf);
        assert_eq!(self.buf.len() - data_at, len, "a record's length is not what was announced");

        self.crc = crc32c::crc32c_append(self.crc, &self.buf[data_at..]);
        let (crc_bytes, crc_len) = varint32(self.crc);
        self.buf[crc_at..crc_at + crc_len].copy_from_slice(&crc_bytes[..crc_len]);
        let excess = CRC_VARINT_MAX - crc_len;
        if excess > 0 {
            self.buf.copy_within(tail_at.., tail_at - excess);
            self.buf.truncate(self.buf.len() - excess);
        }

        let (field, padding) = Frame::encode(self.buf.len() - record_at);
        self.buf[frame_at..record_at].copy_from_slice(&field.to_le_bytes());
        self.buf.extend_from_slice(&[0; 8][..padding]);
    }
}

fn varint32(mut value: u32) -> ([u8; CRC_VARINT_MAX], usize) {
    let mut bytes = [0; CRC_VARINT_MAX];
    let mut len = 0;
    while value >= 0x80 {
        bytes[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len] = value as u8;
    (bytes, len + 1)
}

/// Whose log it is, recorded at the head of every segment. Both fields are always written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The member.
    pub node_id: u64,
    /// Its cluster.
    pub cluster_id: u64,
}

impl Metadata {
    /// The bytes in the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut buf = Vec::with_capacity(22);
        put_uint(&mut buf, 1, self.node_id);
        put_uint(&mut buf, 2, self.cluster_id);
        buf
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut metadata = Self::default();
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Varint(id)) => metadata.node_id = id,
                (2, Value::Varint(id)) => metadata.cluster_id = id,
                _ => {}
            }
        }
        Ok(metadata)
    }
}

/// That a snapshot was saved; a log is opened at one of these. Index and term are always written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Last entry that the snapshot contains; 0 for the record that begins a log.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// The members as of `index`; `None` only in the record that begins a log, and before etcd 3.5.
    pub conf_state: Option<ConfState>,
}

impl SnapshotRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut buf = Vec::new();
        put_uint(&mut buf, 1, self.index);
        put_uint(&mut buf, 2, self.term);
        if let Some(conf_state) = &self.conf_state {
            put_bytes(&mut buf, 3, &conf_state.encode_to_vec());
        }
        buf
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut snapshot = Self::default();
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Varint(index)) => snapshot.index = index,
                (2, Value::Varint(term)) => snapshot.term = term,
                (3, Value::Bytes(conf_state)) => {
                    let conf_state = ConfState::decode_slice(conf_state).map_err(|_| Malformed)?;
                    snapshot.conf_state = Some(conf_state);
                }
                _ => {}
            }
        }
        Ok(snapshot)
    }
}
