//! The streams between members: the first byte says which format, the second in which pieces the rest arrives.

use transport::codec::{AppendDecoder, MessageDecoder};

pub fn run(data: &[u8]) {
    let [format, size, bytes @ ..] = data else { return };
    let mut append = AppendDecoder::new(1, 2);
    let mut message =
        if format & 2 == 0 { MessageDecoder::stream() } else { MessageDecoder::snapshot() };
    for part in bytes.chunks(usize::from(*size).max(1)) {
        if format & 1 == 0 {
            append.push(part);
            while let Ok(Some(_)) = append.next_message() {}
        } else {
            message.push(part);
            while let Ok(Some(_)) = message.next_message() {}
        }
    }
}
