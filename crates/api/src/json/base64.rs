//! Base64 as Go's `encoding/base64` reads and writes it.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends `bytes` in the standard alphabet, padded.
pub fn encode(bytes: &[u8], out: &mut String) {
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = (bits >> (18 - 6 * index)) & 63;
            let is_there = index <= chunk.len();
            let letter = ALPHABET.get(digit as usize).copied().unwrap_or(b'=');
            out.push(if is_there { char::from(letter) } else { '=' });
        }
    }
}

/// Appends the bytes that `text` stands for: in the standard alphabet, or in the one for URLs if it has one of its
/// letters, padded if its length is a multiple of four. Ends of lines are ignored. `None` if it is not base64.
#[must_use]
pub fn decode(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let is_url = text.contains(['-', '_']);
    let is_padded = text.len().is_multiple_of(4);
    let mut letters = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    loop {
        let mut digits = [0_u32; 4];
        let mut count = 0;
        for digit in &mut digits {
            match letters.next() {
                None if count == 0 => return Some(()),
                None if count == 1 || is_padded => return None,
                None => break,
                Some(b'=') if is_padded => {
                    if count < 2 || (count == 2 && letters.next() != Some(b'=')) {
                        return None;
                    }
                    append(&digits, count, out);
                    return letters.next().is_none().then_some(());
                }
                Some(letter) => *digit = value(letter, is_url)?,
            }
            count += 1;
        }
        append(&digits, count, out);
    }
}

/// Appends the bytes of two, three or four digits.
fn append(digits: &[u32; 4], count: usize, out: &mut Vec<u8>) {
    let bits = digits.iter().fold(0, |bits, digit| bits << 6 | digit);
    let [_, bytes @ ..] = bits.to_be_bytes();
    out.extend_from_slice(bytes.get(..count.saturating_sub(1)).unwrap_or_default());
}

fn value(letter: u8, is_url: bool) -> Option<u32> {
    Some(u32::from(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' if !is_url => 62,
        b'/' if !is_url => 63,
        b'-' if is_url => 62,
        b'_' if is_url => 63,
        _ => return None,
    }))
}
