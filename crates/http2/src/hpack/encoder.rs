use std::collections::VecDeque;

use super::{ENTRY_OVERHEAD, TABLE_SIZE_DEFAULT, encode_integer, huffman, table};
use crate::{Field, Indexing, field};

/// Encodes the header blocks of one direction of a connection, in order.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// Newest first. Few: only fields marked [`Indexing::Index`] come here.
    entries: VecDeque<Entry>,
    /// Invariant: the sum of the entries' sizes, at most `size_max`.
    size: usize,
    size_max: usize,
    /// The smallest size since the last block, if it changed: the next block starts by saying so (RFC 7541 4.2).
    update: Option<usize>,
    generation: u64,
}

#[derive(Debug)]
struct Entry {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            size_max: TABLE_SIZE_DEFAULT as usize,
            update: None,
            generation: 0,
        }
    }

    /// Equal generations mean that equal lists make equal blocks.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE. We never use more than the default.
    pub(crate) fn set_size_limit(&mut self, limit: u32) {
        let size_max = limit.min(TABLE_SIZE_DEFAULT) as usize;
        if size_max == self.size_max {
            return;
        }
        self.generation += 1;
        self.size_max = size_max;
        self.update = Some(self.update.map_or(size_max, |smallest| smallest.min(size_max)));
        self.evict_to(size_max);
    }

    pub(crate) fn memory(&self) -> usize {
        self.size + self.entries.capacity() * size_of::<Entry>()
    }

    /// Appends the start of a block: a change of the table's size, if any. Fields follow.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(smallest) = self.update.take() {
            self.generation += 1;
            if smallest < self.size_max {
                encode_integer(out, 0x20, 5, smallest);
            }
            encode_integer(out, 0x20, 5, self.size_max);
        }
    }

    /// Appends `:status`.
    pub(crate) fn encode_status(&mut self, out: &mut Vec<u8>, status: u16) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digits = [status / 100 % 10, status / 10 % 10, status % 10];
                let value = digits.map(|digit| b'0' + digit as u8);
                self.encode(out, &Field::indexed(":status", &value));
                return;
            }
        };
        out.push(0x80 | index);
    }

    /// Appends one field.
    pub(crate) fn encode(&mut self, out: &mut Vec<u8>, field: &Field<'_>) {
        let name = field.name.as_bytes();
        let (pattern, prefix_bits) = match field.indexing {
            Indexing::Index => {
                if let Some(index) = self.find(name, field.value) {
                    encode_integer(out, 0x80, 7, index);
                    return;
                }
                (0x40, 6)
            }
            Indexing::Literal => (0x00, 4),
            Indexing::Never => (0x10, 4),
        };
        let index = table::STATIC.iter().position(|(text, _)| *text == field.name);
        encode_integer(out, pattern, prefix_bits, index.map_or(0, |index| index + 1));
        if index.is_none() {
            encode_string(out, name);
        }
        if field::is_value_allowed(field.value) {
            encode_string(out, field.value);
        } else {
            let clean = |&byte: &u8| if field::is_value_byte(byte) { byte } else { b' ' };
            encode_string(out, &field.value.iter().map(clean).collect::<Vec<u8>>());
        }
        if field.indexing == Indexing::Index {
            self.insert(name, field.value);
        }
    }

    fn find(&self, name: &[u8], value: &[u8]) -> Option<usize> {
        let is_same = |entry: &Entry| *entry.value == *value && *entry.name == *name;
        if let Some(place) = self.entries.iter().position(is_same) {
            return Some(table::STATIC.len() + 1 + place);
        }
        let is_same = |(text, known): &(&str, &str)| {
            !value.is_empty() && known.as_bytes() == value && text.as_bytes() == name
        };
        Some(table::STATIC.iter().position(is_same)? + 1)
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) {
        self.generation += 1;
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        if size > self.size_max {
            self.evict_to(0);
            return;
        }
        self.evict_to(self.size_max - size);
        self.size += size;
        self.entries.push_front(Entry { name: name.into(), value: value.into() });
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.size -= oldest.name.len() + oldest.value.len() + ENTRY_OVERHEAD;
        }
    }
}

/// Appends a string literal in the shorter of its two forms.
fn encode_string(out: &mut Vec<u8>, text: &[u8]) {
    let coded = huffman::encoded_len(text);
    if coded < text.len() {
        encode_integer(out, 0x80, 7, coded);
        huffman::encode(text, out);
    } else {
        encode_integer(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hpack::Decoder;

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut fields = Vec::new();
        decoder
            .decode(block, |field| fields.push((field.text.to_vec(), field.value.to_vec())))
            .expect("a block of ours");
        fields
    }

    #[test]
    fn the_answer_to_a_call_is_three_bytes_the_second_time() {
        let mut encoder = Encoder::new();
        let mut lengths = Vec::new();
        for _ in 0..2 {
            let mut out = Vec::new();
            encoder.begin(&mut out);
            encoder.encode_status(&mut out, 200);
            encoder.encode(&mut out, &Field::indexed("content-type", b"application/grpc"));
            encoder.encode(&mut out, &Field::indexed("grpc-status", b"0"));
            lengths.push(out.len());
        }
        assert_eq!(lengths, [26, 3]);
    }

    #[test]
    fn a_changed_table_size_is_said_first() {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new(4096);
        let block = |encoder: &mut Encoder| {
            let mut out = Vec::new();
            encoder.begin(&mut out);
            encoder.encode(&mut out, &Field::indexed("a", b"b"));
            out
        };
        assert_eq!(decode(&mut decoder, &block(&mut encoder)).len(), 1);
        encoder.set_size_limit(0);
        encoder.set_size_limit(100);
        decoder.set_size_limit(100);
        let out = block(&mut encoder);
        assert_eq!(out.get(..3), Some(&[0x20, 0x3f, 69][..]));
        assert_eq!(decode(&mut decoder, &out).len(), 1);
        assert_eq!(block(&mut encoder), [0xbe]);
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(
            lists in proptest::collection::vec(
                proptest::collection::vec(("[a-d]{1,3}", "[ -~]{0,40}", 0u8..3), 0..8), 0..12),
            sizes in proptest::collection::vec(0u32..300, 12),
        ) {
            let mut encoder = Encoder::new();
            let mut decoder = Decoder::new(4096);
            for (list, size) in lists.iter().zip(sizes) {
                let mut out = Vec::new();
                encoder.set_size_limit(size);
                encoder.begin(&mut out);
                for (name, value, how) in list {
                    let indexing = [Indexing::Index, Indexing::Literal, Indexing::Never][usize::from(*how)];
                    encoder.encode(&mut out, &Field { name, value: value.as_bytes(), indexing });
                }
                let want: Vec<_> = list
                    .iter()
                    .map(|(name, value, _)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
                    .collect();
                prop_assert_eq!(decode(&mut decoder, &out), want);
            }
        }
    }
}
