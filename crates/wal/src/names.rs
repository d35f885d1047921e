//! Names of segments.

use std::io;
use std::path::Path;

use env::Disk;

use crate::Error;
use crate::error::IoContext;

/// Sequence number of a segment and index of its first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub(crate) seq: u64,
    pub(crate) index: u64,
}

impl SegmentName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (seq, index) = name.strip_suffix(".wal")?.split_once('-')?;
        Some(Self { seq: parse_hex16(seq)?, index: parse_hex16(index)? })
    }
}

impl std::fmt::Display for SegmentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.seq, self.index)
    }
}

/// Exactly 16 hexadecimal digits.
pub(crate) fn parse_hex16(text: &str) -> Option<u64> {
    if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

/// Whether `dir` holds a log.
pub fn exists<D: Disk>(disk: &D, dir: &Path) -> Result<bool, Error> {
    match disk.list(dir) {
        Ok(names) => Ok(names.iter().any(|name| name.ends_with(".wal"))),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err).context("list", dir),
    }
}

/// The segments of `dir` in order; an error if there is none.
pub(crate) fn segments<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<SegmentName>, Error> {
    let names = disk.list(dir).context("list", dir)?;
    let mut segments: Vec<_> = names.iter().filter_map(|name| SegmentName::parse(name)).collect();
    segments.sort_unstable();
    if segments.is_empty() { Err(Error::FileNotFound) } else { Ok(segments) }
}

/// The newest segments of `dir` among which none is missing. A power failure may have kept the
/// removal of a segment and undone that of an older one: what is before a gap was to go.
// DIFF(etcd): etcd reads across the gap, finds that checksums do not chain, and does not start.
pub(crate) fn newest_segments<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<SegmentName>, Error> {
    let mut all = segments(disk, dir)?;
    let follows = |(a, b): (&SegmentName, &SegmentName)| a.seq.checked_add(1) == Some(b.seq);
    let start = all.iter().zip(all.iter().skip(1)).rposition(|pair| !follows(pair));
    Ok(all.split_off(start.map_or(0, |before| before + 1)))
}

/// Those segments that hold what comes after `index`: from the last that begins at or before it.
pub(crate) fn segments_from<D: Disk>(
    disk: &D,
    dir: &Path,
    index: u64,
) -> Result<Vec<SegmentName>, Error> {
    let mut all = segments(disk, dir)?;
    let start =
        all.iter().rposition(|segment| segment.index <= index).ok_or(Error::NoSegment { index })?;
    let selected = all.split_off(start);
    let is_continuous = selected
        .iter()
        .zip(selected.iter().skip(1))
        .all(|(a, b)| a.seq.checked_add(1) == Some(b.seq));
    if is_continuous { Ok(selected) } else { Err(Error::SequenceGap { start }) }
}
