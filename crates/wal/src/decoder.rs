//! Reads the records of a row of segments, and tells a torn tail from damage.

use std::ops::Range;
use std::path::Path;

use env::File;
use mutant::mutant;

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
/// How far behind the end of the log records are looked for that would prove a hole.
const HOLE_BYTES_MAX: u64 = 1 << 20;
/// How many records in a row are looked at for that.
const CHAIN_MAX: usize = 64;

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
    /// A record that a crash may have left, and its type and its end as far as they can be told.
    Torn(Option<(RecordType, u64)>),
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
                Found::Torn(record) => {
                    self.expect_no_hole(record)?;
                    return Ok(Next::Torn);
                }
                Found::End if self.at + 1 < self.sources.len() => {
                    self.at += 1;
                    self.offset = 0;
                    self.window.clear();
                    self.is_head_read = false;
                    continue;
                }
                Found::End if !self.is_head_read => return Err(self.error(Reason::Torn)),
                Found::End => {
                    self.expect_zero_sector()?;
                    self.expect_no_hole(None)?;
                    return Ok(Next::End);
                }
            };
            let number = record.number;
            let kind = RecordType::from_wire(number)
                .ok_or_else(|| self.error(Reason::UnknownType(number)))?;
            let is_in_place = match kind {
                RecordType::Crc => true,
                RecordType::Metadata => self.record_offset > 0,
                _ => self.is_head_read,
            };
            if !is_in_place {
                return Err(self.error(Reason::Head));
            }
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
            let may_be_torn = self.may_be_torn();
            return if may_be_torn { Ok(Found::Torn(None)) } else { Err(self.error(Reason::Torn)) };
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
            return self.damaged(frame, &(start..start + head as usize), reason);
        }

        // The record fits into the file, so its length fits into memory.
        let start = self.fill(self.offset + FRAME_BYTES, frame.body())?;
        let range = start..start + frame.record as usize;
        let Ok(record) = RawRecord::decode(self.window.get(range.clone()).unwrap_or_default())
        else {
            return self.damaged(frame, &range, Reason::Malformed("walpb.Record"));
        };
        if record.number != RecordType::Crc as i64 {
            let computed = crc32c::crc32c_append(self.crc, record.data);
            if computed != record.crc {
                let reason = Reason::Crc { expected: record.crc, computed };
                return self.damaged(frame, &range, reason);
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

    /// Refuses a length of zero with something behind it in the same sector: sectors are written
    /// whole, so nothing can follow the end of the log there.
    fn expect_zero_sector(&mut self) -> Result<(), Error> {
        let len = self.sources.get(self.at).map_or(0, |source| source.len);
        let end = self.offset.next_multiple_of(SECTOR_BYTES).min(len);
        let start = self.fill(self.offset, end - self.offset)?;
        let rest = self.window.get(start..start + (end - self.offset) as usize);
        if rest.is_some_and(|rest| rest.iter().any(|&byte| byte != 0)) {
            return Err(self.error(Reason::Malformed("record length")));
        }
        Ok(())
    }

    /// Refuses an end of the log behind which records stand whose existence proves that what is
    /// missing had been synced: then it is not a torn write, and acknowledged entries are lost.
    ///
    /// A save ends with at most one state, and one with entries is synced before the next begins, as
    /// is a snapshot record.
    /// DIFF(etcd): etcd cuts all of it off in silence.
    fn expect_no_hole(&mut self, broken: Option<(RecordType, u64)>) -> Result<(), Error> {
        let len = self.sources.get(self.at).map_or(0, |source| source.len);
        let end = len.min(self.offset.saturating_add(HOLE_BYTES_MAX));
        // What is in the broken record is not looked at if it can be helped: a client may have put
        // anything there.
        let first = broken.map(|(kind, _)| kind);
        let mut offset = broken.map_or(self.offset + FRAME_BYTES, |(_, end)| end);
        while offset + FRAME_BYTES <= end {
            let start = self.fill(offset, end - offset)?;
            let rest = self.window.get(start..start + (end - offset) as usize).unwrap_or_default();
            let Some(zeros) = rest.iter().position(|&byte| byte != 0) else { break };
            offset += zeros as u64 / FRAME_BYTES * FRAME_BYTES;
            let chain = self.chain_at(offset)?;
            if chain.len() > 1 && is_sync_proven(first.into_iter().chain(chain)) {
                return Err(self.error(Reason::Hole { next: offset }));
            }
            offset += FRAME_BYTES;
        }
        Ok(())
    }

    /// The types of the records from `offset` on, as far as their checksums follow from each other.
    fn chain_at(&mut self, mut offset: u64) -> Result<Vec<RecordType>, Error> {
        let mut types = Vec::new();
        let mut previous = None;
        while types.len() < CHAIN_MAX {
            let Some(kind) = self.type_at(offset)? else { break };
            let frame = self.frame_at(offset)?.unwrap_or(Frame { record: 0, padding: 0 });
            let start = self.fill(offset + FRAME_BYTES, frame.record)?;
            let record = self.window.get(start..start + frame.record as usize);
            let Ok(record) = RawRecord::decode(record.unwrap_or_default()) else { break };
            let follows = |crc| crc32c::crc32c_append(crc, record.data) == record.crc;
            if !previous.is_none_or(follows) {
                break;
            }
            previous = Some(record.crc);
            types.push(kind);
            offset += FRAME_BYTES + frame.body();
        }
        Ok(types)
    }

    /// The length of the record at `offset`; `None` if it does not fit into the segment.
    fn frame_at(&mut self, offset: u64) -> Result<Option<Frame>, Error> {
        let len = self.sources.get(self.at).map_or(0, |source| source.len);
        let Some(left) = len.checked_sub(offset).and_then(|left| left.checked_sub(FRAME_BYTES))
        else {
            return Ok(None);
        };
        let start = self.fill(offset, FRAME_BYTES)?;
        let length = self.window.get(start..).and_then(|bytes| bytes.first_chunk::<8>());
        let frame = length.map(|length| Frame::decode(*length));
        Ok(frame.filter(|frame| frame.record > 0 && frame.body() <= left))
    }

    /// The type of the record at `offset`; `None` if there is none whose two lengths agree.
    fn type_at(&mut self, offset: u64) -> Result<Option<RecordType>, Error> {
        let Some(frame) = self.frame_at(offset)? else { return Ok(None) };
        let len = frame.record.min(RECORD_HEAD_MAX);
        let start = self.fill(offset + FRAME_BYTES, len)?;
        let head = self.window.get(start..start + len as usize).unwrap_or_default();
        Ok(type_of(head, frame.record))
    }

    /// What a broken record means: the end of the log if a crash explains it, else an error.
    ///
    /// `range` is the part of the window that holds what there is of the record.
    fn damaged(&self, frame: Frame, range: &Range<usize>, reason: Reason) -> Result<Found, Error> {
        let record = self.window.get(range.clone()).unwrap_or_default();
        let is_short = matches!(reason, Reason::TooLong { .. });
        let is_refused = mutant!("15068") || (mutant!("11488") && !is_short);
        if is_refused
            || !self.may_be_torn()
            || !is_torn(self.offset, frame.record, record, is_short)
        {
            return Err(self.error(reason));
        }
        let kind = type_of(record, frame.record);
        Ok(Found::Torn(kind.map(|kind| (kind, self.offset + FRAME_BYTES + frame.body()))))
    }

    /// Whether a crash can have broken a record here: the segment is the last, and its head, which
    /// is synced before the segment gets its name, has been read.
    fn may_be_torn(&self) -> bool {
        self.at + 1 == self.sources.len() && self.is_head_read
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

/// Whether a crash explains a record that cannot be read, of which `record` is the begin at least;
/// `is_short`: the file ends before it does.
///
/// A write that was not synced may be missing from the file, or have sectors that are still zero.
/// But lengths are never torn, and the length is there twice: in the frame, and, counted from
/// within, in the record. If the two disagree, bits have changed and no crash did it.
/// DIFF(etcd): etcd does not compare the lengths, and cuts off what comes after a changed one.
fn is_torn(frame_offset: u64, declared: u64, record: &[u8], is_short: bool) -> bool {
    let zeros = zero_sector(frame_offset + FRAME_BYTES, record);
    let readable = zeros.unwrap_or(record.len());
    let head = record.get(..readable).unwrap_or_default();
    let is_possible = inner_length(head).is_none_or(|length| length == declared);
    (is_short || zeros.is_some()) && is_possible
}

/// Whether a row of records shows that the first of them had been synced: it goes on behind the end
/// of a save that had entries, or behind a snapshot.
fn is_sync_proven(types: impl Iterator<Item = RecordType>) -> bool {
    let (mut has_entry, mut is_synced) = (false, false);
    for kind in types {
        if is_synced || (has_entry && kind == RecordType::Snapshot) {
            return true;
        }
        has_entry |= kind == RecordType::Entry;
        is_synced = kind == RecordType::Snapshot || (has_entry && kind == RecordType::State);
    }
    false
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

/// The type of a record that begins with `head`, if it gives itself the length that its frame has.
fn type_of(head: &[u8], declared: u64) -> Option<RecordType> {
    if inner_length(head) != Some(declared) {
        return None;
    }
    RecordType::from_wire(i64::from(*head.get(1)?))
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
