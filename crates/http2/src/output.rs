use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

/// A run of this many bytes is written from where it lies; a shorter one is copied beside its neighbours.
pub(crate) const CHUNK_MIN: usize = 4096;
/// Memory that an empty output keeps for the next turn.
const SPARE_MAX: usize = 64 << 10;

/// The bytes to be written to the socket, in order: small frames in one buffer, large bodies as shared chunks
/// between. Read and `advance` it as a [`Buf`].
#[derive(Debug, Default)]
pub struct Output {
    /// All copied bytes; those before `read` are written.
    small: Vec<u8>,
    read: usize,
    /// Chunks and, for each, the place in `small` that it comes in front of.
    chunks: VecDeque<(usize, Bytes)>,
    chunk_bytes: usize,
    /// How many bytes were taken out in all.
    taken: u64,
}

impl Output {
    /// The buffer that small frames are appended to.
    pub(crate) fn small(&mut self) -> &mut Vec<u8> {
        &mut self.small
    }

    /// Appends a piece of a body.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.len() < CHUNK_MIN {
            self.small.extend_from_slice(&piece);
        } else {
            self.chunk_bytes += piece.len();
            self.chunks.push_back((self.small.len(), piece));
        }
    }

    /// Copies what lies elsewhere.
    pub(crate) fn own(&mut self) {
        for (_, chunk) in &mut self.chunks {
            *chunk = Bytes::copy_from_slice(chunk);
        }
    }

    pub(crate) fn memory(&self) -> usize {
        self.small.capacity()
            + self.chunk_bytes
            + self.chunks.capacity() * size_of::<(usize, Bytes)>()
    }

    /// The place of what comes next among all bytes ever appended.
    pub(crate) fn end(&self) -> u64 {
        self.taken + self.remaining() as u64
    }

    /// How many bytes were taken out so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Small bytes that come before the first chunk.
    fn small_run(&self) -> &[u8] {
        let end = self.chunks.front().map_or(self.small.len(), |(place, _)| *place);
        self.small.get(self.read..end).unwrap_or_default()
    }

    /// Forgets written bytes: at once when nothing is left, else when they outweigh the rest.
    fn reclaim(&mut self) {
        if self.read == self.small.len() && self.chunks.is_empty() {
            self.small.clear();
            self.small.shrink_to(SPARE_MAX);
            self.read = 0;
        } else if self.read > SPARE_MAX && self.read > self.small.len() / 2 {
            self.small.drain(..self.read);
            for (place, _) in &mut self.chunks {
                *place -= self.read;
            }
            self.read = 0;
        }
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.small.len() - self.read + self.chunk_bytes
    }

    fn chunk(&self) -> &[u8] {
        match (self.small_run(), self.chunks.front()) {
            ([], Some((_, chunk))) => chunk,
            (run, _) => run,
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut put = |bytes: &'a [u8]| {
            if let (false, Some(slot)) = (bytes.is_empty(), slices.get_mut(filled)) {
                *slot = IoSlice::new(bytes);
                filled += 1;
            }
        };
        let mut from = self.read;
        for (place, chunk) in &self.chunks {
            put(self.small.get(from..*place).unwrap_or_default());
            put(chunk);
            from = *place;
        }
        put(self.small.get(from..).unwrap_or_default());
        filled
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "no more is written than there was");
        self.taken += count as u64;
        let mut left = count;
        loop {
            let run = self.small_run().len().min(left);
            self.read += run;
            left -= run;
            if left == 0 {
                break;
            }
            let Some((_, chunk)) = self.chunks.front_mut() else { break };
            let part = chunk.len().min(left);
            chunk.advance(part);
            self.chunk_bytes -= part;
            left -= part;
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        self.reclaim();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            pieces in proptest::collection::vec((any::<u8>(), 0usize..9000), 0..20),
            steps in proptest::collection::vec(1usize..6000, 1..40),
        ) {
            let mut output = Output::default();
            let mut want = Vec::new();
            for (byte, length) in pieces {
                want.resize(want.len() + length, byte);
                output.push(vec![byte; length].into());
            }
            let mut got = Vec::new();
            for step in steps.iter().cycle() {
                if !output.has_remaining() {
                    break;
                }
                let mut slices = [IoSlice::new(&[]); 64];
                let filled = output.chunks_vectored(&mut slices);
                let whole: Vec<u8> = slices.iter().take(filled).flat_map(|s| s.to_vec()).collect();
                prop_assert_eq!(whole.len(), output.remaining());
                prop_assert!(whole.starts_with(output.chunk()) && !output.chunk().is_empty());
                let count = whole.len().min(*step);
                got.extend(whole.into_iter().take(count));
                output.advance(count);
            }
            prop_assert_eq!(got, want);
            prop_assert!(output.memory() <= SPARE_MAX + 1024);
        }
    }
}
