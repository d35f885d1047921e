use crate::{Field, hpack::Encoder};

/// Lists longer than this are not remembered.
const LIST_MAX: usize = 1024;

/// The list that was encoded last, and what came of it. The same list again, with the same table, is the same block:
/// clients repeat themselves.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    /// The list, written down so that equal lists are equal here.
    list: Vec<u8>,
    next: Vec<u8>,
    block: Vec<u8>,
    /// The encoder's generation before and after the block.
    generation: Option<u64>,
}

impl Repeated {
    /// Appends the list's block to `out`.
    pub(super) fn encode<'a>(
        &mut self,
        out: &mut Vec<u8>,
        encoder: &mut Encoder,
        list: impl Iterator<Item = Field<'a>> + Clone,
    ) {
        self.next.clear();
        for field in list.clone() {
            let lengths = [field.name.len() as u64, field.value.len() as u64];
            self.next.push(field.indexing as u8);
            self.next.extend(lengths.map(u64::to_be_bytes).as_flattened());
            self.next.extend_from_slice(field.name.as_bytes());
            self.next.extend_from_slice(field.value);
        }
        let generation = encoder.generation();
        if self.generation == Some(generation) && self.next == self.list {
            out.extend_from_slice(&self.block);
            return;
        }
        let start = out.len();
        encoder.begin(out);
        for field in list {
            encoder.encode(out, &field);
        }
        self.generation = None;
        if encoder.generation() == generation && self.next.len() <= LIST_MAX {
            self.block.clear();
            self.block.extend_from_slice(out.get(start..).unwrap_or_default());
            std::mem::swap(&mut self.list, &mut self.next);
            self.generation = Some(generation);
        }
        self.next.shrink_to(LIST_MAX);
    }

    pub(super) fn memory(&self) -> usize {
        self.list.capacity() + self.next.capacity() + self.block.capacity()
    }
}
