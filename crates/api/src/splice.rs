//! Long runs of bytes that stay where they lie when the message around them is written.

use bytes::Bytes;

use crate::wire::{Encode, Sink, Writer};

/// A shorter run is copied: what it would cost to write it from elsewhere is more.
pub const SPLICE_MIN: usize = 4096;

/// What belongs between the bytes of a buffer: runs, and for each how many bytes of the buffer come before it.
#[derive(Clone, Debug, Default)]
pub struct Splices {
    runs: Vec<(usize, Bytes)>,
    bytes: usize,
}

impl Splices {
    /// Bytes of all runs.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the buffer is all there is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Forgets all runs.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.bytes = 0;
    }

    /// Puts a run behind what is in the buffer.
    pub fn push(&mut self, buffer: &[u8], run: Bytes) {
        self.bytes += run.len();
        self.runs.push((buffer.len(), run));
    }

    /// The buffer from `start` on with the runs, in pieces. No run lies before `start`.
    pub fn pieces<'a>(&'a self, buffer: &'a [u8], start: usize) -> impl Iterator<Item = &'a [u8]> {
        let places = std::iter::once(start).chain(self.runs.iter().map(|(place, _)| *place));
        let ends = self.runs.iter().map(|(place, _)| *place).chain([buffer.len()]);
        let between = places.zip(ends).map(|(from, to)| buffer.get(from..to).unwrap_or_default());
        let runs = self.runs.iter().map(|(_, run)| run.as_ref()).chain([&[][..]]);
        between.zip(runs).flat_map(|(between, run)| [between, run])
    }

    /// As [`Splices::pieces`], without a copy; nothing is left here.
    pub fn take(&mut self, buffer: Bytes, start: usize) -> impl Iterator<Item = Bytes> + use<> {
        let mut rest = buffer;
        let mut place = start.min(rest.len());
        let _ = rest.split_to(place);
        let runs = std::mem::take(&mut self.runs);
        self.bytes = 0;
        let last = (place + rest.len(), Bytes::new());
        runs.into_iter().chain([last]).flat_map(move |(end, run)| {
            let between = rest.split_to(end.saturating_sub(place).min(rest.len()));
            place = end;
            [between, run]
        })
    }

    /// Appends a message to `buffer`, without its long runs.
    pub(crate) fn encode(&mut self, buffer: &mut Vec<u8>, message: &impl Encode) {
        message.write(&mut Splicer { writer: Writer { out: buffer }, splices: self });
    }
}

/// Writes into a buffer, but for long runs.
struct Splicer<'a> {
    writer: Writer<'a>,
    splices: &'a mut Splices,
}

impl Sink for Splicer<'_> {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.writer.raw(bytes);
    }

    #[inline]
    fn varint(&mut self, value: u64) {
        self.writer.varint(value);
    }

    fn message(&mut self, number: u32, message: &impl Encode) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(message.encoded_len() as u64);
        message.write(self);
    }

    fn stored(&mut self, number: u32, stored: &Bytes) {
        if stored.len() < SPLICE_MIN {
            return self.present_bytes(number, stored);
        }
        self.varint(u64::from(number) << 3 | 2);
        self.varint(stored.len() as u64);
        self.splices.push(self.writer.out, stored.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_pieces_are_the_whole(
            parts in proptest::collection::vec((0usize..5, 0usize..5), 0..6),
            front in 0usize..4,
        ) {
            let (mut buffer, mut splices) = (vec![0; front], Splices::default());
            let mut whole = Vec::new();
            for (index, (between, run)) in parts.into_iter().enumerate() {
                buffer.resize(buffer.len() + between, 1 + index as u8);
                whole.resize(whole.len() + between, 1 + index as u8);
                splices.push(&buffer, vec![101 + index as u8; run].into());
                whole.resize(whole.len() + run, 101 + index as u8);
            }
            buffer.push(99);
            whole.push(99);
            prop_assert_eq!(&splices.pieces(&buffer, front).collect::<Vec<_>>().concat(), &whole);
            prop_assert_eq!(splices.bytes() + buffer.len() - front, whole.len());
            let taken: Vec<Bytes> = splices.take(buffer.into(), front).collect();
            prop_assert_eq!(taken.concat(), whole);
            prop_assert!(splices.is_empty() && splices.bytes() == 0);
        }
    }
}
