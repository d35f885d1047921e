//! Reads the records of a row of segments, and tells a torn tail from damage.

use std::ops::Range;
use std::path::Path;

use env::File;

use crate::error::IoContext;
use crate::names::SegmentName;
use crate::record::{FRAME_BYTES, Frame, RawRecord, RecordType};
use crate::{Error, Reason};

/// A disk writes at least this much at once: a write is torn between sectors, not within.
const SECTOR_BYTES: u64 = 512;
/// How much is read at once.
const WINDOW_BYTES: u64 = 1 << 20;
/// More than the longest head of a record: type, checksum, tag and length of the data.
const RECORD_HEAD_MAX: u64 = 32;

/// A segment to read.
#[derive(Debug)]
pub(crate) struct Source<'a, F> {
    pub(crate) name: SegmentName,
    pub(crate) file: &'a F,
    pub(crate) len: u64,
}

/// What comes next in the log.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    Record(RecordType, &'a [u8]),
    /// The log ends here.
    End,
    /// The log ends here with a record that a crash left unfinished.
    Torn,
}

/// A cursor over segments. `crc` records are checked and not handed out.
#[derive(Debug)]
pub(crate) struct Decoder<'a, F> {
    dir: &'a Path,
    sources: Vec<Source<'a, F>>,
    /// Position of the current segment in `sources`.
    at: usize,
    /// Where the next frame begins in the current segment.
    offset: u64,
    /// Where the frame of the record handed out last begins.
    record_offset: u64,
    crc: u32,
    /// Whether a record was read, after which checksums chain.
    is_chained: bool,
    /// Whether the metadata of the current segment was read. A segment gets its name only after its
    /// head was synced, so a torn write cannot reach before this point.
    is_head_read: bool,
    window: Vec<u8>,
    window_offset: u64,
}

/// A record whose data is in the window.
struct WindowRecord {
    number: i64,
    crc: u32,
    data: Range<usize>,
}

/// The frame at the cursor, or why there is none.
enum Found {
    Record(WindowRecord),
    End,
    Torn,
}

impl<'a, F: File> Decoder<'a, F> {
    pub(crate) fn new(dir: &'a Path, sources: Vec<Source<'a, F>>) -> Self {
        Self {
            dir,
            sources,
            at: 0,
            offset: 0,
            record_offset: 0,
            crc: 0,
            is_chained: false,
            is_head_read: false,
            window: Vec::new(),
            window_offset: 0,
        }
    }

    /// The checksum of everything read.
    pub(crate) fn crc(&self) -> u32 {
        self.crc
    }

    /// Where the last valid record of the last segment ends.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// An error about the record handed out last.
    pub(crate) fn error(&self, reason: Reason) -> Error {
        let file = self.sources.get(self.at).map(|source| source.name.to_string());
        Error::Corrupt { file: file.unwrap_or_default(), offset: self.record_offset, reason }
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> Result<Next<'_>, Error> {
        loop {
            self.record_offset = self.offset;
            let record = match self.find()? {
                Found::Record(record) => record,
                Found::Torn => return Ok(Next::Torn),
                Found::End if self.at + 1 < self.sources.len() => {
                    self.at += 1;
                    self.offset = 0;
                    self.window.clear();
                    self.is_head_read = false;
                    continue;
                }
                Found::End => return Ok(Next::End),
            };
            let number = record.number;
            let kind = RecordType::from_wire(number)
                .ok_or_else(|| self.error(Reason::UnknownType(number)))?;
            self.is_head_read |= kind == RecordType::Metadata;
            let was_chained = std::mem::replace(&mut self.is_chained, true);
            if kind != RecordType::Crc {
                let data = self.window.get(record.data).unwrap_or_default();
                return Ok(Next::Record(kind, data));
            }
            if was_chained && record.crc != self.crc {
                return Err(self.error(Reason::Crc { expected: record.crc, computed: self.crc }));
            }
            self.crc = record.crc;
        }
    }

    /// Finds the frame at `offset` and checks its checksum; the offset moves behind it.
    fn find(&mut self) -> Result<Found, Error> {
        let Some(source) = self.sources.get(self.at) else { return Ok(Found::End) };
        let left = source.len.saturating_sub(self.offset);
        if left == 0 {
            return Ok(Found::End);
        }
        if left < FRAME_BYTES {
            return self.damaged(0, &(0..0), Reason::Torn);
        }
        let start = self.fill(self.offset, FRAME_BYTES)?;
        let length = self.window.get(start..).and_then(|bytes| bytes.first_chunk::<8>());
        let length = *length.ok_or_else(|| self.error(Reason::Torn))?;
        if length == [0; 8] {
            return Ok(Found::End);
        }
        let frame = Frame::decode(length);
        let left = left - FRAME_BYTES;
        if frame.body() > left {
            let head = left.min(RECORD_HEAD_MAX);
            let start = self.fill(self.offset + FRAME_BYTES, head)?;
            let reason = Reason::TooLong { declared: frame.record, left };
            return self.damaged(frame.record, &(start..start + head as usize), reason);
        }

        // The record fits into the file, so its length fits into memory.
        let start = self.fill(self.offset + FRAME_BYTES, frame.body())?;
        let range = start..start + frame.record as usize;
        let Ok(record) = RawRecord::decode(self.window.get(range.clone()).unwrap_or_default())
        else {
            return self.damaged(frame.record, &range, Reason::Malformed("walpb.Record"));
        };
        if record.number != RecordType::Crc as i64 {
            let computed = crc32c::crc32c_append(self.crc, record.data);
            if computed != record.crc {
                let reason = Reason::Crc { expected: record.crc, computed };
                return self.damaged(frame.record, &range, reason);
            }
            self.crc = computed;
        }
        // Where the data begins is only in its address; empty data may have any.
        let data = match record.data.len() {
            0 => 0..0,
            len => {
                let start = record.data.as_ptr().addr() - self.window.as_ptr().addr();
                start..start + len
            }
        };
        let record = WindowRecord { number: record.number, crc: record.crc, data };
        self.offset += FRAME_BYTES + frame.body();
        Ok(Found::Record(record))
    }

    /// What a broken record means: the end of the log if a crash explains it, else an error.
    ///
    /// `range` is the part of the window that holds what there is of the record.
    fn damaged(&self, declared: u64, range: &Range<usize>, reason: Reason) -> Result<Found, Error> {
        let is_last = self.at + 1 == self.sources.len();
        let record = self.window.get(range.clone()).unwrap_or_default();
        if is_last && self.is_head_read && is_torn(self.offset, declared, record) {
            return Ok(Found::Torn);
        }
        Err(self.error(reason))
    }

    /// Makes the window hold `len` bytes of the current segment at `offset`, which must lie within
    /// it, and returns where in the window they begin.
    fn fill(&mut self, offset: u64, len: u64) -> Result<usize, Error> {
        let source = self.sources.get(self.at).expect("a segment is being read");
        assert!(offset + len <= source.len, "a read beyond the end of the segment");
        let window = self.window_offset..self.window_offset + self.window.len() as u64;
        if offset < window.start || offset + len > window.end {
            let size = len.max(WINDOW_BYTES).min(source.len - offset) as usize;
            self.window.resize(size, 0);
            source
                .file
                .read_exact_at(&mut self.window, offset)
                .context("read", &self.dir.join(source.name.to_string()))?;
            self.window_offset = offset;
        }
        Ok((offset - self.window_offset) as usize)
    }
}

/// Whether a crash explains a record that cannot be read, of which `record` is what there is.
///
/// A write that was not synced may be missing from the file, or have sectors that are still zero.
/// But lengths are never torn, and the length is there twice: in the frame, and, counted from
/// within, in the record. If the two disagree, bits have changed and no crash did it.
/// DIFF(etcd): etcd does not compare the lengths, and cuts off what comes after a changed one.
fn is_torn(frame_offset: u64, declared: u64, record: &[u8]) -> bool {
    let is_short = (record.len() as u64) < declared;
    let zeros = zero_sector(frame_offset + FRAME_BYTES, record);
    let readable = zeros.unwrap_or(record.len());
    let head = record.get(..readable).unwrap_or_default();
    let is_possible = inner_length(head).is_none_or(|length| length == declared);
    (is_short || zeros.is_some()) && is_possible
}

/// Where in `record`, which begins at `offset` of its file, the first sector of zeros begins.
fn zero_sector(offset: u64, record: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < record.len() {
        let in_sector = (SECTOR_BYTES - (offset + at as u64) % SECTOR_BYTES) as usize;
        let end = record.len().min(at + in_sector);
        if record.get(at..end)?.iter().all(|&byte| byte == 0) {
            return Some(at);
        }
        at = end;
    }
    None
}

/// The length that a record gives itself, `Some(0)` if it is none; `None` if `head` ends too early.
fn inner_length(head: &[u8]) -> Option<u64> {
    let mut fields = crate::proto::Fields::new(head);
    let mut read = |tag: u8| -> Option<Result<u64, ()>> {
        let (&first, rest) = fields.rest.split_first()?;
        if first != tag {
            return Some(Err(()));
        }
        fields.rest = rest;
        if fields.rest.iter().all(|byte| byte & 0x80 != 0) && fields.rest.len() < 10 {
            return None;
        }
        Some(fields.varint().map_err(|_| ()))
    };
    let Ok(number) = read(1 << 3)? else { return Some(0) };
    let Ok(_) = read(2 << 3)? else { return Some(0) };
    if number == RecordType::Crc as u64 {
        return Some((head.len() - fields.rest.len()) as u64);
    }
    let Ok(data) = read(3 << 3 | 2)? else { return Some(0) };
    Some(((head.len() - fields.rest.len()) as u64).saturating_add(data))
}
